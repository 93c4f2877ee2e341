//! A node of a run that has more to it than the steps below it: what was decided about it, how it failed, what it gave.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Role;
use ltmc_model::failure::Failure;
use ltmc_model::hand_off::{Handed, HandedOff, Holds};
use ltmc_model::journal::{Candidate, Count, Input, Lost, Next};
use ltmc_model::message::Topic;
use ltmc_model::question::Token;
use ltmc_model::{AgentName, Payload, Position, RunId, Seq, StepPath, Timestamp};
use serde::{Deserialize, Serialize};

/// A node, so far as anything is known of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Node {
    /// Whether its `when` holds.
    pub when: Option<bool>,
    /// The option that a choice takes, or whose turn it is, by its number.
    #[serde(with = "decided")]
    pub option: Option<Option<u32>>,
    /// The handler of errors that is taken.
    #[serde(with = "decided")]
    pub handler: Option<Option<u32>>,
    /// The agent that was found for a step.
    pub agent: Option<AgentRef>,
    /// Those that were looked at for it, the best first.
    pub candidates: Arc<[Candidate]>,
    /// The document that was planned.
    pub planned: Option<Arc<str>>,
    /// Whether people approved of it.
    pub approval: Option<Approval>,
    /// A map's items.
    pub items: Option<Arc<[Payload]>>,
    /// A loop's rounds, or a debate's turns, that are over.
    pub rounds: Rounds,
    /// How a conversation stood when its first holder began.
    pub holds: Option<Holds>,
    /// How it was handed on since, in order: so many turns are over.
    pub hand_offs: Vec<HandedOff>,
    /// Which branches count.
    pub joined: Option<Joined>,
    /// What branches voted for.
    pub voted: Option<Voted>,
    /// When its wait is over.
    pub waits_until: Option<Timestamp>,
    /// Since when it waits: for a time, for what comes from outside, or for the run that it began.
    pub waits_since: Option<Timestamp>,
    /// What it waits for in a topic.
    pub listens: Option<Listens>,
    /// What it asks people.
    pub asks: Option<Asks>,
    /// Whether it published what it is to publish.
    pub is_emitted: bool,
    /// Whether what it waited for is waited for no more.
    pub is_cancelled: bool,
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
    /// Whether it is to be begun anew, once what stands ready for that has undone what it did.
    pub is_to_be_redone: bool,
    /// What undoes its work, where it is one for which that stands ready.
    pub compensation: Option<Compensation>,
    /// The run that it began.
    pub child: Option<Child>,
    /// What its pattern has found out about its branches: a memo, which follows from everything else here.
    #[serde(skip)]
    pub branches: Branches,
}

/// A question, as far as a run has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// What it is answered by.
    pub token: Token,
    /// In a line.
    pub title: String,
    /// The smallest role that may answer.
    pub of: Role,
    /// When it was asked.
    pub at: Timestamp,
    /// How often it was due to remind people of it.
    pub reminded: u32,
}

/// What people said of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whether it may be done.
    pub is_given: bool,
    /// What was said besides.
    pub comment: Option<String>,
}

/// What a node waits for in a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listens {
    /// The topic that is listened to.
    pub topic: Topic,
    /// Of this subject; none: of any.
    pub subject: Option<String>,
    /// Of this type; none: of any.
    pub kind: Option<String>,
    /// After which place of the log.
    pub after: Position,
    /// Up to where it was looked: a memo, but for what is journaled when its run is suspended.
    pub heard: Position,
    /// Whether that is all there was when it was looked: a memo.
    #[serde(skip)]
    pub is_heard: bool,
    /// Whether the record tells its run of what comes.
    pub is_open: bool,
}

/// What undoes a node's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compensation {
    /// What the node works on.
    pub given: Input,
    /// Why it was begun; none: it stands ready.
    pub begun: Option<InVain>,
    /// Whether the work is undone.
    pub is_done: bool,
}

/// Why work was in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InVain {
    /// It was this node's, with everything below it.
    pub within: StepPath,
    /// The failure by which it was.
    pub failure: Failure,
}

/// A run that a node began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The id of the run that was begun.
    pub run: RunId,
    /// Whether it gave something, which the node then gives; the error: how it ended badly. None: it is not known to be over.
    pub ended: Option<Result<(), Failure>>,
    /// Whether it is to go on, because the node's own run was resumed.
    pub again: bool,
    /// How often the node's own run had been forked from another one then: it is that one's.
    pub forks: usize,
}

impl Child {
    /// Whether it is not known to be over.
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }
}

/// A round of a loop that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Whose output it gave; none: all of it was skipped.
    pub gave: Option<StepPath>,
    /// What comes after it.
    pub next: Next,
    /// How many rounds in a row gave the same, up to this one.
    pub in_a_row: u32,
}

/// A loop's rounds that are over: the last ones, and of those before them what may still be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rounds {
    /// How many are forgotten: the first ones.
    forgotten: usize,
    /// Whose output those gave last.
    given: Option<StepPath>,
    recent: VecDeque<Round>,
}

impl Rounds {
    /// How many are over.
    pub fn len(&self) -> usize {
        self.forgotten + self.recent.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are not forgotten, the first of them first.
    pub fn iter(&self) -> impl Iterator<Item = &Round> {
        self.recent.iter()
    }

    /// The last one.
    pub fn last(&self) -> Option<&Round> {
        self.recent.back()
    }

    /// Whose output they gave last: one that was skipped gave what the one before it did.
    pub fn given(&self) -> Option<&StepPath> {
        self.given_before(self.len())
    }

    /// The same of those before one; none also where that is forgotten.
    pub fn given_before(&self, round: usize) -> Option<&StepPath> {
        let before = round.checked_sub(self.forgotten)?;
        let recent = self.recent.iter().take(before).rev().find_map(|round| round.gave.as_ref());
        recent.or(self.given.as_ref())
    }

    pub(crate) fn push(&mut self, round: Round) {
        self.recent.push_back(round);
    }

    /// Takes the last one back, where it was the last of all because there could be no other.
    pub(crate) fn take_end(&mut self) -> Option<Round> {
        let is_end = |last: &Round| matches!(last.next, Next::Exhausted | Next::Stalled);
        self.recent.back().is_some_and(is_end).then(|| self.recent.pop_back()).flatten()
    }

    /// Only the first so many are over, as far as they are not forgotten.
    pub(crate) fn truncate(&mut self, rounds: usize) {
        self.recent.truncate(rounds.saturating_sub(self.forgotten));
    }

    pub(crate) fn forgotten(&self) -> usize {
        self.forgotten
    }

    pub(crate) fn given_by_forgotten(&self) -> Option<&StepPath> {
        self.given.as_ref()
    }

    /// Forgets all but the last so many; whether there was anything to be forgotten.
    pub(crate) fn forget_but(&mut self, kept: usize) -> bool {
        let more = self.recent.len().saturating_sub(kept);
        for round in self.recent.drain(..more) {
            self.forgotten += 1;
            self.given = round.gave.or(self.given.take());
        }
        more > 0
    }
}

/// What became of branches together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The branches that count.
    pub winners: Arc<[u32]>,
    /// Why too few succeeded.
    pub failure: Option<Failure>,
    /// Those that had failed by then, where that matters.
    pub lost: Arc<[Lost]>,
}

/// What branches voted for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Voted {
    /// Every value, the one with the most votes first.
    pub counts: Arc<[Count]>,
    /// How many branches gave anything.
    pub of: u32,
    /// Whether the first has won.
    pub is_won: bool,
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

    /// How the holder that has its turn now came to hold the conversation; none: it began with it.
    pub fn handed(&self) -> Option<Handed> {
        let handed = self.hand_offs.last().map(|last| {
            let (from, reason, passed) = (last.from.clone(), last.reason.clone(), last.passed.clone());
            Handed { from, reason, passed }
        });
        handed.or_else(|| self.holds.as_ref()?.handed.as_deref().cloned())
    }

    /// Whom that one's conversation came from, the last one last.
    pub fn givers(&self) -> Vec<AgentName> {
        let last = self.hand_offs.last().map(|last| &last.givers);
        last.or_else(|| Some(&self.holds.as_ref()?.givers)).cloned().unwrap_or_default()
    }

    /// Whether it waits for a time, or for what comes from outside.
    pub fn is_waiting(&self) -> bool {
        let listens = self.listens.as_ref().is_some_and(|listens| listens.is_open);
        let waits = self.waits_until.is_some() || self.asks.is_some() || listens;
        waits && !self.has_ended() && !self.is_cancelled && self.failure.is_none()
    }

    /// Whether what it gave was found wanting, and nothing was done in its place.
    pub(crate) fn is_rejected(&self) -> bool {
        matches!(self.verdict, Some(Err(_))) && !self.is_rescued()
    }

    /// Whether it failed and something else gave what it gives.
    pub fn is_rescued(&self) -> bool {
        self.failure.is_some() && self.gave.is_some()
    }

    /// Whether its work was undone, and not done again since.
    pub(crate) fn is_undone(&self) -> bool {
        self.compensation.as_ref().is_some_and(|compensation| compensation.is_done)
    }

    /// It is begun anew after a failure: what was decided whether it is done at all stays, how often it failed, and what stands
    /// ready to undo it.
    pub(crate) fn begin_anew(&mut self) {
        let (when, failures, retry_at, until) = (self.when, self.failures, self.retry_at, self.until);
        let compensation = self.compensation.take().filter(|compensation| !compensation.is_done);
        *self = Self { when, failures, retry_at, until, compensation, ..Self::default() };
    }
}

/// What was decided may be nothing, which is something else than that nothing was decided.
mod decided {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(decided: &Option<Option<u32>>, to: S) -> Result<S::Ok, S::Error> {
        decided.map(|decided| [decided]).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
        Option::<[Option<u32>; 1]>::deserialize(from).map(|decided| decided.map(|[decided]| decided))
    }
}
