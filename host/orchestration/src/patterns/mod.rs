//! Patterns: what is next. Each is a pure function from what has happened to a decision; a file each, and their table below.
//!
//! Invariants: no I/O, no clock, no randomness: time is the history's. A step's path is its place in the tree and depends
//! on nothing that happens.

use ltmc_journal::History;
use ltmc_model::failure::Failure;
use ltmc_model::workflow::Node;
use ltmc_model::{Payload, StepPath, Timestamp};

mod agent;
mod sequence;

/// A node of a workflow, made ready to decide.
pub trait Pattern: Send + Sync {
    /// What is next, for a node that works on `input`.
    fn next(&self, history: &History, input: &Input) -> Decision;
}

/// What a node works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The run's input.
    Run,
    /// What a step gave, or another node.
    Output(StepPath),
}

/// What a pattern decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// These are to be done, or are being done; at least one. More can be decided once any of them is done.
    Do(Vec<Todo>),
    /// The node is done: it gives what this step, or this other node, gave.
    Done(StepPath),
    /// The node is over, badly.
    Failed(Failure),
}

/// One thing to be done about a step, or another node.
#[derive(Debug, Clone, PartialEq)]
pub enum Todo {
    /// Make an attempt, or go on with the one that is open.
    Attempt {
        /// Which step.
        step: StepPath,
        /// On what.
        input: Input,
    },
    /// Journal whether a step's output is good: by its schema, or by what its validator found.
    Judge {
        /// Which step.
        step: StepPath,
    },
    /// Wait until its next attempt is due.
    Wait {
        /// Which step.
        step: StepPath,
        /// Until when.
        until: Timestamp,
    },
    /// Journal what a node gives that is no step.
    End {
        /// Its place.
        node: StepPath,
        /// What it gives.
        output: Payload,
    },
}

impl Todo {
    /// Which step it is about, or which other node.
    pub fn node(&self) -> &StepPath {
        match self {
            Self::Attempt { step: node, .. }
            | Self::Judge { step: node }
            | Self::Wait { step: node, .. }
            | Self::End { node, .. } => node,
        }
    }

    /// Until when nothing is done about it, where that is all there is to do.
    pub fn waits_until(&self) -> Option<Timestamp> {
        match self {
            Self::Wait { until, .. } => Some(*until),
            Self::Attempt { .. } | Self::Judge { .. } | Self::End { .. } => None,
        }
    }
}

/// The table of patterns: the one that a node of a document means, at its place.
pub fn of(node: &Node, path: StepPath) -> Box<dyn Pattern> {
    match node {
        Node::Agent(step) => Box::new(agent::Agent::new(path, step.validate.as_ref())),
        Node::Sequence(children) => Box::new(sequence::Sequence::new(children, &path)),
    }
}
