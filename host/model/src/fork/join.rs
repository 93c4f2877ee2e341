//! What comes of one key when branches come together.

use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use super::touched::Touched;
use super::{Did, Side};
use crate::Timestamp;
use crate::delta::MemoryValue;
use crate::memory::{Item, MAX_VALUE};

/// What is done to the key of who forked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What that is, where who forked is a branch itself.
    pub did: Did,
    /// What the key holds then; none: nothing.
    pub value: Option<MemoryValue>,
}

/// Why branches do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Several changed it, and what they did does not commute.
    Several,
    /// One deleted what another changed.
    Deleted,
    /// It was changed outside of the fork meanwhile.
    Moved,
    /// What they did together cannot be done to what is there.
    Unfit(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Several => f.write_str("several branches changed it, in ways that do not go together"),
            Self::Deleted => f.write_str("a branch deleted it, and another changed it"),
            Self::Moved => f.write_str("it was changed outside of the fork as well"),
            Self::Unfit(why) => write!(f, "what branches did cannot be done anew: {why}"),
        }
    }
}

/// What comes of a key; none: it stays as it is. `base`: what it held when a branch first looked at it; `current`: what it holds
/// now; `sides`: what branches did to it, in the order of the branches.
///
/// # Errors
/// [`Why`] they conflict, where they do.
pub fn join(base: Option<&Item>, current: Option<&Item>, sides: &[(u32, &Side)]) -> Result<Option<Outcome>, Why> {
    let Some(((_, first), others)) = sides.split_first() else { return Ok(None) };
    let has_moved = base.map(|item| item.revision) != current.map(|item| item.revision);
    if others.is_empty() && !has_moved {
        return Ok(Some(Outcome { did: first.did.clone(), value: first.value.clone() }));
    }
    if let Some(did) = together(sides) {
        return anew(base, current, did, end(base, current, sides), has_moved).map(Some);
    }
    if others.iter().all(|(_, side)| is_same(side.bytes(), first.bytes())) {
        if !has_moved {
            let did = if first.value.is_some() { Did::Put } else { Did::Deleted };
            let ends = sides.iter().map(|(_, side)| side.value.as_ref().and_then(|value| value.expires_at));
            // What does not end ends last.
            let expires_at = ends.max_by_key(|end| (end.is_none(), *end)).flatten();
            let value = first.bytes().map(|bytes| MemoryValue { bytes: bytes.clone(), expires_at });
            return Ok(Some(Outcome { did, value }));
        }
        // Whoever changed it outside made the same of it.
        if is_same(current.map(|item| &item.value), first.bytes()) {
            return Ok(None);
        }
    }
    let is_deleted = |(_, side): &&(u32, &Side)| side.value.is_none();
    let deleted = sides.iter().filter(is_deleted).count();
    Err(match deleted {
        _ if others.is_empty() => Why::Moved,
        deleted if deleted > 0 && deleted < sides.len() => Why::Deleted,
        _ if has_moved => Why::Moved,
        _ => Why::Several,
    })
}

/// All that they did, where that comes to the same in whatever order.
fn together(sides: &[(u32, &Side)]) -> Option<Did> {
    let mut touched = Touched::default();
    let mut all: Option<Did> = None;
    for (_, side) in sides {
        if let Did::MergePatch(patches) = &side.did {
            let by_it = Touched::by(patches);
            if !touched.is_apart_from(&by_it) {
                return None;
            }
            touched.add(by_it);
        }
        let did = match all {
            None => side.did.clone(),
            Some(before) if before.is_like(&side.did) => before.then(side.did.clone()),
            Some(_) => return None,
        };
        all = Some(did);
    }
    all.filter(|did| !matches!(did, Did::Put | Did::Deleted))
}

/// All that they did, done to what is there now.
fn anew(
    base: Option<&Item>,
    current: Option<&Item>,
    did: Did,
    expires_at: Option<Timestamp>,
    has_moved: bool,
) -> Result<Outcome, Why> {
    let [held, holds] = [base, current].map(|item| item.map(|item| &item.value[..]));
    if has_moved && !did.is_apart_from_what_happened(held, holds) {
        return Err(Why::Moved);
    }
    let bytes = did.anew(holds).map_err(Why::Unfit)?;
    if bytes.len() > MAX_VALUE {
        let why = format!("the value would have {} bytes; a value has at most {MAX_VALUE}", bytes.len());
        return Err(Why::Unfit(why));
    }
    Ok(Outcome { did, value: Some(MemoryValue { bytes, expires_at }) })
}

/// When what they did together ends: as it was, where none of them said anything else.
fn end(base: Option<&Item>, current: Option<&Item>, sides: &[(u32, &Side)]) -> Option<Timestamp> {
    let before = base.and_then(|item| item.expires_at);
    let said = sides.iter().map(|(_, side)| side.value.as_ref().and_then(|value| value.expires_at));
    let said = said.filter(|end| *end != before).max_by_key(|end| (end.is_none(), *end));
    said.unwrap_or_else(|| current.and_then(|item| item.expires_at))
}

/// Whether two values are the same: byte by byte, or as JSON.
fn is_same(one: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) if one == other => true,
        (Some(one), Some(other)) => {
            let read = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).ok();
            read(one).is_some_and(|value| read(other) == Some(value))
        }
        (None, None) => true,
        _ => false,
    }
}
