//! The interface `ltmc:agent/attempt`: checkpoints of the attempt itself.

use super::HostCall;
use super::form::{Request, Values};
use crate::capability::Capability;

interface! {
    /// Calls on the attempt itself.
    Attempt: AttemptCall { Checkpoint }
}

/// `attempt.checkpoint`: what the attempt did so far becomes true. Everybody may: it adds nothing to what was allowed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint;

impl HostCall for Checkpoint {
    type Reply = ();
    const NAME: &'static str = "attempt.checkpoint";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn about(&self) -> String {
        String::new()
    }

    fn request(&self) -> Request {
        Request::new("attempt-checkpoint", &Values::new())
    }
}
