//! Nodes of which one is done.

use super::Condition;
use super::node::Node;

/// Nodes of which one is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// In the order in which their conditions are looked at.
    pub options: Vec<Handler>,
    /// What is done where none holds.
    pub otherwise: Option<Box<Node>>,
}

impl Choice {
    /// What is done under a number: an option, or behind them what is done where none holds.
    pub fn option(&self, number: usize) -> Option<&Node> {
        if number == self.options.len() {
            return self.otherwise.as_deref();
        }
        self.options.get(number).map(|option| &option.node)
    }
}

/// What is done where a condition holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Handler {
    /// None: always.
    pub when: Option<Condition>,
    /// What is done.
    pub node: Node,
}
