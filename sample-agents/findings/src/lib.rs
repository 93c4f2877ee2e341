//! What the agents of a review hand each other: a change, and what they found in it.
//!
//! Each agent that looks for something takes a [`Change`] and gives a [`Scan`]: so they work side by side.
//!
//! Invariants: what an agent adds is bounded, in number and in length, so that a hostile diff cannot make a review that
//! is larger than the diff itself; the lines of a hunk stay one text, so that a change is hardly larger than its diff.

mod finding;
mod hunk;
mod scan;

use serde::{Deserialize, Serialize};

pub use finding::{Finding, Severity};
pub use hunk::{Hunk, Kind, Line};
pub use scan::Scan;

/// A change: its files, and what was found so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// In the order of the diff.
    pub files: Vec<File>,
    /// In the order they were found.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// How many more there were, beyond what one agent tells.
    #[serde(default)]
    pub omitted: usize,
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

impl Change {
    /// Findings that one agent tells: nobody reads more.
    pub const MOST: usize = 500;

    /// Adds what an agent found; the worst of it where it is too much.
    pub fn add(&mut self, mut found: Vec<Finding>) {
        found.sort_by_key(|finding| finding.severity);
        self.omitted += found.len().saturating_sub(Self::MOST);
        found.truncate(Self::MOST);
        self.findings.extend(found);
    }
}

impl File {
    /// The lines of all its hunks.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.hunks.iter().flat_map(Hunk::lines)
    }

    /// Its added lines: their numbers in the file as it is now, and their texts without a carriage return at the end.
    pub fn added_lines(&self) -> impl Iterator<Item = (u32, &str)> {
        self.lines().filter(|line| line.kind == Kind::Added).filter_map(|line| Some((line.new?, line.content())))
    }

    /// How many lines it gains and how many it loses.
    pub fn counts(&self) -> (usize, usize) {
        self.lines().fold((0, 0), |(added, removed), line| match line.kind {
            Kind::Added => (added + 1, removed),
            Kind::Removed => (added, removed + 1),
            Kind::Context => (added, removed),
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

    /// Whether it is a test, or lies where tests and examples do.
    pub fn is_test(&self) -> bool {
        const FOLDERS: [&str; 14] = [
            "test",
            "tests",
            "testdata",
            "fixture",
            "fixtures",
            "example",
            "examples",
            "spec",
            "mock",
            "mocks",
            "__tests__",
            "__mocks__",
            "bench",
            "benches",
        ];
        let path = self.path.to_ascii_lowercase();
        let name = path.rsplit('/').next().unwrap_or_default();
        path.split('/').any(|part| FOLDERS.contains(&part))
            || ["_test.", ".test.", "_spec.", ".spec."].iter().any(|mark| name.contains(mark))
            || name.starts_with("test_")
            || name == "tests.rs"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> File {
        let (status, hunks) = (Status::Modified, Vec::new());
        File { old_path: None, path: path.into(), status, binary: false, modes: None, hunks }
    }

    #[test]
    fn the_worst_is_kept() {
        let file = file("x");
        let note = Finding::new("a/b", Severity::Note, &file, None, "note");
        let mut found = vec![note; Change::MOST + 4];
        found.push(Finding::new("a/b", Severity::Error, &file, None, "error"));
        let mut change = Change::default();
        change.add(found);
        assert_eq!((change.findings.len(), change.omitted), (Change::MOST, 5));
        assert_eq!(change.findings[0].message, "error");
    }

    #[test]
    fn tests_are_told_by_their_path() {
        for path in ["tests/a.rs", "src/a/tests.rs", "a/b_test.go", "a.spec.ts", "pkg/testdata/x", "test_a.py"] {
            assert!(file(path).is_test(), "{path}");
        }
        for path in ["src/testing.rs", "src/attest.rs", "latest/a.rs"] {
            assert!(!file(path).is_test(), "{path}");
        }
    }
}
