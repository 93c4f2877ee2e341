//! The role of an aggregator: it makes one of what branches of a workflow gave.

use crate::{Failure, FromPayload, IntoPayload, Payload, Task};

/// Makes one of what branches gave. Put `#[ltmc::aggregator]` on the struct that implements it.
pub trait Aggregator: Default {
    /// What each branch gives, as for [`Agent::Input`](crate::Agent::Input). One that does not parse fails the call.
    type Input: FromPayload;
    /// What it makes of them.
    type Output: IntoPayload;

    /// Makes one of all branches, which stand in the document's order.
    ///
    /// # Errors
    /// The agent's own: part of its contract.
    fn aggregate(&self, branches: Vec<Branch<Self::Input>>, task: &Task) -> Result<Self::Output, Failure>;
}

/// A branch, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch<T> {
    /// Its name; of one without a name its number, from `0` on.
    pub name: String,
    /// What became of it.
    pub outcome: BranchOutcome<T>,
}

/// What became of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchOutcome<T> {
    /// It gave this.
    Output(T),
    /// It failed, and the workflow goes on without it. The code is that of a run's failures, such as `agent-error`.
    Failed(Failure),
    /// It was not done, or not to its end: its condition did not hold, or it was not needed.
    Skipped,
}

impl<T> Branch<T> {
    /// One that gave something.
    pub fn output(name: impl Into<String>, output: T) -> Self {
        Self { name: name.into(), outcome: BranchOutcome::Output(output) }
    }

    /// One that failed.
    pub fn failed(name: impl Into<String>, failure: Failure) -> Self {
        Self { name: name.into(), outcome: BranchOutcome::Failed(failure) }
    }

    /// One that was not done.
    pub fn skipped(name: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: BranchOutcome::Skipped }
    }
}

/// Reads what each branch gave, and makes one of all.
pub(crate) fn combine<A: Aggregator>(branches: Vec<Branch<Payload>>, task: &Task) -> Result<Payload, Failure> {
    let read = branches.into_iter().map(|Branch { name, outcome }| {
        let outcome = match outcome {
            BranchOutcome::Output(payload) => {
                BranchOutcome::Output(A::Input::from_payload(payload).map_err(|mut failure| {
                    failure.message = format!("what branch `{name}` gave: {}", failure.message);
                    failure
                })?)
            }
            BranchOutcome::Failed(failure) => BranchOutcome::Failed(failure),
            BranchOutcome::Skipped => BranchOutcome::Skipped,
        };
        Ok(Branch { name, outcome })
    });
    A::default().aggregate(read.collect::<Result<_, Failure>>()?, task)?.into_payload()
}
