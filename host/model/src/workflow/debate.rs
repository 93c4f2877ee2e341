//! Agents that speak in turn, each knowing what was said before.

use super::{Condition, Node};

/// A debate.
#[derive(Debug, Clone, PartialEq)]
pub struct Debate {
    /// A turn, the same for every number.
    pub turn: Node,
    /// At most so many rounds, of as many turns as there are who speak.
    pub rounds: u32,
    /// Where this holds after a turn, that was the last.
    pub until: Option<Condition>,
    /// Who says at its end what it gives, as a step; none: it gives what was said last.
    pub close: Option<Node>,
}

/// A turn of a debate, or of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who says whose turn it is, as a step; none: one after the other, in their order.
    pub chair: Option<Node>,
    /// Those who speak, an agent's step each.
    pub among: Vec<Node>,
    /// Whether it is the turn of who holds a conversation, which is journaled.
    pub is_held: bool,
}

impl Debate {
    /// How many can take part.
    pub const MAX_AMONG: usize = 20;
    /// The most rounds that can be asked for.
    pub const MAX_ROUNDS: u32 = 500;
    /// How many turns who speaks is told of: the last ones.
    pub const TOLD: usize = 100;
    /// How many bytes of what was said who speaks is told: the last ones.
    pub const TOLD_BYTES: usize = 1 << 20;

    /// How many turns there are at most.
    pub fn turns(&self) -> usize {
        self.rounds as usize * self.among().len()
    }

    /// Those who speak.
    pub fn among(&self) -> &[Node] {
        self.in_turn().map_or(&[], |turn| &turn.among)
    }

    /// Who says whose turn it is.
    pub fn chair(&self) -> Option<&Node> {
        self.in_turn().and_then(|turn| turn.chair.as_ref())
    }

    fn in_turn(&self) -> Option<&Turn> {
        match &self.turn.does {
            super::Does::Turn(turn) => Some(turn),
            _ => None,
        }
    }
}

impl Turn {
    /// Whether they speak one after the other, in their order.
    pub fn is_in_order(&self) -> bool {
        self.chair.is_none() && !self.is_held
    }

    /// Who stands below a turn under a number: the chair, where there is one, and behind it those who speak.
    pub fn speaker(&self, number: usize) -> Option<&Node> {
        self.chair.iter().chain(&self.among).nth(number)
    }

    /// The number of the first of those who speak.
    pub fn first(&self) -> usize {
        usize::from(self.chair.is_some())
    }
}
