//! What a run waits for besides its own steps: a time.

use std::time::Duration;

use super::Pick;
use crate::Timestamp;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// So long, from when the node begins.
    For(Duration),
    /// Until then.
    Until(Moment),
}

/// A point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// As the document says it.
    At(Timestamp),
    /// As a text that is picked says it.
    Picked(Pick),
}

impl Wait {
    /// The longest: a year. An end is not further away than this either way.
    pub const LONGEST: Duration = super::Node::MAX_TIMEOUT;
}
