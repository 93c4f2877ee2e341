//! `ltmc:agent/coordination`.

use super::HostCall;
use super::form::{Request, Values};
use crate::capability::{Any, Capability};
use crate::child::Ended;
use crate::{AgentName, Payload, RunId};

interface! {
    /// Calls on other agents.
    Coordination: CoordinationCall { Call, Begin, Join }
}

/// `coordination.call`: has another agent of the tenant do a task, and waits for it; answers how that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which agent: its newest version.
    pub agent: AgentName,
    /// On what.
    pub input: Payload,
}

impl HostCall for Call {
    type Reply = Ended;
    const NAME: &'static str = "coordination.call";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Call(Any::One(self.agent.clone()))]
    }

    fn about(&self) -> String {
        self.agent.to_string()
    }

    fn request(&self) -> Request {
        Request::new("coordination-call", &Values::new().with(&self.agent).with(&self.input))
    }
}

/// `coordination.begin`: has another agent of the tenant do a task, and does not wait; answers the child run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Which agent: its newest version.
    pub agent: AgentName,
    /// On what.
    pub input: Payload,
}

impl HostCall for Begin {
    type Reply = RunId;
    const NAME: &'static str = "coordination.begin";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Call(Any::One(self.agent.clone()))]
    }

    fn about(&self) -> String {
        self.agent.to_string()
    }

    fn request(&self) -> Request {
        Request::new("coordination-begin", &Values::new().with(&self.agent).with(&self.input))
    }
}

/// `coordination.join`: waits for children that this attempt began; answers how they ended, in the same order. Needs nothing
/// more than beginning them did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which, 1 to [`crate::child::MAX_JOINED`].
    pub children: Vec<RunId>,
}

impl HostCall for Join {
    type Reply = Vec<Ended>;
    const NAME: &'static str = "coordination.join";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn about(&self) -> String {
        match self.children.len() {
            1 => "1 child".into(),
            count => format!("{count} children"),
        }
    }

    fn request(&self) -> Request {
        let children = self.children.iter().fold(Values::new(), |all, child| all.with(child));
        Request::new("coordination-join", &children)
    }
}
