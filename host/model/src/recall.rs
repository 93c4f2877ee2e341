//! Recall: texts that are found again by what they mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Revision, Timestamp};

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

/// Names and values, by which a search is narrowed.
pub type Metadata = BTreeMap<String, String>;

/// A text to be found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its name; what is kept under a name anew replaces what was there.
    pub id: String,
    /// The text.
    pub text: String,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Metadata,
    /// Its version.
    pub revision: Revision,
    /// When it was kept.
    pub kept_at: Timestamp,
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The note.
    pub id: String,
    /// The passage of it that is nearest, whole.
    pub text: String,
    /// Of the note.
    pub metadata: Metadata,
    /// Cosine of the angle between question and passage: 1 is the same, 0 is unrelated.
    pub score: f32,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hits {
    /// The nearest first.
    pub hits: Vec<Hit>,
    /// Whether what was kept last may be missing: the index is behind, and did not catch up in time.
    pub degraded: bool,
}

/// Who makes vectors: vectors of different embedders are never compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EmbedderId {
    /// Names the model and what else decides its vectors, such as `hashed-words-1` or `minilm:sha256:…`; at most 128 bytes.
    pub name: String,
    /// Numbers of a vector.
    pub dimensions: u32,
}

/// What was wrong with a note's id, text or metadata.
pub fn check(id: &str, text: &str, metadata: &Metadata) -> Result<(), String> {
    if id.is_empty() || id.len() > MAX_ID || id.chars().any(char::is_control) {
        return Err(format!("a note's id is 1 to {MAX_ID} bytes without control characters"));
    }
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        return Err(format!("a note's text is 1 to {MAX_TEXT} bytes, not blank; this one has {}", text.len()));
    }
    check_metadata(metadata)
}

/// What was wrong with metadata, or with a filter.
pub fn check_metadata(metadata: &Metadata) -> Result<(), String> {
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
