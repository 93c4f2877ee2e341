//! The interfaces over the host's imports, each from its own file; and what they share. `testing` has the same names in memory.

pub(crate) mod attempt;

pub(crate) use crate::coordination::guest as coordination;
pub(crate) use crate::graph::guest as graph;
pub(crate) use crate::hand_off::guest as hand_off;
pub(crate) use crate::log::guest as log;
pub(crate) use crate::memory::guest as memory;
pub(crate) use crate::messages::guest as messages;
pub(crate) use crate::recall::guest as recall;
pub(crate) use crate::session::guest as session;
pub(crate) use crate::state::guest as state;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Error;
use crate::bindings::host::ltmc::agent::types;

/// The run's time; it never goes back.
pub(crate) fn clock() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "in a component this is the run's own clock, and replays the same")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::AccessDenied(capability) => Self::AccessDenied(capability),
            types::Error::NotFound => Self::NotFound,
            types::Error::Resync(position) => Self::Resync(position),
            types::Error::Conflict(revision) => Self::Conflict(revision),
            types::Error::QuotaExceeded(quota) => Self::QuotaExceeded(quota),
            types::Error::Invalid(why) => Self::Invalid(why),
            types::Error::Unavailable(busy) => {
                Self::Unavailable { message: busy.message, retry_after: Duration::from_millis(busy.retry_after_ms) }
            }
        }
    }
}
