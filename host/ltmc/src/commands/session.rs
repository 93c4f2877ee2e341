//! `ltmc session`: conversations, turn by turn.

use std::io::IsTerminal as _;

use console::style;
use ltmc_model::agent::AgentRef;
use ltmc_model::session::IfBusy;
use ltmc_model::{AgentName, KeyId, Payload, SessionId, WorkflowName};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::input::Input;
use super::{Context, call, flow, recovery, text};
use crate::client::{Client, encode};
use crate::exit::Problem;
use crate::ui;

/// What of a message is shown in a list.
const SHOWN: usize = 300;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Open one: it prints the session's id
    Open(Open),
    /// Say something in one, and print the answer
    Say(Say),
    /// List them, those first that were opened last
    List {
        /// Those that stand so: open, closing, closed, expired
        #[arg(long)]
        state: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show one: where it stands, and what it was opened with
    Show {
        /// Its id
        session: SessionId,
    },
    /// Show what was said in one, turn by turn: the last ones
    History {
        /// Its id
        session: SessionId,
        /// So many turns
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// End a turn of one: one that waits, or the one at work
    Cancel {
        /// Its id
        session: SessionId,
        /// The turn's number
        turn: u32,
    },
    /// Take one back to an earlier turn, between two turns: its memory is as it was then; what later turns did elsewhere stays, and is told
    Rewind {
        /// Its id
        session: SessionId,
        /// Its last turn that counts; 0: none
        turn: u32,
    },
    /// Open another one that begins with what was said in this one, and with its memory: it prints the new session's id
    Fork {
        /// Its id
        session: SessionId,
        /// The last turn that the new one has, too [default: the last that is over]
        #[arg(long, value_name = "TURN")]
        at: Option<u32>,
        /// For people
        #[arg(long)]
        title: Option<String>,
    },
    /// Print one whole, as JSON: what it was opened with, where it stands, every turn, and its memory where that was archived
    Export {
        /// Its id
        session: SessionId,
    },
    /// List the keys of its memory that branches of its last turns changed differently, and how that was settled
    Conflicts {
        /// Its id
        session: SessionId,
    },
    /// Hand the conversation of one to another agent of its workflow's `hand-off`, between two turns
    HandOff {
        /// Its id
        session: SessionId,
        /// The agent that holds it from then on
        to: AgentName,
        /// The reason, for people and for the agent that gets it
        #[arg(long)]
        reason: String,
    },
    /// List who takes part in one: who holds its conversation, who opened it, and who else may say something, or read
    Participants {
        /// Its id
        session: SessionId,
    },
    /// Let a key of the role caller take part in one: it may say something, unless it is to observe
    Add {
        /// Its id
        session: SessionId,
        /// The key's id
        key: KeyId,
        /// It may read, and no more
        #[arg(long)]
        observer: bool,
    },
    /// Have a key take part in one no more
    Remove {
        /// Its id
        session: SessionId,
        /// The key's id
        key: KeyId,
    },
    /// Close one: it takes no more turns
    Close {
        /// Its id
        session: SessionId,
        /// End the turns that it has, rather than have them come to their end
        #[arg(long)]
        now: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("with").required(true))]
pub(crate) struct Open {
    /// The agent that answers: its newest version at each turn, or name@sha256:…
    #[arg(long, group = "with")]
    agent: Option<AgentRef>,
    /// The workflow that answers
    #[arg(long, group = "with")]
    workflow: Option<WorkflowName>,
    /// What becomes of a message that comes while a turn is at work: enqueue, reject, interrupt, rollback
    #[arg(long, value_name = "WHAT", default_value_t = IfBusy::default())]
    if_busy: IfBusy,
    /// How many turns may wait
    #[arg(long)]
    queue: Option<u32>,
    /// After how long without a turn it expires [default: 7days]
    #[arg(long, value_name = "TIME")]
    idle: Option<String>,
    /// How long a turn may take [default: 1day]
    #[arg(long, value_name = "TIME")]
    turn: Option<String>,
    /// For people
    #[arg(long)]
    title: Option<String>,
    /// A key of the role caller that may say something, too, by its id
    #[arg(long, value_name = "KEY")]
    contributor: Vec<String>,
    /// A key of the role caller that may read it, by its id
    #[arg(long, value_name = "KEY")]
    observer: Vec<String>,
    /// The agent that sums it up when it is closed, as its last turn
    #[arg(long, value_name = "AGENT")]
    summary: Option<AgentRef>,
    /// What becomes of its memory once it is over: always (it stays), a time such as 30days, archive, forget [default: always]
    #[arg(long, value_name = "WHAT")]
    keep: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Say {
    /// The session's id
    session: SessionId,
    /// What to say, as a text; anything else is said with --input
    #[arg(conflicts_with_all = ["input", "content_type"])]
    message: Option<String>,
    #[command(flatten)]
    input: Input,
    /// Do not wait for the answer: print the turn's run
    #[arg(long)]
    detach: bool,
    /// The same key and message are the same turn, once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    let as_json = context.json;
    match command {
        Command::Open(wanted) => open(&client, wanted, as_json).await,
        Command::Say(said) => say(&client, said, as_json).await,
        Command::List { state, limit } => {
            let query: Vec<_> = state.iter().map(|state| ("state", state.clone())).collect();
            list(&client.list("/v1/sessions", &query, limit).await?, as_json);
            Ok(())
        }
        Command::Show { session } => {
            let found = client.get(&path(&session)).await?;
            if as_json {
                ui::json(&found)
            } else {
                show(&found)
            }
            Ok(())
        }
        Command::History { session, limit } => history(&client, &session, limit, as_json).await,
        Command::Cancel { session, turn } => {
            client.delete(&format!("{}/turns/{turn}", path(&session))).await?;
            ui::note(format!("Ended turn {turn}."));
            Ok(())
        }
        Command::Rewind { session, turn } => {
            let body = json!({ "to": turn });
            let rewound = client.post(&format!("{}/rewind", path(&session)), Some(&body)).await?.json()?;
            if as_json {
                ui::json(&rewound)
            } else {
                show_rewound(&rewound)
            }
            Ok(())
        }
        Command::Fork { session, at, title } => {
            fork(&client, &session, json!({ "at": at, "title": title }), as_json).await
        }
        Command::Export { session } => {
            ui::json(&exported(&client, &session).await?);
            Ok(())
        }
        Command::HandOff { session, to, reason } => {
            let body = json!({ "to": to, "reason": reason });
            let session = client.post(&format!("{}/hand-off", path(&session)), Some(&body)).await?.json()?;
            if as_json {
                ui::json(&session);
            } else {
                ui::note(format!("`{to}` holds the conversation."));
            }
            Ok(())
        }
        Command::Conflicts { session } => {
            let found = client.get(&format!("{}/conflicts", path(&session))).await?;
            if as_json {
                ui::json(&found);
            } else {
                recovery::print_conflicts(&found);
            }
            Ok(())
        }
        Command::Participants { session } => participants(&client, &session, as_json).await,
        Command::Add { session, key, observer } => {
            let part = if observer { "observer" } else { "contributor" };
            client.put(&format!("{}/participants/{key}", path(&session)), &json!({ "part": part })).await?;
            ui::note(format!("`{key}` takes part as {part}."));
            Ok(())
        }
        Command::Remove { session, key } => {
            client.delete(&format!("{}/participants/{key}", path(&session))).await?;
            ui::note(format!("`{key}` takes part no more."));
            Ok(())
        }
        Command::Close { session, now } => close(&client, &session, now, as_json).await,
    }
}

async fn fork(client: &Client, session: &SessionId, mut body: Value, as_json: bool) -> anyhow::Result<()> {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let forked = client.post(&format!("{}/fork", path(session)), Some(&body)).await?.json()?;
    if as_json {
        ui::json(&forked);
    } else {
        ui::line(text(&forked, "id"));
    }
    Ok(())
}

async fn history(client: &Client, session: &SessionId, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let found = client.get(&path(session)).await?;
    let all = found["turns"].as_u64().and_then(|turns| u32::try_from(turns).ok()).unwrap_or(0);
    let after = all.saturating_sub(limit);
    let query = [("after", after.to_string())];
    let turns = client.list(&format!("{}/turns", path(session)), &query, limit as usize).await?;
    if after > 0 && !as_json {
        ui::note(format!("{after} turns before these are not shown: --limit N shows more."));
    }
    if turns.is_empty() && !as_json {
        ui::note("Nothing was said yet.");
    }
    for turn in &turns {
        if as_json { ui::json(turn) } else { show_turn(turn) }
    }
    Ok(())
}

async fn close(client: &Client, session: &SessionId, now: bool, as_json: bool) -> anyhow::Result<()> {
    let turns = if now { "cancel" } else { "drain" };
    let closed = client.post(&format!("{}/close?turns={turns}", path(session)), None).await?.json()?;
    if as_json {
        ui::json(&closed);
    } else if text(&closed, "state") == "closing" {
        ui::note("It takes no more turns, and closes when those that it has are over, and its summary, if it has one.");
    } else {
        ui::note("Closed.");
    }
    Ok(())
}

fn path(session: &SessionId) -> String {
    format!("/v1/sessions/{}", encode(session.as_str()))
}

async fn participants(client: &Client, session: &SessionId, as_json: bool) -> anyhow::Result<()> {
    let found = client.get(&format!("{}/participants", path(session))).await?;
    if as_json {
        ui::json(&found);
        return Ok(());
    }
    let mut table = ui::Table::new(&["who", "as"]);
    if let Some(holder) = found["holder"].as_str() {
        table.row([holder, "holder"]);
    }
    for one in found["keys"].as_array().into_iter().flatten() {
        table.row([text(one, "key"), text(one, "part")]);
    }
    table.print("");
    Ok(())
}

/// A session as one document: what comes in parts is put together.
async fn exported(client: &Client, session: &SessionId) -> anyhow::Result<Value> {
    let export = format!("{}/export", path(session));
    let mut whole = client.get(&export).await?;
    while let Some(cursor) = whole["next"].as_str().map(encode) {
        let mut part = client.get(&format!("{export}?cursor={cursor}")).await?;
        whole["next"] = part["next"].take();
        if let (Some(all), Value::Array(more)) = (whole["turns"].as_array_mut(), part["turns"].take()) {
            all.extend(more);
        }
    }
    if let Some(fields) = whole.as_object_mut() {
        fields.remove("next");
    }
    Ok(whole)
}

async fn open(client: &Client, wanted: Open, as_json: bool) -> anyhow::Result<()> {
    let Open { agent, workflow, if_busy, queue, idle, turn, title, contributor, observer, summary, keep } = wanted;
    if let Some(key) = contributor.iter().find(|key| observer.contains(key)) {
        return Err(Problem::usage(format!(
            "key `{key}` is said to be a contributor and an observer: it is one of both"
        ))
        .into());
    }
    let parts = |keys: Vec<String>, part: &'static str| keys.into_iter().map(move |key| (key, part.into()));
    let participants: serde_json::Map<String, Value> =
        parts(observer, "observer").chain(parts(contributor, "contributor")).collect();
    let mut body = json!({
        "agent": agent.map(|agent| agent.to_string()), "workflow": workflow, "if-busy": if_busy, "queue": queue,
        "idle": idle, "turn": turn, "title": title, "participants": participants,
        "summary": summary.map(|agent| agent.to_string()), "keep": keep,
    });
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let opened = client.post("/v1/sessions", Some(&body)).await?.json()?;
    if as_json {
        ui::json(&opened)
    } else {
        ui::line(text(&opened, "id"))
    }
    Ok(())
}

async fn say(client: &Client, said: Say, as_json: bool) -> anyhow::Result<()> {
    let is_typed = said.input.input.is_none() && std::io::stdin().is_terminal();
    let payload = match said.message {
        Some(message) => Payload::text(message),
        None if is_typed => {
            return Err(Problem::usage("there is nothing to be said: give a message, or `--input FILE`").into());
        }
        None => said.input.read()?,
    };
    if payload.bytes.is_empty() {
        return Err(Problem::usage("there is nothing to be said: the message is empty").into());
    }
    let request = client.request(Method::POST, &format!("{}/turns", path(&said.session)));
    let mut request = request.header(CONTENT_TYPE, payload.content_type).body(payload.bytes);
    if let Some(key) = &said.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let accepted = client.send(request).await?;
    let (id, turn) = (accepted.run()?, accepted.json()?);
    let number = &turn["turn"];
    if said.detach && as_json {
        ui::json(&turn);
        return Ok(());
    }
    let waits = if turn["waits"] == true { ", which waits for those before it" } else { "" };
    ui::note(format!("Turn {number}{waits}: it goes on whatever becomes of this command."));
    if said.detach {
        call::started(&id, as_json);
        return Ok(());
    }
    flow::finish(client, &id, as_json).await
}

fn list(found: &[Value], as_json: bool) {
    if as_json {
        return found.iter().for_each(ui::json);
    }
    let mut table = ui::Table::new(&["session", "state", "turns", "waiting", "with", "last", "title"]);
    for one in found {
        let (turns, queued) = (one["turns"].to_string(), one["queued"].to_string());
        let (id, state, last) = (text(one, "id"), text(one, "state"), text(one, "last-at"));
        table.row([id, state, &turns, &queued, with(one), last, &ui::clean(text(one, "title"))]);
    }
    table.print("No sessions: `ltmc session open` opens one.");
}

fn with(session: &Value) -> &str {
    if session["agent"].is_string() { text(session, "agent") } else { text(session, "workflow") }
}

fn show(session: &Value) {
    let title = ui::clean(text(session, "title"));
    ui::line(format!("{}  {}  {title}", style(text(session, "id")).bold(), text(session, "state")));
    let kind = if session["agent"].is_string() { "agent" } else { "workflow" };
    ui::line(format!(
        "  {kind} {} answers; a message to it while it is busy: {}",
        with(session),
        text(session, "if-busy")
    ));
    ui::line(format!("  turns: {}, waiting: {} (at most {})", session["turns"], session["queued"], session["queue"]));
    let active = &session["active"];
    if active.is_object() {
        let (number, run, since) = (&active["number"], text(active, "run"), text(active, "since"));
        ui::line(format!(
            "  turn {number} is at work since {since}, as run {run}; it may take {}",
            text(session, "turn")
        ));
    }
    if session["holder"].is_string() {
        ui::line(format!("  {} holds the conversation", text(session, "holder")));
    }
    let (opened, by) = (text(session, "opened-at"), text(session, "by"));
    ui::line(format!("  opened {opened} by {by}; last turn {}", text(session, "last-at")));
    if session["summary"].is_string() {
        let turn =
            session["summary-turn"].as_u64().map_or_else(|| "when it is closed".into(), |it| format!("in turn {it}"));
        ui::line(format!("  {} sums it up, {turn}", text(session, "summary")));
    }
    let (keep, memory) = (text(session, "keep"), text(session, "memory"));
    if keep != "always" || memory != "kept" {
        ui::line(format!("  memory: {memory}; once it is over: {keep}"));
    }
    if session["expires-at"].is_string() {
        ui::line(format!("  expires {}", text(session, "expires-at")));
    }
    for (key, part) in session["participants"].as_object().into_iter().flatten() {
        ui::line(format!("  {key} is {}", part.as_str().unwrap_or_default()));
    }
}

fn show_rewound(rewound: &Value) {
    ui::note(format!(
        "No part of the conversation any more: {} of its turns. As they were: {} keys of its memory.",
        rewound["turns"], rewound["keys"]
    ));
    let stays = rewound["stays"].as_array().map_or(&[][..], Vec::as_slice);
    if !stays.is_empty() {
        ui::note("What they did elsewhere stays:");
    }
    for one in stays {
        ui::line(format!("  turn {}  {}  {}", one["turn"], text(one, "call"), ui::clean(text(one, "about"))));
    }
    if let Some(more) = rewound["more"].as_u64().filter(|more| *more > 0) {
        ui::note(format!("and {more} more."));
    }
}

fn show_turn(turn: &Value) {
    let (number, by, at) = (&turn["number"], text(turn, "by"), text(turn, "at"));
    let state = match turn["undone"] == true {
        true => "undone",
        false if text(turn, "stage") == "queued" => "queued",
        false => text(turn, "state"),
    };
    ui::line(format!("{} {at}  {by}  {state}  run {}", style(format!("{number}.")).bold(), text(turn, "run")));
    ui::line(format!("  > {}", said(&turn["input"])));
    if let Some(agent) = turn["answered-by"].as_str() {
        ui::line(format!("  {} {agent}", style("answered by").dim()));
    }
    if let Some(to) = turn["handed-over"].as_str() {
        ui::line(format!("  {} to {to} by a person", style("handed on").dim()));
    }
    for one in turn["hand-offs"].as_array().into_iter().flatten() {
        let (from, to, reason) = (text(one, "from"), text(one, "to"), ui::clean(text(one, "reason")));
        ui::line(format!("  {} {from} → {to}: {reason}", style("handed on").dim()));
    }
    if turn["output"].is_object() {
        ui::line(format!("  < {}", said(&turn["output"])));
    }
    let error = &turn["error"];
    if error.is_object() {
        ui::line(format!("  {} {}", style(text(error, "code")).red(), ui::clean(text(error, "message"))));
    }
}

/// What was said, in one line.
fn said(payload: &Value) -> String {
    let said = match (&payload["text"], &payload["json"]) {
        (Value::String(said), _) => said.clone(),
        (_, Value::Null) => format!("({})", text(payload, "content_type")),
        (_, json) => json.to_string(),
    };
    ui::short(&ui::clean(&said), SHOWN).replace('\n', "\n    ")
}
