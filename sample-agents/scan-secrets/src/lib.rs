//! Finds secrets among the lines that a change adds: tokens of known shapes, and values that look drawn by chance where a
//! name says that they are secret.
//!
//! Few false alarms come first, because an alarm that is mostly false is not read: lock files, hashes, checksums, ids,
//! placeholders, test vectors and images in text do not fire. A secret is never shown whole.

mod shapes;

use findings::{Change, File, Finding, Severity};
use ltmc::{Agent, Failure, Json, Task};

use shapes::Scanner;

const AGENT: &str = "scan-secrets";
/// Longer lines are no source that people write.
const LONGEST: usize = 10_000;

/// Adds to a change what looks like a secret in it.
pub fn scan(change: &mut Change) {
    let scanner = Scanner::new();
    for file in change.files.iter().filter(|file| !file.binary && !is_lock(file)) {
        let lenient = is_test(file);
        for (number, line) in file.added_lines().filter(|(_, line)| line.len() <= LONGEST) {
            let Some(hit) = scanner.find(line, lenient) else { continue };
            let shown: String = hit.secret.chars().take(4).collect();
            change.findings.push(Finding {
                rule: format!("secrets/{}", hit.rule),
                severity: if hit.sure { Severity::Error } else { Severity::Warning },
                message: format!("{} `{shown}…` ({} characters) is added", hit.what, hit.secret.chars().count()),
                path: file.path.clone(),
                line: Some(number),
                end_line: None,
                agent: AGENT.into(),
                help: Some("Revoke it, for it is in the history now; keep secrets outside of the repository.".into()),
            });
        }
    }
}

/// Lock files and the like are made of hashes.
fn is_lock(file: &File) -> bool {
    let name = file.name().to_ascii_lowercase();
    matches!(name.as_str(), "package-lock.json" | "npm-shrinkwrap.json" | "pnpm-lock.yaml" | "go.sum" | "checksums.txt" | "sha256sums")
        || matches!(file.extension().as_str(), "lock" | "svg" | "map" | "sum" | "sha256")
        || name.ends_with(".min.js")
        || name.ends_with(".min.css")
}

/// Where secrets are mostly made up: only tokens of shapes that nobody makes up are told there.
fn is_test(file: &File) -> bool {
    let path = file.path.to_ascii_lowercase();
    let parts = ["test", "tests", "testdata", "fixtures", "fixture", "examples", "example", "spec", "mocks", "__tests__"];
    path.split('/').any(|part| parts.contains(&part)) || path.contains("_test.") || path.contains(".test.") || path.contains(".spec.")
}

/// Takes a [`Change`], gives it with its secrets found.
#[ltmc::agent]
#[derive(Default)]
pub struct ScanSecrets;

impl Agent for ScanSecrets {
    type Input = Json<Change>;
    type Output = Json<Change>;

    fn execute(&self, Json(mut change): Json<Change>, _task: &Task) -> Result<Json<Change>, Failure> {
        let before = change.findings.len();
        scan(&mut change);
        ltmc::info!(found = change.findings.len() - before; "looked at {} files", change.files.len());
        Ok(Json(change))
    }
}

#[cfg(test)]
mod tests;
