//! Where branches of a run did not go together, and by which policy they did.

use ltmc_model::caller::Caller;
use ltmc_model::fork::Conflict;
use ltmc_model::{RunId, StepPath};
use ltmc_policy::Action;
use ltmc_ports::Durability;
use ltmc_tenancy::Error;
use serde::Serialize;

use crate::runs::{Runs, sight};

/// So many are told of a run.
const MOST: usize = 200;

/// Conflicts of a run, by the node that forks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conflicts {
    /// In the order of the tree, and there of the keys.
    pub conflicts: Vec<Found>,
    /// Whether there are more: of each fork the first [`Conflict::KEPT`] are kept.
    pub more: bool,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The node that forks.
    pub node: StepPath,
    /// What conflicts, and how it was settled.
    #[serde(flatten)]
    pub conflict: Conflict,
}

impl Runs {
    /// Where branches of a run conflict, or did; without values, to who may not look at shared context.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn conflicts(&self, caller: &Caller, run: RunId) -> Result<Conflicts, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        self.seen(caller, run).await?;
        let history = self.outline(&caller.tenant, run).await?.history;
        let of = |(node, conflict): (&StepPath, &Conflict)| Found { node: node.clone(), conflict: conflict.clone() };
        let all = history.forked().all().flat_map(|(node, fork)| fork.conflicts().iter().map(move |c| (node, c)));
        let mut conflicts: Vec<Found> = all.take(MOST + 1).map(of).collect();
        let more = conflicts.len() > MOST || history.forked().all().any(|(_, fork)| fork.has_more_conflicts());
        conflicts.truncate(MOST);
        if !sight(caller).context {
            conflicts.iter_mut().for_each(|found| found.conflict.redact());
        }
        Ok(Conflicts { conflicts, more })
    }
}
