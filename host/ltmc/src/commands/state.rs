//! `ltmc agent state`, `release` and `set-state`: where an agent stands, what it was before, and what an admin does about it.

use console::style;
use ltmc_model::{AgentName, SessionId};
use serde_json::{Value, json};

use super::{Context, text};
use crate::client::encode;
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Whose {
    /// The agent's name
    agent: AgentName,
    /// In which session, where each has a state of its own
    #[arg(long)]
    session: Option<SessionId>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    whose: Whose,
    /// What it was before, the oldest first
    #[arg(long)]
    history: bool,
    /// Of the history at most so many
    #[arg(long, default_value_t = 100, requires = "history")]
    limit: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Release {
    #[command(flatten)]
    whose: Whose,
    /// Why; it stands in the audit
    #[arg(long)]
    reason: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    #[command(flatten)]
    whose: Whose,
    /// One of the declared states
    state: String,
    /// Its data, whole, as a JSON object
    #[arg(long = "with", value_name = "JSON", value_parser = data, default_value = "{}")]
    with: Value,
    /// Why; it stands in the audit
    #[arg(long)]
    reason: String,
}

fn data(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(data @ Value::Object(_)) => Ok(data),
        Ok(_) => Err("the data of a state is a JSON object, such as {\"total\": 0}".to_owned()),
        Err(e) => Err(format!("it is no JSON: {e}")),
    }
}

impl Whose {
    fn path(&self, more: &str) -> String {
        format!("/v1/agents/{}/state{more}", encode(self.agent.as_str()))
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        self.session.iter().map(|session| ("session", session.to_string())).collect()
    }
}

pub(crate) async fn show(show: Show, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    if show.history {
        let entries = client.list(&show.whose.path("/history"), &show.whose.query(), show.limit).await?;
        if context.json {
            entries.iter().for_each(ui::json);
            return Ok(());
        }
        let mut table = ui::Table::new(&["at", "from", "to", "by", "data"]);
        for entry in &entries {
            let by = ["event", "reason", "quarantined"].map(|field| text(entry, field));
            let otherwise = if entry["timed"] == true { "time" } else { "migration" };
            let by = by.into_iter().find(|by| !by.is_empty()).unwrap_or(otherwise);
            let data = ui::short(&entry["data"].to_string(), 60);
            table.row([
                text(entry, "at"),
                text(entry, "from"),
                text(entry, "state"),
                &ui::clean(by),
                &ui::clean(&data),
            ]);
        }
        table.print("Its state was never changed, or so long ago that the log has none of it any more.");
        return Ok(());
    }
    let session = show
        .whose
        .session
        .as_ref()
        .map_or_else(String::new, |session| format!("?session={}", encode(session.as_str())));
    let shown = client.get(&show.whose.path(&session)).await?;
    print(&shown, context.json);
    Ok(())
}

pub(crate) async fn release(release: Release, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    let Release { whose, reason } = release;
    let body = json!({"session": whose.session, "reason": reason});
    let shown = client.post(&whose.path("/release"), Some(&body)).await?.json()?;
    print(&shown, context.json);
    Ok(())
}

pub(crate) async fn set(set: Set, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    let Set { whose, state, with, reason } = set;
    let body = json!({"session": whose.session, "state": state, "data": with, "reason": reason});
    let shown = client.post(&whose.path("/set"), Some(&body)).await?.json()?;
    print(&shown, context.json);
    Ok(())
}

fn print(shown: &Value, as_json: bool) {
    if as_json {
        ui::json(shown);
        return;
    }
    let standing = text(shown, "standing");
    let colored = if standing == "sound" { style(standing).green() } else { style(standing).yellow() };
    ui::line(format!("{}  {colored}", style(ui::clean(text(shown, "state"))).bold()));
    ui::line(format!("  data      {}", ui::clean(&shown["data"].to_string())));
    ui::line(format!("  revision  {}, version {} of {}", shown["revision"], shown["version"], shown["declared"]));
    for (name, value) in [("since", text(shown, "since")), ("why", text(shown, "why"))] {
        if !value.is_empty() {
            ui::line(format!("  {name:<9} {}", ui::clean(value)));
        }
    }
    let due = &shown["due"];
    if due.is_object() {
        ui::line(format!("  ends      {}, then {}", text(due, "at"), text(due, "to")));
    }
}
