//! Hostile guests: each gets the exact error it has earned, the host answers as before, and neighbours do not notice.

use std::time::Duration;

use anyhow::Result;
use ltmc_tests::Host;
use serde_json::json;

/// What becomes of each: the guest, the problem's code, and a part of the answer.
const ENDINGS: &[(&str, &str, &str)] = &[
    ("spin", "limit-cpu", ""),
    ("recurse-small", "agent-trapped", "stack"),
    ("recurse-big", "agent-trapped", ""),
    ("memory-bomb", "limit-memory", "its limit is"),
    ("table-bomb", "limit-memory", "table"),
    ("start-spin", "limit-cpu", ""),
    ("bad-result", "agent-trapped", "broke the contract"),
    ("forged-handle", "agent-trapped", "handle"),
    ("flood-out", "limit-output", ""),
    ("sleeper", "limit-wall", ""),
    ("random-bomb", "limit-resources", ""),
    ("copier", "limit-cpu", ""),
    ("handles", "limit-resources", ""),
    ("huge-result", "limit-output", ""),
    ("panics", "agent-trapped", "this cannot go on"),
    ("aborts", "agent-trapped", ""),
    ("exit3", "agent-error", "three is what you get"),
];

/// Those that do no harm, and what they may say.
const HARMLESS: &[(&str, &str)] = &[
    ("no-read", "ok"),
    ("flood-err", "done"),
    ("flood-log", "done"),
    ("snoop-files", ""),
    ("snoop-env", ""),
    ("snoop-net", ""),
];

const GRANTS: &[&str] = &["log", "memory:read:*", "memory:write:*"];

async fn call(host: &Host, key: &str, agent: &str) -> Result<ltmc_tests::Answer> {
    let request = host.request(reqwest::Method::POST, &format!("/v1/agents/{agent}/call"), key);
    host.send(request.header("content-type", "text/plain").body("hello")).await
}

/// A gauge's value.
async fn gauge(host: &Host, name: &str) -> Result<f64> {
    let request = host.request(reqwest::Method::GET, "/metrics", &host.operator);
    let text = host.send(request).await?.expect(200).text();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.ok_or_else(|| anyhow::anyhow!("/metrics has no {name}:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_the_error_it_has_earned_and_nothing_is_left_of_it() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    call(&host, &host.admin, "echo").await?.expect(200);
    for (guest, ..) in ENDINGS {
        host.push(&host.admin, guest, guest, GRANTS).await?;
    }
    for (guest, _) in HARMLESS {
        host.push(&host.admin, guest, guest, GRANTS).await?;
    }
    let before = host.resident();
    for (guest, code, part) in ENDINGS {
        let answer = call(&host, &host.admin, guest).await?;
        assert!(answer.status.as_u16() >= 400, "{guest}: {}", answer.text());
        assert_eq!(answer.code(), *code, "{guest}: {}", answer.text());
        assert!(answer.text().contains(part), "{guest}: {}", answer.text());
        assert_eq!(call(&host, &host.admin, "echo").await?.expect(200).text(), "hello", "after {guest}");
    }
    for (guest, wanted) in HARMLESS {
        let answer = call(&host, &host.admin, guest).await?;
        assert_eq!(answer.status, 200, "{guest}: {}", answer.text());
        assert_eq!(answer.text(), *wanted, "{guest}");
    }
    // Results that break the contract, each in its own way; the guest is told which by its input.
    host.push(&host.admin, "malformed", "malformed-result", &[]).await?;
    for (how, part) in [("utf8", "utf-8"), ("control", "content type"), ("long", "content type")] {
        let request = host.request(reqwest::Method::POST, "/v1/agents/malformed/call", &host.admin);
        let answer = host.send(request.header("content-type", "text/plain").body(how)).await?.expect(502);
        assert_eq!(answer.code(), "agent-trapped", "{how}: {}", answer.text());
        assert!(answer.text().to_lowercase().contains(part), "{how}: {}", answer.text());
    }
    // The pool is whole: as many calls as it has slots run side by side.
    let slots = gauge(&host, "ltmc_sandbox_slots").await? as usize;
    let all = futures::future::join_all((0..slots).map(|_| call(&host, &host.admin, "echo"))).await;
    for answer in all {
        answer?.expect(200);
    }
    assert_eq!(gauge(&host, "ltmc_sandbox_running").await?, 0.0);
    assert_eq!(gauge(&host, "ltmc_runs_alive").await?, 0.0);
    let grown = host.resident().saturating_sub(before);
    assert!(grown < 128 << 20, "the host has {grown} bytes more than before");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_does_not_notice() -> Result<()> {
    let host = Host::start().await?;
    let (bad, good) = (host.tenant("bad", "admin").await?, host.tenant("good", "admin").await?);
    let hostile = [
        "spin",
        "memory-bomb",
        "table-bomb",
        "copier",
        "flood-out",
        "flood-err",
        "flood-log",
        "sleeper",
        "recurse-big",
        "handles",
    ];
    for guest in hostile {
        host.push(&bad, guest, guest, GRANTS).await?;
    }
    host.push(&good, "echo", "echo", &[]).await?;
    let attack = futures::future::join_all(hostile.iter().cycle().take(30).map(|guest| call(&host, &bad, guest)));
    let work = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..40 {
            let begun = std::time::Instant::now();
            call(&host, &good, "echo").await?.expect(200);
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(slowest)
    };
    let (attacks, slowest) = tokio::join!(attack, work);
    println!("the slowest call of the neighbour took {:?}", slowest?);
    for answer in attacks {
        let answer = answer?;
        assert!(answer.status != 500, "{}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn what_others_keep_is_not_found_by_guessing() -> Result<()> {
    let host = Host::start().await?;
    let (a, b) = (host.tenant("alpha", "admin").await?, host.tenant("beta", "admin").await?);
    host.push(&a, "counter", "counter", GRANTS).await?;
    for scope in ["global", "agent"] {
        host.call(&a, "counter", &json!({"key": "n", "scope": scope, "times": 1})).await?.expect(200);
    }
    host.push(&b, "counter", "snoop-tenant", GRANTS).await?;
    assert_eq!(call(&host, &b, "counter").await?.expect(200).text(), "");
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_call_with_it() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "sleeper", "sleeper", &[]).await?;
    let impatient = tokio::time::timeout(Duration::from_millis(700), call(&host, &host.admin, "sleeper"));
    assert!(impatient.await.is_err());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while gauge(&host, "ltmc_sandbox_running").await? > 0.0 {
        assert!(tokio::time::Instant::now() < deadline, "the call goes on without its client");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    loop {
        let runs = host.get("/v1/runs").await?.expect(200).json();
        if runs["items"][0]["state"] == "cancelled" {
            return Ok(());
        }
        assert!(tokio::time::Instant::now() < deadline, "the run is not cancelled: {runs:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
