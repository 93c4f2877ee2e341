//! Forks: what branches did to keys of their own, and what comes of it together.
//!
//! Invariants: pure and total. What was done to a key is kept as operations, so that what commutes is done anew to what is there.
//! What comes of a key depends on its base, on what it holds now and on what each branch did, in the order of the branches; who was
//! faster counts only where a policy says so, and then by the journal.
//!
//! Who keeps it while branches are under way is `ltmc_journal::forked`; who brings them together, `ltmc_context::merge`.
//!
//! - `did`: operations on a key, one after the other
//! - `join`: what the branches' operations come to, or that they conflict
//! - `policy`: what is taken where they conflict
//! - `settle`: a conflict that an agent or people settle

mod did;
mod join;
mod policy;
mod settle;
mod touched;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use did::Did;
pub use join::{Outcome, Why, join};
pub use policy::{Policies, Policy};
pub use settle::{Raised, Said};

use crate::delta::MemoryValue;
use crate::memory::Item;
use crate::message::Message;
use crate::{Revision, StepPath};

/// Bytes that a run's forks hold at most: what their branches looked at and changed, until they come together.
pub const MAX_BYTES: u64 = 64 << 20;

/// A branch of a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The node that forks.
    pub fork: StepPath,
    /// Which of its branches.
    pub number: u32,
}

/// A branch of a fork that a step is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// The branch.
    pub of: Branch,
    /// Whether memory of the session is the branch's own.
    pub session: bool,
    /// Whether messages are held until the branches come together.
    pub messages: bool,
    /// Whether it is no branch, but where a conflict of the branches is settled: nothing of the session's memory is changed there.
    pub settles: bool,
}

impl Level {
    /// The innermost of these branches that holds what is sent in it; none: it is sent at once.
    pub fn holds_messages(levels: &[Self]) -> Option<&Branch> {
        levels.iter().rev().find(|level| level.messages).map(|level| &level.of)
    }

    /// Whether who stands in these branches has memory of the session to itself.
    pub fn has_session(levels: &[Self]) -> bool {
        levels.iter().any(|level| level.session)
    }
}

/// What one branch did to a key, and what the key holds to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What was done.
    pub did: Did,
    /// Of the last change.
    pub revision: Revision,
    /// What the key holds; none: nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<MemoryValue>,
}

/// What one branch did to a key, and which of its steps did so last.
#[derive(Debug, Clone, Copy)]
pub struct SideOf<'a> {
    /// The branch.
    pub branch: u32,
    /// The step; of what a fork within the branch did, that.
    pub step: &'a StepPath,
    /// What it did.
    pub side: &'a Side,
}

impl Side {
    /// What a branch did, and then another change of its.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { did: self.did.then(next.did), ..next }
    }

    /// What the key holds to the branch.
    pub fn item(&self, key: &str) -> Option<Item> {
        let value = self.value.clone()?;
        Some(Item { key: key.to_owned(), value: value.bytes, revision: self.revision, expires_at: value.expires_at })
    }

    /// About how many bytes it takes, besides its key.
    pub fn size(&self) -> usize {
        256 + self.did.size() + self.value.as_ref().map_or(0, |value| value.bytes.len())
    }

    fn bytes(&self) -> Option<&Bytes> {
        self.value.as_ref().map(|value| &value.bytes)
    }
}

/// What came of branches that came together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The node that forks.
    pub node: StepPath,
    /// Its branches of which this came, in their order. Of the others nothing is left.
    pub branches: Vec<u32>,
    /// How many keys changed.
    pub keys: u64,
    /// How many messages were released.
    pub messages: u64,
    /// The branch of another fork that it is a part of, where that has memory of its own; none: what changed is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<Branch>,
    /// What that branch did by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<(String, Side)>,
    /// The branch that holds the messages on; none: they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Branch>,
    /// Keys of which something was taken by a policy, or by what somebody answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
}

/// What a step did in a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The step that did it.
    pub step: StepPath,
    /// The branch that the step stands in.
    pub of: Branch,
    /// What it did to keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<(String, Side)>,
    /// What it sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Message>,
}

impl Done {
    /// Adds what was done in the same branch after it.
    pub fn add(&mut self, next: Self) {
        for (key, side) in next.changed {
            match self.changed.iter_mut().find(|(changed, _)| *changed == key) {
                Some((_, before)) => {
                    let Side { did, revision, value } = side;
                    let did = std::mem::replace(&mut before.did, Did::Put).then(did);
                    *before = Side { did, revision, value };
                }
                None => self.changed.push((key, side)),
            }
        }
        self.sent.extend(next.sent);
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let changed = self.changed.iter().map(|(key, side)| key.len() + side.size()).sum::<usize>();
        let sent = self.sent.iter().map(|message| 512 + message.event.data.bytes.len()).sum::<usize>();
        changed + sent
    }
}

/// What somebody wants taken of a key whose branches conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What this branch made of it.
    Branch(u32),
    /// This JSON value.
    Value(String),
}

/// A key whose branches did not go together, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The key of memory.
    pub key: String,
    /// Why it conflicts.
    pub why: String,
    /// What it held when a branch first looked at it; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Excerpt>,
    /// What it holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Excerpt>,
    /// What the branches did, in their order; of more than [`Conflict::SIDES`] the first.
    pub sides: Vec<ConflictSide>,
    /// The policy by which something was taken; none: nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
}

impl Conflict {
    /// Leaves its values out, for who may not look at them.
    pub fn redact(&mut self) {
        let values = self.sides.iter_mut().map(|side| &mut side.value).chain([&mut self.base, &mut self.current]);
        for value in values.flatten() {
            value.text = "redacted: memory:read".into();
        }
    }

    /// So many are kept of a merge, each with so many sides.
    pub const KEPT: usize = 50;
    /// Sides of one.
    pub const SIDES: usize = 8;
}

/// What one branch did to a key, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictSide {
    /// The branch's number.
    pub branch: u32,
    /// What it is called.
    pub name: String,
    /// What it did, in a word.
    pub did: String,
    /// What the key holds to it; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Excerpt>,
}

/// The beginning of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Its first characters.
    pub text: String,
    /// How many bytes all of it has.
    pub bytes: u64,
}

impl Excerpt {
    /// The most bytes that are shown of a value.
    const LONGEST: usize = 200;

    /// Of a value.
    pub fn of(value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&value[..value.len().min(Self::LONGEST)]);
        Self { text: text.into_owned(), bytes: value.len() as u64 }
    }
}

#[cfg(test)]
mod tests;
