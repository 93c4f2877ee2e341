//! The job `fix-issues`: agents mend copies of this repository's documents, and a person says whether that is kept.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::process::{Host, output, run as run_process};
use crate::steps::{Steps, out, say};

/// The agents of the workflow, in its order.
pub(super) const AGENTS: &[&str] =
    &["find-issues", "plan-fixes", "add-contents", "wrap-links", "name-languages", "apply-fixes", "undo-fixes"];
/// Steps of this job.
pub(super) const STEPS: usize = 3;
/// The directory's capabilities: they are in no ceiling unless an operator puts them there.
pub(super) const DIRECTORY: [&str; 2] = ["fs:read:work", "fs:write:work"];
/// How long the host may take until it asks, or is done.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who says whether the changes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Asked,
    Given(bool),
}

impl Answer {
    /// What was said with the command; where nothing was, somebody has to be there to be asked.
    pub(super) fn of(yes: bool, no: bool) -> anyhow::Result<Self> {
        match (yes, no) {
            (false, false) if std::io::stdin().is_terminal() => Ok(Self::Asked),
            (false, false) => bail!("nobody can be asked here whether the changes are kept: say --yes or --no"),
            (yes, _) => Ok(Self::Given(yes)),
        }
    }
}

/// Documents that agents may change: copies of the repository's.
pub(super) struct Work(PathBuf);

impl Work {
    pub(super) fn copy(to: PathBuf) -> anyhow::Result<Self> {
        for part in ["", "docs"] {
            let (from, to) = (crate::root().join(part), to.join(part));
            std::fs::create_dir_all(&to)?;
            for entry in std::fs::read_dir(&from)? {
                let path = entry?.path();
                if path.extension().is_some_and(|end| end == "md") {
                    std::fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
                }
            }
        }
        Ok(Self(to.canonicalize()?))
    }

    /// What the host has to be told: the directory that agents read and write.
    pub(super) fn config(&self) -> anyhow::Result<String> {
        // A JSON string is one of TOML's too.
        Ok(format!("[directories]\nwork = {}\n", serde_json::to_string(&self.0)?))
    }

    fn documents(&self) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut documents = BTreeMap::new();
        for part in ["", "docs"] {
            for entry in std::fs::read_dir(self.0.join(part))? {
                let path = entry?.path();
                if path.is_file() {
                    documents.insert(path.clone(), std::fs::read(&path)?);
                }
            }
        }
        Ok(documents)
    }
}

/// Runs it, and shows what came of it; the run's id.
pub(super) fn run(steps: &mut Steps, host: &Host, work: &Work, answer: Answer) -> anyhow::Result<String> {
    let before = work.documents()?;
    let (id, question) = steps.step("Issues, found, planned and mended", || {
        let begun: Value =
            serde_json::from_slice(&output(host.ltmc(&["flow", "run", "fix-issues", "--detach", "--json"]))?)?;
        let id = begun["run"].as_str().context("`ltmc flow run --detach` says no run")?.to_owned();
        let question = until(|| question_of(host, &id))?;
        Ok((id, question))
    })?;
    say("");
    let shown = &question["show"]["json"];
    out(shown["diff"].as_str().context("what is shown has no `diff`")?.as_bytes());
    let counted: u64 = shown["mended"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    ensure!(Some(counted) == shown["edits"].as_u64(), "what was counted side by side is not what was mended: {shown}");
    let title = question["title"].as_str().unwrap_or_default().to_owned();
    let keep = match answer {
        Answer::Given(keep) => keep,
        Answer::Asked => asked(&title)?,
    };
    let token = question["token"].as_str().context("a question has a token")?;
    let said = if keep { "--yes" } else { "--no" };
    steps.step(&format!("{title} {}", if keep { "Yes" } else { "No" }), || {
        run_process(host.ltmc(&["approvals", "answer", token, said]))?;
        let state = until(|| state_of(host, &id))?;
        ensure!(state == if keep { "completed" } else { "failed" }, "the run is {state}");
        Ok(())
    })?;
    steps.step("The documents", || {
        let after = work.documents()?;
        let changed = after.iter().filter(|(path, text)| before.get(*path) != Some(text)).count();
        ensure!((changed > 0) == keep, "{changed} documents are changed");
        say(if keep { format!("  {changed} are changed") } else { "  all are as they were".into() });
        Ok(())
    })?;
    run_process(host.ltmc(&["runs", "show", &id]))?;
    Ok(id)
}

/// What a run asks, once it does; the error: it came to its end before.
fn question_of(host: &Host, run: &str) -> anyhow::Result<Option<Value>> {
    let listed = output(host.ltmc(&["approvals", "list", "--json"]))?;
    for line in String::from_utf8_lossy(&listed).lines() {
        let one: Value = serde_json::from_str(line)?;
        if one["run"] == run {
            let token = one["token"].as_str().context("a question has a token")?;
            return Ok(Some(serde_json::from_slice(&output(host.ltmc(&["approvals", "show", token, "--json"]))?)?));
        }
    }
    if let Some(state) = state_of(host, run)? {
        run_process(host.ltmc(&["runs", "show", run]))?;
        bail!("the run is {state} before it asked anything");
    }
    Ok(None)
}

/// A run's state, once it is over.
fn state_of(host: &Host, run: &str) -> anyhow::Result<Option<String>> {
    let shown: Value = serde_json::from_slice(&output(host.ltmc(&["runs", "show", run, "--json"]))?)?;
    let state = shown["state"].as_str().unwrap_or_default();
    Ok(["completed", "failed", "cancelled", "quarantined", "stuck"].contains(&state).then(|| state.to_owned()))
}

/// Looks again until something is there.
fn until<T>(look: impl Fn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("nothing came within {PATIENCE:?}")
}

/// Asks whoever is at the terminal.
fn asked(title: &str) -> anyhow::Result<bool> {
    loop {
        say("");
        let mut to = std::io::stderr().lock();
        write!(to, "{title} [y/n] ")?;
        to.flush()?;
        drop(to);
        let mut line = String::new();
        ensure!(std::io::stdin().read_line(&mut line)? > 0, "nobody answered");
        match line.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => {}
        }
    }
}

/// Where copies of documents stand.
pub(super) fn place(folder: &Path) -> PathBuf {
    folder.join(format!("work-{}", std::process::id()))
}
