//! Runs that runs begin: an agent calls another one, a workflow starts another one.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::run::Target;
use crate::{Payload, RunId, StepPath};

pub use ltmc_rules::coordination::{
    MAX_ABOVE, MAX_CHILDREN, MAX_JOINED, MAX_JOINED_BYTES, check_input, check_joined, check_need, check_question,
    too_deep, too_large, too_many,
};

/// Where a run comes from that another one began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run that began it.
    pub run: RunId,
    /// Which step of it, or which other node.
    pub step: StepPath,
    /// Which attempt of the step; 0: it is a node that is no step.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Which host call of the attempt, from 1 on; 0: the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub effect: u32,
    /// What runs above it, from the first down to its parent.
    pub chain: Vec<Target>,
    /// What becomes of it once its parent is over.
    #[serde(default, skip_serializing_if = "OnParentEnd::is_cancel")]
    pub on_end: OnParentEnd,
}

/// What becomes of a child that is not over when its parent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnParentEnd {
    /// It is cancelled.
    #[default]
    Cancel,
    /// It goes on to its own end.
    Abandon,
}

impl OnParentEnd {
    /// Whether it is cancelled.
    pub fn is_cancel(&self) -> bool {
        *self == Self::Cancel
    }
}

/// A child that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The run's id.
    pub run: RunId,
    /// What it gave, or how it ended badly.
    pub result: Result<Payload, Failure>,
}

impl Ended {
    /// About how many bytes it holds.
    pub fn size(&self) -> usize {
        64 + match &self.result {
            Ok(output) => output.content_type.len() + output.bytes.len(),
            Err(failure) => failure.message.len(),
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
