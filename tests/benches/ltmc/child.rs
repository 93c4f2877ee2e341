//! `child`: an agent calls another one, time after time, durably and each as a run of its own; against the same host call
//! answered at once, for there is no such agent. From within one call, so that what comes before and after does not count.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ltmc_tests::Host;
use serde_json::json;

use crate::Plan;
use crate::report::{Goal, Line, Series, round};
use crate::rig;

/// Calls in one call: at most as many as one run may make.
const CALLS: u32 = 500;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("child")?;
    let (mut measured, mut reference) = <(Series, Series)>::default();
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        host.push(&host.admin, "echo", "echo", &[]).await?;
        host.push(&host.admin, "caller", "call-script", &["call:*"]).await?;
        // Round 0 warms both up.
        for number in 0..=plan.rounds {
            let nothing = calls(&host, "echo", 0).await?;
            let child = each(calls(&host, "echo", CALLS).await?, nothing);
            let at_once = each(calls(&host, "nobody", CALLS).await?, nothing);
            if let Some(number) = number.checked_sub(1) {
                measured.add(child);
                reference.add(at_once);
                round(number, plan.rounds, &[("child", child, "us"), ("answered at once", at_once, "us")]);
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(vec![Line {
        bench: "child",
        case: "echo, called by an agent".to_owned(),
        unit: "us",
        measured,
        reference: Some(("answered at once", reference)),
        goal: Goal::Under(1_000.0),
    }])
}

/// How long it takes to call an agent so often.
async fn calls(host: &Host, agent: &str, count: u32) -> Result<Duration> {
    let steps = match count {
        0 => json!([]),
        // The first refusal would be the last.
        _ if agent == "nobody" => (0..count).map(|_| json!({"do": "call", "agent": agent, "input": 1})).collect(),
        _ => json!([{"do": "call", "agent": agent, "input": 1, "times": count}]),
    };
    let begun = Instant::now();
    let answer = host.call(&host.admin, "caller", &steps).await?;
    let took = begun.elapsed();
    ensure!(answer.status.is_success(), "{}", answer.text());
    Ok(took)
}

/// Of which each is so many microseconds.
fn each(all: Duration, nothing: Duration) -> f64 {
    all.saturating_sub(nothing).as_secs_f64() * 1e6 / f64::from(CALLS)
}
