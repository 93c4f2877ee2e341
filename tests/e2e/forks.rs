//! Branches with a context of their own, with real guests, over REST and on the command line.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};

const FLOW: &str = "name: flow
flow:
  sequence:
    - parallel:
        legal: {agent: legal, with: $.input.legal}
        cost: {agent: cost, with: $.input.cost}
      id: both
      context:
        fork: [session, messages]
        merge: {notes/: keep-all}
    - {agent: last, with: $.input.last}
";

/// A host with a workflow of two branches, each of which does with memory what the run's input says.
async fn host() -> Result<Host> {
    let host = Host::start().await?;
    for name in ["legal", "cost", "last"] {
        host.push(&host.admin, name, "memory-script", &["memory:read:*", "memory:write:*"]).await?;
    }
    let put = host.request(Method::PUT, "/v1/workflows/flow", &host.admin);
    host.send(put.header("content-type", "application/yaml").body(FLOW)).await?.expect(201);
    Ok(host)
}

/// A run of it, which is over: its id, and what there is to be seen of it.
async fn ran(host: &Host, input: &Value) -> Result<(String, Value)> {
    let answer = host.post_json("/v1/workflows/flow/runs", input).await?.expect(202);
    let run = answer.json()["run"].as_str().context("a run")?.to_owned();
    let view = host.ended(&host.admin, &run).await?;
    Ok((run, view))
}

/// What a key of the run's session holds; none: nothing.
async fn key(host: &Host, view: &Value, key: &str) -> Result<Option<String>> {
    let session = view["session"].as_str().context("a session")?;
    let answer = host.get(&format!("/v1/memory/session/{}?owner={session}", key.replace('/', "%2F"))).await?;
    Ok((answer.status.as_u16() == 200).then(|| answer.text()))
}

fn ltmc(host: &Host, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(arguments).arg("--data").arg(host.data()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
    Ok(command.output()?)
}

fn add(key: &str, by: i64) -> Value {
    json!({"do": "update", "key": key, "rule": {"increment": by}})
}

fn append(key: &str, value: &str) -> Value {
    json!({"do": "update", "key": key, "rule": {"append": value}})
}

fn put(key: &str, value: &str) -> Value {
    json!({"do": "put", "key": key, "value": value})
}

fn get(key: &str) -> Value {
    json!({"do": "get", "key": key})
}

#[tokio::test(flavor = "multi_thread")]
async fn two_branches_count_and_append_and_all_of_it_is_there() -> Result<()> {
    let host = host().await?;
    let input = json!({
        "legal": [add("n", 2), append("log", "legal"), put("notes/x", "\"mine\""), get("n")],
        "cost": [add("n", 3), append("log", "cost"), put("notes/x", "\"ours\""), get("n")],
        "last": [get("n"), get("log")],
    });
    let (run, view) = ran(&host, &input).await?;
    assert_eq!(view["state"], "completed", "{view:#}");
    assert_eq!(key(&host, &view, "n").await?.as_deref(), Some("5"));
    assert_eq!(key(&host, &view, "log").await?.as_deref(), Some(r#"["legal","cost"]"#));
    let notes = key(&host, &view, "notes/x").await?.context("notes")?;
    let both = json!([{"branch": "legal", "value": "mine"}, {"branch": "cost", "value": "ours"}]);
    assert_eq!(serde_json::from_str::<Value>(&notes)?, both);
    let given = host.get(&format!("/v1/runs/{run}/output")).await?.expect(200).json();
    assert!(given.to_string().contains("\\\"legal\\\",\\\"cost\\\""), "{given}");
    let found = host.get(&format!("/v1/runs/{run}/conflicts")).await?.expect(200).json();
    assert_eq!(found["conflicts"][0]["resolved"], "keep-all", "{found:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_listed_and_settled_and_the_run_goes_on() -> Result<()> {
    let mut host = host().await?;
    let input = json!({
        "legal": [put("plan/budget", "\"none\""), add("n", 1)],
        "cost": [put("plan/budget", "\"1000\""), add("n", 1)],
        "last": [get("plan/budget")],
    });
    let (run, view) = ran(&host, &input).await?;
    assert_eq!((&view["state"], &view["error"]["code"]), (&json!("failed"), &json!("merge-conflict")), "{view:#}");
    assert_eq!((key(&host, &view, "plan/budget").await?, key(&host, &view, "n").await?), (None, None));

    host.kill_and_restart().await?;
    let found = host.get(&format!("/v1/runs/{run}/conflicts")).await?.expect(200).json();
    let conflict = &found["conflicts"][0];
    assert_eq!((&conflict["key"], &conflict["node"]), (&json!("plan/budget"), &json!("0/0")), "{found:#}");
    let sides = [("legal", "\"none\""), ("cost", "\"1000\"")];
    for (number, (name, value)) in sides.into_iter().enumerate() {
        let side = &conflict["sides"][number];
        assert_eq!((&side["name"], &side["did"], &side["value"]["text"]), (&json!(name), &json!("put"), &json!(value)));
    }

    let listed = ltmc(&host, &["runs", "conflicts", &run])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for told in ["plan/budget", "legal (put): \"none\"", "cost (put): \"1000\"", "open"] {
        assert!(listed.contains(told), "{listed}");
    }
    let wrong = ltmc(&host, &["runs", "resume", &run, "--take", "plan/budget=last"])?;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("`legal`, `cost` did"), "{said}");
    let resumed = ltmc(&host, &["runs", "resume", &run, "--take", "plan/budget=cost"])?;
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let view = host.ended(&host.admin, &run).await?;
    assert_eq!(view["state"], "completed", "{view:#}");
    assert_eq!(key(&host, &view, "plan/budget").await?.as_deref(), Some("\"1000\""));
    assert_eq!(key(&host, &view, "n").await?.as_deref(), Some("2"));

    assert!(host.terminate().await?.success(), "{}", host.log());
    let verify = Command::new(ltmc_tests::binary()?).args(["audit", "verify", "--data"]).arg(host.data()).output()?;
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    Ok(())
}
