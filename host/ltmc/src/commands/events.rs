//! `ltmc events`: what followed from an event.

use console::style;
use serde_json::Value;

use super::{Context, text};
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show an event's cascade: who took it and why, which runs began, and which events followed from those
    Trace {
        /// The event, by the number that `ltmc publish` shows
        #[arg(value_name = "EVENT")]
        id: u64,
        /// Over how many events that led to each other, 1 to 16
        #[arg(long, default_value_t = 16)]
        depth: u32,
        /// How many events are shown, 1 to 500
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let Command::Trace { id, depth, limit } = command;
    let client = context.client("default")?;
    let found = client.get(&format!("/v1/events/{id}/trace?depth={depth}&limit={limit}")).await?;
    if context.json {
        ui::json(&found);
    } else {
        drawn(&found).iter().for_each(ui::line);
    }
    Ok(())
}

/// The tree, a line each.
fn drawn(traced: &Value) -> Vec<String> {
    let mut lines = vec![heading(traced)];
    below(traced, "", &mut lines);
    lines
}

fn heading(traced: &Value) -> String {
    let event = &traced["event"];
    let subject = event["subject"].as_str().map_or_else(String::new, |subject| format!(" of {}", ui::clean(subject)));
    let hops = match event["hops"].as_u64() {
        Some(hops) => format!(", {hops} before it"),
        None => String::new(),
    };
    let (kind, from) = (ui::clean(text(event, "type")), ui::clean(text(event, "source")));
    format!("{}{subject}  on {}, from {from}{hops}", style(kind).bold(), text(traced, "topic"))
}

/// What stands below an event, behind `before`.
fn below(traced: &Value, before: &str, lines: &mut Vec<String>) {
    let list = |field: &str| traced[field].as_array().into_iter().flatten();
    let left_out =
        traced["left-out"].as_u64().map(|count| format!("at least {count} more followed, which are not shown"));
    let (taken, passed, led_to): (Vec<_>, Vec<_>, Vec<_>) =
        (list("taken").collect(), list("passed").collect(), list("led-to").collect());
    let count = taken.len() + passed.len() + led_to.len() + usize::from(left_out.is_some());
    let mut number = 0;
    let mut next = |line: String, lines: &mut Vec<String>| {
        number += 1;
        let (branch, rest) = if number == count { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{before}{branch}{line}"));
        format!("{before}{rest}")
    };
    for one in taken {
        let before = next(made(one), lines);
        let events: Vec<&Value> = one["events"].as_array().into_iter().flatten().collect();
        for (at, event) in events.iter().enumerate() {
            let (branch, rest) = if at + 1 == events.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            lines.push(format!("{before}{branch}{}", heading(event)));
            below(event, &format!("{before}{rest}"), lines);
        }
    }
    for event in led_to {
        let before = next(heading(event), lines);
        below(event, &before, lines);
    }
    for one in passed {
        let line = format!("{} did not take it: {}", text(one, "subscription"), text(one, "why"));
        next(style(line).dim().to_string(), lines);
    }
    if let Some(left_out) = left_out {
        next(left_out, lines);
    }
}

/// What a subscription made of an event, in a line.
fn made(one: &Value) -> String {
    let name = style(text(one, "subscription")).bold();
    let starts = ["agent", "workflow"].iter().find_map(|kind| Some(format!(" -> {kind} {}", one[*kind].as_str()?)));
    let why = match &one["where"] {
        Value::Null => "takes all".to_owned(),
        filter => format!("fits {}", ui::clean(&filter.to_string())),
    };
    let came = match (one["run"].as_str(), one["stage"].as_str()) {
        (Some(run), _) => format!("run {run} {}", text(one, "state")),
        (None, Some(stage)) => match one["reason"].as_str() {
            Some(reason) => style(format!("{stage}: {}", ui::clean(reason))).red().to_string(),
            None => stage.to_owned(),
        },
        (None, None) => "its run is not kept any more".to_owned(),
    };
    format!("{name}{}  ({why})  {came}", starts.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cascade_is_drawn_as_a_tree() {
        let event = |kind: &str, hops: Option<u32>| json!({"type": kind, "source": "/keys/k", "hops": hops});
        let dead = json!({"subscription": "last", "where": null, "run": null, "stage": "dead", "reason": "loop: 11", "events": []});
        let inner = json!({
            "topic": "b", "event": event("wanted", Some(1)), "taken": [dead], "passed": [], "left-out": 3,
        });
        let run = json!({
            "subscription": "feed", "where": {"exact": {"type": "a"}}, "agent": "note", "run": "r1", "state": "completed",
            "events": [inner.clone(), inner],
        });
        let passed = json!({"subscription": "other", "why": "its `where` does not fit"});
        let tree = json!({"topic": "a", "event": event("filed", None), "taken": [run], "passed": [passed]});
        console::set_colors_enabled(false);
        let wanted = [
            "filed  on a, from /keys/k",
            "├─ feed -> agent note  (fits {\"exact\":{\"type\":\"a\"}})  run r1 completed",
            "│  ├─ wanted  on b, from /keys/k, 1 before it",
            "│  │  ├─ last  (takes all)  dead: loop: 11",
            "│  │  └─ at least 3 more followed, which are not shown",
            "│  └─ wanted  on b, from /keys/k, 1 before it",
            "│     ├─ last  (takes all)  dead: loop: 11",
            "│     └─ at least 3 more followed, which are not shown",
            "└─ other did not take it: its `where` does not fit",
        ];
        assert_eq!(drawn(&tree), wanted);
    }
}
