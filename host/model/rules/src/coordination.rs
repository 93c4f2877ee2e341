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
