//! A client's first hours: push, call, read the run; the same call twice; a standard component.

use anyhow::Result;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn an_agent_is_pushed_called_and_its_run_can_be_read() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let answer = host.call(&host.admin, "echo", &json!({"say": "hello"})).await?.expect(200);
    assert_eq!(answer.json()["say"], "hello");
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    let view = host.get(&format!("/v1/runs/{run}")).await?.expect(200).json();
    assert_eq!(view["state"], "completed", "{view:#}");
    let journal = host.get(&format!("/v1/runs/{run}/journal")).await?.expect(200).json();
    let entries = journal["items"].as_array().unwrap();
    assert_eq!(entries[0]["seq"], 1);
    assert!(entries.len() >= 3, "{journal:#}");
    let listed = host.get("/v1/runs?state=completed").await?.expect(200).json();
    assert_eq!(listed["items"][0]["id"], run.as_str());
    Ok(())
}

#[tokio::test]
async fn the_same_bytes_again_are_the_same_version() -> Result<()> {
    let host = Host::start().await?;
    let wasm = ltmc_tests::guest_bytes("echo")?;
    host.push_bytes(&host.admin, "echo", wasm.clone()).await?.expect(201);
    let again = host.push_bytes(&host.admin, "echo", wasm).await?.expect(200).json();
    assert!(again["digest"].as_str().unwrap().starts_with("sha256:"), "{again:#}");
    Ok(())
}

#[tokio::test]
async fn an_idempotency_key_means_the_same_run() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "counter", "counter", &["memory:read:*", "memory:write:*"]).await?;
    let call = |body: serde_json::Value| {
        let request = host.request(Method::POST, "/v1/agents/counter/call", &host.admin);
        host.send(request.header("idempotency-key", "once").json(&body))
    };
    let body = json!({"key": "n", "scope": "global", "times": 1});
    let first = call(body.clone()).await?.expect(200);
    let second = call(body).await?.expect(200);
    assert_eq!(first.body, second.body);
    assert_eq!(first.headers["ltmc-run"], second.headers["ltmc-run"]);
    let other = call(json!({"key": "n", "scope": "global", "times": 2})).await?.expect(409);
    assert_eq!(other.code(), "idempotency-key-reused");
    Ok(())
}

#[tokio::test]
async fn a_standard_component_runs_unmodified() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "upper", "upper", &[]).await?;
    let request = host.request(Method::POST, "/v1/agents/upper/call", &host.admin);
    let answer = host.send(request.header("content-type", "text/plain").body("quiet")).await?.expect(200);
    assert_eq!(answer.text(), "QUIET");
    host.push(&host.admin, "exits", "exit3", &[]).await?;
    let answer = host.call(&host.admin, "exits", &json!({})).await?.expect(422);
    assert_eq!(answer.code(), "agent-error");
    // A program cannot say more than "badly": WASI 0.2's `exit` knows no numbers.
    assert_eq!(answer.json()["agent"]["code"], "exit-1", "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn without_a_grant_a_host_call_is_denied_by_name_and_a_revoked_one_at_once() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "denied", "denied", &[]).await?;
    let answer = host.call(&host.admin, "denied", &json!({})).await?.expect(200);
    assert!(answer.text().contains("memory:"), "{}", answer.text());

    let grants = ["memory:read:global", "memory:write:global"];
    host.push(&host.admin, "slow", "slow-effects", &grants).await?;
    let work = json!({"n": 40, "sleep_ms": 100, "scope": "global"});
    let running = host.call(&host.admin, "slow", &work);
    let revoking = async {
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        let path = "/v1/agents/slow/grants/memory:write:global";
        host.send(host.request(Method::DELETE, path, &host.admin)).await
    };
    let (answer, revoked) = tokio::join!(running, revoking);
    assert!(revoked?.status.is_success());
    let answer = answer?;
    assert_eq!(answer.status.as_u16(), 422, "{}", answer.text());
    assert!(answer.text().contains("memory:write:global"), "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn events_stream_and_resume_where_they_stopped() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let answer = host.call(&host.admin, "echo", &json!({})).await?.expect(200);
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    let all = host.get(&format!("/v1/runs/{run}/events")).await?.expect(200).text();
    assert!(all.contains("id: 1\n") && all.contains("event: end"), "{all}");
    let request = host.request(Method::GET, &format!("/v1/runs/{run}/events"), &host.admin);
    let rest = host.send(request.header("last-event-id", "2")).await?.expect(200).text();
    assert!(!rest.contains("id: 2\n") && rest.contains("id: 3\n"), "{rest}");
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_asked_to_end_ends_well() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.call(&host.admin, "echo", &json!({})).await?.expect(200);
    assert!(host.terminate().await?.success(), "{}", host.log());
    Ok(())
}

#[tokio::test]
async fn a_run_is_cancelled_and_taken_up_again_where_it_was() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let request = host.request(Method::POST, "/v1/agents/slow/call", &host.admin).header("prefer", "respond-async");
    let started = host.send(request.json(&json!({"n": 20, "sleep_ms": 50, "scope": "agent"}))).await?.expect(202);
    let path = started.headers["location"].to_str()?.to_owned();
    let run = path.rsplit('/').next().unwrap_or_default().to_owned();
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    host.send(host.request(Method::POST, &format!("{path}/resume"), &host.admin)).await?.expect(409);
    host.send(host.request(Method::POST, &format!("{path}/cancel"), &host.admin)).await?.expect(204);
    assert_eq!(host.ended(&host.admin, &run).await?["state"], "cancelled");
    host.send(host.request(Method::POST, &format!("{path}/cancel"), &host.admin)).await?.expect(409);
    host.send(host.request(Method::POST, &format!("{path}/resume"), &host.admin)).await?.expect(202);
    let ended = host.ended(&host.admin, &run).await?;
    assert_eq!(ended["state"], "completed", "{ended:#}");
    assert_eq!(ended["output"]["json"]["count"], 20, "what it had done was not done again: {ended:#}");
    Ok(())
}

#[tokio::test]
async fn a_full_house_says_when_to_come_back() -> Result<()> {
    let config = "[sandbox]\nslots = 1\nqueue_deadline = \"300ms\"\nqueue_length = 1\n";
    let host = Host::start_with(config).await?;
    host.push(&host.admin, "spin", "spin", &[]).await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let request = host.request(Method::POST, "/v1/agents/spin/call", &host.admin).header("prefer", "respond-async");
    host.send(request.json(&json!({}))).await?.expect(202);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    // One waits for its turn in vain, the other finds the queue full.
    let input = json!({});
    let (first, second) = tokio::join!(host.call(&host.admin, "echo", &input), host.call(&host.admin, "echo", &input));
    for answer in [first?, second?] {
        let answer = answer.expect(429);
        assert_eq!(answer.code(), "busy");
        assert!(answer.headers["retry-after"].to_str()?.parse::<u32>()? >= 1);
    }
    Ok(())
}

#[tokio::test]
async fn lists_come_in_pages() -> Result<()> {
    let host = Host::start().await?;
    for name in ["a", "b", "c"] {
        host.push(&host.admin, name, "echo", &[]).await?;
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.get(&format!("/v1/agents?limit=2{cursor}")).await?.expect(200).json();
        names.extend(page["items"].as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(host.get("/v1/runs?limit=2&cursor=nonsense").await?.expect(400).code(), "bad-cursor");
    Ok(())
}
