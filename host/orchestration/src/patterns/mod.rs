//! Patterns: what is next. Each is a pure function from what has happened to a decision; a file each, and their table below.
//!
//! Invariants: no I/O, no clock, no randomness: time is the history's. A step's path is its place in the tree and depends
//! on nothing that happens.

use ltmc_journal::History;
use ltmc_model::failure::Failure;
use ltmc_model::workflow::Node;
use ltmc_model::{StepPath, Timestamp};

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
    /// What a step gave.
    Output(StepPath),
}

/// What a pattern decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// These are to be done, or are being done; at least one. More can be decided once any of them is done.
    Do(Vec<Todo>),
    /// The node is done: it gives what this step gave.
    Done(StepPath),
    /// The node is over, badly.
    Failed(Failure),
}

/// One thing to be done about a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo {
    /// Make an attempt, or go on with the one that is open.
    Attempt {
        /// Which step.
        step: StepPath,
        /// On what.
        input: Input,
    },
    /// See whether its output is good.
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
}

impl Todo {
    /// Which step it is about.
    pub fn step(&self) -> &StepPath {
        match self {
            Self::Attempt { step, .. } | Self::Judge { step } | Self::Wait { step, .. } => step,
        }
    }
}

/// The table of patterns: the one that a node of a document means, at its place.
pub fn of(node: &Node, path: StepPath) -> Box<dyn Pattern> {
    match node {
        Node::Agent(_) => Box::new(agent::Agent::new(path)),
        Node::Sequence(children) => Box::new(sequence::Sequence::new(children, &path)),
    }
}
