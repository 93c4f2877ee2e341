//! What tenants share is divided among them: who waits leaves its slot to others, and what was taken back is given up.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A call, made by a client of its own.
fn begin(host: &Host, key: &str, agent: &str, input: Value) -> JoinHandle<reqwest::Result<reqwest::Response>> {
    let (url, key) = (host.url(&format!("/v1/agents/{agent}/call")), key.to_owned());
    tokio::spawn(async move { reqwest::Client::new().post(url).bearer_auth(key).json(&input).send().await })
}

/// Waits until a gauge shows this.
async fn until(host: &Host, name: &str, wanted: f64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok());
        if value == Some(wanted) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} is {value:?}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn put(host: &Host, path: &str, body: Value) -> Result<Answer> {
    host.send(host.request(Method::PUT, path, &host.operator).json(&body)).await
}

/// The case that was found: tenants whose agents wait for messages, for changes, or for time to pass held all slots.
#[tokio::test(flavor = "multi_thread")]
async fn agents_that_wait_hold_no_slot_and_go_on_when_what_they_wait_for_comes() -> Result<()> {
    let host = Host::start_with("[sandbox]\nslots = 2\nqueue_deadline = \"20s\"\n").await?;
    let grants = ["message:receive"];
    let keys = [host.tenant("alpha", "admin").await?, host.tenant("beta", "admin").await?];
    let mut waiting = Vec::new();
    for key in &keys {
        host.push(key, "bob", "message-script", &grants).await?;
        for _ in 0..3 {
            waiting.push(begin(
                &host,
                key,
                "bob",
                json!([{"do": "receive", "limit": 1, "wait_ms": 29_000, "then": "ack"}]),
            ));
        }
    }
    until(&host, "ltmc_sandbox_waiting", 6.0).await?;
    until(&host, "ltmc_sandbox_running", 0.0).await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    for round in 0..5 {
        host.call(&host.admin, "echo", &json!({"round": round})).await?.expect(200);
    }
    host.get("/readyz").await?.expect(200);
    for key in &keys {
        for n in 0..3 {
            let message = json!({"to": "bob", "type": "go.on", "data": {"n": n}});
            host.send(host.request(Method::POST, "/v1/messages", key).json(&message)).await?.expect(200);
        }
    }
    for one in waiting {
        let answer: Value = one.await??.error_for_status()?.json().await?;
        assert_eq!(answer[0]["ok"][0]["event"]["kind"], "go.on", "{answer}");
    }
    until(&host, "ltmc_sandbox_waiting", 0.0).await?;
    until(&host, "ltmc_sandbox_running", 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_taken_back_is_closed_to_a_call_that_has_a_file_of_it_open() -> Result<()> {
    let docs = tempfile::tempdir()?;
    std::fs::write(docs.path().join("note.md"), "a secret")?;
    let host = Host::start_with(&format!("[directories]\ndocs = {:?}\n", docs.path().display().to_string())).await?;
    let ceiling = json!({"capabilities": ["log", "fs:read:*"], "limits": {"wall": "30s"}});
    put(&host, "/v1/ceilings/default", ceiling).await?.expect(200);
    host.push(&host.admin, "reader", "read-file", &["fs:read:docs"]).await?;
    let input = |pause: u64| json!({"path": "/docs/note.md", "pause_ms": pause});
    let read = host.call(&host.admin, "reader", &input(0)).await?.expect(200).json();
    assert_eq!(read["text"], "a secret", "{read}");

    let reading = begin(&host, &host.admin, "reader", input(5_000));
    until(&host, "ltmc_sandbox_waiting", 1.0).await?;
    let request = host.request(Method::PUT, "/v1/agents/reader/grants", &host.admin);
    host.send(request.json(&json!([]))).await?.expect(200);
    let answer: Value = reading.await??.error_for_status()?.json().await?;
    assert!(answer["error"].is_string(), "{answer}");
    Ok(())
}
