//! What people and programs see: results on standard output, everything else on standard error.
//!
//! Invariants: nothing but the result goes to standard output, so it can be piped; with `--json` it is JSON, one value a
//! line. Progress is drawn only on a terminal. A reader that went away (a closed pipe) is no error. A terminal obeys nothing
//! that somebody else wrote: of control sequences only our colours get there.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use console::style;
use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::{self, Exit};

/// Writes a line to standard output.
pub(crate) fn line(text: impl AsRef<str>) {
    raw(shown(&io::stdout(), text.as_ref()).as_bytes());
    raw(b"\n");
}

/// Writes bytes to standard output as they are.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes);
    let _ = out.flush();
}

/// Writes one JSON value as a line to standard output.
pub(crate) fn json(value: &serde_json::Value) {
    line(plain_json(&value.to_string()));
}

/// JSON in which what a terminal might obey is escaped as JSON escapes it.
pub(crate) fn plain_json(json: &str) -> String {
    // What is not printable can only stand in a string.
    let escaped = |c: char| if is_obeyed(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escaped).collect()
}

/// Writes a result's bytes as they are; on a terminal control characters are shown, and the last line is ended.
pub(crate) fn content(bytes: &[u8]) {
    if !io::stdout().is_terminal() {
        return raw(bytes);
    }
    raw(clean(&String::from_utf8_lossy(bytes)).as_bytes());
    if !bytes.ends_with(b"\n") {
        raw(b"\n");
    }
}

/// A remark on standard error.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", shown(&io::stderr(), text.as_ref()));
}

/// A text of ours, with others' words in it, as this stream may have it.
fn shown<'a>(stream: &impl io::IsTerminal, text: &'a str) -> Cow<'a, str> {
    if stream.is_terminal() { but_colours(text) } else { text.into() }
}

/// The text with every control character shown, but for those of colours (`ESC [ … m`).
pub(crate) fn but_colours(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_obeyed) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let colour = rest.strip_prefix("\u{1b}[").and_then(|numbers| {
            let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            numbers[end..].starts_with('m').then_some(2 + end + 1)
        });
        let length = colour.unwrap_or_else(|| rest.chars().next().map_or(0, char::len_utf8));
        let (sequence, after) = rest.split_at(length);
        if colour.is_some() {
            out.push_str(sequence)
        } else {
            out.extend(sequence.chars().flat_map(char::escape_default))
        }
        rest = after;
    }
    out.push_str(rest);
    out.into()
}

/// Whether a terminal does something with a character rather than showing it. Of the marks of direction, those which make a
/// line read as another one than it is.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The end of a failed command, on standard error.
pub(crate) fn failure(error: &anyhow::Error, as_json: bool) -> Exit {
    if as_json {
        note(exit::to_json(error).to_string());
        return exit::exit_of(error);
    }
    note(format!("{} {error:#}", style("error:").red().bold().for_stderr()));
    if let Some(problem) = exit::problem_in(error) {
        for detail in &problem.details {
            note(format!("  {detail}"));
        }
        if let Some(help) = &problem.help {
            note(format!("{} {help}", style(" help:").cyan().for_stderr()));
        }
    }
    exit::exit_of(error)
}

/// A table without lines, as wide as it needs to be.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// With these columns.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(comfy_table::presets::NOTHING)
            .set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|c| c.to_uppercase()));
        Self(table)
    }

    /// One more row.
    pub(crate) fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.add_row(cells.into_iter().map(|c| clean(&c.to_string())));
    }

    /// To standard output; `empty` where there is no row.
    pub(crate) fn print(&self, empty: &str) {
        if self.0.row_count() == 0 {
            return note(empty);
        }
        for row in self.0.lines() {
            line(row.trim_end());
        }
    }
}

/// Something that takes long, on standard error; gone when it is done.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins, unless standard error is no terminal.
    pub(crate) fn start(text: impl Into<String>) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(text.into());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// What is being done now.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }

    /// A line above, which stays.
    pub(crate) fn above(&self, text: impl AsRef<str>) {
        self.0.suspend(|| note(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Text that came from somebody else, fit for a terminal: control characters are shown, not obeyed.
pub(crate) fn clean(text: &str) -> String {
    text.chars().flat_map(|c| if is_obeyed(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// Cut to `max` characters.
pub(crate) fn short(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// `1.5 s`, `12 ms`, `340 us`.
pub(crate) fn span(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        _ => humantime::format_duration(Duration::from_secs(micros / 1_000_000)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\n");
        assert_eq!(clean("safe\u{202e}cilam\u{9b}2J"), "safe\\u{202e}cilam\\u{9b}2J");
        assert_eq!(
            but_colours("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;t\u{7} \u{1b}[2J \u{1b}[31"),
            "\u{1b}[1;31mred\u{1b}[0m \\u{1b}]0;t\\u{7} \\u{1b}[2J \\u{1b}[31"
        );
        let odd = "a\u{9b}b\u{202e}c\u{7f}d\u{1b}e";
        let json = plain_json(&serde_json::json!(odd).to_string());
        assert!(json.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), odd, "it is the same value");
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        let shown: Vec<String> = [7, 1_500, 12_345, 1_500_000, 61_000_000].map(span).into();
        assert_eq!(shown, ["7 us", "1.5 ms", "12 ms", "1.5 s", "1m 1s"]);
    }
}
