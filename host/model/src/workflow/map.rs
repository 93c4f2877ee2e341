//! A node for every item of a list.

use super::name::StepName;
use super::node::Node;
use super::{Collect, Context, Pick};

/// A node for every item of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct MapItems {
    /// The list.
    pub over: Pick,
    /// What an item is called: `$.item.NAME`.
    pub name: Option<StepName>,
    /// What is done with each.
    pub body: Node,
    /// How many are under way at once.
    pub at_once: u32,
    /// How many may fail.
    pub tolerate: Tolerate,
    /// What what is done with each has to itself; none: nothing.
    pub context: Option<Context>,
    /// What it gives.
    pub collect: Collect,
}

impl MapItems {
    /// The most items.
    pub const MAX_ITEMS: usize = 10_000;

    /// How many are under way at once where nothing is said.
    pub const AT_ONCE: u32 = 16;

    /// The most that can be under way at once.
    pub const MAX_AT_ONCE: u32 = 1_000;
}

/// How many items may fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerate {
    /// So many.
    Count(u32),
    /// So large a share of them, rounded down.
    Share(f64),
}
