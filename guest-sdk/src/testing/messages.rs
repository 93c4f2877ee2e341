//! Mailboxes and topics, in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use ltmc_rules::message::{MAX_DELIVERIES, MAX_MAILBOX, MAX_TAKEN, check};

use super::attempt::{Change, Crossing};
use super::{Host, State, bounded, current, names, patience};
use crate::Error;
use crate::messages::{Delivery, Draft, Event, Events, Published};

const MAX_TAKEN_BYTES: usize = 4 << 20;
const MAX_REASON: usize = 1 << 10;

/// Where a message went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Channel {
    /// One agent's mailbox.
    Mailbox(String),
    /// A topic.
    Topic(String),
}

/// What an agent sent or published, as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The mailbox or the topic that it went to.
    pub to: Channel,
    /// The event, as a receiver reads it.
    pub event: Event,
}

/// A message that nobody could process, as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// What it says.
    pub event: Event,
    /// How often it was handed out.
    pub deliveries: u32,
    /// Why it is here.
    pub reason: String,
}

/// A message in a mailbox.
pub(super) struct Letter {
    agent: String,
    pub(super) id: u64,
    event: Event,
    deliveries: u32,
    /// In which call's hands it is.
    pub(super) taken: Option<u64>,
    /// Why it is a dead letter.
    dead: Option<String>,
}

impl Host {
    /// Puts a message of a client into this agent's mailbox, so that the agent finds it; its id.
    ///
    /// # Panics
    /// When it is out of the host's bounds.
    pub fn deliver(&self, event: Draft) -> u64 {
        self.deliver_from("/keys/testtesttest", event)
    }

    /// Puts a message of this source, such as `/agents/read-diff`, into this agent's mailbox; its id.
    ///
    /// # Panics
    /// When it is out of the host's bounds.
    pub fn deliver_from(&self, source: &str, event: Draft) -> u64 {
        let mut state = self.state.borrow_mut();
        let delivered = state.room(&self.task.agent, 0).and_then(|()| state.event(source, event));
        let (id, event) = delivered.unwrap_or_else(|e| panic!("cannot deliver: {e}"));
        state.arrive(&Channel::Mailbox(self.task.agent.clone()), id, event);
        id
    }

    /// Publishes an event of a client on a topic, so that the agent finds it; its id.
    ///
    /// # Panics
    /// When it is out of the host's bounds, or the topic is none.
    pub fn publish(&self, topic: &str, event: Draft) -> u64 {
        let mut state = self.state.borrow_mut();
        let published = names::topic(topic).and_then(|()| state.event("/keys/testtesttest", event));
        let (id, event) = published.unwrap_or_else(|e| panic!("cannot publish: {e}"));
        state.arrive(&Channel::Topic(topic.to_owned()), id, event);
        id
    }

    /// What agents sent and published so far, in that order.
    pub fn sent(&self) -> Vec<Sent> {
        self.state.borrow().sent.clone()
    }

    /// What waits in this agent's mailbox, in order.
    pub fn mailbox(&self) -> Vec<Event> {
        let state = self.state.borrow();
        let waiting = state.letters.iter().filter(|letter| letter.agent == self.task.agent && letter.dead.is_none());
        waiting.map(|letter| letter.event.clone()).collect()
    }

    /// The dead letters of this agent's mailbox, in order.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let state = self.state.borrow();
        let own = state.letters.iter().filter(|letter| letter.agent == self.task.agent);
        own.filter_map(|letter| {
            let reason = letter.dead.clone()?;
            Some(DeadLetter { event: letter.event.clone(), deliveries: letter.deliveries, reason })
        })
        .collect()
    }

    /// There is no agent of this name: what is sent to it answers [`Error::NotFound`]. Otherwise there is every one.
    pub fn remove_agent(&self, agent: &str) {
        self.state.borrow_mut().removed.insert(agent.to_owned());
    }
}

pub(crate) fn send(to: &str, event: Draft) -> Result<u64, Error> {
    current()?.cross(format_args!("send {to} {:?}", event.clone()), |at| {
        names::agent(to)?;
        at.state.demand(&format!("message:send:{to}"))?;
        if at.state.removed.contains(to) {
            return Err(Error::NotFound);
        }
        let channel = Channel::Mailbox(to.to_owned());
        let (id, event) = at.state.event(&at.host.source(), event)?;
        at.room(to, &channel)?;
        at.change(Change::Sent(channel, id, event));
        Ok(id)
    })
}

pub(crate) fn publish(topic: &str, event: Draft) -> Result<u64, Error> {
    current()?.cross(format_args!("publish {topic} {:?}", event.clone()), |at| {
        names::topic(topic)?;
        at.state.demand(&format!("message:publish:{topic}"))?;
        let (id, event) = at.state.event(&at.host.source(), event)?;
        at.change(Change::Sent(Channel::Topic(topic.to_owned()), id, event));
        Ok(id)
    })
}

pub(crate) fn receive(limit: u32, wait: Duration) -> Result<Vec<Delivery>, Error> {
    current()?.cross(format_args!("receive {limit} {wait:?}"), |at| {
        at.state.demand("message:receive")?;
        let (limit, wait) = (bounded("messages", limit, MAX_TAKEN)?, patience(wait)?);
        let taken = at.take(limit);
        if !taken.is_empty() || wait == 0 {
            return Ok(taken);
        }
        at.checkpoint();
        let taken = at.take(limit);
        if taken.is_empty() {
            at.state.advance_to(at.state.now_ms.saturating_add(wait));
        }
        Ok(taken)
    })
}

pub(crate) fn ack(id: u64) -> Result<(), Error> {
    current()?.cross(format_args!("ack {id}"), |at| {
        at.state.demand("message:receive")?;
        at.in_hands(id)?;
        at.change(Change::Acked(id));
        Ok(())
    })
}

pub(crate) fn reject(id: u64, reason: &str) -> Result<(), Error> {
    current()?.cross(format_args!("reject {id} {reason}"), |at| {
        at.state.demand("message:receive")?;
        if reason.len() > MAX_REASON || reason.chars().any(|c| c.is_control() && c != '\n') {
            return Err(Error::Invalid(format!("a reason has at most {MAX_REASON} bytes, and no control characters")));
        }
        at.in_hands(id)?;
        at.change(Change::Rejected(id, reason.to_owned()));
        Ok(())
    })
}

pub(crate) fn read(topic: &str, after: Option<u64>, limit: u32, wait: Duration) -> Result<Events, Error> {
    current()?.cross(format_args!("read {topic} {after:?} {limit} {wait:?}"), |at| {
        names::topic(topic)?;
        at.state.demand(&format!("message:subscribe:{topic}"))?;
        let (limit, wait) = (bounded("events", limit, MAX_TAKEN)?, patience(wait)?);
        let after = after.unwrap_or_else(|| at.position());
        if after < at.state.trimmed {
            return Err(Error::Resync(at.state.position));
        }
        let mut events = at.state.events_after(topic, after, limit);
        if events.is_empty() && wait > 0 {
            at.checkpoint();
            events = at.state.events_after(topic, after, limit);
            if events.is_empty() {
                at.state.advance_to(at.state.now_ms.saturating_add(wait));
            }
        }
        let next = events.last().map_or(after, |last| last.position);
        Ok(Events { events, next })
    })
}

impl Host {
    fn source(&self) -> String {
        format!("/agents/{}", self.task.agent)
    }
}

impl Crossing<'_> {
    /// Whether the mailbox takes one more, beside those that are on their way there.
    fn room(&self, to: &str, channel: &Channel) -> Result<(), Error> {
        // As long as it holds all that was changed there is nothing to count.
        self.state.room(to, self.changes().len()).or_else(|_| {
            let on_their_way = |change: &&Change| matches!(change, Change::Sent(to, ..) if to == channel);
            self.state.room(to, self.changes().iter().filter(on_their_way).count())
        })
    }

    /// Of one sender, nothing is handed out while an earlier message is in anybody's hands. It is in these at once: nobody
    /// else may have it meanwhile.
    fn take(&mut self, limit: usize) -> Vec<Delivery> {
        let processed: BTreeSet<u64> = self.changes().iter().filter_map(Change::processed).collect();
        let (agent, call) = (&self.host.task.agent, self.number);
        let own = |letter: &&mut Letter| letter.agent == *agent && letter.dead.is_none();
        let mut held: BTreeSet<String> = BTreeSet::new();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for letter in self.state.letters.iter_mut().filter(own).filter(|letter| !processed.contains(&letter.id)) {
            if letter.taken.is_some() {
                held.insert(letter.event.source.clone());
            } else if !held.contains(&letter.event.source) {
                bytes += letter.event.data.bytes.len();
                if taken.len() == limit || (bytes > MAX_TAKEN_BYTES && !taken.is_empty()) {
                    break;
                }
                letter.taken = Some(call);
                letter.deliveries += 1;
                taken.push(Delivery { id: letter.id, deliveries: letter.deliveries, event: letter.event.clone() });
            }
        }
        taken.iter().for_each(|delivery| self.took(delivery.id));
        taken
    }

    fn in_hands(&self, id: u64) -> Result<(), Error> {
        let held = |letter: &Letter| letter.id == id && letter.taken == Some(self.number);
        let processed = self.changes().iter().any(|change| change.processed() == Some(id));
        if self.state.letters.iter().any(held) && !processed { Ok(()) } else { Err(Error::NotFound) }
    }
}

impl State {
    /// Whether the mailbox takes one more, beside so many that are on their way.
    fn room(&self, to: &str, coming: usize) -> Result<(), Error> {
        let there = self.letters.iter().filter(|letter| letter.agent == to && letter.dead.is_none()).count();
        if there + coming < MAX_MAILBOX as usize {
            return Ok(());
        }
        Err(Error::QuotaExceeded(format!("the mailbox of `{to}` holds {MAX_MAILBOX} messages, which is its bound")))
    }

    fn event(&mut self, source: &str, draft: Draft) -> Result<(u64, Event), Error> {
        let Draft { kind, subject, data } = draft;
        check(&kind, subject.as_deref(), &data.content_type, &data.bytes).map_err(Error::Invalid)?;
        let (id, time_ms) = (self.next_revision(), self.now_ms);
        Ok((id, Event { id: id.to_string(), source: source.to_owned(), kind, subject, time_ms, data }))
    }

    pub(super) fn arrive(&mut self, to: &Channel, id: u64, event: Event) {
        match to {
            Channel::Mailbox(agent) => {
                self.letters.push(Letter { agent: agent.clone(), id, event, deliveries: 0, taken: None, dead: None });
            }
            Channel::Topic(topic) => {
                let position = self.next_position();
                self.events.push((topic.clone(), Published { position, event }));
            }
        }
    }

    fn events_after(&self, topic: &str, after: u64, limit: usize) -> Vec<Published> {
        let wanted = self.events.iter().filter(|(on, published)| on == topic && published.position > after);
        wanted.take(limit).map(|(_, published)| published.clone()).collect()
    }

    /// What was taken and not processed goes back, or to the dead letters where that was the last time.
    pub(super) fn release(&mut self, whose: impl Fn(&Letter) -> bool) {
        for letter in self.letters.iter_mut().filter(|letter| letter.taken.is_some() && whose(letter)) {
            letter.taken = None;
            if letter.deliveries >= MAX_DELIVERIES {
                letter.dead = Some(format!("handed out {} times and never processed", letter.deliveries));
            }
        }
    }

    pub(super) fn bury(&mut self, id: u64, reason: &str) {
        if let Some(letter) = self.letters.iter_mut().find(|letter| letter.id == id) {
            (letter.taken, letter.dead) = (None, Some(reason.to_owned()));
        }
    }
}
