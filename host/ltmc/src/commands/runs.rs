//! `ltmc runs`: what ran, what runs, and how it went.

use std::collections::{BTreeMap, BTreeSet};

use console::style;
use ltmc_draw::{Figure, Seen, Status};
use ltmc_model::workflow::Document;
use ltmc_model::{AgentName, RunId, SessionId, WorkflowName};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::flow::draw::Picture;
use super::{Context, recovery, text};
use crate::client::Client;
use crate::exit::{Exit, Problem};
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List runs, the newest first
    List(List),
    /// Show one: its tree of steps with times, attempts and errors, and the runs that they began
    Show {
        /// The run's id
        run: RunId,
        #[command(flatten)]
        picture: Picture,
    },
    /// End one; what its steps and checkpoints made true is kept, or undone by what its nodes have for that
    Cancel {
        /// The run's id
        run: RunId,
    },
    #[command(flatten)]
    Recovery(recovery::Command),
    /// Have one wait until it is continued, with what it began; it takes no room meanwhile, also over restarts
    Pause {
        /// The run's id
        run: RunId,
    },
    /// Go on with a paused one, and with what was paused with it
    Continue {
        /// The run's id
        run: RunId,
    },
    /// Print the result of one that is over, as `ltmc flow run` and `ltmc call` do
    Output {
        /// The run's id
        run: RunId,
    },
    /// Show one's journal, entry by entry
    Journal {
        /// The run's id
        run: RunId,
        /// The entry of this number alone, and all of it
        #[arg(long, value_name = "N")]
        seq: Option<u64>,
    },
    /// Follow one until it is over
    Events {
        /// The run's id
        run: RunId,
        /// The number of the entry to go on after
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// In this state: queued, running, waiting, completed, failed, cancelled, quarantined, paused, stuck
    #[arg(long)]
    state: Option<String>,
    /// Of this workflow
    #[arg(long, conflicts_with = "agent")]
    workflow: Option<WorkflowName>,
    /// Lone calls of this agent
    #[arg(long)]
    agent: Option<AgentName>,
    /// In this session
    #[arg(long)]
    session: Option<SessionId>,
    /// Begun by this run
    #[arg(long)]
    parent: Option<RunId>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    match command {
        Command::List(args) => list(&client, args, context.json).await,
        Command::Show { run, picture } => {
            let shown = client.get(&format!("/v1/runs/{run}")).await?;
            if picture.svg.is_some() {
                let (name, figure) = drawn(&client, &shown).await?;
                picture.write(&figure, &name)?;
            }
            if context.json {
                ui::json(&super::flow::with_output(&client, shown).await?);
            } else {
                show(&shown, &Children::below(&client, &shown).await?);
            }
            Ok(())
        }
        Command::Cancel { run } => {
            let answer = client.post(&format!("/v1/runs/{run}/cancel"), None).await?;
            let note = match answer.status == StatusCode::ACCEPTED {
                true => format!("{run} is being cancelled: what it did is undone first (`ltmc runs show {run}`)."),
                false => format!("Cancelled {run}."),
            };
            done(&client, run, note, context.json).await
        }
        Command::Pause { run } => {
            client.post(&format!("/v1/runs/{run}/pause"), None).await?;
            let note = format!("Paused {run}: `ltmc runs continue {run}` goes on with it.");
            done(&client, run, note, context.json).await
        }
        Command::Continue { run } => {
            client.post(&format!("/v1/runs/{run}/continue"), None).await?;
            done(&client, run, format!("{run} goes on."), context.json).await
        }
        Command::Recovery(command) => recovery::run(command, &client, context.json).await,
        Command::Output { run } => {
            let answer = client.send(client.request(Method::GET, &format!("/v1/runs/{run}/output"))).await?;
            super::call::print(&answer, context.json);
            Ok(())
        }
        Command::Journal { run, seq: Some(seq) } => {
            let entry = client.get(&format!("/v1/runs/{run}/journal/{seq}")).await?;
            if context.json {
                ui::json(&entry);
            } else {
                print_whole(&entry);
            }
            Ok(())
        }
        Command::Journal { run, seq: None } => {
            let mut pages = client.pages(&format!("/v1/runs/{run}/journal"), &[]);
            while let Some(entries) = pages.next(100).await? {
                for entry in entries {
                    print_entry(&whole(&client, entry, context.json).await?, context.json);
                }
            }
            Ok(())
        }
        Command::Events { run, mut after } => loop {
            let mut over = false;
            let id = run.to_string();
            client
                .events(&id, &mut after, async |name: &str, data: Value| {
                    over = name == "end";
                    if !over {
                        print_entry(&whole(&client, data, context.json).await?, context.json);
                    }
                    anyhow::Ok(!over)
                })
                .await?;
            if over {
                return Ok(());
            }
            // A stream ends after a while by itself; the next one goes on after the last entry.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        },
    }
}

/// Says what was done with a run; to programs, how it stands then.
pub(super) async fn done(client: &Client, run: RunId, note: String, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        ui::json(&client.get(&format!("/v1/runs/{run}")).await?);
    } else {
        ui::note(note);
    }
    Ok(())
}

async fn list(client: &Client, args: List, as_json: bool) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(args.state.map(|state| ("state", state)));
    query.extend(args.workflow.map(|workflow| ("workflow", workflow.to_string())));
    query.extend(args.agent.map(|agent| ("agent", agent.to_string())));
    query.extend(args.session.map(|session| ("session", session.to_string())));
    query.extend(args.parent.map(|parent| ("parent", parent.to_string())));
    let found = client.list("/v1/runs", &query, args.limit).await?;
    if as_json {
        found.iter().for_each(ui::json);
        return Ok(());
    }
    let mut table = ui::Table::new(&["run", "state", "what", "began", "entries"]);
    for run in &found {
        let what = if text(run, "workflow").is_empty() { text(run, "agent") } else { text(run, "workflow") };
        let entries = run["entries"].to_string();
        table.row([text(run, "id"), text(run, "state"), what, text(run, "created_at"), entries.as_str()]);
    }
    table.print("No runs.");
    Ok(())
}

/// An entry with what is so large that the host shows it alone, where all of it is to be printed.
async fn whole(client: &Client, entry: Value, as_json: bool) -> anyhow::Result<Value> {
    match entry.get("href").and_then(Value::as_str) {
        Some(href) if as_json => client.get(href).await,
        _ => Ok(entry),
    }
}

/// One entry of a journal: its number, time, kind, and what is in it.
fn print_entry(entry: &Value, as_json: bool) {
    if as_json {
        return ui::json(entry);
    }
    let (kind, inside) = match entry["event"].as_object().and_then(|event| event.iter().next()) {
        Some((kind, inside)) => (kind.as_str(), inside.to_string()),
        None => ("", entry["event"].to_string()),
    };
    let number = entry["seq"].to_string();
    ui::line(format!("{number:>5}  {}  {kind:<14} {}", text(entry, "at"), ui::clean(&ui::short(&inside, 160))));
}

/// One entry of a journal with all that is in it.
fn print_whole(entry: &Value) {
    let (kind, inside) = match entry["event"].as_object().and_then(|event| event.iter().next()) {
        Some((kind, inside)) => (kind.as_str(), inside),
        None => ("", &entry["event"]),
    };
    ui::line(format!("{}  {}  {}", entry["seq"], text(entry, "at"), style(kind).bold()));
    let inside = serde_json::to_string_pretty(inside).unwrap_or_default();
    inside.lines().for_each(|line| ui::line(ui::plain_json(line)));
}

/// A run's picture, and what stands above it: its document as it is pinned, with what became of each node.
async fn drawn(client: &Client, run: &Value) -> anyhow::Result<(String, Figure)> {
    let id = text(run, "id");
    let source = if text(run, "workflow").is_empty() {
        let agent = run["agent"].as_str().unwrap_or_default();
        serde_json::json!({"name": "call", "flow": {"agent": agent}}).to_string()
    } else {
        let first =
            client.list(&format!("/v1/runs/{id}/journal"), &[], 1).await?.into_iter().next().unwrap_or_default();
        let first = whole(client, first, true).await?;
        let document = first["event"]["run-started"]["document"].as_str().map(str::to_owned);
        document.ok_or_else(|| Problem::new(Exit::Denied, "denied", "this key may not read workflows' documents"))?
    };
    let document = Document::from_json(&source).map_err(|faults| Problem::failed(faults.to_string()))?;
    let what = if text(run, "workflow").is_empty() { text(run, "agent") } else { text(run, "workflow") };
    let name = format!("{what}  {}  {id}", text(run, "state"));
    Ok((name, Figure::of(&document).with(&seen(run))))
}

/// What is known of a run's nodes: of a step how long it took and how often it was tried.
fn seen(run: &Value) -> Vec<Seen> {
    let one = |node: &Value, note: String| {
        Some(Seen { path: text(node, "path").to_owned(), status: Status::named(text(node, "status"))?, note })
    };
    let steps = run["steps"].as_array().into_iter().flatten().filter_map(|step| {
        let attempts = step["attempts"].as_array().cloned().unwrap_or_default();
        let wall: u64 = attempts.iter().filter_map(|attempt| attempt["usage"]["wall_us"].as_u64()).sum();
        let tries = if attempts.len() > 1 { format!(", {} attempts", attempts.len()) } else { String::new() };
        one(step, if attempts.is_empty() { String::new() } else { format!("{}{tries}", ui::span(wall)) })
    });
    let steps: Vec<Seen> = steps.collect();
    let known: BTreeSet<String> = steps.iter().map(|step| step.path.clone()).collect();
    let nodes = run["nodes"].as_array().into_iter().flatten().filter(|node| !known.contains(text(node, "path")));
    let nodes = nodes.filter_map(|node| one(node, String::new()));
    nodes.chain(steps).collect()
}

/// Runs that a run began, with those that they began: as many as are drawn.
#[derive(Default)]
struct Children {
    /// By the run that began them.
    of: BTreeMap<String, Vec<Value>>,
    /// How many were not asked for, as far as is known.
    left_out: usize,
}

impl Children {
    /// How many are drawn at most.
    const DRAWN: usize = 200;

    /// Of a run, level by level.
    async fn below(client: &Client, run: &Value) -> anyhow::Result<Self> {
        let (mut found, mut drawn, mut next) = (Self::default(), 0, vec![run.clone()]);
        while let Some(run) = next.pop() {
            for child in run["children"].as_array().into_iter().flatten() {
                if drawn == Self::DRAWN {
                    found.left_out += 1;
                    continue;
                }
                drawn += 1;
                let child = client.get(&format!("/v1/runs/{}", text(child, "id"))).await?;
                found.of.entry(text(&run, "id").to_owned()).or_default().push(child.clone());
                next.push(child);
            }
            found.left_out += usize::from(run["more_children"] == true);
        }
        Ok(found)
    }

    /// Draws those that a step of a run, or another node, began.
    fn draw(&self, run: &Value, path: &str, depth: usize) {
        let own = self.of.get(text(run, "id")).into_iter().flatten();
        for child in own.filter(|child| text(&child["parent"], "step") == path) {
            let what = if text(child, "workflow").is_empty() { text(child, "agent") } else { text(child, "workflow") };
            let indent = "  ".repeat(depth);
            ui::line(format!("{indent}↳ {what}  {}  {}", coloured(text(child, "state")), text(child, "id")));
            if child["error"].is_object() {
                let error = &child["error"];
                let message = ui::clean(&ui::short(text(error, "message"), 300));
                ui::line(format!("{indent}    {}: {message}{}", text(error, "code"), own_code(&error["agent_code"])));
            }
            for path in self.places(child) {
                self.draw(child, &path, depth + 1);
            }
        }
    }

    /// Where in a run others were begun, in the order of paths.
    fn places(&self, run: &Value) -> BTreeSet<String> {
        let own = self.of.get(text(run, "id")).into_iter().flatten();
        own.map(|child| text(&child["parent"], "step").to_owned()).collect()
    }
}

fn show(run: &Value, children: &Children) {
    let what = if text(run, "workflow").is_empty() { text(run, "agent") } else { text(run, "workflow") };
    ui::line(format!("{}  {}  {}", style(what).bold(), coloured(text(run, "state")), text(run, "id")));
    let ended = text(run, "ended_at");
    ui::line(format!(
        "began {}{}",
        text(run, "created_at"),
        if ended.is_empty() { String::new() } else { format!(", ended {ended}") }
    ));
    ui::line(format!("session {}, {} entries", text(run, "session"), run["entries"]));
    if run["forked"].is_object() {
        ui::line(format!("forked from {} at its entry {}", text(&run["forked"], "of"), run["forked"]["at"]));
    }
    match text(run, "ending") {
        "cancelling" => ui::line("it was cancelled: what it did is undone first"),
        "failing" => ui::line("it has failed: what it did is undone first"),
        _ => {}
    }
    let steps = run["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    for step in steps {
        let depth = text(step, "path").matches('/').count();
        let indent = "  ".repeat(depth);
        ui::line(format!("{indent}{}  {}", step_line(step), style(text(step, "path")).dim()));
        for change in step["changed"].as_array().into_iter().flatten() {
            let (what, by, at) = (text(change, "what"), text(change, "by"), text(change, "at"));
            ui::line(format!("{indent}    its {what} was set by {by} at {at}"));
        }
        children.draw(run, text(step, "path"), depth + 1);
        let attempts = step["attempts"].as_array().cloned().unwrap_or_default();
        for attempt in attempts.iter().filter(|attempt| attempt["failure"].is_object()) {
            let failure = &attempt["failure"];
            ui::line(format!(
                "{indent}    attempt {}: {}: {}{}",
                attempt["number"],
                text(failure, "code"),
                ui::clean(&ui::short(text(failure, "message"), 300)),
                own_code(&failure["agent_code"])
            ));
        }
    }
    for node in run["nodes"].as_array().into_iter().flatten() {
        if let Some(line) = node_line(node) {
            ui::line(line);
        }
        if steps.iter().all(|step| step["path"] != node["path"]) {
            children.draw(run, text(node, "path"), 1);
        }
    }
    if !text(&run["parent"], "run").is_empty() {
        ui::line(format!("begun by {}, step {}", text(&run["parent"], "run"), text(&run["parent"], "step")));
    }
    if children.left_out > 0 {
        ui::line("and more runs that it began: `ltmc runs list --parent ID` has them all");
    }
    if let Some(left_out) = run["steps_left_out"].as_u64() {
        ui::line(format!("and {left_out} more steps, which are in the journal"));
    }
    if run["error"].is_object() {
        let error = &run["error"];
        let (code, message) = (text(error, "code"), ui::clean(text(error, "message")));
        ui::line(format!("{} {code}: {message}{}", style("error").red(), own_code(&error["agent_code"])));
    }
}

/// A node that is no step in one line, where it waits for something or has failed.
pub(crate) fn node_line(node: &Value) -> Option<String> {
    let (path, pattern, status) = (text(node, "path"), text(node, "pattern"), text(node, "status"));
    let name = text(node, "name");
    let called = if name.is_empty() { format!("{pattern} at {path}") } else { format!("{name} ({pattern} at {path})") };
    let failure = &node["failure"];
    let failed = format!("{}: {}", text(failure, "code"), ui::clean(&ui::short(text(failure, "message"), 300)));
    let due = text(node, "due_at");
    match text(node, "compensation") {
        "running" => return Some(format!("{called} is being undone")),
        "done" => return Some(format!("{called} was undone")),
        _ => {}
    }
    match status {
        _ if failure.is_object() && node["rescued"] == true => {
            Some(format!("{called} failed, and was handled: {failed}"))
        }
        "failed" => Some(format!("{called} failed: {failed}")),
        "waiting" if node["waits_for"]["answer"].is_object() => {
            let answer = &node["waits_for"]["answer"];
            let (title, of, token) = (ui::clean(text(answer, "title")), text(answer, "of"), text(answer, "token"));
            let until = if due.is_empty() { String::new() } else { format!(" until {due}") };
            Some(format!("{called} waits{until} for an answer of `{of}`: {title} (`ltmc approvals show {token}`)"))
        }
        "waiting" if node["waits_for"]["event"].is_object() => {
            let event = &node["waits_for"]["event"];
            let until = if due.is_empty() { String::new() } else { format!(" until {due}") };
            let of = |name: &str| match text(event, name) {
                "" => String::new(),
                value => format!(", {name} {}", ui::clean(value)),
            };
            Some(format!(
                "{called} waits{until} for an event of {}{}{}",
                text(event, "topic"),
                of("type"),
                of("subject")
            ))
        }
        "waiting" if pattern == "wait" => Some(format!("{called} waits until {due}")),
        // Of a step that waits to be tried again, which is said there.
        "running" | "waiting" if matches!(pattern, "agent" | "need") => {
            (!due.is_empty()).then(|| format!("{called} may take until {due}"))
        }
        "waiting" => Some(format!("{called} waits until {due}, when it is done anew")),
        "running" if !due.is_empty() => Some(format!("{called} may take until {due}")),
        _ => None,
    }
}

/// The code that an agent failed with, behind its message.
pub(crate) fn own_code(code: &Value) -> String {
    match code.as_str() {
        None | Some("") => String::new(),
        Some(code) => format!(" ({})", ui::clean(code)),
    }
}

/// A step in one line: how it stands, its name, its time.
pub(crate) fn step_line(step: &Value) -> String {
    let status = text(step, "status");
    let mark = match status {
        "completed" => style("✓").green(),
        "failed" => style("✗").red(),
        "pending" | "skipped" | "cancelled" => style("·").dim(),
        _ => style("…").yellow(),
    };
    let attempts = step["attempts"].as_array().cloned().unwrap_or_default();
    let wall: u64 = attempts.iter().filter_map(|attempt| attempt["usage"]["wall_us"].as_u64()).sum();
    let cpu: u64 = attempts.iter().filter_map(|attempt| attempt["usage"]["cpu_us"].as_u64()).sum();
    let effects: u64 = attempts.iter().filter_map(|attempt| attempt["effects"].as_u64()).sum();
    let mut parts = Vec::new();
    if !matches!(status, "completed" | "failed") {
        parts.push(status.to_owned());
    }
    if attempts.iter().any(|attempt| attempt["usage"].is_object()) {
        parts.push(format!("{:>9} (cpu {})", ui::span(wall), ui::span(cpu)));
    }
    if attempts.len() > 1 {
        parts.push(format!("{} attempts", attempts.len()));
    }
    if effects > 0 {
        parts.push(format!("{effects} effect{}", if effects == 1 { "" } else { "s" }));
    }
    let (name, agent) = (text(step, "name"), text(step, "agent").split('@').next().unwrap_or_default());
    // Who was found for what is needed, and whose step it is that has a name of its own.
    let called =
        if agent.is_empty() || name.starts_with(agent) { name.to_owned() } else { format!("{name} ({agent})") };
    format!("{mark} {called:<24} {}", parts.join(", "))
}

fn coloured(state: &str) -> console::StyledObject<String> {
    let state = style(state.to_owned());
    match state.to_string().as_str() {
        "completed" => state.green(),
        "failed" | "cancelled" | "quarantined" | "stuck" => state.red(),
        _ => state.yellow(),
    }
}
