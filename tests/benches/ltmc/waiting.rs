//! `waiting`: what 100,000 runs cost that wait for hours: memory of the host, and the time from the process' start to the first
//! good `/readyz` after a `kill -9`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::Host;
use reqwest::Method;

use crate::client::Request;
use crate::load::Load;
use crate::report::{Goal, Line, Series, round, say};
use crate::start::Started;
use crate::{Plan, rig};

/// It fails, and its next attempt is due at random within a day.
const DOCUMENT: &str = "name: patient\nflow: {agent: flaky, retry: {attempts: 100, backoff: 24h, max: 24h}}";
const CLIENTS: usize = 64;
/// How long the host is left alone before its memory is looked at: what is freed is given back by then.
const REST: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("waiting")?;
    runtime.block_on(async {
        let mut host = rig::host(&scratch).await?;
        host.push(&host.admin, "flaky", "flaky", &[]).await?;
        rig::workflow(&host, "patient", DOCUMENT).await?;
        let start =
            Request::post("/v1/workflows/patient/runs", &host.admin, "prefer: wait=0\r\n", r#"{"until": 1000}"#);
        let load = |requests| Load { clients: CLIENTS, window: PATIENCE, requests };
        // The first thousand warm up what a host without any waiting run has, too.
        load(1_000).put_on(&host.address(), &start).await?;
        let before = resident(&host).await;
        say(format!("  {} runs", plan.waiting));
        load(plan.waiting).put_on(&host.address(), &start).await?;
        let waiting = suspended(&host, plan.waiting).await?;
        let mut more = Series::default();
        more.add(resident(&host).await - before);
        host.terminate().await?;
        let (mut ready, mut restarted) = (Series::default(), Series::default());
        for number in 0..plan.rounds {
            let (started, seconds) = Started::timed(scratch.path()).await?;
            tokio::time::sleep(REST).await;
            let now = started.resident()? - before;
            // Dropped, it is killed.
            drop(started);
            ready.add(seconds);
            restarted.add(now);
            round(number, plan.rounds, &[("ready", seconds, "s"), ("more memory", now, "MB")]);
        }
        let line = |case: &str, unit, measured, goal| {
            let case = format!("{waiting} runs wait, {case}");
            Line { bench: "waiting", case, unit, measured, reference: None, goal: Goal::Under(goal) }
        };
        Ok(vec![
            line("more memory than with 1,000", "MB", more, 100.0),
            line("the same after a restart", "MB", restarted, 100.0),
            line("from start to ready after kill -9", "s", ready, 1.0),
        ])
    })
}

async fn resident(host: &Host) -> f64 {
    tokio::time::sleep(REST).await;
    host.resident() as f64 / 1e6
}

/// Waits until so many runs were suspended and none is alive; how many were.
async fn suspended(host: &Host, wanted: u64) -> Result<u64> {
    let begun = Instant::now();
    loop {
        let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.text();
        let figure = |name: &str| {
            let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).context(name.to_owned())
        };
        let (suspended, alive) = (figure("ltmc_runs_total{state=\"suspended\"}")?, figure("ltmc_runs_alive")?);
        if suspended >= wanted as f64 && alive < 10.0 {
            return Ok(suspended as u64);
        }
        ensure!(begun.elapsed() < PATIENCE, "{suspended} of {wanted} runs are suspended, {alive} are alive");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
