//! The agent's own state, as its manifest declares it: a small machine with data. Needs the capability `state`.
//!
//! ```
//! use ltmc::serde_json::json;
//! use ltmc::state::{self, Current};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! enum Phase {
//!     Idle,
//!     Working,
//! }
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Job {
//!     total: u32,
//! }
//!
//! let host = ltmc::testing::Host::new().grant("state").states(json!({
//!     "version": 1, "initial": "idle", "data": {"total": 0},
//!     "states": {"idle": {}, "working": {}},
//!     "transitions": [{"from": "idle", "to": "working", "on": "start"}, {"from": "working", "to": "idle", "on": "finish"}],
//! }));
//! host.within(|| {
//!     let now: Current<Phase, Job> = state::transition("start", &json!({"total": 3}))?;
//!     assert_eq!((now.state, now.data), (Phase::Working, Job { total: 3 }));
//!     let refused = state::transition::<Phase, Job>("start", &json!({})).unwrap_err();
//!     assert_eq!(refused.rule(), Some("no-transition"));
//!     Ok::<_, ltmc::Failure>(())
//! })?;
//! # Ok::<_, ltmc::Failure>(())
//! ```

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Failure, host};

/// Where the agent stands. `S` reads the state's name, such as an enum, `D` its data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Current<S = String, D = Value> {
    /// One of the declared states.
    pub state: S,
    /// What is known in it.
    pub data: D,
    /// 0: it was never changed.
    pub revision: u64,
    /// The declaration's version.
    pub version: u32,
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// By which rule: `no-transition`, `guard`, `schema`, `invariant`, `revision`, `final`, `size`, `deferred`, `version` or
    /// `quarantined`.
    pub rule: String,
    /// For people: what was wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by the rule `{}`: {}", self.rule, self.message)
    }
}

/// Why a state is not told, or not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateError {
    /// By a rule of the declaration.
    Refused(Refusal),
    /// The host call failed.
    Failed(Error),
}

impl StateError {
    /// The rule by which it was refused, if it was.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.rule),
            Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StateError {}

impl From<Error> for StateError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The failure's code is `state-` and the rule's name, or the error's.
impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Refused(refusal) => Self::new(format!("state-{}", refusal.rule), refusal.message),
            StateError::Failed(error) => error.into(),
        }
    }
}

/// Where the agent stands, with what time made of it by now.
///
/// # Errors
/// [`Error::AccessDenied`] without `state`; [`Error::Invalid`] where its manifest declares no states, or the state reads neither as `S` nor
/// its data as `D`; a [`Refusal`] where it is quarantined, or of a newer version.
pub fn get<S: DeserializeOwned, D: DeserializeOwned>() -> Result<Current<S, D>, StateError> {
    read(host::state::get()?.map_err(StateError::Refused)?)
}

/// Something happened: the state that comes next. `patch` is a JSON merge patch of the data, `json!({})` where nothing changes.
///
/// # Errors
/// As [`get`]; a [`Refusal`] that names the rule where the declaration does not allow it.
pub fn transition<S: DeserializeOwned, D: DeserializeOwned>(
    event: &str,
    patch: &impl Serialize,
) -> Result<Current<S, D>, StateError> {
    moved(event, patch, None)
}

/// The same, only where the state is at this revision.
///
/// # Errors
/// As [`transition`]; by the rule `revision` where it is at another.
pub fn transition_at<S: DeserializeOwned, D: DeserializeOwned>(
    revision: u64,
    event: &str,
    patch: &impl Serialize,
) -> Result<Current<S, D>, StateError> {
    moved(event, patch, Some(revision))
}

fn moved<S: DeserializeOwned, D: DeserializeOwned>(
    event: &str,
    patch: &impl Serialize,
    expected: Option<u64>,
) -> Result<Current<S, D>, StateError> {
    let patch = serde_json::to_string(patch).map_err(|e| Error::Invalid(format!("the patch is none for JSON: {e}")))?;
    read(host::state::transition(event, &patch, expected)?.map_err(StateError::Refused)?)
}

/// As the host tells it: the data as JSON.
pub(crate) type Told = Result<Current<String, String>, Refusal>;

fn read<S: DeserializeOwned, D: DeserializeOwned>(told: Current<String, String>) -> Result<Current<S, D>, StateError> {
    let Current { state, data, revision, version } = told;
    let wrong = |what: &str, e: serde_json::Error| Error::Invalid(format!("{what} does not read as expected: {e}"));
    let name =
        serde_json::from_value(Value::String(state.clone())).map_err(|e| wrong(&format!("state `{state}`"), e))?;
    let data = serde_json::from_str(&data).map_err(|e| wrong("the state's data", e))?;
    Ok(Current { state: name, data, revision, version })
}

/// Over the host's imports: conversions and nothing else. `testing/state.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use super::{Current, Refusal, Told};
    use crate::Error;
    use crate::bindings::host::ltmc::agent::state as wit;

    pub(crate) fn get() -> Result<Told, Error> {
        Ok(told(wit::get()?))
    }

    pub(crate) fn transition(event: &str, patch: &str, expected: Option<u64>) -> Result<Told, Error> {
        Ok(told(wit::transition(event, patch, expected)?))
    }

    fn told(told: Result<wit::Current, wit::Refusal>) -> Told {
        match told {
            Ok(wit::Current { state, data, revision, version }) => Ok(Current { state, data, revision, version }),
            Err(wit::Refusal { rule, message }) => Err(Refusal { rule, message }),
        }
    }
}
