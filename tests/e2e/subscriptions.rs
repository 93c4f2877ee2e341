//! Events that start runs, with the real binary: each once over a kill, whatever a client says; loops that are stopped; poisonous events; the official
//! CloudEvents SDK as a client; and the command.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::{Answer, Host};
use rand::RngExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(60);

async fn put_workflow(host: &Host, key: &str, document: &str) -> Result<()> {
    let name = document.split_whitespace().nth(1).unwrap_or_default();
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), key);
    host.send(request.header("content-type", "application/yaml").body(document.to_owned())).await?.expect(201);
    Ok(())
}

async fn subscription(host: &Host, key: &str, name: &str) -> Result<Value> {
    Ok(host.send(host.request(Method::GET, &format!("/v1/subscriptions/{name}"), key)).await?.expect(200).json())
}

/// Waits until a subscription has come to this.
async fn comes_to(host: &Host, key: &str, name: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let row = subscription(host, key, name).await?;
        if is(&row) {
            return Ok(row);
        }
        ensure!(begun.elapsed() < PATIENCE, "it does not come to that: {row:#}\n{}", host.log());
        sleep(Duration::from_millis(50)).await;
    }
}

fn is_quiet(row: &Value) -> bool {
    row["waiting"] == 0 && row["under-way"] == 0 && row["lag"] == 0
}

/// A CloudEvent in structured mode.
async fn publish(host: &Host, key: &str, topic: &str, event: &Value) -> Result<Answer> {
    let request = host.request(Method::POST, &format!("/v1/events?topic={topic}"), key);
    let request = request.header("content-type", "application/cloudevents+json").body(event.to_string());
    host.send(request).await
}

fn event(id: usize, key: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": id.to_string(), "source": "/shop", "type": "order.paid", "partitionkey": key, "data": data})
}

async fn counted(host: &Host) -> Result<u64> {
    let asked = json!({"key": "n", "scope": "agent", "times": 1});
    let text = host.call(&host.admin, "counter", &asked).await?.expect(200).text();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    Ok(digits.parse::<u64>()? - 1)
}

const COUNTING: &str =
    "name: intake\non: [{topic: orders}]\nflow: {agent: counter, with: {key: n, scope: agent, times: 1}}\n";

/// Whoever publishes sends again what was not acknowledged: the id tells that it is the same.
#[tokio::test]
async fn each_event_starts_one_run_over_kills() -> Result<()> {
    const EVENTS: usize = 40;
    let mut host = Host::start().await?;
    host.push(&host.admin, "counter", "counter", &["memory:read:*", "memory:write:*"]).await?;
    put_workflow(&host, &host.admin.clone(), COUNTING).await?;
    let kills: Vec<usize> = (0..3).map(|_| rand::rng().random_range(1..EVENTS)).collect();
    println!("killed at {kills:?}");
    for n in 0..EVENTS {
        publish(&host, &host.admin, "orders", &event(n, &format!("k{}", n % 3), &json!({"n": n}))).await?.expect(200);
        for _ in kills.iter().filter(|at| **at == n) {
            sleep(Duration::from_millis(rand::rng().random_range(0..40))).await;
            host.kill_and_restart().await?;
            // As a client does that had no answer.
            let again = event(n, &format!("k{}", n % 3), &json!({"n": n}));
            publish(&host, &host.admin, "orders", &again).await?.expect(200);
        }
    }
    let row = comes_to(&host, &host.admin, "intake:1", is_quiet).await?;
    assert_eq!((&row["started"], &row["dead"]), (&json!(EVENTS), &json!(0)), "{row:#}");
    assert_eq!(counted(&host).await?, EVENTS as u64, "{row:#}");
    let runs = host.get("/v1/runs?workflow=intake&limit=500").await?.expect(200).json();
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(EVENTS), "{runs:#}");
    Ok(())
}

#[tokio::test]
async fn a_loop_of_answers_is_stopped_with_its_reason() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    for (name, to) in [("ping", "pong"), ("pong", "ping")] {
        let document = format!(
            "name: {name}\non: [{{topic: {name}}}]\nflow: {{sequence: [{{agent: echo}}, {{emit: {{topic: {to}, type: said, data: {{hops: 0}}}}}}]}}\n"
        );
        put_workflow(&host, &host.admin, &document).await?;
    }
    publish(&host, &host.admin, "ping", &event(1, "k", &json!({}))).await?.expect(200);
    let row = comes_to(&host, &host.admin, "pong:1", |row| row["dead"] == 1).await?;
    assert_eq!(row["started"], 5, "{row:#}");
    assert_eq!(subscription(&host, &host.admin, "ping:1").await?["started"], 6);
    let dead = host.get("/v1/subscriptions/pong:1/events?dead=true").await?.expect(200).json();
    let letter = &dead["items"][0];
    let reason = letter["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("loop: 11 events"), "{dead:#}");
    assert_eq!(
        (&letter["event"]["correlation"], &letter["event"]["hops"]),
        (&json!("/shop 1"), &json!(11)),
        "{dead:#}"
    );
    Ok(())
}

/// One that always fails, while many others come.
#[tokio::test]
async fn a_poisonous_event_holds_up_its_own_key_alone() -> Result<()> {
    const EVENTS: usize = 200;
    let host = Host::start().await?;
    host.push(&host.admin, "counter", "counter", &["memory:read:*", "memory:write:*"]).await?;
    let document = "name: intake\non: [{topic: orders, at-once: 16, where: {prefix: {type: order.}}}]\n\
                    flow: {agent: counter, with: {key: n, scope: agent, times: $.input.data.times}}\n";
    put_workflow(&host, &host.admin, document).await?;
    let of = |n: usize| match n % 20 {
        0 => event(n, "bad", &json!({"times": if n == 0 { json!("many") } else { json!(1) }})),
        k => event(n, &format!("k{k}"), &json!({"times": 1})),
    };
    for batch in (0..EVENTS).collect::<Vec<_>>().chunks(50) {
        let events: Vec<Value> = batch.iter().map(|n| of(*n)).collect();
        let request = host.request(Method::POST, "/v1/events?topic=orders", &host.admin);
        let request = request.header("content-type", "application/cloudevents-batch+json");
        host.send(request.body(json!(events).to_string())).await?.expect(200);
    }
    let good = EVENTS - EVENTS / 20;
    let row =
        comes_to(&host, &host.admin, "intake:1", |row| row["started"] == good + 1 && row["under-way"] == 0).await?;
    assert_eq!((&row["dead"], &row["waiting"]), (&json!(1), &json!(EVENTS / 20 - 1)), "{row:#}");
    let ltmc = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(ltmc_tests::binary()?);
        command.args(arguments).arg("--data").arg(host.data()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
        Ok(command.output()?)
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let dead = ltmc(&["--json", "subscriptions", "events", "intake:1", "--dead"])?;
    let letter: Value = serde_json::from_str(&text(&dead)).with_context(|| text(&dead))?;
    assert_eq!((&letter["stage"], &letter["key"]), (&json!("parked"), &json!("bad")), "{letter:#}");
    let place = letter["position"].to_string();
    let shown = text(&ltmc(&["subscriptions", "list"])?);
    assert!(shown.contains("intake:1") && shown.contains("1 dead"), "{shown}");
    assert!(ltmc(&["subscriptions", "skip", "intake:1", &place])?.status.success());
    assert_eq!(ltmc(&["subscriptions", "skip", "intake:1", &place])?.status.code(), Some(1));
    let row = comes_to(&host, &host.admin, "intake:1", is_quiet).await?;
    assert_eq!((&row["started"], &row["dead"]), (&json!(EVENTS), &json!(0)), "{row:#}");
    assert_eq!(counted(&host).await?, EVENTS as u64 - 1);
    Ok(())
}

#[tokio::test]
async fn tenants_with_the_same_names_have_nothing_to_do_with_each_other() -> Result<()> {
    let host = Host::start().await?;
    let other = host.tenant("beta", "admin").await?;
    for key in [&host.admin, &other] {
        host.push(key, "echo", "echo", &[]).await?;
        let put = host.request(Method::PUT, "/v1/subscriptions/feed", key);
        host.send(put.json(&json!({"topic": "orders", "agent": "echo"}))).await?.expect(201);
    }
    for n in 0..3 {
        publish(&host, &other, "orders", &event(n, "k", &json!({}))).await?.expect(200);
    }
    comes_to(&host, &other, "feed", |row| row["started"] == 3 && is_quiet(row)).await?;
    assert_eq!(subscription(&host, &host.admin, "feed").await?["started"], 0);
    assert_eq!(host.get("/v1/runs").await?.expect(200).json()["items"], json!([]));
    Ok(())
}

#[tokio::test]
async fn subscriptions_are_put_shown_paused_continued_and_deleted_by_the_command() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let ltmc = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(ltmc_tests::binary()?);
        command.args(arguments).arg("--data").arg(host.data()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
        Ok(command.output()?)
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let put = ["subscriptions", "put", "feed", "--topic", "orders", "--agent", "echo", "--where"];
    let wrong = ltmc(&[&put[..], &[r#"{"exact": {"Type": "a"}}"#]].concat())?;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`Type` is no attribute"), "{wrong:?}");
    let made = ltmc(&[&put[..], &[r#"{"prefix": {"type": "order."}}"#]].concat())?;
    assert!(made.status.success(), "{made:?}");
    assert!(ltmc(&["publish", "orders", "--type", "order.paid", "{\"n\": 1}"])?.status.success());
    assert!(ltmc(&["publish", "orders", "--type", "other", "{\"n\": 2}"])?.status.success());
    comes_to(&host, &host.admin, "feed", |row| row["started"] == 1 && is_quiet(row)).await?;
    let runs = host.get("/v1/runs").await?.expect(200).json();
    let id = runs["items"][0]["id"].as_str().context("a run")?;
    let output = host.get(&format!("/v1/runs/{id}/output")).await?.expect(200).json();
    assert_eq!((&output["type"], &output["data"]), (&json!("order.paid"), &json!({"n": 1})), "{output:#}");
    assert!(ltmc(&["subscriptions", "pause", "feed"])?.status.success());
    assert_eq!(ltmc(&["subscriptions", "pause", "feed"])?.status.code(), Some(1));
    assert!(ltmc(&["publish", "orders", "--type", "order.paid", "{\"n\": 3}"])?.status.success());
    let shown = text(&ltmc(&["subscriptions", "show", "feed"])?);
    assert!(shown.contains("paused") && shown.contains("1 behind"), "{shown}");
    assert!(ltmc(&["subscriptions", "continue", "feed"])?.status.success());
    comes_to(&host, &host.admin, "feed", |row| row["started"] == 2 && is_quiet(row)).await?;
    // From a place that is not there yet it would start nothing, and say nothing.
    let future =
        host.post_json("/v1/subscriptions/feed/replay", &json!({"after": 1_u64 << 62, "force": false})).await?;
    assert!(future.expect(400).text().contains("is not there yet: the newest is"));
    let put = host.request(Method::PUT, "/v1/subscriptions/late", &host.admin);
    let late = host.send(put.json(&json!({"topic": "orders", "agent": "echo", "after": 1_u64 << 63}))).await?;
    assert_eq!(late.expect(400).code(), "invalid");
    assert_eq!(host.get("/v1/subscriptions/late").await?.status, 404);
    let acts = host.get("/v1/audit?action=subscription-paused").await?.expect(200).json();
    assert_eq!(acts["items"][0]["subject"], "feed", "{acts:#}");
    assert!(ltmc(&["subscriptions", "rm", "feed"])?.status.success());
    assert_eq!(host.get("/v1/subscriptions/feed").await?.status, 404);
    Ok(())
}

/// The official Python SDK, in binary, structured and batched mode.
#[tokio::test]
async fn the_official_sdk_publishes_in_every_mode() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let put = host.request(Method::PUT, "/v1/subscriptions/feed", &host.admin);
    let only = json!({"topic": "orders", "agent": "echo", "where": {"exact": {"source": "/shop", "partitionkey": "customer-7"}}});
    host.send(put.json(&only)).await?.expect(201);
    let sdk = tokio::task::spawn_blocking(ltmc_test_servers::cloudevents::directory).await??;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/publish_by_sdk.py");
    let mut command = tokio::process::Command::new("python3");
    command.arg(script).args([&host.url(""), &host.admin, "orders"]).env("PYTHONPATH", sdk);
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Vec<Value> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let statuses: Vec<u64> = told.iter().filter_map(|one| one["status"].as_u64()).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 400], "{told:#?}");
    assert_eq!(told[4]["code"], "invalid", "{told:#?}");
    assert!(told[4]["detail"].as_str().unwrap_or_default().contains("`dataschema`"), "{told:#?}");
    let row = comes_to(&host, &host.admin, "feed", |row| row["started"] == 4 && is_quiet(row)).await?;
    assert_eq!((&row["duplicates"], &row["dead"]), (&json!(1), &json!(0)), "{row:#}");
    let events = host.get("/v1/events?topic=orders").await?.expect(200).json();
    let of = |id: &str| {
        events["items"].as_array().into_iter().flatten().find(|one| one["id"] == id).cloned().unwrap_or_default()
    };
    let (first, second) = (of("1"), of("2"));
    assert_eq!((&first["dataschema"], &first["data"]), (&json!("https://example.com/order.json"), &json!({"n": 1})));
    assert_eq!((&second["data"], &second["partitionkey"]), (&json!({"n": 2}), &json!("customer-7")), "{second:#}");
    assert!(
        second["hops"].is_null() && second["correlation"].is_null() && second["replay"].is_null(),
        "what a client says of these counts for nothing: {second:#}"
    );
    assert!(second["position"].is_u64(), "{second:#}");
    assert!(second["sender"].as_str().unwrap_or_default().starts_with("/keys/"), "{second:#}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_told() -> Result<()> {
    let host = Host::start().await?;
    let send = async |path: &str, headers: &[(&str, &str)], body: &str| -> Result<Answer> {
        let mut request = host.request(Method::POST, path, &host.admin);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        host.send(request.body(body.to_owned())).await
    };
    const ON: &str = "/v1/events?topic=orders";
    let structured = [("content-type", "application/cloudevents+json")];
    let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
    send(ON, &binary, "any bytes").await?.expect(200);
    let long =
        json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "note": "n".repeat(257)}).to_string();
    for (headers, body, told) in [
        (&structured[..], r#"{"specversion":"1.0","id":"1","source":"/s"}"#, "`type` is missing"),
        (
            &structured[..],
            r#"{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}"#,
            "`id` stands there twice",
        ),
        (&structured[..], r#"{"specversion":"1.0","id":"1","source":"/keys/other","type":"t"}"#, "the host's to give"),
        (
            &structured[..],
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","over-long":"a"}"#,
            "no name of an attribute",
        ),
        (&binary[..3], "", "`type` is missing"),
        (
            &structured[..],
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","dataschema":"none"}"#,
            "`dataschema` is an absolute URI",
        ),
        (
            &structured[..],
            r#"{"specversion":"1.0","id":"1","source":"/memory/global","type":"memory.put"}"#,
            "the host's to give",
        ),
        (&structured[..], &long, "`note` is 1 to 256 bytes"),
        (&structured[..], r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","many":[1]}"#, "`many` is a text"),
    ] {
        let answer = send(ON, headers, body).await?;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
    }
    let twice = [&binary[..], &[("ce-id", "2")]].concat();
    assert!(send(ON, &twice, "").await?.expect(400).text().contains("`id` stands in the head twice"));
    let nowhere = send("/v1/events", &binary, "").await?.expect(400);
    assert_eq!(nowhere.code(), "bad-query");
    let xml = send(ON, &[("content-type", "application/cloudevents+xml")], "").await?;
    assert_eq!(xml.expect(415).code(), "unsupported-media-type");
    let batch = "[{\"specversion\":\"1.0\",\"id\":\"9\",\"source\":\"/s\",\"type\":\"t\"},{}]";
    send(ON, &[("content-type", "application/cloudevents-batch+json")], batch).await?.expect(400);
    let events = host.get("/v1/events?topic=orders").await?.expect(200).json();
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1), "of a batch all or none: {events:#}");
    // Whoever mistypes a name, or a filter, is told what would be right.
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let put = host.request(Method::PUT, "/v1/subscriptions/triage", &host.admin);
    host.send(put.json(&json!({"topic": "orders", "agent": "echo"}))).await?.expect(201);
    for (method, path) in [
        (Method::GET, "/v1/subscriptions/trige"),
        (Method::POST, "/v1/subscriptions/trige/pause"),
        (Method::POST, "/v1/subscriptions/trige/events/1/release"),
    ] {
        let answer = host.send(host.request(method, path, &host.admin)).await?.expect(404);
        assert!(answer.text().contains("did you mean `triage`?"), "{path}: {}", answer.text());
    }
    host.send(host.request(Method::POST, "/v1/subscriptions/triage/events/1/release", &host.admin)).await?.expect(404);
    for (wrong, why) in [
        (json!({"prefx": {"type": "a"}}), "did you mean `prefix`?"),
        (json!({"exact": {"Type": "a"}}), "`Type` is no attribute"),
        (json!({"sql": "type = 'a'"}), "or of `exact`, `prefix` and `suffix`"),
    ] {
        let put = host.request(Method::PUT, "/v1/subscriptions/wrong", &host.admin);
        let answer = host.send(put.json(&json!({"topic": "a", "agent": "echo", "where": wrong}))).await?.expect(400);
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
    }
    Ok(())
}

/// Of an event all that followed is shown; and what a client does in a run follows from what that follows from, whatever it says itself.
#[tokio::test]
async fn a_cascade_is_traced_and_goes_on_in_what_a_client_does() -> Result<()> {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let document = "name: intake\non: [{topic: orders}]\n\
                    flow: {sequence: [{emit: {topic: out, type: begun}}, {emit: {topic: out, type: done}}]}\n";
    put_workflow(&host, &host.admin, document).await?;
    let put = host.request(Method::PUT, "/v1/subscriptions/other", &host.admin);
    let other = json!({"topic": "orders", "agent": "echo", "where": {"exact": {"type": "order.lost"}}});
    host.send(put.json(&other)).await?.expect(201);
    let request = host.request(Method::POST, "/v1/events?topic=orders", &host.admin).header("traceparent", TRACE);
    let request = request.header("content-type", "application/cloudevents+json");
    let sent = host.send(request.body(event(1, "k", &json!({})).to_string())).await?.expect(200).json();
    comes_to(&host, &host.admin, "intake:1", |row| row["started"] == 1 && is_quiet(row)).await?;
    let tree = host.get(&format!("/v1/events/{}/trace", sent["id"])).await?.expect(200).json();
    let taken = &tree["taken"][0];
    assert_eq!((&taken["subscription"], &taken["state"]), (&json!("intake:1"), &json!("completed")), "{tree:#}");
    assert_eq!(tree["passed"][0]["why"], "its `where` does not fit", "{tree:#}");
    assert_eq!(taken["events"].as_array().map(Vec::len), Some(2), "{tree:#}");
    assert_eq!(taken["events"][1]["event"]["traceparent"], TRACE, "{tree:#}");
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(["events", "trace", &sent["id"].to_string(), "--data"]).arg(host.data());
    let drawn = command.env_remove("LTMC_URL").env_remove("LTMC_KEY").output()?;
    let drawn = String::from_utf8_lossy(&drawn.stdout).into_owned();
    for part in
        ["order.paid  on orders, from /shop", "intake:1 -> workflow intake", "└─ done  on out", "other did not take it"]
    {
        assert!(drawn.contains(part), "{part} is not in\n{drawn}");
    }
    // A client that works in the run, and says something else of itself.
    let run = taken["run"].as_str().context("there is a run")?;
    let mut forged = event(2, "k", &json!({}));
    (forged["hops"], forged["correlation"]) = (json!(0), json!("nobody"));
    let within = |run: &str| {
        let request =
            host.request(Method::POST, "/v1/events?topic=out", &host.admin).header("ltmc-run", run.to_owned());
        request.header("content-type", "application/cloudevents+json").body(forged.to_string())
    };
    host.send(within(run)).await?.expect(200);
    let out = host.get("/v1/events?topic=out&limit=100").await?.expect(200).json();
    let last = &out["items"][2];
    assert_eq!((&last["hops"], &last["correlation"]), (&json!(1), &json!("/shop 1")), "{out:#}");
    let tree = host.get(&format!("/v1/events/{}/trace", sent["id"])).await?.expect(200).json();
    assert_eq!(tree["taken"][0]["events"].as_array().map(Vec::len), Some(3), "{tree:#}");
    for nobody in ["019d6a3e-0000-7000-8000-000000000001", "a-run"] {
        let refused = host.send(within(nobody)).await?.expect(400).json();
        assert_eq!(refused["code"], "bad-header", "{refused:#}");
    }
    host.get("/v1/events/999999/trace").await?.expect(404);
    host.get(&format!("/v1/events/{}/trace?depth=99", sent["id"])).await?.expect(400);
    Ok(())
}

/// Changes of memory start runs as events do: each one, over kills, by a document and over REST.
#[tokio::test]
async fn each_change_of_memory_starts_one_run_over_kills() -> Result<()> {
    const CHANGES: usize = 20;
    let mut host = Host::start().await?;
    host.push(&host.admin, "counter", "counter", &["memory:read:*", "memory:write:*"]).await?;
    let document =
        "name: intake\non: [{memory: board/}]\nflow: {agent: counter, with: {key: n, scope: agent, times: 1}}\n";
    put_workflow(&host, &host.admin.clone(), document).await?;
    let put = host.request(Method::PUT, "/v1/subscriptions/deleted", &host.admin);
    let deleted = json!({"memory": "board/", "where": {"exact": {"type": "memory.deleted"}}, "workflow": "intake"});
    host.send(put.json(&deleted)).await?.expect(201);
    for n in 0..CHANGES {
        let put = host.request(Method::PUT, &format!("/v1/memory/global/board%2F{}", n % 3), &host.admin);
        host.send(put.body(n.to_string())).await?;
        if n % 7 == 3 {
            host.kill_and_restart().await?;
        }
    }
    host.send(host.request(Method::DELETE, "/v1/memory/global/board%2F0", &host.admin)).await?;
    let row = comes_to(&host, &host.admin, "intake:1", |row| is_quiet(row) && row["started"] == CHANGES + 1).await?;
    assert_eq!(
        (&row["memory"], &row["scope"], &row["dead"]),
        (&json!("board/"), &json!("global"), &json!(0)),
        "{row:#}"
    );
    comes_to(&host, &host.admin, "deleted", |row| is_quiet(row) && row["started"] == 1).await?;
    assert_eq!(counted(&host).await?, CHANGES as u64 + 2);
    for (wrong, why) in [
        (json!({"memory": "a", "topic": "b", "agent": "counter"}), "to one of them"),
        (json!({"memory": "a", "scope": "agent", "agent": "counter"}), "`owner` is missing"),
        (json!({"topic": "a", "scope": "agent", "agent": "counter"}), "`scope` and `owner` are of `memory`"),
        (json!({"agent": "counter"}), "to one of them"),
    ] {
        let put = host.request(Method::PUT, "/v1/subscriptions/wrong", &host.admin);
        let refused = host.send(put.json(&wrong)).await?.expect(400).json();
        assert!(refused["detail"].as_str().unwrap_or_default().contains(why), "{refused:#}");
    }
    Ok(())
}

/// An agent asks to be woken by events; nothing comes of that until somebody accepts it, and it goes with the agent.
#[tokio::test]
async fn an_agent_says_what_it_is_woken_by_and_somebody_accepts_that() -> Result<()> {
    let host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    let (component, manifest) = (dir.path().join("echo.wasm"), dir.path().join("m.json"));
    std::fs::write(&component, ltmc_tests::guest_bytes("echo")?)?;
    let asking = |subscriptions: Value| json!({"manifest": 1, "subscriptions": subscriptions}).to_string();
    let ltmc = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(ltmc_tests::binary()?);
        command.args(arguments).arg("--data").arg(host.data()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
        Ok(command.output()?)
    };
    let (component, manifest) = (component.to_string_lossy(), manifest.to_string_lossy());
    let push = |more: &[&str]| {
        let push = ["push", &*component, "--name", "woken", "--manifest", &*manifest];
        ltmc(&push.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    std::fs::write(&*manifest, asking(json!([{"topic": "orders", "where": {"exact": {"typ": 1}}}])))?;
    let refused = push(&[])?;
    assert!(!refused.status.success() && text(&refused.stderr).contains("number 1"), "{}", text(&refused.stderr));
    std::fs::write(&*manifest, asking(json!([{"topic": "orders"}, {"memory": "board/", "on-poison": "skip"}])))?;
    let pushed = push(&[])?;
    let (out, err) = (text(&pushed.stdout), text(&pushed.stderr));
    assert!(out.contains("woken by") && out.contains("\"topic\":\"orders\""), "{out}");
    assert!(err.contains("ltmc subscriptions accept woken"), "{err}");
    publish(&host, &host.admin, "orders", &event(1, "k", &json!({}))).await?.expect(200);
    host.get("/v1/subscriptions/woken@1").await?.expect(404);
    let accepted = ltmc(&["subscriptions", "accept", "woken"])?;
    assert!(text(&accepted.stderr).contains("woken@1, woken@2"), "{}", text(&accepted.stderr));
    publish(&host, &host.admin, "orders", &event(2, "k", &json!({}))).await?.expect(200);
    let row = comes_to(&host, &host.admin, "woken@1", |row| row["started"] == 1 && is_quiet(row)).await?;
    assert_eq!((&row["agent"], &row["dead"]), (&json!("woken"), &json!(0)), "{row:#}");
    // It is as the manifest says, until that says something else and somebody accepts it.
    let put = host.request(Method::PUT, "/v1/subscriptions/woken@1", &host.admin);
    let refused = host.send(put.json(&json!({"topic": "other", "agent": "woken"}))).await?.expect(409).json();
    assert!(refused["detail"].as_str().unwrap_or_default().contains("manifest"), "{refused:#}");
    std::fs::write(&*manifest, asking(json!([{"topic": "other"}])))?;
    push(&[])?;
    assert_eq!(subscription(&host, &host.admin, "woken@1").await?["topic"], "orders");
    let pushed = push(&["--subscribe"])?;
    assert!(text(&pushed.stderr).contains("It is woken by woken@1"), "{}", text(&pushed.stderr));
    assert_eq!(subscription(&host, &host.admin, "woken@1").await?["topic"], "other");
    host.get("/v1/subscriptions/woken@2").await?.expect(404);
    host.send(host.request(Method::DELETE, "/v1/agents/woken", &host.admin)).await?.expect(204);
    host.get("/v1/subscriptions/woken@1").await?.expect(404);
    Ok(())
}
