//! The host is killed at random times under load. Afterwards every acknowledged run completes, no effect has happened
//! twice, and the chain of the audit is whole. The seed is printed; `LTMC_TEST_SEED` gives it again.

use std::time::Duration;

use anyhow::{Result, ensure};
use ltmc_tests::Host;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::json;

const KILLS: usize = 4;
const STEPS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_and_happens_once() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a failing seed can be given again")]
    let seed = std::env::var("LTMC_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("LTMC_TEST_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut host = Host::start().await?;
    let grants = ["memory:read:*", "memory:write:*"];
    host.push(&host.admin, "slow", "slow-effects", &grants).await?;
    let document = "name: steps\nflow:\n  sequence:\n    - agent: slow\n    - {agent: slow, id: again, with: {n: 6, sleep_ms: 15, scope: agent}}\n";
    let request = host.request(Method::PUT, "/v1/workflows/steps", &host.admin);
    let put = host.send(request.header("content-type", "application/yaml").body(document)).await?;
    ensure!(put.status.is_success(), "{}", put.text());

    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let until = tokio::time::Instant::now() + Duration::from_millis(random.random_range(400..2_500));
        let mut number = 0;
        while tokio::time::Instant::now() < until {
            number += 1;
            let key = format!("{round}-{number}");
            let request = host.request(Method::POST, "/v1/workflows/steps/runs", &host.admin);
            let input = json!({"n": STEPS, "sleep_ms": 15, "scope": "agent"});
            if let Ok(answer) = host.send(request.header("idempotency-key", &key).json(&input)).await {
                ensure!(answer.status.as_u16() == 202 || answer.status.is_success(), "{}", answer.text());
                let location = answer.headers["location"].to_str()?.to_owned();
                acknowledged.push((key, location.rsplit('/').next().unwrap_or_default().to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(5..60))).await;
        }
        host.kill_and_restart().await?;
    }
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged: {}", host.log());
    for (key, run) in &acknowledged {
        let ended = host.ended(&host.admin, run).await?;
        assert_eq!(ended["state"], "completed", "seed {seed}, {key}: {ended:#}\n{}", host.log());
    }
    // A call reads the counter that every run moved by exactly two times STEPS.
    let answer = host.call(&host.admin, "slow", &json!({"n": 0, "sleep_ms": 0, "scope": "agent"})).await?.expect(200);
    let runs = host.get("/v1/runs?workflow=steps&limit=500").await?.expect(200).json();
    assert_eq!(runs["next"], json!(null), "more runs than a page holds");
    let started = runs["items"].as_array().unwrap().len() as u64;
    assert_eq!(answer.json()["count"].as_u64(), Some(started * 2 * STEPS), "seed {seed}: {}", answer.text());
    assert!(started >= acknowledged.len() as u64);

    host.terminate().await?;
    let verify = std::process::Command::new(ltmc_tests::binary()?)
        .args(["audit", "verify", "--data"])
        .arg(host.data())
        .output()?;
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    Ok(())
}

/// What a guest read of the clock before an effect it reads again: its keys, made of the time, are the same.
#[tokio::test]
async fn a_guest_that_is_resumed_sees_the_same_time_again() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "clock-keys", "clock-keys", &["memory:read:agent", "memory:write:agent"]).await?;
    let request =
        host.request(Method::POST, "/v1/agents/clock-keys/call", &host.admin).header("prefer", "respond-async");
    let started = host.send(request.header("content-type", "text/plain").body("x")).await?.expect(202).json();
    let run = started["run"].as_str().unwrap_or_default().to_owned();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        host.kill_and_restart().await?;
    }
    let ended = host.ended(&host.admin, &run).await?;
    assert_eq!(ended["state"], "completed", "{ended:#}");
    assert_eq!(ended["output"]["text"], "40 keys", "{ended:#}");
    Ok(())
}

/// A client whose host dies asks the next one again, as soon as it is there: the call waits for the end of the run that it began, and is
/// answered its output, as if nothing had happened. What it did before the host died is not done again.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_again_after_a_crash_waits_for_its_run_and_is_told_its_output() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "slow", "transact", &["memory:read:*", "memory:write:*"]).await?;
    for (number, is_checkpoint) in [false, true].into_iter().enumerate() {
        let (begun, go) = (format!("begun-{number}"), format!("go-{number}"));
        let mut steps = vec![json!({"do": "increment", "key": begun, "by": 1}), json!({"do": "gate", "key": go})];
        if is_checkpoint {
            steps.insert(1, json!({"do": "checkpoint"}));
        }
        let input = json!({ "steps": steps });
        let call = |host: &Host| {
            let request = host.request(Method::POST, "/v1/agents/slow/call", &host.admin);
            tokio::spawn(request.header("idempotency-key", format!("once-{number}")).json(&input).send())
        };
        let first = call(&host);
        // It is in the middle.
        let run = loop {
            let listed = host.get("/v1/runs?state=running").await?.expect(200).json();
            if let Some(run) = listed["items"][0]["id"].as_str() {
                let journal = host.get(&format!("/v1/runs/{run}/journal?limit=500")).await?.text();
                if journal.contains("\"memory.get\"") {
                    break run.to_owned();
                }
            }
            ensure!(!first.is_finished(), "it does not wait for what it is to wait for: {}", host.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        host.kill_and_restart().await?;
        ensure!(first.await?.is_err(), "the host is dead, and yet the first call is answered");

        let mut again = call(&host);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut again).await;
        ensure!(early.is_err(), "it is answered while its run is under way: {early:?}");
        let put = host.request(Method::PUT, &format!("/v1/memory/global/{go}"), &host.admin).body("1");
        ensure!(host.send(put).await?.status.is_success(), "{}", host.log());
        let answer = again.await??;
        ensure!(answer.status() == 200, "{answer:?}");
        assert_eq!(answer.headers()["ltmc-run"], run.as_str());
        let output: serde_json::Value = answer.json().await?;
        let wanted = if is_checkpoint { json!(["1", null, "1"]) } else { json!(["1", "1"]) };
        assert_eq!(output, wanted);
        assert_eq!(host.get(&format!("/v1/memory/global/{begun}")).await?.expect(200).text(), "1");
        let listed = host.get("/v1/runs?limit=100").await?.expect(200).json();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(number + 1), "one run a call: {listed:#}");
    }
    Ok(())
}
