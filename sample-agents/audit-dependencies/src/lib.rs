//! Finds what a change does to dependencies: added, removed, raised by a major version, not pinned, from git or a path.
//!
//! Manifests are read by their changed lines, each format by its own rules, because a diff has no whole file to parse.
//! Lock files are summed up in one note: what matters in them follows from a manifest.

mod formats;
mod versions;

use std::collections::BTreeMap;

use findings::{Change, File, Finding, Severity};
use ltmc::{Agent, Failure, Json, Task};

use formats::{Declared, Format};

const AGENT: &str = "audit-dependencies";

/// Adds to a change what it does to dependencies.
pub fn audit(change: &mut Change) {
    let found: Vec<Finding> = change.files.iter().flat_map(of_file).collect();
    change.findings.extend(found);
}

fn of_file(file: &File) -> Vec<Finding> {
    if formats::is_lock(file.name()) {
        let (added, removed) = (file.added_lines().count(), file.removed_lines().count());
        let message = format!("the lock file changes: {added} lines added, {removed} removed");
        return vec![finding(file, "lock-file", Severity::Note, message, None, None)];
    }
    let Some(format) = Format::of(file.name()) else { return Vec::new() };
    let read = |added: bool| -> BTreeMap<String, Declared> {
        let mut all = BTreeMap::new();
        for declared in formats::declared(file, format, added) {
            all.insert(declared.name.clone(), declared);
        }
        all
    };
    let (before, after) = (read(false), read(true));
    let mut found = Vec::new();
    for (name, new) in &after {
        let line = Some(new.line);
        match before.get(name) {
            None => {
                let version = if new.version.is_empty() { String::new() } else { format!(" {}", new.version) };
                found.push(finding(file, "added", Severity::Note, format!("dependency `{name}`{version} is added"), line, None));
            }
            Some(old) => {
                if let Some((from, to)) = versions::major_step(&old.version, &new.version) {
                    let message = format!("dependency `{name}` goes from {from} to {to}: a major version may break callers");
                    let help = "Read its changelog for what breaks, and say in the commit what was checked.";
                    found.push(finding(file, "major-bump", Severity::Warning, message, line, Some(help)));
                }
            }
        }
        if let Some(source) = &new.source {
            let message = format!("dependency `{name}` comes from {source}, not from a registry");
            let help = "Pin it to a revision, or publish it: what stands there can change under you.";
            found.push(finding(file, "unusual-source", Severity::Warning, message, line, Some(help)));
        } else if versions::is_unpinned(&new.version) {
            let shown = if new.version.is_empty() { "no version" } else { &new.version };
            let message = format!("dependency `{name}` is not pinned: {shown}");
            let help = "Name the version it was tested with.";
            found.push(finding(file, "unpinned", Severity::Warning, message, line, Some(help)));
        }
        if new.plain_http {
            let message = format!("dependency `{name}` is fetched over plain http");
            let help = "Use https: anybody on the way can change what is fetched.";
            found.push(finding(file, "plain-http", Severity::Error, message, line, Some(help)));
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        found.push(finding(file, "removed", Severity::Note, format!("dependency `{name}` is removed"), None, None));
    }
    found
}

fn finding(
    file: &File,
    rule: &str,
    severity: Severity,
    message: String,
    line: Option<u32>,
    help: Option<&str>,
) -> Finding {
    Finding {
        rule: format!("dependencies/{rule}"),
        severity,
        message,
        path: file.path.clone(),
        line,
        end_line: None,
        agent: AGENT.into(),
        help: help.map(str::to_owned),
    }
}

/// Takes a [`Change`], gives it with what it does to dependencies.
#[ltmc::agent]
#[derive(Default)]
pub struct AuditDependencies;

impl Agent for AuditDependencies {
    type Input = Json<Change>;
    type Output = Json<Change>;

    fn execute(&self, Json(mut change): Json<Change>, _task: &Task) -> Result<Json<Change>, Failure> {
        audit(&mut change);
        Ok(Json(change))
    }
}

#[cfg(test)]
mod tests;
