//! What a note is, and the bounds of recall.

use std::collections::BTreeMap;

use crate::is_printable;

/// The longest id of a note, in bytes.
pub const MAX_ID: usize = 512;
/// The longest text of a note, in bytes.
pub const MAX_TEXT: usize = 64 << 10;
/// The longest question, in bytes.
pub const MAX_QUERY: usize = 8 << 10;
/// How many metadata a note has at most, and a filter.
pub const MAX_METADATA: usize = 16;
/// The longest name or value of one, in bytes.
pub const MAX_METADATUM: usize = 512;
/// The most that a search answers.
pub const MAX_HITS: u32 = 100;

/// What was wrong with a note's id.
pub fn check_id(id: &str) -> Result<(), String> {
    if is_printable(id, MAX_ID) {
        return Ok(());
    }
    Err(format!("a note's id is 1 to {MAX_ID} bytes without control characters"))
}

/// What was wrong with a note's id, text or metadata.
pub fn check(id: &str, text: &str, metadata: &BTreeMap<String, String>) -> Result<(), String> {
    check_id(id)?;
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        return Err(format!("a note's text is 1 to {MAX_TEXT} bytes, not blank; this one has {}", text.len()));
    }
    check_metadata(metadata)
}

/// What was wrong with metadata, or with a filter.
pub fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), String> {
    if metadata.len() > MAX_METADATA {
        return Err(format!("there are at most {MAX_METADATA} metadata, not {}", metadata.len()));
    }
    let long = |text: &str| text.len() > MAX_METADATUM || text.chars().any(char::is_control);
    match metadata.iter().find(|(name, value)| name.is_empty() || long(name) || long(value)) {
        Some((name, _)) => Err(format!(
            "metadatum `{}`: names and values have at most {MAX_METADATUM} bytes without control characters, and a name at least one",
            name.chars().take(80).collect::<String>()
        )),
        None => Ok(()),
    }
}
