//! Other agents of the tenant: called, or several begun at once and joined. Each needs the capability `call:AGENT`.
//!
//! What is begun is a run of its own, with that agent's own grants and limits, in the caller's session. What the attempt did so
//! far becomes true before it begins, as at a [checkpoint](crate::Task::checkpoint); what a child did is true once it is over,
//! whatever becomes of the caller. A retry begins its own children; those of an attempt that is over are cancelled, if they are
//! not over. The caller's time goes on while it waits.
//!
//! ```
//! use ltmc::coordination;
//!
//! let host = ltmc::testing::Host::new().grant("call:count-words");
//! let host = host.answers("count-words", |text| {
//!     let text = String::from_utf8_lossy(&text.bytes).into_owned();
//!     Ok(ltmc::Payload::new("text/plain", text.split_whitespace().count().to_string()))
//! });
//! host.within(|| {
//!     let one: String = coordination::call("count-words", "to be or not to be".to_owned())?;
//!     assert_eq!(one, "6");
//!     let texts = ["to be", "or not", "to be or"].map(|text| ("count-words", text.to_owned()));
//!     let several = coordination::fork::<String, _>(texts)?;
//!     assert_eq!(several, [Ok("2".to_owned()), Ok("2".to_owned()), Ok("3".to_owned())]);
//!     Ok::<_, ltmc::Failure>(())
//! })?;
//! # Ok::<_, ltmc::Failure>(())
//! ```

use std::fmt;

use crate::{Error, Failure, FromPayload, IntoPayload, Payload, host};

/// So many are joined at once.
const MAX_JOINED: usize = 100;

/// How an agent that was called ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallFailure {
    /// One of the host's codes, such as `agent-error`, `limit-wall` or `cancelled`; `bad-output` where what it gave is not of
    /// the kind that was expected.
    pub code: String,
    /// The agent's own code, with `agent-error`.
    pub agent_code: Option<String>,
    /// What was wrong, for people.
    pub message: String,
    /// Whether another call may do better later.
    pub retryable: bool,
}

impl CallFailure {
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "said by the in-memory host"))]
    pub(crate) fn new(code: &str, agent_code: Option<String>, message: impl Into<String>, retryable: bool) -> Self {
        Self { code: code.to_owned(), agent_code, message: message.into(), retryable }
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.agent_code {
            Some(own) => write!(f, "{} ({own}): {}", self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for CallFailure {}

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// It was not made.
    Refused(Error),
    /// It was made, and ended badly.
    Failed(CallFailure),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for CallError {}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// `?` passes on what the other agent said: its own code where it has one, otherwise the host's.
impl From<CallFailure> for Failure {
    fn from(failure: CallFailure) -> Self {
        let CallFailure { code, agent_code, message, retryable } = failure;
        let failure = Self::new(agent_code.unwrap_or(code), message);
        if retryable { failure.retryable() } else { failure }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(error) => error.into(),
            CallError::Failed(failure) => failure.into(),
        }
    }
}

/// Has an agent do a task, and waits for it.
///
/// # Errors
/// [`CallError::Refused`]: [`Error::AccessDenied`] without `call:AGENT`; [`Error::NotFound`] where there is no such agent;
/// [`Error::QuotaExceeded`] for a chain of more than 8 calls, whose names it tells, or more than 1,000 children of a run;
/// [`Error::Unavailable`] where the host has no room for another run. [`CallError::Failed`]: how it ended badly.
pub fn call<O: FromPayload>(agent: &str, input: impl IntoPayload) -> Result<O, CallError> {
    read(host::coordination::call(agent, written(input)?)?).map_err(CallError::Failed)
}

/// A run that this attempt began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    run: String,
}

impl Child {
    /// The run's id, for logs.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Waits for it.
    ///
    /// # Errors
    /// As [`call`], but that it was begun.
    pub fn join<O: FromPayload>(self) -> Result<O, CallError> {
        let joined = join([self])?.pop();
        joined.unwrap_or_else(|| Err(nothing())).map_err(CallError::Failed)
    }
}

/// Has an agent do a task, and does not wait: [`join`] does. A child that nobody joins is cancelled when its attempt is over.
///
/// # Errors
/// As those of [`call`] that are refusals.
pub fn begin(agent: &str, input: impl IntoPayload) -> Result<Child, Error> {
    Ok(Child { run: host::coordination::begin(agent, written(input)?)? })
}

/// Waits for all of these children. How each of them ended, in their order.
///
/// # Errors
/// [`Error::QuotaExceeded`] where 100 of them give more than 16 MiB together.
pub fn join<O: FromPayload>(children: impl IntoIterator<Item = Child>) -> Result<Vec<Result<O, CallFailure>>, Error> {
    let runs: Vec<String> = children.into_iter().map(|child| child.run).collect();
    let mut joined = Vec::with_capacity(runs.len());
    for runs in runs.chunks(MAX_JOINED) {
        joined.extend(host::coordination::join(runs)?.into_iter().map(read));
    }
    Ok(joined)
}

/// Has several agents do a task each, side by side, and waits for all of them. How each of them ended, in their order.
///
/// # Errors
/// As [`begin`] and [`join`]; those that were begun before are then cancelled when the attempt is over.
pub fn fork<'a, O: FromPayload, I: IntoPayload>(
    calls: impl IntoIterator<Item = (&'a str, I)>,
) -> Result<Vec<Result<O, CallFailure>>, Error> {
    let children = calls.into_iter().map(|(agent, input)| begin(agent, input));
    join(children.collect::<Result<Vec<_>, _>>()?)
}

fn written(input: impl IntoPayload) -> Result<Payload, Error> {
    input.into_payload().map_err(|failure| Error::Invalid(failure.message))
}

fn read<O: FromPayload>(ended: Result<Payload, CallFailure>) -> Result<O, CallFailure> {
    O::from_payload(ended?).map_err(|failure| CallFailure {
        code: "bad-output".to_owned(),
        agent_code: None,
        message: format!("what it gave is not what was expected: {}", failure.message),
        retryable: false,
    })
}

fn nothing() -> CallFailure {
    let message = "the host said nothing of it".to_owned();
    CallFailure { code: "internal".to_owned(), agent_code: None, message, retryable: false }
}

/// Over the host's imports: conversions and nothing else. `testing/coordination.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use super::CallFailure;
    use crate::bindings::host::ltmc::agent::{coordination as wit, types};
    use crate::{Error, Payload};

    pub(crate) fn call(agent: &str, input: Payload) -> Result<Result<Payload, CallFailure>, Error> {
        Ok(ended(wit::call(agent, &payload(input))?))
    }

    pub(crate) fn begin(agent: &str, input: Payload) -> Result<String, Error> {
        Ok(wit::begin(agent, &payload(input))?)
    }

    pub(crate) fn join(children: &[String]) -> Result<Vec<Result<Payload, CallFailure>>, Error> {
        Ok(wit::join(children)?.into_iter().map(ended).collect())
    }

    fn payload(payload: Payload) -> types::Payload {
        types::Payload { content_type: payload.content_type, bytes: payload.bytes }
    }

    fn ended(ended: Result<types::Payload, wit::CallFailure>) -> Result<Payload, CallFailure> {
        match ended {
            Ok(output) => Ok(Payload::new(output.content_type, output.bytes)),
            Err(wit::CallFailure { code, agent_code, message, retryable }) => {
                Err(CallFailure { code, agent_code, message, retryable })
            }
        }
    }
}
