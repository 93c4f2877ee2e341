//! What authors of workflows have in hand without a host, and what a host adds to it: the command as they type it.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};

/// The command in this directory, where no host is.
fn ltmc(dir: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(arguments).current_dir(dir);
    for name in ["LTMC_URL", "LTMC_KEY"] {
        command.env_remove(name);
    }
    Ok(command.output()?)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const GOOD: &str = "name: good\nflow:\n  sequence:\n    - {agent: one, timeout: 2h, retry: {attempts: 2, backoff: 1h}}\n    - {parallel: {left: {agent: two}, right: {agent: three}}, id: both}\n";
const BAD: &str =
    "name: bad\nflow:\n  sequence:\n    - {agent: one, retyr: {}}\n    - {agent: two, with: $.steps.three.output}\n";
/// What is wrong with it only who judges by it says.
const ODD: &str = "name: odd\nflow:\n  sequence:\n    - agent: one\n      validate: {json-schema: {pattern: \"(a)\\\\1\"}}\n    - agent: two\n      validate: {json-schema: {type: thing}}\n";

#[test]
fn documents_are_checked_without_a_host() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (name, document) in [("good.yaml", GOOD), ("bad.yaml", BAD), ("odd.yaml", ODD)] {
        std::fs::write(dir.path().join(name), document)?;
    }
    let good = ltmc(dir.path(), &["flow", "check", "good.yaml"])?;
    assert_eq!((good.status.code(), out(&good).as_str()), (Some(0), ""), "{}", said(&good));
    let all = ltmc(dir.path(), &["flow", "check", "good.yaml", "bad.yaml", "odd.yaml"])?;
    assert_eq!(all.status.code(), Some(1));
    let lines: Vec<String> = out(&all).lines().map(str::to_owned).collect();
    for (line, start, words) in [
        (0, "bad.yaml:4:20: ", "did you mean `retry`?"),
        (1, "bad.yaml:5:26: ", "there is no step `three`"),
        (2, "odd.yaml:5:31: ", "without backtracking"),
        (3, "odd.yaml:7:31: ", "step `two`"),
    ] {
        assert!(lines[line].starts_with(start) && lines[line].contains(words), "{lines:#?}");
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(said(&all).contains("2 of 3 documents are not right [bad-workflow]"), "{}", said(&all));
    let json = ltmc(dir.path(), &["flow", "check", "good.yaml", "bad.yaml", "--json"])?;
    let values: Vec<Value> = out(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values[0], json!({"file": "good.yaml", "workflow": "good", "steps": 3, "faults": []}));
    assert_eq!((&values[1]["faults"][0]["line"], &values[1]["faults"][1]["column"]), (&json!(4), &json!(26)));
    assert_eq!(ltmc(dir.path(), &["flow", "check", "none.yaml"])?.status.code(), Some(2));
    assert_eq!(ltmc(dir.path(), &["flow", "check"])?.status.code(), Some(2));
    Ok(())
}

#[test]
fn a_document_is_drawn_without_a_host() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("good.yaml"), GOOD)?;
    let drawn = ltmc(dir.path(), &["flow", "draw", "good.yaml", "--svg", "good.svg", "--text"])?;
    assert_eq!(drawn.status.code(), Some(0), "{}", said(&drawn));
    let expected = "good\n└─ sequence\n   ├─ one  · retry 2 attempts, backoff 1h  · timeout 2h\n   └─ both (parallel)\n      ├─ left: two\n      └─ right: three\n";
    assert_eq!(out(&drawn), expected);
    let svg = std::fs::read_to_string(dir.path().join("good.svg"))?;
    assert!(svg.starts_with("<svg ") && svg.contains("data-path=\"0/1/1\""), "{svg}");
    std::fs::write(dir.path().join("bad.yaml"), BAD)?;
    let refused = ltmc(dir.path(), &["flow", "draw", "bad.yaml"])?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("bad.yaml:4:20"), "{}", said(&refused));
    Ok(())
}

#[test]
fn a_workflow_is_tried_without_a_host() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("good.yaml"), GOOD)?;
    let cases = "agents: {one: {output: 1}, two: {output: 2}, three: {output: 3}}\ncases:\n  - {name: as it is, expect: {result: {left: 2, right: 3}}}\n  - {name: otherwise, expect: {result: {left: 2, right: 4}, attempts: {one: 2}}}\n";
    std::fs::write(dir.path().join("good.test.yaml"), cases)?;
    let tried = ltmc(dir.path(), &["flow", "test", "good.yaml"])?;
    assert_eq!(tried.status.code(), Some(1), "{}", said(&tried));
    let shown = out(&tried);
    for words in [
        "✓ as it is",
        "✗ otherwise",
        "good.test.yaml:4",
        "result at /right: 3, expected 4",
        "attempts: `one` made 1, expected 2",
    ] {
        assert!(shown.contains(words), "no `{words}` in {shown}");
    }
    assert!(said(&tried).contains("1 of 2 cases came out otherwise [case-failed]"), "{}", said(&tried));
    // An hour of back-off, and one of work, pass at once.
    let patient = "agents: {one: [{fail: {retryable: true}, takes: 10m}, {output: 1, takes: 40m}], two: {output: 2}, three: {output: 3}}\ncases: [{name: patience, expect: {result: {left: 2, right: 3}, attempts: {one: 2}}}]\n";
    std::fs::write(dir.path().join("patient.yaml"), patient)?;
    let tried = ltmc(dir.path(), &["flow", "test", "good.yaml", "patient.yaml", "--json"])?;
    assert_eq!(tried.status.code(), Some(0), "{} {}", out(&tried), said(&tried));
    let value: Value = serde_json::from_slice(&tried.stdout)?;
    assert!(value["took_ms"].as_u64() >= Some(50 * 60_000) && value["calls"] == 4, "{value}");
    std::fs::write(dir.path().join("good.test.yaml"), "agents: {oen: {output: 1}}\ncases: []\n")?;
    let refused = ltmc(dir.path(), &["flow", "test", "good.yaml"])?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("good.test.yaml:1:10: the workflow has no agent `oen`; did you mean `one`?"),
        "{}",
        said(&refused)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_drawn_and_editors_are_told_the_words() -> Result<()> {
    let host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    for name in ["one", "two", "three"] {
        host.push(&host.admin, name, if name == "three" { "flaky" } else { "echo" }, &[]).await?;
    }
    let request =
        host.request(Method::PUT, "/v1/workflows/good", &host.admin).header("content-type", "application/yaml");
    host.send(request.body(GOOD)).await?.expect(201);
    let request = host.request(Method::POST, "/v1/workflows/good/runs", &host.admin).header("prefer", "wait=60");
    let answer = host.send(request.json(&json!({"until": 9}))).await?.expect(422);
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    let data = host.data().display().to_string();
    let shown = ltmc(dir.path(), &["runs", "show", &run, "--svg", "run.svg", "--data", &data])?;
    assert_eq!(shown.status.code(), Some(0), "{}", said(&shown));
    let svg = std::fs::read_to_string(dir.path().join("run.svg"))?;
    for (path, class) in [("0/0", "completed"), ("0/1/1", "failed"), ("0/1", "failed")] {
        let node = svg.split("<g class=\"node ").find(|part| part.contains(&format!("data-path=\"{path}\""))).unwrap();
        assert!(node.split('"').next().unwrap().contains(class), "{path} is not {class}: {node}");
    }
    let called = host.call(&host.admin, "one", &json!({})).await?.expect(200);
    let call = called.headers["ltmc-run"].to_str()?.to_owned();
    assert_eq!(
        ltmc(dir.path(), &["runs", "show", &call, "--svg", "call.svg", "--data", &data])?.status.code(),
        Some(0)
    );
    assert!(std::fs::read_to_string(dir.path().join("call.svg"))?.contains("completed"));

    let served = host.send(reqwest::Client::new().get(host.url("/v1/schemas/workflow.json"))).await?.expect(200);
    assert_eq!(served.headers["content-type"], "application/schema+json");
    let printed: Value = serde_json::from_slice(&ltmc(dir.path(), &["flow", "schema"])?.stdout)?;
    assert_eq!(served.json(), printed);
    assert!(printed["$defs"]["node-parallel"]["properties"]["need"].is_object());
    Ok(())
}
