//! What nodes do besides having agents work: what somebody has to be allowed who starts a workflow, and what a plan that an agent writes may
//! not have.
//!
//! To add a pattern: its arm below, which the compiler asks for.

use super::{Does, Node, Wait};

/// Something that a node does itself, in the name of whoever started its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acts {
    /// It publishes events.
    Publishes,
    /// It takes events that others published.
    Listens,
    /// It asks people.
    Asks,
    /// It starts runs.
    Starts,
}

impl Node {
    /// What it does itself, besides what nodes below it do.
    pub fn acts(&self) -> &'static [Acts] {
        match &self.does {
            Does::Agent(_) | Does::Need(_) => &[],
            Does::Sequence(_) | Does::Parallel(_) | Does::Choice(_) | Does::Map(_) | Does::Loop(_) => &[],
            Does::Debate(_) | Does::HandOff(_) | Does::Turn(_) | Does::Settle(_) => &[],
            Does::Wait(Wait::For(_) | Wait::Until(_)) => &[],
            Does::Wait(Wait::Event(_)) => &[Acts::Listens],
            Does::Ask(ask) if ask.remind.is_some() => &[Acts::Asks, Acts::Publishes],
            Does::Ask(_) => &[Acts::Asks],
            Does::Emit(_) => &[Acts::Publishes],
            Does::Plan(planning) if planning.approve.is_some() => &[Acts::Starts, Acts::Asks],
            Does::Workflow(_) | Does::Plan(_) => &[Acts::Starts],
        }
    }
}
