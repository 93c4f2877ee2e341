//! Agents that call agents: real components, the real binary.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};

/// What a script answered, step by step.
async fn play(host: &Host, agent: &str, steps: Value) -> Result<Vec<Value>> {
    let answer = host.call(&host.admin, agent, &steps).await?.expect(200);
    Ok(answer.json().as_array().context("a script answers with a list")?.clone())
}

#[tokio::test]
async fn an_agent_calls_another_one() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "caller", "call-script", &["call:echo", "call:flaky"]).await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.push(&host.admin, "denied", "echo", &[]).await?;
    let steps = json!([
        {"do": "call", "agent": "echo", "input": {"say": "hello"}},
        {"do": "call", "agent": "denied", "input": 1},
        {"do": "call", "agent": "No Agent", "input": 1},
        {"do": "call", "agent": "flaky", "input": 1},
    ]);
    let answer = host.call(&host.admin, "caller", &steps).await?.expect(200);
    let played = answer.json();
    assert_eq!(played[0], json!({"ok": {"say": "hello"}}));
    assert_eq!((&played[1]["error"], &played[1]["capability"]), (&json!("access-denied"), &json!("call:denied")));
    assert_eq!((&played[2]["error"], &played[3]["error"]), (&json!("invalid"), &json!("not-found")), "{played}");

    // The child is a run like any other, and the two know of each other.
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    let parent = host.get(&format!("/v1/runs/{run}")).await?.expect(200).json();
    assert_eq!((parent["children"].as_array().map(Vec::len), &parent["parent"]), (Some(1), &json!(null)), "{parent:#}");
    let child = parent["children"][0]["id"].as_str().context("a child")?;
    assert_eq!(
        (&parent["children"][0]["agent"], &parent["children"][0]["state"]),
        (&json!("echo"), &json!("completed"))
    );
    let child = host.get(&format!("/v1/runs/{child}")).await?.expect(200).json();
    let from = json!({"run": run, "step": "0", "attempt": 1, "effect": 1});
    assert_eq!((&child["parent"], &child["session"], &child["by"]), (&from, &parent["session"], &parent["by"]));
    let listed = host.get(&format!("/v1/runs?parent={run}")).await?.expect(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed:#}");
    assert_eq!(listed["items"][0]["parent"], run.as_str());
    Ok(())
}

#[tokio::test]
async fn an_agent_asks_people_and_goes_on_with_their_answer() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "caller", "call-script", &["ask:author"]).await?;
    let steps = json!([
        {"do": "ask", "title": "Publish?", "of": "admin"},
        {"do": "ask", "title": "two\nlines", "of": "author"},
        {"do": "ask", "title": "Publish?", "of": "author", "show": {"text": "$.input"}, "schema": "{\"type\": \"boolean\"}"},
        {"do": "ask", "title": "Quick?", "of": "author", "ms": 1},
        {"do": "join"},
    ]);
    let answering = async {
        for _ in 0..600 {
            let open = host.get("/v1/approvals").await?.expect(200).json();
            let items = open["items"].as_array().context("a list")?;
            if let Some(asked) = items.iter().find(|asked| asked["title"] == "Publish?") {
                let path = format!("/v1/approvals/{}", asked["token"].as_str().context("a token")?);
                let shown = host.get(&path).await?.expect(200).json();
                ensure!(shown["show"]["json"] == json!({"text": "$.input"}), "{shown:#}");
                let answer = json!({"answer": true}).to_string();
                let sent = host.request(Method::POST, &path, &host.admin).header("content-type", "application/json");
                ensure!(sent.body(answer).send().await?.status().is_success());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("nobody was asked")
    };
    let (played, answered) = tokio::join!(play(&host, "caller", steps), answering);
    answered?;
    let played = played?;
    assert_eq!((&played[0]["error"], &played[0]["capability"]), (&json!("access-denied"), &json!("ask:admin")));
    assert_eq!(played[1]["error"], "invalid", "{played:#?}");
    assert_eq!((&played[4]["ok"][0], &played[4]["ok"][1]["failed"]), (&json!(true), &json!("timed-out")));
    Ok(())
}

#[tokio::test]
async fn an_agent_has_what_it_needs_done_by_whoever_fits() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "caller", "call-script", &["call:repeat-words", "call:add-numbers"]).await?;
    host.push(&host.admin, "repeat-words", "echo", &[]).await?;
    host.push(&host.admin, "add-numbers", "panics", &[]).await?;
    let steps = json!([
        {"do": "need", "text": "repeat these words", "among": ["repeat-words", "add-numbers"], "input": "so"},
        {"do": "need", "text": "bake a cake", "among": ["repeat-words"], "at-least": 90, "input": 1},
        {"do": "need", "text": "repeat these words", "input": 1},
        {"do": "join"},
    ]);
    let played = play(&host, "caller", steps).await?;
    assert_eq!((&played[2]["error"], &played[2]["capability"]), (&json!("access-denied"), &json!("call:*")));
    assert_eq!((&played[3]["ok"][0], &played[3]["ok"][1]["failed"]), (&json!("so"), &json!("no-candidate")));
    Ok(())
}

#[tokio::test]
async fn what_another_tenant_has_is_not_there() -> Result<()> {
    let host = Host::start().await?;
    let beta = host.tenant("beta", "admin").await?;
    host.push(&beta, "echo", "echo", &[]).await?;
    host.push(&host.admin, "caller", "call-script", &["call:*"]).await?;
    let played = play(&host, "caller", json!([{"do": "call", "agent": "echo", "input": 1}])).await?;
    assert_eq!(played[0]["error"], "not-found");
    Ok(())
}

#[tokio::test]
async fn how_a_child_fails_is_a_value() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "caller", "call-script", &["call:*"]).await?;
    host.push(&host.admin, "other", "call-script", &[]).await?;
    for (agent, guest) in [("panics", "panics"), ("spins", "spin"), ("exits", "exit3"), ("judges", "check-positive")] {
        host.push(&host.admin, agent, guest, &[]).await?;
    }
    let steps = json!([
        {"do": "call", "agent": "other", "input": [{"do": "fail"}]},
        {"do": "call", "agent": "other", "input": [{"do": "panic"}]},
        {"do": "call", "agent": "other", "input": "no list"},
        {"do": "call", "agent": "spins", "input": 1},
        {"do": "call", "agent": "judges", "input": 1},
    ]);
    let played = play(&host, "caller", steps).await?;
    let failed: Vec<_> =
        played.iter().map(|step| (step["ok"]["failed"].as_str(), step["ok"]["own"].as_str())).collect();
    let expected = [
        (Some("agent-error"), Some("as-asked")),
        (Some("agent-trapped"), None),
        (Some("agent-error"), Some("bad-input")),
        (Some("limit-cpu"), None),
        (Some("bad-step"), None),
    ];
    assert_eq!(failed, expected, "{played:#?}");
    Ok(())
}

#[tokio::test]
async fn agents_that_call_each_other_for_ever_are_told_by_whom() -> Result<()> {
    let host = Host::start().await?;
    for name in ["ping", "pong"] {
        host.push(&host.admin, name, "call-script", &["call:*"]).await?;
    }
    let mut input = json!([]);
    for depth in 0..12 {
        input = json!([{"do": "call", "agent": if depth % 2 == 0 { "pong" } else { "ping" }, "input": input}]);
    }
    let mut told = host.call(&host.admin, "ping", &input).await?.expect(200).json();
    let mut depth = 0;
    while told[0]["ok"].is_array() {
        told = told[0]["ok"].clone();
        depth += 1;
    }
    assert_eq!((depth, &told[0]["error"]), (8, &json!("quota-exceeded")), "{told}");
    let message = told[0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("ping → pong → ping"), "{message}");
    Ok(())
}

/// However few slots there are, and however many of those who have one wait for others: all come to an end.
#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_sandbox_has_room_for_agents_that_call_agents() -> Result<()> {
    let host = Host::start_with("[sandbox]\nslots = 1\n").await?;
    for name in ["ping", "pong"] {
        host.push(&host.admin, name, "call-script", &["call:*"]).await?;
    }
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let inner = json!([{"do": "call", "agent": "echo", "input": "end"}]);
    let middle = json!([{"do": "call", "agent": "ping", "input": inner}]);
    let outer = json!([{"do": "fork", "calls": [["pong", middle], ["pong", middle], ["echo", 1]]}]);
    let calls = (0..6).map(|_| host.call(&host.admin, "ping", &outer));
    for answer in futures::future::join_all(calls).await {
        let gave = answer?.expect(200).json();
        let pong = json!([{"ok": [{"ok": "end"}]}]);
        assert_eq!(gave, json!([{"ok": [pong, pong, 1]}]));
    }
    Ok(())
}

#[tokio::test]
async fn five_at_once_are_joined_in_their_order() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "caller", "call-script", &["call:*"]).await?;
    host.push(&host.admin, "other", "call-script", &[]).await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let sleep = |ms: u64| json!(["other", [{"do": "sleep", "ms": ms}]]);
    let steps = json!([
        {"do": "fork", "calls": [sleep(400), ["echo", 2], sleep(200), ["other", [{"do": "fail"}]], ["echo", 5]]},
        {"do": "begin", "agent": "echo", "input": "a"},
        {"do": "begin", "agent": "echo", "input": "b"},
        {"do": "join"},
    ]);
    let played = play(&host, "caller", steps).await?;
    let gave = &played[0]["ok"];
    assert_eq!(
        (&gave[0], &gave[1], &gave[2], &gave[4]),
        (&json!([{"ok": null}]), &json!(2), &json!([{"ok": null}]), &json!(5))
    );
    assert_eq!(gave[3]["failed"], "agent-error");
    assert_eq!(played[3]["ok"], json!(["a", "b"]));
    Ok(())
}

/// The host dies in the middle: what a child did is done once, and its parent is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_dies_finds_its_child_again() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "caller", "call-script", &["call:*"]).await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let steps = json!([
        {"do": "call", "agent": "slow", "input": {"n": 3, "sleep_ms": 1, "scope": "agent"}},
        {"do": "call", "agent": "slow", "input": {"n": 40, "sleep_ms": 50, "scope": "agent"}},
    ]);
    let request = host.request(Method::POST, "/v1/agents/caller/call", &host.admin).header("prefer", "respond-async");
    let started = host.send(request.json(&steps)).await?.expect(202).json();
    let run = started["run"].as_str().context("a run")?.to_owned();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        host.kill_and_restart().await?;
    }
    let ended = host.ended(&host.admin, &run).await?;
    assert_eq!(ended["state"], "completed", "{ended:#}\n{}", host.log());
    assert_eq!(ended["children"].as_array().map(Vec::len), Some(2), "{ended:#}");
    assert_eq!(ended["output"]["json"][1]["ok"]["count"], 43, "{ended:#}");
    Ok(())
}

#[tokio::test]
async fn a_child_is_cancelled_with_its_parent() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "caller", "call-script", &["call:*"]).await?;
    host.push(&host.admin, "sleeper", "call-script", &[]).await?;
    let steps = json!([{"do": "call", "agent": "sleeper", "input": [{"do": "sleep", "ms": 20_000}]}]);
    let request = host.request(Method::POST, "/v1/agents/caller/call", &host.admin).header("prefer", "respond-async");
    let started = host.send(request.json(&steps)).await?.expect(202).json();
    let run = started["run"].as_str().context("a run")?.to_owned();
    let child = async {
        loop {
            let children = host.get(&format!("/v1/runs?parent={run}&state=running")).await?.expect(200).json();
            if let Some(child) = children["items"][0]["id"].as_str() {
                return anyhow::Ok(child.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let child = tokio::time::timeout(Duration::from_secs(20), child).await.context("no child began")??;
    host.send(host.request(Method::POST, &format!("/v1/runs/{run}/cancel"), &host.admin)).await?.expect(204);
    let ended = host.ended(&host.admin, &child).await?;
    ensure!(ended["state"] == "cancelled", "{ended:#}");
    Ok(())
}

async fn put(host: &Host, name: &str, document: &str) -> Result<ltmc_tests::Answer> {
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    host.send(request.header("content-type", "application/yaml").body(document.to_owned())).await
}

async fn start(host: &Host, workflow: &str, input: &Value) -> Result<String> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{workflow}/runs"), &host.admin);
    let started = host.send(request.json(input)).await?.expect(202).json();
    Ok(started["run"].as_str().context("a run")?.to_owned())
}

/// The host dies while a workflow waits for another one: that goes on, and its end makes the first go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_starts_another_one_and_waits_for_it_over_kills() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let inner = "name: inner\nflow: {sequence: [{agent: slow}, {agent: slow, id: again, with: $.input}]}\n";
    put(&host, "inner", inner).await?.expect(201);
    let outer = "name: outer\nflow: {sequence: [{workflow: inner, id: first}, {agent: slow, with: {n: 1, sleep_ms: 1, scope: agent}}]}\n";
    put(&host, "outer", outer).await?.expect(201);
    let run = start(&host, "outer", &json!({"n": 20, "sleep_ms": 60, "scope": "agent"})).await?;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        host.kill_and_restart().await?;
    }
    let ended = host.ended(&host.admin, &run).await?;
    assert_eq!((&ended["state"], &ended["output"]["json"]["count"]), (&json!("completed"), &json!(41)), "{ended:#}");
    assert_eq!(ended["nodes"][0]["run"], ended["children"][0]["id"], "{ended:#}");
    assert_eq!(ended["children"][0]["workflow"], "inner");

    // As people see it.
    let shown = std::process::Command::new(ltmc_tests::binary()?)
        .args(["runs", "show", &run])
        .env("LTMC_URL", host.url(""))
        .env("LTMC_KEY", &host.admin)
        .output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let child = ended["children"][0]["id"].as_str().unwrap_or_default();
    assert!(shown.lines().any(|line| line.trim().starts_with("↳ inner") && line.contains(child)), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_ring_of_workflows_is_a_fault_of_the_document() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let missing = put(&host, "one", "name: one\nflow: {workflow: two}\n").await?.expect(400);
    assert!(missing.text().contains("there is no workflow `two`"), "{}", missing.text());
    put(&host, "two", "name: two\nflow: {agent: echo}\n").await?.expect(201);
    put(&host, "one", "name: one\nflow: {workflow: two}\n").await?.expect(201);
    let ring =
        put(&host, "two", "name: two\nflow:\n  sequence:\n  - agent: echo\n  - workflow: one\n").await?.expect(400);
    assert_eq!(ring.json()["details"][0]["line"], 5, "{}", ring.text());
    assert!(ring.text().contains("two → one → two"), "{}", ring.text());
    let several: String = (0..100).map(|n| format!("  - workflow: missing-{n}\n")).collect();
    let several = format!("name: many\nflow:\n  sequence:\n  - workflow: two\n{several}");
    let many = put(&host, "many", &several).await?.expect(400);
    assert!(many.text().contains("it starts more than 100 workflows"), "{}", many.text());
    let itself = put(&host, "self", "name: self\nflow: {workflow: self}\n").await?.expect(400);
    assert!(itself.text().contains("`self` starts itself"), "{}", itself.text());
    Ok(())
}

/// It was queued for ever: what was to set it out had gone away between its beginning and that.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_whose_node_is_ended_while_it_is_begun_is_over_with_it_and_begun_anew() -> Result<()> {
    let host = Host::start().await?;
    for agent in ["echo", "flaky"] {
        host.push(&host.admin, agent, agent, &[]).await?;
    }
    let put = async |name: &str, flow: &str| {
        let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
        let document = format!("name: {name}\nflow: {flow}\n");
        host.send(request.header("content-type", "application/yaml").body(document)).await
    };
    put("kid", "{sequence: [{agent: echo}, {agent: echo, id: other}]}").await?.expect(201);
    let retry = "retry: {attempts: 5, backoff: 20ms, on: [agent-error]}";
    for (number, before) in ["", "{agent: echo}, ", "{agent: echo}, {agent: echo, id: e2}, "].into_iter().enumerate() {
        let branch = format!("{{sequence: [{before}{{workflow: kid, id: c}}]}}");
        let name = format!("p{number}");
        put(&name, &format!("{{parallel: [{branch}, {{agent: flaky, with: {{until: 2}}}}], {retry}}}"))
            .await?
            .expect(201);
        let started = (0..40).map(|_| {
            let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), &host.admin);
            host.send(request.header("prefer", "wait=0").json(&json!(1)))
        });
        for answer in futures::future::try_join_all(started).await? {
            let run = answer.expect(202).headers["ltmc-run"].to_str()?.to_owned();
            let ended = host.ended(&host.admin, &run).await?;
            assert_eq!(ended["state"], "completed", "{ended:#}");
        }
    }
    for state in ["queued", "running", "waiting"] {
        let left = host.get(&format!("/v1/runs?state={state}&limit=5")).await?.expect(200).json();
        assert_eq!(left["items"], json!([]), "some are {state}");
    }
    Ok(())
}
