//! The diff, line by line.
//!
//! Invariants: linear in the input; a fault names its line. Inside a hunk its head's numbers decide what a line is, so
//! that a removed line which looks like `--- x` is no new file.

use std::fmt;

use findings::{Change, File, Hunk, Kind, Line, Status};

use crate::paths;

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
/// A combined diff, a head of a hunk that does not parse, a hunk that ends too early.
pub fn parse(diff: &str) -> Result<Change, Fault> {
    let lines: Vec<&str> = diff.split('\n').collect();
    let mut reader = Reader { lines: &lines, at: 0, files: Vec::new(), in_git: false };
    while let Some(line) = reader.peek() {
        reader.line(line)?;
    }
    Ok(Change { files: reader.files, findings: Vec::new() })
}

struct Reader<'a> {
    lines: &'a [&'a str],
    at: usize,
    files: Vec<File>,
    /// Whether the last file began with `diff --git`, so that `---` belongs to it.
    in_git: bool,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { line: self.at + 1, what: what.into() }
    }

    fn line(&mut self, line: &'a str) -> Result<(), Fault> {
        if let Some(head) = line.strip_prefix("diff --git ") {
            let (old, new) = paths::of_head(head).unwrap_or_default();
            self.begin(Some(old), new);
            self.in_git = true;
        } else if line.starts_with("diff --cc ") || line.starts_with("diff --combined ") || line.starts_with("@@@") {
            return Err(self.fault("a combined diff (of a merge) has no one side before: give the diff against one parent"));
        } else if line.starts_with("--- ") && self.lines.get(self.at + 1).is_some_and(|next| next.starts_with("+++ ")) {
            return self.sides(line);
        } else if line.starts_with("@@ ") {
            return self.hunk(line);
        } else if self.in_git {
            self.about(line);
        }
        self.at += 1;
        Ok(())
    }

    fn begin(&mut self, old: Option<String>, path: String) {
        let old_path = old.filter(|old| *old != path);
        let (status, binary, modes, hunks) = (Status::Modified, false, None, Vec::new());
        self.files.push(File { old_path, path, status, binary, modes, hunks });
    }

    /// A line of git's between `diff --git` and the first hunk.
    fn about(&mut self, line: &str) {
        let Some(file) = self.files.last_mut() else { return };
        let after = |prefix: &str| line.strip_prefix(prefix).map(str::trim_end);
        if after("new file mode ").is_some() {
            file.status = Status::Added;
        } else if after("deleted file mode ").is_some() {
            file.status = Status::Deleted;
        } else if let Some(mode) = after("old mode ") {
            file.modes = Some((mode.to_owned(), String::new()));
        } else if let Some(mode) = after("new mode ") {
            if let Some(modes) = &mut file.modes {
                mode.clone_into(&mut modes.1);
            }
        } else if let Some(path) = line.strip_prefix("rename from ").or_else(|| line.strip_prefix("copy from ")) {
            file.old_path = Some(paths::alone(path));
        } else if let Some(path) = line.strip_prefix("rename to ") {
            file.path = paths::alone(path);
            file.status = Status::Renamed;
        } else if let Some(path) = line.strip_prefix("copy to ") {
            file.path = paths::alone(path);
            file.status = Status::Copied;
        } else if line.starts_with("Binary files ") || line.starts_with("GIT binary patch") {
            file.binary = true;
            if file.path.is_empty()
                && let Some(path) = line.trim_end().strip_suffix(" differ").and_then(|l| l.rsplit_once(" and "))
            {
                file.path = paths::of_side(path.1).unwrap_or_default();
            }
        }
    }

    /// `--- old` and `+++ new`.
    fn sides(&mut self, line: &str) -> Result<(), Fault> {
        let old = paths::of_side(&line[4..]);
        let new = paths::of_side(&self.lines[self.at + 1][4..]);
        if old.is_none() && new.is_none() {
            return Err(self.fault("both sides are /dev/null"));
        }
        if !self.in_git {
            self.begin(None, String::new());
        }
        if let Some(file) = self.files.last_mut() {
            match (&old, &new) {
                (None, _) => file.status = Status::Added,
                (_, None) => file.status = Status::Deleted,
                (Some(_), Some(_)) => {}
            }
            let path = new.or(old.clone()).unwrap_or_default();
            if file.path.is_empty() {
                file.path = path;
            }
            file.old_path = match file.status {
                Status::Renamed | Status::Copied => file.old_path.take().or(old),
                Status::Modified => old.filter(|old| *old != file.path),
                Status::Added | Status::Deleted => None,
            };
        }
        self.in_git = false;
        self.at += 2;
        Ok(())
    }

    fn hunk(&mut self, head: &str) -> Result<(), Fault> {
        let Some((old_start, old_lines, new_start, new_lines, section)) = read_head(head) else {
            return Err(self.fault("the head of a hunk looks like `@@ -1,2 +3,4 @@`"));
        };
        if self.files.is_empty() {
            return Err(self.fault("a hunk before any file: `--- a/…` and `+++ b/…` come first"));
        }
        let begun = self.at;
        self.at += 1;
        let section = section.trim().to_owned();
        let mut hunk = Hunk { old_start, old_lines, new_start, new_lines, section, lines: Vec::new() };
        let (mut old, mut new) = (u64::from(old_start), u64::from(new_start));
        let (mut old_left, mut new_left) = (old_lines, new_lines);
        while old_left > 0 || new_left > 0 {
            let Some(line) = self.peek() else { return Err(cut(begun, old_left, new_left)) };
            let (kind, text) = match line.as_bytes().first() {
                Some(b'+') if new_left > 0 => (Kind::Added, &line[1..]),
                Some(b'-') if old_left > 0 => (Kind::Removed, &line[1..]),
                Some(b' ') if old_left > 0 && new_left > 0 => (Kind::Context, &line[1..]),
                // Mail programs cut the one space of an empty line.
                None | Some(b'\r') if old_left > 0 && new_left > 0 && self.at + 1 < self.lines.len() => (Kind::Context, line),
                Some(b'\\') => {
                    self.no_newline(&mut hunk);
                    continue;
                }
                _ => return Err(cut(begun, old_left, new_left)),
            };
            let mut added = Line { kind, text: text.to_owned(), old: None, new: None, no_newline: false };
            let number = |n: u64| u32::try_from(n).ok();
            if kind != Kind::Added {
                added.old = number(old);
                old += 1;
                old_left -= 1;
            }
            if kind != Kind::Removed {
                added.new = number(new);
                new += 1;
                new_left -= 1;
            }
            hunk.lines.push(added);
            self.at += 1;
        }
        if self.peek().is_some_and(|line| line.starts_with('\\')) {
            self.no_newline(&mut hunk);
        }
        if let Some(file) = self.files.last_mut() {
            file.hunks.push(hunk);
        }
        self.in_git = false;
        Ok(())
    }

    /// `\ No newline at end of file`
    fn no_newline(&mut self, hunk: &mut Hunk) {
        if let Some(last) = hunk.lines.last_mut() {
            last.no_newline = true;
        }
        self.at += 1;
    }
}

fn cut(begun: usize, old_left: u32, new_left: u32) -> Fault {
    let what = format!("the hunk ends too early: {old_left} lines of before and {new_left} of after are missing");
    Fault { line: begun + 1, what }
}

/// `@@ -1,2 +3,4 @@ section`
fn read_head(head: &str) -> Option<(u32, u32, u32, u32, &str)> {
    let rest = head.strip_prefix("@@ -")?;
    let (old, rest) = rest.split_once(" +")?;
    let (new, section) = rest.split_once(" @@")?;
    let range = |text: &str| -> Option<(u32, u32)> {
        match text.split_once(',') {
            Some((start, lines)) => Some((start.parse().ok()?, lines.parse().ok()?)),
            None => Some((text.parse().ok()?, 1)),
        }
    };
    let ((old_start, old_lines), (new_start, new_lines)) = (range(old)?, range(new)?);
    Some((old_start, old_lines, new_start, new_lines, section))
}

#[cfg(test)]
mod tests;
