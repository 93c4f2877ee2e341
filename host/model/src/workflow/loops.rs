//! A node that is done again and again.

use super::Condition;
use super::node::Node;

/// A node that is done again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// What is done in each round.
    pub body: Node,
    /// Where this holds after a round, that was the last; none: all rounds are made.
    pub until: Option<Condition>,
    /// The most rounds.
    pub at_most: u32,
    /// So many rounds in a row with the same output are one too many.
    pub stall: Option<u32>,
}

impl Loop {
    /// The most rounds that can be asked for.
    pub const MAX_ROUNDS: u32 = 100_000;

    /// The number under which a round stands below its loop. Those for which there is no place before what else may stand there stand
    /// behind it.
    pub fn number(round: usize) -> usize {
        if round < Node::VALIDATOR { round } else { round + (Node::BEHIND - Node::VALIDATOR) }
    }

    /// The round that stands under a number; none: none does.
    pub fn round(number: usize) -> Option<usize> {
        let behind = number.checked_sub(Node::BEHIND).map(|round| round + Node::VALIDATOR);
        let round = if number < Node::VALIDATOR { Some(number) } else { behind };
        round.filter(|round| *round < Self::MAX_ROUNDS as usize)
    }
}
