//! Writes what was found: Markdown for people, SARIF 2.1.0 for programs.

mod markdown;
mod sarif;

use std::collections::BTreeMap;

use findings::{Change, File, Scan};
use ltmc::{Agent, Failure, Json, Task};
use serde::{Deserialize, Serialize};

/// A change, and what was found in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Review {
    /// Its files, in the order of the diff.
    pub files: Vec<File>,
    /// What each agent found, by what it looked for.
    pub scans: BTreeMap<String, Found>,
}

/// What was found of one kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Found {
    /// In the whole change.
    At(Scan),
    /// File by file; nothing for one that could not be looked at.
    ByFile(Vec<Option<Scan>>),
}

/// The two forms of a report.
#[derive(Debug, PartialEq, Serialize)]
pub struct Report {
    /// For people.
    pub markdown: String,
    /// For programs: a SARIF log.
    pub sarif: serde_json::Value,
}

/// The report of a change: the worst first, then by file and line.
pub fn report(review: Review) -> Report {
    let (mut change, gaps) = merged(review);
    change.findings.sort_by(|a, b| {
        (a.severity, &a.rule, &a.path, a.line, &a.message).cmp(&(b.severity, &b.rule, &b.path, b.line, &b.message))
    });
    Report { markdown: markdown::write(&change, &gaps), sarif: sarif::write(&change) }
}

/// A change with all that was found, and what was not looked for.
fn merged(Review { files, scans }: Review) -> (Change, Vec<String>) {
    let (mut change, mut gaps) = (Change { files, ..Change::default() }, Vec::new());
    for (kind, found) in scans {
        let parts = match found {
            Found::At(scan) => vec![Some(scan)],
            Found::ByFile(scans) => scans,
        };
        let (all, mut findings, mut left_out) = (parts.len(), Vec::new(), 0);
        for part in parts {
            let Some(Scan { findings: found, omitted, gap }) = part else {
                left_out += 1;
                continue;
            };
            findings.extend(found);
            change.omitted += omitted;
            gaps.extend(gap.map(|why| format!("{kind}: {why}")));
        }
        if left_out > 0 {
            gaps.push(format!("{kind}: {left_out} of {all} files"));
        }
        change.add(findings);
    }
    (change, gaps)
}

/// Takes a [`Review`], gives a [`Report`].
#[ltmc::agent]
#[derive(Default)]
pub struct WriteReport;

impl Agent for WriteReport {
    type Input = Json<Review>;
    type Output = Json<Report>;

    fn execute(&self, Json(review): Json<Review>, _task: &Task) -> Result<Json<Report>, Failure> {
        ltmc::info!(kinds = review.scans.len(); "a report about {} files", review.files.len());
        Ok(Json(report(review)))
    }
}

#[cfg(test)]
mod tests;
