//! Merge rules: how a key's new value is made of the one before, in one step that nobody can come between.
//!
//! How each works stands in `ltmc-rules`, for the host and for the SDK's in-memory host.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A merge rule with its operand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Merge {
    /// The operand, whatever was there.
    Set(#[serde(with = "crate::memory::value_bytes")] Bytes),
    /// A number, more by this much. Whole numbers stay whole.
    Increment(i64),
    /// A list, with this JSON value at its end.
    Append(String),
    /// A list, with those elements of this JSON list that it has not got.
    Union(String),
    /// A JSON merge patch (RFC 7396).
    MergePatch(String),
}

impl Merge {
    /// In words, for people who read the journal.
    pub fn as_str(&self) -> &'static str {
        self.rule().as_str()
    }

    /// The new value.
    ///
    /// # Errors
    /// What of the value that is there, or of the operand, does not fit the rule.
    pub fn apply(&self, current: Option<&[u8]>) -> Result<Bytes, String> {
        match self {
            Self::Set(bytes) => Ok(bytes.clone()),
            other => other.rule().apply(current).map(Bytes::from),
        }
    }

    fn rule(&self) -> ltmc_rules::Merge<'_> {
        match self {
            Self::Set(bytes) => ltmc_rules::Merge::Set(bytes),
            Self::Increment(by) => ltmc_rules::Merge::Increment(*by),
            Self::Append(value) => ltmc_rules::Merge::Append(value),
            Self::Union(list) => ltmc_rules::Merge::Union(list),
            Self::MergePatch(patch) => ltmc_rules::Merge::MergePatch(patch),
        }
    }
}
