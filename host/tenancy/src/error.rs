//! How a use case fails, in words a client can act on. The doors turn it into their own form.

use std::time::Duration;

use ltmc_ports::{Kind, StoreError};

/// A use case's failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key, or not a good one. It never says which.
    #[error("the key is missing, wrong, expired or revoked")]
    Unauthorized,
    /// The caller may not.
    #[error("{why}")]
    Denied {
        /// What it lacks.
        why: String,
    },
    /// There is no such thing, or it is another tenant's.
    #[error("there is no {what}")]
    NotFound {
        /// Such as "agent `x`".
        what: String,
    },
    /// It is there already, or not as the caller thinks.
    #[error("{message}")]
    Conflict {
        /// Stable, such as `idempotency-key-reused`.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// The request is wrong.
    #[error("{message}")]
    Invalid {
        /// Stable, such as `bad-manifest`.
        code: &'static str,
        /// What was wrong, where, and what would be right.
        message: String,
        /// The field to blame.
        field: Option<String>,
        /// More than one thing wrong: each with its place.
        details: Vec<Detail>,
    },
    /// Too much at once.
    #[error("{message}")]
    Busy {
        /// For people.
        message: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// The record fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of the host's own, for its operator.
    #[error("{message}")]
    Internal {
        /// For the log.
        message: String,
    },
}

/// One of several things wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Detail {
    /// From 1; 0 where it has no place.
    pub line: u32,
    /// From 1; 0 where it has no place.
    pub column: u32,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl Error {
    /// There is no `what`.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// The request is wrong in one field.
    pub fn invalid(code: &'static str, field: impl Into<Option<&'static str>>, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), field: field.into().map(str::to_owned), details: Vec::new() }
    }

    /// Whether a store said that what should be new is there already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(e) if e.kind == Kind::Conflict)
    }
}
