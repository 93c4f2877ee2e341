//! Writes what was found: Markdown for people, SARIF 2.1.0 for programs.

mod markdown;
mod sarif;

use findings::Change;
use ltmc::{Agent, Failure, Json, Task};
use serde::Serialize;

/// The two forms of a report.
#[derive(Debug, PartialEq, Serialize)]
pub struct Report {
    /// For people.
    pub markdown: String,
    /// For programs: a SARIF log.
    pub sarif: serde_json::Value,
}

/// The report of a change: the worst first, then by file and line.
pub fn report(mut change: Change) -> Report {
    change.findings.sort_by(|a, b| {
        (a.severity, &a.rule, &a.path, a.line, &a.message).cmp(&(b.severity, &b.rule, &b.path, b.line, &b.message))
    });
    Report { markdown: markdown::write(&change), sarif: sarif::write(&change) }
}

/// Takes a [`Change`] with its findings, gives a [`Report`].
#[ltmc::agent]
#[derive(Default)]
pub struct WriteReport;

impl Agent for WriteReport {
    type Input = Json<Change>;
    type Output = Json<Report>;

    fn execute(&self, Json(change): Json<Change>, _task: &Task) -> Result<Json<Report>, Failure> {
        ltmc::info!(findings = change.findings.len(); "a report about {} files", change.files.len());
        Ok(Json(report(change)))
    }
}

#[cfg(test)]
mod tests;
