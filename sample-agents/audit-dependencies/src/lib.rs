//! Finds what a change does to dependencies: added, removed, raised by a major version, not pinned, from git, from a
//! path outside of the repository, over plain http.
//!
//! Manifests and lock files are read by their changed lines, each format by its own rules, because a diff has no whole
//! file to parse. What comes and goes is one note for a file; what a reviewer should look at has a finding of its own.
//!
//! To add a format: a variant of [`manifests::Format`] or an arm of [`locks::steps`], and a test.

mod locks;
mod manifests;
mod python;
mod versions;

use findings::{Change, File, Finding, Scan, Severity};
use ltmc::{Agent, Failure, Json, Task};

use locks::{Package, Place, Steps};
use manifests::{Declared, Format};

/// Names that a note lists.
const LISTED: usize = 12;

/// Adds to a change what it does to dependencies.
pub fn audit(change: &mut Change) {
    let mut found = Vec::new();
    for file in change.files.iter().filter(|file| !file.binary && !is_fixture(file)) {
        if let Some(format) = Format::of(file.name()) {
            manifest(file, format, &mut found);
        } else if let Some(steps) = locks::steps(file) {
            lock(file, &steps, &mut found);
        }
    }
    change.add(found);
}

/// What tests read, rather than what builds them.
fn is_fixture(file: &File) -> bool {
    file.path.split('/').any(|part| matches!(part, "fixtures" | "testdata" | "__fixtures__"))
}

fn manifest(file: &File, format: Format, found: &mut Vec<Finding>) {
    let (before, after) = manifests::declared(file, format);
    let mut added = Vec::new();
    for (name, new) in &after {
        match before.get(name) {
            // What Go replaces it has required before.
            None if format == Format::Go && new.version.is_empty() => {}
            None => added.push(new),
            Some(old) if old.source.is_none() && new.source.is_none() => {
                if versions::is_major_step(&old.version, &new.version, format.zero_is_unstable()) {
                    let message = format!("`{name}` goes from `{}` to `{}`", old.version, new.version);
                    let help = "A major version may break callers: read its changelog, and say in the commit what was checked.";
                    found.push(warning(file, "major-bump", new.line, message).help(help));
                }
            }
            Some(_) => {}
        }
        judge(file, format, new, found);
    }
    if let Some(first) = added.iter().map(|new| new.line).min() {
        let names = added.iter().map(|new| format!("`{}`", format!("{} {}", new.name, new.version).trim_end()));
        found.push(note(file, "added", Some(first), format!("adds {}", list(names))));
    }
    let removed: Vec<_> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    if !removed.is_empty() {
        let message = format!("removes {}", list(removed.iter().map(|name| format!("`{name}`"))));
        found.push(note(file, "removed", None, message));
    }
}

/// What is wrong with one dependency by itself.
fn judge(file: &File, format: Format, new: &Declared, found: &mut Vec<Finding>) {
    let name = &new.name;
    if let Some(source) = &new.source {
        found.push(from_elsewhere(file, name, source, new.line));
    } else if !new.any_version && versions::is_unpinned(&new.version, format == Format::Pyproject) {
        let shown = if new.version.is_empty() { "no version".to_owned() } else { format!("`{}`", new.version) };
        let message = format!("`{name}` is not pinned: {shown}");
        found.push(warning(file, "unpinned", new.line, message).help("Name the version it was tested with."));
    }
    if new.plain_http {
        found.push(plain_http(file, name, new.line));
    }
}

fn lock(file: &File, steps: &Steps, found: &mut Vec<Finding>) {
    let changed = steps.changed.iter().map(|(_, package, place)| (package, place));
    for ((name, _), place) in steps.added.iter().map(|(package, place)| (package, place)).chain(changed) {
        if place.source.starts_with("http:") {
            found.push(plain_http(file, name, place.line));
        } else if place.source.starts_with("git+") {
            found.push(from_elsewhere(file, name, &format!("`{}`", place.source), place.line));
        }
    }
    let is_major = |(old, (_, new), _): &&(String, Package, Place)| versions::is_major_step(old, new, true);
    let (major, minor): (Vec<_>, Vec<_>) = steps.changed.iter().partition(is_major);
    let name = |(name, version): &Package| format!("`{name} {version}`");
    let step = |(old, new, _): &&(String, Package, Place)| format!("{} after `{old}`", name(new));
    let mut parts = Vec::new();
    let mut part = |what: &str, names: Vec<String>| match names.len() {
        0 => {}
        // Of dozens nobody reads the names.
        count if count > LISTED => parts.push(format!("{count} {what}")),
        count => parts.push(format!("{count} {what} ({})", names.join(", "))),
    };
    part("of a higher major version", major.iter().map(step).collect());
    part("added", steps.added.iter().map(|(package, _)| name(package)).collect());
    part("removed", steps.removed.iter().map(name).collect());
    part("of another version", minor.iter().map(step).collect());
    if !parts.is_empty() {
        found.push(note(file, "lock-file", None, format!("locked packages: {}", parts.join("; "))));
    }
}

/// The first names, and how many more there are.
fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let first = names.take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

fn warning(file: &File, rule: &str, line: u32, message: String) -> Finding {
    Finding::new(format!("dependencies/{rule}"), Severity::Warning, file, Some(line), message)
}

fn note(file: &File, rule: &str, line: Option<u32>, message: String) -> Finding {
    Finding::new(format!("dependencies/{rule}"), Severity::Note, file, line, message)
}

fn from_elsewhere(file: &File, name: &str, source: &str, line: u32) -> Finding {
    let help = "Pin it to a revision, or publish it: what stands outside of a registry can change under you.";
    let message = format!("`{name}` comes from {source}, not from a registry");
    warning(file, "unusual-source", line, message).help(help)
}

fn plain_http(file: &File, name: &str, line: u32) -> Finding {
    let message = format!("`{name}` is fetched over plain http");
    let help = "Use https: anybody on the way can change what is fetched.";
    Finding::new("dependencies/plain-http", Severity::Error, file, Some(line), message).help(help)
}

/// Takes a [`Change`], gives what it does to dependencies.
#[ltmc::agent]
#[derive(Default)]
pub struct AuditDependencies;

impl Agent for AuditDependencies {
    type Input = Json<Change>;
    type Output = Json<Scan>;

    fn execute(&self, Json(mut change): Json<Change>, _task: &Task) -> Result<Json<Scan>, Failure> {
        audit(&mut change);
        ltmc::info!(found = change.findings.len(); "looked at {} files", change.files.len());
        Ok(Json(change.into()))
    }
}

#[cfg(test)]
mod tests;
