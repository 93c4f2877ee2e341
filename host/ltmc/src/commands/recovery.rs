//! `ltmc runs why|conflicts|resume|restart|fork|replace-agent|diff`: what people do about runs that did not go as they should.

use console::style;
use ltmc_model::RunId;
use ltmc_model::agent::AgentRef;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::call::started;
use super::input;
use super::runs::own_code;
use super::text;
use crate::client::{Answer, Client};
use crate::exit::Problem;
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Tell why one stands where it does, what it waits for, and what can be done next
    Why {
        /// The run's id
        run: RunId,
    },
    /// List where its branches conflict, with what each of them did
    Conflicts {
        /// The run's id
        run: RunId,
    },
    /// Take one up again where it stopped that failed, was cancelled or is quarantined, paused or stuck
    Resume {
        /// The run's id
        run: RunId,
        #[command(flatten)]
        changes: Changes,
    },
    /// Begin a new one where this one ended, in which a step is done again, and what came after it
    Restart {
        /// The run's id
        run: RunId,
        /// The step, or another node, by its name or its path
        #[arg(long, value_name = "STEP")]
        from: String,
        /// Cancel the run first, where it is under way
        #[arg(long)]
        cancel: bool,
        #[command(flatten)]
        changes: Changes,
        /// The same key and request begin the same run, once
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Begin a new one that goes on from an entry of this one's journal, which stays as it is
    Fork {
        /// The run's id
        run: RunId,
        /// The number of the last entry that counts [default: the last there is]
        #[arg(long, value_name = "SEQ")]
        at: Option<u64>,
        #[command(flatten)]
        changes: Changes,
        /// The same key and request begin the same run, once
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Take a failed, cancelled, quarantined, paused or stuck one up again with another version of an agent
    ReplaceAgent {
        /// The run's id
        run: RunId,
        /// The version, NAME@sha256:…, which all its steps that are not done yet are done by
        agent: AgentRef,
        #[command(flatten)]
        changes: Changes,
    },
    /// Show what depends on a step: what works on what it gave, or was decided by it, and what depends on that
    Dependents {
        /// The run's id
        run: RunId,
        /// The step, or another node, by its name or its path
        step: String,
        /// Over at most so many steps
        #[arg(long, default_value_t = 32)]
        depth: u32,
    },
    /// Compare two, step by step
    Diff {
        /// The one's id
        a: RunId,
        /// The other's id
        b: RunId,
        /// At most so many differences
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

/// What is changed in a run before it goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct Changes {
    /// What a step gave, in JSON, or @FILE that holds it; the step, by its name or its path, counts as completed
    #[arg(long, value_name = "STEP=OUTPUT")]
    set: Vec<String>,
    /// What a step works on, in JSON, or @FILE that holds it; the step is made again
    #[arg(long, value_name = "STEP=INPUT")]
    input: Vec<String>,
    /// Of a key whose branches conflict, the branch whose work is taken; `ltmc runs conflicts` lists them
    #[arg(long, value_name = "KEY=BRANCH")]
    take: Vec<String>,
    /// Of a key whose branches conflict, the value that is taken, in JSON, or @FILE that holds it
    #[arg(long, value_name = "KEY=VALUE")]
    value: Vec<String>,
}

impl Changes {
    /// As the host takes them, with these other fields.
    fn body(&self, mut fields: Vec<String>) -> anyhow::Result<String> {
        for (name, option, given) in [("set", "--set", &self.set), ("input", "--input", &self.input)] {
            if given.is_empty() {
                continue;
            }
            let steps: Vec<String> = given.iter().map(|given| field(option, given)).collect::<anyhow::Result<_>>()?;
            fields.push(format!("\"{name}\":{{{}}}", steps.join(",")));
        }
        let mut keys = Vec::with_capacity(self.take.len() + self.value.len());
        for given in &self.take {
            let Some((key, branch)) = given.rsplit_once('=') else {
                return Err(Problem::usage("--take is KEY=BRANCH, such as --take plan/budget=legal").into());
            };
            keys.push(format!("{}:{}", json!(key), json!({ "branch": branch })));
        }
        for given in &self.value {
            let (key, value) = parts("--value", given)?;
            keys.push(format!("{}:{{\"value\":{}}}", json!(key), value.trim()));
        }
        if !keys.is_empty() {
            fields.push(format!("\"merge\":{{{}}}", keys.join(",")));
        }
        Ok(format!("{{{}}}", fields.join(",")))
    }
}

/// `STEP=VALUE` as a field in JSON, the value as it was given.
fn field(option: &str, given: &str) -> anyhow::Result<String> {
    let (step, value) = parts(option, given)?;
    Ok(format!("{}:{}", json!(step), value.trim()))
}

/// The parts of `NAME=VALUE`, the value in JSON as it was given, or as it stands in a file.
fn parts<'a>(option: &str, given: &'a str) -> anyhow::Result<(&'a str, String)> {
    let Some((step, value)) = given.split_once('=') else {
        let what = if option == "--value" { "KEY" } else { "STEP" };
        return Err(
            Problem::usage(format!("{option} is {what}=VALUE, such as {option} scan='{{\"findings\": []}}'")).into()
        );
    };
    let value = input::json(&format!("{option} {step}"), &format!("{option} {step}="), value)?;
    Ok((step, value))
}

pub(crate) async fn run(command: Command, client: &Client, as_json: bool) -> anyhow::Result<()> {
    match command {
        Command::Why { run } => {
            let why = client.get(&format!("/v1/runs/{run}/why")).await?;
            if as_json {
                ui::json(&why)
            } else {
                print_why(&why)
            }
            Ok(())
        }
        Command::Conflicts { run } => {
            let found = client.get(&format!("/v1/runs/{run}/conflicts")).await?;
            if as_json {
                ui::json(&found)
            } else {
                print_conflicts(&found);
            }
            Ok(())
        }
        Command::Resume { run, changes } => {
            ask(client, run, "resume", &changes.body(Vec::new())?, None).await?;
            super::runs::done(client, run, format!("{run} goes on."), as_json).await
        }
        Command::ReplaceAgent { run, agent, changes } => {
            if agent.digest.is_none() {
                return Err(Problem::usage(format!("`{agent}` says no version"))
                    .help(format!("{agent}@sha256:…, as `ltmc agent show {agent}` shows it"))
                    .into());
            }
            let fields = vec![format!("\"agents\":{}", json!([agent.to_string()]))];
            let answer = ask(client, run, "resume", &changes.body(fields)?, None).await?.json()?;
            if as_json {
                ui::json(&answer);
                return Ok(());
            }
            let replayed = answer["replayed"].as_array().map(Vec::as_slice).unwrap_or_default();
            for one in replayed {
                let (step, calls) = (text(one, "step"), one["calls"].to_string());
                ui::note(format!(
                    "{step}: it made again the {calls} host calls up to the last checkpoint, and they are the same."
                ));
            }
            if replayed.is_empty() {
                ui::note("No step is in the middle of its work: there was nothing to be made again.");
            }
            ui::note(format!("{run} goes on with {agent}."));
            Ok(())
        }
        Command::Restart { run, from, cancel, changes, idempotency_key } => {
            let fields = vec![format!("\"from\":{}", json!(from)), format!("\"cancel\":{cancel}")];
            let answer = ask(client, run, "restart", &changes.body(fields)?, idempotency_key.as_deref()).await?;
            started(&answer.run()?, as_json);
            Ok(())
        }
        Command::Fork { run, at, changes, idempotency_key } => {
            let fields = at.map(|at| format!("\"at\":{at}")).into_iter().collect();
            let answer = ask(client, run, "fork", &changes.body(fields)?, idempotency_key.as_deref()).await?;
            started(&answer.run()?, as_json);
            Ok(())
        }
        Command::Dependents { run, step, depth } => {
            let asked = [("step", step), ("depth", depth.to_string())];
            let found = client.list(&format!("/v1/runs/{run}/dependents"), &asked, usize::MAX).await?;
            if as_json {
                found.iter().for_each(ui::json);
            } else {
                print_dependents(&found);
            }
            Ok(())
        }
        Command::Diff { a, b, limit } => {
            let diff = compared(client, a, b, limit).await?;
            if as_json {
                ui::json(&diff)
            } else {
                print_diff(&diff)
            }
            Ok(())
        }
    }
}

fn print_dependents(found: &[Value]) {
    let mut table = ui::Table::new(&["step", "name", "distance", "needs", "agent", "began"]);
    for one in found {
        let distance = one["distance"].to_string();
        table.row([
            text(one, "step"),
            text(one, "name"),
            &distance,
            &super::texts(one, "needs"),
            text(one, "agent"),
            text(one, "began"),
        ]);
    }
    table.print("Nothing depends on it.");
}

async fn ask(client: &Client, run: RunId, verb: &str, body: &str, key: Option<&str>) -> anyhow::Result<Answer> {
    let request = client.request(Method::POST, &format!("/v1/runs/{run}/{verb}"));
    let request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
    client
        .send(match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        })
        .await
}

/// What differs between two runs, up to so many differences.
async fn compared(client: &Client, a: RunId, b: RunId, limit: usize) -> anyhow::Result<Value> {
    let path = |limit: usize| format!("/v1/runs/{a}/diff/{b}?limit={}", limit.clamp(1, 500));
    let mut diff = client.get(&path(limit)).await?;
    let mut items = list(&diff, "items").cloned().collect::<Vec<_>>();
    while items.len() < limit
        && let Some(next) = diff["next"].as_str()
    {
        let page = client.get(&format!("{}&cursor={next}", path(limit - items.len()))).await?;
        items.extend(list(&page, "items").cloned());
        diff["next"] = page["next"].clone();
    }
    diff["items"] = items.into();
    Ok(diff)
}

fn print_diff(diff: &Value) {
    for (name, side) in [("a", &diff["a"]), ("b", &diff["b"])] {
        let forked = &side["forked"];
        let forked = match forked.is_object() {
            true => format!(", forked from {} at {}", text(forked, "of"), forked["at"]),
            false => String::new(),
        };
        let error = &side["error"];
        let error = if error.is_object() { format!("; {}", failure(error)) } else { String::new() };
        ui::line(format!("{name}  {}  {}{forked}{error}", text(side, "id"), text(side, "state")));
    }
    for (field, what) in [("same_document", "documents"), ("same_input", "inputs")] {
        if diff[field] == false {
            ui::line(format!("They have different {what}."));
        }
    }
    for (agent, versions) in diff["agents"].as_object().into_iter().flatten() {
        let version = |n: usize| versions[n].as_str().unwrap_or("none").to_owned();
        ui::line(format!("{agent}: {} in a, {} in b", version(0), version(1)));
    }
    ui::line(format!("{} the same, {} different", diff["same"], diff["different"]));
    for item in list(diff, "items") {
        let differs: Vec<&str> = list(item, "differs").filter_map(Value::as_str).collect();
        ui::line(format!("  {}: {}", called(item), differs.join(", ")));
        for side in ["a", "b"] {
            if item[side].is_object() {
                ui::line(format!("    {side}: {}", stands(&item[side])));
            }
        }
    }
    if diff["next"].is_string() {
        ui::line("  and more: `--limit` shows them");
    }
}

/// What a step, or another node, came to, in one line.
fn stands(of: &Value) -> String {
    let mut parts = Vec::new();
    for (name, value) in of.as_object().into_iter().flatten() {
        parts.push(match (name.as_str(), value) {
            ("output", output) => {
                let bytes = &output["bytes"];
                match output["text"].as_str() {
                    Some(given) => format!("gave {}", ui::clean(&ui::short(given, 160))),
                    None => format!("gave {bytes} bytes, {}", text(output, "digest")),
                }
            }
            ("status", Value::String(status)) => status.clone(),
            ("failure", Value::String(failure)) => ui::clean(&ui::short(failure, 300)),
            (name, value) => format!("{name} {value}"),
        });
    }
    parts.join(", ")
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

pub(super) fn print_conflicts(found: &Value) {
    let value = |value: &Value| match value["text"].as_str() {
        Some(shown) if shown.len() as u64 == value["bytes"].as_u64().unwrap_or_default() => ui::clean(shown),
        Some(shown) => format!("{}… ({} bytes)", ui::clean(shown), value["bytes"]),
        None => "nothing".to_owned(),
    };
    for conflict in list(found, "conflicts") {
        let settled = match text(conflict, "resolved") {
            "" => style("open".to_owned()).red(),
            by => style(format!("settled by {by}")).green(),
        };
        ui::line(format!(
            "{}  at {}  {settled}",
            style(ui::clean(text(conflict, "key"))).bold(),
            text(conflict, "node")
        ));
        ui::line(format!("  {}", ui::clean(text(conflict, "why"))));
        ui::line(format!("  at first: {}; now: {}", value(&conflict["base"]), value(&conflict["current"])));
        for side in list(conflict, "sides") {
            ui::line(format!("  {} ({}): {}", ui::clean(text(side, "name")), text(side, "did"), value(&side["value"])));
        }
    }
    if list(found, "conflicts").next().is_none() {
        ui::note("No branches of it conflict.");
    }
    if found["more"] == true {
        ui::note("There are more.");
    }
}

fn print_why(why: &Value) {
    ui::line(format!("{}  {}  {}", style(ui::clean(text(why, "of"))).bold(), text(why, "state"), text(why, "id")));
    ui::line(ui::clean(text(why, "summary")));
    let has = |field: &str| list(why, field).next().is_some();
    if has("chain") {
        ui::line("");
        let waits = matches!(text(why, "state"), "paused" | "stuck");
        let up_to = if waits { "what has it wait" } else { "the root" };
        ui::line(format!("From what failed up to {up_to}:"));
    }
    for link in list(why, "chain") {
        ui::line(format!("  {}", called(link)));
        if let Some(left_out) = link["tries_left_out"].as_u64() {
            ui::line(format!("    {left_out} tries before these are in the journal"));
        }
        for tried in list(link, "tries") {
            ui::line(format!("    try {}: {}", tried["number"], failure(&tried["failure"])));
        }
        for level in list(link, "levels") {
            let step = text(level, "step");
            let place = if step.is_empty() { String::new() } else { format!(" ({step})") };
            ui::line(format!("    {}{place}: {}", text(level, "level"), ui::clean(text(level, "said"))));
        }
    }
    let section = |field: &str, title: &str, line: &dyn Fn(&Value) -> String| {
        if has(field) {
            ui::line("");
            ui::line(title);
        }
        list(why, field).for_each(|one| ui::line(format!("  {}", line(one))));
    };
    section("handled", "Failed, and was handled:", &|one| {
        format!("{}: {}; {}", called(one), failure(&one["failure"]), ui::clean(text(one, "by")))
    });
    section("waits", "It waits:", &|one| {
        let until = text(one, "until");
        let until = if until.is_empty() { String::new() } else { format!(", until {until}") };
        let since = text(one, "since");
        let since = if since.is_empty() { String::new() } else { format!(", since {since}") };
        let in_vain = ui::clean(text(one, "in_vain"));
        let in_vain = if in_vain.is_empty() { String::new() } else { format!("\n      {in_vain}") };
        format!("{} for {}{since}{until}{in_vain}", called(one), ui::clean(text(one, "for")))
    });
    let is_over =
        matches!(text(why, "state"), "completed" | "failed" | "cancelled" | "quarantined" | "paused" | "stuck");
    let at_work = match text(why, "state") {
        "paused" => "It goes on at:",
        _ if is_over => "It was cut off at:",
        _ => "At work:",
    };
    section("at_work", at_work, &|one| {
        format!("{}: attempt {}, since {}, {} effects", called(one), one["attempt"], text(one, "since"), one["effects"])
    });
    section("found", "Found for what a step needs:", &|one| {
        let candidates: Vec<String> = list(one, "candidates").map(candidate).collect();
        format!("{}\n      looked at {}", called(one), candidates.join(", "))
    });
    if let Some(left_out) = why["left_out"].as_u64() {
        ui::line(format!("  and {left_out} more, which are in the journal"));
    }
    section("next", "What you can do:", &|one| {
        format!("{}\n      {}", style(text(one, "command")).bold(), text(one, "does"))
    });
}

/// An agent that was looked at, how well it fits, and why it could not be taken.
fn candidate(of: &Value) -> String {
    let score = of["score"].as_f64().unwrap_or_default();
    let refused = match text(of, "refused") {
        "" => String::new(),
        why => format!(" ({})", ui::clean(why)),
    };
    let load = of["load"].as_u64().map_or_else(String::new, |load| format!(" with {load} at work"));
    format!("{} {score:.2}{load}{refused}", text(of, "agent"))
}

/// A step or another node, as people call it.
fn called(of: &Value) -> String {
    let (step, pattern, agent) = (text(of, "step"), text(of, "pattern"), text(of, "agent"));
    let does = if agent.is_empty() { pattern.to_owned() } else { format!("{pattern} {agent}") };
    let mut place = vec![does, step.to_owned()];
    place.extend(of["item"].as_u64().map(|item| format!("item {item}")));
    place.extend(of["round"].as_u64().map(|round| format!("round {round}")));
    let name = text(of, "name");
    let place = ui::clean(&place.join(", "));
    if name.is_empty() { place } else { format!("{} ({place})", style(ui::clean(name)).bold()) }
}

fn failure(failure: &Value) -> String {
    let (code, message) = (text(failure, "code"), ui::clean(text(failure, "message")));
    format!("{code}: {message}{}", own_code(&failure["agent_code"]))
}
