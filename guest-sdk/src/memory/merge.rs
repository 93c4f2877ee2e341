//! Merge rules: how `update` makes a key's new value of the one before. All but [`Set`] work on JSON; where the key holds
//! nothing, on 0, `[]` or `{}`.

use serde::Serialize;

use crate::Error;

/// This value, whatever was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<T>(pub T);

/// A number, more by this much; whole numbers stay whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment(pub i64);

/// A list, with this value at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append<T>(pub T);

/// A list, with those elements of this list that it has not got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Union<T>(pub T);

/// A JSON merge patch (RFC 7396): members of objects are replaced one by one, and `null` takes one away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergePatch<T>(pub T);

/// A rule with its operand, as the host takes it; for a rule that is chosen while the agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Merge {
    /// See [`Set`].
    Set(Vec<u8>),
    /// See [`Increment`].
    Increment(i64),
    /// See [`Append`]: a JSON value.
    Append(String),
    /// See [`Union`]: a JSON list.
    Union(String),
    /// See [`MergePatch`]: JSON.
    MergePatch(String),
}

/// What [`Store::update`](super::Store::update) takes as its rule.
pub trait IntoMerge {
    /// The rule, its operand written as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an operand that JSON cannot express.
    fn into_merge(self) -> Result<Merge, Error>;
}

impl IntoMerge for Merge {
    fn into_merge(self) -> Result<Merge, Error> {
        Ok(self)
    }
}

impl<T: AsRef<[u8]>> IntoMerge for Set<T> {
    fn into_merge(self) -> Result<Merge, Error> {
        Ok(Merge::Set(self.0.as_ref().to_vec()))
    }
}

impl IntoMerge for Increment {
    fn into_merge(self) -> Result<Merge, Error> {
        Ok(Merge::Increment(self.0))
    }
}

impl<T: Serialize> IntoMerge for Append<T> {
    fn into_merge(self) -> Result<Merge, Error> {
        json("append", &self.0).map(Merge::Append)
    }
}

impl<T: Serialize> IntoMerge for Union<T> {
    fn into_merge(self) -> Result<Merge, Error> {
        json("union", &self.0).map(Merge::Union)
    }
}

impl<T: Serialize> IntoMerge for MergePatch<T> {
    fn into_merge(self) -> Result<Merge, Error> {
        json("merge-patch", &self.0).map(Merge::MergePatch)
    }
}

fn json<T: Serialize>(rule: &str, operand: &T) -> Result<String, Error> {
    serde_json::to_string(operand)
        .map_err(|e| Error::Invalid(format!("the operand of `{rule}` cannot be written as JSON: {e}")))
}
