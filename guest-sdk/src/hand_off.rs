//! Conversations: one agent at a time holds one, in the `hand-off` of a workflow, and hands it on to another one.
//!
//! To hand it to an agent needs the capability `hand-off:AGENT`; to give it back to whom it came from needs nothing. A hand-off is the last thing that an
//! attempt does: it is so once the attempt succeeds, and whatever is asked of the host after it is refused. The receiver goes on at once, with the same
//! message, and with its own grants.
//!
//! ```
//! use ltmc::hand_off;
//!
//! let host = ltmc::testing::Host::new().agent("triage").holds(&["triage", "refunds"]).grant("hand-off:refunds");
//! host.within(|| hand_off::to_with("refunds", "the customer wants money back", "order 4711".to_owned()))?;
//! let refunds = host.agent("refunds");
//! let handed = refunds.within(hand_off::received)?.expect("it was handed the conversation");
//! assert_eq!((handed.from.as_str(), handed.reason.as_str()), ("triage", "the customer wants money back"));
//! assert_eq!(handed.passed.unwrap().bytes, b"order 4711");
//! # Ok::<_, ltmc::Error>(())
//! ```

use crate::{Error, IntoPayload, Payload, host};

/// How a conversation came to the agent that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handed {
    /// The agent that held it before.
    pub from: String,
    /// Why it was handed on.
    pub reason: String,
    /// What that one passed besides the conversation.
    pub passed: Option<Payload>,
}

impl Handed {
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "said by the in-memory host"))]
    pub(crate) fn new(from: String, reason: String, passed: Option<Payload>) -> Self {
        Self { from, reason, passed }
    }
}

/// Hands the conversation that this attempt holds to another agent of its workflow's `hand-off`, with a reason of 1 to 1,024 bytes. What this attempt gives
/// after it is nobody's answer.
///
/// # Errors
/// The conversation stays where it is. [`Error::AccessDenied`] without `hand-off:AGENT`; [`Error::Invalid`] where none is held, for oneself or somebody to
/// whom it does not go, and for what is out of its bounds; [`Error::QuotaExceeded`] where it was handed on as often as may be; [`Error::NotFound`] where there
/// is no such agent any more.
pub fn to(agent: &str, reason: &str) -> Result<(), Error> {
    host::hand_off::to(agent, reason, None)
}

/// The same, with what the receiver gets besides the conversation, at most 64 KiB: a summary where the workflow passes one, a JSON object where it passes
/// fields.
///
/// # Errors
/// As [`to`].
pub fn to_with(agent: &str, reason: &str, passed: impl IntoPayload) -> Result<(), Error> {
    host::hand_off::to(agent, reason, Some(written(passed)?))
}

/// Hands the conversation back to the agent that it came from.
///
/// # Errors
/// As [`to`]; [`Error::Invalid`] also where this agent began with it.
pub fn back(reason: &str) -> Result<(), Error> {
    host::hand_off::back(reason, None)
}

/// The same, with what that one gets besides the conversation.
///
/// # Errors
/// As [`back`].
pub fn back_with(reason: &str, passed: impl IntoPayload) -> Result<(), Error> {
    host::hand_off::back(reason, Some(written(passed)?))
}

/// How the conversation came to this agent; none: it began with it, or there is none.
///
/// # Errors
/// As every host call.
pub fn received() -> Result<Option<Handed>, Error> {
    host::hand_off::received()
}

fn written(passed: impl IntoPayload) -> Result<Payload, Error> {
    passed.into_payload().map_err(|failure| Error::Invalid(failure.message))
}

/// Over the host's imports: conversions and nothing else. `testing/hand_off.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use super::Handed;
    use crate::bindings::host::ltmc::agent::{coordination as wit, types};
    use crate::{Error, Payload};

    pub(crate) fn to(agent: &str, reason: &str, passed: Option<Payload>) -> Result<(), Error> {
        Ok(wit::hand_off(agent, reason, passed.map(payload).as_ref())?)
    }

    pub(crate) fn back(reason: &str, passed: Option<Payload>) -> Result<(), Error> {
        Ok(wit::hand_back(reason, passed.map(payload).as_ref())?)
    }

    pub(crate) fn received() -> Result<Option<Handed>, Error> {
        Ok(wit::received()?.map(|wit::Handed { from, reason, passed }| Handed {
            from,
            reason,
            passed: passed.map(|passed| Payload::new(passed.content_type, passed.bytes)),
        }))
    }

    fn payload(payload: Payload) -> types::Payload {
        types::Payload { content_type: payload.content_type, bytes: payload.bytes }
    }
}
