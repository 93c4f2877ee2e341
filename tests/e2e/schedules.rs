//! Schedules with the real binary: a tick starts one run also where the host is killed at that moment; and the command for them.

use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::{Answer, Host};
use rand::RngExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A host that was killed is up again, and has started what was due, sooner than this.
const PATIENCE: Duration = Duration::from_secs(30);

async fn put(host: &Host, document: &str) -> Result<Answer> {
    let name = document.split_whitespace().nth(1).unwrap_or_default();
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    host.send(request.header("content-type", "application/yaml").body(document.to_owned())).await
}

async fn schedule(host: &Host, workflow: &str) -> Result<Value> {
    let page = host.get(&format!("/v1/schedules?workflow={workflow}")).await?.expect(200).json();
    page["items"].get(0).cloned().with_context(|| format!("no schedule: {page}"))
}

/// The time now, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "the host's clock is the machine's")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The host is killed within moments of a tick, before it or after it.
#[tokio::test]
async fn a_tick_starts_one_run_over_a_kill() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "counter", "counter", &["memory:read:*", "memory:write:*"]).await?;
    let document = "name: beat\non: [{schedule: \"* * * * *\", input: {key: n, scope: agent, times: 1}}]\nflow: {agent: counter}\n";
    put(&host, document).await?.expect(201);
    let tick = schedule(&host, "beat").await?["next"][0]["at"].as_str().unwrap_or_default().to_owned();
    let early = rand::rng().random_range(0..100_u64);
    let late = rand::rng().random_range(0..200_u64);
    sleep(Duration::from_millis((60_000 - now() % 60_000).saturating_sub(early) + late)).await;
    println!("killed {early} ms before {tick} and {late} ms on");
    host.kill_and_restart().await?;
    let begun = Instant::now();
    let row = loop {
        let row = schedule(&host, "beat").await?;
        if row["started"].as_u64() > Some(0) {
            break row;
        }
        ensure!(begun.elapsed() < PATIENCE, "nothing was started: {row:#}\n{}", host.log());
        sleep(Duration::from_millis(50)).await;
    };
    host.send(host.request(Method::POST, "/v1/schedules/beat/1/pause", &host.admin)).await?.expect(204);
    let started = schedule(&host, "beat").await?["started"].as_u64().unwrap_or_default();
    let page = host.get("/v1/runs?workflow=beat").await?.expect(200).json();
    let mut ticks = std::collections::BTreeSet::new();
    for run in page["items"].as_array().context("runs")? {
        let id = run["id"].as_str().unwrap_or_default();
        let ended = host.ended(&host.admin, id).await?;
        ensure!(ended["state"] == "completed", "{ended:#}\n{}", host.log());
        ensure!(ticks.insert(ended["scheduled"]["tick"].as_str().map(str::to_owned)), "two by one tick: {page:#}");
    }
    assert_eq!(ticks.len() as u64, started, "{page:#}");
    assert!(ticks.contains(&Some(tick)), "{ticks:?} {row:#}");
    let asked = json!({"key": "n", "scope": "agent", "times": 1});
    let count = host.call(&host.admin, "counter", &asked).await?.expect(200).text();
    assert!(count.contains(&(started + 1).to_string()), "{started} ticks and this call: {count}");
    Ok(())
}

#[tokio::test]
async fn schedules_are_looked_at_paused_continued_and_run_by_the_command() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let wrong = "name: yearly\non:\n  - {schedule: 0 24 * * *}\n  - {schedule: 0 6 * * *, zone: Europe/Berln}\nflow: {agent: echo}\n";
    let told = put(&host, wrong).await?.expect(400).json();
    let places: Vec<_> = told["details"].as_array().into_iter().flatten().map(|one| one["line"].clone()).collect();
    assert_eq!((told["code"].as_str(), places), (Some("bad-workflow"), vec![json!(3), json!(4)]), "{told:#}");
    let document =
        "name: yearly\non: [{schedule: 30 2 28 3 *, zone: Europe/Berlin, input: {say: hello}}]\nflow: {agent: echo}\n";
    put(&host, document).await?.expect(201);
    let ltmc = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(ltmc_tests::binary()?);
        command.args(arguments).arg("--data").arg(host.data()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
        Ok(command.output()?)
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let shown = text(&ltmc(&["schedules", "list"])?);
    assert!(shown.contains("yearly/1") && shown.contains("30 2 28 3 *") && shown.contains("Europe/Berlin"), "{shown}");
    assert_eq!(shown.matches("next ").count(), 5, "{shown}");

    let run = text(&ltmc(&["schedules", "run", "yearly"])?).trim().to_owned();
    let ended = host.ended(&host.admin, &run).await?;
    assert_eq!((&ended["state"], &ended["scheduled"]["asked-for"]), (&json!("completed"), &json!(true)), "{ended:#}");
    let output = host.get(&format!("/v1/runs/{run}/output")).await?.expect(200).json();
    assert_eq!(output, json!({"say": "hello"}), "its input and nothing else");

    assert!(ltmc(&["schedules", "pause", "yearly/1"])?.status.success());
    let again = ltmc(&["schedules", "pause", "yearly/1"])?;
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("paused already"));
    let row: Value = serde_json::from_str(&text(&ltmc(&["--json", "schedules", "list"])?))?;
    assert_eq!(
        (row["paused"]["by"].is_string(), &row["next"], &row["started"]),
        (true, &json!([]), &json!(1)),
        "{row:#}"
    );
    assert!(ltmc(&["schedules", "continue", "yearly"])?.status.success());
    let row = schedule(&host, "yearly").await?;
    assert!(row["paused"].is_null(), "{row:#}");
    let acts = host.get("/v1/audit?action=schedule-paused").await?.expect(200).json();
    assert_eq!(acts["items"][0]["subject"], "yearly/1", "{acts:#}");
    let bad = host.request(Method::POST, "/v1/schedules/yearly/0/pause", &host.admin);
    assert_eq!(host.send(bad).await?.expect(400).code(), "bad-path");

    host.send(host.request(Method::DELETE, "/v1/workflows/yearly", &host.admin)).await?.expect(204);
    assert_eq!(host.get("/v1/schedules").await?.expect(200).json()["items"], json!([]));
    assert_eq!(ltmc(&["schedules", "run", "yearly"])?.status.code(), Some(1));
    Ok(())
}
