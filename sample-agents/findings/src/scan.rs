//! What one agent found in a change.

use serde::{Deserialize, Serialize};

use crate::{Change, Finding};

/// What one agent found in a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scan {
    /// In the order they were found, the worst first.
    pub findings: Vec<Finding>,
    /// How many more there were, beyond what one agent tells.
    #[serde(default)]
    pub omitted: usize,
    /// Why nothing was looked for, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

impl From<Change> for Scan {
    fn from(Change { files: _, findings, omitted }: Change) -> Self {
        Self { findings, omitted, gap: None }
    }
}
