//! The conversation whose turn this is: what was said before. Needs the capability `session:history`.
//!
//! ```
//! let host = ltmc::testing::Host::new().grant("session:history");
//! host.said("My parcel has not come.", Some("Which one?"));
//! host.within(|| {
//!     let before = ltmc::session::history(10)?;
//!     assert_eq!(before[0].message.bytes, b"My parcel has not come.");
//!     assert_eq!(before[0].answer.as_ref().map(|answer| answer.bytes.as_slice()), Some(&b"Which one?"[..]));
//!     Ok::<_, ltmc::Failure>(())
//! })?;
//! # Ok::<_, ltmc::Failure>(())
//! ```

use crate::{Error, Payload, host};

/// What was said in a turn, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// The turn's number in the session, from 1 on.
    pub turn: u32,
    /// The id of the key that said it.
    pub by: String,
    /// What was said.
    pub message: Payload,
    /// What was answered; none: the turn failed, or was ended.
    pub answer: Option<Payload>,
}

/// The last turns before this one that are over, in their order: at most `last` of them, and the newest that come to 1 MiB
/// together; of a larger one that alone. Empty where this is no turn of a session, or its first.
///
/// # Errors
/// [`Error::AccessDenied`] without `session:history`; [`Error::Invalid`] where `last` is not 1 to 50.
pub fn history(last: u32) -> Result<Vec<Exchange>, Error> {
    host::session::history(last)
}

/// Over the host's imports: conversions and nothing else. `testing/session.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use super::Exchange;
    use crate::bindings::host::ltmc::agent::{session as wit, types};
    use crate::{Error, Payload};

    pub(crate) fn history(last: u32) -> Result<Vec<Exchange>, Error> {
        Ok(wit::history(last)?.into_iter().map(exchange).collect())
    }

    fn exchange(exchange: wit::Exchange) -> Exchange {
        let payload = |payload: types::Payload| Payload::new(payload.content_type, payload.bytes);
        let wit::Exchange { turn, by, message, answer } = exchange;
        Exchange { turn, by, message: payload(message), answer: answer.map(payload) }
    }
}
