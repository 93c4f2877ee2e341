//! What the host and the SDK's in-memory host decide alike: merge rules, the forms of names, the bounds of what is given, and
//! the words in which a refusal says so. An author's native test answers as the host does because it asks the same code.
//!
//! Invariants: pure functions over plain values. `ltmc-model` gives these rules its types, `ltmc-sdk` its errors; nothing here is
//! compiled into a guest.

pub mod condition;
pub mod coordination;
pub mod graph;
pub mod hand_off;
pub mod memory;
mod merge;
pub mod message;
mod name;
pub mod recall;
pub mod session;
pub mod state;

pub use merge::{Merge, apply_all};
pub use name::Name;

/// What stands in a value at the end of a path of fields' names and items' numbers.
pub fn at<'v>(value: &'v serde_json::Value, path: &[String]) -> Option<&'v serde_json::Value> {
    path.iter().try_fold(value, |value, part| match value {
        serde_json::Value::Object(fields) => fields.get(part),
        serde_json::Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// 1 to `most` bytes without control characters.
pub fn is_printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}
