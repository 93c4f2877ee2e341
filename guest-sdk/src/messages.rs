//! Messages, as events in the terms of CloudEvents 1.0: to one agent's mailbox, where each is processed once, or to a topic,
//! where every reader sees every event.
//!
//! Sending needs the capability `message:send:AGENT`, taking from one's own mailbox `message:receive`, publishing
//! `message:publish:TOPIC`, reading a topic `message:subscribe:TOPIC`. A type or a subject has at most 256 bytes, data at
//! most 256 KiB.
//!
//! ```
//! use std::time::Duration;
//!
//! use ltmc::messages::{self, Draft};
//!
//! let host = ltmc::testing::Host::new().grant("message:receive").grant("message:send:summarizer");
//! host.deliver(Draft::json("note.added", &"docs/errors.md")?);
//! host.within(|| {
//!     for delivery in messages::receive(10, Duration::from_secs(5))? {
//!         let file: String = delivery.event.json()?;
//!         messages::send("summarizer", Draft::json("file.changed", &file)?.subject(&file))?;
//!         delivery.ack()?;
//!     }
//!     Ok::<_, ltmc::Error>(())
//! })?;
//! assert_eq!(host.sent()[0].event.kind, "file.changed");
//! # Ok::<_, ltmc::Error>(())
//! ```

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, IntoPayload as _, Json, Payload, host};

/// An event as its sender writes it; the host adds id, source and time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Draft {
    /// What happened, such as `review.finished`: the attribute `type`.
    pub kind: String,
    /// What it is about, if anything.
    pub subject: Option<String>,
    /// The content.
    pub data: Payload,
}

impl Draft {
    /// An event with this content.
    pub fn new(kind: impl Into<String>, data: Payload) -> Self {
        Self { kind: kind.into(), subject: None, data }
    }

    /// An event whose content is a value as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what JSON cannot express.
    pub fn json<T: Serialize + ?Sized>(kind: impl Into<String>, value: &T) -> Result<Self, Error> {
        Json(value).into_payload().map(|data| Self::new(kind, data)).map_err(|failure| Error::Invalid(failure.message))
    }

    /// What it is about.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

/// An event as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// With `source` it names the event: one that comes twice is the same.
    pub id: String,
    /// Who sent it: `/agents/NAME`, or `/keys/ID` for a client. The host sets it.
    pub source: String,
    /// What happened: the attribute `type`.
    pub kind: String,
    /// What it is about, if anything.
    pub subject: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The content.
    pub data: Payload,
}

impl Event {
    /// The content, read as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`]: why it is not this JSON, and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.data.bytes).map_err(|e| {
            let Self { id, source, kind, .. } = self;
            Error::Invalid(format!("the data of `{kind}` {id} from {source} is not the JSON expected: {e}"))
        })
    }
}

/// A message that was handed out. It is in this attempt's hands until that is over: what is then neither acknowledged nor
/// rejected goes back, and after 5 times to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Names it to [`ack`] and [`reject`].
    pub id: u64,
    /// How often it was handed out, this time included.
    pub deliveries: u32,
    /// The event.
    pub event: Event,
}

impl Delivery {
    /// It is processed: gone, together with what else this attempt did.
    ///
    /// # Errors
    /// As [`ack`].
    pub fn ack(&self) -> Result<(), Error> {
        ack(self.id)
    }

    /// It cannot be processed: it goes to the dead letters at once, where people find it with this reason.
    ///
    /// # Errors
    /// As [`reject`].
    pub fn reject(&self, reason: &str) -> Result<(), Error> {
        reject(self.id, reason)
    }
}

/// An event of a topic, in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Where it stands: go on after it.
    pub position: u64,
    /// The event.
    pub event: Event,
}

/// Part of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Events {
    /// In the order in which they were published.
    pub events: Vec<Published>,
    /// The position to go on after, also where nothing was found.
    pub next: u64,
}

/// Puts a message into an agent's mailbox; answers its id. Messages of one sender arrive in their order.
///
/// # Errors
/// [`Error::AccessDenied`] without `message:send:AGENT`; [`Error::NotFound`] where there is no such agent;
/// [`Error::QuotaExceeded`] where its mailbox is full; [`Error::Invalid`] for an event out of bounds.
pub fn send(to: &str, event: Draft) -> Result<u64, Error> {
    host::messages::send(to, event)
}

/// Publishes an event; answers its id. A topic is 1 to 128 of a-z, 0-9, `-`, `.` and `/`, beginning with a letter.
///
/// # Errors
/// [`Error::AccessDenied`] without `message:publish:TOPIC`; [`Error::Invalid`] for an event out of bounds, or a topic that
/// is none.
pub fn publish(topic: &str, event: Draft) -> Result<u64, Error> {
    host::messages::publish(topic, event)
}

/// Takes up to `limit` (1 to 100) messages from the agent's own mailbox; waits up to `wait` (at most 30 s) for the first.
///
/// # Errors
/// [`Error::AccessDenied`] without `message:receive`; [`Error::Invalid`] for a limit or a wait out of bounds.
pub fn receive(limit: u32, wait: Duration) -> Result<Vec<Delivery>, Error> {
    host::messages::receive(limit, wait)
}

/// Says that the message with this id is processed; see [`Delivery::ack`].
///
/// # Errors
/// [`Error::NotFound`] where it is not in this attempt's hands; [`Error::AccessDenied`] without `message:receive`.
pub fn ack(id: u64) -> Result<(), Error> {
    host::messages::ack(id)
}

/// Says that the message with this id cannot be processed, and why in at most 1 KiB; see [`Delivery::reject`].
///
/// # Errors
/// As [`ack`], and [`Error::Invalid`] for a reason out of bounds.
pub fn reject(id: u64, reason: &str) -> Result<(), Error> {
    host::messages::reject(id, reason)
}

/// Events of a topic after the position `after` (none: from now on), at most `limit` (1 to 100); waits up to `wait` (at most
/// 30 s) for the first.
///
/// # Errors
/// [`Error::AccessDenied`] without `message:subscribe:TOPIC`; [`Error::Resync`] where `after` is older than what is kept;
/// [`Error::Invalid`] for a limit or a wait out of bounds, or a topic that is none.
pub fn read(topic: &str, after: Option<u64>, limit: u32, wait: Duration) -> Result<Events, Error> {
    host::messages::read(topic, after, limit, wait)
}

/// Over the host's imports: conversions and nothing else. `testing/messages.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use std::time::Duration;

    use super::{Delivery, Draft, Event, Events, Published};
    use crate::bindings::host::ltmc::agent::{messages as wit, types};
    use crate::guest::millis;
    use crate::{Error, Payload};

    pub(crate) fn send(to: &str, event: Draft) -> Result<u64, Error> {
        Ok(wit::send(to, &draft(event))?)
    }

    pub(crate) fn publish(topic: &str, event: Draft) -> Result<u64, Error> {
        Ok(wit::publish(topic, &draft(event))?)
    }

    pub(crate) fn receive(limit: u32, wait: Duration) -> Result<Vec<Delivery>, Error> {
        let delivery =
            |wit: wit::Delivery| Delivery { id: wit.id, deliveries: wit.deliveries, event: event(wit.event) };
        Ok(wit::receive(limit, millis(wait))?.into_iter().map(delivery).collect())
    }

    pub(crate) fn ack(id: u64) -> Result<(), Error> {
        Ok(wit::ack(id)?)
    }

    pub(crate) fn reject(id: u64, reason: &str) -> Result<(), Error> {
        Ok(wit::reject(id, reason)?)
    }

    pub(crate) fn read(topic: &str, after: Option<u64>, limit: u32, wait: Duration) -> Result<Events, Error> {
        let found = wit::read(topic, after, limit, millis(wait))?;
        let published = |wit: wit::Published| Published { position: wit.position, event: event(wit.event) };
        Ok(Events { events: found.events.into_iter().map(published).collect(), next: found.next })
    }

    fn draft(draft: Draft) -> wit::Draft {
        let Draft { kind, subject, data } = draft;
        wit::Draft { kind, subject, data: types::Payload { content_type: data.content_type, bytes: data.bytes } }
    }

    fn event(wit: wit::Event) -> Event {
        let wit::Event { id, source, kind, subject, time_ms, data } = wit;
        Event { id, source, kind, subject, time_ms, data: Payload::new(data.content_type, data.bytes) }
    }
}
