//! `ltmc subscriptions`: which events start agents and workflows, and what became of those that did not.

use console::style;
use ltmc_model::AgentName;
use ltmc_model::trigger::TriggerId;
use serde_json::Value;

use super::{Context, input, text};
use crate::client::{Client, encode};
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Start an agent or a workflow by each event of a topic that fits
    Put(Box<Put>),
    /// Let an agent be woken by what its manifest asks for
    Accept {
        /// The agent
        agent: AgentName,
    },
    /// List them
    List,
    /// Show one, with how far it is behind its topic
    Show(Which),
    /// Let one start nothing until it is continued
    Pause(Which),
    /// Let one that is paused go on, in your key's name
    Continue(Which),
    /// Delete one, with the events that wait
    Rm(Which),
    /// Let one look through its topic anew; what it has seen starts nothing again
    Replay {
        #[command(flatten)]
        which: Which,
        /// After which place of the topic; 0: all that is kept
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Also what it has seen starts runs again
        #[arg(long)]
        force: bool,
    },
    /// List events of one that wait, are under way, or came to nothing
    Events {
        #[command(flatten)]
        which: Which,
        /// Only dead letters
        #[arg(long)]
        dead: bool,
    },
    /// Let an event that came to nothing start a run anew
    Release(Letter),
    /// Throw an event away that came to nothing
    Skip(Letter),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    #[command(flatten)]
    which: Which,
    /// The topic
    #[arg(long, conflicts_with = "memory", required_unless_present = "memory")]
    topic: Option<String>,
    /// In place of a topic: changes of memory, of keys that begin with this
    #[arg(long, value_name = "PREFIX")]
    memory: Option<String>,
    /// In which scope of memory: global, agent or session [default: global]
    #[arg(long, requires = "memory")]
    scope: Option<String>,
    /// Which agent's memory, or which session's
    #[arg(long, requires = "scope")]
    owner: Option<String>,
    /// Which of its events, in JSON, or @FILE that holds it: {"prefix": {"type": "report."}} [default: all]
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
    /// The agent that each starts
    #[arg(long, conflicts_with = "workflow", required_unless_present = "workflow")]
    agent: Option<String>,
    /// The workflow that each starts
    #[arg(long)]
    workflow: Option<String>,
    /// How many runs are under way at once [default: 8]
    #[arg(long)]
    at_once: Option<u32>,
    /// What becomes of an event whose run failed: park-key or skip [default: park-key]
    #[arg(long)]
    on_poison: Option<String>,
    /// How many runs start in how long, in JSON: {"starts": 10, "per": "1m"}
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// The last event of a key starts a run, once no other came for so long, such as 5s
    #[arg(long, value_name = "TIME", conflicts_with_all = ["batch", "join"])]
    debounce: Option<String>,
    /// So many events of a key start a run, or what there is after a time, in JSON: {"events": 20, "within": "10s"}
    #[arg(long, value_name = "BATCH", conflicts_with = "join")]
    batch: Option<String>,
    /// Events that belong together start a run, in JSON, or @FILE that holds it: {"of": {NAME: FILTER, …}, "by": "$.data.order", "within": "1h"}
    #[arg(long, value_name = "JOIN")]
    join: Option<String>,
    /// After which place of the topic it begins, where it is new; 0: with all that is kept [default: from now on]
    #[arg(long)]
    after: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Its name, as the list shows it
    #[arg(value_name = "SUBSCRIPTION")]
    name: TriggerId,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Letter {
    #[command(flatten)]
    which: Which,
    /// The event's place, as `ltmc subscriptions events` shows it
    place: u64,
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    match command {
        Command::Put(put) => {
            let path = path(&put.which.name, "");
            let answer = client.put(&path, &put.document()?).await?;
            shown(&answer.json()?, context.json);
            Ok(())
        }
        Command::Accept { agent } => {
            let names = accept(&client, agent.as_str()).await?;
            match (context.json, names.is_empty()) {
                (true, _) => ui::json(&serde_json::json!({"subscriptions": names})),
                (false, true) => ui::note(format!("{agent} asks to be woken by nothing.")),
                (false, false) => ui::note(format!("{agent} is woken by {}.", names.join(", "))),
            }
            Ok(())
        }
        Command::List => {
            let found = client.list("/v1/subscriptions", &[], usize::MAX).await?;
            if found.is_empty() && !context.json {
                ui::note(
                    "No subscriptions: `ltmc subscriptions put` makes one, and a workflow's document has them under `on`.",
                );
            }
            found.iter().for_each(|one| shown(one, context.json));
            Ok(())
        }
        Command::Show(Which { name }) => {
            shown(&client.get(&path(&name, "")).await?, context.json);
            Ok(())
        }
        Command::Pause(Which { name }) => {
            client.post(&path(&name, "/pause"), None).await?;
            ui::note(format!("Paused {name}: it starts nothing until `ltmc subscriptions continue {name}`."));
            Ok(())
        }
        Command::Continue(Which { name }) => {
            client.post(&path(&name, "/continue"), None).await?;
            ui::note(format!("{name} goes on."));
            Ok(())
        }
        Command::Rm(Which { name }) => {
            client.delete(&path(&name, "")).await?;
            ui::note(format!("{name} is gone."));
            Ok(())
        }
        Command::Replay { which: Which { name }, after, force } => {
            let body = serde_json::json!({"after": after, "force": force});
            client.post(&path(&name, "/replay"), Some(&body)).await?;
            ui::note(format!("{name} looks through its topic after place {after}."));
            Ok(())
        }
        Command::Events { which: Which { name }, dead } => events(&client, &name, dead, context.json).await,
        Command::Release(Letter { which: Which { name }, place }) => {
            client.post(&path(&name, &format!("/events/{place}/release")), None).await?;
            ui::note(format!("The event at place {place} starts a run anew."));
            Ok(())
        }
        Command::Skip(Letter { which: Which { name }, place }) => {
            client.post(&path(&name, &format!("/events/{place}/skip")), None).await?;
            ui::note(format!("The event at place {place} is thrown away."));
            Ok(())
        }
    }
}

/// Lets an agent be woken by what its manifest asks for; the names of these subscriptions.
pub(crate) async fn accept(client: &Client, agent: &str) -> anyhow::Result<Vec<String>> {
    let answer = client.post(&format!("/v1/agents/{}/subscriptions", encode(agent)), None).await?.json()?;
    let names = answer["subscriptions"].as_array().into_iter().flatten();
    Ok(names.filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

impl Put {
    fn document(self) -> anyhow::Result<Value> {
        let Self {
            which: _,
            topic,
            memory,
            scope,
            owner,
            filter,
            agent,
            workflow,
            at_once,
            on_poison,
            rate,
            debounce,
            batch,
            join,
            after,
        } = self;
        let json = |flag: &str, text: Option<String>| -> anyhow::Result<Option<Value>> {
            let text = text.map(|text| input::json(flag, "", &text)).transpose()?;
            Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
        };
        let fields = [
            ("topic", topic.map(Into::into)),
            ("memory", memory.map(Into::into)),
            ("scope", scope.map(Into::into)),
            ("owner", owner.map(Into::into)),
            ("where", json("--where", filter)?),
            ("rate", json("--rate", rate)?),
            ("debounce", debounce.map(Into::into)),
            ("batch", json("--batch", batch)?),
            ("join", json("--join", join)?),
            ("agent", agent.map(Into::into)),
            ("workflow", workflow.map(Into::into)),
            ("at-once", at_once.map(Into::into)),
            ("on-poison", on_poison.map(Into::into)),
            ("after", after.map(Into::into)),
        ];
        Ok(fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect::<serde_json::Map<_, _>>()
            .into())
    }
}

fn path(name: &TriggerId, rest: &str) -> String {
    format!("/v1/subscriptions/{}{rest}", encode(name.as_str()))
}

fn shown(subscription: &Value, as_json: bool) {
    if as_json {
        return ui::json(subscription);
    }
    let paused = &subscription["paused"];
    let state = if paused.is_object() { style("paused").yellow() } else { style("on").green() };
    let starts =
        ["agent", "workflow"].into_iter().find_map(|kind| Some(format!("{kind} {}", subscription[kind].as_str()?)));
    let feed = match subscription["memory"].as_str() {
        Some(prefix) => {
            let parts = ["memory", text(subscription, "scope"), text(subscription, "owner")];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            format!("{} {prefix}", parts.join("/"))
        }
        None => text(subscription, "topic").to_owned(),
    };
    let (name, starts) = (text(subscription, "name"), starts.unwrap_or_default());
    ui::line(format!("{}  {} -> {starts}  {state}", style(name).bold(), ui::clean(&feed)));
    if !subscription["where"].is_null() {
        ui::line(format!("  where {}", subscription["where"]));
    }
    for field in ["rate", "debounce", "batch", "join"].iter().filter(|field| !subscription[**field].is_null()) {
        ui::line(ui::clean(&format!("  {field} {}", subscription[*field])));
    }
    let count = |field: &str| subscription[field].as_u64().unwrap_or_default();
    let lag = subscription["lag"].as_u64().map_or_else(String::new, |lag| format!(", {lag} behind"));
    let told = [
        ("started", "started"),
        ("under-way", "under way"),
        ("waiting", "waiting"),
        ("dead", "dead"),
        ("duplicates", "twice"),
        ("superseded", "superseded"),
    ];
    let told: Vec<String> = told
        .iter()
        .filter(|(field, _)| *field != "superseded" || count(field) > 0)
        .map(|(field, word)| format!("{} {word}", count(field)))
        .collect();
    ui::line(format!("  {}{lag}; in the name of {}", told.join(", "), subscription["by"].as_str().unwrap_or("nobody")));
    if paused.is_object() {
        let by = paused["by"].as_str().map_or_else(|| "by the host".to_owned(), |by| format!("by {by}"));
        let why = paused["why"].as_str().map_or_else(String::new, |why| format!(": {}", ui::clean(why)));
        ui::line(format!("  paused at {} {by}{why}", text(paused, "at")));
    }
    if let Some(trouble) = subscription["trouble"].as_str() {
        ui::line(format!("  {}", style(ui::clean(trouble)).red()));
    }
}

async fn events(client: &Client, name: &TriggerId, dead: bool, as_json: bool) -> anyhow::Result<()> {
    let query: Vec<_> = dead.then(|| ("dead", "true".to_owned())).into_iter().collect();
    let found = client.list(&path(name, "/events"), &query, usize::MAX).await?;
    if as_json {
        found.iter().for_each(ui::json);
        return Ok(());
    }
    if found.is_empty() {
        ui::note("No events: what is dealt with is not kept here.");
    }
    for one in &found {
        let (event, stage) = (&one["event"], text(one, "stage"));
        let stage = if one["reason"].is_null() { style(stage).green() } else { style(stage).red() };
        ui::line(format!("{}  {stage}  {}  {}", one["position"], text(event, "type"), ui::clean(text(one, "key"))));
        if let Some(reason) = one["reason"].as_str() {
            ui::line(format!("  {}", ui::clean(reason)));
        }
        if let Some(run) = one["run"].as_str() {
            ui::line(format!("  run {run}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_said_is_not_sent() {
        let put = Put {
            which: Which { name: "triage".parse().unwrap() },
            topic: Some("reports".into()),
            memory: None,
            scope: None,
            owner: None,
            filter: Some(r#"{"exact": {"type": "a"}}"#.into()),
            agent: Some("triage".into()),
            workflow: None,
            at_once: Some(2),
            on_poison: None,
            rate: None,
            debounce: None,
            batch: None,
            join: None,
            after: None,
        };
        let wanted = json!({"topic": "reports", "where": {"exact": {"type": "a"}}, "agent": "triage", "at-once": 2});
        assert_eq!(put.document().unwrap(), wanted);
    }
}
