//! What a run asks people.

use std::time::Duration;

use serde_json::Value;

use super::{Place, Template};
use crate::caller::Role;
use crate::message::Topic;

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// In a line.
    pub title: String,
    /// The smallest role that may answer.
    pub of: Role,
    /// What whoever answers is shown.
    pub show: Option<Template>,
    /// What an answer has to fit, and where that stands in the source; none: any JSON does.
    pub schema: Option<(Value, Place)>,
    /// How people are reminded of it; none: they are not.
    pub remind: Option<Remind>,
}

/// How people are reminded of a question that is open: by events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remind {
    /// The time between two reminders.
    pub every: Duration,
    /// The topic that the events are published on.
    pub topic: Topic,
}

impl Remind {
    /// The shortest time between two.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest.
    pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    /// The type of the event.
    pub const KIND: &'static str = "approval.waiting";
    /// So many are due of a question at most.
    pub const MOST: u32 = 100;
}

impl Ask {
    /// What conflicts of branches are put to people with; what is asked is said of each.
    pub fn of_conflicts(of: Role, remind: Option<Remind>) -> Self {
        Self { title: "Which value?".into(), of, show: None, schema: None, remind }
    }

    /// Roles that answer questions, by their words.
    pub const ROLES: [(&'static str, Role); 3] =
        [("admin", Role::Admin), ("author", Role::Author), ("caller", Role::Caller)];
}
