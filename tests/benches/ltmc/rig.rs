//! What benchmarks start: directories, hosts, agents.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ltmc_tests::Host;
use reqwest::Method;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::report::say;

/// Where results are kept: `target/bench`.
pub(crate) fn dir() -> Result<PathBuf> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let dir = target.parent().context("the target directory has no name")?.join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

/// A directory on the target's disk, gone when it is dropped.
pub(crate) fn scratch(name: &str) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(dir()?)?)
}

/// One thread for everything that this program does while it measures others: it shares the cores with them.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Threads as a host has them, for what is measured in this process.
pub(crate) fn threads() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A host with the defaults, in a directory.
pub(crate) async fn host(dir: &TempDir) -> Result<Host> {
    host_with(dir.path(), "").await
}

/// A host with this configuration, in a directory.
pub(crate) async fn host_with(dir: &Path, config: &str) -> Result<Host> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("ltmc.toml"), config)?;
    Host::start_in(dir).await
}

/// The agent `echo`, and under other names as many more as make `count`.
pub(crate) async fn register(host: &Host, count: usize) -> Result<()> {
    host.push(&host.admin, "echo", "echo", &[]).await?;
    say(format!("  {count} agents"));
    let wasm = ltmc_tests::guest_bytes("echo")?;
    let pushes = futures::stream::iter(1..count).map(|number| {
        let push = (format!("echo-{number}"), wasm.clone());
        async move {
            let answer = host.push_bytes(&host.admin, &push.0, push.1).await?;
            ensure!(answer.status.is_success(), "{}: {}", push.0, answer.text());
            Ok(())
        }
    });
    pushes.buffer_unordered(16).try_collect().await
}

/// A workflow.
pub(crate) async fn workflow(host: &Host, name: &str, document: &str) -> Result<()> {
    let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
    let answer = host.send(request.header("content-type", "application/yaml").body(document.to_owned())).await?;
    ensure!(answer.status.is_success(), "{name}: {}", answer.text());
    Ok(())
}

/// Runs a workflow to its end; how long that took by its journal.
pub(crate) async fn timed_run(host: &Host, name: &str, input: &serde_json::Value) -> Result<Duration> {
    let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), &host.admin);
    let started = host.send(request.json(input)).await?;
    ensure!(started.status == 202, "{name}: {}", started.text());
    let path = started.headers["location"].to_str()?.to_owned();
    // The stream of its events ends with it, which costs the host less than to be asked again and again.
    let mut events = host.request(Method::GET, &format!("{path}/events"), &host.admin).send().await?;
    while events.chunk().await?.is_some() {}
    let run = host.send(host.request(Method::GET, &path, &host.admin)).await?.json();
    ensure!(run["state"] == "completed", "{name}: {run}");
    let at = |field: &str| Ok::<_, anyhow::Error>(humantime::parse_rfc3339(run[field].as_str().unwrap_or_default())?);
    Ok(at("ended_at")?.duration_since(at("created_at")?)?)
}

/// Processor time of a process so far, in seconds.
pub(crate) fn processor(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').context("a process' state")?.1;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}
