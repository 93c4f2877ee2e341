//! `ltmc flow test`: a workflow, tried with agents whose parts are played from a file. No host is needed, and nobody waits: pauses,
//! back-offs and time-outs pass at once.
//!
//! - [`stage`]: a run of one case, by the host's own engine and patterns
//! - [`events`]: what others publish meanwhile, and what it publishes
//! - [`people`]: who answers the questions of a run
//! - [`verdict`]: what came of it, held against what was to come

mod events;
mod people;
mod stage;
mod verdict;

use std::path::{Path, PathBuf};

use console::style;
use ltmc_model::workflow::cases::{Case, Cases};
use serde_json::json;

use super::source::Source;
use crate::commands::Context;
use crate::exit::{Exit, Problem};
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The document, YAML or JSON
    #[arg(value_name = "F.yaml")]
    file: PathBuf,
    /// What is tried with it [default: F.test.yaml beside it]
    #[arg(value_name = "TESTS.yaml")]
    tests: Option<PathBuf>,
    /// Only cases with this in their name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

pub(super) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    // On a thread that may wait: each case has a runtime with a time of its own.
    tokio::task::spawn_blocking(move || try_all(&args, context.json)).await?
}

fn try_all(args: &Args, as_json: bool) -> anyhow::Result<()> {
    let source = Source::read(&args.file)?;
    let document = source.document()?;
    let tests = Source::read(&args.tests.clone().unwrap_or_else(|| beside(&args.file)))?;
    let Cases(cases) = Cases::parse(&tests.text, &document).map_err(|faults| tests.problem("bad-cases", &faults.0))?;
    let wanted = |case: &&Case| args.only.as_ref().is_none_or(|text| case.name.contains(text.as_str()));
    let cases: Vec<&Case> = cases.iter().filter(wanted).collect();
    if cases.is_empty() {
        return Err(Problem::usage(format!("{} has no such case", tests.shown)).into());
    }
    let mut failed = 0;
    for case in &cases {
        let played = stage::play(&document, case)?;
        let differences = verdict::differences(&document, case, &played);
        failed += usize::from(!differences.is_empty());
        if as_json {
            ui::json(&json!({
                "case": case.name, "passed": differences.is_empty(), "differences": differences,
                "calls": played.calls.len(), "took_ms": u64::try_from(played.took.as_millis()).unwrap_or(u64::MAX),
            }));
            continue;
        }
        let took = ui::span(u64::try_from(played.took.as_micros()).unwrap_or(u64::MAX));
        let mark = if differences.is_empty() { style("✓").green() } else { style("✗").red() };
        let about = style(format!("{} calls, {took} of its own time", played.calls.len())).dim();
        ui::line(format!("{mark} {}  {about}", ui::clean(&case.name)));
        if !differences.is_empty() {
            ui::line(format!("    {}:{}", tests.shown, case.place.line));
        }
        differences.iter().for_each(|difference| ui::line(format!("    {}", ui::clean(difference))));
    }
    let all = cases.len();
    if failed > 0 {
        let message = format!("{failed} of {all} cases came out otherwise [case-failed]");
        return Err(Problem::new(Exit::Failed, "case-failed", message).into());
    }
    if !as_json {
        ui::note(format!("{all} case{} came out as expected.", if all == 1 { "" } else { "s" }));
    }
    Ok(())
}

/// `review.yaml` is tried with `review.test.yaml`.
fn beside(file: &Path) -> PathBuf {
    let extension = file.extension().map_or_else(|| "yaml".to_owned(), |e| e.to_string_lossy().into_owned());
    file.with_extension(format!("test.{extension}"))
}

#[cfg(test)]
mod tests;
