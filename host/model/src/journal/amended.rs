//! What people change in a run.

use serde::{Deserialize, Serialize};

use crate::{Digest, KeyId, Payload, StepPath};

/// What a version of an agent that took over from another one made again of a step before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The step.
    pub step: StepPath,
    /// How many host calls: all up to its last checkpoint.
    pub calls: u32,
}

/// What somebody changed in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// The key that changed it.
    pub by: KeyId,
    /// The step.
    pub step: StepPath,
    /// What of it.
    pub change: Amendment,
    /// Digest of what it had given; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Digest>,
    /// The step, and nodes above it, after which others come in a sequence or a loop: those are done again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StepPath>,
}

impl Amended {
    /// What the step gave by it; none: it is done again.
    pub fn output(self) -> Option<Payload> {
        match self.change {
            Amendment::Output(output) | Amendment::Gave(output) => Some(output),
            Amendment::Input(_) | Amendment::Again => None,
        }
    }
}

/// What was changed about a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amendment {
    /// It is done, and has given this.
    Output(Payload),
    /// The same of what is no step: a question, or what a run of its own does.
    Gave(Payload),
    /// It is done again, on this.
    Input(Payload),
    /// It is done again.
    Again,
}
