//! `map`: a durable run that maps an agent over 1,000 items, 16 at once; against the same calls in this process, through the same
//! sandbox and with the crossing as their gate, of which nothing is recorded.

use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use crate::call::InProcess;
use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

const AT_ONCE: usize = 16;
const DOCUMENT: &str = "name: mapped\nflow: {map: $.input, do: {agent: echo}, at-once: 16}";

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::threads()?;
    let [durable, inside] = [rig::scratch("map")?, rig::scratch("map-inside")?];
    let items = plan.calls / 10;
    runtime.block_on(async {
        let host = rig::host(&durable).await?;
        host.push(&host.admin, "echo", "echo", &[]).await?;
        rig::workflow(&host, "mapped", DOCUMENT).await?;
        let in_process = InProcess::start(inside.path()).await?;
        let input = json!(vec![json!({"say": "hello", "to": ["one", "two", "three"], "times": 12}); items]);
        let [mut reference, mut measured] = <[Series; 2]>::default();
        // Round 0 warms both up.
        for number in 0..=plan.rounds {
            let begun = Instant::now();
            let calls = futures::stream::iter(0..items).map(|_| in_process.call());
            calls.buffer_unordered(AT_ONCE).try_for_each(|_| std::future::ready(Ok(()))).await?;
            let called = begun.elapsed().as_secs_f64() * 1e3;
            let mapped = rig::timed_run(&host, "mapped", &input).await?.as_secs_f64() * 1e3;
            if let Some(number) = number.checked_sub(1) {
                reference.add(called);
                measured.add(mapped);
                round(number, plan.rounds, &[("in process", called, "ms"), ("mapped", mapped, "ms")]);
            }
        }
        ltmc_ports::Record::close(&*in_process.record).await;
        Ok(vec![Line {
            bench: "map",
            case: format!("{items} items, {AT_ONCE} at once"),
            unit: "ms",
            measured,
            reference: Some(("the same calls in process", reference)),
            goal: Goal::AtMostTimes(2.5),
        }])
    })
}
