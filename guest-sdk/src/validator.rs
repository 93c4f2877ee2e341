//! The role of a validator: it judges another step's result.

use crate::{FromPayload, Task};

/// Judges a step's result. Put `#[ltmc::validator]` on the struct that implements it.
pub trait Validator: Default {
    /// What it judges, as for [`Agent::Input`](crate::Agent::Input). A result that does not even parse as this is a violation.
    type Input: FromPayload;

    /// No violations: it is good.
    fn validate(&self, input: Self::Input, task: &Task) -> Vec<Violation>;
}

/// One thing that is wrong with a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) to the offending value, such as `/findings/0/line`; empty for the whole.
    pub at: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl Violation {
    /// The violation at this place.
    pub fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: at.into(), message: message.into() }
    }
}

/// Both roles of the SDK read their input in the same way; here what does not parse is what is wrong with it.
pub(crate) fn judge<V: Validator>(payload: crate::Payload, task: &Task) -> Vec<Violation> {
    match V::Input::from_payload(payload) {
        Ok(input) => V::default().validate(input, task),
        Err(failure) => vec![Violation::new("", failure.message)],
    }
}
