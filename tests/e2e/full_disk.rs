//! A disk that is full: a clear answer, nothing lost, and everything goes on once there is room again.
//!
//! The disk is a small tmpfs in a mount namespace of the host's own, so that no other program notices.

use std::io::Write as _;

use anyhow::Result;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::json;

const SIZE: &str = "48m";

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_loses_nothing() -> Result<()> {
    let host = Host::start_on_small_disk(SIZE).await?;
    let grants = ["memory:read:*", "memory:write:*"];
    host.push(&host.admin, "counter", "counter", &grants).await?;
    host.push(&host.admin, "spare", "counter", &[]).await?;
    let add = json!({"key": "n", "scope": "global", "times": 1});
    host.call(&host.admin, "counter", &add).await?.expect(200);

    let ballast = host.data().join("ballast");
    fill(&ballast)?;
    let mut counted = 1;
    let refused = loop {
        let answer = host.call(&host.admin, "counter", &add).await?;
        match answer.status.as_u16() {
            200 => counted += 1,
            _ => break answer,
        }
        assert!(counted < 100_000, "the disk is never full");
    };
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (507, "storage-full"), "{}", refused.text());
    let upload = host.push_bytes(&host.admin, "large", ltmc_tests::guest_bytes("flaky")?).await?;
    assert_eq!((upload.status.as_u16(), upload.code().as_str()), (507, "storage-full"), "{}", upload.text());
    host.get("/v1/runs").await?.expect(200);
    the_operator_can_act(&host).await?;

    // With room again the refused run goes on by itself, if it had begun: as many were counted as completed.
    std::fs::remove_file(&ballast)?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let completed = loop {
        let runs = host.get("/v1/runs?agent=counter&limit=500").await?.expect(200).json();
        let runs = runs["items"].as_array().cloned().unwrap_or_default();
        if runs.iter().all(|run| run["state"] == "completed") {
            break runs.len();
        }
        assert!(std::time::Instant::now() < deadline, "not all runs are over: {runs:#?}\n{}", host.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!((counted..=counted + 1).contains(&completed), "{completed} of {counted}");
    let answer =
        host.call(&host.admin, "counter", &json!({"key": "n", "scope": "global", "times": 0})).await?.expect(200);
    assert_eq!(answer.json()["value"], completed, "{}", answer.text());
    host.push(&host.admin, "large", "flaky", &[]).await?;
    Ok(())
}

/// What is not possible to anybody who adds something is possible to those who make room, and is said.
async fn the_operator_can_act(host: &Host) -> Result<()> {
    let ask = |method, path: &str, key: &str| host.request(method, path, key);
    // What was found a moment ago is good for a moment.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let ready = loop {
        let ready = host.get("/readyz").await?;
        if ready.status.as_u16() == 503 || std::time::Instant::now() > patience {
            break ready;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(ready.status.as_u16(), 503, "{}", ready.text());
    assert!(ready.text().contains("the disk is full"), "{}", ready.text());
    let document = "name: w\nflow: {agent: counter}\n";
    let put =
        ask(Method::PUT, "/v1/workflows/w", &host.admin).header("content-type", "application/yaml").body(document);
    let refused = host.send(put).await?;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (507, "storage-full"), "{}", refused.text());
    for _ in 0..20 {
        let body = json!({"tenant": "default", "role": "viewer"});
        let made = host.send(ask(Method::POST, "/v1/keys", &host.operator).json(&body)).await?.expect(201).json();
        let path = format!("/v1/keys/{}", made["id"].as_str().unwrap_or_default());
        host.send(ask(Method::DELETE, &path, &host.admin)).await?.expect(204);
    }
    let get = ask(Method::GET, "/v1/ceilings/default", &host.operator);
    let mut ceiling = host.send(get).await?.expect(200).json();
    ceiling["concurrency"] = json!(7);
    host.send(ask(Method::PUT, "/v1/ceilings/default", &host.operator).json(&ceiling)).await?.expect(200);
    assert_eq!(host.get("/v1/ceilings").await?.expect(200).json()["concurrency"], 7);
    let usage = host.get("/v1/usage").await?.expect(200).json();
    assert!(usage["used"].as_u64() > Some(0) && usage["allowed"].as_u64() > usage["used"].as_u64(), "{usage}");
    host.send(ask(Method::DELETE, "/v1/agents/spare", &host.admin)).await?.expect(204);
    Ok(())
}

/// A tenant has what it may have on disk, counted with all that it writes; what another has is not touched by it.
#[tokio::test]
async fn a_tenant_has_no_more_on_disk_than_it_may_have() -> Result<()> {
    let host = Host::start_with("[limits]\ndisk = \"4MiB\"\n").await?;
    let other = host.tenant("beta", "admin").await?;
    let event = json!({"topic": "news", "type": "k", "data": "x".repeat(50_000)});
    let mut published = 0;
    let refused = loop {
        let answer = host.post_json("/v1/events", &event).await?;
        if !answer.status.is_success() {
            break answer;
        }
        published += 1;
        assert!(published < 500, "nothing bounds what a tenant writes");
    };
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (507, "disk-quota-exceeded"), "{}", refused.text());
    let usage = host.get("/v1/usage").await?.expect(200).json();
    assert_eq!(usage["allowed"], 4 << 20);
    assert!(refused.text().contains(&usage["used"].to_string()), "{} {usage}", refused.text());
    let request = host.request(Method::POST, "/v1/events", &other).json(&event);
    assert!(host.send(request).await?.status.is_success(), "another tenant has its own");
    // An agent is more than what is left; with more allowed it comes.
    let get = host.request(Method::GET, "/v1/ceilings/default", &host.operator);
    let mut ceiling = host.send(get).await?.expect(200).json();
    ceiling["disk"] = json!(usage["used"].as_u64().unwrap_or_default() + (64 << 10));
    host.send(host.request(Method::PUT, "/v1/ceilings/default", &host.operator).json(&ceiling)).await?.expect(200);
    let upload = host.push_bytes(&host.admin, "flaky", ltmc_tests::guest_bytes("flaky")?).await?;
    assert_eq!((upload.status.as_u16(), upload.code().as_str()), (507, "disk-quota-exceeded"), "{}", upload.text());
    ceiling["disk"] = json!("64MiB");
    host.send(host.request(Method::PUT, "/v1/ceilings/default", &host.operator).json(&ceiling)).await?.expect(200);
    assert!(host.post_json("/v1/events", &event).await?.status.is_success());
    host.get("/readyz").await?.expect(200);
    Ok(())
}

/// Writes until there is no room.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    let mut chunk = 1 << 20;
    while chunk > 0 {
        match file.write_all(&vec![7; chunk]).and_then(|()| file.flush()) {
            Ok(()) => {}
            Err(_) => chunk /= 4,
        }
    }
    Ok(())
}
