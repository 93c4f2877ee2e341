//! `hot`: 128 clients whose durable workflow of one step increments one counter, the same for all; against a counter for each
//! run. What comes out is counted, too: every run that was answered is in the counter.

use anyhow::{Result, ensure};
use ltmc_tests::Host;
use reqwest::Method;

use crate::Plan;
use crate::client::Request;
use crate::flow::MANY;
use crate::load::Load;
use crate::report::{Goal, Line, Series, round};
use crate::rig;

const DOCUMENT: &str = "name: count\nflow: {agent: writer}\n";

/// The request that starts a run which adds one to a counter of this scope.
fn add(host: &Host, scope: &str) -> Request {
    let steps = format!(r#"[{{"do": "update", "scope": "{scope}", "key": "n", "rule": {{"increment": 1}}}}]"#);
    Request::post("/v1/workflows/count/runs", &host.admin, "prefer: wait=30\r\n", &steps)
}

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("hot")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        host.push(&host.admin, "writer", "memory-script", &["memory:write:*"]).await?;
        rig::workflow(&host, "count", DOCUMENT).await?;
        // A scope `session` is a run's own.
        let (one, each) = (add(&host, "global"), add(&host, "session"));
        let [mut hot, mut apart] = <[Series; 2]>::default();
        let mut counted = 0;
        // Round 0 warms everything up.
        for number in 0..=plan.rounds {
            let load = Load::lasting(MANY, plan.window);
            let shared = load.put_on(&host.address(), &one).await?;
            counted += shared.answered;
            let (shared, own) = (shared.rate(), load.rate(&host.address(), &each).await?);
            if let Some(number) = number.checked_sub(1) {
                hot.add(shared);
                apart.add(own);
                round(number, plan.rounds, &[("one counter", shared, "/s"), ("a counter each", own, "/s")]);
            }
        }
        let answer = host.send(host.request(Method::GET, "/v1/memory/global/n", &host.admin)).await?;
        let there = answer.text();
        ensure!(there == counted.to_string(), "{counted} runs were answered; the counter says {there}");
        Ok(vec![Line {
            bench: "hot",
            case: format!("one counter, {MANY} clients"),
            unit: "/s",
            measured: hot,
            reference: Some(("a counter each", apart)),
            goal: Goal::AtLeastTimes(0.6),
        }])
    })
}
