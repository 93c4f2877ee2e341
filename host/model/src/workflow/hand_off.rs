//! A conversation that agents hand on to each other.

use std::time::Duration;

use ltmc_rules::hand_off;

use super::{Does, Node};
use crate::AgentName;
use crate::agent::AgentRef;

/// A conversation, held by one agent after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct HandOff {
    /// What one holder does, the same for every number.
    pub turn: Node,
    /// Who holds it first: its number among those that may.
    pub start: usize,
    /// What of the conversation a receiver gets.
    pub pass: Pass,
    /// At most so many hand-offs in a run.
    pub at_most: u32,
    /// At most so many of them from one agent to the same other one.
    pub per_pair: u32,
    /// In a session: after how long without a turn it is again with who holds it first; none: never.
    pub idle: Option<Duration>,
}

/// What of a conversation passes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pass {
    /// All that was said.
    #[default]
    Full,
    /// What was said in the last turns, so many of them.
    Last(u32),
    /// Nothing of what was said; the giver passes a summary.
    Summary,
    /// Nothing of what was said, and of what the giver passes these fields.
    Fields(Vec<String>),
}

impl Pass {
    /// The turns after which the holder is told what was said, where the conversation came to it in turn `since`.
    pub fn told_after(&self, since: u32) -> u32 {
        match self {
            Self::Full => 0,
            Self::Last(turns) => since.saturating_sub(1).saturating_sub(*turns),
            Self::Summary | Self::Fields(_) => since.saturating_sub(1),
        }
    }
}

impl HandOff {
    /// How many agents it may go among.
    pub const MAX_AMONG: usize = hand_off::MAX_AMONG;
    /// The most hand-offs that can be asked for.
    pub const MAX_AT_MOST: u32 = hand_off::MAX_AT_MOST;
    /// How many fields can be named.
    pub const MAX_FIELDS: usize = hand_off::MAX_FIELDS;
    /// The most turns that can be asked to pass.
    pub const MAX_LAST: u32 = 1_000;

    /// How many holders there are at most, one after the other.
    pub fn turns(&self) -> usize {
        self.at_most as usize + 1
    }

    /// Those that may hold it, an agent's step each.
    pub fn among(&self) -> &[Node] {
        match &self.turn.does {
            Does::Turn(turn) => &turn.among,
            _ => &[],
        }
    }

    /// The same, as agents.
    pub fn agents(&self) -> impl Iterator<Item = &AgentRef> {
        self.among().iter().filter_map(|node| match &node.does {
            Does::Agent(agent) => Some(agent),
            _ => None,
        })
    }

    /// Their names, in their order.
    pub fn names(&self) -> Vec<&AgentName> {
        self.agents().map(|agent| &agent.name).collect()
    }

    /// The number of an agent among those that may hold it.
    pub fn number(&self, agent: &AgentName) -> Option<usize> {
        self.names().into_iter().position(|one| one == agent)
    }
}
