//! `ltmc audit`: the chain of everything that was recorded, and what was done to a tenant's things.

use std::path::PathBuf;

use ltmc_model::chain::Link;
use ltmc_ports::Clock as _;
use ltmc_ports::journal::Kept;
use serde_json::{Value, json};

use super::{Context, text};
use crate::exit::{Exit, Problem};
use crate::wire::SystemClock;
use crate::{anchors, record, ui};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what was done, the newest first: keys, grants, ceilings, agents, workflows, shared context, and who was refused
    List {
        /// Only what this key did
        #[arg(long, value_name = "KEY-ID")]
        by: Option<String>,
        /// Only acts of this kind, such as grants-set, key-created, refused
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Walk the whole chain of every tenant of a data directory: where it breaks, what of the catalog and of runs is not as it says,
    /// and how it ends. Changes nothing; a host may run meanwhile
    Verify {
        /// The hash at a chain's end, as an earlier `verify` printed it: it has to stand in the chain still
        #[arg(long, value_name = "HASH")]
        since: Vec<Link>,
        /// A file of heads that were kept elsewhere (`audit.anchor_file`, or the bodies that a webhook was sent, a line each): all of
        /// them have to stand in the chains still
        #[arg(long, value_name = "FILE")]
        anchors: Vec<PathBuf>,
    },
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    match command {
        Command::List { by, action, limit } => list(&context, by, action, limit).await,
        Command::Verify { since, anchors } => verify(&context, since, &anchors).await,
    }
}

async fn list(context: &Context, by: Option<String>, action: Option<String>, limit: usize) -> anyhow::Result<()> {
    let client = context.client("default")?;
    let query: Vec<(&str, String)> =
        [("by", by), ("action", action)].into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let acts = client.list("/v1/audit", &query, limit).await?;
    if context.json {
        acts.iter().for_each(ui::json);
        return Ok(());
    }
    let mut table = ui::Table::new(&["number", "at", "by", "action", "subject", "detail"]);
    for act in &acts {
        let detail = act.get("detail").filter(|detail| **detail != json!({})).map(Value::to_string);
        table.row([
            act["number"].to_string(),
            text(act, "at").to_owned(),
            act["by"].as_str().unwrap_or("-").to_owned(),
            text(act, "action").to_owned(),
            ui::short(text(act, "subject"), 60),
            ui::short(&detail.unwrap_or_default(), 100),
        ]);
    }
    table.print("Nothing was done.");
    Ok(())
}

async fn verify(context: &Context, since: Vec<Link>, files: &[PathBuf]) -> anyhow::Result<()> {
    let config = &context.loaded.config;
    let record = record::of(config);
    if !record.exists() {
        return Err(Problem::usage(format!("{} has no record", config.data.display()))
            .help("name the host's data directory with --data")
            .into());
    }
    let mut kept = Kept { since, anchors: Vec::new(), now: Some(SystemClock.now()) };
    for path in files {
        let (found, unread) = anchors::read(path)?;
        kept.anchors.extend(found);
        if let [first, ..] = unread[..] {
            let (count, path) = (unread.len(), path.display());
            ui::note(format!("{path}: {count} lines are no heads of chains, the first is line {first}"));
        }
    }
    let progress = ui::Progress::start("Walking the chain");
    let audit = record.audit(kept).await;
    drop(progress);
    let audit = audit.map_err(record::explained)?;
    if context.json {
        ui::json(
            &json!({"verified": audit.verified, "damage": audit.damage, "heads": audit.heads, "anchors": audit.anchors, "others": audit.others}),
        );
    } else {
        let mut table = ui::Table::new(&["tenant", "entries", "hash of the last"]);
        for head in &audit.heads {
            table.row([head.tenant.to_string(), head.length.to_string(), head.hash.to_string()]);
        }
        table.print("Nothing was recorded.");
    }
    for (record, lines) in &audit.others {
        ui::note(format!(
            "{lines} lines are about the record {record} and not about this one; they were not looked for. If no other host appends to \
             that file, this record was put in the place of that one."
        ));
    }
    if audit.damage.is_empty() {
        ui::note(format!("{} entries verified: the chain is whole.", audit.verified));
        if audit.anchors > 0 {
            ui::note(format!("{} heads that were kept elsewhere stand in the chains.", audit.anchors));
            return Ok(());
        }
        ui::note(
            "Keep a hash elsewhere: `ltmc audit verify --since HASH` tells whether anything up to it was changed since.",
        );
        return Ok(());
    }
    let mut problem = Problem::new(Exit::Failed, "damaged", "the record is not as it was written [damaged]");
    for damage in &audit.damage {
        let run = damage.run.map(|run| format!(", run {run}")).unwrap_or_default();
        let entry = damage.seq.map(|seq| format!(", entry {seq}")).unwrap_or_default();
        let place = damage.tenant.as_ref().map_or("in no chain".into(), |tenant| format!("tenant {tenant}"));
        problem.details.push(format!("{place}{run}{entry}: {}", damage.what));
    }
    Err(problem.help("keep the files as they are, and restore the record from a copy").into())
}
