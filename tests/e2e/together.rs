//! What makes one of much, over REST with real components: who collects what branches gave, and debates.

use anyhow::Result;
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(host: &Host, name: &str, flow: &str) -> Result<Answer> {
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    let document = format!("name: {name}\nflow: {flow}\n");
    host.send(request.header("content-type", "application/yaml").body(document)).await
}

async fn run(host: &Host, name: &str, input: &Value) -> Result<Answer> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), &host.admin);
    host.send(request.header("prefer", "wait=60").json(input)).await
}

#[tokio::test]
async fn an_aggregator_makes_one_of_what_branches_gave() -> Result<()> {
    let host = Host::start().await?;
    for (name, guest) in [("flaky", "flaky"), ("tally", "tally"), ("echo", "echo"), ("judge", "check-positive")] {
        host.push(&host.admin, name, guest, &[]).await?;
    }
    let flow = |by: &str| {
        format!(
            "{{map: $.input, do: {{agent: flaky, when: {{pick: $.item.until, exists: true}}}}, tolerate: 1, collect: {{agent: {by}}}}}"
        )
    };
    put(&host, "tallied", &flow("tally")).await?.expect(201);
    let input = json!([{"until": 0}, {"until": 9}, {}, {"until": 1}]);
    let answer = run(&host, "tallied", &input).await?.expect(200);
    let tally = answer.json();
    let names: Vec<&Value> = tally["gave"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["0", "3"], "{tally}");
    assert_eq!(tally["failed"], json!([{"name": "1", "code": "agent-error"}]), "{tally}");
    assert_eq!(tally["skipped"], json!(["2"]), "{tally}");
    let id = answer.headers["ltmc-run"].to_str()?.to_owned();
    let view = host.get(&format!("/v1/runs/{id}")).await?.json();
    let step = view["steps"].as_array().unwrap().iter().find(|step| step["path"] == "0/10001").cloned();
    assert_eq!(step.map(|step| step["status"].clone()), Some(json!("completed")), "it is a step like others: {view}");
    // One that exports `agent` alone gets the same as a list.
    put(&host, "listed", &flow("echo")).await?.expect(201);
    let listed = run(&host, "listed", &input).await?.expect(200).json();
    assert_eq!(listed[1]["failure"]["code"], "agent-error", "{listed}");
    assert_eq!((&listed[0]["branch"], &listed[2]), (&json!("0"), &json!({"branch": "2", "skipped": true})));
    // Its own failure is a step's.
    let refusing = "{parallel: {yes: {agent: echo}}, collect: {agent: tally, fallback: [{agent: echo, id: instead}]}}";
    put(&host, "refusing", refusing).await?.expect(201);
    let instead = run(&host, "refusing", &json!({"refuse": true})).await?.expect(200).json();
    assert_eq!(instead, json!([{"branch": "yes", "output": {"refuse": true}}]));
    // Who has no such export is refused where the document is put.
    for (flow, words) in
        [("{agent: tally}", "cannot be called"), (&*flow("judge"), "cannot make one of what branches give")]
    {
        let refused = put(&host, "wrong", flow).await?.expect(400);
        assert!(refused.text().contains(words), "{}", refused.text());
    }
    Ok(())
}

#[tokio::test]
async fn agents_debate_in_turn_and_one_closes_it() -> Result<()> {
    let mut host = Host::start().await?;
    for (name, guest) in
        [("pro", "debater"), ("con", "debater"), ("chair", "debater"), ("judge", "echo"), ("flaky", "flaky")]
    {
        host.push(&host.admin, name, guest, &[]).await?;
    }
    let debate =
        "{debate: {among: [pro, {agent: con, timeout: 1m}], next: {agent: chair}, rounds: 6, close: {agent: judge}}}";
    put(&host, "led", debate).await?.expect(201);
    let closed =
        run(&host, "led", &json!({"topic": "tabs", "order": ["con", "con", "pro", null]})).await?.expect(200).json();
    let said = closed["turns"].as_array().cloned().unwrap_or_default();
    let speakers: Vec<&Value> = said.iter().map(|turn| &turn["agent"]).collect();
    assert_eq!(speakers, ["con", "con", "pro"], "{closed}");
    assert_eq!(said[2]["output"], json!({"n": 2, "after": "con", "of": "tabs"}), "{closed}");
    let nobody = run(&host, "led", &json!({"order": ["chair"]})).await?.expect(422);
    assert_eq!(nobody.code(), "bad-step");
    assert!(nobody.text().contains("one of `pro`, `con`"), "{}", nobody.text());
    // A host that is killed between two turns goes on where they were.
    let slow = "{debate: {among: [pro, {agent: flaky, with: {until: 2}, retry: {attempts: 2, backoff: 3s}}], rounds: 2, close: {agent: judge}}}";
    put(&host, "slow", slow).await?.expect(201);
    let request = host.request(Method::POST, "/v1/workflows/slow/runs", &host.admin);
    let answer = host.send(request.header("prefer", "wait=0").json(&json!({"topic": "tabs"}))).await?.expect(202);
    let id = answer.headers["ltmc-run"].to_str()?.to_owned();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    host.kill_and_restart().await?;
    let view = host.ended(&host.admin, &id).await?;
    assert_eq!(view["state"], "completed", "{view}");
    let turns = view["nodes"].as_array().unwrap().iter().find(|node| node["pattern"] == "debate").cloned();
    assert_eq!(turns.map(|node| node["rounds"].clone()), Some(json!(4)), "{view}");
    Ok(())
}
