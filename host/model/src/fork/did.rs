//! Operations on a key: what is left of them when one comes after the other.

use bytes::Bytes;
use ltmc_rules::apply_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::touched::Touched;
use crate::merge::Merge;

/// What was done to a key, all of a branch's changes together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// It was given a value, whatever it held; or changed in ways that are no operation together.
    Put,
    /// What it held was deleted.
    Deleted,
    /// Its number was raised by this.
    Increment(i64),
    /// These JSON values were put at the end of its list.
    Append(Vec<String>),
    /// Its list was united with these JSON lists.
    Union(Vec<String>),
    /// These JSON merge patches were applied to it, each to an object.
    MergePatch(Vec<String>),
}

impl Did {
    /// What an update is.
    pub fn of(merge: &Merge) -> Self {
        match merge {
            Merge::Set(_) => Self::Put,
            Merge::Increment(by) => Self::Increment(*by),
            Merge::Append(value) => Self::Append(vec![value.clone()]),
            Merge::Union(list) => Self::Union(vec![list.clone()]),
            // One that is no object takes the place of whatever is there.
            Merge::MergePatch(patch) if !patch.trim_start().starts_with('{') => Self::Put,
            Merge::MergePatch(patch) => Self::MergePatch(vec![patch.clone()]),
        }
    }

    /// This, and then that.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let both = |mut these: Vec<String>, those| {
            these.extend(those);
            these
        };
        match (self, next) {
            (_, Self::Deleted) => Self::Deleted,
            (Self::Increment(by), Self::Increment(more)) => by.checked_add(more).map_or(Self::Put, Self::Increment),
            (Self::Append(these), Self::Append(those)) => Self::Append(both(these, those)),
            (Self::Union(these), Self::Union(those)) => Self::Union(both(these, those)),
            (Self::MergePatch(these), Self::MergePatch(those)) => Self::MergePatch(both(these, those)),
            _ => Self::Put,
        }
    }

    /// In a word, for people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Deleted => "delete",
            Self::Increment(_) => "increment",
            Self::Append(_) => "append",
            Self::Union(_) => "union",
            Self::MergePatch(_) => "merge-patch",
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Append(all) | Self::Union(all) | Self::MergePatch(all) => all.iter().map(|one| 32 + one.len()).sum(),
            Self::Put | Self::Deleted | Self::Increment(_) => 0,
        }
    }

    /// Whether it is an operation of the same kind.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// What it comes to where it is done anew to what is there.
    pub(super) fn anew(&self, current: Option<&[u8]>) -> Result<Bytes, String> {
        use ltmc_rules::Merge as Rule;
        let done = match self {
            Self::Put | Self::Deleted => return Err("it is not done anew".into()),
            Self::Increment(by) => apply_all([Rule::Increment(*by)], current),
            Self::Append(values) => apply_all(values.iter().map(|value| Rule::Append(value)), current),
            // At once: each by itself would look through all of the list.
            Self::Union(lists) => apply_all([Rule::Union(&united(lists)?)], current),
            Self::MergePatch(patches) => apply_all(patches.iter().map(|patch| Rule::MergePatch(patch)), current),
        };
        done.map(Bytes::from)
    }

    /// Whether what was done elsewhere to what it was done to, between these two, is of no matter to it.
    pub(super) fn is_apart_from_what_happened(&self, base: Option<&[u8]>, current: Option<&[u8]>) -> bool {
        match self {
            Self::Increment(_) | Self::Append(_) | Self::Union(_) => base.is_none() || current.is_some(),
            Self::MergePatch(patches) => {
                let read = |bytes: Option<&[u8]>| bytes.map(serde_json::from_slice::<Value>).transpose();
                let (Ok(base), Ok(current)) = (read(base), read(current)) else { return false };
                (base.is_none() || current.is_some()) && Touched::by(patches).is_alike(base.as_ref(), current.as_ref())
            }
            Self::Put | Self::Deleted => false,
        }
    }
}

fn united(lists: &[String]) -> Result<String, String> {
    let mut all: Vec<Value> = Vec::new();
    for list in lists {
        let list: Vec<Value> = serde_json::from_str(list).map_err(|_| "`union` takes a JSON list".to_owned())?;
        all.extend(list);
    }
    Ok(Value::Array(all).to_string())
}
