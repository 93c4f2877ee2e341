//! Steps of a task: a heading when one begins, how long it took when it ends, and a summary at the end.

use std::io::Write as _;
use std::time::{Duration, Instant};

use console::style;

/// The steps so far.
pub(crate) struct Steps {
    total: usize,
    begun: Instant,
    done: Vec<Done>,
}

struct Done {
    name: String,
    took: Duration,
    error: Option<anyhow::Error>,
}

impl Steps {
    /// `total` steps are to come.
    pub(crate) fn new(total: usize) -> Self {
        Self { total, begun: Instant::now(), done: Vec::new() }
    }

    /// Does one; a failure ends the task.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.head(name);
        let begun = Instant::now();
        let result = work();
        self.done.push(Done { name: name.to_owned(), took: begun.elapsed(), error: None });
        result
    }

    /// Does one; a failure is kept for [`Steps::finish`], and the others go on.
    pub(crate) fn check(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<()>) {
        self.head(name);
        let begun = Instant::now();
        let error = work().err();
        if let Some(error) = &error {
            say(format!("{} {error:#}", style("failed:").red().bold()));
        }
        self.done.push(Done { name: name.to_owned(), took: begun.elapsed(), error });
    }

    fn head(&self, name: &str) {
        let number = format!("[{}/{}]", self.done.len() + 1, self.total);
        say(format!("\n{} {}", style(number).cyan(), style(name).bold()));
    }

    /// Shows every step with its time; an error where one failed.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        say("");
        for step in &self.done {
            let mark = if step.error.is_none() { style("ok    ").green() } else { style("FAILED").red() };
            say(format!("{mark} {:<52} {:>8}", step.name, seconds(step.took)));
        }
        say(format!("{:<59} {:>8}", "in all", seconds(self.begun.elapsed())));
        let failed: Vec<&str> = self.done.iter().filter(|s| s.error.is_some()).map(|s| s.name.as_str()).collect();
        if failed.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("failed: {}", failed.join(", "))) }
    }
}

/// `12.3 s`.
pub(crate) fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// A line on standard error.
pub(crate) fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// Bytes on standard output.
pub(crate) fn out(bytes: &[u8]) {
    let _ = std::io::stdout().lock().write_all(bytes);
}
