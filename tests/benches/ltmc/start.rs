//! `start`: from the process' start to the first good `/readyz`, on a data directory with many agents and runs, after an
//! orderly end and after a `kill -9`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::client::{Connection, Request};
use crate::load::Load;
use crate::report::{Goal, Line, Series, round, say};
use crate::{Plan, rest, rig};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("start")?;
    runtime.block_on(async {
        let mut host = rig::host(&scratch).await?;
        rig::register(&host, plan.agents).await?;
        say(format!("  {} runs", plan.past_runs));
        let call = rest::request(&host.admin);
        let load = |requests| Load { clients: rest::CLIENTS, window: PATIENCE * 10, requests };
        load(plan.past_runs).put_on(&host.address(), &call).await?;
        host.terminate().await?;
        let (mut orderly, mut killed) = (Series::default(), Series::default());
        for number in 0..plan.rounds {
            let (first, ready) = Started::timed(scratch.path()).await?;
            // Something in the log of the database that the next start finds.
            load(200).put_on(&first.address, &call).await?;
            drop(first);
            let (second, again) = Started::timed(scratch.path()).await?;
            second.terminate().await?;
            orderly.add(ready);
            killed.add(again);
            round(number, plan.rounds, &[("after an orderly end", ready, "s"), ("after kill -9", again, "s")]);
        }
        let line = |case: &str, measured| Line {
            bench: "start",
            case: format!("{} agents, {} runs, {case}", plan.agents, plan.past_runs),
            unit: "s",
            measured,
            reference: None,
            goal: Goal::Under(0.5),
        };
        Ok(vec![line("after an orderly end", orderly), line("after kill -9", killed)])
    })
}

/// A host whose start is timed. Dropping it kills it.
pub(crate) struct Started {
    child: Child,
    address: String,
}

impl Started {
    /// On what stands in `dir`; and after how many seconds it was ready.
    pub(crate) async fn timed(dir: &Path) -> Result<(Self, f64)> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let log = std::fs::File::create(dir.join("start.log"))?;
        let mut command = Command::new(ltmc_tests::binary()?);
        command.args(["serve", "--listen", &address, "--config"]).arg(dir.join("ltmc.toml"));
        command.arg("--data").arg(dir.join("data")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let begun = Instant::now();
        let mut started = Self { child: command.spawn()?, address };
        while !started.is_ready().await {
            let ended = started.child.try_wait()?;
            ensure!(ended.is_none(), "the host ended: {}", std::fs::read_to_string(dir.join("start.log"))?);
            ensure!(begun.elapsed() < PATIENCE, "the host is not ready");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok((started, begun.elapsed().as_secs_f64()))
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(&self.address).await else { return false };
        matches!(connection.send(&Request::get("/readyz")).await, Ok(200))
    }

    /// Its resident memory, in megabytes.
    pub(crate) fn resident(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process' memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Ends it with SIGTERM.
    async fn terminate(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begun.elapsed() < PATIENCE, "the host does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
