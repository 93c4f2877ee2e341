//! The bounds of runs that begin runs.

use std::fmt::Display;

use crate::is_printable;

/// How many runs may stand above one that was begun by a run.
pub const MAX_ABOVE: usize = 8;
/// How many runs the guests of one run may begin.
pub const MAX_CHILDREN: usize = 1_000;
/// How many children are joined at once.
pub const MAX_JOINED: usize = 100;
/// How much children may give that are joined at once, in bytes; what a single one gives is bounded by its own output limit.
pub const MAX_JOINED_BYTES: usize = 16 << 20;

/// The largest input of a child, in bytes.
pub const MAX_INPUT: usize = 8 << 20;

/// The longest need, in bytes.
pub const MAX_NEED: usize = 2_000;
/// How many agents a need may name.
pub const MAX_AMONG: usize = 100;
/// The longest title of a question, in bytes.
pub const MAX_TITLE: usize = 200;
/// The most that a question shows, in bytes.
pub const MAX_SHOWN: usize = 64 << 10;
/// The largest JSON Schema that an agent has answers held to, in bytes.
pub const MAX_SCHEMA: usize = 64 << 10;
/// The longest that an agent's question can be answered: a year, in milliseconds.
pub const MAX_OPEN_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

/// What was wrong with a need.
///
/// # Errors
/// What it is beyond.
pub fn check_need(text: &str, among: usize, at_least: Option<u8>) -> Result<(), String> {
    if text.trim().is_empty() || text.len() > MAX_NEED {
        return Err(format!("a need says in 1 to {MAX_NEED} bytes of text what is to be done"));
    }
    if among > MAX_AMONG {
        return Err(format!("a need names at most {MAX_AMONG} agents, not {among}"));
    }
    match at_least {
        Some(over @ 101..) => Err(format!("how well somebody has to fit is 0 to 100 hundredths, not {over}")),
        _ => Ok(()),
    }
}

/// What was wrong with a question.
///
/// # Errors
/// What it is beyond.
pub fn check_question(
    title: &str,
    shown: Option<usize>,
    schema: Option<&str>,
    timeout_ms: Option<u64>,
) -> Result<(), String> {
    if !is_printable(title, MAX_TITLE) {
        return Err(format!("a question's title is a line of text, of 1 to {MAX_TITLE} bytes"));
    }
    if shown.is_some_and(|bytes| bytes > MAX_SHOWN) {
        return Err(format!("what a question shows has at most {MAX_SHOWN} bytes: pick what matters of it"));
    }
    if let Some(schema) = schema {
        if schema.len() > MAX_SCHEMA {
            return Err(format!("a question's JSON Schema has at most {MAX_SCHEMA} bytes"));
        }
        let is_schema = |value: serde_json::Value| value.is_object() || value.is_boolean();
        if !serde_json::from_str(schema).is_ok_and(is_schema) {
            return Err("a question's schema is a JSON Schema: an object in JSON".to_owned());
        }
    }
    match timeout_ms {
        Some(ms) if !(1..=MAX_OPEN_MS).contains(&ms) => {
            Err(format!("a question is open for 1 to {MAX_OPEN_MS} milliseconds, not {ms}"))
        }
        _ => Ok(()),
    }
}

/// What was wrong with a child's input.
pub fn check_input(content_type: &str, bytes: &[u8]) -> Result<(), String> {
    const MAX_TYPE: usize = 256;
    if !content_type.is_empty() && !is_printable(content_type, MAX_TYPE) {
        return Err(format!(
            "an input's content type is a media type of at most {MAX_TYPE} bytes without control characters"
        ));
    }
    if bytes.len() > MAX_INPUT {
        return Err(format!("an input has at most {MAX_INPUT} bytes, not {}", bytes.len()));
    }
    Ok(())
}

/// Why no further run is begun below `chain`, from the first down to the one that would begin it.
pub fn too_deep<T: Display>(chain: &[T], next: &dyn Display) -> String {
    let names: Vec<String> = chain.iter().map(ToString::to_string).chain([next.to_string()]).collect();
    format!("a chain of calls is at most {MAX_ABOVE} calls deep, and this one is deeper: {}", names.join(" → "))
}

/// What was wrong with how many children are to be joined.
pub fn check_joined(count: usize) -> Result<(), String> {
    match count {
        1..=MAX_JOINED => Ok(()),
        _ => Err(format!("1 to {MAX_JOINED} children are joined at once, not {count}")),
    }
}

/// Why a run's guests begin no further run.
pub fn too_many() -> String {
    format!("the guests of one run begin at most {MAX_CHILDREN} runs")
}

/// Why what children gave is too much.
pub fn too_large() -> String {
    format!("children that are joined at once give at most {} MiB: join fewer of them", MAX_JOINED_BYTES >> 20)
}
