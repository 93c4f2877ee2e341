//! What was in vain is undone, once, whatever becomes of the host; runs that wait for people, and what people do about them.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(host: &Host, name: &str, flow: &str) -> Result<()> {
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    let document = format!("name: {name}\nflow: {flow}\n");
    host.send(request.header("content-type", "application/yaml").body(document)).await?.expect(201);
    Ok(())
}

async fn start(host: &Host, workflow: &str, input: &Value) -> Result<String> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{workflow}/runs"), &host.admin);
    let answer = host.send(request.header("prefer", "wait=0").json(input)).await?.expect(202);
    Ok(answer.headers["ltmc-run"].to_str()?.to_owned())
}

async fn ask(host: &Host, run: &str, verb: &str) -> Result<Answer> {
    host.send(host.request(Method::POST, &format!("/v1/runs/{run}/{verb}"), &host.admin)).await
}

/// Waits until a step of a run is under way.
async fn reaches(host: &Host, run: &str, step: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let view = host.get(&format!("/v1/runs/{run}")).await?.expect(200).json();
        let steps = view["steps"].as_array().cloned().unwrap_or_default();
        if steps.iter().any(|found| found["name"] == step && found["status"] == "running") {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "`{step}` does not begin: {view:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How far an agent has counted.
async fn count(host: &Host, agent: &str) -> Result<Value> {
    let answer = host.call(&host.admin, agent, &json!({"n": 0, "sleep_ms": 0, "scope": "agent"})).await?;
    Ok(answer.expect(200).json()["count"].clone())
}

fn ltmc(host: &Host, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(ltmc_tests::binary()?).args(arguments).arg("--data").arg(host.data()).output()?)
}

async fn counting(host: &Host, agents: &[&str]) -> Result<()> {
    for agent in agents {
        host.push(&host.admin, agent, "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    }
    Ok(())
}

/// Each counts to 6, with a checkpoint and a pause after each: one that was made twice would count on.
#[tokio::test]
async fn a_cancelled_run_is_undone_once_however_often_the_host_is_killed() -> Result<()> {
    let mut host = Host::start().await?;
    counting(&host, &["one", "two", "long", "free-one", "free-two", "free-long"]).await?;
    let step = |agent: &str, n: u32| {
        let undo = format!("{{agent: free-{agent}, with: {{n: 6, sleep_ms: 60, scope: agent}}}}");
        format!("{{agent: {agent}, with: {{n: {n}, sleep_ms: 100, scope: agent}}, compensate: {undo}}}")
    };
    let flow = format!("{{sequence: [{}, {{parallel: [{}, {}]}}]}}", step("one", 1), step("two", 1), step("long", 600));
    put(&host, "saga", &flow).await?;
    let run = start(&host, "saga", &json!({})).await?;
    reaches(&host, &run, "long").await?;
    ask(&host, &run, "cancel").await?.expect(202);
    for kill in 0..5_u64 {
        tokio::time::sleep(Duration::from_millis(90 + 70 * kill)).await;
        host.kill_and_restart().await?;
        let again = ask(&host, &run, "cancel").await?;
        ensure!([202, 409, 429].contains(&again.status.as_u16()), "{}", again.text());
    }
    let view = host.ended(&host.admin, &run).await?;
    assert_eq!(view["state"], "cancelled", "{view:#}");
    for agent in ["free-one", "free-two", "free-long"] {
        assert_eq!(count(&host, agent).await?, 6, "{agent}: {view:#}");
    }
    let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
    let done = nodes.iter().filter(|node| node["compensation"] == "done").count();
    assert_eq!(done, 3, "{view:#}");
    host.kill();
    let verified = ltmc(&host, &["audit", "verify"])?;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_undone_is_listed_and_tried_again_by_people() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.push(&host.admin, "flaky", "flaky", &[]).await?;
    // It cannot at its first attempt, and can at its second.
    let undo = "{agent: flaky, with: {until: 2}}";
    put(&host, "stuck", &format!("{{agent: echo, compensate: {undo}, validate: {{json-schema: {{type: string}}}}}}"))
        .await?;
    let request = host.request(Method::POST, "/v1/workflows/stuck/runs", &host.admin);
    let answer = host.send(request.header("prefer", "wait=60").json(&json!({}))).await?.expect(409);
    assert_eq!(answer.code(), "stuck", "{}", answer.text());
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    host.kill_and_restart().await?;
    let listed = host.get("/v1/runs?state=stuck").await?.expect(200).json();
    assert_eq!(listed["items"][0]["id"], json!(run), "{listed:#}");
    let shown = String::from_utf8_lossy(&ltmc(&host, &["runs", "list", "--state", "stuck"])?.stdout).into_owned();
    assert!(shown.contains(&run), "{shown}");
    ask(&host, &run, "resume").await?.expect(202);
    let view = host.ended(&host.admin, &run).await?;
    assert_eq!((&view["state"], &view["error"]["code"]), (&json!("failed"), &json!("validation-failed")), "{view:#}");
    let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
    let recovered = "ltmc_recovered_total{level=\"compensation\",outcome=\"recovered\"} 1";
    assert!(metrics.lines().any(|line| line == recovered), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_run_is_paused_on_the_command_line_and_stays_so_over_a_restart() -> Result<()> {
    let mut host = Host::start().await?;
    counting(&host, &["long"]).await?;
    put(&host, "patient", "{agent: long, with: {n: 30, sleep_ms: 50, scope: agent}}").await?;
    let run = start(&host, "patient", &json!({})).await?;
    reaches(&host, &run, "long").await?;
    let paused = ltmc(&host, &["runs", "pause", &run, "--json"])?;
    assert!(paused.status.success(), "{}", String::from_utf8_lossy(&paused.stderr));
    let shown: Value = serde_json::from_slice(&paused.stdout)?;
    assert_eq!((&shown["id"], &shown["state"]), (&json!(run), &json!("paused")), "{shown:#}");
    host.kill_and_restart().await?;
    let view = host.get(&format!("/v1/runs/{run}")).await?.expect(200).json();
    assert_eq!((&view["state"], &view["error"]["code"]), (&json!("paused"), &json!("paused")), "{view:#}");
    let before = count(&host, "long").await?;
    assert!(before.as_u64().is_some_and(|count| count < 30), "{before}");
    let continued = ltmc(&host, &["runs", "continue", &run])?;
    assert!(continued.status.success(), "{}", String::from_utf8_lossy(&continued.stderr));
    assert_eq!(host.ended(&host.admin, &run).await?["state"], "completed");
    assert_eq!(count(&host, "long").await?, 30, "it went on from its checkpoint");
    for verb in ["pause", "continue"] {
        let refused = ask(&host, &run, verb).await?.expect(409);
        assert!(refused.text().contains("completed"), "{}", refused.text());
        assert!(!ltmc(&host, &["runs", verb, &run])?.status.success());
    }
    Ok(())
}
