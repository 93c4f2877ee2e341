//! Calls across the sandbox's wall: what a guest asks of the host, and what it gets.
//!
//! This is the table of everything an agent can do. A [`Call`] says itself which capability it needs and how it
//! replays; the crossing (coordination) does the rest, the same for all.
//!
//! To add one: a variant of [`Call`] and of [`Reply`]; the compiler asks for the rest.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::capability::{Any, Capability};
use crate::memory::{Item, Page, Precondition, Scope};
use crate::{Revision, Timestamp};

/// One host call, converted and bounded, not yet authorized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// `log.write`
    Log(LogLine),
    /// `memory.open`: does nothing but ask whether the scope may be used at all.
    MemoryOpen(Scope),
    /// `memory.get`
    MemoryGet {
        /// Where.
        scope: Scope,
        /// What.
        key: String,
    },
    /// `memory.put`
    MemoryPut {
        /// Where.
        scope: Scope,
        /// What.
        key: String,
        /// The new value.
        #[serde(with = "serde_bytes_shim")]
        value: Bytes,
        /// What must be so.
        precondition: Precondition,
        /// Milliseconds until it ends.
        ttl_ms: Option<u64>,
    },
    /// `memory.delete`
    MemoryDelete {
        /// Where.
        scope: Scope,
        /// What.
        key: String,
        /// What must be so.
        precondition: Precondition,
    },
    /// `memory.list`
    MemoryList {
        /// Where.
        scope: Scope,
        /// What the keys begin with.
        prefix: String,
        /// The key to go on after.
        cursor: Option<String>,
        /// Entries of a page, 1 to [`crate::memory::MAX_PAGE`].
        limit: u32,
    },
}

/// How a call replays when its step is resumed; durability.md has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Made again; no entry.
    Pure,
    /// The result from the journal; the change and its entry are one commit.
    Transactional,
}

impl Call {
    /// Its name in the journal and the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Log(_) => "log.write",
            Self::MemoryOpen(_) => "memory.open",
            Self::MemoryGet { .. } => "memory.get",
            Self::MemoryPut { .. } => "memory.put",
            Self::MemoryDelete { .. } => "memory.delete",
            Self::MemoryList { .. } => "memory.list",
        }
    }

    /// How it replays.
    pub fn class(&self) -> Class {
        match self {
            Self::Log(_) => Class::Pure,
            Self::MemoryOpen(_)
            | Self::MemoryGet { .. }
            | Self::MemoryPut { .. }
            | Self::MemoryDelete { .. }
            | Self::MemoryList { .. } => Class::Transactional,
        }
    }

    /// The capabilities of which one must be in force.
    pub fn needs(&self) -> Vec<Capability> {
        let read = |scope: &Scope| Capability::MemoryRead(Any::One(*scope));
        let write = |scope: &Scope| Capability::MemoryWrite(Any::One(*scope));
        match self {
            Self::Log(_) => vec![Capability::Log],
            Self::MemoryOpen(scope) => vec![read(scope), write(scope)],
            Self::MemoryGet { scope, .. } | Self::MemoryList { scope, .. } => vec![read(scope)],
            Self::MemoryPut { scope, .. } | Self::MemoryDelete { scope, .. } => vec![write(scope)],
        }
    }

    /// What it is about, for people who read the journal: a key, a prefix; at most 200 characters.
    pub fn about(&self) -> String {
        let text: Cow<'_, str> = match self {
            Self::Log(line) => line.level.as_str().into(),
            Self::MemoryOpen(scope) => scope.as_str().into(),
            Self::MemoryGet { scope, key } | Self::MemoryDelete { scope, key, .. } => format!("{scope}/{key}").into(),
            Self::MemoryPut { scope, key, value, .. } => format!("{scope}/{key} ({} bytes)", value.len()).into(),
            Self::MemoryList { scope, prefix, .. } => format!("{scope}/{prefix}*").into(),
        };
        text.chars().take(200).collect()
    }
}

/// What a performed call gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// An entry, or none.
    Item(Option<Item>),
    /// The new revision.
    Revision(Revision),
    /// Whether there was something.
    Existed(bool),
    /// A page of entries.
    Page(Page),
}

/// Why a call was not performed, as a value that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The capability that is missing.
    Denied(Capability),
    /// A precondition did not hold; what is there now.
    Conflict(Option<Revision>),
    /// Which quota, and its bound.
    Quota(String),
    /// What was wrong with the arguments.
    Invalid(String),
    /// A store did not answer.
    Unavailable {
        /// For people.
        message: String,
        /// When to come back.
        retry_after_ms: u64,
    },
}

/// How serious a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finest.
    Trace,
    /// For the author.
    Debug,
    /// Worth a line.
    Info,
    /// Worth a look.
    Warn,
    /// Worth getting up.
    Error,
}

impl Level {
    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A log line of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How serious.
    pub level: Level,
    /// The message; at most [`LogLine::MAX_MESSAGE`] bytes.
    pub message: String,
    /// Names and values; at most [`LogLine::MAX_FIELDS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
}

impl LogLine {
    /// Bytes of a message; the rest is cut.
    pub const MAX_MESSAGE: usize = 8 << 10;
    /// Bytes of a field's name and of its value; the rest is cut.
    pub const MAX_FIELD: usize = 1 << 10;
    /// Fields of a line; the rest is dropped.
    pub const MAX_FIELDS: usize = 16;
    /// Lines of a call; the rest is counted and dropped.
    pub const MAX_LINES: u32 = 1_000;
}

/// What a guest read of the clock since its last effect, run-length encoded: milliseconds since the Unix epoch, and how
/// often each was read. The clock that guests see ticks in milliseconds, so a call of T ms has at most T of these.
pub type ClockReads = Vec<(Timestamp, u32)>;

mod serde_bytes_shim {
    use bytes::Bytes;
    use serde::{Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        serde_bytes::Bytes::new(bytes).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        <serde_bytes::ByteBuf as serde::Deserialize>::deserialize(from).map(|b| b.into_vec().into())
    }
}
