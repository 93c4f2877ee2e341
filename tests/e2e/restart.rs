//! A host that starts stays up: of a run that it dies of it is rid after two starts more, and everybody else's goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::json;

/// Larger than what a host has left that is let have little more than it takes by itself.
const LARGE: usize = 160 << 20;
const CONFIG: &str = "[limits]\nbody = \"200MiB\"\nbodies = \"1GiB\"\n[sandbox]\nslots = 8\n";

async fn start(host: &Host, workflow: &str, content_type: &str, input: String) -> Result<String> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{workflow}/runs"), &host.admin);
    let request = request.header("prefer", "wait=0").header("content-type", content_type).body(input);
    Ok(host.send(request).await?.expect(202).headers["ltmc-run"].to_str()?.to_owned())
}

/// A host that was killed is ready again within so long.
const READY: Duration = Duration::from_secs(5);

/// Whether it became ready in time, as it has just done.
fn is_ready_in_time(killed: Instant, host: &Host) -> Result<()> {
    let took = killed.elapsed();
    ensure!(took < READY, "ready after {took:?}:\n{}", host.log());
    Ok(())
}

async fn serves(host: &Host) -> Result<Answer> {
    host.call(&host.admin, "echo", &json!({"say": "hello"})).await
}

/// The host is let have little memory; a run that was acknowledged before takes more than that to be taken up, so that the host
/// aborts. (A bound of the configuration is raised for it: nothing else of a run takes so much.)
#[tokio::test]
async fn a_run_that_the_host_dies_of_is_set_aside_and_the_others_go_on() -> Result<()> {
    let mut host = Host::start_with(CONFIG).await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.push(&host.admin, "flaky", "flaky", &[]).await?;
    for agent in ["slow", "one", "two", "three"] {
        host.push(&host.admin, agent, "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    }
    for (name, flow) in [
        ("long", "{agent: slow, with: {n: 100, sleep_ms: 100, scope: agent}}"),
        ("patient", "{agent: flaky, retry: {attempts: 2, backoff: 24h, max: 24h}}"),
    ] {
        let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
        let document = format!("name: {name}\nflow: {flow}\n");
        host.send(request.header("content-type", "application/yaml").body(document)).await?.expect(201);
    }
    serves(&host).await?.expect(200);
    let quiet = host.data_memory();
    let suspended = start(&host, "patient", "application/json", json!({"until": 2}).to_string()).await?;
    let guilty = start(&host, "long", "text/plain", "x".repeat(LARGE)).await?;
    let mut innocent = Vec::new();
    for agent in ["one", "two", "three"] {
        let request = host.request(Method::POST, &format!("/v1/agents/{agent}/call"), &host.admin);
        let work = json!({"n": 40, "sleep_ms": 100, "scope": "agent"});
        let answer = host.send(request.header("prefer", "respond-async").json(&work)).await?.expect(202);
        innocent.push(answer.json()["run"].as_str().unwrap_or_default().to_owned());
    }
    host.kill();

    // Room for the row as the database reads it, and not for what is made of it.
    let most = quiet + (LARGE as u64) * 7 / 5;
    let (mut deaths, begun) = (0, Instant::now());
    loop {
        ensure!(deaths < 6, "the host dies again and again:\n{}", host.log());
        if host.restart_within(most).await.is_err() {
            deaths += 1;
            continue;
        }
        // It serves, or has died of what it takes up by now.
        match host.is_set_aside_or_dead(&guilty).await? {
            true => break,
            false => deaths += 1,
        }
    }
    println!("{deaths} deaths, {:?}", begun.elapsed());
    assert_eq!(deaths, 2, "once among others, once alone:\n{}", host.log());
    assert!(host.whole_log().contains("set aside"), "{}", host.log());
    for kill in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        host.kill();
        host.restart_within(most).await?;
        is_ready_in_time(begun, &host)?;
        // With so little memory, what goes on meanwhile may leave none for a moment.
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            let served = serves(&host).await?;
            if served.status.is_success() {
                break;
            }
            ensure!(Instant::now() < patience, "{}\n{}", served.text(), host.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("kill {kill}: serves after {:?}", begun.elapsed());
    }
    let run = host.get("/v1/runs?state=quarantined").await?.expect(200).json();
    assert_eq!(run["items"].as_array().map(Vec::len), Some(1), "{run:#}");
    assert_eq!(run["items"][0]["id"], json!(guilty));
    for run in &innocent {
        assert_eq!(host.ended(&host.admin, run).await?["state"], "completed", "{}", host.log());
    }
    assert_eq!(host.get(&format!("/v1/runs/{suspended}")).await?.expect(200).json()["state"], "waiting");

    // With memory enough it goes on, once somebody says so.
    host.kill();
    host.restart().await?;
    let shown = std::process::Command::new(ltmc_tests::binary()?)
        .args(["runs", "show", &guilty, "--data"])
        .arg(host.data())
        .output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("quarantined"), "{shown}");
    // However often the host starts, its operator sees that there is one.
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
        if metrics.lines().any(|line| line == "ltmc_runs{state=\"quarantined\"} 1") {
            break;
        }
        ensure!(Instant::now() < patience, "{metrics}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let said = host.whole_log();
    assert!(said.contains("runs are quarantined") && said.contains("--state quarantined"), "{}", host.log());
    let request = host.request(Method::POST, &format!("/v1/runs/{guilty}/resume"), &host.admin);
    host.send(request).await?.expect(202);
    let request = host.request(Method::POST, &format!("/v1/runs/{guilty}/cancel"), &host.admin);
    host.send(request).await?.expect(204);
    Ok(())
}

/// Whatever was acknowledged, the host comes up, stays up and serves, three times in a row.
#[tokio::test]
async fn a_host_that_is_killed_comes_up_with_all_that_was_acknowledged() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let fields: Vec<String> = (0..100).map(|n| format!("f{n}: $.input")).collect();
    let schema = "{$ref: '#/$defs/n', $defs: {n: {allOf: [{properties: {a: {$ref: '#/$defs/n'}}}, {properties: {a: {$ref: '#/$defs/n'}}}]}}}";
    for (name, step) in [
        ("picks", format!("{{agent: echo, with: {{{}}}}}", fields.join(", "))),
        ("judged", format!("{{agent: echo, validate: {{json-schema: {schema}}}}}")),
    ] {
        let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
        let document = format!("name: {name}\nflow: {step}\n");
        host.send(request.header("content-type", "application/yaml").body(document)).await?.expect(201);
    }
    let nested = (0..100).fold("0".to_owned(), |within, _| format!("{{\"a\":{within}}}"));
    let mut acknowledged = Vec::new();
    for _ in 0..2 {
        acknowledged.push((start(&host, "picks", "text/plain", "x".repeat(1_000_000)).await?, "bad-step"));
        acknowledged.push((start(&host, "judged", "application/json", nested.clone()).await?, "limit-cpu"));
    }
    for kill in 0..3 {
        let begun = Instant::now();
        host.kill_and_restart().await?;
        is_ready_in_time(begun, &host)?;
        serves(&host).await?.expect(200);
        println!("kill {kill}: serves after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.send(host.request(Method::GET, "/readyz", "")).await?.expect(200);
    }
    for (run, code) in acknowledged {
        // One after the other, each with its time: that may take a while.
        let ended = match host.ended(&host.admin, &run).await {
            Ok(ended) => ended,
            Err(_) => host.ended(&host.admin, &run).await?,
        };
        assert_eq!(ended["error"]["code"], code, "{ended:#}\n{}", host.log());
    }
    Ok(())
}
