//! The names that the contract knows, each with its rule.

use crate::Error;

pub(super) fn agent(text: &str) -> Result<(), Error> {
    let rule = "1 to 63 of a-z, 0-9 and `-`, beginning with a letter, not ending with `-`";
    parsed(text, "an agent's name", rule, lower(text, 63, "-") && !text.ends_with('-'))
}

pub(super) fn topic(text: &str) -> Result<(), Error> {
    let rule = "1 to 128 of a-z, 0-9, `-`, `.` and `/`, beginning with a letter";
    parsed(text, "a topic", rule, lower(text, 128, "-./"))
}

pub(super) fn relation(text: &str) -> Result<(), Error> {
    parsed(text, "a relation", "1 to 64 of a-z, 0-9 and `-`, beginning with a letter", lower(text, 64, "-"))
}

pub(super) fn entity(text: &str) -> Result<(), Error> {
    parsed(text, "an entity", "1 to 256 bytes of UTF-8 without control characters", printable(text, 256))
}

/// 1 to `most` bytes without control characters.
pub(super) fn printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn lower(text: &str, most: usize, marks: &str) -> bool {
    (1..=most).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || marks.contains(c))
}

fn parsed(text: &str, what: &str, rule: &str, valid: bool) -> Result<(), Error> {
    if valid {
        return Ok(());
    }
    let given: String = text.chars().take(80).collect();
    Err(Error::Invalid(format!("`{given}` is not {what}: {rule}")))
}
