//! `ltmc runs why`: why a run stands where it does, and what can be done about it.

use console::style;
use ltmc_model::RunId;
use serde_json::Value;

use super::runs::own_code;
use super::text;
use crate::client::Client;
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Tell why one stands where it does, what it waits for, and what can be done next
    Why {
        /// The run's id
        run: RunId,
    },
}

pub(crate) async fn run(command: Command, client: &Client, as_json: bool) -> anyhow::Result<()> {
    match command {
        Command::Why { run } => {
            let why = client.get(&format!("/v1/runs/{run}/why")).await?;
            if as_json { ui::json(&why) } else { print_why(&why) }
            Ok(())
        }
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn print_why(why: &Value) {
    ui::line(format!("{}  {}  {}", style(ui::clean(text(why, "of"))).bold(), text(why, "state"), text(why, "id")));
    ui::line(ui::clean(text(why, "summary")));
    let has = |field: &str| list(why, field).next().is_some();
    if has("chain") {
        ui::line("");
        ui::line("From what failed up to the root:");
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
        format!("{} for {}, until {}", called(one), ui::clean(text(one, "for")), text(one, "until"))
    });
    section("at_work", "At work:", &|one| {
        format!("{}: attempt {}, since {}, {} effects", called(one), one["attempt"], text(one, "since"), one["effects"])
    });
    if let Some(left_out) = why["left_out"].as_u64() {
        ui::line(format!("  and {left_out} more, which are in the journal"));
    }
    section("next", "What you can do:", &|one| {
        format!("{}\n      {}", style(text(one, "command")).bold(), text(one, "does"))
    });
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
