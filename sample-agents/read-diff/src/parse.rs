//! The diff, line by line.
//!
//! Invariants: linear in the input; a fault names its line. Inside a hunk its head's numbers decide what a line is, so
//! that a removed line which looks like `--- x` is no new file. Files, hunks and paths are bounded.

use std::fmt;

use findings::{Change, File, Hunk, Status};

use crate::paths;

/// Line numbers that files of this world reach.
const MOST_LINES: u32 = 1 << 30;
/// Files, and hunks of all of them together, that are still a change somebody reads.
const MOST_FILES: usize = 10_000;
const MOST_HUNKS: usize = 20_000;

/// What is wrong with a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line of the diff, from 1 on.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the diff: {}", self.line, self.what)
    }
}

impl std::error::Error for Fault {}

/// Reads a diff. Text around it (a commit's message, a mail's head) is passed over.
///
/// # Errors
/// A combined diff, a head of a hunk that does not parse, a hunk that ends too early, more than a bound allows.
pub fn parse(diff: &str) -> Result<Change, Fault> {
    let mut reader = Reader { rest: diff, number: 1, files: Vec::new(), hunks: 0, in_git: false };
    while let Some(line) = reader.peek() {
        reader.line(line)?;
    }
    Ok(Change { files: reader.files, ..Change::default() })
}

struct Reader<'a> {
    /// What is still to be read, and the number of its first line.
    rest: &'a str,
    number: usize,
    files: Vec<File>,
    hunks: usize,
    /// Whether we are between a `diff --git` and the first hunk, so that `---` belongs to the last file.
    in_git: bool,
}

impl<'a> Reader<'a> {
    /// The next line, without its end.
    fn peek(&self) -> Option<&'a str> {
        (!self.rest.is_empty()).then(|| self.rest.split('\n').next().unwrap_or_default())
    }

    fn step(&mut self, line: &str) {
        self.rest = self.rest.get(line.len() + 1..).unwrap_or_default();
        self.number += 1;
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { line: self.number, what: what.into() }
    }

    fn line(&mut self, line: &'a str) -> Result<(), Fault> {
        if let Some(head) = line.strip_prefix("diff --git ") {
            let path = paths::of_head(head).map_err(|what| self.fault(what))?;
            self.begin(path)?;
            self.in_git = true;
        } else if line.starts_with("diff --cc ") || line.starts_with("diff --combined ") || line.starts_with("@@@ ") {
            return Err(
                self.fault("a combined diff, of a merge, has two sides before: give the diff against one parent")
            );
        } else if line.starts_with("--- ") {
            self.step(line);
            return match self.peek() {
                Some(next) if next.starts_with("+++ ") => self.sides(line, next),
                _ => Ok(()),
            };
        } else if line.starts_with("@@ ") {
            return self.hunk(line);
        } else if self.in_git {
            self.about(line)?;
        }
        self.step(line);
        Ok(())
    }

    fn begin(&mut self, path: String) -> Result<(), Fault> {
        if self.files.len() == MOST_FILES {
            return Err(self.fault(format!("more than {MOST_FILES} files: give it in parts")));
        }
        let (status, binary, modes, hunks) = (Status::Modified, false, None, Vec::new());
        self.files.push(File { old_path: None, path, status, binary, modes, hunks });
        Ok(())
    }

    /// A line of git's between `diff --git` and the first hunk.
    fn about(&mut self, line: &str) -> Result<(), Fault> {
        let alone = |path| paths::alone(path).map_err(|what| self.fault(what));
        let (from, to) = match line.split_once(' ').and_then(|(word, rest)| Some((word, rest.split_once(' ')?))) {
            Some(("rename" | "copy", ("from", path))) => (Some(alone(path)?), None),
            Some(("rename" | "copy", ("to", path))) => (None, Some(alone(path)?)),
            _ => (None, None),
        };
        let Some(file) = self.files.last_mut() else { return Ok(()) };
        let after = |prefix: &str| line.strip_prefix(prefix).map(str::trim_end);
        if let Some(path) = from {
            file.old_path = Some(path);
        } else if let Some(path) = to {
            file.path = path;
            file.status = if line.starts_with("copy") { Status::Copied } else { Status::Renamed };
        } else if line.starts_with("new file mode ") {
            file.status = Status::Added;
        } else if line.starts_with("deleted file mode ") {
            file.status = Status::Deleted;
        } else if let Some(mode) = after("old mode ") {
            file.modes = Some((mode.to_owned(), String::new()));
        } else if let (Some(mode), Some(modes)) = (after("new mode "), &mut file.modes) {
            mode.clone_into(&mut modes.1);
        } else if line.starts_with("Binary files ") || line.starts_with("GIT binary patch") {
            file.binary = true;
        }
        Ok(())
    }

    /// `--- old`, which is read already, and `+++ new`.
    fn sides(&mut self, old: &str, new: &'a str) -> Result<(), Fault> {
        let side = |line: &str| paths::of_side(&line[4..]).map_err(|what| self.fault(what));
        let (old, new_path) = (side(old)?, side(new)?);
        let (status, path, old) = match (old, new_path) {
            (None, None) => return Err(self.fault("both sides are /dev/null")),
            (None, Some(new)) => (Status::Added, new, None),
            (Some(old), None) => (Status::Deleted, old, None),
            (Some(old), Some(new)) => (Status::Modified, new, Some(old)),
        };
        if !self.in_git {
            self.begin(String::new())?;
        }
        if let Some(file) = self.files.last_mut() {
            if status != Status::Modified {
                file.status = status;
            }
            // What git said before is without doubt; these two may have prefixes of any kind.
            if file.path.is_empty() {
                file.old_path = old.filter(|old| *old != path);
                file.path = path;
            }
        }
        self.in_git = false;
        self.step(new);
        Ok(())
    }

    fn hunk(&mut self, head: &'a str) -> Result<(), Fault> {
        let Some(mut hunk) = read_head(head) else {
            return Err(self.fault("the head of a hunk looks like `@@ -1,2 +3,4 @@`"));
        };
        if self.files.is_empty() {
            return Err(self.fault("a hunk before any file: `--- a/…` and `+++ b/…` come first"));
        }
        self.hunks += 1;
        if self.hunks > MOST_HUNKS {
            return Err(self.fault(format!("more than {MOST_HUNKS} hunks: give it in parts")));
        }
        let begun = self.number;
        self.step(head);
        let body = self.rest;
        let (mut old, mut new) = (hunk.old_lines, hunk.new_lines);
        while old > 0 || new > 0 {
            let line = self.peek();
            match line.map(|line| line.as_bytes().first()) {
                Some(Some(b'+')) if new > 0 => new -= 1,
                Some(Some(b'-')) if old > 0 => old -= 1,
                // Mail programs cut the one space of an empty line.
                Some(Some(b' ' | b'\r') | None) if old > 0 && new > 0 => (old, new) = (old - 1, new - 1),
                Some(Some(b'\\')) => {}
                _ => {
                    let what = format!("the hunk ends too early: {old} lines of before and {new} of after are missing");
                    return Err(Fault { line: begun, what });
                }
            }
            self.step(line.unwrap_or_default());
        }
        if let Some(line) = self.peek().filter(|line| line.starts_with('\\')) {
            self.step(line);
        }
        hunk.body = body[..body.len() - self.rest.len()].to_owned();
        if let Some(file) = self.files.last_mut() {
            file.hunks.push(hunk);
        }
        self.in_git = false;
        Ok(())
    }
}

/// `@@ -1,2 +3,4 @@ section`
fn read_head(head: &str) -> Option<Hunk> {
    let rest = head.strip_prefix("@@ -")?;
    let (old, rest) = rest.split_once(" +")?;
    let (new, section) = rest.split_once(" @@")?;
    let range = |text: &str| -> Option<(u32, u32)> {
        let (start, lines) = text.split_once(',').unwrap_or((text, "1"));
        let (start, lines): (u32, u32) = (start.parse().ok()?, lines.parse().ok()?);
        (start.checked_add(lines)? < MOST_LINES).then_some((start, lines))
    };
    let ((old_start, old_lines), (new_start, new_lines)) = (range(old)?, range(new)?);
    let section = section.trim().to_owned();
    Some(Hunk { old_start, old_lines, new_start, new_lines, section, body: String::new() })
}

#[cfg(test)]
mod tests;
