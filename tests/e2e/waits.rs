//! Runs that wait for something outside, over hosts that are killed: for people, and for events.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(host: &Host, name: &str, flow: &str) -> Result<()> {
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    let document = format!("name: {name}\nflow: {flow}\n");
    host.send(request.header("content-type", "application/yaml").body(document)).await?.expect(201);
    Ok(())
}

async fn start(host: &Host, name: &str, input: &Value) -> Result<String> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), &host.admin);
    Ok(host.send(request.header("prefer", "wait=0").json(input)).await?.expect(202).headers["ltmc-run"]
        .to_str()?
        .to_owned())
}

/// Open questions, as soon as there are so many.
async fn questions(host: &Host, count: usize) -> Result<Vec<Value>> {
    let begun = Instant::now();
    loop {
        let open = host.get("/v1/approvals?limit=500").await?.expect(200).json();
        let open = open["items"].as_array().context("a list")?.clone();
        if open.len() == count {
            return Ok(open);
        }
        ensure!(begun.elapsed() < Duration::from_secs(20), "{count} questions are not open: {open:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn answer(host: &Host, key: &str, token: &str, answer: &Value) -> Result<Answer> {
    let request = host.request(Method::POST, &format!("/v1/approvals/{token}"), key);
    host.send(request.json(&json!({ "answer": answer, "comment": "e2e" }))).await
}

#[tokio::test]
async fn what_people_are_asked_is_answered_over_rest_and_by_the_command_whatever_becomes_of_the_host() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let flow = "{sequence: [{agent: echo}, {ask: {title: \"Publish\\e[31m?\", of: author, show: $.steps.echo.output, \
                schema: {type: boolean}}, id: ok, timeout: 1h}, {agent: echo, id: after, with: {ok: $.steps.ok.output}}]}";
    // A title has no control characters: not even of a terminal.
    let request = host.request(Method::PUT, "/v1/workflows/publish", &host.admin);
    let document = format!("name: publish\nflow: {flow}\n");
    host.send(request.header("content-type", "application/yaml").body(document)).await?.expect(400);
    put(&host, "publish", &flow.replace("\\e[31m", "")).await?;
    let runs = [start(&host, "publish", &json!({"n": 1})).await?, start(&host, "publish", &json!({"n": 2})).await?];
    let open = questions(&host, 2).await?;
    let token = |run: &str| {
        let of_it = open.iter().find(|asked| asked["run"] == run).and_then(|asked| asked["token"].as_str());
        of_it.map(str::to_owned).context("it asks")
    };
    let (one, other) = (token(&runs[0])?, token(&runs[1])?);
    let shown = host.get(&format!("/v1/approvals/{one}")).await?.expect(200).json();
    assert_eq!((&shown["show"]["json"]["n"], &shown["schema"]), (&json!(1), &json!({"type": "boolean"})), "{shown}");
    assert!(shown["until"].is_string(), "{shown}");

    host.kill_and_restart().await?;
    assert_eq!(questions(&host, 2).await?, open, "they are the same questions");
    let (author, caller) = (host.key("default", "author").await?, host.key("default", "caller").await?);
    let viewer = host.key("default", "viewer").await?;
    assert_eq!(answer(&host, &viewer, &one, &json!(true)).await?.expect(403).code(), "denied");
    assert_eq!(answer(&host, &caller, &one, &json!(true)).await?.expect(404).code(), "not-found");
    assert_eq!(answer(&host, &author, &one, &json!("yes")).await?.expect(422).code(), "bad-answer");
    answer(&host, &author, &one, &json!(true)).await?.expect(204);
    assert_eq!(answer(&host, &author, &one, &json!(false)).await?.expect(409).code(), "already-answered");
    host.kill_and_restart().await?;
    let ended = host.ended(&host.admin, &runs[0]).await?;
    assert_eq!((&ended["state"], &ended["output"]["json"]["ok"]), (&json!("completed"), &json!(true)), "{ended}");

    let ltmc = |arguments: &[&str]| {
        let command = std::process::Command::new(ltmc_tests::binary()?)
            .args(arguments)
            .arg("--data")
            .arg(host.data())
            .env_remove("LTMC_KEY")
            .output()?;
        let text = String::from_utf8_lossy(&[command.stdout, command.stderr].concat()).into_owned();
        anyhow::Ok((command.status.code(), text))
    };
    let (code, text) = ltmc(&["approvals", "list"])?;
    assert!(code == Some(0) && text.contains(&other) && text.contains("Publish?") && !text.contains(&one), "{text}");
    let (code, text) = ltmc(&["approvals", "show", &other])?;
    assert!(code == Some(0) && text.contains("\"n\": 2") && text.contains("boolean"), "{text}");
    let (code, text) = ltmc(&["runs", "show", &runs[1]])?;
    assert!(code == Some(0) && text.contains("for an answer of `author`: Publish?"), "{text}");
    let (code, text) = ltmc(&["approvals", "answer", &other, "nonsense"])?;
    assert!(code == Some(2) && text.contains("is not JSON"), "{text}");
    let (code, text) = ltmc(&["approvals", "answer", &other, "7"])?;
    assert!(code == Some(1) && text.contains("bad-answer"), "{text}");
    let (code, text) = ltmc(&["approvals", "answer", &other, "--no", "--comment", "not yet"])?;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = ltmc(&["approvals", "answer", &other, "--yes"])?;
    assert!(code == Some(1) && text.contains("already-answered"), "{text}");
    let ended = host.ended(&host.admin, &runs[1]).await?;
    assert_eq!((&ended["state"], &ended["output"]["json"]["ok"]), (&json!("completed"), &json!(false)), "{ended}");
    let journal = host.get(&format!("/v1/runs/{}/journal", runs[1])).await?.expect(200).text();
    assert!(journal.contains("not yet"), "who answered, and what was said, stands in the journal: {journal}");
    Ok(())
}

/// Each run waits for an event of its own; the host is killed, the events come, and is killed again while they are taken. By hand with
/// `LTMC_TEST_WAITS=100000`.
#[expect(clippy::disallowed_methods, reason = "the proof by hand has more runs than CI")]
#[tokio::test(flavor = "multi_thread")]
async fn runs_that_wait_are_woken_by_their_events_over_hosts_that_are_killed() -> Result<()> {
    let count: usize = std::env::var("LTMC_TEST_WAITS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let mut host = Host::start().await?;
    let flow = "{wait: {topic: orders, match: {type: order.paid, subject: $.input.id}}}";
    put(&host, "ship", flow).await?;
    let begun = Instant::now();
    let all = (0..count).collect::<Vec<_>>();
    for chunk in all.chunks(64) {
        let started = chunk.iter().map(|number| {
            let (host, input) = (&host, json!({"id": format!("o{number}")}));
            async move { start(host, "ship", &input).await }
        });
        futures::future::try_join_all(started).await?;
    }
    println!("{count} runs started in {:?}", begun.elapsed());
    let gauge = async |host: &Host| {
        let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
        let line = metrics.lines().find(|line| line.starts_with("ltmc_runs_alive "));
        anyhow::Ok(line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0))
    };
    let begun = Instant::now();
    while gauge(&host).await? > 0.0 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "they do not come to rest");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.kill();
    let begun = Instant::now();
    host.restart().await?;
    println!("restarted in {:?}", begun.elapsed());
    assert_eq!(gauge(&host).await?, 0.0, "a start takes none of them up");
    let begun = Instant::now();
    for (number, chunk) in all.chunks(64).enumerate() {
        let published = chunk.iter().map(|number| {
            let event =
                json!({"topic": "orders", "type": "order.paid", "subject": format!("o{number}"), "data": number});
            host.send(host.request(Method::POST, "/v1/events", &host.admin).json(&event))
        });
        for answer in futures::future::try_join_all(published).await? {
            assert!(answer.status.is_success(), "{}", answer.text());
        }
        if number == all.len() / 128 {
            println!("{} events published in {:?}; killed", (number + 1) * 64, begun.elapsed());
            host.kill_and_restart().await?;
        }
    }
    println!("{count} events published in {:?}, a restart included", begun.elapsed());
    loop {
        let mut left = Vec::new();
        // One that is woken before it began is queued until it does; the later states are looked at last.
        for state in ["waiting", "queued", "running"] {
            let page = host.get(&format!("/v1/runs?state={state}&limit=1")).await?.expect(200).json();
            left.extend(page["items"].as_array().context("a list")?.clone());
        }
        if left.is_empty() {
            break;
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(120 + count as u64 / 50),
            "some still wait: {left:?}\n{}",
            host.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    println!("{count} runs woken in {took:?}: {:.0} a second", count as f64 / took.as_secs_f64());
    let (mut cursor, mut seen) = (String::new(), std::collections::BTreeSet::new());
    loop {
        let page = host.get(&format!("/v1/runs?state=completed&limit=500{cursor}")).await?.expect(200).json();
        for run in page["items"].as_array().context("a list")? {
            seen.insert(run["id"].as_str().unwrap_or_default().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut others = Vec::new();
    for state in ["queued", "running", "waiting", "failed", "cancelled", "quarantined", "paused", "stuck"] {
        let page = host.get(&format!("/v1/runs?state={state}&limit=20")).await?.expect(200).json();
        others.extend(page["items"].as_array().context("a list")?.clone());
    }
    assert_eq!(seen.len(), count, "each of them ends well; there are {others:#?}\n{}", host.log());
    for run in seen.iter().take(20) {
        let journal = host.get(&format!("/v1/runs/{run}/journal")).await?.expect(200).text();
        assert_eq!(journal.matches("event-taken").count(), 1, "{journal}");
    }
    Ok(())
}
