//! The report for people: a line that sums up, then the findings by severity and rule, then the files.
//!
//! Invariant: what comes from the diff is escaped or stands in a code span, so that it neither becomes markup nor moves a
//! terminal's cursor.

use std::fmt::Write as _;

use findings::{Change, File, Finding, Severity, Status};

const SEVERITIES: [(Severity, &str); 3] =
    [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
/// Findings of one rule that are written out, and files that are; the rest is counted.
const SHOWN: usize = 30;
const FILES: usize = 200;

/// `gaps`: what was not looked for, and why.
pub(crate) fn write(change: &Change, gaps: &[String]) -> String {
    let mut out = String::from("# Review\n\n");
    summary(&mut out, change);
    if !gaps.is_empty() {
        out.push_str("\nNot looked at:\n\n");
        gaps.iter().take(SHOWN).for_each(|gap| {
            let _ = writeln!(out, "- {}", prose(gap));
        });
    }
    for (severity, name) in SEVERITIES {
        let all: Vec<&Finding> = change.findings.iter().filter(|finding| finding.severity == severity).collect();
        if !all.is_empty() {
            let _ = writeln!(out, "\n## {}", plural(all.len(), name));
        }
        for rule in all.chunk_by(|a, b| a.rule == b.rule) {
            self::rule(&mut out, rule);
        }
    }
    if change.omitted > 0 {
        let _ =
            writeln!(out, "\n{} left out, which would be too many to read.", plural(change.omitted, "more finding"));
    }
    files(&mut out, change);
    out
}

fn summary(out: &mut String, change: &Change) {
    let counts = SEVERITIES.iter().filter_map(|(severity, name)| {
        let count = change.findings.iter().filter(|finding| finding.severity == *severity).count();
        (count > 0).then(|| plural(count, name))
    });
    let counts: Vec<String> = counts.collect();
    let found = if counts.is_empty() { "Nothing to look at first".to_owned() } else { counts.join(", ") };
    let (added, removed) =
        change.files.iter().map(File::counts).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let _ = writeln!(out, "**{found}** in {} (+{added} −{removed} lines).", plural(change.files.len(), "file"));
}

fn rule(out: &mut String, findings: &[&Finding]) {
    let Some(first) = findings.first() else { return };
    let help = first.help.as_ref().map(|help| format!(" {}", prose(help))).unwrap_or_default();
    let _ = writeln!(out, "\n{}:{help}\n", code(&first.rule));
    for finding in findings.iter().take(SHOWN) {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let _ = writeln!(out, "- {} {}", code(&format!("{}{line}", finding.path)), prose(&finding.message));
    }
    if findings.len() > SHOWN {
        let _ = writeln!(out, "- and {} more, in the SARIF log", findings.len() - SHOWN);
    }
}

fn files(out: &mut String, change: &Change) {
    if change.files.is_empty() {
        return;
    }
    out.push_str("\n## Files\n\n| file | what | lines |\n| --- | --- | ---: |\n");
    for file in change.files.iter().take(FILES) {
        let what = match (file.status, &file.old_path) {
            (Status::Added, _) => "added".to_owned(),
            (Status::Deleted, _) => "deleted".to_owned(),
            (Status::Renamed, Some(old)) => format!("renamed from {}", cell(old)),
            (Status::Copied, Some(old)) => format!("copied from {}", cell(old)),
            (Status::Renamed | Status::Copied, None) => "moved".to_owned(),
            (Status::Modified, _) => "changed".to_owned(),
        };
        let mode = match &file.modes {
            Some((old, new)) => format!(", mode {} to {}", cell(old), cell(new)),
            None => String::new(),
        };
        let (added, removed) = file.counts();
        let lines = if file.binary { "binary".to_owned() } else { format!("+{added} −{removed}") };
        let _ = writeln!(out, "| {} | {what}{mode} | {lines} |", cell(&file.path));
    }
    if change.files.len() > FILES {
        let _ = writeln!(out, "\nand {} more.", plural(change.files.len() - FILES, "file"));
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A sentence of an agent: what it has between backticks is code, the rest is text.
fn prose(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let paired = parts.len() - (1 - parts.len() % 2);
    let mut out = String::with_capacity(text.len());
    for (place, part) in parts.iter().enumerate() {
        if place % 2 == 1 && place < paired {
            out.push_str(&code(part));
        } else {
            escape(&mut out, part);
        }
    }
    out
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' | '!' | '@') {
            out.push('\\');
        }
        visible(out, c);
    }
}

/// A code span. In it nothing is markup but a backtick.
fn code(text: &str) -> String {
    let mut out = String::from("`");
    text.chars().for_each(|c| visible(&mut out, if c == '`' { '\'' } else { c }));
    out.push('`');
    out
}

/// A code span in a table, where a bar would end the cell.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// Control characters, and those that turn the direction of writing, as their numbers.
fn visible(out: &mut String, c: char) {
    if c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    {
        out.extend(c.escape_unicode());
    } else {
        out.push(c);
    }
}
