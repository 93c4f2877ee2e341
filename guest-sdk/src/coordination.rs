//! Other agents of the tenant: called by name, or found by what is needed, or several begun at once and joined. Each needs the capability
//! `call:AGENT`. And people, who are asked: that needs `ask:ROLE`.
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
//!
//! A need is a text. Whose description is nearest to it does it, of all agents of the tenant or of those that are named:
//!
//! ```
//! # use ltmc::coordination::{self, Need};
//! # let host = ltmc::testing::Host::new().grant("call:*").finds("sum up", "shorten");
//! # let host = host.answers("shorten", |text| Ok(ltmc::Payload::new("text/plain", text.bytes[..2].to_vec())));
//! # host.within(|| {
//! let summary: String = coordination::need(Need::of("sum up"), "to be or not to be".to_owned())?.join()?;
//! # assert_eq!(summary, "to");
//! # Ok::<_, ltmc::Failure>(())
//! # })?;
//! # Ok::<_, ltmc::Failure>(())
//! ```
//!
//! A question waits for somebody whose key has the role, or one that may more; never for an agent:
//!
//! ```
//! # use std::time::Duration;
//! # use ltmc::Json;
//! # use ltmc::coordination::{self, Question, Role};
//! # let host = ltmc::testing::Host::new().grant("ask:author").replies("Publish this?", &true);
//! # host.within(|| {
//! let question = Question::to(Role::Author, "Publish this?").yes_or_no().shows("a draft".to_owned())?;
//! let Json(yes): Json<bool> = coordination::ask(question.for_at_most(Duration::from_secs(3_600)))?.join()?;
//! # assert!(yes);
//! # Ok::<_, ltmc::Failure>(())
//! # })?;
//! # Ok::<_, ltmc::Failure>(())
//! ```

use std::fmt;
use std::time::Duration;

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

/// What is to be done, where it is left open who does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub(crate) text: String,
    pub(crate) among: Vec<String>,
    pub(crate) at_least: Option<u8>,
}

impl Need {
    /// This, in words, of whichever agent of the tenant fits best.
    pub fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), among: Vec::new(), at_least: None }
    }

    /// One of these agents, at most 100.
    #[must_use]
    pub fn among<'a>(self, agents: impl IntoIterator<Item = &'a str>) -> Self {
        Self { among: agents.into_iter().map(str::to_owned).collect(), ..self }
    }

    /// Who fits less well than so many hundredths does not do it; 20 where nothing is said.
    #[must_use]
    pub fn at_least(self, hundredths: u8) -> Self {
        Self { at_least: Some(hundredths), ..self }
    }
}

/// Has whichever agent fits best do a task, and does not wait: [`join`] does. Where nobody fits well enough the child fails with
/// `no-candidate`.
///
/// # Errors
/// As those of [`call`] that are refusals; it needs `call:AGENT` for each agent that the need is among, and `call:*` where it names none.
pub fn need(need: Need, input: impl IntoPayload) -> Result<Child, Error> {
    Ok(Child { run: host::coordination::need(need, written(input)?)? })
}

/// People who can be asked: whoever has a key of the tenant with this role, or one that may more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Those with the role `admin` alone.
    Admin,
    /// Authors, and admins.
    Author,
    /// Callers whose run it is, and all above.
    Caller,
}

impl Role {
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "said by the in-memory host"))]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Author => "author",
            Self::Caller => "caller",
        }
    }
}

/// A question to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub(crate) title: String,
    pub(crate) of: Role,
    pub(crate) show: Option<Payload>,
    pub(crate) schema: Option<String>,
    pub(crate) timeout: Option<Duration>,
}

impl Question {
    /// To these people, in a line of at most 200 bytes.
    pub fn to(of: Role, title: impl Into<String>) -> Self {
        Self { title: title.into(), of, show: None, schema: None, timeout: None }
    }

    /// Whoever answers is shown this, of at most 64 KiB.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it cannot be written.
    pub fn shows(self, what: impl IntoPayload) -> Result<Self, Error> {
        Ok(Self { show: Some(written(what)?), ..self })
    }

    /// The answer is `true` or `false`.
    #[must_use]
    pub fn yes_or_no(self) -> Self {
        self.fits(r#"{"type": "boolean"}"#)
    }

    /// The answer fits this JSON Schema. Without one any JSON does.
    #[must_use]
    pub fn fits(self, json_schema: impl Into<String>) -> Self {
        Self { schema: Some(json_schema.into()), ..self }
    }

    /// It can be answered for so long. Without this for as long as this attempt may wait.
    #[must_use]
    pub fn for_at_most(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }
}

/// Puts a question to people, and does not wait: [`join`] does, and gives the answer, as JSON. Where nobody answers in time the child fails
/// with `timed-out`.
///
/// # Errors
/// [`Error::AccessDenied`] without `ask:ROLE`; [`Error::Invalid`] for what no question is; [`Error::QuotaExceeded`] and
/// [`Error::Unavailable`] as [`call`].
pub fn ask(question: Question) -> Result<Child, Error> {
    Ok(Child { run: host::coordination::ask(question)? })
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
    use super::{CallFailure, Need, Question, Role};
    use crate::bindings::host::ltmc::agent::{coordination as wit, types};
    use crate::{Error, Payload};

    pub(crate) fn call(agent: &str, input: Payload) -> Result<Result<Payload, CallFailure>, Error> {
        Ok(ended(wit::call(agent, &payload(input))?))
    }

    pub(crate) fn begin(agent: &str, input: Payload) -> Result<String, Error> {
        Ok(wit::begin(agent, &payload(input))?)
    }

    pub(crate) fn need(need: Need, input: Payload) -> Result<String, Error> {
        let Need { text, among, at_least } = need;
        Ok(wit::need(&wit::Needed { text, among, at_least }, &payload(input))?)
    }

    pub(crate) fn ask(question: Question) -> Result<String, Error> {
        let Question { title, of, show, schema, timeout } = question;
        let of = match of {
            Role::Admin => wit::Role::Admin,
            Role::Author => wit::Role::Author,
            Role::Caller => wit::Role::Caller,
        };
        let timeout_ms = timeout.map(crate::guest::millis);
        Ok(wit::ask(&wit::Question { title, of, show: show.map(payload), schema, timeout_ms })?)
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
