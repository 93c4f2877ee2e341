//! `loop`: what a round of a loop takes in a durable run of 10,000 rounds; against one of 1,000. A run's journal grows with every
//! round, and what a round costs is not to.

use anyhow::Result;
use serde_json::json;

use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("loop")?;
    // A smoke test makes few.
    let (few, many) = (plan.calls / 10, plan.calls);
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        host.push(&host.admin, "echo", "echo", &[]).await?;
        for (name, rounds) in [("few", few), ("many", many)] {
            let document = format!("name: {name}\nflow: {{loop: {{agent: echo}}, at-most: {rounds}}}");
            rig::workflow(&host, name, &document).await?;
        }
        let [mut reference, mut measured] = <[Series; 2]>::default();
        let input = json!({"say": "hello"});
        // Round 0 warms everything up.
        for number in 0..=plan.rounds {
            let a_round = async |name, rounds: usize| {
                let took = rig::timed_run(&host, name, &input).await?;
                anyhow::Ok(took.as_secs_f64() / rounds as f64 * 1e6)
            };
            let (short, long) = (a_round("few", few).await?, a_round("many", many).await?);
            if let Some(number) = number.checked_sub(1) {
                reference.add(short);
                measured.add(long);
                round(number, plan.rounds, &[("of few", short, "us"), ("of many", long, "us")]);
            }
        }
        Ok(vec![Line {
            bench: "loop",
            case: format!("a round of {many}"),
            unit: "us",
            measured,
            reference: Some(("a round of a tenth as many", reference)),
            goal: Goal::AtMostTimes(1.1),
        }])
    })
}
