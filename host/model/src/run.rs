//! Runs, as lists show them: a projection of the journal.

use serde::{Deserialize, Serialize};

use crate::agent::AgentRef;
use crate::{Epoch, KeyId, RunId, Seq, SessionId, TenantId, Timestamp, WorkflowName};

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A lone call.
    Agent(AgentRef),
    /// A workflow.
    Workflow(WorkflowName),
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Recorded, not begun.
    Queued,
    /// At work.
    Running,
    /// Between two attempts.
    Waiting,
    /// Done.
    Completed,
    /// Over, badly.
    Failed,
    /// Ended by somebody.
    Cancelled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Waiting, Self::Completed, Self::Failed, Self::Cancelled];

    /// Whether nothing more happens unless somebody resumes it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A run's row: what lists are made of, and what fences its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: RunId,
    /// What runs.
    pub target: Target,
    /// Where it stands.
    pub state: State,
    /// The session it works in.
    pub session: SessionId,
    /// Whose key started it.
    pub by: KeyId,
    /// When it began.
    pub created_at: Timestamp,
    /// When its journal last grew.
    pub updated_at: Timestamp,
    /// Its owner's epoch.
    pub epoch: Epoch,
    /// How many entries its journal has.
    pub seq: Seq,
    /// When it goes on, where it is suspended: nothing of it is in any host's memory until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakes_at: Option<Timestamp>,
}

/// What an attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Wall time, in microseconds.
    pub wall_us: u64,
    /// The largest linear memory, in bytes.
    pub memory: u64,
    /// Host calls.
    pub calls: u32,
}
