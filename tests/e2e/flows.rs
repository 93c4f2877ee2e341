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

/// Runs that wait for seconds are rows: the host is killed meanwhile, the next one takes none of them up before it is due,
/// and all of them end. (Back-off is at random below its longest, so that one alone may not wait long enough.)
#[tokio::test]
async fn runs_that_are_suspended_go_on_after_the_host_was_killed() -> Result<()> {
    const RUNS: usize = 6;
    let mut host = Host::start().await?;
    host.push(&host.admin, "flaky", "flaky", &[]).await?;
    let document = "name: patient\nflow: {agent: flaky, retry: {attempts: 2, backoff: 10s}}\n";
    assert!(put(&host, "patient", document).await?.status.is_success());
    let mut ids = Vec::new();
    for _ in 0..RUNS {
        let request = host.request(Method::POST, "/v1/workflows/patient/runs", &host.admin);
        let answer = host.send(request.header("prefer", "wait=0").json(&json!({"until": 2}))).await?.expect(202);
        ids.push(answer.headers["ltmc-run"].to_str()?.to_owned());
    }
    let suspended = async |host: &Host| {
        let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
        let line = metrics.lines().find(|line| line.starts_with("ltmc_runs_total{state=\"suspended\"}"));
        anyhow::Ok(line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).unwrap_or(0))
    };
    let begun = std::time::Instant::now();
    while suspended(&host).await? == 0 && begun.elapsed() < std::time::Duration::from_secs(20) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(suspended(&host).await? > 0, "none of {RUNS} runs waited for long");
    host.kill_and_restart().await?;
    let mut slept = 0;
    for id in ids {
        let view = host.ended(&host.admin, &id).await?;
        assert_eq!(view["state"], "completed", "{view}");
        let journal = host.get(&format!("/v1/runs/{id}/journal")).await?.expect(200).text();
        slept += usize::from(journal.contains("run-suspended"));
    }
    assert!(slept > 0, "what was suspended went on");
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

/// Every pattern at once, on real components, in a host that is killed in the middle of it.
#[tokio::test]
async fn branches_items_and_rounds_go_on_after_the_host_was_killed() -> Result<()> {
    let mut host = Host::start().await?;
    for (name, guest) in [("echo", "echo"), ("flaky", "flaky"), ("trap", "flaky")] {
        host.push(&host.admin, name, guest, &[]).await?;
    }
    let document = r"
name: everything
flow:
  sequence:
    - parallel:
        items: {map: $.input.list, do: {agent: echo, with: {n: $.item, at: $.index}}, at-once: 3}
        rounds: {loop: {agent: echo, id: again, with: {round: $.round}}, at-most: 5}
        patient: {agent: flaky, retry: {attempts: 2, backoff: 3s}}
        saved: {agent: trap, fallback: [{agent: echo, id: instead, with: {why: $.error.code}}]}
    - choice:
        - {when: {pick: $.input.until, less: 2}, do: {agent: echo, id: no}}
        - else: {agent: echo, id: done}
";
    put(&host, "everything", document).await?.expect(201);
    let request = host.request(Method::POST, "/v1/workflows/everything/runs", &host.admin);
    let list: Vec<u32> = (0..20).collect();
    let answer =
        host.send(request.header("prefer", "wait=0").json(&json!({"list": list, "until": 2}))).await?.expect(202);
    let id = answer.headers["ltmc-run"].to_str()?.to_owned();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    host.kill_and_restart().await?;
    let view = host.ended(&host.admin, &id).await?;
    assert_eq!(view["state"], "completed", "{view}");
    let output = host.get(&format!("/v1/runs/{id}/output")).await?.expect(200).json();
    let items = output["items"].as_array().unwrap();
    assert!(items.len() == 20 && items[19]["n"] == 19 && items[19]["at"] == 19, "{output}");
    assert_eq!((&output["rounds"]["round"], &output["saved"]["why"]), (&json!(5), &json!("agent-error")), "{output}");
    let nodes = view["nodes"].as_array().unwrap();
    let of = |path: &str| nodes.iter().find(|node| node["path"] == path).unwrap_or_else(|| panic!("{path}: {view}"));
    assert_eq!((&of("0/0")["pattern"], &of("0/0/0")["items"]), (&json!("parallel"), &json!(20)));
    assert_eq!(
        (&of("0/0/1")["rounds"], &of("0/0/3")["rescued"], &of("0/1")["option"]),
        (&json!(5), &json!(true), &json!(1))
    );
    Ok(())
}
