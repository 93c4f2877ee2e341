//! The report for people.

use std::fmt::Write as _;

use findings::{Change, File, Finding, Kind, Severity, Status};

const SEVERITIES: [(Severity, &str); 3] =
    [(Severity::Error, "Errors"), (Severity::Warning, "Warnings"), (Severity::Note, "Notes")];
/// Findings of one severity that are written out; the rest is counted.
const SHOWN: usize = 100;

pub(crate) fn write(change: &Change) -> String {
    let mut out = String::from("# Review\n\n");
    let (added, removed) = change.files.iter().map(counts).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let _ = writeln!(out, "{}, +{added} −{removed} lines.\n", plural(change.files.len(), "file"));
    if change.findings.is_empty() {
        out.push_str("Nothing was found that a reviewer should look at first.\n\n");
    } else {
        out.push_str("| severity | findings |\n| --- | ---: |\n");
        for (severity, title) in SEVERITIES {
            let _ = writeln!(out, "| {title} | {} |", of(change, severity).count());
        }
        out.push('\n');
    }
    for (severity, title) in SEVERITIES {
        let all = of(change, severity).count();
        if all == 0 {
            continue;
        }
        let _ = writeln!(out, "## {title}\n");
        for finding in of(change, severity).take(SHOWN) {
            one(&mut out, finding);
        }
        if all > SHOWN {
            let _ = writeln!(out, "- … and {} more, in the SARIF file\n", all - SHOWN);
        }
        out.push('\n');
    }
    if !change.files.is_empty() {
        out.push_str("## Files\n\n| file | | lines |\n| --- | --- | ---: |\n");
        for file in &change.files {
            files_row(&mut out, file);
        }
    }
    out
}

fn of(change: &Change, severity: Severity) -> impl Iterator<Item = &Finding> {
    change.findings.iter().filter(move |finding| finding.severity == severity)
}

fn one(out: &mut String, finding: &Finding) {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    let _ = writeln!(out, "- **{}{line}** {} ({})", text(&finding.path), text(&finding.message), code(&finding.rule));
    if let Some(help) = &finding.help {
        let _ = writeln!(out, "  {}", text(help));
    }
}

fn files_row(out: &mut String, file: &File) {
    let (added, removed) = counts(file);
    let what = match (file.status, &file.old_path) {
        (Status::Added, _) => "added".to_owned(),
        (Status::Deleted, _) => "deleted".to_owned(),
        (Status::Renamed, Some(old)) => format!("renamed from {}", text(old)),
        (Status::Copied, Some(old)) => format!("copied from {}", text(old)),
        (Status::Renamed | Status::Copied, None) => "moved".to_owned(),
        (Status::Modified, _) => String::new(),
    };
    let lines = if file.binary { "binary".to_owned() } else { format!("+{added} −{removed}") };
    let _ = writeln!(out, "| {} | {what} | {lines} |", text(&file.path));
}

fn counts(file: &File) -> (usize, usize) {
    let of = |kind| file.hunks.iter().flat_map(|hunk| &hunk.lines).filter(move |line| line.kind == kind).count();
    (of(Kind::Added), of(Kind::Removed))
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Text from a diff, which is not to become markup.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace(['`', '\n', '\r'], "'"))
}
