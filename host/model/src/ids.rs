//! Ids: each parsed once, at the edge, and a type of its own ever after.

use std::fmt;
use std::str::FromStr;

use ltmc_rules::Name;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not the id it should be: what was given, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {what}: {rule}")]
pub struct InvalidId {
    /// The offending text, cut to 80 characters.
    pub given: String,
    /// What it should have been, such as "an agent's name".
    pub what: &'static str,
    /// What would be right.
    pub rule: &'static str,
}

impl InvalidId {
    pub(crate) fn new(given: &str, what: &'static str, rule: &'static str) -> Self {
        Self { given: given.chars().take(80).collect(), what, rule }
    }
}

/// A text of a certain form: parsed where it comes in, and a type of its own ever after.
macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:expr, $rule:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::ids::InvalidId;
            fn from_str(text: &str) -> Result<Self, $crate::ids::InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err($crate::ids::InvalidId::new(text, $what, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::ids::InvalidId;
            fn try_from(text: String) -> Result<Self, $crate::ids::InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_name!(
    /// A tenant: leads every key of the record.
    TenantId, "a tenant's name", Name::AGENT.rule, Name::AGENT.fits
);
text_name!(
    /// An agent's name within its tenant.
    AgentName, Name::AGENT.what, Name::AGENT.rule, Name::AGENT.fits
);
text_name!(
    /// A workflow's name within its tenant.
    WorkflowName, "a workflow's name", Name::AGENT.rule, Name::AGENT.fits
);
text_name!(
    /// A session within its tenant: what the memory scope `session` is shared by.
    SessionId,
    "a session's id",
    "1 to 128 of letters, digits, `-`, `_`, `.` and `:`",
    |text| (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
);
text_name!(
    /// The public half of an API key.
    KeyId, "a key's id", "12 of a-z and 0-9",
    |text| text.len() == 12 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
);
text_name!(
    /// A step's place in the tree of patterns, such as `0/2/1`.
    StepPath, "a step's path", "numbers joined by `/`, at most 256 characters",
    // The deepest that documents nest (`workflow::MAX_DEPTH`), with the longest numbers.
    |text| text.len() <= 256 && text.split('/').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
);

impl TenantId {
    /// The host's own ledger: acts of the operator that belong to no tenant. Not a name a tenant can have.
    pub fn host() -> Self {
        Self("_host".into())
    }

    /// A tenant's name, or the host's own ledger: for what a record reads back. Nobody outside can name the latter.
    ///
    /// # Errors
    /// What would be right.
    pub fn recorded(text: &str) -> Result<Self, InvalidId> {
        if text == Self::host().as_str() { Ok(Self::host()) } else { text.parse() }
    }
}

impl StepPath {
    /// The step of a lone agent call.
    pub fn root() -> Self {
        Self("0".into())
    }

    /// The path of this step's child number `index`.
    pub fn child(&self, index: usize) -> Self {
        Self(format!("{}/{index}", self.0).into())
    }

    /// The path of the node that this one is a child of; none: it is the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// Whether it stands at `of` or below it.
    pub fn is_within(&self, of: &Self) -> bool {
        self.0.strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The way down from the root: which child of which.
    pub fn way(&self) -> impl Iterator<Item = usize> {
        // What does not count so far is nobody's child.
        self.0.split('/').skip(1).map(|number| number.parse().unwrap_or(usize::MAX))
    }
}

/// One execution of a workflow or of a lone call. A UUID of version 7: ids sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// Made of the time and 10 random bytes, both from ports.
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(at.millis(), &random).into_uuid())
    }

    /// The ledger of a tenant's acts that belong to no run (keys, grants, agents): run zero.
    pub fn ledger() -> Self {
        Self(Uuid::nil())
    }
}

use crate::Timestamp;

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| InvalidId::new(text, "a run's id", "a UUID, such as 0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a"))
    }
}

/// SHA-256 of a component or of a document, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits alone: a file's name.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::new(text, "a digest", "`sha256:` and 64 hexadecimal digits");
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if from.is_human_readable() {
            <std::borrow::Cow<'_, str>>::deserialize(from)?.parse().map_err(D::Error::custom)
        } else {
            let bytes = <serde_bytes::ByteBuf>::deserialize(from)?;
            <[u8; 32]>::try_from(bytes.as_slice())
                .map(Self)
                .map_err(|_| D::Error::invalid_length(bytes.len(), &"32 bytes"))
        }
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// How many entries a run's journal holds; an entry's number in it is from 1 on.
    Seq
);
number!(
    /// Fences a run's owner: whoever resumes a run raises it. The first owner has 1.
    Epoch
);
number!(
    /// A memory entry's version: grows with every write of the record, and is never used twice.
    Revision
);
number!(
    /// A place in the record's log of changes, in the order in which they became true; the first is 1.
    Position
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_once_and_say_what_would_be_right() {
        assert!("scan-secrets".parse::<AgentName>().is_ok());
        for wrong in ["", "-a", "a-", "A", "a_b", "ä", "../x", &"a".repeat(64)] {
            let error = wrong.parse::<AgentName>().unwrap_err();
            assert!(error.to_string().contains("beginning with a letter"), "{error}");
        }
    }

    #[test]
    fn the_hosts_ledger_is_no_tenants_name() {
        assert!(TenantId::host().as_str().parse::<TenantId>().is_err());
        assert!(serde_json::from_str::<TenantId>("\"_host\"").is_err());
        assert_eq!(TenantId::recorded("_host"), Ok(TenantId::host()));
        assert!(TenantId::recorded("_hosts").is_err());
    }

    #[test]
    fn digests_read_back_in_text_and_in_bytes() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
    }
}
