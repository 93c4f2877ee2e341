//! Finds secrets among the lines that a change adds: tokens of known shapes, and values that look drawn by chance where a
//! name says that they are secret.
//!
//! Few false alarms come first, because an alarm that is mostly false is not read: lock files, hashes, checksums, ids,
//! placeholders, test vectors and images in text do not fire. Of a secret no more is shown than what all of its kind
//! begin with.

mod assigned;
mod shapes;

use findings::{Change, File, Finding, Scan, Severity};
use ltmc::{Agent, Failure, Json, Task};

use assigned::Assignments;
use shapes::Shapes;

/// Longer lines are no source that people write.
const LONGEST: usize = 10_000;
const HELP: &str = "Revoke it, for it is in the history now; keep secrets outside of the repository.";

/// Adds to a change what looks like a secret in it.
pub fn scan(change: &mut Change) {
    let (shapes, assignments) = (Shapes::default(), Assignments::default());
    let mut found = Vec::new();
    for file in change.files.iter().filter(|file| !file.binary && !is_made_of_hashes(file)) {
        let in_test = file.is_test();
        let bare = assigned::is_bare(file);
        for (number, line) in file.added_lines().filter(|(_, line)| line.len() <= LONGEST) {
            let tell = |rule, severity, message: String| {
                Finding::new(format!("secrets/{rule}"), severity, file, Some(number), message).help(HELP)
            };
            // Tests make most of their secrets up, but for what an issuer has marked as its own.
            if let Some((shape, secret)) = shapes.find(line).filter(|(shape, _)| shape.sure || !in_test) {
                let start: String = secret.chars().take(4).collect();
                let message = match shape.rule {
                    "private-key" => "the head of a private key".to_owned(),
                    _ => format!("{} `{start}…` of {} characters", shape.what, secret.chars().count()),
                };
                found.push(tell(shape.rule, shape.severity(), message));
            } else if let Some((name, value)) = assignments.find(line, bare).filter(|_| !in_test) {
                let length = value.chars().count();
                let message = format!("`{name}` is set to {length} characters that look drawn by chance");
                found.push(tell("assigned", Severity::Warning, message));
            }
        }
    }
    change.add(found);
}

/// Lock files and the like.
fn is_made_of_hashes(file: &File) -> bool {
    let name = file.name().to_ascii_lowercase();
    ["package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "checksums.txt", "sha256sums"]
        .contains(&name.as_str())
        || ["lock", "svg", "map", "sum", "sha256", "pem.pub"].contains(&file.extension().as_str())
        || name.ends_with(".min.js")
        || name.ends_with(".min.css")
}

/// Takes a [`Change`], gives the secrets found in it.
#[ltmc::agent]
#[derive(Default)]
pub struct ScanSecrets;

impl Agent for ScanSecrets {
    type Input = Json<Change>;
    type Output = Json<Scan>;

    fn execute(&self, Json(mut change): Json<Change>, _task: &Task) -> Result<Json<Scan>, Failure> {
        scan(&mut change);
        ltmc::info!(found = change.findings.len(); "looked at {} files", change.files.len());
        Ok(Json(change.into()))
    }
}

#[cfg(test)]
mod tests;
