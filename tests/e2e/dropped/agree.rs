//! What must agree at any moment, whatever became of a request: what the record says of a thing, what is shown of it, and what
//! was done by it. To add one: a variant of [`Look`], and where it is looked at.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use ltmc_tests::Host;
use serde_json::Value;

/// What is looked at.
#[derive(Debug, Clone)]
pub(super) enum Look {
    /// These keys of the tenant's memory: each is there, in lists and by itself, just where the last act about it in the audit put
    /// it, and they are there together. What is counted up has as much as there are acts.
    Memory(Vec<String>),
    /// A run: lists show what it shows itself.
    Run(String),
    /// A session: its turns are over just where their runs are, and it counts them right.
    Session(String),
    /// A subscription: it counts what it took in right, and what is under way has a run that is.
    Subscription(String),
}

impl Look {
    /// What does not agree; none: it does.
    pub(super) async fn disagrees(&self, host: &Host) -> Result<Option<String>> {
        let found = match self {
            Self::Memory(keys) => memory(host, keys).await?,
            Self::Run(run) => {
                let shown = host.get(&format!("/v1/runs/{run}")).await?.expect(200).json();
                let rows = all(host, "/v1/runs").await?;
                let row = rows.into_iter().find(|row| row["id"] == *run).context("the run is not listed")?;
                (row["state"] != shown["state"])
                    .then(|| format!("run {run} is {}, and listed as {}", shown["state"], row["state"]))
            }
            Self::Session(id) => session(host, id).await?,
            Self::Subscription(name) => subscription(host, name).await?,
        };
        Ok(found)
    }
}

/// Every item of a list, page by page.
pub(super) async fn all(host: &Host, path: &str) -> Result<Vec<Value>> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    let and = if path.contains('?') { '&' } else { '?' };
    loop {
        let page = host.get(&format!("{path}{and}limit=100{cursor}")).await?.expect(200).json();
        found.extend(page["items"].as_array().context("items")?.iter().cloned());
        let Some(next) = page["next"].as_str() else { return Ok(found) };
        cursor = format!("&cursor={next}");
    }
}

/// Acts about a thing of shared context, the newest first: of each its call. The thing is named as the audit names it.
pub(super) async fn acts(host: &Host, about: &str) -> Result<Vec<String>> {
    // What a round is about is among the newest.
    let page = host.get("/v1/audit?action=context-changed&limit=100").await?.expect(200).json();
    let names = |subject: &str| {
        let mut found = subject.match_indices(about).map(|(at, _)| &subject[at + about.len()..]);
        found.any(|rest| rest.is_empty() || rest.starts_with([' ', ',']))
    };
    let acts =
        page["items"].as_array().context("items")?.iter().filter(|act| act["subject"].as_str().is_some_and(names));
    Ok(acts.filter_map(|act| act["detail"]["call"].as_str().map(str::to_owned)).collect())
}

async fn memory(host: &Host, keys: &[String]) -> Result<Option<String>> {
    let mut there = BTreeSet::new();
    for key in keys {
        let acts = acts(host, &format!("global/{key}")).await?;
        let is_there = acts.first().is_some_and(|last| last != "memory.delete");
        let got = host.get(&format!("/v1/memory/global/{key}")).await?;
        let listed = all(host, &format!("/v1/memory/global?prefix={key}")).await?;
        let listed = listed.iter().find(|item| item["key"] == **key);
        if (got.status == 200) != is_there || listed.is_some() != is_there {
            return Ok(Some(format!(
                "`{key}`: {acts:?} were done, it gives {} and is listed as {listed:?}",
                got.status
            )));
        }
        let updates = acts.iter().filter(|call| *call == "memory.update").count();
        if updates > 0 && got.text() != updates.to_string() {
            return Ok(Some(format!("`{key}` was counted up {updates} times, and is {}", got.text())));
        }
        let revision = got.headers.get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        if listed.is_some_and(|item| format!("\"{}\"", item["revision"]) != revision) {
            return Ok(Some(format!("`{key}` has the revision {revision}, and is listed as {listed:?}")));
        }
        there.insert(is_there);
    }
    Ok((there.len() > 1).then(|| format!("of {keys:?} one is there, and another is not")))
}

async fn session(host: &Host, id: &str) -> Result<Option<String>> {
    let session = host.get(&format!("/v1/sessions/{id}")).await?.expect(200).json();
    let turns = all(host, &format!("/v1/sessions/{id}/turns")).await?;
    let of = |stage: &str| turns.iter().filter(|turn| turn["stage"] == stage).collect::<Vec<_>>();
    let agrees = session["turns"] == turns.len()
        && session["queued"] == of("queued").len()
        && of("active").len() == usize::from(!session["active"].is_null())
        && of("active").iter().all(|turn| turn["run"] == session["active"]["run"])
        && turns.iter().all(|turn| (turn["stage"] == "over") == is_over(turn));
    Ok((!agrees).then(|| format!("{session:#} has the turns {turns:#?}")))
}

async fn subscription(host: &Host, name: &str) -> Result<Option<String>> {
    let (one, its) = (format!("/v1/subscriptions/{name}"), format!("/v1/subscriptions/{name}/events"));
    let row = host.get(&one).await?;
    if row.status == 404 {
        let events = host.get(&its).await?;
        let is_empty = events.status == 404 || events.json()["items"].as_array().is_some_and(Vec::is_empty);
        return Ok((!is_empty).then(|| format!("`{name}` is not there, and has {}", events.text())));
    }
    let row = row.expect(200).json();
    // What deletes it may come between two looks. A round has few events.
    let events = host.get(&format!("{its}?limit=100")).await?;
    if events.status == 404 {
        return Ok((host.get(&one).await?.status != 404).then(|| format!("`{name}` is there, and its events are not")));
    }
    let events = events.expect(200).json()["items"].as_array().context("items")?.clone();
    let of = |stages: &[&str]| events.iter().filter(|one| stages.iter().any(|stage| one["stage"] == *stage)).count();
    let mut agrees = row["waiting"] == of(&["waiting"])
        && row["under-way"] == of(&["under-way"])
        && row["dead"] == of(&["parked", "dead"]);
    for event in events.iter().filter(|event| event["stage"] == "under-way") {
        let run = event["run"].as_str().context("what is under way has a run")?;
        agrees &= !is_over(&host.get(&format!("/v1/runs/{run}")).await?.expect(200).json());
    }
    Ok((!agrees).then(|| format!("{row:#} has the events {events:#?}")))
}

/// Whether a run, or a turn's, is over.
fn is_over(run: &Value) -> bool {
    matches!(run["state"].as_str(), Some("completed" | "failed" | "cancelled"))
}
