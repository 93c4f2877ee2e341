//! How a host call can fail: the contract's `error`, and what it becomes when an agent passes it on.

use std::fmt;
use std::time::Duration;

use crate::Failure;

/// How a host call can fail. `?` makes it the agent's [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The capability that is missing, such as `memory:write:session`.
    AccessDenied(String),
    /// There is no such thing.
    NotFound,
    /// A position is older than what is kept: read what is there now, and go on from this one.
    Resync(u64),
    /// The precondition does not hold; the revision that is there now, none where there is nothing.
    Conflict(Option<u64>),
    /// Which quota, and its bound.
    QuotaExceeded(String),
    /// What was wrong with the arguments, and what would be right.
    Invalid(String),
    /// The host cannot serve this now.
    Unavailable {
        /// What keeps the host from it, for people.
        message: String,
        /// When to come back.
        retry_after: Duration,
    },
}

impl Error {
    /// The stable name that the contract gives it, such as `access-denied`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AccessDenied(_) => "access-denied",
            Self::NotFound => "not-found",
            Self::Resync(_) => "resync",
            Self::Conflict(_) => "conflict",
            Self::QuotaExceeded(_) => "quota-exceeded",
            Self::Invalid(_) => "invalid",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Unavailable { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessDenied(capability) => {
                write!(
                    f,
                    "the capability `{capability}` is not in force: not granted, or withheld by the tenant's ceiling"
                )
            }
            Self::NotFound => f.write_str("there is no such thing"),
            Self::Resync(position) => {
                write!(
                    f,
                    "what came after that position is kept no more: read what is there, and go on from {position}"
                )
            }
            Self::Conflict(Some(revision)) => write!(f, "the key holds revision {revision} now"),
            Self::Conflict(None) => f.write_str("the key holds nothing now"),
            Self::QuotaExceeded(quota) => write!(f, "a quota is used up: {quota}"),
            Self::Invalid(why) => f.write_str(why),
            Self::Unavailable { message, retry_after } => write!(f, "{message}; try again in {retry_after:?}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Failure::new(error.code(), error.to_string());
        if error.is_retryable() { failure.retryable() } else { failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_keeps_the_code_and_whether_to_retry() {
        fn agent(error: Error) -> Result<(), Failure> {
            Err(error)?
        }
        let denied = agent(Error::AccessDenied("log".to_owned())).unwrap_err();
        assert_eq!((denied.code.as_str(), denied.retryable), ("access-denied", false));
        assert!(denied.message.contains("`log`"));
        assert!(agent(Error::Conflict(Some(3))).unwrap_err().retryable);
        let behind = agent(Error::Resync(7)).unwrap_err();
        assert_eq!((behind.code.as_str(), behind.retryable), ("resync", false));
        assert!(behind.message.contains("from 7"), "{behind}");
    }
}
