//! Sessions with the real binary: over REST, by the command, over a `kill -9`, and by keys that have no part in them.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::{Answer, Host, binary};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the agent `slow` is told: so many writes to the session, with a pause after each.
fn work(sleep_ms: u32) -> Value {
    json!({"n": 3, "sleep_ms": sleep_ms, "scope": "session"})
}

async fn host() -> Result<Host> {
    let host = Host::start().await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.push(&host.admin, "check-positive", "check-positive", &[]).await?;
    Ok(host)
}

async fn open(host: &Host, key: &str, body: &Value) -> Result<Answer> {
    host.send(host.request(Method::POST, "/v1/sessions", key).json(body)).await
}

async fn opened(host: &Host, body: &Value) -> Result<String> {
    let session = open(host, &host.admin, body).await?.expect(201).json();
    Ok(session["id"].as_str().context("an id")?.to_owned())
}

async fn say(host: &Host, key: &str, id: &str, message: &Value, wait: Option<&str>) -> Result<Answer> {
    let mut request = host.request(Method::POST, &format!("/v1/sessions/{id}/turns"), key).json(message);
    if let Some(wait) = wait {
        request = request.header("prefer", wait);
    }
    host.send(request).await
}

async fn turns(host: &Host, id: &str) -> Result<Vec<Value>> {
    let page = host.get(&format!("/v1/sessions/{id}/turns")).await?.expect(200).json();
    Ok(page["items"].as_array().context("turns")?.clone())
}

fn ltmc(host: &Host, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments).env("LTMC_URL", host.url("")).env("LTMC_KEY", &host.admin);
    Ok(command.output()?)
}

fn text(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a session is taken back to takes no more room than the tenant has, and less is always taken.
#[tokio::test]
async fn a_session_is_taken_back_within_the_tenants_room() -> Result<()> {
    let host = Host::start().await?;
    let memory = ["memory:read:*", "memory:write:*"];
    host.push(&host.admin, "writer", "memory-script", &memory).await?;
    let ceiling = host.get("/v1/ceilings").await?.expect(200).json();
    let small = json!({"capabilities": ceiling["capabilities"], "storage": "10KiB"});
    host.send(host.request(Method::PUT, "/v1/ceilings/default", &host.operator).json(&small)).await?.expect(200);
    let id = opened(&host, &json!({"agent": "writer"})).await?;
    let put = |size: usize| json!([{"do": "put", "scope": "session", "key": "a", "value": "x".repeat(size)}]);
    let delete = json!([{"do": "delete", "scope": "session", "key": "a"}]);
    for turn in [put(6_000), put(6_500), delete] {
        say(&host, &host.admin, &id, &turn, Some("wait=20")).await?.expect(200);
    }
    // What was deleted makes room once it is counted again.
    let other = || host.request(Method::PUT, "/v1/memory/global/other", &host.admin).body("x".repeat(6_000));
    while !host.send(other()).await?.status.is_success() {
        sleep(Duration::from_millis(100)).await;
    }
    let rewind = format!("/v1/sessions/{id}/rewind");
    let refused = host.post_json(&rewind, &json!({"to": 2})).await?.expect(429);
    assert_eq!(refused.code(), "quota-exceeded");
    let forked = host.post_json(&format!("/v1/sessions/{id}/fork"), &json!({"at": 2})).await?.expect(429);
    assert_eq!(forked.code(), "quota-exceeded");
    host.send(host.request(Method::DELETE, "/v1/memory/global/other", &host.admin)).await?.expect(204);
    while host.post_json(&rewind, &json!({"to": 2})).await?.status != 200 {
        sleep(Duration::from_millis(100)).await;
    }
    host.post_json(&rewind, &json!({"to": 1})).await?.expect(200);
    let path = format!("/v1/memory/session/a?owner={id}");
    assert_eq!(host.get(&path).await?.expect(200).text().len(), 6_000);
    Ok(())
}

/// What was acknowledged is done, each message once and one after the other, wherever the host is killed.
#[tokio::test]
async fn a_conversation_survives_kills() -> Result<()> {
    let mut host = host().await?;
    let id = opened(&host, &json!({"agent": "slow", "title": "over kills"})).await?;
    for number in 1..=6 {
        let answer = say(&host, &host.admin, &id, &work(40), None).await?.expect(202);
        assert_eq!(answer.headers["ltmc-turn"], number.to_string().as_str());
    }
    for _ in 0..4 {
        sleep(Duration::from_millis(90)).await;
        host.kill_and_restart().await?;
    }
    let begun = Instant::now();
    let done = loop {
        let turns = turns(&host, &id).await?;
        if turns.iter().all(|turn| turn["stage"] == "over") {
            break turns;
        }
        ensure!(begun.elapsed() < PATIENCE, "{turns:#?}\n{}", host.log());
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(done.len(), 6);
    assert!(done.iter().all(|turn| turn["state"] == "completed"), "{done:#?}");
    let session = host.get(&format!("/v1/sessions/{id}")).await?.expect(200).json();
    assert_eq!((&session["state"], &session["turns"], &session["epoch"]), (&json!("idle"), &json!(6), &json!(6)));
    Ok(())
}

/// Open, say, look, end, close: by the command, as a person would.
#[tokio::test]
async fn the_command_holds_a_conversation() -> Result<()> {
    let host = host().await?;
    let id = text(&ltmc(&host, &["session", "open", "--agent", "echo", "--title", "Order 4711"])?)?;
    assert_eq!(text(&ltmc(&host, &["session", "say", &id, "Where is my parcel?"])?)?, "Where is my parcel?");
    text(&ltmc(&host, &["session", "say", &id, "--detach", "Never mind."])?)?;
    let begun = Instant::now();
    while turns(&host, &id).await?.iter().any(|turn| turn["stage"] != "over") {
        ensure!(begun.elapsed() < PATIENCE, "it is not done");
        sleep(Duration::from_millis(20)).await;
    }
    let history = text(&ltmc(&host, &["session", "history", &id])?)?;
    for said in ["1. ", "> Where is my parcel?", "< Where is my parcel?", "2. ", "> Never mind."] {
        assert!(history.contains(said), "{history}");
    }
    let list = text(&ltmc(&host, &["session", "list"])?)?;
    assert!(list.contains(&id) && list.contains("Order 4711") && list.contains("idle"), "{list}");
    let shown = text(&ltmc(&host, &["session", "show", &id])?)?;
    assert!(shown.contains("turns: 2, waiting: 0") && shown.contains("expires"), "{shown}");
    ensure!(ltmc(&host, &["session", "close", &id])?.status.success());
    let refused = ltmc(&host, &["session", "say", &id, "Hello?"])?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is closed: open a new one"), "{refused:?}");
    assert_eq!(turns(&host, &id).await?.len(), 2, "what was said stays readable");
    Ok(())
}

/// A full queue pushes back, a turn that waits can be ended, and to close it at once ends them all.
#[tokio::test]
async fn a_busy_session_is_bounded_and_can_be_ended() -> Result<()> {
    let host = host().await?;
    let id = opened(&host, &json!({"agent": "slow", "queue": 2})).await?;
    for _ in 0..3 {
        say(&host, &host.admin, &id, &work(3_000), None).await?.expect(202);
    }
    let full = say(&host, &host.admin, &id, &work(1), None).await?.expect(429);
    assert!(full.text().contains("as many turns wait as may: 2"), "{}", full.text());
    let cancel = |turn: u32| host.request(Method::DELETE, &format!("/v1/sessions/{id}/turns/{turn}"), &host.admin);
    host.send(cancel(2)).await?.expect(204);
    host.send(cancel(2)).await?.expect(409);
    host.send(cancel(9)).await?.expect(404);
    say(&host, &host.admin, &id, &work(1), None).await?.expect(202);
    let close = host.request(Method::POST, &format!("/v1/sessions/{id}/close?turns=cancel"), &host.admin);
    assert_eq!(host.send(close).await?.expect(200).json()["state"], "closed");
    let done = turns(&host, &id).await?;
    assert!(done.iter().all(|turn| turn["state"] == "cancelled"), "{done:#?}");
    let late = say(&host, &host.admin, &id, &work(1), None).await?.expect(409);
    assert_eq!(late.code(), "session-over");
    Ok(())
}

#[tokio::test]
async fn who_interrupts_is_answered_and_who_was_interrupted_is_told() -> Result<()> {
    let host = host().await?;
    let id = opened(&host, &json!({"agent": "slow", "if-busy": "interrupt"})).await?;
    say(&host, &host.admin, &id, &work(10_000), None).await?.expect(202);
    say(&host, &host.admin, &id, &work(10_000), None).await?.expect(202);
    let begun = Instant::now();
    say(&host, &host.admin, &id, &work(1), Some("wait=30")).await?.expect(200);
    ensure!(begun.elapsed() < Duration::from_secs(20), "it waited for what it interrupted");
    let done = turns(&host, &id).await?;
    let states: Vec<_> = done.iter().map(|turn| turn["state"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, ["cancelled", "cancelled", "completed"]);
    assert!(done[0]["error"]["message"].as_str().unwrap_or_default().contains("interrupted"), "{done:#?}");
    Ok(())
}

/// Of another tenant, of another key of the role `caller`: it is not there.
#[tokio::test]
async fn a_session_is_there_for_those_who_take_part() -> Result<()> {
    let host = host().await?;
    let (one, two) = (host.key("default", "caller").await?, host.key("default", "caller").await?);
    let id_of = |key: &str| key.split('_').nth(1).unwrap_or_default().to_owned();
    let body = json!({"agent": "echo", "participants": {id_of(&two): "observer"}});
    let session = open(&host, &one, &body).await?.expect(201).json();
    let id = session["id"].as_str().context("an id")?.to_owned();
    say(&host, &one, &id, &json!("hello"), Some("wait=30")).await?.expect(200);
    say(&host, &two, &id, &json!("hello"), None).await?.expect(403);
    let look = |key: &str, tail: &str| host.request(Method::GET, &format!("/v1/sessions/{id}{tail}"), key);
    let seen = host.send(look(&two, "/turns")).await?.expect(200).json();
    assert_eq!(seen["items"][0]["output"]["json"], "hello");
    let stranger = host.key("default", "caller").await?;
    let other = host.tenant("beta", "admin").await?;
    for key in [&stranger, &other] {
        for tail in ["", "/turns"] {
            host.send(look(key, tail)).await?.expect(404);
        }
        say(&host, key, &id, &json!("hello"), None).await?.expect(404);
        let close = host.request(Method::POST, &format!("/v1/sessions/{id}/close"), key);
        host.send(close).await?.expect(404);
        let list = host.send(host.request(Method::GET, "/v1/sessions", key)).await?.expect(200).json();
        assert_eq!(list["items"], json!([]));
    }
    let beside = host.request(Method::POST, "/v1/agents/echo/call", &host.admin).json(&json!(1));
    let beside = host.send(beside.header("ltmc-session", &id)).await?.expect(409);
    assert!(beside.text().contains("say it there"), "{}", beside.text());
    Ok(())
}

/// It is summed up, its memory becomes an archive, the whole of it is exported, and nothing is written any more.
#[tokio::test]
async fn a_session_ends_with_a_summary_and_an_archive() -> Result<()> {
    let mut host = host().await?;
    let body = json!({"agent": "slow", "summary": "echo", "keep": "archive", "title": "Order 4711"});
    let id = opened(&host, &body).await?;
    say(&host, &host.admin, &id, &work(0), Some("wait=30")).await?.expect(200);
    let memory = format!("/v1/memory/session/noted?owner={id}");
    let put = async |host: &Host| host.send(host.request(Method::PUT, &memory, &host.admin).body("two words")).await;
    put(&host).await?.expect(200);
    assert!(text(&ltmc(&host, &["session", "close", &id])?)?.is_empty());
    host.kill_and_restart().await?;
    let begun = Instant::now();
    let session = loop {
        let session = host.get(&format!("/v1/sessions/{id}")).await?.expect(200).json();
        if session["memory"] == "archived" {
            break session;
        }
        ensure!(begun.elapsed() < PATIENCE, "{session:#}");
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&session["state"], &session["summary-turn"]), (&json!("closed"), &json!(2)), "{session:#}");
    let whole: Value = serde_json::from_str(&text(&ltmc(&host, &["session", "export", &id])?)?)?;
    let summary = &whole["turns"][1];
    assert_eq!(summary["output"]["json"], json!({"session": id, "title": "Order 4711", "turns": 1}), "{whole:#}");
    assert_eq!((&summary["answered-by"], &whole["turns"][0]["answered-by"]), (&json!("echo"), &json!("slow")));
    let keys = whole["memory"]["keys"].as_array().context("an archive")?;
    assert!(keys.iter().any(|it| it["key"] == "noted" && it["value"]["text"] == "two words"), "{whole:#}");
    assert_eq!(put(&host).await?.expect(409).code(), "session-over");
    host.get(&memory).await?.expect(404);
    let fork = host.send(host.request(Method::POST, &format!("/v1/sessions/{id}/fork"), &host.admin).json(&json!({})));
    assert_eq!(fork.await?.expect(409).code(), "session-over");
    let said = host.get("/v1/audit?action=session-forgotten").await?.expect(200).json();
    assert_eq!(said["items"][0]["detail"]["memory"], "archived", "{said:#}");
    Ok(())
}

/// Keys come and go; each request for a new session is one session.
#[tokio::test]
async fn keys_are_let_into_a_session_and_put_out_of_it() -> Result<()> {
    let host = host().await?;
    let (one, two) = (host.key("default", "caller").await?, host.key("default", "caller").await?);
    let of = |key: &str| key.split('_').nth(1).unwrap_or_default().to_owned();
    let session = open(&host, &one, &json!({"agent": "echo"})).await?.expect(201).json();
    let id = session["id"].as_str().context("an id")?.to_owned();
    say(&host, &two, &id, &json!(1), None).await?.expect(404);
    let parts = format!("/v1/sessions/{id}/participants");
    let put = |by: &str, key: &str| {
        host.request(Method::PUT, &format!("{parts}/{key}"), by).json(&json!({"part": "contributor"}))
    };
    host.send(put(&two, &of(&two))).await?.expect(404);
    host.send(put(&one, &of(&two))).await?.expect(204);
    say(&host, &two, &id, &json!(1), Some("wait=30")).await?.expect(200);
    host.send(put(&two, &of(&two))).await?.expect(403);
    host.send(put(&one, &of(&one))).await?.expect(400);
    host.send(put(&one, "aaaaaaaaaaaa")).await?.expect(400);
    let shown = host.send(host.request(Method::GET, &parts, &two)).await?.expect(200).json();
    assert_eq!(shown["keys"][0], json!({"key": of(&one), "part": "owner"}), "{shown:#}");
    assert_eq!(shown["keys"][1], json!({"key": of(&two), "part": "contributor"}), "{shown:#}");
    assert!(text(&ltmc(&host, &["session", "participants", &id])?)?.contains(&of(&two)));
    text(&ltmc(&host, &["session", "add", &id, &of(&two), "--observer"])?)?;
    say(&host, &two, &id, &json!(1), None).await?.expect(403);
    text(&ltmc(&host, &["session", "remove", &id, &of(&two)])?)?;
    say(&host, &two, &id, &json!(1), None).await?.expect(404);
    let fork = async |key: &str| -> Result<Value> {
        let fork = host.request(Method::POST, &format!("/v1/sessions/{id}/fork"), &one).json(&json!({}));
        Ok(host.send(fork.header("idempotency-key", key)).await?.expect(201).json()["id"].clone())
    };
    assert_eq!(fork("a").await?, fork("a").await?);
    assert_ne!(fork("a").await?, fork("b").await?);
    let conflicts = host.get(&format!("/v1/sessions/{id}/conflicts")).await?.expect(200).json();
    assert_eq!(conflicts, json!({"conflicts": [], "more": false}));
    Ok(())
}

#[tokio::test]
async fn what_a_session_is_opened_with_is_checked() -> Result<()> {
    let host = host().await?;
    let long = "x".repeat(201);
    for (body, status, says) in [
        (json!({}), 400, "either an `agent` or a `workflow`"),
        (json!({"agent": "echo", "workflow": "w"}), 400, "either an `agent` or a `workflow`"),
        (json!({"agent": "nobody"}), 404, "agent `nobody`"),
        (json!({"workflow": "nothing"}), 404, "workflow `nothing`"),
        (json!({"agent": "echo", "queue": 0}), 400, "1 to 1000"),
        (json!({"agent": "echo", "queue": 1_001}), 400, "1 to 1000"),
        (json!({"agent": "echo", "idle": "0s"}), 400, "`1s` to `366days`"),
        (json!({"agent": "echo", "turn": "300years"}), 400, "`1s` to `366days`"),
        (json!({"agent": "echo", "title": long}), 400, "at most 200 bytes"),
        (json!({"agent": "echo", "if-busy": "wait"}), 400, "if-busy"),
        (json!({"agent": "echo", "title": "one\u{2028}two"}), 400, "no line breaks"),
        (json!({"agent": "echo", "keep": "a while"}), 400, "`archive`, `forget`, or a time"),
        (json!({"agent": "echo", "summary": "nobody"}), 404, "agent `nobody`"),
        (json!({"agent": "echo", "summary": "check-positive"}), 400, "cannot answer"),
        (json!({"agent": "echo", "participants": {"k": "owner"}}), 400, "participants"),
        (json!({"agent": "echo", "colour": 1}), 400, "colour"),
        (json!({"agent": "echo", "participants": {"aaaaaaaaaaaa": "observer"}}), 400, "there is no such key"),
        (json!({"agent": "check-positive"}), 400, "cannot answer"),
    ] {
        let answer = open(&host, &host.admin, &body).await?;
        assert_eq!((answer.status.as_u16(), answer.text().contains(says)), (status, true), "{body}: {}", answer.text());
    }
    let id = opened(&host, &json!({"agent": "echo", "idle": "1s"})).await?;
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(say(&host, &host.admin, &id, &json!(1), None).await?.expect(409).code(), "session-over");
    let begun = Instant::now();
    while host.get(&format!("/v1/sessions/{id}")).await?.expect(200).json()["state"] != "expired" {
        ensure!(begun.elapsed() < PATIENCE, "it does not expire");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// An agent is told what was said before in its own session, where that was granted, and nowhere else.
#[tokio::test]
async fn an_agent_reads_the_conversation_that_it_is_part_of() -> Result<()> {
    let host = host().await?;
    host.push(&host.admin, "reminisce", "reminisce", &["session:history"]).await?;
    host.push(&host.admin, "curious", "reminisce", &[]).await?;
    let id = opened(&host, &json!({"agent": "reminisce"})).await?;
    let speak = async |id: &str, text: &str| {
        let request = host.request(Method::POST, &format!("/v1/sessions/{id}/turns"), &host.admin);
        host.send(request.header("content-type", "text/plain").header("prefer", "wait=30").body(text.to_owned())).await
    };
    assert_eq!(speak(&id, "one").await?.expect(200).json(), json!({"said": [], "answered": 0}));
    speak(&id, "last 0").await?.expect(422);
    let heard = speak(&id, "two").await?.expect(200).json();
    assert_eq!(heard, json!({"said": ["one", "last 0"], "answered": 1}), "one of them failed");
    assert_eq!(speak(&id, "last 1").await?.expect(200).json()["said"], json!(["two"]));
    let other = opened(&host, &json!({"agent": "reminisce"})).await?;
    assert_eq!(speak(&other, "three").await?.expect(200).json()["said"], json!([]), "that is another conversation");
    let lone = host.request(Method::POST, "/v1/agents/reminisce/call", &host.admin);
    let lone = host.send(lone.header("content-type", "text/plain").body("four")).await?.expect(200);
    assert_eq!(lone.json()["said"], json!([]), "that is no turn");
    let denied = opened(&host, &json!({"agent": "curious"})).await?;
    assert!(speak(&denied, "five").await?.expect(422).text().contains("session:history"));
    Ok(())
}

/// Whoever says something in a session at the same moment as others is told which turn it became, however soon that is interrupted.
#[tokio::test]
async fn many_who_interrupt_one_another_are_all_told_their_turns() -> Result<()> {
    let host = std::sync::Arc::new(host().await?);
    for if_busy in ["interrupt", "rollback"] {
        let id = opened(&host, &json!({"agent": "slow", "if-busy": if_busy, "queue": 100})).await?;
        let talkers = (0..6).map(|_| {
            let (host, id) = (host.clone(), id.clone());
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for _ in 0..10 {
                    let said = say(&host, &host.admin, &id, &work(1), None).await?.expect(202).json();
                    numbers.push(said["turn"].as_u64().context("a turn's number")?);
                }
                anyhow::Ok(numbers)
            })
        });
        let mut all = Vec::new();
        for talker in talkers.collect::<Vec<_>>() {
            all.extend(talker.await??);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=60).collect::<Vec<u64>>(), "each is one turn, and no two are the same");
    }
    Ok(())
}
