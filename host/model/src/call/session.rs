//! The interface `ltmc:agent/session`: the conversation whose turn it is.

use super::HostCall;
use super::form::{Request, Values};
use crate::capability::Capability;
use crate::session::Exchange;

interface! {
    /// Calls on the conversation whose turn it is.
    Session: SessionCall { History }
}

/// `session.history`: the last turns before this one that are over, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// At most so many, 1 to [`crate::session::MAX_TOLD`].
    pub last: u32,
}

impl HostCall for History {
    type Reply = Vec<Exchange>;
    const NAME: &'static str = "session.history";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::SessionHistory]
    }

    fn about(&self) -> String {
        format!("the last {}", self.last)
    }

    fn request(&self) -> Request {
        Request::new("session-history", &Values::new().with(&self.last))
    }
}
