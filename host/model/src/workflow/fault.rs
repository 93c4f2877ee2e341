//! What is wrong with a document, and where.

use std::fmt;

/// A place in a document's source; line and column from 1 on, 0 where it has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// Where a thing stands is no part of what it is: a document and its canonical form are equal.
impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One thing wrong with a document.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Where in the source it shows.
    pub place: Place,
    /// What, and what would be right.
    pub message: String,
}

/// Everything that is wrong with a document, in the order of its lines; at most [`MAX_FAULTS`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.text())]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    fn text(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect();
        lines.join("\n")
    }
}
