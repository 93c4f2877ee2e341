//! A node of a run that has more to it than the steps below it: what was decided about it, how it failed, what it gave.

use std::collections::BTreeSet;
use std::sync::Arc;

use ltmc_model::agent::AgentRef;
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Candidate, Next};
use ltmc_model::{Payload, Seq, StepPath, Timestamp};

/// A node, so far as anything is known of it.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Whether its `when` holds.
    pub when: Option<bool>,
    /// The option that a choice takes.
    pub option: Option<Option<u32>>,
    /// The handler of errors that is taken.
    pub handler: Option<Option<u32>>,
    /// The agent that was found for a step.
    pub agent: Option<AgentRef>,
    /// Those that were looked at for it, the best first.
    pub candidates: Arc<[Candidate]>,
    /// A map's items.
    pub items: Option<Arc<[Payload]>>,
    /// A loop's rounds that are over.
    pub rounds: Vec<Round>,
    /// Which branches count.
    pub joined: Option<Joined>,
    /// Until when it may take.
    pub until: Option<Timestamp>,
    /// How often it failed and was begun anew, since the run began or was last resumed.
    pub failures: u32,
    /// When it is begun anew.
    pub retry_at: Option<Timestamp>,
    /// How its own work failed for good.
    pub failure: Option<Failure>,
    /// Whether that was because it took too long.
    pub is_timed_out: bool,
    /// What it gave, where that is its own.
    pub output: Option<Payload>,
    /// Whose output it gave.
    pub gave: Option<StepPath>,
    /// What was found about its output. The error: what is wrong with it.
    pub verdict: Option<Result<(), Failure>>,
    /// Which entry says what it gave, counted from the first of the run that it was forked from.
    pub ended_at: Seq,
    /// What its pattern has found out about its branches: a memo, which follows from everything else here.
    pub branches: Branches,
}

/// A round of a loop that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Whose output it gave; none: all of it was skipped.
    pub gave: Option<StepPath>,
    /// What comes after it.
    pub next: Next,
}

/// What became of branches together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The branches that count.
    pub winners: Arc<[u32]>,
    /// Why too few succeeded.
    pub failure: Option<Failure>,
}

/// Branches that run side by side, as far as they are known to be over.
#[derive(Debug, Clone, Default)]
pub struct Branches {
    /// How many have begun: those from 0 on.
    pub begun: usize,
    /// Of these, those that are not over.
    pub open: BTreeSet<usize>,
    /// Those that gave something, with whose output that is.
    pub done: Vec<(usize, StepPath)>,
    /// Those that failed.
    pub failed: Vec<(usize, Failure)>,
    /// Those that were skipped.
    pub skipped: usize,
}

impl Node {
    /// Whether it gave anything.
    pub fn has_ended(&self) -> bool {
        self.output.is_some() || self.gave.is_some()
    }

    /// Whether what it gave was found wanting, and nothing was done in its place.
    pub(crate) fn is_rejected(&self) -> bool {
        matches!(self.verdict, Some(Err(_))) && !self.is_rescued()
    }

    /// Whether it failed and something else gave what it gives.
    pub fn is_rescued(&self) -> bool {
        self.failure.is_some() && self.gave.is_some()
    }

    /// It is begun anew after a failure: what was decided whether it is done at all stays, and how often it failed.
    pub(crate) fn begin_anew(&mut self) {
        let (when, failures, retry_at, until) = (self.when, self.failures, self.retry_at, self.until);
        *self = Self { when, failures, retry_at, until, ..Self::default() };
    }
}
