//! Workflows over REST: a sequence, a validation that fails, a retry that ends well.

use anyhow::Result;
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(host: &Host, name: &str, document: &str) -> Result<Answer> {
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    host.send(request.header("content-type", "application/yaml").body(document.to_owned())).await
}

async fn run(host: &Host, name: &str, input: &Value) -> Result<Answer> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), &host.admin);
    host.send(request.header("prefer", "wait=60").json(input)).await
}

#[tokio::test]
async fn a_sequence_hands_each_output_on_and_with_picks() -> Result<()> {
    let host = Host::start().await?;
    for name in ["first", "second"] {
        host.push(&host.admin, name, "echo", &[]).await?;
    }
    let document = "name: chain\nflow:\n  sequence:\n    - agent: first\n    - agent: second\n      with: {from: $.steps.first.output.say, all: $.input, constant: 7}\n";
    assert!(put(&host, "chain", document).await?.status.is_success());
    let answer = run(&host, "chain", &json!({"say": "hello"})).await?.expect(200);
    assert_eq!(answer.json(), json!({"say": "hello", "from": "hello", "all": {"say": "hello"}, "constant": 7}));
    Ok(())
}

#[tokio::test]
async fn a_result_that_is_wrong_stops_the_run_and_shows_its_place() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.push(&host.admin, "after", "echo", &[]).await?;
    let document = "name: strict\nflow:\n  sequence:\n    - agent: echo\n      validate: {json-schema: {type: object, properties: {n: {type: integer}}, required: [n]}}\n    - agent: after\n";
    put(&host, "strict", document).await?.expect(201);
    run(&host, "strict", &json!({"n": 1})).await?.expect(200);
    let answer = run(&host, "strict", &json!({"n": "one"})).await?.expect(422);
    assert_eq!(answer.code(), "validation-failed");
    assert!(answer.text().contains("/n"), "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_flaky_step_is_tried_again() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "flaky", "flaky", &[]).await?;
    let document = "name: patient\nflow:\n  sequence:\n    - agent: flaky\n      retry: {attempts: 4, backoff: 20ms, factor: 2, max: 1s}\n";
    assert!(put(&host, "patient", document).await?.status.is_success());
    let answer = run(&host, "patient", &json!({"until": 3})).await?.expect(200);
    let id = answer.headers["ltmc-run"].to_str()?.to_owned();
    let view = host.get(&format!("/v1/runs/{id}")).await?.json().to_string();
    assert!(view.contains("\"attempt\":3") || view.contains("\"attempts\""), "{view}");
    let answer = run(&host, "patient", &json!({"until": 9})).await?;
    assert_eq!(answer.status.as_u16(), 422, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn an_agent_can_judge_a_result() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.push(&host.admin, "judge", "check-positive", &[]).await?;
    let document = "name: judged\nflow:\n  sequence:\n    - agent: echo\n      validate: {agent: judge}\n";
    assert!(put(&host, "judged", document).await?.status.is_success());
    run(&host, "judged", &json!({"n": 4})).await?.expect(200);
    let answer = run(&host, "judged", &json!({"n": -4})).await?.expect(422);
    assert_eq!(answer.code(), "validation-failed");
    Ok(())
}
