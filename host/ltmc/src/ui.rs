//! What people and programs see: results on standard output, everything else on standard error.
//!
//! Invariants: nothing but the result goes to standard output, so it can be piped; with `--json` it is JSON, one value a
//! line. Progress is drawn only on a terminal. A reader that went away (a closed pipe) is no error.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use console::style;
use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::{self, Exit};

/// Writes a line to standard output.
pub(crate) fn line(text: impl AsRef<str>) {
    raw(text.as_ref().as_bytes());
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
    line(value.to_string());
}

/// Writes a result's bytes; on a terminal the last line is ended.
pub(crate) fn content(bytes: &[u8]) {
    raw(bytes);
    if io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
        raw(b"\n");
    }
}

/// A remark on standard error.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
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
    text.chars()
        .flat_map(|c| {
            if c.is_control() && c != '\n' && c != '\t' { c.escape_default().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
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
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        let shown: Vec<String> = [7, 1_500, 12_345, 1_500_000, 61_000_000].map(span).into();
        assert_eq!(shown, ["7 us", "1.5 ms", "12 ms", "1.5 s", "1m 1s"]);
    }
}
