//! The forms of names.

use crate::{graph, is_printable};

/// A form that a text can have.
#[derive(Debug)]
pub struct Name {
    /// What a text of this form is, such as "an agent's name".
    pub what: &'static str,
    /// What is right.
    pub rule: &'static str,
    /// Whether a text is.
    pub fits: fn(&str) -> bool,
}

impl Name {
    /// An agent, a tenant, a workflow: each says what it is.
    pub const AGENT: Self = Self {
        what: "an agent's name",
        rule: "1 to 63 of a-z, 0-9 and `-`, beginning with a letter, not ending with `-`",
        fits: |text| is_lower(text, 63, "-") && !text.ends_with('-'),
    };
    /// A topic.
    pub const TOPIC: Self = Self {
        what: "a topic",
        rule: "1 to 128 of a-z, 0-9, `-`, `.` and `/`, beginning with a letter",
        fits: |text| is_lower(text, 128, "-./"),
    };
    /// A relation.
    pub const RELATION: Self = Self {
        what: "a relation",
        rule: "1 to 64 of a-z, 0-9 and `-`, beginning with a letter",
        fits: |text| is_lower(text, graph::MAX_RELATION, "-"),
    };
    /// An entity.
    pub const ENTITY: Self = Self {
        what: "an entity",
        rule: "1 to 256 bytes of UTF-8 without control characters",
        fits: |text| is_printable(text, graph::MAX_ENTITY),
    };
}

fn is_lower(text: &str, most: usize, marks: &str) -> bool {
    (1..=most).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || marks.contains(c))
}
