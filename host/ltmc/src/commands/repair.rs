//! `ltmc repair`: the databases that follow the record, compared with it and put right.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use ltmc_projections::Follower;
use ltmc_projections::repair::{self, Outcome};
use serde_json::{Value, json};

use super::Context;
use crate::client::Client;
use crate::databases::Databases;
use crate::exit::{Exit, Problem};
use crate::ui;

/// How often what the host does is looked at.
const LOOK: Duration = Duration::from_millis(500);
const COMPARING: &str = "Comparing the databases with the record";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only compare, and say what differs
    #[arg(long)]
    check: bool,
    /// Have databases that follow another record follow this one from now on; the host is to be stopped
    #[arg(long, conflicts_with = "check")]
    rebind: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    let found = match context.client("operator") {
        // What a host has done with its databases is not changed under it.
        Ok(client) if args.rebind && runs(&client).await => {
            let message = "a host is running: stop it before its databases are bound to its record";
            return Err(Problem::usage(message.to_owned()).into());
        }
        Ok(client) => {
            let body = json!({"check": args.check});
            let asked = async { client.post("/v1/databases/repair", Some(&body)).await?.json() };
            tokio::select! {
                biased;
                outcome = asked => outcome,
                never = show(&client) => match never {},
            }
        }
        Err(error) => Err(error),
    };
    let outcome: Value = match found {
        Ok(outcome) => outcome,
        // No host is running: the databases are led from here.
        Err(error) if crate::exit::exit_of(&error) == Exit::Unreached => match led_from_here(&args, &context).await? {
            Some(outcome) => serde_json::to_value(&outcome)?,
            None => return nothing_follows(&context, args.rebind),
        },
        Err(error) => return Err(error),
    };
    if context.json {
        ui::json(&outcome);
    }
    told(&outcome, args.check, context.json)
}

/// Compares what follows the record, and puts it right, without a host; none: nothing follows it.
async fn led_from_here(args: &Args, context: &Context) -> anyhow::Result<Option<Outcome>> {
    let config = &context.loaded.config;
    if !crate::record::of(config).exists() {
        return Err(Problem::usage(format!("{} has no record", config.data.display()))
            .help("name the host's data directory with --data, or the host with --url")
            .into());
    }
    let databases = Databases::open(config)?;
    if databases.all().is_empty() {
        return Ok(None);
    }
    let record = crate::record::open(config, databases.follow_runs()).await?;
    let followers: Vec<_> =
        databases.all().into_iter().map(|database| Follower::new(database, record.clone(), record.clone())).collect();
    let progress = ui::Progress::start(COMPARING);
    if args.rebind {
        for follower in &followers {
            let name = follower.name();
            follower.take().await.map_err(|error| {
                Problem::failed(format!("{name} cannot be bound to this record: {}", error.reason()))
            })?;
        }
    }
    let mut say = |report: &repair::Report| {
        let repair::Report { database, tenant, topic, found } = report;
        let (topic, compared) = (topic.as_str(), found.compared);
        progress.say(format!("{COMPARING}: {database}, tenant {tenant}, {topic}: {compared} items"));
    };
    let outcome = repair::repair(&followers, !args.check, &mut say).await;
    drop(progress);
    record.close().await;
    Ok(Some(outcome))
}

/// Says what was found, and what was done about it.
fn told(outcome: &Value, is_check: bool, as_json: bool) -> anyhow::Result<()> {
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
        if !as_json {
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
    match (differing, is_check) {
        (0, _) if list("reports").is_empty() => {
            ui::note("There is nothing to compare: no tenant has anything that a database would hold.");
            Ok(())
        }
        (0, _) => {
            let reports = list("reports");
            let names: BTreeSet<&str> = reports.iter().filter_map(|report| report["database"].as_str()).collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            ui::note(format!("{compared} items of {names} compared: all is as the record has it."));
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

/// No database is configured: there is nothing to repair, and nothing to be bound.
fn nothing_follows(context: &Context, rebind: bool) -> anyhow::Result<()> {
    let what = "no database is configured (graph.url, redis.url): everything is in the record";
    if rebind {
        return Err(Problem::usage(format!("{what}, and there is none to bind to it")).into());
    }
    if context.json {
        ui::json(&serde_json::to_value(Outcome::default())?);
    }
    ui::note(format!("There is nothing to repair: {what}. The index of notes is compared by a host that runs."));
    Ok(())
}

/// Whether a host answers, whatever it says.
async fn runs(client: &Client) -> bool {
    match client.get("/v1/databases").await {
        Ok(_) => true,
        Err(error) => crate::exit::exit_of(&error) != Exit::Unreached,
    }
}

/// Shows what the host compares, for as long as it is polled.
async fn show(client: &Client) -> Infallible {
    let progress = ui::Progress::start(COMPARING);
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(found) = client.get("/v1/databases").await else { continue };
        let mut databases = found.as_array().into_iter().flatten();
        let text = databases.find_map(|database| {
            let [tenant, topic, count] = database["comparing"].as_array()?.as_slice() else { return None };
            let (name, tenant, topic) = (database["name"].as_str()?, tenant.as_str()?, topic.as_str()?);
            Some(format!("Comparing {name} with the record: tenant {tenant}, {topic}, {count} items so far"))
        });
        if let Some(text) = text {
            progress.say(text);
        }
    }
}
