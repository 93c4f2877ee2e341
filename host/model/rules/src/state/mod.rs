//! Agents' states, as their manifests declare them: a small machine with data.
//!
//! Invariants: pure and total. What a declaration says is checked whole when it is read ([`Declaration::read`], every fault at once);
//! what a transition makes of a state ([`Declaration::transition`]) depends on nothing but the two. Of several transitions that an event
//! may take exactly one must hold: none is preferred. A JSON Schema is judged by whoever has a judge, after all of this.
//!
//! - `read`: from JSON to a declaration; `check`: what is wrong with it as a whole; `machine`: what events make of a state; `later`: events
//!   that come too early, and are given again

use std::collections::BTreeMap;

use serde_json::Value;

use crate::condition::Condition;

mod check;
mod later;
mod machine;
mod pick;
mod read;

pub use later::Deferred;
pub use machine::{Asked, Came, Current, Refused, Rule, patch};
pub use pick::{Pick, Source};

/// Bytes of a state's data, as JSON, and of a patch.
pub const MAX_DATA: usize = 64 << 10;
/// States of a declaration.
pub const MAX_STATES: usize = 64;
/// Transitions of a declaration.
pub const MAX_TRANSITIONS: usize = 256;
/// Invariants of a declaration.
pub const MAX_INVARIANTS: usize = 64;
/// Events that are deferred at once.
pub const MAX_DEFERRED: usize = 32;
/// Bytes of the name of a state or an event.
pub const MAX_NAME: usize = 64;
/// The shortest and the longest time that a state lasts at most, in milliseconds: a second, a year.
pub const TIMEOUTS: (u64, u64) = (1_000, 366 * 24 * 60 * 60 * 1_000);

/// Which states an agent may be in, and how it gets from one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Which version of it: a state of an older one is migrated.
    pub version: u32,
    /// Where it begins.
    pub initial: String,
    /// The data that it begins with: an object.
    pub data: Value,
    /// What has a state of its own.
    pub per: Per,
    /// What the data is judged by.
    pub schema: Option<Value>,
    /// The states, by name.
    pub states: BTreeMap<String, Lasts>,
    /// How they follow one another.
    pub transitions: Vec<Transition>,
    /// What holds of the data in every state.
    pub invariants: Vec<Condition<Pick>>,
    /// What becomes of an event that the state has no transition for.
    pub unhandled: Unhandled,
    /// How a state of the version before becomes one of this.
    pub migrate: Option<Migrate>,
}

/// What has a state of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Per {
    /// The agent, by its name: one for all its calls and versions.
    #[default]
    Agent,
    /// Each session in which the agent works.
    Session,
}

/// How long a state lasts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lasts {
    /// After how many milliseconds it ends by itself, and what comes then.
    pub timeout: Option<(u64, String)>,
    /// What is published when it ends by itself.
    pub emits: Option<Emits>,
    /// Whether nothing comes after it.
    pub is_final: bool,
}

/// An event that is published to a topic when a state ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emits {
    /// The topic's name.
    pub topic: String,
    /// The event's type.
    pub kind: String,
}

/// From one state to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The name of the state that it leaves.
    pub from: String,
    /// The name of the state that it leads to.
    pub to: String,
    /// The event that takes it.
    pub on: String,
    /// Only where this holds of the data before it, and of what came with the event; none: where no other of the same event does.
    pub when: Option<Condition<Pick>>,
}

/// What becomes of an event that the state has no transition for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unhandled {
    /// It is refused.
    #[default]
    Reject,
    /// Nothing: the state stays as it is.
    Ignore,
    /// It is kept, and given again after the next transition.
    Defer,
}

/// How a state of the version before becomes one of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrate {
    /// The version before.
    pub from: u32,
    /// The agent that makes it: it is given `{state, data}` and gives the same.
    pub agent: String,
}

/// Whether this can name a state, or an event.
pub fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests;
