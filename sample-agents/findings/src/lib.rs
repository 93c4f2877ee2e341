//! What the agents of a review hand each other: a change, and what they found in it.
//!
//! Each agent takes a [`Change`], adds its findings, and passes the rest on as it was.

use serde::{Deserialize, Serialize};

/// A change: its files, and what was found so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// In the order of the diff.
    pub files: Vec<File>,
    /// In the order they were found.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// One file of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The path before; none: it was not there, or it is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// The path after; of a deleted file the one before.
    pub path: String,
    /// What happened to it.
    pub status: Status,
    /// Whether its content is not shown as lines.
    #[serde(default)]
    pub binary: bool,
    /// The modes before and after, such as `100644` and `100755`, where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<(String, String)>,
    /// What changed in it.
    #[serde(default)]
    pub hunks: Vec<Hunk>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Status {
    Added,
    Modified,
    Deleted,
    Renamed,
    Copied,
}

/// A stretch of lines that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunk {
    /// Its first line before.
    pub old_start: u32,
    /// How many lines it had.
    pub old_lines: u32,
    /// Its first line after.
    pub new_start: u32,
    /// How many lines it has.
    pub new_lines: u32,
    /// What the diff says it is in, such as a function's head; often empty.
    #[serde(default)]
    pub section: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line of a hunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What happened to it.
    pub kind: Kind,
    /// Its text, without its end; a carriage return before the end stays.
    pub text: String,
    /// Its number before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<u32>,
    /// Its number after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<u32>,
    /// Whether it is the last one and the file does not end with a line's end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_newline: bool,
}

/// What happened to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Context,
    Added,
    Removed,
}

/// How much a finding matters; the first matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Severity {
    Error,
    Warning,
    Note,
}

/// One thing a developer should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which rule, such as `secrets/aws-access-key`.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub message: String,
    /// In which file.
    pub path: String,
    /// In which line of the file as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Up to which line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// Who found it.
    pub agent: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl File {
    /// Its added lines: their numbers in the file as it is now, and their texts without a carriage return at the end.
    pub fn added_lines(&self) -> impl Iterator<Item = (u32, &str)> {
        let lines = self.hunks.iter().flat_map(|hunk| &hunk.lines);
        lines.filter(|line| line.kind == Kind::Added).filter_map(|line| {
            Some((line.new?, line.text.strip_suffix('\r').unwrap_or(&line.text)))
        })
    }

    /// Its removed lines: their numbers in the file as it was, and their texts.
    pub fn removed_lines(&self) -> impl Iterator<Item = (u32, &str)> {
        let lines = self.hunks.iter().flat_map(|hunk| &hunk.lines);
        lines.filter(|line| line.kind == Kind::Removed).filter_map(|line| {
            Some((line.old?, line.text.strip_suffix('\r').unwrap_or(&line.text)))
        })
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// What comes after the last dot of its name, in lower case; empty where there is none.
    pub fn extension(&self) -> String {
        self.name().rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
    }
}
