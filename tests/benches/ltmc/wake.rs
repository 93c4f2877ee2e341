//! `wake`: 10,000 runs wait, each for an event of its own; 10,000 events are published, one a request. How many are woken and come to
//! their end a second, from the first event until the last run is over; none may be left.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::Host;
use reqwest::Method;

use crate::client::Request;
use crate::load::Load;
use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

const CLIENTS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);
const DOCUMENT: &str = "name: patient\nflow: {wait: {topic: orders, match: {subject: $.input.id}}}";

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("wake")?;
    let count = plan.waiting / 10;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        rig::workflow(&host, "patient", DOCUMENT).await?;
        let mut measured = Series::default();
        // Round 0 warms it up.
        for number in 0..=plan.rounds {
            let before = ended(&host).await?;
            let load = Load { clients: CLIENTS, window: PATIENCE, requests: count };
            let id = format!("r{number}-{}", Request::NUMBER);
            let body = format!(r#"{{"id":"{id}"}}"#);
            let start = Request::post("/v1/workflows/patient/runs", &host.admin, "prefer: wait=0\r\n", &body);
            load.put_on(&host.address(), &start.numbered()?).await?;
            until(async || Ok(figure(&host, "ltmc_runs_alive").await? < 1.0)).await.context("they come to rest")?;
            let body = format!(r#"{{"topic":"orders","type":"paid","subject":"{id}","data":1}}"#);
            let publish = Request::post("/v1/events", &host.admin, "", &body);
            let begun = Instant::now();
            load.put_on(&host.address(), &publish.numbered()?).await?;
            until(async || Ok(ended(&host).await? - before >= count as f64)).await.context("they are woken")?;
            let rate = count as f64 / begun.elapsed().as_secs_f64();
            if let Some(number) = number.checked_sub(1) {
                measured.add(rate);
                round(number, plan.rounds, &[("woken", rate, "/s")]);
            }
        }
        let case = format!("{count} runs by {count} events");
        Ok(vec![Line { bench: "wake", case, unit: "/s", measured, reference: None, goal: Goal::AtLeast(2_000.0) }])
    })
}

async fn ended(host: &Host) -> Result<f64> {
    figure(host, "ltmc_runs_total{state=\"completed\"}").await
}

/// A figure of the host's; none yet is 0.
async fn figure(host: &Host, name: &str) -> Result<f64> {
    let metrics = host.send(host.request(Method::GET, "/metrics", &host.operator)).await?.text();
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0))
}

async fn until(is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so().await? {
        ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
