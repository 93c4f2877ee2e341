//! The job `ask-docs`: agents read this repository's documents and answer a question from them.

use std::path::Path;

use anyhow::Context as _;

use super::run_flow;
use crate::process::{Host, run as run_process};
use crate::steps::{Steps, out, say};

/// The agents of the workflow, in its order.
pub(super) const AGENTS: &[&str] = &["read-docs", "answer-question"];
/// Steps of this job.
pub(super) const STEPS: usize = 2;
/// What is asked where nobody asks.
const QUESTION: &str = "how do I add a store?";
/// The directory's capability: it is in no ceiling unless an operator puts it there.
pub(super) const DIRECTORY: &str = "fs:read:docs";

/// What the host has to be told: the directory that the agent reads.
pub(super) fn config() -> anyhow::Result<String> {
    // A JSON string is one of TOML's too.
    let docs = serde_json::to_string(&crate::root().join("docs").canonicalize()?)?;
    Ok(format!("[directories]\ndocs = {docs}\n"))
}

/// Asks, and shows the answer; the run's id.
pub(super) fn run(steps: &mut Steps, host: &Host, question: Option<&str>, folder: &Path) -> anyhow::Result<String> {
    let input = folder.join("question.txt");
    std::fs::write(&input, question.unwrap_or(QUESTION))?;
    let run = steps.step("The documents, read, and the question, answered", || run_flow(host, "ask-docs", &input))?;
    let id = run["run"].as_str().unwrap_or_default().to_owned();
    run_process(host.ltmc(&["runs", "show", &id]))?;
    // What is unchanged is not read anew.
    let again = steps.step("The question, asked again", || run_flow(host, "ask-docs", &input))?;
    let id = again["run"].as_str().unwrap_or_default().to_owned();
    run_process(host.ltmc(&["runs", "show", &id]))?;
    let markdown = again["output"]["json"]["markdown"].as_str().context("the answer has no `markdown`")?;
    say("");
    out(markdown.as_bytes());
    Ok(id)
}
