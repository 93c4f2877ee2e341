//! `ltmc:agent/messages`.

use std::time::Duration;

use super::millis;
use crate::bindings::host::ltmc::agent::{messages as wit, types};
use crate::messages::{Delivery, Draft, Event, Events, Published};
use crate::{Error, Payload};

pub(crate) fn send(to: &str, event: Draft) -> Result<u64, Error> {
    Ok(wit::send(to, &draft(event))?)
}

pub(crate) fn publish(topic: &str, event: Draft) -> Result<u64, Error> {
    Ok(wit::publish(topic, &draft(event))?)
}

pub(crate) fn receive(limit: u32, wait: Duration) -> Result<Vec<Delivery>, Error> {
    let delivery = |wit: wit::Delivery| Delivery { id: wit.id, deliveries: wit.deliveries, event: event(wit.event) };
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
