//! What a run waits for besides its own steps: a time, or an event.

use std::time::Duration;

use super::{Condition, Pick, Template};
use crate::Timestamp;
use crate::message::Topic;

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wait {
    /// So long, from when the node begins.
    For(Duration),
    /// Until then.
    Until(Moment),
    /// For an event.
    Event(Box<Listen>),
}

/// A point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// As the document says it.
    At(Timestamp),
    /// As a text that is picked says it.
    Picked(Pick),
}

/// Which event of a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// The topic that is listened to.
    pub topic: Topic,
    /// Of this subject; none: of any.
    pub subject: Option<Template>,
    /// Of this type; none: of any.
    pub kind: Option<String>,
    /// For which this holds.
    pub filter: Option<Condition>,
    /// From when on events of the topic count.
    pub since: Since,
}

/// From when on events are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// From when the node begins.
    Now,
    /// From when its run began.
    Run,
}

impl Wait {
    /// The longest: a year. An end is not further away than this either way.
    pub const LONGEST: Duration = super::Node::MAX_TIMEOUT;
}
