//! A stretch of lines that changed, kept as the diff has it; its lines are views into it.

use serde::{Deserialize, Serialize};

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
    /// Its lines as in the diff, each with its sign (` `, `+`, `-`, or `\` for a last line without an end) and its end.
    pub body: String,
}

/// One line of a hunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// What happened to it.
    pub kind: Kind,
    /// Its text, without its end; a carriage return before the end stays.
    pub text: &'a str,
    /// Its number before.
    pub old: Option<u32>,
    /// Its number after.
    pub new: Option<u32>,
}

/// What happened to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Context,
    Added,
    Removed,
}

impl<'a> Line<'a> {
    /// Its text without a carriage return at the end.
    pub fn content(&self) -> &'a str {
        self.text.strip_suffix('\r').unwrap_or(self.text)
    }
}

impl Hunk {
    /// Its lines, with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let (mut old, mut new) = (self.old_start, self.new_start);
        let mut step = move |kind: Kind, text| {
            let line = Line {
                kind,
                text,
                old: (kind != Kind::Added).then_some(old),
                new: (kind != Kind::Removed).then_some(new),
            };
            old = old.saturating_add(u32::from(kind != Kind::Added));
            new = new.saturating_add(u32::from(kind != Kind::Removed));
            line
        };
        self.body.split_terminator('\n').filter_map(move |line| match line.as_bytes().first() {
            Some(b'+') => Some(step(Kind::Added, &line[1..])),
            Some(b'-') => Some(step(Kind::Removed, &line[1..])),
            Some(b' ') => Some(step(Kind::Context, &line[1..])),
            Some(b'\\') => None,
            // Mail programs cut the one space of an empty line.
            _ => Some(step(Kind::Context, line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunk(body: &str) -> Hunk {
        Hunk { old_start: 10, old_lines: 3, new_start: 20, new_lines: 4, section: String::new(), body: body.into() }
    }

    #[test]
    fn line_numbers_are_those_of_the_files() {
        let hunk = hunk(" same\n-old\n+new\n+newer\n same\n");
        let numbers: Vec<_> = hunk.lines().map(|line| (line.old, line.new)).collect();
        let expected =
            [(Some(10), Some(20)), (Some(11), None), (None, Some(21)), (None, Some(22)), (Some(12), Some(23))];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn a_mark_of_an_open_end_is_no_line_and_an_empty_line_is_one() {
        let body = "-x\n\\ No newline at end of file\n+y\n\n";
        let lines: Vec<_> = hunk(body).lines().map(|line| (line.kind, line.text.to_owned())).collect();
        let expected = [(Kind::Removed, "x"), (Kind::Added, "y"), (Kind::Context, "")];
        assert_eq!(lines, expected.map(|(kind, text)| (kind, text.to_owned())));
    }
}
