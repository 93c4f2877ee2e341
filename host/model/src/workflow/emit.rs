//! What a run publishes.

use super::Template;
use crate::message::Topic;

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Emit {
    /// Where to.
    pub topic: Topic,
    /// What happened.
    pub kind: String,
    /// What it is about: a text.
    pub subject: Option<Template>,
    /// Its content; none: what the node works on.
    pub data: Option<Template>,
}
