//! `ltmc repair`: the databases that follow the record, compared with it and put right.

use ltmc_coordination::Follower;
use ltmc_coordination::repair::{self, Outcome};
use serde_json::{Value, json};

use super::Context;
use crate::context::Databases;
use crate::exit::{Exit, Problem};
use crate::{ui, wire};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only compare, and say what differs
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    let config = &context.loaded.config;
    let client = context.client("operator");
    let found = match client {
        Ok(client) => {
            let asked = client.post("/v1/databases/repair", Some(&json!({"check": args.check}))).await;
            asked.and_then(|answer| answer.json())
        }
        Err(error) => Err(error),
    };
    let outcome: Value = match found {
        Ok(outcome) => outcome,
        // No host is running: the databases are led from here.
        Err(error) if crate::exit::exit_of(&error) == Exit::Unreached => {
            if !config.data.join("record.db").exists() {
                return Err(Problem::usage(format!("{} has no record", config.data.display()))
                    .help("name the host's data directory with --data, or the host with --url")
                    .into());
            }
            let databases = Databases::open(config)?;
            let record = wire::open_record(&config.data, databases.follow_runs()).await?;
            let followers: Vec<_> = databases
                .all()
                .into_iter()
                .map(|database| Follower::new(database, record.clone(), record.clone()))
                .collect();
            let progress = ui::Progress::start("Comparing the databases with the record");
            let outcome: Outcome = repair::repair(&followers, !args.check, &mut |_| {}).await;
            drop(progress);
            record.close().await;
            serde_json::to_value(&outcome)?
        }
        Err(error) => return Err(error),
    };
    if context.json {
        ui::json(&outcome);
    }
    let list = |field: &str| outcome[field].as_array().cloned().unwrap_or_default();
    let (mut differing, mut compared) = (0, 0);
    for report in list("reports") {
        let count = |field: &str| report[field].as_u64().unwrap_or_default();
        compared += count("compared");
        let (missing, different, extra) = (count("missing"), count("different"), count("extra"));
        if missing + different + extra == 0 {
            continue;
        }
        differing += missing + different + extra;
        if !context.json {
            let text = |field: &str| report[field].as_str().unwrap_or_default().to_owned();
            ui::line(format!(
                "{} tenant {} {}: {missing} missing, {different} different, {extra} extra",
                text("database"),
                text("tenant"),
                text("topic")
            ));
            for key in report["some"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                ui::line(format!("  {key}"));
            }
        }
    }
    let failed = list("failed");
    if !failed.is_empty() {
        let mut problem =
            Problem::new(Exit::Failed, "unavailable", "not every database could be compared [unavailable]");
        for one in &failed {
            let text = |index: usize| one[index].as_str().unwrap_or_default().to_owned();
            problem.details.push(format!("{}: {}", text(0), text(1)));
        }
        return Err(problem.help("see that it runs and can be reached, and try again").into());
    }
    match (differing, args.check) {
        (0, _) => {
            ui::note(format!("{compared} items compared: every database holds what the record holds."));
            Ok(())
        }
        (_, false) => {
            ui::note(format!("{differing} of {compared} items were put right."));
            Ok(())
        }
        (_, true) => {
            let message = format!("{differing} of {compared} items are not as the record has them [different]");
            Err(Problem::new(Exit::Failed, "different", message).help("`ltmc repair` puts them right").into())
        }
    }
}
