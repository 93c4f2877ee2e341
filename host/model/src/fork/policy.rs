//! What is taken where branches conflict.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Did, Outcome, Side};
use crate::delta::MemoryValue;
use crate::memory::{Item, MAX_VALUE};

/// What is taken of a key where branches conflict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nothing: the node fails.
    #[default]
    Fail,
    /// What that branch did which was done first, by the journal.
    First,
    /// What that branch did which was done last, by the journal.
    Last,
    /// What the first of these branches did that did anything.
    Prefer(Vec<u32>),
    /// All of it: a list with who said what.
    KeepAll,
    /// What an agent makes of it: the one of this number of those that settle conflicts.
    Agent(u32),
    /// What people say, who are asked; by the same number.
    Ask(u32),
}

/// Policies by what keys begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies(pub Vec<(String, Policy)>);

impl Policies {
    /// The most that one fork may have.
    pub const MOST: usize = 100;

    /// That of the longest beginning which the key has.
    pub fn of(&self, key: &str) -> &Policy {
        let fits = self.0.iter().filter(|(prefix, _)| key.starts_with(prefix));
        fits.max_by_key(|(prefix, _)| prefix.len()).map_or(&Policy::Fail, |(_, policy)| policy)
    }
}

impl Policy {
    /// As documents write it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::First => "first",
            Self::Last => "last",
            Self::Prefer(_) => "prefer",
            Self::KeepAll => "keep-all",
            Self::Agent(_) => "agent",
            Self::Ask(_) => "ask",
        }
    }

    /// The number of who settles it; none: nobody is asked.
    pub fn settler(&self) -> Option<u32> {
        match self {
            Self::Agent(number) | Self::Ask(number) => Some(*number),
            _ => None,
        }
    }

    /// What is taken by what branches did alone; none: nothing, the conflict stands. `order`: the branches as they were done; `called`: what one is called.
    pub fn resolve(
        &self,
        base: Option<&Item>,
        current: Option<&Item>,
        sides: &[(u32, &Side)],
        order: &[u32],
        called: impl Fn(u32) -> String,
    ) -> Option<Outcome> {
        let has_moved = base.map(|item| item.revision) != current.map(|item| item.revision);
        let of = |branch: &u32| sides.iter().find(|(number, _)| number == branch).map(|(_, side)| *side);
        let taken = match self {
            Self::Fail | Self::Agent(_) | Self::Ask(_) => None,
            Self::First => order.iter().find_map(of),
            Self::Last => order.iter().rev().find_map(of),
            Self::Prefer(branches) => branches.iter().find_map(of),
            Self::KeepAll => return kept(current.filter(|_| has_moved), sides, called),
        }?;
        // What it did was done to the base: where that is gone, it is what it came to.
        let did = match (&taken.did, &taken.value) {
            (did, _) if !has_moved => did.clone(),
            (_, Some(_)) => Did::Put,
            (_, None) => Did::Deleted,
        };
        Some(Outcome { did, value: taken.value.clone() })
    }
}

/// A list of what each branch made of it, and before these what stands there by another's doing. None: one of them is no text, or
/// the list is too long.
fn kept(moved: Option<&Item>, sides: &[(u32, &Side)], called: impl Fn(u32) -> String) -> Option<Outcome> {
    let read = super::settle::read;
    let values = sides.iter().filter_map(|(_, side)| side.bytes()).map(Bytes::len);
    if values.sum::<usize>() > MAX_VALUE {
        return None;
    }
    let mut all = Vec::with_capacity(sides.len() + 1);
    if let Some(item) = moved {
        all.push(json!({ "branch": null, "value": read(&item.value)? }));
    }
    for (number, side) in sides {
        let value = side.bytes().map_or(Some(Value::Null), read)?;
        all.push(json!({ "branch": called(*number), "value": value }));
    }
    let bytes = Value::Array(all).to_string();
    let value = Some(MemoryValue { bytes: bytes.into(), expires_at: None });
    value.filter(|value| value.bytes.len() <= MAX_VALUE).map(|value| Outcome { did: Did::Put, value: Some(value) })
}
