//! Mailboxes and topics, in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Call, Host, State, bounded, current, names, patience};
use crate::messages::{Delivery, Draft, Event, Events, Published};
use crate::{Error, Payload};

const MAX_ATTRIBUTE: usize = 256;
const MAX_DATA: usize = 256 << 10;
const MAX_MAILBOX: usize = 10_000;
const MAX_TAKEN: u32 = 100;
const MAX_TAKEN_BYTES: usize = 4 << 20;
const MAX_DELIVERIES: u32 = 5;
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
    /// Where to.
    pub to: Channel,
    /// What.
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
    id: u64,
    event: Event,
    deliveries: u32,
    /// In which call's hands it is.
    taken: Option<u64>,
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
        let delivered = state.send(source, &self.task.agent, event);
        delivered.map(|event| event.0).unwrap_or_else(|e| panic!("cannot deliver: {e}"))
    }

    /// Publishes an event of a client on a topic, so that the agent finds it; its id.
    ///
    /// # Panics
    /// When it is out of the host's bounds, or the topic is none.
    pub fn publish(&self, topic: &str, event: Draft) -> u64 {
        let published =
            names::topic(topic).and_then(|()| self.state.borrow_mut().publish("/keys/testtesttest", topic, event));
        published.map(|event| event.0).unwrap_or_else(|e| panic!("cannot publish: {e}"))
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
    let host = current()?.host;
    let mut state = host.state.borrow_mut();
    names::agent(to)?;
    state.demand(&format!("message:send:{to}"))?;
    if state.removed.contains(to) {
        return Err(Error::NotFound);
    }
    let (id, event) = state.send(&host.source(), to, event)?;
    state.sent.push(Sent { to: Channel::Mailbox(to.to_owned()), event });
    Ok(id)
}

pub(crate) fn publish(topic: &str, event: Draft) -> Result<u64, Error> {
    let host = current()?.host;
    let mut state = host.state.borrow_mut();
    names::topic(topic)?;
    state.demand(&format!("message:publish:{topic}"))?;
    let (id, event) = state.publish(&host.source(), topic, event)?;
    state.sent.push(Sent { to: Channel::Topic(topic.to_owned()), event });
    Ok(id)
}

pub(crate) fn receive(limit: u32, wait: Duration) -> Result<Vec<Delivery>, Error> {
    let Call { host, number } = current()?;
    let mut state = host.state.borrow_mut();
    state.demand("message:receive")?;
    let (limit, wait) = (bounded("messages", limit, MAX_TAKEN)?, patience(wait)?);
    let taken = state.take(&host.task.agent, number, limit);
    if taken.is_empty() {
        let until = state.now_ms.saturating_add(wait);
        state.advance_to(until);
    }
    Ok(taken)
}

pub(crate) fn ack(id: u64) -> Result<(), Error> {
    let call = current()?;
    let mut state = call.host.state.borrow_mut();
    state.demand("message:receive")?;
    let at = state.in_hands(&call, id)?;
    state.letters.remove(at);
    Ok(())
}

pub(crate) fn reject(id: u64, reason: &str) -> Result<(), Error> {
    let call = current()?;
    let mut state = call.host.state.borrow_mut();
    state.demand("message:receive")?;
    if reason.len() > MAX_REASON || reason.chars().any(|c| c.is_control() && c != '\n') {
        return Err(Error::Invalid(format!("a reason has at most {MAX_REASON} bytes, and no control characters")));
    }
    let at = state.in_hands(&call, id)?;
    let letter = &mut state.letters[at];
    (letter.taken, letter.dead) = (None, Some(reason.to_owned()));
    Ok(())
}

pub(crate) fn read(topic: &str, after: Option<u64>, limit: u32, wait: Duration) -> Result<Events, Error> {
    let host = current()?.host;
    let mut state = host.state.borrow_mut();
    names::topic(topic)?;
    state.demand(&format!("message:subscribe:{topic}"))?;
    let (limit, wait) = (bounded("events", limit, MAX_TAKEN)?, patience(wait)?);
    let after = after.unwrap_or(state.position);
    if after < state.trimmed {
        return Err(Error::Resync(state.position));
    }
    let wanted = state.events.iter().filter(|(on, published)| on == topic && published.position > after);
    let events: Vec<Published> = wanted.take(limit).map(|(_, published)| published.clone()).collect();
    if events.is_empty() {
        let until = state.now_ms.saturating_add(wait);
        state.advance_to(until);
    }
    let next = events.last().map_or(after, |last| last.position);
    Ok(Events { events, next })
}

impl Host {
    fn source(&self) -> String {
        format!("/agents/{}", self.task.agent)
    }
}

impl State {
    fn send(&mut self, source: &str, to: &str, draft: Draft) -> Result<(u64, Event), Error> {
        let (id, event) = self.event(source, draft)?;
        if self.letters.iter().filter(|letter| letter.agent == to && letter.dead.is_none()).count() >= MAX_MAILBOX {
            let full = format!("the mailbox of `{to}` holds {MAX_MAILBOX} messages, which is its bound");
            return Err(Error::QuotaExceeded(full));
        }
        let (agent, event_there) = (to.to_owned(), event.clone());
        self.letters.push(Letter { agent, id, event: event_there, deliveries: 0, taken: None, dead: None });
        Ok((id, event))
    }

    fn publish(&mut self, source: &str, topic: &str, draft: Draft) -> Result<(u64, Event), Error> {
        let (id, event) = self.event(source, draft)?;
        let position = self.next_position();
        self.events.push((topic.to_owned(), Published { position, event: event.clone() }));
        Ok((id, event))
    }

    fn event(&mut self, source: &str, draft: Draft) -> Result<(u64, Event), Error> {
        check(&draft).map_err(Error::Invalid)?;
        let (id, Draft { kind, subject, data }) = (self.next_revision(), draft);
        let event = Event { id: id.to_string(), source: source.to_owned(), kind, subject, time_ms: self.now_ms, data };
        Ok((id, event))
    }

    /// Of one sender, nothing is handed out while an earlier message is in anybody's hands.
    fn take(&mut self, agent: &str, call: u64, limit: usize) -> Vec<Delivery> {
        let own = |letter: &&mut Letter| letter.agent == agent && letter.dead.is_none();
        let mut held: BTreeSet<String> = BTreeSet::new();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for letter in self.letters.iter_mut().filter(own) {
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
        taken
    }

    /// A call is over: what it had taken and not processed goes back, or to the dead letters where that was the last time.
    pub(super) fn release(&mut self, call: u64) {
        for letter in self.letters.iter_mut().filter(|letter| letter.taken == Some(call)) {
            letter.taken = None;
            if letter.deliveries >= MAX_DELIVERIES {
                letter.dead = Some(format!("handed out {} times and never processed", letter.deliveries));
            }
        }
    }

    fn in_hands(&self, call: &Call, id: u64) -> Result<usize, Error> {
        let held = |letter: &Letter| {
            letter.id == id && letter.agent == call.host.task.agent && letter.taken == Some(call.number)
        };
        self.letters.iter().position(held).ok_or(Error::NotFound)
    }
}

fn check(draft: &Draft) -> Result<(), String> {
    if !names::printable(&draft.kind, MAX_ATTRIBUTE) {
        return Err(format!("an event's type is 1 to {MAX_ATTRIBUTE} bytes without control characters"));
    }
    if draft.subject.as_ref().is_some_and(|subject| !names::printable(subject, MAX_ATTRIBUTE)) {
        let most = MAX_ATTRIBUTE;
        return Err(format!("an event's subject, where it has one, is 1 to {most} bytes without control characters"));
    }
    let Payload { content_type, bytes } = &draft.data;
    if bytes.len() > MAX_DATA {
        return Err(format!("an event's data has at most {MAX_DATA} bytes, not {}", bytes.len()));
    }
    if !content_type.is_empty() && !names::printable(content_type, MAX_ATTRIBUTE) {
        return Err(format!(
            "an event's content type is a media type of at most {MAX_ATTRIBUTE} bytes without control characters"
        ));
    }
    Ok(())
}
