//! What a run asks people.

use serde_json::Value;

use super::{Place, Template};
use crate::caller::Role;

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
}

impl Ask {
    /// Roles that answer questions, by their words.
    pub const ROLES: [(&'static str, Role); 3] =
        [("admin", Role::Admin), ("author", Role::Author), ("caller", Role::Caller)];
}
