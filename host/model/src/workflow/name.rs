//! Names of steps.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ltmc_rules::Name;

use crate::ids::InvalidId;

/// A step's name within its document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepName(Arc<str>);

impl StepName {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StepName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if (Name::AGENT.fits)(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::new(text, "a step's name", Name::AGENT.rule))
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
