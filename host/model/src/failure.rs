//! How a run or a step ends badly.

use serde::{Deserialize, Serialize};

use crate::StepPath;

/// The stable code of an ending; each has a page in docs/errors.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The agent itself said that it could not: its own code is inside.
    AgentError,
    /// The agent broke: a panic, an abort, a breach of the contract.
    AgentTrapped,
    /// Out of CPU time.
    LimitCpu,
    /// Out of wall time.
    LimitWall,
    /// Out of memory or of table space.
    LimitMemory,
    /// The result, or what stood on standard output, was too large.
    LimitOutput,
    /// Too many handles, or more than the host copies for one guest.
    LimitResources,
    /// No room within the queue's deadline.
    Busy,
    /// A step's result was judged wrong.
    ValidationFailed,
    /// A step's input could not be built, or an agent cannot be used as the document says.
    BadStep,
    /// The agent or its component is not there any more.
    AgentMissing,
    /// On resume the agent asked for something else than the journal holds.
    ReplayMismatch,
    /// Another owner took the run, or the record lost the thread: the run goes on from the record.
    Fenced,
    /// What it had decided on was changed by others before it could be made true, again and again.
    Conflict,
    /// Branches with a context of their own did not go together.
    MergeConflict,
    /// Somebody cancelled it.
    Cancelled,
    /// A node of a workflow took longer than it may.
    TimedOut,
    /// No agent fits what a step needs.
    NoCandidate,
    /// What a planner gave is no document that may be done.
    BadPlan,
    /// People did not approve of a plan.
    NotApproved,
    /// Branches voted, and no value has won.
    NoMajority,
    /// A loop made all its rounds, and what it works towards is not there.
    LoopExhausted,
    /// A loop gave the same again and again.
    LoopStalled,
    /// The host died of taking the run up, again and again: it is set aside until somebody resumes it.
    Quarantined,
    /// It waits for people: somebody paused it, or something of it failed that is to wait for them.
    Paused,
    /// What undoes its work has failed: it waits for people.
    Stuck,
    /// A store did not answer; the run can be resumed.
    Unavailable,
    /// The record has no room left.
    StorageFull,
    /// The tenant has all that it may have on disk.
    DiskQuotaExceeded,
    /// A bound of what the tenant's runs may have together is reached.
    QuotaExceeded,
    /// A fault of the host's own.
    Internal,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::AgentError,
        Self::AgentTrapped,
        Self::LimitCpu,
        Self::LimitWall,
        Self::LimitMemory,
        Self::LimitOutput,
        Self::LimitResources,
        Self::Busy,
        Self::ValidationFailed,
        Self::BadStep,
        Self::AgentMissing,
        Self::ReplayMismatch,
        Self::Fenced,
        Self::Conflict,
        Self::MergeConflict,
        Self::Cancelled,
        Self::TimedOut,
        Self::NoCandidate,
        Self::BadPlan,
        Self::NotApproved,
        Self::NoMajority,
        Self::LoopExhausted,
        Self::LoopStalled,
        Self::Quarantined,
        Self::Paused,
        Self::Stuck,
        Self::Unavailable,
        Self::StorageFull,
        Self::DiskQuotaExceeded,
        Self::QuotaExceeded,
        Self::Internal,
    ];

    /// As clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentError => "agent-error",
            Self::AgentTrapped => "agent-trapped",
            Self::LimitCpu => "limit-cpu",
            Self::LimitWall => "limit-wall",
            Self::LimitMemory => "limit-memory",
            Self::LimitOutput => "limit-output",
            Self::LimitResources => "limit-resources",
            Self::Busy => "busy",
            Self::ValidationFailed => "validation-failed",
            Self::BadStep => "bad-step",
            Self::AgentMissing => "agent-missing",
            Self::ReplayMismatch => "replay-mismatch",
            Self::Fenced => "fenced",
            Self::Conflict => "conflict",
            Self::MergeConflict => "merge-conflict",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::NoCandidate => "no-candidate",
            Self::BadPlan => "bad-plan",
            Self::NotApproved => "not-approved",
            Self::NoMajority => "no-majority",
            Self::LoopExhausted => "loop-exhausted",
            Self::LoopStalled => "loop-stalled",
            Self::Quarantined => "quarantined",
            Self::Paused => "paused",
            Self::Stuck => "stuck",
            Self::Unavailable => "unavailable",
            Self::StorageFull => "storage-full",
            Self::DiskQuotaExceeded => "disk-quota-exceeded",
            Self::QuotaExceeded => "quota-exceeded",
            Self::Internal => "internal",
        }
    }
}

/// One bad ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Failure {
    /// The kind of failure, as clients and workflow documents name it.
    pub code: Code,
    /// For people: what was wrong, where, and what would be right.
    pub message: String,
    /// The agent's own code, with [`Code::AgentError`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_code: Option<String>,
    /// The step it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepPath>,
    /// Where in the result, as JSON Pointer, with [`Code::ValidationFailed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Whether the same input may do better later.
    #[serde(default)]
    pub retryable: bool,
}

impl Failure {
    /// One that the same input would meet again.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), agent_code: None, step: None, at: None, retryable: false }
    }

    /// One that may pass.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Whether another try makes sense where nothing else is said.
    pub fn may_pass(&self) -> bool {
        match self.code {
            Code::AgentError => self.retryable,
            Code::AgentTrapped
            | Code::LimitCpu
            | Code::LimitWall
            | Code::LimitMemory
            | Code::LimitOutput
            | Code::LimitResources
            | Code::Busy
            | Code::TimedOut
            | Code::Unavailable
            | Code::StorageFull
            | Code::Internal => true,
            Code::ValidationFailed
            | Code::BadStep
            | Code::AgentMissing
            | Code::ReplayMismatch
            | Code::DiskQuotaExceeded
            | Code::QuotaExceeded
            | Code::Conflict
            | Code::MergeConflict
            | Code::Fenced
            | Code::Cancelled
            | Code::NoCandidate
            | Code::BadPlan
            | Code::NotApproved
            | Code::NoMajority
            | Code::LoopExhausted
            | Code::LoopStalled
            | Code::Quarantined
            | Code::Paused
            | Code::Stuck => false,
        }
    }

    /// The same, in this step.
    #[must_use]
    pub fn in_step(mut self, step: &StepPath) -> Self {
        self.step.get_or_insert_with(|| step.clone());
        self
    }
}
