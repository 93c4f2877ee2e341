//! A document costs the host no more than it says: what is picked a hundred times, what is judged for ever.

use anyhow::{Result, ensure};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(host: &Host, name: &str, document: &str) -> Result<Answer> {
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    host.send(request.header("content-type", "application/yaml").body(document.to_owned())).await
}

async fn run(host: &Host, name: &str, content_type: &str, input: String) -> Result<Answer> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), &host.admin);
    host.send(request.header("prefer", "wait=60").header("content-type", content_type).body(input)).await
}

/// A schema of which each level is looked at twice: what is below is looked at 2, 4, 8 … times.
pub(crate) fn doubling() -> Value {
    let below = json!({"properties": {"a": {"$ref": "#/$defs/n"}}});
    json!({"$ref": "#/$defs/n", "$defs": {"n": {"allOf": [below, below]}}})
}

/// A workflow whose output is judged by [`doubling`].
pub(crate) fn judged_by_doubling() -> String {
    format!("name: doubling\nflow: {{agent: echo, validate: {{json-schema: {}}}}}\n", doubling())
}

/// What takes [`doubling`] 2 to the power of `depth` looks.
pub(crate) fn nested(depth: usize) -> String {
    (0..depth).fold("0".to_owned(), |within, _| format!("{{\"a\":{within}}}"))
}

/// 100 times 8 MiB took 1.9 GB before anybody looked; with 1,500 picks in 8 MiB of JSON nobody was answered for 100 s.
#[tokio::test]
async fn what_is_picked_often_is_read_once_and_written_within_its_bound() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let fields: Vec<String> = (0..100).map(|n| format!("f{n}: $.input")).collect();
    put(&host, "much", &format!("name: much\nflow: {{agent: echo, with: {{{}}}}}\n", fields.join(", ")))
        .await?
        .expect(201);
    let before = host.peak();
    let answer = run(&host, "much", "text/plain", "x".repeat((8 << 20) - 1_000)).await?.expect(422);
    assert_eq!(answer.code(), "bad-step");
    assert!(answer.text().contains("step `echo`") && answer.text().contains("8388608"), "{}", answer.text());
    let more = host.peak().saturating_sub(before);
    assert!(more < 400 << 20, "{} MiB more for an input that is not built", more >> 20);

    let last = 400_000;
    let fields: Vec<String> = (0..1_500).map(|n| format!("f{n}: $.input.{}", last - n)).collect();
    put(&host, "often", &format!("name: often\nflow: {{agent: echo, with: {{{}}}}}\n", fields.join(", ")))
        .await?
        .expect(201);
    let items: Vec<String> = (0..=last).map(|n| format!("{n:>16}")).collect();
    let answer = run(&host, "often", "application/json", format!("[{}]", items.join(","))).await?.expect(200);
    assert!((0..1_500).all(|n| answer.json()[format!("f{n}")] == last - n), "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_schema_that_cannot_be_judged_by_is_refused_with_its_place() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let with = |schema: &Value| format!("name: w\nflow:\n  agent: echo\n  validate: {{json-schema: {schema}}}\n");
    for (schema, why) in [
        (json!({"pattern": "(a)\\1"}), "without backtracking"),
        (json!({"pattern": "^(?=a)"}), "without backtracking"),
        (json!({"$ref": "https://example.com/s.json"}), "step `echo`"),
        (json!({"description": "x".repeat(300 << 10)}), "262144 bytes"),
    ] {
        let answer = put(&host, "w", &with(&schema)).await?.expect(400);
        assert_eq!(answer.code(), "bad-workflow");
        let text: String = answer.text().chars().take(2_000).collect();
        assert!(text.contains(why), "{why}: {text}");
    }
    put(&host, "w", &with(&json!({"properties": {"t": {"$ref": "#"}}, "pattern": "^(a+)+$"}))).await?.expect(201);
    host.call(&host.admin, "echo", &json!({})).await?.expect(200);
    Ok(())
}

/// A judge that would never end has its time, and no other tenant waits for it; nor does the host that is to stop.
#[tokio::test]
async fn an_output_that_is_judged_for_ever_ends_its_run_and_nobody_waits() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    put(&host, "doubling", &judged_by_doubling()).await?.expect(201);
    assert_eq!(run(&host, "doubling", "application/json", nested(8)).await?.expect(200).text(), nested(8));
    let ids = async |host: &Host, count: usize| -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let request = host.request(Method::POST, "/v1/workflows/doubling/runs", &host.admin);
            let answer = host
                .send(request.header("prefer", "wait=0").json(&serde_json::from_str::<Value>(&nested(100))?))
                .await?;
            ids.push(answer.expect(202).headers["ltmc-run"].to_str()?.to_owned());
        }
        Ok(ids)
    };
    let judged = ids(&host, 3).await?;
    let other = host.tenant("other", "admin").await?;
    host.push(&other, "echo", "echo", &[]).await?;
    let request = host.request(Method::PUT, "/v1/workflows/doubling", &other);
    host.send(request.header("content-type", "application/yaml").body(judged_by_doubling())).await?.expect(201);
    let request = host.request(Method::POST, "/v1/workflows/doubling/runs", &other).header("prefer", "wait=60");
    host.send(request.json(&json!({"a": 1}))).await?.expect(200);
    for run in judged {
        let ended = host.ended(&host.admin, &run).await?;
        assert_eq!((&ended["state"], &ended["error"]["code"]), (&json!("failed"), &json!("limit-cpu")), "{ended:#}");
    }
    let under_way = ids(&host, 2).await?;
    ensure!(host.terminate().await?.success(), "{}", host.log());
    host.restart().await?;
    for run in under_way {
        assert_eq!(host.ended(&host.admin, &run).await?["error"]["code"], "limit-cpu");
    }
    Ok(())
}
