//! What an operator relies on: an orderly stop, logs, metrics, and a record that shows when it was tampered with.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Result;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

/// The host's record, opened behind its back.
async fn record(host: &Host) -> Result<SqliteConnection> {
    Ok(SqliteConnectOptions::new().filename(host.data().join("record.db")).connect().await?)
}

fn ltmc(host: &Host, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(ltmc_tests::binary()?).args(arguments).arg("--data").arg(host.data()).output()?)
}

#[tokio::test]
async fn a_run_under_way_is_parked_and_goes_on_at_the_next_start() -> Result<()> {
    let mut host = Host::start_with("shutdown_deadline = \"200ms\"\n").await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let request = host.request(Method::POST, "/v1/agents/slow/call", &host.admin).header("prefer", "respond-async");
    let work = json!({"n": 30, "sleep_ms": 100, "scope": "agent"});
    let run = host.send(request.json(&work)).await?.expect(202).json()["run"].as_str().unwrap_or_default().to_owned();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(host.terminate().await?.success(), "{}", host.log());
    host.restart().await?;
    let ended = host.ended(&host.admin, &run).await?;
    assert_eq!(ended["state"], "completed", "{ended:#}");
    assert_eq!(ended["output"]["json"]["count"], 30, "no effect happened twice: {ended:#}");
    let journal = host.get(&format!("/v1/runs/{run}/journal?limit=500")).await?.expect(200).json();
    let claims = journal["items"].as_array().unwrap().iter().filter(|entry| entry["event"]["run-claimed"].is_object());
    assert_eq!(claims.count(), 1, "{journal:#}");
    Ok(())
}

/// Somebody has the record's lock, as a disk that hangs would: nothing can be written, and the host ends all the same.
#[tokio::test]
async fn a_host_that_cannot_come_to_its_end_ends_by_itself() -> Result<()> {
    let mut host = Host::start_with("shutdown_deadline = \"200ms\"\n").await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let request = host.request(Method::POST, "/v1/agents/slow/call", &host.admin).header("prefer", "respond-async");
    let work = json!({"n": 20, "sleep_ms": 100, "scope": "agent"});
    let run = host.send(request.json(&work)).await?.expect(202).json()["run"].as_str().unwrap_or_default().to_owned();
    let mut record = record(&host).await?;
    sqlx::query("begin immediate").execute(&mut record).await?;
    let status = host.terminate().await?;
    assert_eq!(status.code(), Some(1), "{}", host.log());
    assert!(host.log().contains("`shutdown_deadline` is over"), "{}", host.log());
    sqlx::query("rollback").execute(&mut record).await?;
    record.close().await?;
    assert!(ltmc(&host, &["audit", "verify"])?.status.success());
    host.restart().await?;
    let ended = host.ended(&host.admin, &run).await?;
    assert_eq!((&ended["state"], &ended["output"]["json"]["count"]), (&json!("completed"), &json!(20)), "{ended:#}");
    Ok(())
}

#[tokio::test]
async fn log_lines_say_whose_run_and_step_and_never_a_key() -> Result<()> {
    let host = Host::start_with("[log]\nformat = \"json\"\nlevel = \"debug\"\n").await?;
    host.push(&host.admin, "panics", "panics", &[]).await?;
    let answer = host.call(&host.admin, "panics", &json!({})).await?.expect(502);
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    let log = host.whole_log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let about = lines.iter().find(|line| line["run"] == run.as_str() && line["code"] == "agent-trapped");
    let about = about.unwrap_or_else(|| panic!("no line is about run {run}:\n{log}"));
    assert_eq!((&about["tenant"], &about["step"]), (&json!("default"), &json!("0")));
    for key in [&host.admin, &host.operator] {
        let secret = key.rsplit('_').next().unwrap_or_default();
        assert!(!log.contains(secret), "a secret stands in the log");
    }
    Ok(())
}

#[tokio::test]
async fn metrics_count_calls_denials_queue_pool_and_journal() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "denied", "denied", &[]).await?;
    host.call(&host.admin, "denied", &json!({})).await?.expect(200);
    let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
    for name in [
        "ltmc_calls_total{outcome=\"ok\"} 1",
        "ltmc_call_seconds_bucket",
        "ltmc_host_calls_total{call=\"memory.open\",outcome=\"denied\"} 3",
        "ltmc_denials_total{capability=\"log\"} 1",
        "ltmc_sandbox_queued 0",
        "ltmc_sandbox_waiting 0",
        "ltmc_sandbox_slots",
        "ltmc_sandbox_components_loaded_bytes",
        "ltmc_journal_appends_total",
        "ltmc_journal_commit_seconds_count",
        "ltmc_runs_total{state=\"completed\"} 1",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "no `{name}` in:\n{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn one_changed_byte_is_found_with_its_place_also_while_the_host_runs() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let answer = host.call(&host.admin, "echo", &json!({"say": "original"})).await?.expect(200);
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    assert!(ltmc(&host, &["audit", "verify"])?.status.success());
    let mut record = record(&host).await?;
    let id = hex(&run.replace('-', ""));
    let rows =
        sqlx::query("update journal set frames = cast(replace(frames, 'original', 'Original') as blob) where run = ?");
    assert_eq!(rows.bind(id).execute(&mut record).await?.rows_affected(), 1);
    record.close().await?;
    let verified = ltmc(&host, &["audit", "verify"])?;
    let said = String::from_utf8_lossy(&verified.stderr);
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains(&run) && said.contains("entry 1") && said.contains("tenant default"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_left_alone() -> Result<()> {
    let mut host = Host::start().await?;
    host.terminate().await?;
    let mut record = record(&host).await?;
    sqlx::query("pragma user_version = 99").execute(&mut record).await?;
    record.close().await?;
    let refused = ltmc(&host, &["serve", "--listen", "127.0.0.1:0"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("newer version"), "{said}");
    Ok(())
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}

#[tokio::test]
async fn what_is_loaded_stays_within_its_bound_and_everything_can_be_called() -> Result<()> {
    let host = Host::start_with("[sandbox]\ncache = \"600KiB\"\n").await?;
    let agents = ["echo", "counter", "flaky", "logger", "slow-effects", "snoop-tenant"];
    for agent in agents {
        host.push(&host.admin, agent, agent, &[]).await?;
    }
    for agent in agents.iter().chain(&agents) {
        // Whether it can do its work without a grant does not matter: it was loaded and it ran.
        let answer =
            host.call(&host.admin, agent, &json!({"until": 0, "n": 0, "sleep_ms": 0, "scope": "agent"})).await?;
        assert!(matches!(answer.status.as_u16(), 200 | 422), "{agent}: {}", answer.text());
    }
    let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
    let figure = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default();
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(-1.0)
    };
    let (loaded, bytes) = (figure("ltmc_sandbox_components_loaded"), figure("ltmc_sandbox_components_loaded_bytes"));
    assert!(loaded >= 1.0 && loaded < agents.len() as f64, "{loaded} are loaded");
    assert!(bytes <= f64::from(600 << 10) || loaded == 1.0, "{loaded} are loaded, of {bytes} bytes");
    Ok(())
}
