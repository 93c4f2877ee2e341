//! A conflict of branches, as whoever settles it is given it, and as people are asked about it.
//!
//! Invariant: both are made of what the journal says was there when it was raised.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{Raised, Said, SideOf};
use ltmc_model::question::Question;
use ltmc_model::{Payload, StepPath};
use ltmc_tenancy::Compute;
use serde_json::Value;

use crate::input::{MAX_BUILT, computed};
use crate::plan::Plan;

/// What is asked of people about a conflict.
pub(crate) struct Asks {
    /// In a line.
    pub(crate) title: String,
    /// What they are shown.
    pub(crate) show: Payload,
    /// What they answer, as a JSON Schema.
    pub(crate) schema: Value,
}

/// So many characters of a key stand in a title.
const KEY: usize = 100;

/// What whoever settles a conflict works on.
pub(crate) async fn given(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    node: &StepPath,
    by: u32,
    number: u32,
) -> Result<Payload, Failure> {
    let (raised, value) = looked_up(compute, plan, log, node, by, number).await?;
    let value = value.map_err(|why| Failure::new(Code::BadStep, why))?;
    let payload = Payload::json(&value);
    if payload.bytes.len() > MAX_BUILT {
        let (key, bytes) = (&raised.conflict.key, payload.bytes.len());
        let message =
            format!("what branches made of `{key}` has {bytes} bytes together; a step is given at most {MAX_BUILT}");
        return Err(Failure::new(Code::BadStep, message));
    }
    Ok(payload)
}

/// What people are asked about it. What is too much to be shown is shown in part, as it is where conflicts are listed.
pub(crate) async fn asks(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    node: &StepPath,
    by: u32,
    number: u32,
) -> Result<Asks, Failure> {
    let (raised, value) = looked_up(compute, plan, log, node, by, number).await?;
    let whole = value.ok().map(|value| Payload::json(&value));
    let fits = |show: &Payload| show.bytes.len() <= Question::MAX_SHOWN;
    let in_part = || Payload::json(&serde_json::to_value(&raised.conflict).unwrap_or_default());
    let key: String = raised.conflict.key.chars().filter(|c| !c.is_control()).take(KEY).collect();
    let (planned, _) = plan.node(node)?;
    let branches: Vec<String> = raised.branches.iter().map(|number| planned.called(*number)).collect();
    Ok(Asks {
        title: cut(format!("Branches conflict: what is `{key}` to hold?")),
        show: whole.filter(fits).unwrap_or_else(in_part),
        schema: Said::schema(&branches),
    })
}

type Given = Result<Value, String>;

async fn looked_up(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    node: &StepPath,
    by: u32,
    number: u32,
) -> Result<(Raised, Given), Failure> {
    let (planned, _) = plan.node(node)?;
    // Its branches cannot change while it is settled.
    let found = log.read(|history| {
        let fork = history.forked().of(node)?;
        let raised = fork.ever_raised().iter().find(|raised| (raised.by, raised.number) == (by, number))?;
        let sides = fork.sides(raised).into_iter().map(|of| (of.branch, of.step.clone(), of.side.clone()));
        Some((raised.clone(), fork.base(&raised.conflict.key).cloned(), sides.collect::<Vec<_>>()))
    });
    let missing = || Failure::new(Code::Internal, format!("the journal has no conflict {number} of {node}"));
    let (raised, base, sides) = found.ok_or_else(missing)?;
    let names: BTreeMap<u32, String> = sides.iter().map(|(branch, ..)| (*branch, planned.called(*branch))).collect();
    let read = move || {
        let sides: Vec<SideOf<'_>> =
            sides.iter().map(|(branch, step, side)| SideOf { branch: *branch, step, side }).collect();
        let value = raised.given(base.as_ref(), &sides, |number| names.get(&number).cloned().unwrap_or_default());
        (raised, value)
    };
    computed(compute, log, read).await
}

/// A title that is not too long.
fn cut(mut title: String) -> String {
    while title.len() > Question::MAX_TITLE {
        title.pop();
    }
    title
}
