//! Work for which an agent is looked for.

use super::fault::Place;
use crate::agent::AgentRef;

/// Work for which an agent is looked for when it is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Needed {
    /// What is to be done, in words: agents' descriptions are compared with it.
    pub text: String,
    /// Among which agents; empty: all of the tenant's.
    pub among: Vec<(AgentRef, Place)>,
    /// How well one has to fit at least, from 0 to 1.
    pub at_least: f64,
}

impl Needed {
    /// The longest text, in bytes.
    pub const MAX_TEXT: usize = 2_000;

    /// How many agents can be named.
    pub const MAX_AMONG: usize = 100;

    /// How well one has to fit where nothing is said.
    pub const AT_LEAST: f64 = 0.2;
}
