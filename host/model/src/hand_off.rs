//! Hand-off: at every moment one agent holds a conversation, and it, or a person, hands it to another one.
//!
//! Invariant: a hand-off is the last thing that an attempt does, and is true in the commit that says that the attempt ended well. So there is
//! never a second holder, and what failed has handed nothing on.

pub use ltmc_rules::hand_off::{FENCED, Guards, Refused, check_passed, check_reason, check_summary, only};
use serde::{Deserialize, Serialize};

use crate::{AgentName, Payload, RunId, StepPath, Timestamp};

/// How many of those that a conversation came from are known: of more, the first are forgotten.
pub const MAX_GIVERS: usize = 16;

/// A conversation went from one agent to another, in a node of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOff {
    /// The node in which it goes.
    pub node: StepPath,
    /// Who held it.
    pub from: AgentName,
    /// Who holds it from here on.
    pub to: AgentName,
    /// Its number among those that may hold it, from 0 on.
    pub number: u32,
    /// Why, as who handed it on said.
    pub reason: String,
    /// What passed besides the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Payload>,
    /// Whom the one who holds it now has it from, and whom that one had it from: the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub givers: Vec<AgentName>,
    /// Whether it went back to who had given it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// How an agent came to hold a conversation, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Who held it before.
    pub from: AgentName,
    /// Why it was handed on.
    pub reason: String,
    /// What passed besides the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Payload>,
}

impl Handed {
    /// About how many bytes it holds.
    pub fn size(&self) -> usize {
        self.reason.len() + self.passed.as_ref().map_or(0, |passed| passed.bytes.len()) + 64
    }
}

/// Who holds a session's conversation between its turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The agent that holds it.
    pub agent: AgentName,
    /// Whom it came from, and whom that one had it from: the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub givers: Vec<AgentName>,
    /// In which turn it came to this one; the turn after those there were, where a person handed it on.
    pub since: u32,
    /// The run whose journal says what passed; none: a person handed it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// When it came to this one.
    #[serde(default)]
    pub at: Timestamp,
}

/// Whom a conversation came from, after it was handed on.
pub fn givers(mut before: Vec<AgentName>, from: &AgentName, is_back: bool) -> Vec<AgentName> {
    match is_back {
        true => drop(before.pop()),
        false => {
            before.push(from.clone());
            let more = before.len().saturating_sub(MAX_GIVERS);
            before.drain(..more);
        }
    }
    before
}

/// How a conversation stands in a node of a run when its first holder begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Who holds it: its number among those that may.
    pub number: u32,
    /// Whom it came from, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub givers: Vec<AgentName>,
    /// In which turn of the session it came to this one; 0: it began with it.
    #[serde(default)]
    pub since: u32,
    /// How it came to it; none: it began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed: Option<Box<Handed>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_back_is_no_givers_any_more() {
        let name = |name: &str| name.parse::<AgentName>().unwrap();
        let there = givers(givers(Vec::new(), &name("a"), false), &name("b"), false);
        assert_eq!(there, [name("a"), name("b")]);
        assert_eq!(givers(there, &name("c"), true), [name("a")]);
        let many = (0..40).fold(Vec::new(), |before, number| givers(before, &name(&format!("a{number}")), false));
        assert_eq!((many.len(), many.last().unwrap().as_str()), (MAX_GIVERS, "a39"));
    }
}
