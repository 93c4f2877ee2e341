//! Messages: events (CloudEvents 1.0) to one agent's mailbox, or to a topic that anybody may read.

use std::collections::BTreeMap;

use ltmc_rules::Name;
pub use ltmc_rules::message::{MAX_ATTRIBUTE, MAX_DATA, MAX_DELIVERIES, MAX_MAILBOX, MAX_TAKEN};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentName, Payload, Position, Revision, RunId, StepPath, Timestamp};

text_name!(
    /// A topic: words of a-z, 0-9 and `-`, with `.` and `/` between them.
    Topic,
    Name::TOPIC.what,
    Name::TOPIC.rule,
    Name::TOPIC.fits
);

/// An event, in the terms of CloudEvents 1.0; `specversion` is always `1.0`. `datacontenttype` and `data` are the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// With `source` it names the event: one that comes twice is the same.
    pub id: String,
    /// Where it happened: a URI reference. The host sets it, so that nobody speaks for another: `/agents/NAME`, or `/keys/ID`.
    pub source: String,
    /// What happened, such as `review.finished`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened, by the host's clock where the sender did not say.
    pub time: Timestamp,
    /// The content.
    pub data: Payload,
    /// What else its sender said of it: attributes of extensions, such as `partitionkey`, and `dataschema`; by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What it follows from, where it follows from an event. The host sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<Box<Trail>>,
}

impl Event {
    /// The attribute by which events are kept in order, where it has one.
    pub const KEY: &'static str = "partitionkey";
    /// That of the extension for distributed tracing: the trace that it goes on with.
    pub const TRACE: &'static str = "traceparent";

    /// What is kept in order with it: events of the same partition, or of the same source.
    pub fn key(&self) -> &str {
        self.attributes.get(Self::KEY).map_or(self.source.as_str(), String::as_str)
    }

    /// How many events stand before it, each of which led to the next.
    pub fn hops(&self) -> u32 {
        self.trail.as_ref().map_or(0, |trail| trail.hops)
    }

    /// Goes on with this trace, where its sender named none.
    pub fn trace(&mut self, traceparent: Option<&str>) {
        if let Some(traceparent) = traceparent {
            self.attributes.entry(Self::TRACE.to_owned()).or_insert_with(|| traceparent.to_owned());
        }
    }

    /// As runs and filters are shown it: CloudEvents 1.0 in JSON, with the host's attributes `correlation`, `causation` and `hops`.
    pub fn to_value(&self) -> Value {
        let Self { id, source, kind, subject, time, data, attributes, trail } = self;
        let mut out: serde_json::Map<String, Value> =
            attributes.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        if let Some(Trail { correlation, causation, hops, run: _ }) = trail.as_deref() {
            out.insert("correlation".into(), correlation.as_str().into());
            out.insert("causation".into(), causation.as_str().into());
            out.insert("hops".into(), (*hops).into());
        }
        out.insert("specversion".into(), "1.0".into());
        out.insert("id".into(), id.as_str().into());
        out.insert("source".into(), source.as_str().into());
        out.insert("type".into(), kind.as_str().into());
        out.insert("time".into(), time.to_string().into());
        if let Some(subject) = subject {
            out.insert("subject".into(), subject.as_str().into());
        }
        if !data.content_type.is_empty() {
            out.insert("datacontenttype".into(), data.content_type.as_str().into());
        }
        match (data.bytes.is_empty(), data.to_value()) {
            (true, _) => {}
            (false, Ok(value)) => drop(out.insert("data".into(), value)),
            (false, Err(_)) => {
                let payload = serde_json::to_value(data).unwrap_or_default();
                out.insert("data_base64".into(), payload.get("base64").cloned().unwrap_or_default());
            }
        }
        Value::Object(out)
    }

    /// As the record keeps it: MessagePack with field names.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("events are plain values, which MessagePack can write")
    }
}

/// What an event, or a run, follows from. It is the host's: what a guest or a client says of it counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// The event that all of it began with, as `SOURCE ID`.
    pub correlation: String,
    /// The event that led to this, likewise.
    pub causation: String,
    /// How many events stand before.
    pub hops: u32,
    /// The run that published the event, or in which the client works that did; none: what follows is no event, or nobody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

impl Trail {
    /// How many events may follow from each other: what follows from the last starts nothing.
    pub const MAX_HOPS: u32 = 10;

    /// What follows from an event.
    pub fn after(event: &Event) -> Self {
        let causation = format!("{} {}", event.source, event.id);
        let correlation = event.trail.as_ref().map_or_else(|| causation.clone(), |trail| trail.correlation.clone());
        Self { correlation, causation, hops: event.hops().saturating_add(1), run: None }
    }

    /// Of two, that with more events before it; of equal ones the first.
    #[must_use]
    pub fn deeper(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if one.hops < other.hops => Some(other),
            (one, other) => one.or(other),
        }
    }

    /// The same, of an event that this run publishes.
    #[must_use]
    pub fn by(self, run: RunId) -> Self {
        Self { run: Some(run), ..self }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// One agent's mailbox: each message is processed once.
    Mailbox(AgentName),
    /// A topic: every reader sees every event.
    Topic(Topic),
}

/// A message as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Unique in the tenant, and growing.
    pub id: Revision,
    /// The mailbox or the topic that it went to.
    pub channel: Channel,
    /// The event.
    pub event: Event,
}

/// Who has taken messages: one attempt of a step, between two of its checkpoints. What it has taken since the last of them
/// goes back where the attempt fails; what it took before stays with those who go on from there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taker {
    /// The run that the step is of.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// The attempt under which its journal began.
    pub attempt: u32,
    /// How many checkpoints it had behind it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub part: u32,
}

impl Taker {
    /// Which hold of its step it is, as databases name it: `ATTEMPT`, or `ATTEMPT.PART` after a checkpoint.
    pub fn hold(&self) -> String {
        match self.part {
            0 => self.attempt.to_string(),
            part => format!("{}.{part}", self.attempt),
        }
    }

    /// Attempt and part, as [`Self::hold`] writes them.
    pub fn parse_hold(text: &str) -> Option<(u32, u32)> {
        match text.split_once('.') {
            None => Some((text.parse().ok()?, 0)),
            Some((attempt, part)) => Some((attempt.parse().ok()?, part.parse().ok()?)),
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A message handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The message's id: say it to acknowledge.
    pub id: Revision,
    /// How often it has been handed out, this time included.
    pub deliveries: u32,
    /// The event.
    pub event: Event,
}

/// A message that nobody could process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// How often it was handed out.
    pub deliveries: u32,
    /// Why it is here.
    pub reason: String,
    /// When it became a dead letter.
    pub at: Timestamp,
}

/// An event of a topic, in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Go on after it.
    pub position: Position,
    /// The event.
    pub event: Event,
}

/// Part of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Events {
    /// In the order in which they were published.
    pub events: Vec<Published>,
    /// Go on after this one, also where nothing was found.
    pub next: Position,
}

/// What a client says of an event besides its type, subject and content, in the terms of CloudEvents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// With the source it names the event: a second one is the same.
    pub id: String,
    /// Where it happened.
    pub source: String,
    /// When; none: now.
    pub time: Option<Timestamp>,
    /// `dataschema`, and attributes of extensions.
    pub attributes: BTreeMap<String, String>,
}

impl Given {
    /// How many attributes of extensions an event may have.
    pub const MAX_ATTRIBUTES: usize = 32;
    /// Attributes that are the host's: what is said of them counts for nothing. `replay` and `position` stand beside an event's own where
    /// a run is given it, and where a topic is read.
    pub const OF_THE_HOST: [&'static str; 6] = ["correlation", "causation", "hops", "sender", "replay", "position"];
    /// Sources that only the host gives events.
    const RESERVED: [&'static str; 4] = ["/agents/", "/keys/", "/workflows/", "/memory/"];

    /// What is wrong with it; `own`: whose key sends it.
    ///
    /// # Errors
    /// In words, with the attribute's name.
    pub fn check(&self, own: &str) -> Result<(), String> {
        let is_fine = |text: &str| ltmc_rules::is_printable(text, MAX_ATTRIBUTE);
        let what = format!("1 to {MAX_ATTRIBUTE} bytes without control characters");
        for (name, text) in [("id", &self.id), ("source", &self.source)] {
            if !is_fine(text) {
                return Err(format!("an event's `{name}` is {what}"));
            }
        }
        if self.source.contains(char::is_whitespace) {
            return Err("an event's `source` is a URI reference, which has no blanks".into());
        }
        if self.source != own && Self::RESERVED.iter().any(|start| self.source.starts_with(start)) {
            let reserved = Self::RESERVED.join("`, `");
            return Err(format!("an event's `source` begins with none of `{reserved}`: those are the host's to give"));
        }
        if self.attributes.len() > Self::MAX_ATTRIBUTES {
            let (most, count) = (Self::MAX_ATTRIBUTES, self.attributes.len());
            return Err(format!("an event has at most {most} attributes of extensions, not {count}"));
        }
        for (name, text) in &self.attributes {
            if !crate::filter::is_attribute(name) {
                let most = crate::filter::Filter::MAX_NAME;
                let name: String = name.chars().take(80).collect();
                return Err(format!("`{name}` is no name of an attribute: 1 to {most} of a-z and 0-9"));
            }
            if !is_fine(text) {
                return Err(format!("an event's `{name}` is {what}"));
            }
        }
        match self.attributes.get("dataschema") {
            Some(schema) if !is_uri(schema) => {
                Err("an event's `dataschema` is an absolute URI, such as `https://example.com/s.json`".into())
            }
            _ => Ok(()),
        }
    }

    /// Tells it of an event, whose source so far says who sends it.
    pub fn tell(self, event: &mut Event) {
        event.attributes = self.attributes;
        for name in Self::OF_THE_HOST {
            event.attributes.remove(name);
        }
        let sender = std::mem::replace(&mut event.source, self.source);
        event.attributes.insert("sender".into(), sender);
        event.id = self.id;
        event.time = self.time.unwrap_or(event.time);
    }
}

/// Whether a text begins with a scheme, and has something behind it.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(is_word)
        && !rest.is_empty()
        && !text.contains(char::is_whitespace)
}

/// What was wrong with an event's attributes or content.
pub fn check(kind: &str, subject: Option<&str>, data: &Payload) -> Result<(), String> {
    ltmc_rules::message::check(kind, subject, &data.content_type, &data.bytes)
}
