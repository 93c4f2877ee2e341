//! Memory: keys and values in three scopes.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
pub use ltmc_rules::memory::{MAX_KEY, MAX_PAGE, MAX_VALUE, check_key};
use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;
use crate::{AgentName, Position, Revision, SessionId, Timestamp};

/// Who shares what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every agent of the tenant.
    Global,
    /// Every agent that works in the same session.
    Session,
    /// One agent, in all its calls.
    Agent,
    /// An agent's states: no call of memory reaches them, and nobody can name them in a request ([`crate::state`]).
    #[serde(skip_deserializing)]
    State,
}

impl Scope {
    /// As capabilities and documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::State => "state",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "global" => Ok(Self::Global),
            "session" => Ok(Self::Session),
            "agent" => Ok(Self::Agent),
            _ => Err(InvalidId {
                given: text.chars().take(80).collect(),
                what: "a memory scope",
                rule: "one of global, session, agent",
            }),
        }
    }
}

/// One drawer of a tenant's memory: a scope with its owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drawer {
    /// The tenant's: every agent of it shares this one.
    Global,
    /// A session's: every agent that works in it shares this one.
    Session(SessionId),
    /// An agent's, in all its calls.
    Agent(AgentName),
    /// An agent's states.
    State(AgentName),
}

impl Drawer {
    /// The scope it belongs to.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Global => Scope::Global,
            Self::Session(_) => Scope::Session,
            Self::Agent(_) => Scope::Agent,
            Self::State(_) => Scope::State,
        }
    }

    /// What events of its changes name as their source.
    pub fn source(&self) -> String {
        match self {
            Self::Global => "/memory/global".to_owned(),
            Self::Session(id) => format!("/memory/sessions/{id}"),
            Self::Agent(name) => format!("/memory/agents/{name}"),
            Self::State(name) => format!("/memory/states/{name}"),
        }
    }

    /// The owner within the scope; empty for the tenant's own.
    pub fn owner(&self) -> &str {
        match self {
            Self::Global => "",
            Self::Session(id) => id.as_str(),
            Self::Agent(name) | Self::State(name) => name.as_str(),
        }
    }
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: String,
    /// The value.
    #[serde(with = "value_bytes")]
    pub value: Bytes,
    /// Its version.
    pub revision: Revision,
    /// When it ends; none: stays until deleted.
    pub expires_at: Option<Timestamp>,
}

/// What must be so for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precondition {
    /// No condition: the write happens whatever the key holds.
    Any,
    /// The key holds nothing.
    Absent,
    /// The key holds just this revision.
    Revision(Revision),
}

impl Precondition {
    /// Whether it holds of a key that holds `current`.
    pub fn holds(self, current: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Revision(wanted) => current == Some(wanted),
        }
    }
}

/// One change of a key, as whoever watches it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Where it stands among the tenant's changes: go on after it.
    pub position: Position,
    /// The key.
    pub key: String,
    /// This change's version.
    pub revision: Revision,
    /// What the key was given; none: it was deleted, or had come to its end.
    #[serde(with = "maybe_bytes")]
    pub value: Option<Bytes>,
    /// When that ends; none: stays until deleted.
    pub expires_at: Option<Timestamp>,
}

/// Part of a change feed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Feed {
    /// In the order in which they happened.
    pub changes: Vec<Changed>,
    /// Go on after this one, also where nothing was found.
    pub next: Position,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Page {
    /// In the byte order of their keys.
    pub items: Vec<Item>,
    /// The key to go on after; none: that was all.
    pub next: Option<String>,
}

mod maybe_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Value(#[serde(with = "super::value_bytes")] Bytes);

    pub(super) fn serialize<S: Serializer>(value: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        value.clone().map(Value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Value>::deserialize(from)?.map(|value| value.0))
    }
}

pub(crate) mod value_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        if to.is_human_readable() {
            base64::engine::general_purpose::STANDARD.encode(bytes).serialize(to)
        } else {
            serde_bytes::Bytes::new(bytes).serialize(to)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        use base64::Engine as _;
        if from.is_human_readable() {
            let text = String::deserialize(from)?;
            base64::engine::general_purpose::STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
        } else {
            serde_bytes::ByteBuf::deserialize(from).map(|b| b.into_vec().into())
        }
    }
}
