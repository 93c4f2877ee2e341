//! `cargo xtask demo`: everything from an empty machine to a job that is done.
//!
//! To add a job: a file here beside [`review`], [`ask_docs`], [`fix_issues`] and [`support_desk`], and a variant in [`Job`].

mod ask_docs;
mod databases;
mod fix_issues;
mod review;
mod support_desk;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::process::{Host, agents, cargo, output, run as run_process};
use crate::setup::{HOST, SERVERS};
use crate::steps::{Steps, say};
use databases::Databases;

#[derive(Clone, clap::Args)]
pub(crate) struct Args {
    /// What is done
    #[arg(value_enum, default_value_t = Job::Review)]
    job: Job,
    /// ask-docs: what is asked [default: how do I add a store?]
    #[arg(value_name = "QUESTION")]
    question: Option<String>,
    /// review: this unified diff rather than the last commits of this repository
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
    /// fix-issues: keep what the agents changed, without being asked
    #[arg(long)]
    yes: bool,
    /// fix-issues: do not keep it
    #[arg(long, conflicts_with = "yes")]
    no: bool,
    /// A review and an answer, with real Neo4j and Redis behind the host
    #[arg(long)]
    full: bool,
    /// Leave the host running, to look around
    #[arg(long, conflicts_with = "full")]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Job {
    /// Agents review a diff
    Review,
    /// Agents answer a question from this repository's documents
    AskDocs,
    /// Agents mend copies of this repository's documents, and a person says whether that is kept
    FixIssues,
    /// Agents hold a conversation, and hand it on to each other
    SupportDesk,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let jobs = args.jobs()?;
    crate::setup::packages(&if args.full { [HOST, SERVERS].concat() } else { HOST.to_vec() })?;
    let mut steps = Steps::new(2 + args.steps(&jobs));
    // The development build is optimised where it counts, and is there in half the time that a release build takes; without
    // what nothing here needs (see the features of `host/ltmc`) in much less.
    let mut host = vec!["build", "--workspace", "--bin", "ltmc", "--no-default-features"];
    if args.full {
        host.extend(["--features", "ltmc/neo4j,ltmc/redis"]);
    }
    steps.step("The host", || run_process(cargo(&host)))?;
    let ltmc = crate::target().join("debug/ltmc");
    let samples = crate::root().join("sample-agents");
    let components = steps.step("Sample agents, compiled to WebAssembly", || agents(&ltmc, &samples))?;
    play(&mut steps, args, &jobs, &ltmc, &components)?;
    steps.finish()
}

/// Does each job once, with a host and components that are built already.
pub(crate) fn every_job(ltmc: &Path, components: &[PathBuf]) -> anyhow::Result<()> {
    let plain = Args { job: Job::Review, question: None, diff: None, yes: false, no: false, full: false, keep: false };
    let all = [
        Args { ..plain.clone() },
        Args { job: Job::AskDocs, ..plain.clone() },
        Args { job: Job::FixIssues, no: true, ..plain.clone() },
        Args { job: Job::FixIssues, yes: true, ..plain.clone() },
        Args { job: Job::SupportDesk, ..plain },
    ];
    for args in all {
        let jobs = args.jobs()?;
        let mut steps = Steps::new(args.steps(&jobs));
        play(&mut steps, &args, &jobs, ltmc, components).with_context(|| format!("the demo's job {:?}", args.job))?;
        steps.finish()?;
    }
    Ok(())
}

/// Starts a host with the jobs' agents, has them done, and takes away what they left.
fn play(steps: &mut Steps, args: &Args, jobs: &[Job], ltmc: &Path, components: &[PathBuf]) -> anyhow::Result<()> {
    let review = jobs.contains(&Job::Review);
    let fix = jobs.contains(&Job::FixIssues).then(|| fix_issues::Answer::of(args.yes, args.no)).transpose()?;
    let folder = crate::target().join("demo");
    std::fs::create_dir_all(&folder)?;
    let diff = review.then(|| review::diff(steps, args.diff.as_deref(), &folder)).transpose()?;
    let data = folder.join(format!("data-{}", std::process::id()));
    let databases = args
        .full
        .then(|| steps.step("Neo4j and Redis", || Databases::start(&data.with_extension("databases"))))
        .transpose()?;
    let work = fix.map(|_| fix_issues::Work::copy(fix_issues::place(&folder))).transpose()?;
    let mut host = steps.step("A host, with the agents", || {
        let mut config = databases.as_ref().map(Databases::config).unwrap_or_default();
        if jobs.contains(&Job::AskDocs) {
            config += &ask_docs::config()?;
        }
        if let Some(work) = &work {
            config += &work.config()?;
        }
        let config = Some(config.as_str()).filter(|config| !config.is_empty());
        let host = Host::start(ltmc, &data, config, args.keep)?;
        say(format!("  listens on {}", host.url));
        for job in jobs {
            match job {
                Job::Review => {
                    deploy(&host, components, review::AGENTS, "review")?;
                    deploy(&host, components, &[], review::REFERENCE)?;
                }
                Job::AskDocs => {
                    allow(&host, &[ask_docs::DIRECTORY])?;
                    deploy(&host, components, ask_docs::AGENTS, "ask-docs")?;
                }
                Job::FixIssues => {
                    allow(&host, &fix_issues::DIRECTORY)?;
                    deploy(&host, components, fix_issues::AGENTS, "fix-issues")?;
                }
                Job::SupportDesk => {
                    deploy(&host, components, support_desk::AGENTS, "support-desk")?;
                }
            }
        }
        Ok(host)
    })?;
    let mut runs = Vec::new();
    if let Some(diff) = &diff {
        runs.push(review::run(steps, &host, diff, &folder)?);
    }
    if jobs.contains(&Job::AskDocs) {
        runs.push(ask_docs::run(steps, &host, args.question.as_deref(), &folder)?);
    }
    if let (Some(work), Some(answer)) = (&work, fix) {
        runs.push(fix_issues::run(steps, &host, work, answer)?);
    }
    if jobs.contains(&Job::SupportDesk) {
        support_desk::run(steps, &mut host)?;
    }
    if let Some(databases) = &databases {
        databases.show(steps, &host)?;
    }
    look_around(&host, &runs, args);
    drop(host);
    if !args.keep {
        let _ = std::fs::remove_dir_all(&data);
        let _ = std::fs::remove_dir_all(fix_issues::place(&folder));
        for ending in ["log", "toml"] {
            let _ = std::fs::remove_file(data.with_extension(ending));
        }
    }
    drop(databases);
    Ok(())
}

impl Args {
    /// How many steps it takes, without building.
    fn steps(&self, jobs: &[Job]) -> usize {
        let of = |job: &Job| match job {
            Job::Review => review::STEPS,
            Job::AskDocs => ask_docs::STEPS,
            Job::FixIssues => fix_issues::STEPS,
            Job::SupportDesk => support_desk::STEPS,
        };
        1 + jobs.iter().map(of).sum::<usize>() + if self.full { databases::STEPS } else { 0 }
    }

    fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        if self.full && !(self.yes || self.no) {
            return Ok(vec![Job::Review, Job::AskDocs]);
        }
        if self.job == Job::FixIssues && (self.question.is_some() || self.diff.is_some()) {
            bail!("fix-issues is given nothing but --yes or --no");
        }
        if self.job == Job::SupportDesk && (self.question.is_some() || self.diff.is_some()) {
            bail!("support-desk is given nothing");
        }
        if self.job != Job::FixIssues && (self.yes || self.no) {
            bail!("--yes and --no answer what fix-issues asks: `cargo xtask demo fix-issues --yes`");
        }
        if self.job == Job::Review && self.question.is_some() {
            bail!("a review is asked nothing: `cargo xtask demo ask-docs \"…\"` is");
        }
        if self.job == Job::AskDocs && self.diff.is_some() {
            bail!("--diff is for a review: `cargo xtask demo review --diff F`");
        }
        Ok(vec![self.job])
    }
}

/// Lets the tenant have these capabilities besides those that it has.
fn allow(host: &Host, capabilities: &[&str]) -> anyhow::Result<()> {
    let mut command = host.ltmc(&["ceiling", "set", "default", "--wall", "2m", "--cpu", "10s"]);
    for capability in capabilities {
        command.args(["--add", capability]);
    }
    run_process(command)
}

/// Uploads a workflow and its agents.
fn deploy(host: &Host, components: &[PathBuf], agents: &[&str], flow: &str) -> anyhow::Result<()> {
    for name in agents {
        let component = component(components, name)?;
        let component = component.to_string_lossy();
        let pushed = host.ltmc(&["push", &component, "--name", name, "--grant", "asked", "--json"]);
        let agent: Value = serde_json::from_slice(&output(pushed)?)?;
        say(format!("  pushed {name:<20} granted: {}", texts(&agent["grants"])));
    }
    let flow = crate::root().join("sample-agents").join(format!("{flow}.yaml"));
    run_process(host.ltmc(&["flow", "push", &flow.to_string_lossy()]))
}

/// Runs a workflow; what `--json` says of the run.
fn run_flow(host: &Host, flow: &str, input: &Path) -> anyhow::Result<Value> {
    let run = host.ltmc(&["flow", "run", flow, "--input", &input.to_string_lossy(), "--json"]);
    serde_json::from_slice::<Value>(&output(run)?).context("`ltmc flow run --json` printed something else")
}

fn look_around(host: &Host, runs: &[String], args: &Args) {
    if args.full {
        say("\nThe host stops now, and its databases with it.");
        return;
    }
    if !args.keep {
        say(
            "\nThe host stops now, and its data goes; `cargo xtask demo --keep` leaves it running, and says how to look around.",
        );
        return;
    }
    say("\nLook around:");
    let data = shown(&host.data);
    let ltmc = shown(&crate::target().join("debug/ltmc"));
    for id in runs {
        for what in ["show", "journal", "events"] {
            say(format!("  {ltmc} runs {what} {id} --data {data}"));
        }
        say(format!("  {}/v1/runs/{id}   (key: [default] in {data}/credentials.toml)", host.url));
    }
    say(format!("\nThe host goes on (process {}); `kill {}` ends it.", host.id(), host.id()));
}

fn component<'a>(components: &'a [PathBuf], name: &str) -> anyhow::Result<&'a Path> {
    let is = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().replace('_', "-") == name);
    match components.iter().find(is) {
        Some(path) => Ok(path),
        None => bail!("sample-agents built no component `{name}`, but {components:?}"),
    }
}

fn texts(list: &Value) -> String {
    let texts: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if texts.is_empty() { "nothing".into() } else { texts.join(" ") }
}

/// A path as people type it from the root.
fn shown(path: &Path) -> String {
    path.strip_prefix(crate::root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Demo {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_review_is_what_nobody_names_and_full_is_everything() {
        let jobs = |words: &[&str]| {
            let demo = Demo::try_parse_from(["demo"].iter().chain(words)).map_err(|e| e.to_string())?;
            demo.args.jobs().map_err(|e| e.to_string())
        };
        for words in [&[][..], &["--keep"], &["review"], &["--diff", "F"], &["review", "--diff", "F", "--keep"]] {
            assert_eq!(jobs(words), Ok(vec![Job::Review]), "{words:?}");
        }
        for words in [&["fix-issues"][..], &["fix-issues", "--yes"], &["fix-issues", "--no", "--keep"]] {
            assert_eq!(jobs(words), Ok(vec![Job::FixIssues]), "{words:?}");
        }
        assert_eq!(jobs(&["support-desk"]), Ok(vec![Job::SupportDesk]));
        for words in [
            &["support-desk", "why?"][..],
            &["--yes"],
            &["fix-issues", "--yes", "--no"],
            &["fix-issues", "why?"],
            &["--full", "--no"],
        ] {
            assert!(jobs(words).is_err(), "{words:?}");
        }
        for words in [&["ask-docs"][..], &["ask-docs", "why?"], &["ask-docs", "why?", "--keep"]] {
            assert_eq!(jobs(words), Ok(vec![Job::AskDocs]), "{words:?}");
        }
        for words in [&["--full"][..], &["ask-docs", "why?", "--full"], &["--full", "--diff", "F"]] {
            assert_eq!(jobs(words), Ok(vec![Job::Review, Job::AskDocs]), "{words:?}");
        }
        for words in [&["why?"][..], &["review", "why?"], &["ask-docs", "why?", "--diff", "F"], &["--full", "--keep"]] {
            assert!(jobs(words).is_err(), "{words:?}");
        }
    }
}
