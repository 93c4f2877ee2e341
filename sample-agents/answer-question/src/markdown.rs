//! A reply for people: each answer with its place, its passage as a quote, and where to read on.
//!
//! Invariants: what comes from the question stands in a code span, and what comes from a document in a quote, which it cannot
//! leave; no control character reaches a terminal.

use std::fmt::Write as _;

use crate::Answer;

/// Lines of a passage that are shown.
const LINES: usize = 10;
/// Characters of a line that are shown.
const WIDTH: usize = 600;

pub(crate) fn write(question: &str, answers: &[Answer]) -> String {
    let mut out = format!("# {}\n", code(question));
    if answers.is_empty() {
        out.push_str("\nNothing that was read has to do with it.\n");
    }
    for (number, answer) in answers.iter().enumerate() {
        let place = code(&format!("{}:{}", answer.file, answer.line));
        let heading = if answer.heading.is_empty() { String::new() } else { format!(" {}", escaped(&answer.heading)) };
        let _ = writeln!(out, "\n## {}. {place}{heading}\n", number + 1);
        quote(&mut out, &answer.passage);
        if !answer.see_also.is_empty() {
            let files: Vec<String> = answer.see_also.iter().map(|file| code(file)).collect();
            let _ = writeln!(out, "\nSee also {}", files.join(", "));
        }
    }
    out
}

fn quote(out: &mut String, passage: &str) {
    let mut lines = passage.lines();
    for line in lines.by_ref().take(LINES) {
        out.push('>');
        if !line.is_empty() {
            out.push(' ');
        }
        line.chars().take(WIDTH).for_each(|c| visible(out, c));
        out.push_str(if line.chars().nth(WIDTH).is_some() { "…\n" } else { "\n" });
    }
    if lines.next().is_some() {
        out.push_str("> …\n");
    }
}

/// A code span. In it nothing is markup but a backtick.
fn code(text: &str) -> String {
    let mut out = String::from("`");
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .for_each(|c| visible(&mut out, if c == '`' { '\'' } else { c }));
    out.push('`');
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '&' | '~') {
            out.push('\\');
        }
        visible(&mut out, c);
    }
    out
}

/// Control characters, and those that turn the direction of writing, as their numbers.
fn visible(out: &mut String, c: char) {
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    if (c.is_control() && c != '\t') || turns {
        out.extend(c.escape_unicode());
    } else {
        out.push(c);
    }
}
