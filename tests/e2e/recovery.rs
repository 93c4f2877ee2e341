//! What people do about runs that went wrong, with the real binary, over REST and on the command line.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

/// The command, speaking to this host.
fn ltmc(host: &Host, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(arguments).arg("--data").arg(host.data()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
    Ok(command.output()?)
}

fn done(host: &Host, arguments: &[&str]) -> Result<String> {
    let output = ltmc(host, arguments)?;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const FLOW: &str = "name: flow
flow:
  sequence:
    - agent: first
    - parallel: {x: {agent: beside}, y: {sequence: [{agent: sick, retry: {attempts: 2, backoff: 1ms, on: [agent-error]}}]}}
      id: both
      on-failure: continue
    - agent: last
";

/// A host with a workflow whose step `sick` fails, and a run of it that did.
async fn failed() -> Result<(Host, String)> {
    let host = Host::start().await?;
    for (name, guest) in [("first", "echo"), ("beside", "echo"), ("sick", "flaky"), ("last", "echo")] {
        host.push(&host.admin, name, guest, &[]).await?;
    }
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let put = host.request(Method::PUT, "/v1/workflows/flow", &host.admin);
    host.send(put.header("content-type", "application/yaml").body(FLOW)).await?.expect(201);
    let run = begun(&host, &json!({"until": 99})).await?;
    assert_eq!(host.ended(&host.admin, &run).await?["state"], "failed");
    Ok((host, run))
}

async fn begun(host: &Host, input: &Value) -> Result<String> {
    let answer = host.post_json("/v1/workflows/flow/runs", input).await?.expect(202);
    Ok(answer.json()["run"].as_str().context("a run")?.to_owned())
}

async fn output(host: &Host, run: &str) -> Result<Value> {
    let view = host.ended(&host.admin, run).await?;
    assert_eq!(view["state"], "completed", "{view:#}");
    Ok(host.get(&format!("/v1/runs/{run}/output")).await?.expect(200).json())
}

fn attempts(view: &Value, name: &str) -> usize {
    let steps = view["steps"].as_array().cloned().unwrap_or_default();
    let step = steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("{name}: {view:#}"));
    step["attempts"].as_array().map_or(0, Vec::len)
}

/// Verifies the chain once the host has ended.
async fn verified(mut host: Host) -> Result<()> {
    assert!(host.terminate().await?.success(), "{}", host.log());
    let verify = Command::new(ltmc_tests::binary()?).args(["audit", "verify", "--data"]).arg(host.data()).output()?;
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_sees_why_it_failed_amends_a_step_and_resumes() -> Result<()> {
    let (mut host, run) = failed().await?;
    let why = done(&host, &["runs", "why", &run])?;
    for told in [
        "It failed because `sick` (0/1/1/0) failed, which nothing handled: agent-error",
        "retry: it was tried 2 times, which is as often as `retry` says",
        "on-error: nothing is said to be done in its place",
        "both (parallel, 0/1)",
        &format!("ltmc runs resume {run} --set sick=@output.json"),
    ] {
        assert!(why.contains(told), "{told} is not in {why}");
    }
    let why: Value = serde_json::from_str(&done(&host, &["runs", "why", &run, "--json"])?)?;
    let chain: Vec<&str> = why["chain"].as_array().unwrap().iter().filter_map(|link| link["step"].as_str()).collect();
    assert_eq!(chain, ["0/1/1/0", "0/1/1", "0/1", "0"]);

    let dir = tempfile::tempdir()?;
    let file = dir.path().join("output.json");
    std::fs::write(&file, r#"{"healed": 1.50}"#)?;
    done(&host, &["runs", "resume", &run, "--set", &format!("sick=@{}", file.display())])?;
    assert_eq!(output(&host, &run).await?, json!({"x": {"until": 99}, "y": {"healed": 1.5}}));
    let view = host.get(&format!("/v1/runs/{run}")).await?.json();
    assert_eq!((attempts(&view, "first"), attempts(&view, "beside"), attempts(&view, "last")), (1, 1, 1), "{view:#}");
    let journal = host.get(&format!("/v1/runs/{run}/journal?limit=500")).await?.json();
    let amended = journal["items"].as_array().unwrap().iter().find_map(|entry| entry["event"].get("amended")).unwrap();
    assert_eq!((&amended["step"], &amended["was"]), (&json!("0/1/1/0"), &Value::Null));
    assert!(amended["by"].as_str().is_some_and(|by| !by.is_empty()), "{amended}");

    host.kill_and_restart().await?;
    assert_eq!(output(&host, &run).await?["y"]["healed"], 1.5);
    verified(host).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_restarted_forked_and_compared() -> Result<()> {
    let (mut host, run) = failed().await?;
    let restart =
        ["runs", "restart", &run, "--from", "sick", "--set", "beside=\"other\"", "--input", "sick={\"until\":1}"];
    let restarted = done(&host, &restart)?.trim().to_owned();
    assert_ne!(restarted, run);
    assert_eq!(output(&host, &restarted).await?, json!({"x": "other", "y": {"attempt": 3}}));
    let view = host.get(&format!("/v1/runs/{restarted}")).await?.json();
    assert_eq!(view["forked"]["of"], run.as_str());
    assert_eq!(attempts(&view, "first"), 1, "what came before is not done again");
    assert_eq!(host.get(&format!("/v1/runs/{run}")).await?.json()["state"], "failed", "the old one is as it was");
    let shown = done(&host, &["runs", "show", &restarted])?;
    assert!(shown.contains(&format!("forked from {run} at its entry ")), "{shown}");

    // One that is forked before anything failed, under a key, over a kill.
    let path = format!("/v1/runs/{run}/fork");
    let body = json!({"at": 2, "set": {"0/1/1/0": [1, 2]}});
    let fork = || host.request(Method::POST, &path, &host.admin).header("idempotency-key", "once").json(&body);
    let one = host.send(fork()).await?.expect(202);
    let forked = one.json()["run"].as_str().unwrap_or_default().to_owned();
    assert_eq!(one.headers["location"], format!("/v1/runs/{forked}").as_str());
    host.kill_and_restart().await?;
    let fork = host.request(Method::POST, &path, &host.admin).header("idempotency-key", "once").json(&body);
    let again = host.send(fork).await?.expect(202);
    assert_eq!(
        (again.json()["run"].as_str(), &again.headers["idempotent-replayed"]),
        (Some(&*forked), &"true".parse()?)
    );
    let other =
        host.request(Method::POST, &path, &host.admin).header("idempotency-key", "once").json(&json!({"at": 3}));
    assert_eq!(host.send(other).await?.expect(409).code(), "idempotency-key-reused");
    assert_eq!(output(&host, &forked).await?["y"], json!([1, 2]));

    let diff = host.get(&format!("/v1/runs/{run}/diff/{restarted}")).await?.expect(200).json();
    let items: Vec<&str> = diff["items"].as_array().unwrap().iter().filter_map(|item| item["step"].as_str()).collect();
    assert_eq!(items, ["0/1", "0/1/0", "0/1/1/0", "0/2"], "{diff:#}");
    assert_eq!((&diff["same"], &diff["same_document"], &diff["same_input"]), (&json!(1), &json!(true), &json!(true)));
    let first = host.get(&format!("/v1/runs/{run}/diff/{restarted}?limit=1")).await?.expect(200).json();
    let next = first["next"].as_str().context("a cursor")?;
    let second = host.get(&format!("/v1/runs/{run}/diff/{restarted}?limit=1&cursor={next}")).await?.expect(200).json();
    assert_eq!((&first["items"][0]["step"], &second["items"][0]["step"]), (&json!("0/1"), &json!("0/1/0")));
    let shown = done(&host, &["runs", "diff", &run, &restarted])?;
    assert!(shown.contains("1 the same, 4 different") && shown.contains("b: completed"), "{shown}");
    verified(host).await
}

async fn ask(host: &Host, key: &str, path: &str, body: &Value) -> Result<Answer> {
    host.send(host.request(Method::POST, path, key).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_changes_nothing() -> Result<()> {
    let (host, run) = failed().await?;
    let entries = host.get(&format!("/v1/runs/{run}")).await?.json()["entries"].clone();
    let (resume, fork) = (format!("/v1/runs/{run}/resume"), format!("/v1/runs/{run}/fork"));
    let restart = format!("/v1/runs/{run}/restart");
    for (path, body, code, field) in [
        (&resume, json!({"set": {"nobody": 1}}), "bad-recovery", "set.nobody"),
        (&resume, json!({"input": {"0/7": 1}}), "bad-recovery", "input.0/7"),
        (&resume, json!({"set": {"both": 1}}), "bad-recovery", "set.both"),
        (&resume, json!({"set": [1]}), "bad-json", "set"),
        (&resume, json!({"sets": {}}), "bad-json", "sets"),
        (&restart, json!({}), "bad-json", "from"),
        (&restart, json!({"from": "nobody"}), "bad-recovery", "from"),
        (&restart, json!({"from": 7}), "bad-json", "from"),
        (&fork, json!({"at": 0}), "bad-recovery", "at"),
        (&fork, json!({"at": 9_999}), "bad-recovery", "at"),
        (&fork, json!({"at": "end"}), "bad-json", "at"),
    ] {
        let refused = ask(&host, &host.admin, path, &body).await?.expect(400).json();
        assert_eq!((&refused["code"], &refused["field"]), (&json!(code), &json!(field)), "{body}: {refused}");
    }
    let sent = |body: &'static str, content_type: &'static str| {
        host.request(Method::POST, &resume, &host.admin).header("content-type", content_type).body(body)
    };
    assert_eq!(host.send(sent("{\"set\": {", "application/json")).await?.expect(400).code(), "bad-json");
    assert_eq!(host.send(sent("set: 1", "application/yaml")).await?.expect(415).code(), "unsupported-media-type");
    let large = json!({"set": {"sick": "x".repeat(9 << 20)}});
    assert_eq!(ask(&host, &host.admin, &resume, &large).await?.expect(413).code(), "too-large");

    // Whose run it is not.
    let stranger = host.tenant("strangers", "admin").await?;
    let (caller, viewer) = (host.key("default", "caller").await?, host.key("default", "viewer").await?);
    for key in [&stranger, &caller] {
        for (path, body) in [(&resume, json!({})), (&restart, json!({"from": "sick"})), (&fork, json!({}))] {
            ask(&host, key, path, &body).await?.expect(404);
        }
        for path in [format!("/v1/runs/{run}/why"), format!("/v1/runs/{run}/diff/{run}")] {
            host.send(host.request(Method::GET, &path, key)).await?.expect(404);
        }
    }
    ask(&host, &viewer, &resume, &json!({"set": {"sick": 1}})).await?.expect(403);
    let own = host.send(host.request(Method::POST, "/v1/workflows/flow/runs", &stranger).json(&json!({}))).await?;
    own.expect(404);

    // The command says what is wrong before anything is sent.
    for (value, says) in
        [("sick", "STEP=VALUE"), ("sick=healed", "is not JSON"), ("sick=@/no/such/file", "cannot be read")]
    {
        let (code, text) = said(&ltmc(&host, &["runs", "resume", &run, "--set", value])?);
        assert!(code == Some(2) && text.contains(says), "{value}: {code:?} {text}");
    }
    let (code, text) = said(&ltmc(&host, &["runs", "resume", &run, "--set", "nobody=1"])?);
    assert!(
        code == Some(1) && text.contains("there are `beside`, ") && text.contains("[bad-recovery]"),
        "{code:?} {text}"
    );

    // Under way.
    let work = json!({"n": 100, "sleep_ms": 50, "scope": "session"});
    let call = host.request(Method::POST, "/v1/agents/slow/call", &host.admin).header("prefer", "respond-async");
    let slow = host.send(call.json(&work)).await?.expect(202).json()["run"].as_str().unwrap_or_default().to_owned();
    let resumed = ask(&host, &host.admin, &format!("/v1/runs/{slow}/resume"), &json!({"set": {"slow": 1}})).await?;
    assert_eq!(resumed.expect(409).code(), "conflict");
    let restarted = format!("/v1/runs/{slow}/restart");
    let refused = ask(&host, &host.admin, &restarted, &json!({"from": "slow"})).await?.expect(409);
    assert!(refused.text().contains("cancelled first"), "{}", refused.text());
    let instead =
        json!({"from": "slow", "cancel": true, "input": {"slow": {"n": 1, "sleep_ms": 0, "scope": "session"}}});
    let begun = ask(&host, &host.admin, &restarted, &instead).await?.expect(202).json();
    assert_eq!(host.ended(&host.admin, begun["run"].as_str().unwrap_or_default()).await?["state"], "completed");
    assert_eq!(host.ended(&host.admin, &slow).await?["state"], "cancelled");

    let now = host.get(&format!("/v1/runs/{run}")).await?.json();
    assert_eq!((&now["state"], &now["entries"]), (&json!("failed"), &entries), "nothing of all that was written");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_with_another_version_of_an_agent() -> Result<()> {
    let (host, run) = failed().await?;
    let pushed = host.push_bytes(&host.admin, "sick", ltmc_tests::guest_bytes("echo")?).await?;
    let version = format!("sick@{}", pushed.expect(201).json()["digest"].as_str().context("a digest")?);
    let gone = format!("sick@sha256:{}", "0".repeat(64));
    for (agent, exit, says) in [(gone.as_str(), 1, "there is no version"), ("sick", 2, "sick@sha256:…")] {
        let (code, text) = said(&ltmc(&host, &["runs", "replace-agent", &run, agent])?);
        assert!(code == Some(exit) && text.contains(says), "{agent}: {code:?} {text}");
    }
    done(&host, &["runs", "replace-agent", &run, &version])?;
    assert_eq!(output(&host, &run).await?["y"], json!({"until": 99}));
    let view = host.get(&format!("/v1/runs/{run}")).await?.json();
    assert_eq!(format!("sick@{}", view["agents"]["sick"].as_str().context("a digest")?), version);
    verified(host).await
}

/// The same component under another digest: with a section that says nothing.
fn another_version(guest: &str) -> Result<Vec<u8>> {
    let mut wasm = ltmc_tests::guest_bytes(guest)?;
    wasm.extend([0, 5, 4]);
    wasm.extend(b"next");
    Ok(wasm)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_makes_again_what_the_one_before_did_before_it_takes_over() -> Result<()> {
    let host = Host::start().await?;
    let writes = ["memory:read:*", "memory:write:*"];
    host.push(&host.admin, "worker", "transact", &writes).await?;
    // The last step is denied to it.
    let work = json!({"steps": [
        {"do": "increment", "key": "n", "by": 1}, {"do": "get-put", "key": "m"}, {"do": "checkpoint"},
        {"do": "increment", "key": "n", "by": 1}, {"do": "remember", "id": "x", "text": "y"},
    ]});
    let call = host.request(Method::POST, "/v1/agents/worker/call", &host.admin).header("prefer", "respond-async");
    let run = host.send(call.json(&work)).await?.expect(202).json()["run"].as_str().context("a run")?.to_owned();
    let failed = host.ended(&host.admin, &run).await?;
    assert_eq!(failed["state"], "failed");

    let other = host.push_bytes(&host.admin, "worker", ltmc_tests::guest_bytes("echo")?).await?;
    let other = format!("worker@{}", other.expect(201).json()["digest"].as_str().context("a digest")?);
    let (code, text) = said(&ltmc(&host, &["runs", "replace-agent", &run, &other])?);
    assert!(code == Some(1) && text.contains("[bad-recovery]"), "{code:?} {text}");
    assert!(
        text.contains("before host call 1, which was memory.open (global)") && text.contains("it comes to its end"),
        "{text}"
    );
    let view = host.get(&format!("/v1/runs/{run}")).await?.json();
    assert_eq!((&view["agents"], &view["entries"]), (&failed["agents"], &failed["entries"]), "it stays as it was");

    let next = host.push_bytes(&host.admin, "worker", another_version("transact")?).await?;
    let next = format!("worker@{}", next.expect(201).json()["digest"].as_str().context("a digest")?);
    let grants = [&writes[..], &["recall:write"]].concat();
    let granted = host.request(Method::PUT, "/v1/agents/worker/grants", &host.admin).json(&grants);
    assert!(host.send(granted).await?.status.is_success());
    let (code, text) = said(&ltmc(&host, &["runs", "replace-agent", &run, &next])?);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("it made again the 6 host calls up to the last checkpoint"), "{text}");
    assert_eq!(
        output(&host, &run).await?.as_array().map(|came| &came[..4]),
        json!(["1", 1, null, "2"]).as_array().map(Vec::as_slice)
    );
    for key in ["n", "m"] {
        let kept = host.get(&format!("/v1/memory/global/{key}")).await?.expect(200).text();
        assert_eq!(kept, if key == "n" { "2" } else { "1" }, "nothing was done twice");
    }
    let journal = done(&host, &["runs", "journal", &run, "--json"])?;
    assert!(journal.contains("\"replayed\":[{") && journal.contains("\"calls\":6"), "{journal}");
    verified(host).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_people_who_amend_at_once_one_does() -> Result<()> {
    let (host, run) = failed().await?;
    let resume = format!("/v1/runs/{run}/resume");
    let by = |value: u32| {
        let (host, resume) = (&host, &resume);
        async move { ask(host, &host.admin, resume, &json!({"set": {"sick": value}})).await }
    };
    let (one, other) = tokio::join!(by(1), by(2));
    let statuses = [one?.status.as_u16(), other?.status.as_u16()];
    let won = match statuses {
        [202, 409] => 1,
        [409, 202] => 2,
        _ => panic!("{statuses:?}"),
    };
    assert_eq!(output(&host, &run).await?["y"], won);
    Ok(())
}
