//! Runs, as lists show them: a projection of the journal.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::AgentRef;
use crate::{Epoch, KeyId, RunId, Seq, SessionId, TenantId, Timestamp, WorkflowName};

/// What a run is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A lone call.
    Agent(AgentRef),
    /// A workflow.
    Workflow(WorkflowName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => agent.fmt(f),
            Self::Workflow(workflow) => write!(f, "workflow {workflow}"),
        }
    }
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
    /// Over, well: it has a result.
    Completed,
    /// Over, badly.
    Failed,
    /// Ended by somebody.
    Cancelled,
    /// Set aside: the host died of taking it up, again and again. Somebody resumes or cancels it.
    Quarantined,
    /// It waits for people: somebody paused it, or something of it failed that is to wait for them. Somebody goes on with it or
    /// cancels it.
    Paused,
    /// What undoes its work has failed: somebody resumes it, so that it is tried again, or cancels it.
    Stuck,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Quarantined,
        Self::Paused,
        Self::Stuck,
    ];

    /// Whether nothing more happens unless somebody resumes it.
    pub fn is_over(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Waiting => false,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Quarantined | Self::Paused | Self::Stuck => true,
        }
    }

    /// Whether it came to an end: it is over, and waits for nobody.
    pub fn is_final(self) -> bool {
        self.is_over() && !self.is_set_aside()
    }

    /// Whether it waits for people, who go on with it or cancel it.
    pub fn is_set_aside(self) -> bool {
        matches!(self, Self::Quarantined | Self::Paused | Self::Stuck)
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
            Self::Quarantined => "quarantined",
            Self::Paused => "paused",
            Self::Stuck => "stuck",
        }
    }
}

/// A run's row: what lists are made of, and what fences its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// The run's id.
    pub id: RunId,
    /// The agent or the workflow that it is a run of.
    pub target: Target,
    /// The run that began it; none: a client did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Where it stands.
    pub state: State,
    /// The session it works in.
    pub session: SessionId,
    /// Which turn of that it is; none: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
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
    /// How it was last taken up from the record, while it has not got on since.
    #[serde(default, skip_serializing_if = "TakenUp::is_none")]
    pub taken_up: TakenUp,
}

/// How a run was taken up from the record since it last got on: counted before anything of it is read, so that of a run which
/// ends the process the next one knows. It got on once a step of it is done or a checkpoint is reached, and where it is over or
/// suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TakenUp {
    /// How many times it was taken up.
    pub times: u32,
    /// Whether it is on trial, and how far it came.
    pub trial: Trial,
}

/// A suspect is taken up with no other suspect beside it: if the host dies meanwhile, it is known of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trial {
    /// It is not on trial: it was taken up among others, or was given the time it had.
    #[default]
    None,
    /// It was taken up alone, and the host was at work on it.
    Alone,
    /// It was taken up alone, and at work is what is bounded apart from the host: its guest in the sandbox, or who judges its output
    /// in a process of its own.
    Bounded,
}

impl TakenUp {
    /// How often the host has to have died of it before it is set aside.
    const DEATHS: u32 = 2;
    /// The same, where it was at work on it alone, and bounded.
    const DEATHS_BOUNDED: u32 = 5;

    /// Whether it got on, or was never taken up.
    pub fn is_none(&self) -> bool {
        self.times == 0
    }

    /// Whether the host may have died of it.
    pub fn is_suspect(self) -> bool {
        self.times > 0
    }

    /// Whether the host died of it twice: among others, and then alone. Where at work was what is bounded, more often: the host
    /// was rather killed from outside.
    pub fn is_guilty(self) -> bool {
        match self.trial {
            Trial::None => false,
            Trial::Alone => self.times >= Self::DEATHS,
            Trial::Bounded => self.times >= Self::DEATHS_BOUNDED,
        }
    }
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

/// Whether this is the `traceparent` of a trace that goes on here: version 00 of W3C Trace Context, with ids that are not all zeros.
pub fn is_traceparent(text: &[u8]) -> bool {
    let hex = |bytes: &[u8]| bytes.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let some = |bytes: &[u8]| hex(bytes) && bytes.iter().any(|b| *b != b'0');
    text.len() == 55
        && text[2] == b'-'
        && text[35] == b'-'
        && text[52] == b'-'
        && &text[..2] == b"00"
        && some(&text[3..35])
        && some(&text[36..52])
        && hex(&text[53..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_guilty_of_what_happened_beside_others() {
        let guilty = |times, trial| TakenUp { times, trial }.is_guilty();
        for times in 0..100 {
            assert!(!guilty(times, Trial::None), "{times} times, and never on trial");
            assert_eq!(guilty(times, Trial::Alone), times >= 2, "{times} times");
            assert_eq!(guilty(times, Trial::Bounded), times >= 5, "{times} times");
        }
    }
}
