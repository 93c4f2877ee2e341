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
use crate::graph::{Entity, Fact, FactFilter, FactPage, Order, Path, Reached, Relation, Walk};
use crate::memory::{Feed, Item, Page, Precondition, Scope};
use crate::merge::Merge;
use crate::message::{Delivery, Events, Topic};
use crate::recall::{Hits, Metadata};
use crate::{AgentName, Payload, Position, Revision, Timestamp};

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
    /// `memory.update`
    MemoryUpdate {
        /// Where.
        scope: Scope,
        /// What.
        key: String,
        /// How the new value is made of the one before.
        merge: Merge,
        /// Milliseconds until it ends; none: as before.
        ttl_ms: Option<u64>,
    },
    /// `memory.changes`
    MemoryChanges {
        /// Where.
        scope: Scope,
        /// What the keys begin with.
        prefix: String,
        /// After which change; none: from now on.
        after: Option<Position>,
        /// At most so many, 1 to [`crate::memory::MAX_PAGE`].
        limit: u32,
        /// How long to wait for the first.
        wait_ms: u64,
    },
    /// `graph.relate`
    GraphRelate {
        /// Of what.
        subject: Entity,
        /// How.
        relation: Relation,
        /// To what.
        object: Entity,
        /// A JSON object; empty: none.
        properties: String,
        /// From when on it holds; none: from now on.
        valid_from: Option<Timestamp>,
    },
    /// `graph.unrelate`
    GraphUnrelate {
        /// Of what.
        subject: Entity,
        /// How.
        relation: Relation,
        /// To what.
        object: Entity,
        /// Until when it held; none: until now.
        valid_to: Option<Timestamp>,
    },
    /// `graph.facts`
    GraphFacts(FactFilter),
    /// `graph.path`
    GraphPath {
        /// From where, and which way.
        walk: Walk,
        /// Where to.
        to: Entity,
    },
    /// `graph.reach`: what depends on a thing, or on what it depends.
    GraphReach(Walk),
    /// `graph.order`
    GraphOrder(Walk),
    /// `recall.remember`
    RecallRemember {
        /// The note's id.
        id: String,
        /// Its text.
        text: String,
        /// What else is known of it.
        metadata: Metadata,
    },
    /// `recall.forget`
    RecallForget {
        /// Which note.
        id: String,
    },
    /// `recall.search`
    RecallSearch {
        /// What is asked.
        query: String,
        /// Only notes that have all of these.
        filter: Metadata,
        /// At most so many, 1 to [`crate::recall::MAX_HITS`].
        limit: u32,
    },
    /// `messages.send`
    MessageSend {
        /// To whom.
        to: AgentName,
        /// The event.
        event: Draft,
    },
    /// `messages.publish`
    MessagePublish {
        /// Where.
        topic: Topic,
        /// The event.
        event: Draft,
    },
    /// `messages.receive`
    MessageReceive {
        /// At most so many, 1 to [`crate::message::MAX_TAKEN`].
        limit: u32,
        /// How long to wait for the first.
        wait_ms: u64,
    },
    /// `messages.ack`
    MessageAck {
        /// A message that this attempt was handed.
        id: Revision,
    },
    /// `messages.reject`
    MessageReject {
        /// A message that this attempt was handed.
        id: Revision,
        /// Why it cannot be processed.
        reason: String,
    },
    /// `messages.read`
    MessageRead {
        /// Which topic.
        topic: Topic,
        /// After which event; none: from now on.
        after: Option<Position>,
        /// At most so many, 1 to [`crate::message::MAX_TAKEN`].
        limit: u32,
        /// How long to wait for the first.
        wait_ms: u64,
    },
}

/// The longest that a call waits for something to come.
pub const MAX_WAIT_MS: u64 = 30_000;

/// An event as its sender writes it: the host adds who it is from, and, where they are missing, id and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// What happened.
    pub kind: String,
    /// What it is about, if anything.
    pub subject: Option<String>,
    /// The content.
    pub data: Payload,
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
            Self::MemoryUpdate { .. } => "memory.update",
            Self::MemoryChanges { .. } => "memory.changes",
            Self::GraphRelate { .. } => "graph.relate",
            Self::GraphUnrelate { .. } => "graph.unrelate",
            Self::GraphFacts(_) => "graph.facts",
            Self::GraphPath { .. } => "graph.path",
            Self::GraphReach(_) => "graph.reach",
            Self::GraphOrder(_) => "graph.order",
            Self::RecallRemember { .. } => "recall.remember",
            Self::RecallForget { .. } => "recall.forget",
            Self::RecallSearch { .. } => "recall.search",
            Self::MessageSend { .. } => "messages.send",
            Self::MessagePublish { .. } => "messages.publish",
            Self::MessageReceive { .. } => "messages.receive",
            Self::MessageAck { .. } => "messages.ack",
            Self::MessageReject { .. } => "messages.reject",
            Self::MessageRead { .. } => "messages.read",
        }
    }

    /// How it replays.
    pub fn class(&self) -> Class {
        match self {
            Self::Log(_) => Class::Pure,
            _ => Class::Transactional,
        }
    }

    /// The capabilities of which one must be in force.
    pub fn needs(&self) -> Vec<Capability> {
        let read = |scope: &Scope| Capability::MemoryRead(Any::One(*scope));
        let write = |scope: &Scope| Capability::MemoryWrite(Any::One(*scope));
        match self {
            Self::Log(_) => vec![Capability::Log],
            Self::MemoryOpen(scope) => vec![read(scope), write(scope)],
            Self::MemoryGet { scope, .. } | Self::MemoryList { scope, .. } | Self::MemoryChanges { scope, .. } => {
                vec![read(scope)]
            }
            Self::MemoryPut { scope, .. } | Self::MemoryDelete { scope, .. } | Self::MemoryUpdate { scope, .. } => {
                vec![write(scope)]
            }
            Self::GraphRelate { .. } | Self::GraphUnrelate { .. } => vec![Capability::GraphWrite],
            Self::GraphFacts(_) | Self::GraphPath { .. } | Self::GraphReach(_) | Self::GraphOrder(_) => {
                vec![Capability::GraphRead]
            }
            Self::RecallRemember { .. } | Self::RecallForget { .. } => vec![Capability::RecallWrite],
            Self::RecallSearch { .. } => vec![Capability::RecallRead],
            Self::MessageSend { to, .. } => vec![Capability::MessageSend(Any::One(to.clone()))],
            Self::MessagePublish { topic, .. } => vec![Capability::MessagePublish(Any::One(topic.clone()))],
            Self::MessageRead { topic, .. } => vec![Capability::MessageSubscribe(Any::One(topic.clone()))],
            Self::MessageReceive { .. } | Self::MessageAck { .. } | Self::MessageReject { .. } => {
                vec![Capability::MessageReceive]
            }
        }
    }

    /// What it is about, for people who read the journal: a key, a prefix; at most 200 characters.
    pub fn about(&self) -> String {
        let text: Cow<'_, str> = match self {
            Self::Log(line) => line.level.as_str().into(),
            Self::MemoryOpen(scope) => scope.as_str().into(),
            Self::MemoryGet { scope, key } | Self::MemoryDelete { scope, key, .. } => format!("{scope}/{key}").into(),
            Self::MemoryPut { scope, key, value, .. } => format!("{scope}/{key} ({} bytes)", value.len()).into(),
            Self::MemoryList { scope, prefix, .. } | Self::MemoryChanges { scope, prefix, .. } => {
                format!("{scope}/{prefix}*").into()
            }
            Self::MemoryUpdate { scope, key, merge, .. } => format!("{scope}/{key} ({})", merge.as_str()).into(),
            Self::GraphRelate { subject, relation, object, .. }
            | Self::GraphUnrelate { subject, relation, object, .. } => format!("{subject} {relation} {object}").into(),
            Self::GraphFacts(filter) => filter.entity.as_ref().map_or("*", Entity::as_str).into(),
            Self::GraphPath { walk, to } => format!("{} to {to}", walk.from).into(),
            Self::GraphReach(walk) | Self::GraphOrder(walk) => walk.from.as_str().into(),
            Self::RecallRemember { id, text, .. } => format!("{id} ({} bytes)", text.len()).into(),
            Self::RecallForget { id } => id.into(),
            Self::RecallSearch { query, .. } => query.into(),
            Self::MessageSend { to, event } => format!("{} to {to}", event.kind).into(),
            Self::MessagePublish { topic, event } => format!("{} on {topic}", event.kind).into(),
            Self::MessageReceive { limit, .. } => format!("at most {limit}").into(),
            Self::MessageAck { id } | Self::MessageReject { id, .. } => id.to_string().into(),
            Self::MessageRead { topic, .. } => topic.as_str().into(),
        };
        text.chars().take(200).collect()
    }
}

/// What a performed call gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Part of a change feed.
    Feed(Feed),
    /// A page of facts.
    Facts(FactPage),
    /// A way: the facts along it; none: there is none.
    Path(Path),
    /// What a walk found.
    Reached(Reached),
    /// An order.
    Order(Order),
    /// What a search found.
    Hits(Hits),
    /// Messages handed out.
    Deliveries(Vec<Delivery>),
    /// Part of a topic.
    Events(Events),
}

impl Reply {
    /// About how many bytes it holds.
    pub fn size(&self) -> u64 {
        let item = |item: &Item| item.key.len() + item.value.len();
        let event = |event: &crate::message::Event| event.data.bytes.len() + 256;
        let facts = |facts: &[Fact]| facts.iter().map(|fact| fact.properties.len() + 256).sum::<usize>();
        let bytes: usize = match self {
            Self::Done | Self::Revision(_) | Self::Existed(_) | Self::Item(None) => 0,
            Self::Item(Some(found)) => item(found),
            Self::Page(page) => page.items.iter().map(item).sum(),
            Self::Feed(feed) => {
                feed.changes.iter().map(|c| c.key.len() + c.value.as_ref().map_or(0, bytes::Bytes::len) + 32).sum()
            }
            Self::Facts(page) => facts(&page.facts),
            Self::Path(path) => path.facts.as_deref().map_or(0, facts),
            Self::Reached(reached) => facts(&reached.facts),
            Self::Order(order) => {
                order.entities.iter().chain(order.cycles.iter().flatten()).map(|entity| entity.as_str().len() + 8).sum()
            }
            Self::Hits(found) => found.hits.iter().map(|hit| hit.id.len() + hit.text.len() + 64).sum(),
            Self::Deliveries(deliveries) => deliveries.iter().map(|delivery| event(&delivery.event)).sum(),
            Self::Events(found) => found.events.iter().map(|published| event(&published.event)).sum(),
        };
        bytes as u64
    }
}

/// Why a call was not performed, as a value that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The capability that is missing.
    Denied(Capability),
    /// A precondition did not hold; what is there now.
    Conflict(Option<Revision>),
    /// There is no such thing.
    NotFound,
    /// A cursor is older than what is kept: read what is there now, and go on from this place.
    Resync(Position),
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
