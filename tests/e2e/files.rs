//! Granted directories with something in them that never answers: a pipe that nobody writes to, a file system whose server
//! is gone. Whoever asks for it is answered, and nobody else notices.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

/// An ordinary answer, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(15);

/// Lets a tenant's agents see the directories, with calls of at most `wall`.
async fn may_read(host: &Host, tenant: &str, wall: &str) -> Result<()> {
    let ceiling = json!({"capabilities": ["log", "fs:read:*", "fs:write:*"], "limits": {"wall": wall}});
    let request = host.request(Method::PUT, &format!("/v1/ceilings/{tenant}"), &host.operator).json(&ceiling);
    host.send(request).await?.expect(200);
    Ok(())
}

async fn in_time(what: &str, answer: impl Future<Output = Result<Answer>>) -> Result<Answer> {
    let begun = Instant::now();
    let answer = tokio::time::timeout(SOON, answer).await.map_err(|_| anyhow::anyhow!("{what}: no answer"))??;
    ensure!(begun.elapsed() < SOON, "{what} took {:?}", begun.elapsed());
    Ok(answer)
}

/// What a neighbour does all day: calls, a push, and somebody asks whether the host is ready.
async fn a_neighbours_day(host: &Host, key: &str, round: usize) -> Result<()> {
    let called = in_time("a call", host.call(key, "echo", &json!({"round": round}))).await?;
    assert_eq!(called.expect(200).json()["round"], round);
    let guest = ltmc_tests::guest_bytes("upper")?;
    in_time("a push", host.push_bytes(key, &format!("pushed-{round}"), guest)).await?.expect(201);
    in_time("/readyz", host.get("/readyz")).await?.expect(200);
    Ok(())
}

async fn gauge(host: &Host, name: &str) -> Result<f64> {
    let text = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.expect(200).text();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.ok_or_else(|| anyhow::anyhow!("/metrics has no {name}:\n{text}"))
}

fn threads_of(host: &Host) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", host.pid())).map_or(0, |tasks| tasks.count())
}

fn check<'a>(ready: &'a Value, name: &str) -> &'a Value {
    let checks = ready["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check `{name}`: {ready:#}"))
}

/// The case that was found: a pipe in a granted directory kept a thread for each call, and 512 calls kept all there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_a_granted_directory_is_refused_and_keeps_nothing() -> Result<()> {
    const CALLS: usize = 600;
    let files = tempfile::tempdir()?;
    ensure!(Command::new("mkfifo").arg(files.path().join("pipe.md")).status()?.success(), "mkfifo failed");
    std::fs::write(files.path().join("note.md"), "to be read")?;
    let host = Host::start_with(&format!("[directories]\ndocs = {:?}\n", files.path())).await?;
    let (curious, neighbour) = (host.tenant("curious", "admin").await?, host.tenant("neighbour", "admin").await?);
    may_read(&host, "curious", "20s").await?;
    host.push(&curious, "reader", "read-file", &["fs:read:docs", "fs:write:docs", "log"]).await?;
    host.push(&neighbour, "echo", "echo", &[]).await?;

    let first = in_time("a pipe", host.call(&curious, "reader", &json!({"path": "/docs/pipe.md"}))).await?.expect(200);
    let said = first.json()["error"].as_str().unwrap_or_default().to_lowercase();
    assert!(said.contains("support"), "{}", first.text());
    let run = first.headers["ltmc-run"].to_str()?;
    let journal = host.send(host.request(Method::GET, &format!("/v1/runs/{run}/journal"), &curious)).await?.text();
    assert!(journal.contains("`pipe.md` is a pipe: in a granted directory only regular files"), "{journal}");

    let before = threads_of(&host);
    let ask = async |number: usize| {
        let input = match number % 2 {
            0 => json!({"path": "/docs/pipe.md"}),
            _ => json!({"path": "/docs/pipe.md", "write": "x"}),
        };
        let answer = in_time("a pipe", host.call(&curious, "reader", &input)).await?.expect(200);
        assert!(answer.json()["error"].is_string(), "{}", answer.text());
        anyhow::Ok(())
    };
    let asking = async {
        let mut calls = futures::stream::iter(0..CALLS).map(ask).buffer_unordered(16);
        while let Some(asked) = calls.next().await {
            asked?;
        }
        anyhow::Ok(())
    };
    let living = async {
        for round in 0..5 {
            a_neighbours_day(&host, &neighbour, round).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(asking, living)?;
    a_neighbours_day(&host, &neighbour, 5).await?;
    let read = in_time("a file", host.call(&curious, "reader", &json!({"path": "/docs/note.md"}))).await?;
    assert_eq!(read.expect(200).json()["text"], "to be read");
    blocked(&host, 0.0).await?;
    gauge_is(&host, "ltmc_file_threads_working", 0.0).await?;
    // The sandbox's own threads stay a while for who comes next; there are no more of them than a tenant's share.
    assert!(threads_of(&host) <= before + 64, "{before} threads before, {} now", threads_of(&host));
    let ready = host.get("/readyz").await?.expect(200).json();
    for name in ["record", "threads", "guests", "files"] {
        assert_eq!(check(&ready, name)["ok"], true, "{ready:#}");
        assert!(check(&ready, name)["detail"].is_null(), "{ready:#}");
    }
    Ok(())
}

/// Waits until the host has told of so many threads that stay behind.
async fn blocked(host: &Host, wanted: f64) -> Result<()> {
    gauge_is(host, "ltmc_blocked_threads", wanted).await
}

async fn gauge_is(host: &Host, name: &str, wanted: f64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = gauge(host, name).await?;
        if found == wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} is {found}, not {wanted}:\n{}", host.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A mount whose server never answers: it uses up the threads for files, one tenant's share and then all, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_hangs_holds_up_files_and_nothing_else() -> Result<()> {
    let files = tempfile::tempdir()?;
    let hung = files.path().join("hung");
    std::fs::create_dir(&hung)?;
    std::fs::write(files.path().join("note.md"), "to be read")?;
    let config = format!("[directories]\ndocs = {:?}\n[sandbox]\nfile_threads = 8\n", files.path());
    let mut host = match Host::start_beside_hung_mount(&hung, &config).await? {
        Ok(host) => host,
        Err(why) => {
            let why = format!("nobody can mount with FUSE on this machine: {why}");
            ltmc_tests::skipped("a_file_system_that_hangs_holds_up_files_and_nothing_else", &why);
            return Ok(());
        }
    };
    let neighbour = host.tenant("neighbour", "admin").await?;
    host.push(&neighbour, "echo", "echo", &[]).await?;
    let mut tenants = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let key = host.tenant(name, "admin").await?;
        may_read(&host, name, "2s").await?;
        host.push(&key, "reader", "read-file", &["fs:read:docs"]).await?;
        tenants.push(key);
    }
    let hang = |key: &str| {
        let (host, key) = (&host, key.to_owned());
        async move { in_time("a hung file", host.call(&key, "reader", &json!({"path": "/docs/hung/x.md"}))).await }
    };
    let read = |key: &str| {
        let (host, key) = (&host, key.to_owned());
        async move { in_time("a file", host.call(&key, "reader", &json!({"path": "/docs/note.md"}))).await }
    };

    // One tenant's share: two of eight. Its calls end at their limit, all of them.
    for answer in futures::future::join_all((0..10).map(|_| hang(&tenants[0]))).await {
        let answer = answer?;
        assert!(matches!(answer.code().as_str(), "limit-wall" | "busy"), "{}", answer.text());
    }
    blocked(&host, 2.0).await?;
    let log = host.whole_log();
    let told = log.lines().filter(|line| line.contains("a file system does not answer")).collect::<Vec<_>>();
    assert_eq!(told.len(), 2, "{log}");
    assert!(told.iter().all(|line| line.contains("tenant=one") && line.contains("agent=reader")), "{told:#?}");
    // From now on it is told so at once; others read their files.
    let refused = read(&tenants[0]).await?;
    assert_eq!(refused.code(), "busy", "{}", refused.text());
    assert!(refused.text().contains("a file system does not answer"), "{}", refused.text());
    assert_eq!(read(&tenants[1]).await?.expect(200).json()["text"], "to be read");
    a_neighbours_day(&host, &neighbour, 0).await?;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let ready = host.get("/readyz").await?.expect(200).json();
    let detail = check(&ready, "files")["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("degraded: ") && detail.contains("2 of the 8 threads"), "{ready:#}");

    // All of them: the host says that it is not ready, and why; what needs no files goes on.
    for key in &tenants[1..] {
        for answer in futures::future::join_all((0..4).map(|_| hang(key))).await {
            let answer = answer?;
            assert!(matches!(answer.code().as_str(), "limit-wall" | "busy"), "{}", answer.text());
        }
    }
    blocked(&host, 8.0).await?;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let ready = in_time("/readyz", host.get("/readyz")).await?.expect(503).json();
    let detail = check(&ready, "files")["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("8 of 8 are taken, 8 by a file system"), "{ready:#}");
    for name in ["record", "threads", "guests"] {
        assert_eq!(check(&ready, name)["ok"], true, "{ready:#}");
    }
    let called = in_time("a call", host.call(&neighbour, "echo", &json!({"n": 1}))).await?;
    assert_eq!(called.expect(200).json()["n"], 1);
    let guest = ltmc_tests::guest_bytes("upper")?;
    ensure!(in_time("a push", host.push_bytes(&neighbour, "late", guest)).await?.status.is_success(), "{}", host.log());
    assert_eq!(gauge(&host, "ltmc_sandbox_running").await?, 0.0);
    assert_eq!(gauge(&host, "ltmc_runs_alive").await?, 0.0);
    // And it ends in order.
    ensure!(host.terminate().await?.success(), "{}", host.log());
    Ok(())
}
