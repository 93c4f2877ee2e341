//! What stands in the journal of a call across the sandbox's wall (the calls themselves: [`crate::call`]): what it was
//! answered with or why it was refused, log lines, readings of the clock.
//!
//! Invariant: what is written here is read for ever. A new form of reply is a new variant of [`Reply`], and its line in
//! [`replies`].

use serde::{Deserialize, Serialize};

use crate::capability::Capability;
use crate::child::Ended;
use crate::graph::{Fact, FactPage, Order, Path, Reached};
use crate::hand_off::Handed;
use crate::memory::{Feed, Item, Page};
use crate::message::{Delivery, Events};
use crate::recall::Hits;
use crate::session::Exchange;
use crate::state::Told;
use crate::{Position, Revision, RunId, Timestamp};

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
    /// A run that was begun.
    Begun(RunId),
    /// How a run ended that was begun.
    Ended(Ended),
    /// How several of them did.
    Joined(Vec<Ended>),
    /// What was said before.
    History(Vec<Exchange>),
    /// How the conversation came to it; none: it began with it.
    Handed(Option<Handed>),
    /// The agent's own state, or why it is not told or not changed.
    State(Told),
}

impl Reply {
    /// About how many bytes it holds.
    pub fn size(&self) -> u64 {
        let item = |item: &Item| item.key.len() + item.value.len();
        let event = |event: &crate::message::Event| event.data.bytes.len() + 256;
        let facts = |facts: &[Fact]| facts.iter().map(|fact| fact.properties.len() + 256).sum::<usize>();
        let bytes: usize = match self {
            Self::Done | Self::Revision(_) | Self::Existed(_) | Self::Item(None) | Self::Begun(_) => 0,
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
            Self::Ended(ended) => ended.size(),
            Self::Joined(ended) => ended.iter().map(Ended::size).sum(),
            Self::History(said) => said.iter().map(Exchange::size).sum(),
            Self::Handed(handed) => handed.as_ref().map_or(0, Handed::size),
            Self::State(Ok(current)) => current.data.len() + 128,
            Self::State(Err(refused)) => refused.message.len() + 64,
        };
        bytes as u64
    }
}

/// A reply is of another form than the call has that it is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// What it should have been.
    pub wanted: &'static str,
}

/// The one place where a reply, as journaled, and what a call is answered with are made of each other.
macro_rules! replies {
    ($($type:ty: $variant:ident),+ $(,)?) => {
        $(
            impl From<$type> for Reply {
                fn from(reply: $type) -> Self {
                    Self::$variant(reply)
                }
            }

            impl TryFrom<Reply> for $type {
                type Error = Mismatch;

                fn try_from(reply: Reply) -> Result<Self, Mismatch> {
                    match reply {
                        Reply::$variant(reply) => Ok(reply),
                        _ => Err(Mismatch { wanted: stringify!($variant) }),
                    }
                }
            }
        )+
    };
}

replies! {
    Option<Item>: Item,
    Revision: Revision,
    bool: Existed,
    Page: Page,
    Feed: Feed,
    FactPage: Facts,
    Path: Path,
    Reached: Reached,
    Order: Order,
    Hits: Hits,
    Vec<Delivery>: Deliveries,
    Events: Events,
    RunId: Begun,
    Ended: Ended,
    Vec<Ended>: Joined,
    Vec<Exchange>: History,
    Option<Handed>: Handed,
    Told: State,
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::Done
    }
}

impl TryFrom<Reply> for () {
    type Error = Mismatch;

    fn try_from(reply: Reply) -> Result<Self, Mismatch> {
        match reply {
            Reply::Done => Ok(()),
            _ => Err(Mismatch { wanted: "Done" }),
        }
    }
}

/// An entry, of a call that always has one.
impl From<Item> for Reply {
    fn from(item: Item) -> Self {
        Self::Item(Some(item))
    }
}

impl TryFrom<Reply> for Item {
    type Error = Mismatch;

    fn try_from(reply: Reply) -> Result<Self, Mismatch> {
        match reply {
            Reply::Item(Some(item)) => Ok(item),
            _ => Err(Mismatch { wanted: "Item, and not an empty one" }),
        }
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
    /// The most detailed of all.
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
    /// How serious it is, from `trace` to `error`.
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
