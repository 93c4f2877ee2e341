//! Workflows that a workflow starts: another one, or a document that an agent writes.

use super::fault::Place;
use super::node::Node;
use crate::WorkflowName;
use crate::agent::AgentRef;
use crate::caller::Role;
use crate::child::OnParentEnd;

/// A workflow that another one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubWorkflow {
    /// Which, as it is when it is started.
    pub workflow: WorkflowName,
    /// What becomes of its run where the node, or the run that started it, is over before it.
    pub on_parent_end: OnParentEnd,
}

/// Work that an agent takes apart into a document, which is then done.
#[derive(Debug, Clone, PartialEq)]
pub struct Planning {
    /// The agent's step, which gives the document.
    pub planner: Node,
    /// The agents that may stand in it.
    pub may: Vec<(AgentRef, Place)>,
    /// How deep its patterns may nest.
    pub depth: u32,
    /// How many steps it may have.
    pub at_most: u32,
    /// The smallest role that has to approve of it before it is done; none: nobody is asked.
    pub approve: Option<Role>,
}

impl Planning {
    /// How many agents can be named.
    pub const MAX_MAY: usize = 100;

    /// How deep a plan may nest where nothing is said.
    pub const DEPTH: u32 = 4;

    /// How many steps it may have where nothing is said.
    pub const AT_MOST: u32 = 20;

    /// The longest plan, in bytes.
    pub const MAX_LEN: usize = 64 << 10;

    /// Who is asked where it is only said that somebody is.
    pub const APPROVES: Role = Role::Author;
}
