//! What a run publishes.

use super::Template;
use crate::message::Topic;

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Emit {
    /// The topic that it is published on.
    pub topic: Topic,
    /// The event's type: what happened.
    pub kind: String,
    /// What it is about: a text.
    pub subject: Option<Template>,
    /// Its content; none: what the node works on.
    pub data: Option<Template>,
}
