//! A node that is no step, as people look at it: what it does, and what it waits for.

use ltmc_model::failure::Failure;
use ltmc_model::journal::Count;
use ltmc_model::message::Topic;
use ltmc_model::question::Token;
use ltmc_model::workflow::Node;
use ltmc_model::{Position, RunId, StepPath, Timestamp};
use serde::Serialize;

use super::is_nothing;
use crate::node::{Compensation, Listens};
use crate::standing::Stands;

/// A node that is no step, or that has more to it than its step.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// Its place in the tree of patterns.
    pub path: StepPath,
    /// What others call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its pattern's word: `parallel`, `map`, ...
    pub pattern: &'static str,
    /// `pending`, `running`, `waiting`, `paused`, `completed`, `failed`, `cancelled` or `skipped`.
    pub status: &'static str,
    /// When it goes on, while it waits: for a time, or to be begun anew; or until when it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// What it waits for from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// How often it failed and was begun anew.
    #[serde(skip_serializing_if = "is_nothing")]
    pub failures: usize,
    /// How its own work failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether something else was done in its place, and gave what it gives.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rescued: bool,
    /// How far undoing its work is: `ready`, `running` or `done`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensation: Option<&'static str>,
    /// The run that it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Of a choice: the option that was taken; of a turn: who speaks, by its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<u32>,
    /// Of a map: how many items there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
    /// Of a loop, a debate or a conversation that is handed on: how many rounds or turns are over.
    #[serde(skip_serializing_if = "is_nothing")]
    pub rounds: usize,
    /// The branches that count, in the order in which they were done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub winners: Vec<u32>,
    /// What branches voted for, the value with the most votes first; of many the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<Count>,
}

impl NodeView {
    /// None: there is nothing to it that its step does not show.
    pub(super) fn new(node: &Node, path: &StepPath, known: &crate::node::Node, stands: Stands) -> Option<Self> {
        let is_step = node.is_step();
        let compensation = known.compensation.as_ref().map(|compensation| match compensation {
            Compensation { is_done: true, .. } => "done",
            Compensation { begun: Some(_), .. } => "running",
            Compensation { begun: None, .. } => "ready",
        });
        let says_more = known.when == Some(false) || known.failure.is_some() || known.until.is_some();
        let says_more = says_more || compensation.is_some();
        if is_step && !says_more && known.failures == 0 {
            return None;
        }
        let due_at = match stands {
            Stands::Running | Stands::Waiting if node.is_step() => known.until,
            Stands::Waiting if known.is_waiting() => known.waits_until.or(known.until),
            Stands::Waiting => known.retry_at.into_iter().chain(known.until).min(),
            Stands::Running => known.until,
            _ => None,
        };
        Some(Self {
            path: path.clone(),
            name: node.id.as_ref().map(ToString::to_string),
            pattern: node.word(),
            status: stands.as_str(),
            due_at,
            waits_for: WaitsFor::of(known).filter(|_| stands == Stands::Waiting),
            failures: known.failures as usize,
            failure: failure_of(known),
            rescued: known.is_rescued(),
            compensation,
            run: known.child.as_ref().map(|child| child.run),
            option: known.option.flatten(),
            items: known.items.as_ref().map(|items| items.len()),
            rounds: known.rounds.len() + known.hand_offs.len(),
            winners: known.joined.iter().flat_map(|joined| joined.winners.iter().copied()).collect(),
            votes: known.voted.iter().flat_map(|voted| voted.counts.iter().take(VALUES).cloned()).collect(),
        })
    }
}

/// What a node waits for from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// An event of a topic.
    Event {
        /// The topic that is listened to.
        topic: Topic,
        /// Of this subject; none: of any.
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// Of this type; none: of any.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// After which place of the log.
        after: Position,
    },
    /// The answer to a question.
    Answer {
        /// What it is answered by.
        token: Token,
        /// What is asked.
        title: String,
        /// The smallest role that may answer.
        of: ltmc_model::caller::Role,
    },
}

impl WaitsFor {
    pub(super) fn of(known: &crate::node::Node) -> Option<Self> {
        if !known.is_waiting() {
            return None;
        }
        let asks = known.asks.as_ref();
        let answer =
            asks.map(|asks| Self::Answer { token: asks.token.clone(), title: asks.title.clone(), of: asks.of });
        answer.or_else(|| {
            let Listens { topic, subject, kind, after, .. } = known.listens.clone()?;
            Some(Self::Event { topic, subject, kind, after })
        })
    }
}

/// How a node's own work failed: as is journaled, as too few of its branches succeeded, or as the run that it began did.
fn failure_of(known: &crate::node::Node) -> Option<Failure> {
    let joined = || known.joined.as_ref().and_then(|joined| joined.failure.clone());
    let child = || known.child.as_ref()?.ended.as_ref()?.as_ref().err().cloned();
    known.failure.clone().or_else(joined).or_else(child)
}

/// Values that are shown of a vote.
const VALUES: usize = 20;
