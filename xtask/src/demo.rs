//! `cargo xtask demo`: everything from an empty machine to a review of a real diff.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::process::{Host, cargo, output, run as run_process};
use crate::steps::{Steps, out, say};

/// The agents of the workflow, in its order.
const AGENTS: &[&str] = &["read-diff", "scan-secrets", "measure-complexity", "audit-dependencies", "write-report"];
/// The most of a diff, in bytes, that makes a good demonstration: so many of the last commits are taken as fit in it.
const ENOUGH: usize = 1 << 20;
/// The most commits.
const COMMITS: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Review this unified diff rather than the last commits of this repository
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
    /// Leave the host running, to look around
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    crate::setup::packages(crate::setup::HOST)?;
    let mut steps = Steps::new(6);
    let components = steps.step("Sample agents, compiled to WebAssembly", crate::test::sample_agents)?;
    // The build that the tests use: optimised where it counts, and half the time of a release build from nothing.
    steps.step("The host", || run_process(cargo(&["build", "--workspace", "--bin", "ltmc"])))?;
    let (diff, about) = steps.step("A diff to review", || diff(args.diff.as_deref()))?;
    say(format!("  {about}, {} lines", diff.lines().count()));

    let folder = crate::target().join("demo");
    std::fs::create_dir_all(&folder)?;
    let input = folder.join("review.diff");
    std::fs::write(&input, &diff)?;
    let host = steps.step("A host, with the agents", || {
        let data = folder.join(format!("data-{}", std::process::id()));
        let host = Host::start(&crate::target().join("debug/ltmc"), &data, args.keep)?;
        say(format!("  listens on {}", host.url));
        for name in AGENTS {
            let component = component(&components, name)?;
            let component = component.to_string_lossy();
            let pushed = host.ltmc(&["push", &component, "--name", name, "--grant", "asked", "--json"]);
            let agent: Value = serde_json::from_slice(&output(pushed)?)?;
            say(format!("  pushed {name:<20} granted: {}", texts(&agent["grants"])));
        }
        let flow = crate::root().join("sample-agents/review.yaml");
        run_process(host.ltmc(&["flow", "push", &flow.to_string_lossy()]))?;
        Ok(host)
    })?;
    let run = steps.step("The review", || {
        let run = host.ltmc(&["flow", "run", "review", "--input", &input.to_string_lossy(), "--json"]);
        serde_json::from_slice::<Value>(&output(run)?).context("`ltmc flow run --json` printed something else")
    })?;
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
    say("\nLook around:");
    let data = shown(&host.data);
    let ltmc = shown(&crate::target().join("debug/ltmc"));
    for what in ["show", "journal", "events"] {
        say(format!("  {ltmc} runs {what} {id} --data {data}"));
    }
    say(format!("  {}/v1/runs/{id}   (key: [default] in {data}/credentials.toml)", host.url));
    if args.keep {
        say(format!("\nThe host goes on (process {}); `kill {}` ends it.", host.id(), host.id()));
    } else {
        say("\nThe host stops now; `cargo xtask demo --keep` leaves it running for that.");
    }
    let (data, keep) = (host.data.clone(), args.keep);
    drop(host);
    if !keep {
        let _ = std::fs::remove_dir_all(&data);
        let _ = std::fs::remove_file(data.with_extension("log"));
    }
    steps.finish()
}

/// The diff, and what it is of.
fn diff(file: Option<&Path>) -> anyhow::Result<(String, String)> {
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

fn component<'a>(components: &'a [PathBuf], name: &str) -> anyhow::Result<&'a Path> {
    let is = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().replace('_', "-") == name);
    match components.iter().find(is) {
        Some(path) => Ok(path),
        None => bail!("sample-agents built no component `{name}`, but {components:?}"),
    }
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

fn texts(list: &Value) -> String {
    let texts: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if texts.is_empty() { "nothing".into() } else { texts.join(" ") }
}

/// A path as people type it from the root.
fn shown(path: &Path) -> String {
    path.strip_prefix(crate::root()).unwrap_or(path).display().to_string()
}
