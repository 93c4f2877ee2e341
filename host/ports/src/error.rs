//! How a store fails: kind, retryability, operation, source.

use std::fmt;

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The journal does not end where the writer thinks, or a row is there already.
    Conflict,
    /// What a change was decided on is not so any more: decide anew from what the record holds now.
    Stale,
    /// The run has another owner now.
    Fenced,
    /// The run was a turn of a session, and another one is at work there now: nothing that it does comes true any more.
    Displaced,
    /// What was read is not what was written.
    Corrupt,
    /// No room left: the disk is full.
    Full,
    /// The tenant has all that it may have on disk; the source says how much.
    OverQuota,
    /// A read looks at more than is done for one; the source says what would help.
    TooCostly,
    /// The store does not answer.
    Unavailable,
    /// A fault of the adapter's own.
    Internal,
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It would end the same.
    Never,
    /// It may pass.
    Later,
}

/// A store's failure. Display names kind and operation; the source has the rest.
#[derive(Debug)]
pub struct StoreError {
    /// The kind of failure, by which callers decide what to do.
    pub kind: Kind,
    /// Whether to try again.
    pub retry: Retry,
    /// Which operation, such as `journal.append`.
    pub op: &'static str,
    /// What lies behind it: the adapter's own error, or what would help.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A failure of `kind` in `op`, without a source.
    pub fn new(kind: Kind, op: &'static str) -> Self {
        let retry = match kind {
            Kind::Full | Kind::Unavailable => Retry::Later,
            Kind::Conflict
            | Kind::Stale
            | Kind::Fenced
            | Kind::Displaced
            | Kind::OverQuota
            | Kind::TooCostly
            | Kind::Corrupt
            | Kind::Internal => Retry::Never,
        };
        Self { kind, retry, op, source: None }
    }

    /// Why, in words for an operator: the cause where there is one.
    pub fn reason(&self) -> String {
        self.source.as_ref().map_or_else(|| self.to_string(), ToString::to_string)
    }

    /// The same, with what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Conflict => "somebody else wrote first",
            Kind::Stale => "what it was decided on has changed",
            Kind::Fenced => "the run has another owner",
            Kind::Displaced => "the run is not the turn at work in its session",
            Kind::Corrupt => "the record is damaged",
            Kind::Full => "the record has no room left",
            Kind::OverQuota => "the tenant has all that it may have on disk",
            Kind::TooCostly => "the read looks at too much",
            Kind::Unavailable => "the store does not answer",
            Kind::Internal => "a fault in the store",
        };
        write!(f, "{}: {what}", self.op)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
