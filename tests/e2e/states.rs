//! Agents' states with the real binary and a real guest: declared, moved, refused by a rule's name, kept over a `kill -9`, migrated,
//! quarantined, released and set by an admin.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::{Answer, Host, binary, guest_bytes};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::children::children;
use crate::documents::{doubling, judged_by_doubling, nested};

fn declaration() -> Value {
    json!({
        "version": 1, "initial": "idle", "data": {"total": 0},
        "schema": {"type": "object", "properties": {"total": {"type": "integer"}}},
        "states": {"idle": {}, "working": {"timeout": "1h", "to": "failed"}, "done": {"final": true}, "failed": {"final": true}},
        "transitions": [
            {"from": "idle", "to": "working", "on": "start"},
            {"from": "working", "to": "working", "on": "add"},
            {"from": "working", "to": "done", "on": "finish", "when": {"pick": "$.state.total", "at-least": 2}},
        ],
        "invariants": [{"pick": "$.state.total", "less": 100}],
    })
}

fn second() -> Value {
    let mut next = declaration();
    next["version"] = json!(2);
    next["migrate"] = json!({"from": 1, "agent": "upgrade"});
    next
}

pub(crate) async fn push(host: &Host, key: &str, name: &str, guest: &str, state: &Value) -> Result<Answer> {
    let manifest = json!({"manifest": 1, "asks": ["call:*"], "state": state}).to_string();
    let form = Form::new()
        .part("component", Part::bytes(guest_bytes(guest)?))
        .part("manifest", Part::text(manifest).mime_str("application/json")?);
    host.send(host.request(Method::PUT, &format!("/v1/agents/{name}"), key).multipart(form)).await
}

pub(crate) async fn grant(host: &Host, key: &str, name: &str, grants: &[&str]) -> Result<()> {
    let path = format!("/v1/agents/{name}/grants");
    host.send(host.request(Method::PUT, &path, key).json(grants)).await?.expect(200);
    Ok(())
}

async fn host() -> Result<Host> {
    let host = Host::start().await?;
    push(&host, &host.admin, "job", "state-script", &declaration()).await?.expect(201);
    grant(&host, &host.admin, "job", &["state", "call:upgrade"]).await?;
    Ok(host)
}

async fn play(host: &Host, steps: Value) -> Result<Value> {
    let answer = host.call(&host.admin, "job", &steps).await?.expect(200).json();
    Ok(answer)
}

async fn shown(host: &Host) -> Result<Value> {
    Ok(host.get("/v1/agents/job/state").await?.expect(200).json())
}

fn step(event: &str, patch: Value) -> Value {
    json!({"do": "move", "event": event, "patch": patch})
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

#[tokio::test]
async fn a_declared_transition_is_taken_and_any_other_is_refused_by_its_rule() -> Result<()> {
    let mut host = host().await?;
    let begun = shown(&host).await?;
    assert_eq!((&begun["state"], &begun["revision"], &begun["standing"]), (&json!("idle"), &json!(0), &json!("sound")));
    let came = play(
        &host,
        json!([
            {"do": "get"},
            step("start", json!({"total": 1})),
            step("start", json!({})),
            step("finish", json!({})),
            step("add", json!({"total": 1.5})),
            step("add", json!({"total": 100})),
            {"do": "move", "event": "add", "revision": 999_999},
            {"do": "move", "event": "add", "fill": 4 << 20},
            {"do": "move", "event": "add", "patch": [1]},
            step("add", json!({"total": 2})),
        ]),
    )
    .await?;
    assert_eq!(came[0]["ok"]["state"], "idle");
    assert_eq!((&came[1]["ok"]["state"], &came[1]["ok"]["data"]), (&json!("working"), &json!({"total": 1})));
    for (number, rule) in
        [(2, "no-transition"), (3, "guard"), (4, "schema"), (5, "invariant"), (6, "revision"), (7, "size")]
    {
        assert_eq!(came[number]["ok"]["refused"], rule, "{}", came[number]);
    }
    assert!(came[2]["ok"]["message"].as_str().unwrap().contains("`working` has no transition on `start`"), "{came}");
    assert_eq!(came[8]["error"], "invalid");
    let now = shown(&host).await?;
    assert_eq!(
        (&now["state"], &now["data"], &now["due"]["to"]),
        (&json!("working"), &json!({"total": 2}), &json!("failed"))
    );

    // What is larger than anything that a guest may pass ends the attempt.
    let huge = json!([{"do": "move", "event": "add", "fill": 10 << 20}]);
    assert_eq!(host.call(&host.admin, "job", &huge).await?.code(), "limit-output");

    // An attempt that fails leaves no transition, and neither does a `kill -9`.
    let failed = json!([step("finish", json!({})), {"do": "fail"}]);
    host.call(&host.admin, "job", &failed).await?.expect(422);
    assert_eq!(shown(&host).await?, now);
    let hanging = host.request(Method::POST, "/v1/agents/job/call", &host.admin).header("prefer", "respond-async");
    let hanging =
        hanging.json(&json!([step("add", json!({"total": 3})), {"do": "sleep", "ms": 600}, step("finish", json!({}))]));
    let started = host.send(hanging).await?.expect(202);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(shown(&host).await?, now, "nobody sees what an attempt did that is not over");
    host.kill_and_restart().await?;
    let location = started.headers["location"].to_str()?;
    let run = location.strip_prefix("/v1/runs/").context("a run")?.to_owned();
    assert_eq!(host.ended(&host.admin, &run).await?["state"], "completed");
    let done = shown(&host).await?;
    assert_eq!((&done["state"], &done["data"]), (&json!("done"), &json!({"total": 3})));

    // As it came, each once; by pages.
    let mut events = Vec::new();
    let mut path = "/v1/agents/job/state/history?limit=2".to_owned();
    loop {
        let page = host.get(&path).await?.expect(200).json();
        for entry in page["items"].as_array().context("items")? {
            events.push(format!(
                "{} {}",
                entry["from"].as_str().unwrap_or("-"),
                entry["event"].as_str().unwrap_or("-")
            ));
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/agents/job/state/history?limit=2&cursor={next}");
    }
    assert_eq!(events, ["idle start", "working add", "working add", "working finish"]);
    let history = text(&ltmc(&host, &["agent", "state", "job", "--history"])?)?;
    assert!(history.contains("finish") && history.contains("working"), "{history}");
    let stranger = host.tenant("strangers", "admin").await?;
    host.send(host.request(Method::GET, "/v1/agents/job/state", &stranger)).await?.expect(404);
    push(&host, &stranger, "job", "state-script", &declaration()).await?.expect(201);
    let theirs = host.send(host.request(Method::GET, "/v1/agents/job/state", &stranger)).await?.expect(200).json();
    assert_eq!(theirs["state"], "idle");
    ensure!(host.terminate().await?.success(), "{}", host.log());
    let audited = Command::new(binary()?).args(["audit", "verify", "--data"]).arg(host.data()).output()?;
    ensure!(audited.status.success(), "{}", String::from_utf8_lossy(&audited.stderr));
    Ok(())
}

#[tokio::test]
async fn without_the_capability_or_a_declaration_nothing_is_told() -> Result<()> {
    let host = host().await?;
    grant(&host, &host.admin, "job", &[]).await?;
    let came = play(&host, json!([{"do": "get"}, step("start", json!({}))])).await?;
    assert_eq!((&came[0]["error"], &came[0]["capability"]), (&json!("access-denied"), &json!("state")));
    assert_eq!(came[1]["error"], "access-denied");
    let agent = host.get("/v1/agents/job").await?.expect(200).json();
    assert!(agent["missing"].as_array().context("missing")?.contains(&json!("state")), "{agent}");
    host.push(&host.admin, "plain", "state-script", &["state"]).await?;
    let came = host.call(&host.admin, "plain", &json!([{"do": "get"}])).await?.expect(200).json();
    assert_eq!(came[0]["error"], "invalid");
    assert!(came[0]["message"].as_str().unwrap().contains("declares no states"), "{came}");
    host.get("/v1/agents/plain/state").await?.expect(404);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_declaration_is_said_when_it_is_pushed() -> Result<()> {
    let host = host().await?;
    let mut wrong = declaration();
    wrong["states"]["lost"] = json!({});
    wrong["transitions"][0]["to"] = json!("wroking");
    let refused = push(&host, &host.admin, "job", "state-script", &wrong).await?.expect(400);
    assert_eq!(refused.code(), "bad-manifest");
    assert!(refused.text().contains("there is no state `wroking`"), "{}", refused.text());
    let mut wrong = declaration();
    wrong["schema"] = json!({"type": "nothing"});
    assert!(push(&host, &host.admin, "job", "state-script", &wrong).await?.expect(400).text().contains("`schema`"));
    let mut wrong = declaration();
    wrong["version"] = json!(2);
    let refused = push(&host, &host.admin, "job", "state-script", &wrong).await?.expect(400);
    assert!(refused.text().contains("a migration is missing"), "{}", refused.text());
    Ok(())
}

#[tokio::test]
async fn a_newer_version_migrates_and_what_does_not_fit_waits_for_an_admin() -> Result<()> {
    let host = host().await?;
    play(&host, json!([step("start", json!({"total": 7}))])).await?;
    push(&host, &host.admin, "job", "state-script", &second()).await?.expect(200);
    grant(&host, &host.admin, "job", &["state", "call:upgrade"]).await?;
    assert_eq!(shown(&host).await?["standing"], "older");
    // The agent of the migration gives what is no state.
    host.push(&host.admin, "upgrade", "note", &[]).await?;
    let came = play(&host, json!([{"do": "get"}])).await?;
    assert_eq!(came[0]["ok"]["refused"], "quarantined", "{came}");
    let aside = shown(&host).await?;
    assert_eq!(
        (&aside["standing"], &aside["state"], &aside["data"]),
        (&json!("quarantined"), &json!("working"), &json!({"total": 7}))
    );
    let came = play(&host, json!([step("add", json!({}))])).await?;
    assert_eq!(came[0]["ok"]["refused"], "quarantined");

    // With one that does, it is released and migrated.
    host.push(&host.admin, "upgrade", "echo", &[]).await?;
    let author = host.key("default", "author").await?;
    let release = json!({"reason": "the migration was mended"});
    let path = "/v1/agents/job/state/release";
    host.send(host.request(Method::POST, path, &author).json(&release)).await?.expect(403);
    host.post_json(path, &json!({"reason": " "})).await?.expect(400);
    host.post_json(path, &release).await?.expect(200);
    host.post_json(path, &release).await?.expect(409);
    let came = play(&host, json!([{"do": "get"}])).await?;
    assert_eq!((&came[0]["ok"]["state"], &came[0]["ok"]["version"]), (&json!("working"), &json!(2)), "{came}");
    assert_eq!(came[0]["ok"]["data"], json!({"total": 7}));

    // By hand: what the declaration allows, with a reason that the audit has.
    let set = json!({"state": "idle", "data": {"total": 1000}, "reason": "by telephone"});
    host.post_json("/v1/agents/job/state/set", &set).await?.expect(400);
    let set = ["agent", "set-state", "job", "idle", "--with", "{\"total\": 5}", "--reason", "by telephone"];
    assert!(text(&ltmc(&host, &set)?)?.contains("idle"));
    let now = shown(&host).await?;
    assert_eq!((&now["state"], &now["data"]), (&json!("idle"), &json!({"total": 5})));
    let audit = host.get("/v1/audit?limit=20").await?.expect(200).text();
    assert!(
        audit.contains("state.set") && audit.contains("by telephone") && audit.contains("the migration was mended"),
        "{audit}"
    );
    let history = host.get("/v1/agents/job/state/history").await?.expect(200).json();
    let entries = history["items"].as_array().context("items")?;
    let last = entries.last().context("an entry")?;
    assert_eq!((&last["reason"], &last["from"]), (&json!("by telephone"), &json!("working")));
    let working = entries.iter().filter(|entry| entry["state"] == "working").map(|entry| &entry["from"]);
    let stayed = ["idle", "working", "working", "working"];
    assert_eq!(
        working.collect::<Vec<_>>(),
        stayed,
        "set aside, released and migrated it stays what it was: {history:#}"
    );
    Ok(())
}

/// How many judges the host has while another tenant has its outputs judged: the most that were seen at once.
async fn judges_while_another_is_judged(host: &Host, other: &str) -> Result<usize> {
    let most = Arc::new(AtomicUsize::new(0));
    let (host_id, seen) = (host.pid(), most.clone());
    let looking = tokio::spawn(async move {
        loop {
            seen.fetch_max(children(host_id, "schema-worker").len(), Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let begun = Instant::now();
    while most.load(Ordering::SeqCst) == 0 {
        ensure!(begun.elapsed() < Duration::from_secs(30), "nobody judges");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 0..5 {
        let put = host.request(Method::PUT, "/v1/workflows/doubling", other).header("content-type", "application/yaml");
        let put = host.send(put.body(format!("# {number}\n{}", judged_by_doubling()))).await?;
        ensure!(put.status.is_success(), "{}", put.text());
        let run = host.request(Method::POST, "/v1/workflows/doubling/runs", other).header("prefer", "wait=60");
        host.send(run.json(&json!({"a": number}))).await?.expect(200);
    }
    looking.abort();
    Ok(most.load(Ordering::SeqCst))
}

/// What judges is shared whatever is judged: a transition's data, and what is kept of a state under another schema, for whoever looks.
#[tokio::test(flavor = "multi_thread")]
async fn states_that_are_dear_to_judge_have_one_judge_and_other_tenants_theirs() -> Result<()> {
    let host = Host::start().await?;
    let mut dear = declaration();
    (dear["per"], dear["schema"], dear["invariants"]) = (json!("session"), doubling(), json!([]));
    push(&host, &host.admin, "dear", "state-script", &dear).await?.expect(201);
    grant(&host, &host.admin, "dear", &["state"]).await?;
    let other = host.tenant("other", "admin").await?;
    host.push(&other, "echo", "echo", &[]).await?;
    let deep: Value = serde_json::from_str(&nested(60))?;
    // Each call has a session, and so a state, of its own.
    for _ in 0..100 {
        let call = host.request(Method::POST, "/v1/agents/dear/call", &host.admin).header("prefer", "respond-async");
        host.send(call.json(&json!([step("start", deep.clone())]))).await?.expect(202);
    }
    let most = judges_while_another_is_judged(&host, &other).await?;
    ensure!(most <= 3, "{most} judges of 100 transitions of one tenant");
    drop(host);

    let host = Host::start().await?;
    let other = host.tenant("other", "admin").await?;
    host.push(&other, "echo", "echo", &[]).await?;
    let mut kept = declaration();
    (kept["schema"], kept["invariants"]) = (json!({"type": "object"}), json!([]));
    push(&host, &host.admin, "kept", "state-script", &kept).await?.expect(201);
    let set = json!({"state": "idle", "data": deep, "reason": "to be looked at"});
    host.post_json("/v1/agents/kept/state/set", &set).await?.expect(200);
    kept["schema"] = doubling();
    push(&host, &host.admin, "kept", "state-script", &kept).await?.expect(200);
    let viewer = host.key("default", "viewer").await?;
    let looks = (0..64).map(|_| host.request(Method::GET, "/v1/agents/kept/state", &viewer).send());
    let looks: Vec<_> = looks.map(tokio::spawn).collect();
    let most = judges_while_another_is_judged(&host, &other).await?;
    ensure!(most <= 3, "{most} judges of 64 looks of one viewer");
    looks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
