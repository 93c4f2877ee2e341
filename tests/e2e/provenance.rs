//! Where things come from, over REST: with and without a Neo4j that follows, which comes to the same; and workflows that are alike.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ltmc_test_servers::Neo4j;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};

/// How long the database may take to be told everything.
const PATIENCE: Duration = Duration::from_secs(60);

const FLOW: &str = "name: report\nflow:\n  sequence:\n    - {agent: read, id: first}\n    - {agent: read, id: second, with: {of: $.steps.first.output}}\n    \
                    - {agent: write, id: last, with: {of: $.steps.first.output.n, and: $.steps.second.output}}";

async fn put(host: &Host, key: &str, document: &str) -> Result<()> {
    let name = document.lines().next().and_then(|line| line.strip_prefix("name: ")).context("a name")?;
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), key);
    host.send(request.header("content-type", "application/yaml").body(document.to_owned())).await?.expect(201);
    Ok(())
}

/// Runs a workflow to its end.
async fn run(host: &Host, key: &str, name: &str, input: &Value) -> Result<String> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), key).json(input);
    let run = host.send(request).await?.expect(202).json()["run"].as_str().context("a run")?.to_owned();
    host.ended(key, &run).await?;
    Ok(run)
}

/// What depends on a step, and whether the journals stood in.
async fn dependents(host: &Host, run: &str, step: &str) -> Result<(Value, bool)> {
    let answer = host.get(&format!("/v1/runs/{run}/dependents?step={step}&limit=1")).await?.expect(200);
    let degraded = answer.headers.contains_key("ltmc-degraded");
    let (mut items, mut next) = (answer.json()["items"].clone(), answer.json()["next"].clone());
    while let Some(cursor) = next.as_str() {
        let path = format!("/v1/runs/{run}/dependents?step={step}&limit=1&cursor={cursor}");
        let page = host.get(&path).await?.expect(200).json();
        let more = page["items"].as_array().cloned().unwrap_or_default();
        items.as_array_mut().context("items")?.extend(more);
        next = page["next"].clone();
    }
    Ok((items, degraded))
}

/// The same, from who is to answer: a Neo4j that has just started may take longer than is waited for at first.
async fn undegraded(host: &Host, run: &str, step: &str) -> Result<Value> {
    let begun = std::time::Instant::now();
    loop {
        match dependents(host, run, step).await? {
            (items, false) => return Ok(items),
            _ => ensure!(begun.elapsed() < PATIENCE, "the journals stand in for {step}: {}", host.log()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Ids of the runs that an agent had a part in, in all pages.
async fn runs_of(host: &Host, key: &str, agent: &str) -> Result<Vec<String>> {
    let (mut runs, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/agents/{agent}/runs?limit=2{cursor}");
        let page = host.send(host.request(Method::GET, &path, key)).await?.expect(200).json();
        let items = page["items"].as_array().context("items")?;
        runs.extend(items.iter().filter_map(|item| Some(item["id"].as_str()?.to_owned())));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(runs),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_a_step_and_who_had_a_part_is_found_with_neo4j_and_without() -> Result<()> {
    let mut host = Host::start().await?;
    for agent in ["read", "write"] {
        host.push(&host.admin, agent, "echo", &[]).await?;
    }
    put(&host, &host.admin, FLOW).await?;
    let mut runs = Vec::new();
    for n in 0..3 {
        runs.push(run(&host, &host.admin, "report", &json!({"n": n})).await?);
    }
    let beta = host.tenant("beta", "admin").await?;
    let told = async |host: &Host| -> Result<Vec<Value>> {
        let mut told = Vec::new();
        for step in ["first", "second", "0/0", "last"] {
            told.push(undegraded(host, &runs[0], step).await?);
        }
        for agent in ["read", "write"] {
            told.push(json!(runs_of(host, &host.admin, agent).await?));
        }
        Ok(told)
    };
    let without = told(&host).await?;
    let steps: Vec<_> =
        without[0].as_array().into_iter().flatten().map(|one| (&one["step"], &one["name"], &one["distance"])).collect();
    assert_eq!(steps, [(&json!("0/1"), &json!("second"), &json!(1)), (&json!("0/2"), &json!("last"), &json!(1))]);
    assert_eq!(without[1][0]["needs"], json!(["0/1"]));
    assert_eq!((&without[2], &without[3]), (&without[0], &json!([])));
    let newest_first: Vec<&String> = runs.iter().rev().collect();
    assert_eq!((&without[4], &without[5]), (&json!(newest_first), &json!(newest_first)));
    let agent = host.get("/v1/agents/read").await?.expect(200).json();
    let exact = format!("read@{}", agent["digest"].as_str().context("a digest")?);
    assert_eq!(runs_of(&host, &host.admin, &exact).await?.len(), 3);
    for nobody in ["nobody".to_owned(), format!("read@sha256:{}", "0".repeat(64))] {
        host.get(&format!("/v1/agents/{nobody}/runs")).await?.expect(404);
    }

    // What another tenant asks of it is not there.
    host.send(host.request(Method::GET, "/v1/agents/read/runs", &beta)).await?.expect(404);
    let path = format!("/v1/runs/{}/dependents?step=first", runs[0]);
    host.send(host.request(Method::GET, &path, &beta)).await?.expect(404);
    for (query, code) in [
        ("step=nobody", "bad-query"),
        ("step=0/9", "bad-query"),
        ("step=first&depth=33", "bad-query"),
        ("", "bad-query"),
    ] {
        let answer = host.get(&format!("/v1/runs/{}/dependents?{query}", runs[0])).await?.expect(400);
        assert_eq!(answer.code(), code, "{query}");
    }

    // The same from a Neo4j that is built from what is there, and that follows.
    host.terminate().await?;
    let dir = tempfile::tempdir()?;
    let at = dir.path().to_owned();
    let server = tokio::task::spawn_blocking(move || Neo4j::start(&at)).await??;
    let config = host.data().parent().context("the host's directory")?.join("ltmc.toml");
    let text = std::fs::read_to_string(&config).unwrap_or_default();
    let graph = format!(
        "[graph]\nurl = \"{}\"\nuser = \"{}\"\npassword = \"{}\"\n",
        server.url(),
        server.user(),
        server.password()
    );
    std::fs::write(&config, format!("{text}\n{graph}"))?;
    host.restart().await?;
    host.settled(PATIENCE).await?;
    assert_eq!(told(&host).await?, without);
    let fourth = run(&host, &host.admin, "report", &json!({"n": 4})).await?;
    host.settled(PATIENCE).await?;
    assert_eq!(undegraded(&host, &fourth, "first").await?, without[0]);
    assert_eq!(runs_of(&host, &host.admin, "write").await?.first(), Some(&fourth));
    host.send(host.request(Method::GET, "/v1/agents/read/runs", &beta)).await?.expect(404);

    // It is gone: the journals answer, and say so.
    drop(server);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (items, degraded) = dependents(&host, &fourth, "first").await?;
    assert_eq!((items, degraded), (without[0].clone(), true));
    Ok(())
}

/// Asks until the answer is as it is to be: what ended a moment ago is learned a moment later.
async fn until(host: &Host, key: &str, text: &str, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let begun = std::time::Instant::now();
    loop {
        let path = format!("/v1/search/workflows?text={}", text.replace(' ', "%20"));
        let request = host.request(Method::GET, &path, key);
        let items = host.send(request).await?.expect(200).json()["items"].as_array().cloned().unwrap_or_default();
        if wanted(&items) {
            return Ok(items);
        }
        ensure!(begun.elapsed() < PATIENCE, "{items:#?}\n{}", host.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_that_were_run_and_are_alike_are_found_over_restarts_and_in_their_tenant_alone() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let documents = [
        "name: review-contract\nflow:\n  sequence:\n    - {agent: echo, id: read-contract}\n    - {agent: echo, id: summarise-clauses}",
        "name: bake-bread\nflow:\n  sequence:\n    - {agent: echo, id: knead-dough}\n    - {agent: echo, id: heat-oven}",
        "name: never-run\nflow: {agent: echo, id: summarise-contract}",
    ];
    for document in documents {
        put(&host, &host.admin, document).await?;
    }
    assert_eq!(until(&host, &host.admin, "summarise a contract", |_| true).await?, Vec::<Value>::new());
    let first = run(&host, &host.admin, "review-contract", &json!(1)).await?;
    run(&host, &host.admin, "bake-bread", &json!(1)).await?;
    let found = until(&host, &host.admin, "summarise a contract", |items| items.len() == 2).await?;
    assert_eq!(
        (&found[0]["workflow"], &found[0]["last_run"]),
        (&json!("review-contract"), &json!(first)),
        "{found:#?}"
    );
    assert_eq!(
        (&found[0]["state"], &found[0]["runs"], &found[0]["completed"]),
        (&json!("completed"), &json!(1), &json!(1))
    );
    let similarity = |item: &Value| item["similarity"].as_f64().unwrap_or_default();
    ensure!(similarity(&found[0]) > similarity(&found[1]) && similarity(&found[0]) <= 1.0, "{found:#?}");
    assert_eq!(until(&host, &host.admin, "knead a dough in the oven", |_| true).await?[0]["workflow"], "bake-bread");

    // Another tenant finds nothing of it, and a key of the role `caller` what it ran itself.
    let beta = host.tenant("beta", "admin").await?;
    assert_eq!(until(&host, &beta, "summarise a contract", |_| true).await?, Vec::<Value>::new());
    let caller = host.key("default", "caller").await?;
    assert_eq!(until(&host, &caller, "summarise a contract", |_| true).await?, Vec::<Value>::new());
    let own = run(&host, &caller, "review-contract", &json!(2)).await?;
    let found = until(&host, &caller, "summarise a contract", |items| !items.is_empty()).await?;
    assert_eq!((found.len(), &found[0]["last_run"], &found[0]["runs"]), (1, &json!(own), &json!(1)));
    until(&host, &host.admin, "summarise a contract", |items| items[0]["runs"] == 2).await?;

    // Nothing of it is lost by a restart, nor where the index is.
    host.terminate().await?;
    std::fs::remove_dir_all(host.data().join("lessons"))?;
    host.restart().await?;
    let found = until(&host, &host.admin, "summarise a contract", |items| items.len() == 2).await?;
    assert_eq!(
        (&found[0]["workflow"], &found[0]["runs"], &found[0]["last_run"]),
        (&json!("review-contract"), &json!(2), &json!(own))
    );

    for query in ["", "text=", "text=%20", "text=a&limit=0", "text=a&limit=51"] {
        host.get(&format!("/v1/search/workflows?{query}")).await?.expect(400);
    }
    Ok(())
}
