//! The job `review`: agents look at a real diff side by side, and the same agents one after the other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{run_flow, shown};
use crate::process::{Host, output, run as run_process};
use crate::steps::{Steps, out, say};

/// The agents of the workflow, in its order.
pub(super) const AGENTS: &[&str] = &[
    "read-diff",
    "scan-secrets",
    "measure-complexity",
    "audit-dependencies",
    "note-gap",
    "join-scans",
    "write-report",
];
/// The same review one after the other, which it is measured against.
pub(super) const REFERENCE: &str = "review-in-sequence";
/// Steps of this job.
pub(super) const STEPS: usize = 4;
/// How often either is run to be measured.
const ROUNDS: usize = 7;
/// The most of a diff, in bytes, that makes a good demonstration: so many of the last commits are taken as fit in it.
const ENOUGH: usize = 1 << 20;
/// The most commits.
const COMMITS: usize = 20;

/// The file with the diff.
pub(super) fn diff(steps: &mut Steps, file: Option<&Path>, folder: &Path) -> anyhow::Result<PathBuf> {
    let (diff, about) = steps.step("A diff to review", || read(file))?;
    say(format!("  {about}, {} lines", diff.lines().count()));
    let path = folder.join("review.diff");
    std::fs::write(&path, &diff)?;
    Ok(path)
}

/// Runs it, and shows the report; the run's id.
pub(super) fn run(steps: &mut Steps, host: &Host, diff: &Path, folder: &Path) -> anyhow::Result<String> {
    let run = steps.step("The review", || run_flow(host, "review", diff))?;
    let id = run["run"].as_str().unwrap_or_default().to_owned();
    steps.step("The report", || {
        let (markdown, sarif) = report(&run["output"])?;
        say("");
        out(markdown.as_bytes());
        let path = folder.join("review.sarif");
        std::fs::write(&path, serde_json::to_string_pretty(&sarif)? + "\n")?;
        say(format!("\n  SARIF 2.1.0: {}", shown(&path)));
        Ok(())
    })?;
    run_process(host.ltmc(&["runs", "show", &id]))?;
    steps.step("Side by side, and one after the other", || measure(host, diff, &report(&run["output"])?.0))?;
    Ok(id)
}

/// Runs both in turns, and says how long they took: the report is the same.
fn measure(host: &Host, diff: &Path, markdown: &str) -> anyhow::Result<()> {
    let mut took = [("review", Vec::new()), (REFERENCE, Vec::new())];
    // The round before the first warms both up.
    for round in 0..=ROUNDS {
        for (flow, times) in &mut took {
            let run = run_flow(host, flow, diff)?;
            if report(&run["output"])?.0 != markdown {
                bail!("`{flow}` gave another report");
            }
            let time = time_of(host, run["run"].as_str().unwrap_or_default())?;
            times.extend((round > 0).then_some(time));
        }
    }
    let medians = took.map(|(flow, mut times)| {
        times.sort();
        let (lowest, median, highest) = (times[0], times[ROUNDS / 2], times[ROUNDS - 1]);
        let ms = |time: Duration| time.as_millis();
        say(format!("  {flow:<20} {:>5} ms ({}..{} ms, {ROUNDS} runs)", ms(median), ms(lowest), ms(highest)));
        median
    });
    let [side_by_side, in_sequence] = medians.map(|median| median.as_secs_f64());
    say(format!("  {:.2} x the time, and the same report", side_by_side / in_sequence));
    Ok(())
}

/// How long a run took, by its host's clock.
fn time_of(host: &Host, id: &str) -> anyhow::Result<Duration> {
    let shown: Value = serde_json::from_slice(&output(host.ltmc(&["runs", "show", id, "--json"]))?)?;
    let at = |field: &str| {
        let text = shown[field].as_str().unwrap_or_default();
        humantime::parse_rfc3339_weak(text).with_context(|| format!("run {id} has no {field}"))
    };
    Ok(at("ended_at")?.duration_since(at("created_at")?)?)
}

/// The diff, and what it is of.
fn read(file: Option<&Path>) -> anyhow::Result<(String, String)> {
    if let Some(path) = file {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        return Ok((String::from_utf8_lossy(&bytes).into_owned(), path.display().to_string()));
    }
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(crate::root()).args(arguments);
        output(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let commits: usize = git(&["rev-list", "--count", "--first-parent", "HEAD"])?.trim().parse()?;
    if commits <= 1 {
        let diff = git(&["show", "--format=", "HEAD"])?;
        return Ok((diff, "the only commit of this repository".into()));
    }
    let mut found = None;
    for back in 1..commits.min(COMMITS + 1) {
        let diff = git(&["diff", &format!("HEAD~{back}"), "HEAD"])?;
        let enough = diff.len() > ENOUGH;
        if !diff.is_empty() && (found.is_none() || !enough) {
            found =
                Some((diff, format!("the last {back} commit{} of this repository", if back == 1 { "" } else { "s" })));
        }
        if enough {
            break;
        }
    }
    found.context("the last commits of this repository changed nothing")
}

/// The report's two forms.
fn report(output: &Value) -> anyhow::Result<(String, Value)> {
    let report = &output["json"];
    let markdown = report["markdown"].as_str().context("the report has no `markdown`")?;
    let sarif = report.get("sarif").context("the report has no `sarif`")?;
    if sarif["version"] != "2.1.0" {
        bail!("the report's `sarif` is not of version 2.1.0");
    }
    Ok((markdown.to_owned(), sarif.clone()))
}
