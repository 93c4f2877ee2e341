//! The interface `ltmc:agent/messages`: mailboxes of agents, and topics.

use super::HostCall;
use super::form::{Canonical, Request, Values};
use crate::capability::{Any, Capability};
use crate::message::{Delivery, Events, Given, Topic};
use crate::{AgentName, Payload, Position, Revision};

interface! {
    /// Calls on messages.
    Messages: MessageCall { Send, Publish, Receive, Ack, Reject, Read }
}

/// An event as its sender writes it: the host adds who it is from, and, where they are missing, id and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The event's type: what happened, such as `review.finished`.
    pub kind: String,
    /// What it is about, if anything.
    pub subject: Option<String>,
    /// The content.
    pub data: Payload,
    /// What a client says besides, where it sends an event in the terms of CloudEvents.
    pub given: Option<Box<Given>>,
}

/// `messages.send`: into an agent's mailbox; answers the message's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The agent whose mailbox it goes to.
    pub to: AgentName,
    /// The event.
    pub event: Draft,
}

impl HostCall for Send {
    type Reply = Revision;
    const NAME: &'static str = "messages.send";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::MessageSend(Any::One(self.to.clone()))]
    }

    fn about(&self) -> String {
        format!("{} to {}", self.event.kind, self.to)
    }

    fn request(&self) -> Request {
        Request::new("message-send", &Values::new().with(&self.to).with(&self.event))
    }
}

/// `messages.publish`: on a topic; answers the event's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The topic that it is published on.
    pub topic: Topic,
    /// The event.
    pub event: Draft,
}

impl HostCall for Publish {
    type Reply = Revision;
    const NAME: &'static str = "messages.publish";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::MessagePublish(Any::One(self.topic.clone()))]
    }

    fn about(&self) -> String {
        format!("{} on {}", self.event.kind, self.topic)
    }

    fn request(&self) -> Request {
        Request::new("message-publish", &Values::new().with(&self.topic).with(&self.event))
    }
}

/// `messages.receive`: takes messages of the agent's own mailbox into this attempt's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receive {
    /// At most so many, 1 to [`crate::message::MAX_TAKEN`].
    pub limit: u32,
    /// How long to wait for the first.
    pub wait_ms: u64,
}

impl HostCall for Receive {
    type Reply = Vec<Delivery>;
    const NAME: &'static str = "messages.receive";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::MessageReceive]
    }

    fn about(&self) -> String {
        format!("at most {}", self.limit)
    }

    fn request(&self) -> Request {
        Request::new("message-receive", &Values::new().with(&self.limit).with(&self.wait_ms))
    }
}

/// `messages.ack`: a message is processed, and gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// A message that this attempt was handed.
    pub id: Revision,
}

impl HostCall for Ack {
    type Reply = ();
    const NAME: &'static str = "messages.ack";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::MessageReceive]
    }

    fn about(&self) -> String {
        self.id.to_string()
    }

    fn request(&self) -> Request {
        Request::new("message-ack", &Values::new().with(&self.id))
    }
}

/// `messages.reject`: a message cannot be processed, and goes to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// A message that this attempt was handed.
    pub id: Revision,
    /// Why it cannot be processed.
    pub reason: String,
}

impl HostCall for Reject {
    type Reply = ();
    const NAME: &'static str = "messages.reject";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::MessageReceive]
    }

    fn about(&self) -> String {
        self.id.to_string()
    }

    fn request(&self) -> Request {
        Request::new("message-reject", &Values::new().with(&self.id).with(&self.reason))
    }
}

/// `messages.read`: events of a topic, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The topic that is read.
    pub topic: Topic,
    /// After which event; none: from now on.
    pub after: Option<Position>,
    /// At most so many, 1 to [`crate::message::MAX_TAKEN`].
    pub limit: u32,
    /// How long to wait for the first.
    pub wait_ms: u64,
}

impl HostCall for Read {
    type Reply = Events;
    const NAME: &'static str = "messages.read";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::MessageSubscribe(Any::One(self.topic.clone()))]
    }

    fn about(&self) -> String {
        self.topic.to_string()
    }

    fn request(&self) -> Request {
        Request::new(
            "message-read",
            &Values::new().with(&self.topic).with(&self.after).with(&self.limit).with(&self.wait_ms),
        )
    }
}

impl Canonical for Draft {
    fn write(&self, to: &mut Vec<u8>) {
        let values = Values::new().with(&self.kind).with(&self.subject).with(&self.data);
        // As before where nothing is said besides.
        match &self.given {
            None => values.write(to),
            Some(given) => {
                let told: Vec<String> =
                    given.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let time = given.time.map(|time| time.millis());
                values.with(&given.id).with(&given.source).with(&time).with(&told.join("\n")).write(to);
            }
        }
    }
}

impl Canonical for Topic {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_str().write(to);
    }
}
