//! `handoff`: an agent hands a conversation on, and the receiver makes its first host call: in a run of 32 hand-offs, one client, what a run without any
//! takes taken off; against two synced commits of one row.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::client::{Connection, Request};
use crate::flow::Commits;
use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

const TIMES: u32 = 32;
const DOCUMENT: &str = "name: passed\nflow: {hand-off: {start: ping, among: [ping, pong], at-most: 32, per-pair: 16}}";

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("handoff")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        for agent in ["ping", "pong"] {
            host.push(&host.admin, agent, "pass-on", &["hand-off:*"]).await?;
        }
        rig::workflow(&host, "passed", DOCUMENT).await?;
        let start = |times: u32| {
            Request::post("/v1/workflows/passed/runs", &host.admin, "prefer: wait=30\r\n", &times.to_string())
        };
        let (none, all) = (start(0), start(TIMES));
        let mut connection = Connection::open(&host.address()).await?;
        let mut commits = Commits::open(&scratch.path().join("reference.db")).await?;
        let [mut reference, mut measured] = <[Series; 2]>::default();
        // Round 0 warms everything up.
        for number in 0..=plan.rounds {
            let two = 2e6 / commits.rate(plan.window).await?;
            let handed = (time(&mut connection, &all, plan).await? - time(&mut connection, &none, plan).await?)
                / f64::from(TIMES);
            if let Some(number) = number.checked_sub(1) {
                reference.add(two);
                measured.add(handed);
                round(number, plan.rounds, &[("two commits", two, "us"), ("a hand-off", handed, "us")]);
            }
        }
        Ok(vec![Line {
            bench: "handoff",
            case: "to the receiver's first host call".into(),
            unit: "us",
            measured,
            reference: Some(("two synced commits of a row", reference)),
            goal: Goal::AtMostTimes(2.0),
        }])
    })
}

/// How long a run takes, in microseconds.
async fn time(connection: &mut Connection, request: &Request, plan: &Plan) -> Result<f64> {
    let (begun, mut runs) = (Instant::now(), 0_u32);
    while begun.elapsed() < plan.window {
        let status = connection.send(request).await?;
        ensure!(status == 200, "{}", connection.text());
        runs += 1;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(runs.max(1)))
}
