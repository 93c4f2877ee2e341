//! The host's children (who compiles, who judges) live as long as it, and no longer, however it ends.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::{Host, wasm};
use serde_json::json;

/// How long one may outlive its host.
const AFTER: Duration = Duration::from_secs(1);

/// The process ids of a program's children that were started with this word.
pub(crate) fn children(parent: u32, word: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|one| one.file_name().to_str()?.parse().ok());
    ids.filter(|id| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let status = read("status");
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
        of == Some(parent) && read("cmdline").split('\0').any(|argument| argument == word)
    })
    .collect()
}

/// Whether a process is there and not merely waiting to be looked at by its parent.
fn lives(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Processor time that it has had, in hundredths of a second.
fn computed(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    fields.get(11).copied().unwrap_or(0) + fields.get(12).copied().unwrap_or(0)
}

async fn until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !is_so() {
        ensure!(Instant::now() < deadline, "{what} within {patience:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_compiles_and_who_judges_end_with_a_host_that_is_killed() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let push = host
        .request(reqwest::Method::PUT, "/v1/agents/large", &host.admin)
        .header("content-type", "application/wasm")
        .body(wasm::compile_bomb(40_000)?);
    let pushing = tokio::spawn(push.send());
    let mut compiler = Vec::new();
    until("a child compiles", Duration::from_secs(30), || {
        compiler = children(host.pid(), "compile-worker");
        compiler.first().is_some_and(|id| computed(*id) > 10)
    })
    .await?;
    // A schema that keeps its judge busy for as long as it may.
    let patterns: Vec<_> = (0..500).map(|n| json!({"pattern": format!("\\w{{10}}{n}")})).collect();
    let schema = json!({"type": "object", "properties": {"t": {"allOf": patterns}}});
    let document = format!("name: judged\nflow: {{agent: echo, validate: {{json-schema: {schema}}}}}\n");
    let put = host
        .request(reqwest::Method::PUT, "/v1/workflows/judged", &host.admin)
        .header("content-type", "application/yaml")
        .body(document);
    let putting = tokio::spawn(put.send());
    let mut judge = Vec::new();
    until("a child judges", Duration::from_secs(30), || {
        judge = children(host.pid(), "schema-worker");
        judge.first().is_some_and(|id| computed(*id) > 2)
    })
    .await?;
    let those: Vec<u32> = compiler.iter().chain(&judge).copied().collect();
    ensure!(lives(compiler[0]), "it is compiling still");
    host.kill();
    until("the host's children end", AFTER, || !those.iter().any(|id| lives(*id))).await?;
    drop((pushing.await, putting.await));
    Ok(())
}

/// Threads of the host come and go: the one that happened to start a child does not take it along.
#[test]
fn who_compiles_outlives_the_thread_that_started_it_and_nobody_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (component, artifact) = (dir.path().join("component"), dir.path().join("artifact"));
    std::fs::File::create(&component)?.write_all(&wasm::compile_bomb(40_000)?)?;
    let mut command = Command::new(ltmc_tests::binary()?);
    command.arg("compile-worker").args([&component, &artifact]).args(["4294967296", "120"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let started = std::thread::spawn(move || {
        let child = command.spawn()?;
        // It has begun, so that it knows who started it.
        let deadline = Instant::now() + Duration::from_secs(20);
        while computed(child.id()) < 5 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::Ok(child)
    });
    let mut child = started.join().map_err(|_| anyhow::anyhow!("the thread broke off"))??;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(child.try_wait()?.is_none(), "it compiles on");
    drop(child.stdin.take().context("its standard input")?);
    let deadline = Instant::now() + AFTER;
    while child.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "it ends once nobody holds its standard input");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
