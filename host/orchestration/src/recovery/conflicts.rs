//! Where branches of a run, or of the turns of a session, did not go together, and by which policy they did.

use ltmc_model::caller::Caller;
use ltmc_model::fork::Conflict;
use ltmc_model::{RunId, SessionId, StepPath};
use ltmc_policy::Action;
use ltmc_ports::Durability;
use ltmc_tenancy::Error;
use serde::Serialize;

use crate::runs::{Runs, sight};
use crate::sessions::Sessions;

/// So many are told of a run, or of a session.
const MOST: usize = 200;
/// And so many of its last turns are looked at.
const TURNS: u32 = 100;

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

/// Conflicts of a session's turns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfTurns {
    /// Those first whose turn came last.
    pub conflicts: Vec<OfTurn>,
    /// Whether there are more, or turns that were not looked at.
    pub more: bool,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfTurn {
    /// The turn's number.
    pub turn: u32,
    /// The run that is the turn.
    pub run: RunId,
    /// Where, what conflicts, and how it was settled.
    #[serde(flatten)]
    pub found: Found,
}

impl Sessions {
    /// Where branches of a session's last turns conflict, or did; without values, to who may not look at shared context.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn conflicts(&self, caller: &Caller, id: &SessionId) -> Result<OfTurns, Error> {
        self.authority().authorize(caller, Action::ReadRuns).await?;
        let session = self.seen(caller, id).await?;
        let from = session.turns.saturating_sub(TURNS);
        let mut turns = self.read.turns(&caller.tenant, id, from, TURNS).await?;
        turns.retain(|turn| turn.began.is_some());
        let (mut conflicts, mut more) = (Vec::new(), from > 0);
        for turn in turns.into_iter().rev() {
            let of_run = self.runs.conflicts_of(caller, turn.run).await?;
            let found = of_run.conflicts.into_iter().map(|found| OfTurn { turn: turn.number, run: turn.run, found });
            conflicts.extend(found);
            more |= of_run.more || conflicts.len() > MOST;
            if conflicts.len() > MOST {
                break;
            }
        }
        conflicts.truncate(MOST);
        Ok(OfTurns { conflicts, more })
    }
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
        self.conflicts_of(caller, run).await
    }

    /// The same of a run that the caller may look at.
    async fn conflicts_of(&self, caller: &Caller, run: RunId) -> Result<Conflicts, Error> {
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
