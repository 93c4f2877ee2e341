//! A step, as people look at it.

use ltmc_model::agent::AgentRef;
use ltmc_model::failure::Failure;
use ltmc_model::run::Usage;
use ltmc_model::workflow::Node;
use ltmc_model::{KeyId, StepPath, Timestamp};
use serde::Serialize;

use super::outline::{Outline, Size};
use crate::fold::{Status, Step};
use crate::standing::Stands;

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// Its place in the tree of patterns.
    pub path: StepPath,
    /// What others call it.
    pub name: String,
    /// Who does it; none: an agent is still to be found for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRef>,
    /// What it is for.
    pub role: Role,
    /// `pending`, `running`, `waiting`, `paused`, `completed`, `failed`, `cancelled` or `skipped`.
    pub status: &'static str,
    /// When the next attempt is due, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Every try of it, in order.
    pub attempts: Vec<AttemptView>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Size>,
    /// What people changed of it, and is so still.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<ChangeView>,
}

impl StepView {
    pub(super) fn new(
        path: StepPath,
        name: String,
        agent: Option<AgentRef>,
        role: Role,
        stands: Stands,
        outline: &Outline,
    ) -> Self {
        let step = outline.history.step(&path);
        let due_at = match step.map(|step| step.status) {
            Some(Status::Waiting(due)) if stands == Stands::Waiting => Some(due),
            _ => None,
        };
        let attempts = step.map(attempts).unwrap_or_default();
        let output = step.and_then(|step| step.output.as_ref()).map(|output| outline.size(&path, output));
        let role = if Node::is_undoing(&path, &StepPath::root()) { Role::Compensation } else { role };
        let changed = outline.changes(&path, step);
        Self { path, name, agent, role, status: stands.as_str(), due_at, attempts, output, changed }
    }
}

/// What somebody changed of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeView {
    /// What it gives, or what it works on.
    pub what: What,
    /// The key that changed it.
    pub by: KeyId,
    /// When it was changed.
    pub at: Timestamp,
}

/// What of a step is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// What it works on.
    Input,
    /// What it gives.
    Output,
}

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It does a part of the work.
    Work,
    /// It judges the output of the step before it in the list.
    Validator,
    /// It undoes what was done.
    Compensation,
}

/// One try of a step.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptView {
    /// From 1 on.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Its host calls in the journal.
    pub effects: u32,
    /// Its log lines.
    pub logs: u32,
}

fn attempts(step: &Step) -> Vec<AttemptView> {
    let view = |attempt: &crate::fold::Attempt| AttemptView {
        number: attempt.number,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        failure: attempt.failure.clone(),
        usage: attempt.usage,
        effects: attempt.effects,
        logs: attempt.logs,
    };
    step.attempts.iter().map(view).collect()
}
