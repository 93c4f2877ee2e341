//! `memory`: how much of it `ltmc serve` has, at rest with many agents registered, and after load.

use std::time::Duration;

use anyhow::Result;

use crate::load::Load;
use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rest, rig};

/// How long the host is left alone before it is looked at.
const REST: Duration = Duration::from_millis(500);

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("memory")?;
    runtime.block_on(async {
        let mut host = rig::host(&scratch).await?;
        rig::register(&host, plan.agents).await?;
        let [mut registered, mut at_rest, mut loaded] = <[Series; 3]>::default();
        let resident = async |host: &ltmc_tests::Host| {
            tokio::time::sleep(REST).await;
            host.resident() as f64 / 1e6
        };
        registered.add(resident(&host).await);
        host.kill_and_restart().await?;
        at_rest.add(resident(&host).await);
        let load = Load::lasting(rest::CLIENTS, plan.window);
        for number in 0..plan.rounds {
            load.put_on(&host.address(), &rest::request(&host.admin)).await?;
            let now = resident(&host).await;
            loaded.add(now);
            round(number, plan.rounds, &[("after load", now, "MB")]);
        }
        let line = |case: String, measured| Line {
            bench: "memory",
            case,
            unit: "MB",
            measured,
            reference: None,
            goal: Goal::Under(100.0),
        };
        Ok(vec![
            line(format!("just registered {} agents", plan.agents), registered),
            line(format!("at rest with {} agents", plan.agents), at_rest),
            line("after the load of `rest`".into(), loaded),
        ])
    })
}
