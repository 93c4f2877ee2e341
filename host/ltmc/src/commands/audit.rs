//! `ltmc audit`: the chain of everything that was recorded.

use serde_json::json;

use super::Context;
use crate::exit::{Exit, Problem};
use crate::{record, ui};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Walk the whole chain of every tenant, and say where it breaks. Changes nothing; a host may run meanwhile
    Verify,
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let Command::Verify = command;
    let data = &context.loaded.config.data;
    if !record::exists(data) {
        return Err(Problem::usage(format!("{} has no record", data.display()))
            .help("name the host's data directory with --data")
            .into());
    }
    let progress = ui::Progress::start("Walking the chain");
    let audit = record::audit(data).await;
    drop(progress);
    let audit = audit?;
    if context.json {
        ui::json(&json!({"verified": audit.verified, "damage": audit.damage}));
    }
    if audit.damage.is_empty() {
        ui::note(format!("{} entries verified: the chain is whole.", audit.verified));
        return Ok(());
    }
    let mut problem = Problem::new(Exit::Failed, "damaged", "the record is not as it was written [damaged]");
    for damage in &audit.damage {
        let run = damage.run.map(|run| format!(", run {run}")).unwrap_or_default();
        let entry = damage.seq.map(|seq| format!(", entry {seq}")).unwrap_or_default();
        problem.details.push(format!("tenant {}{run}{entry}: {}", damage.tenant, damage.what));
    }
    Err(problem.help("keep the files as they are, and restore the record from a copy").into())
}
