//! Messages: events (CloudEvents 1.0) to one agent's mailbox, or to a topic that anybody may read.

use ltmc_rules::Name;
pub use ltmc_rules::message::{MAX_ATTRIBUTE, MAX_DATA, MAX_DELIVERIES, MAX_MAILBOX, MAX_TAKEN};
use serde::{Deserialize, Serialize};

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
    /// When.
    pub time: Timestamp,
    /// The content.
    pub data: Payload,
}

impl Event {
    /// As the record keeps it: MessagePack with field names.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("events are plain values, which MessagePack can write")
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
    /// Where to.
    pub channel: Channel,
    /// The event.
    pub event: Event,
}

/// Who has taken messages: one attempt of a step, between two of its checkpoints. What it has taken since the last of them
/// goes back where the attempt fails; what it took before stays with those who go on from there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Taker {
    /// The run.
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
    /// Since when.
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

/// What was wrong with an event's attributes or content.
pub fn check(kind: &str, subject: Option<&str>, data: &Payload) -> Result<(), String> {
    ltmc_rules::message::check(kind, subject, &data.content_type, &data.bytes)
}
