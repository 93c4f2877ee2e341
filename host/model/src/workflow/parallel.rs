//! Nodes side by side.

use super::name::StepName;
use super::node::Node;
use super::{Collect, Context};

/// Nodes side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Parallel {
    /// At least one; either all of them have names or none.
    pub branches: Vec<(Option<StepName>, Node)>,
    /// How many of them have to succeed.
    pub need: Need,
    /// What becomes of the others once the need cannot be met any more.
    pub on_failure: OnFailure,
    /// What becomes of those that are not needed any more.
    pub on_loss: OnLoss,
    /// How many are under way at once; none: all of them.
    pub at_once: Option<u32>,
    /// What it gives.
    pub collect: Collect,
    /// What its branches have to themselves; none: nothing.
    pub context: Option<Context>,
}

impl Parallel {
    /// What a branch is called, where it has a name.
    pub fn name(&self, number: usize) -> Option<&StepName> {
        let (name, node) = self.branches.get(number)?;
        name.as_ref().or(node.id.as_ref())
    }

    /// What a branch is called: by its name, its node's, or its number.
    pub fn called(&self, number: usize) -> String {
        self.name(number).map_or_else(|| number.to_string(), ToString::to_string)
    }
}

/// How many branches have to succeed. Those that are skipped do not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Need {
    /// All of them.
    All,
    /// At least one.
    Any,
    /// So many.
    Count(u32),
    /// So large a share of them, rounded up.
    Share(f64),
}

/// What becomes of the other branches once the need cannot be met any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They are cancelled.
    Stop,
    /// They go on to their end.
    Continue,
}

/// What becomes of branches that are not needed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// They are cancelled.
    Cancel,
    /// They go on to their end, for which the node waits.
    Finish,
}
