//! What the agents that fix documents hand each other: what is to be mended, and how it is.
//!
//! Invariants: an issue has all that who mends it needs, so that nobody but who finds it reads the documents; an edit says what
//! it takes out, so that who makes it sees whether the document is still the one that was looked at.

use ltmc::Failure;
use ltmc::memory::{self, Increment, Scope};
use serde::{Deserialize, Serialize};

/// Where the session keeps how many issues of each kind were mended.
pub const MENDED: &str = "mended/";

/// Counts an issue that is mended. Who mends works in a branch with a context of its own: what all of them counted comes together.
///
/// # Errors
/// Where the session's memory may not be written.
pub fn mended(kind: Kind) -> Result<(), Failure> {
    memory::open(Scope::Session)?.update(&format!("{MENDED}{}", kind.name()), Increment(1))?;
    Ok(())
}

/// The most issues that are told.
pub const MOST: usize = 200;

/// What is to be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A long document without a table of contents.
    NoContents,
    /// An address that is no link.
    BareLink,
    /// A block of code that does not say its language.
    NoLanguage,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoContents, Self::BareLink, Self::NoLanguage];

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoContents => "no-contents",
            Self::BareLink => "bare-link",
            Self::NoLanguage => "no-language",
        }
    }
}

/// One thing to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// What it is.
    pub kind: Kind,
    /// The document, below the directory.
    pub file: String,
    /// Its line, from 1 on.
    pub line: usize,
    /// What who mends it has to see: the line, with those after it of a block of code; of a document without contents its headings.
    pub lines: Vec<String>,
}

/// How something is mended: lines in the place of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The document.
    pub file: String,
    /// Where, from 1 on.
    pub line: usize,
    /// The lines that stand there, and are taken out.
    pub old: Vec<String>,
    /// Those that stand there then.
    pub new: Vec<String>,
    /// For people.
    pub why: String,
}

/// What was found in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How many documents were looked at.
    pub files: usize,
    /// What is to be mended in them.
    pub issues: Vec<Issue>,
}
