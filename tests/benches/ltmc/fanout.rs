//! `fanout`: durable workflows that fork three branches and join them, over REST, 32 clients; against one synced commit of one row.

use anyhow::Result;

use crate::client::Request;
use crate::flow::Commits;
use crate::load::Load;
use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

const CLIENTS: usize = 32;
const DOCUMENT: &str =
    "name: fanout\nflow: {parallel: [{id: a, agent: echo}, {id: b, agent: echo}, {id: c, agent: echo}]}";

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("fanout")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        host.push(&host.admin, "echo", "echo", &[]).await?;
        rig::workflow(&host, "fanout", DOCUMENT).await?;
        let start = Request::post("/v1/workflows/fanout/runs", &host.admin, "prefer: wait=30\r\n", "{}");
        let mut commits = Commits::open(&scratch.path().join("reference.db")).await?;
        let [mut reference, mut measured] = <[Series; 2]>::default();
        // Round 0 warms everything up.
        for number in 0..=plan.rounds {
            let commit = commits.rate(plan.window).await?;
            let joined = Load::lasting(CLIENTS, plan.window).rate(&host.address(), &start).await?;
            if let Some(number) = number.checked_sub(1) {
                reference.add(commit);
                measured.add(joined);
                round(number, plan.rounds, &[("commits", commit, "/s"), ("joined", joined, "/s")]);
            }
        }
        Ok(vec![Line {
            bench: "fanout",
            case: "fork 3 and join, 32 clients".into(),
            unit: "/s",
            measured,
            reference: Some(("synced commits of a row", reference)),
            goal: Goal::AtLeastTimes(1.0),
        }])
    })
}
