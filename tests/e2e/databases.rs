//! Real Neo4j and Redis behind the real host: what follows them is killed, stopped and wiped at random times under load.
//! Afterwards counters are exact, no message is lost or processed twice, and every database equals the record. The seed is
//! printed; `LTMC_TEST_SEED` gives it again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ltmc_test_servers::{Databases, Neo4j, Redis};
use ltmc_tests::{Answer, Host};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

/// Both servers, and the directory of their data.
async fn servers() -> Result<(Databases, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let at = dir.path().to_owned();
    Ok((tokio::task::spawn_blocking(move || Databases::start(&at)).await??, dir))
}

/// How long the databases may take to be told everything.
const PATIENCE: Duration = Duration::from_secs(60);

async fn compare(host: &Host, check: bool) -> Result<Value> {
    let request = host.request(Method::POST, "/v1/databases/repair", &host.operator).json(&json!({"check": check}));
    Ok(host.send(request).await?.expect(200).json())
}

/// Asks until the answer is as it is to be.
async fn until(host: &Host, path: &str, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
    let begun = std::time::Instant::now();
    loop {
        let answer = host.get(path).await?;
        if wanted(&answer) {
            return Ok(answer);
        }
        ensure!(begun.elapsed() < PATIENCE, "{}\n{}", answer.text(), host.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn differences(outcome: &Value) -> u64 {
    let count =
        |report: &Value| ["missing", "different", "extra"].iter().filter_map(|f| report[*f].as_u64()).sum::<u64>();
    outcome["reports"].as_array().into_iter().flatten().map(count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_die_stop_and_are_wiped_come_to_hold_what_the_record_holds() -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a failing seed can be given again")]
    let seed = std::env::var("LTMC_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("LTMC_TEST_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut servers, _dir) = servers().await?;
    // What is there before the databases are is projected into them.
    let mut host = Host::start().await?;
    let grants = ["memory:read:*", "memory:write:*", "graph:read", "graph:write"];
    host.push(&host.admin, "m", "memory-script", &grants).await?;
    host.push(&host.admin, "g", "graph-script", &grants).await?;
    let messages = [
        "message:send:*",
        "message:receive",
        "message:publish:*",
        "message:subscribe:*",
        "memory:read:agent",
        "memory:write:agent",
    ];
    host.push(&host.admin, "alice", "message-script", &messages).await?;
    host.push(&host.admin, "bob", "message-script", &messages).await?;
    let before = json!([{"do": "relate", "subject": "before", "relation": "comes", "object": "after"}]);
    host.call(&host.admin, "g", &before).await?.expect(200);
    host.terminate().await?;
    let config = host.data().parent().context("the host's directory")?.join("ltmc.toml");
    let text = std::fs::read_to_string(&config).unwrap_or_default();
    std::fs::write(&config, format!("{text}\n{}", servers.config()))?;
    host.restart().await?;
    host.settled(PATIENCE).await?;
    let way = host.get("/v1/graph/path?from=before&to=after").await?.expect(200);
    assert_eq!(way.json()["facts"].as_array().map(Vec::len), Some(1), "{}", way.text());
    assert!(!way.headers.contains_key("ltmc-degraded"), "the graph's database answers");

    let (mut increments, mut sent, mut told) = (0_u64, 0_u64, 0_u64);
    for round in 0..4 {
        let until = tokio::time::Instant::now() + Duration::from_millis(random.random_range(1_500..3_000));
        let mut hurt = false;
        while tokio::time::Instant::now() < until {
            let n = increments;
            let steps = json!([{"do": "update", "scope": "session", "key": "n", "rule": {"increment": 1}}]);
            let request = host.request(Method::POST, "/v1/agents/m/call", &host.admin);
            let key = format!("m-{n}");
            host.send(request.header("idempotency-key", key).header("ltmc-session", "load").json(&steps))
                .await?
                .expect(200);
            increments += 1;
            let steps = json!([{"do": "relate", "subject": format!("e{}", n % 7), "relation": "next", "object": format!("e{}", (n + 1) % 7),
                "properties": {"n": n}}]);
            host.call(&host.admin, "g", &steps).await?.expect(200);
            told += 1;
            let steps = json!([{"do": "send", "to": "bob", "kind": "tick", "data": n},
                {"do": "publish", "topic": "ticks", "kind": "tick", "data": n}]);
            host.call(&host.admin, "alice", &steps).await?.expect(200);
            sent += 1;
            if n % 3 == 2 {
                let steps = json!([{"do": "receive", "limit": 10, "then": "ack", "count": "seen"}]);
                host.call(&host.admin, "bob", &steps).await?.expect(200);
            }
            if !hurt && random.random_range(0..10) == 0 {
                hurt = true;
                let what = (round + random.random_range(0..2)) % 4;
                println!(
                    "round {round}: {}",
                    ["redis killed", "neo4j killed", "redis stopped and flushed", "neo4j stopped"][what]
                );
                match what {
                    0 => servers.redis.stop_now(),
                    1 => servers.neo4j.stop_now(),
                    2 => {
                        servers.redis.flush_all()?;
                        servers.redis.pause()?;
                    }
                    _ => servers.neo4j.pause()?,
                }
            }
        }
        if round == 2 {
            host.kill_and_restart().await?;
        }
        servers = tokio::task::spawn_blocking(move || {
            let _ = servers.redis.resume();
            let _ = servers.neo4j.resume();
            if servers.redis.pid().is_none() {
                servers.redis.restart()?;
            }
            if servers.neo4j.pid().is_none() {
                servers.neo4j.restart()?;
            }
            anyhow::Ok(servers)
        })
        .await??;
    }
    // Everything left is processed, and each message once.
    loop {
        let steps = json!([{"do": "receive", "limit": 50, "then": "ack", "count": "seen"}]);
        let received = host.call(&host.admin, "bob", &steps).await?.expect(200).json();
        if received[0]["ok"].as_array().is_none_or(Vec::is_empty) {
            break;
        }
    }
    host.settled(PATIENCE).await?;
    let count = host.get("/v1/memory/session/n?owner=load").await?.expect(200).text();
    assert_eq!(count, increments.to_string(), "seed {seed}");
    let seen = host.get("/v1/memory/agent/seen?owner=bob").await?.expect(200).text();
    assert_eq!(seen, sent.to_string(), "seed {seed}: every message once");
    let outcome = compare(&host, true).await?;
    assert_eq!(outcome["failed"], json!([]), "{outcome:#}");
    assert_eq!(differences(&outcome), 0, "seed {seed}: {outcome:#}");
    println!("{increments} increments, {sent} messages, {told} facts, all there");

    // A database that is wiped is built whole again, and one that is meddled with is put right.
    let mut neo4j = servers.neo4j;
    let redis = servers.redis;
    neo4j = tokio::task::spawn_blocking(move || neo4j.wipe().map(|()| neo4j)).await??;
    redis.flush_all()?;
    host.call(&host.admin, "g", &before).await?.expect(200);
    let outcome = compare(&host, false).await?;
    assert_eq!(outcome["failed"], json!([]), "{outcome:#}");
    host.settled(PATIENCE).await?;
    let outcome = compare(&host, true).await?;
    assert_eq!((differences(&outcome), &outcome["failed"]), (0, &json!([])), "{outcome:#}");
    let ready = until(&host, "/readyz", |answer| answer.status == 200).await?.json();
    ensure!(ready["checks"].as_array().is_some_and(|checks| checks.len() >= 4), "{ready}");
    drop(neo4j);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let degraded = host.get("/v1/graph/path?from=before&to=after").await?.expect(200);
    assert_eq!(
        degraded.headers.get("ltmc-degraded").and_then(|v| v.to_str().ok()),
        Some("true"),
        "{}",
        degraded.text()
    );
    assert_eq!(degraded.json()["facts"].as_array().map(Vec::len), Some(1));
    Ok(())
}

/// What waits for a database that is down is counted, and the host says that it is not ready long before a disk fills.
#[tokio::test]
async fn a_backlog_past_its_bound_makes_the_host_unready_until_it_is_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut redis = Redis::start(dir.path())?;
    let config = format!("[context]\nbacklog = 5\n[redis]\nurl = \"{}\"\n", redis.url());
    let host = Host::start_with(&config).await?;
    host.settled(PATIENCE).await?;
    redis.stop_now();
    for n in 0..12 {
        let event = json!({"topic": "ticks", "type": "tick", "data": n});
        host.post_json("/v1/events", &event).await?.expect(200);
    }
    let ready = until(&host, "/readyz", |answer| answer.status == 503).await?.json();
    let of_redis = ready["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["name"] == "redis"));
    ensure!(
        of_redis.is_some_and(|check| check["detail"].as_str().is_some_and(|detail| detail.contains("context.backlog"))),
        "{ready}"
    );
    // It is not ready, and yet it serves.
    host.get("/v1/events?topic=ticks&after=0").await?.expect(200);
    let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
    let line = metrics.lines().find(|line| line.starts_with("ltmc_projection_backlog{") && line.contains("redis"));
    let behind = line.and_then(|line| line.rsplit(' ').next()).and_then(|n| n.parse::<f64>().ok());
    ensure!(behind.is_some_and(|behind| behind >= 12.0), "{line:?}");

    redis.restart()?;
    host.settled(PATIENCE).await?;
    // What it says is up to a second old.
    until(&host, "/readyz", |answer| answer.status == 200).await?;
    let outcome = compare(&host, true).await?;
    assert_eq!((differences(&outcome), &outcome["failed"]), (0, &json!([])), "{outcome:#}");
    Ok(())
}

/// A database follows one record: a second host that is told to use it is refused and touches nothing of it, until it takes it. A call
/// without a host tells no database of itself.
#[tokio::test]
async fn a_database_follows_one_record_and_is_left_alone_by_others() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let redis = Redis::start(dir.path())?;
    let config = format!("[redis]\nurl = \"{}\"\n", redis.url());
    let host = Host::start_with(&config).await?;
    let event = |data: &str| json!({"topic": "ticks", "type": "tick", "data": data});
    for n in 0..3 {
        host.post_json("/v1/events", &event(&n.to_string())).await?.expect(200);
    }
    host.settled(PATIENCE).await?;
    let events = "ltmc:{default}:topic:ticks";
    assert_eq!(redis.say(&["XLEN", events])?, "3");

    // An author's call in the operator's directory, with the operator's configuration.
    let workshop = tempfile::tempdir()?;
    std::fs::write(workshop.path().join("ltmc.toml"), &config)?;
    std::fs::write(workshop.path().join("echo.wasm"), ltmc_tests::guest_bytes("echo")?)?;
    std::fs::create_dir(workshop.path().join("tmp"))?;
    let ltmc = |arguments: &[&str]| {
        let mut command = std::process::Command::new(ltmc_tests::binary()?);
        command.args(arguments).current_dir(workshop.path()).env("TMPDIR", workshop.path().join("tmp"));
        command.stdin(std::process::Stdio::null()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
        anyhow::Ok(command.output()?)
    };
    ltmc(&["run", "echo.wasm"])?;
    assert_eq!(std::fs::read_dir(workshop.path().join("tmp"))?.count(), 0, "nothing of it stays behind");
    assert_eq!(redis.say(&["XLEN", events])?, "3");

    // Another host with a tenant of the same name.
    let mut other = Host::start_with(&config).await?;
    let problem = problem_of(&other, "redis").await?;
    ensure!(problem.contains("follows the record") && problem.contains("ltmc repair --rebind"), "{problem}");
    other.post_json("/v1/events", &event("other")).await?.expect(200);
    let outcome = compare(&other, false).await?;
    ensure!(outcome["failed"].as_array().is_some_and(|failed| !failed.is_empty()), "{outcome:#}");
    assert_eq!(redis.say(&["XLEN", events])?, "3");
    host.post_json("/v1/events", &event("4")).await?.expect(200);
    host.settled(PATIENCE).await?;
    assert_eq!(redis.say(&["XLEN", events])?, "4", "the first host goes on with it");

    // It takes it once it is stopped: then the database holds what it has.
    let data = other.data().display().to_string();
    let rebind = |data: &str| ltmc(&["repair", "--rebind", "--data", data]);
    let refused = rebind(&data)?;
    ensure!(!refused.status.success(), "a host is running on it");
    other.terminate().await?;
    drop(host);
    let taken = rebind(&data)?;
    ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert_eq!(redis.say(&["XLEN", events])?, "1");
    other.restart().await?;
    other.settled(PATIENCE).await?;
    Ok(())
}

/// A database that is taken from another record, and whoever does that is killed on the way: nothing of the other's places is believed, and the
/// next host that follows has it hold what its own record holds.
#[tokio::test]
async fn a_database_whose_taking_was_broken_off_is_taken_by_the_next_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let redis = Redis::start(dir.path())?;
    let config = format!("[redis]\nurl = \"{}\"\n", redis.url());
    let event = |data: usize| json!({"topic": "ticks", "type": "tick", "data": data});
    let host = Host::start_with(&config).await?;
    for n in 0..30 {
        host.post_json("/v1/events", &event(n)).await?.expect(200);
    }
    host.settled(PATIENCE).await?;
    let events = "ltmc:{default}:topic:ticks";
    assert_eq!(redis.say(&["XLEN", events])?, "30");
    drop(host);
    // The other record's log is longer, and what the tenant has of it stands at its beginning. It has many tenants, so that there is a way.
    let mut other = Host::start().await?;
    for n in 0..3 {
        other.post_json("/v1/events", &event(n)).await?.expect(200);
    }
    for n in 0..40 {
        let key = other.tenant(&format!("t{n}"), "admin").await?;
        for _ in 0..2 {
            other.send(other.request(Method::POST, "/v1/events", &key).json(&event(n))).await?.expect(200);
        }
    }
    other.terminate().await?;
    std::fs::write(other.data().parent().context("its directory")?.join("ltmc.toml"), &config)?;
    let mut taking = std::process::Command::new(ltmc_tests::binary()?)
        .args(["repair", "--rebind", "--data"])
        .arg(other.data())
        .arg("--config")
        .arg(other.data().parent().context("its directory")?.join("ltmc.toml"))
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .env_remove("LTMC_URL")
        .env_remove("LTMC_KEY")
        .spawn()?;
    let begun = std::time::Instant::now();
    while !redis.say(&["GET", "ltmc:record"])?.ends_with(" halfway") {
        ensure!(begun.elapsed() < PATIENCE, "it does not begin");
    }
    redis.say(&["CLIENT", "PAUSE", "60000", "WRITE"])?;
    taking.kill()?;
    taking.wait()?;
    redis.say(&["CLIENT", "UNPAUSE"])?;
    ensure!(redis.say(&["GET", "ltmc:record"])?.ends_with(" halfway"), "it was broken off on the way");

    other.restart().await?;
    other.settled(PATIENCE).await?;
    assert_eq!(redis.say(&["XLEN", events])?, "3");
    let outcome = compare(&other, true).await?;
    assert_eq!((differences(&outcome), &outcome["failed"]), (0, &json!([])), "{outcome:#}");
    ensure!(!redis.say(&["GET", "ltmc:record"])?.contains("halfway"), "it is done");
    Ok(())
}

/// What is wrongly configured is said at once, by name, and no secret with it.
#[tokio::test]
async fn a_wrong_address_stops_the_start_and_a_wrong_password_only_the_following() -> Result<()> {
    let run = |config: &str| {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("ltmc.toml"), format!("listen = \"127.0.0.1:0\"\n{config}"))?;
        let output = std::process::Command::new(ltmc_tests::binary()?).arg("serve").current_dir(dir.path()).output()?;
        anyhow::Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    for (config, name) in [
        ("[graph]\nurl = \"blt://localhost\"\npassword = \"swordfish\"\n", "graph.url"),
        ("[redis]\nurl = \"reddis://u:swordfish@localhost\"\n", "redis.url"),
        ("[recall]\nembedder = \"minilm\"\n", "recall.model"),
        ("[recall]\nembedder = \"minilm\"\nmodel = \"no-such-directory\"\n", "config.json"),
        ("[graph]\nurl = \"bolt://localhost\"\npassword = \"a\"\npassword_file = \"b\"\n", "graph.password"),
    ] {
        let (code, text) = run(config)?;
        ensure!(code != Some(0) && text.contains(name), "{config}: {code:?} {text}");
        ensure!(!text.contains("swordfish"), "{text}");
    }
    let dir = tempfile::tempdir()?;
    let redis = Redis::start_with(
        dir.path(),
        ltmc_test_servers::redis::RedisOptions { password: Some("swordfish".to_owned()), ..Default::default() },
    )?;
    let address = format!("redis://127.0.0.1:{}", redis.port());
    let host = Host::start_with(&format!("[redis]\nurl = \"{address}\"\npassword = \"minnow\"\n")).await?;
    let problem = problem_of(&host, "redis").await?;
    ensure!(problem.to_lowercase().contains("password"), "{problem}");
    ensure!(!problem.contains("minnow") && !host.whole_log().contains("minnow"), "{problem}");
    until(&host, "/readyz", |answer| answer.status == 200).await?;
    Ok(())
}

/// A Neo4j that speaks TLS is used where its authority is trusted, and named where it is not.
#[tokio::test]
async fn neo4j_over_tls_is_trusted_by_its_authority() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = dir.path().to_owned();
    let server = tokio::task::spawn_blocking(move || Neo4j::start_with_tls(&at)).await??;
    let config = format!("[graph]\nurl = \"{}\"\npassword = \"{}\"\n", server.url(), server.password());
    let host = Host::start_trusting(&server.ca(), &config).await?;
    host.settled(PATIENCE).await?;
    let fact = json!({"subject": "a", "relation": "depends-on", "object": "b"});
    host.post_json("/v1/graph/facts", &fact).await?.expect(200);
    // The record answers while Neo4j, which has just started, takes longer than a read waits.
    let whole = |answer: &Answer| answer.headers.get("ltmc-degraded").is_none();
    let found = until(&host, "/v1/graph/path?from=a&to=b", whole).await?.expect(200);
    ensure!(found.json()["facts"].as_array().is_some_and(|facts| facts.len() == 1), "{}", found.text());

    let host = Host::start_with(&config).await?;
    let problem = problem_of(&host, "neo4j").await?;
    ensure!(problem.contains("certificate"), "{problem}");
    ensure!(!problem.contains(server.password()), "{problem}");
    Ok(())
}

/// What is wrong with a database, once that is known.
async fn problem_of(host: &Host, name: &str) -> Result<String> {
    for _ in 0..100 {
        let found = host.databases().await?;
        let problem = found.iter().find(|one| one["name"] == name).and_then(|one| one["problem"].as_str());
        if let Some(problem) = problem {
            return Ok(problem.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("nothing is wrong with {name}")
}
