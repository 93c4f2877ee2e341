//! The interface `ltmc:agent/state`: the agent's own state, as its manifest declares it.

use super::HostCall;
use super::form::{Request, Values};
use crate::Revision;
use crate::capability::Capability;
use crate::state::Told;

interface! {
    /// Calls on the agent's own state.
    State: StateCall { Get, Transition }
}

/// `state.get`: where the agent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get;

impl HostCall for Get {
    type Reply = Told;
    const NAME: &'static str = "state.get";
    // Where it is of an older version it is migrated.
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::State]
    }

    fn about(&self) -> String {
        String::new()
    }

    fn request(&self) -> Request {
        Request::new("state-get", &Values::new())
    }
}

/// `state.transition`: something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The name of the event that happened.
    pub event: String,
    /// A JSON merge patch of the state's data.
    pub patch: String,
    /// The revision that the state has to be at; none: at any.
    pub expected: Option<Revision>,
}

impl HostCall for Transition {
    type Reply = Told;
    const NAME: &'static str = "state.transition";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::State]
    }

    fn about(&self) -> String {
        self.event.clone()
    }

    fn request(&self) -> Request {
        Request::new("state-transition", &Values::new().with(&self.event).with(&self.patch).with(&self.expected))
    }
}
