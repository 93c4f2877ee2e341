//! `ltmc schedules`: when workflows are started by themselves.

use console::style;
use ltmc_model::WorkflowName;
use ltmc_model::schedule::ScheduleId;
use serde_json::Value;

use super::{Context, call, text};
use crate::client::{Client, encode};
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List them, with their next five times
    List {
        /// Of this workflow
        #[arg(long)]
        workflow: Option<WorkflowName>,
    },
    /// Let one start nothing until it is continued
    Pause(Which),
    /// Let one that is paused start runs again, in your key's name
    Continue(Which),
    /// Start a run of one at once, beside its times
    Run(Which),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// WORKFLOW/NUMBER, as the list shows it; the first of a workflow by its name alone
    #[arg(value_name = "SCHEDULE", value_parser = which)]
    schedule: ScheduleId,
}

fn which(text: &str) -> Result<ScheduleId, String> {
    if text.contains('/') { text.parse() } else { format!("{text}/1").parse() }
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    match command {
        Command::List { workflow } => list(&client, workflow, context.json).await,
        Command::Pause(Which { schedule }) => {
            client.post(&path(&schedule, "pause"), None).await?;
            ui::note(format!("Paused {schedule}: it starts nothing until `ltmc schedules continue {schedule}`."));
            Ok(())
        }
        Command::Continue(Which { schedule }) => {
            client.post(&path(&schedule, "continue"), None).await?;
            ui::note(format!("{schedule} goes on."));
            Ok(())
        }
        Command::Run(Which { schedule }) => {
            let answer = client.post(&path(&schedule, "run-now"), None).await?;
            call::started(&answer.run()?, context.json);
            Ok(())
        }
    }
}

fn path(schedule: &ScheduleId, verb: &str) -> String {
    format!("/v1/schedules/{}/{}/{verb}", encode(schedule.workflow.as_str()), schedule.number)
}

async fn list(client: &Client, workflow: Option<WorkflowName>, as_json: bool) -> anyhow::Result<()> {
    let query: Vec<_> = workflow.iter().map(|workflow| ("workflow", workflow.to_string())).collect();
    let found = client.list("/v1/schedules", &query, usize::MAX).await?;
    if as_json {
        found.iter().for_each(ui::json);
        return Ok(());
    }
    if found.is_empty() {
        ui::note("No schedules: a workflow's document has them under `on`.");
    }
    found.iter().for_each(show);
    Ok(())
}

fn show(schedule: &Value) {
    let name = format!("{}/{}", text(schedule, "workflow"), schedule["number"]);
    let (cron, zone) = (text(schedule, "schedule"), text(schedule, "zone"));
    let state = if schedule["paused"].is_object() { style("paused").yellow() } else { style("on").green() };
    ui::line(format!("{}  {cron}  {zone}  {state}", style(name).bold()));
    let count = |field: &str| schedule[field].as_u64().unwrap_or_default();
    let (started, skipped, missed) = (count("started"), count("skipped"), count("missed"));
    let by = schedule["by"].as_str().unwrap_or("nobody");
    ui::line(format!("  {started} started, {skipped} skipped, {missed} missed; in the name of {by}"));
    let paused = &schedule["paused"];
    if paused.is_object() {
        let by = paused["by"].as_str().map_or_else(|| "by the host".to_owned(), |by| format!("by {by}"));
        let why = paused["why"].as_str().map_or_else(String::new, |why| format!(": {}", ui::clean(why)));
        ui::line(format!("  paused at {} {by}{why}", text(paused, "at")));
    }
    if let Some(until) = schedule["until"].as_str() {
        ui::line(format!("  until {until}"));
    }
    let last = &schedule["last"];
    if last.is_object() {
        ui::line(format!("  last {}  run {}", text(last, "tick"), text(last, "run")));
    }
    let trouble = &schedule["trouble"];
    if trouble.is_object() {
        let (tick, outcome) = (text(trouble, "tick"), text(trouble, "outcome"));
        ui::line(format!("  {tick} {}: {}", style(outcome).red(), ui::clean(text(trouble, "why"))));
    }
    for tick in schedule["next"].as_array().into_iter().flatten() {
        ui::line(format!("  next {}  {}", text(tick, "at"), text(tick, "local")));
    }
}
