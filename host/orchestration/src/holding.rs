//! The conversation that a step holds, as its attempt is told it: read from the document and from what happened.

use ltmc_crossing::Holding;
use ltmc_journal::RunLog;
use ltmc_model::StepPath;
use ltmc_model::workflow::Does;

use crate::plan::Plan;

/// The one that this step holds; none: it holds none.
pub(crate) fn of(plan: &Plan, log: &RunLog, step: &StepPath) -> Option<Holding> {
    let at = step.parent()?.parent()?;
    let (node, _) = plan.node(&at).ok()?;
    let Does::HandOff(goes) = &node.does else { return None };
    let turn = log.started().turn.map_or(0, |place| place.number);
    log.read(|history| {
        let node = history.node(&at)?;
        let since = match node.hand_offs.is_empty() {
            true => node.holds.as_ref().map_or(0, |holds| holds.since),
            false => turn,
        };
        Some(Holding {
            node: at.clone(),
            among: goes.agents().cloned().collect(),
            pass: goes.pass.clone(),
            at_most: goes.at_most,
            per_pair: goes.per_pair,
            so_far: node.hand_offs.iter().map(|one| (one.from.clone(), one.to.clone())).collect(),
            givers: node.givers(),
            handed: node.handed(),
            // Who began with it is told all.
            told_after: if since == 0 { 0 } else { goes.pass.told_after(since) },
        })
    })
}
