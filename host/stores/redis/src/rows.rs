//! What scripts are told: rows of the log and items of the record, as arguments.

use std::collections::BTreeMap;

use ltmc_model::delta::{Delta, Logged, MemoryValue, RunMark};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Event, Message, Taker};
use ltmc_model::{AgentName, Position, Revision, Timestamp};
use ltmc_ports::log::Item;
use ltmc_ports::{Kind, StoreError};
use redis::Cmd;

/// Larger values of sessions are not held, their revision alone.
pub(crate) const MAX_HELD: usize = 64 << 10;

/// The arguments of rows. What is sent is told channel by channel: it is most of what there is, and in what order different
/// channels hear of it makes no difference.
pub(crate) fn all(cmd: &mut Cmd, rows: &[Logged]) -> Result<(), StoreError> {
    let sends = |logged: &Logged| matches!(logged.delta, Delta::Sent(_));
    for some in rows.chunk_by(|one, next| sends(one) == sends(next)) {
        let mut channels: BTreeMap<&Channel, Vec<(Position, &Message)>> = BTreeMap::new();
        for logged in some {
            match &logged.delta {
                Delta::Sent(message) => channels.entry(&message.channel).or_default().push((logged.position, message)),
                _ => row(cmd, logged)?,
            }
        }
        for (channel, messages) in channels {
            sent(cmd, channel, &messages)?;
        }
    }
    Ok(())
}

/// The arguments of what is sent to a channel, in order.
fn sent(cmd: &mut Cmd, channel: &Channel, messages: &[(Position, &Message)]) -> Result<(), StoreError> {
    let last = messages.last().map_or(0, |(position, _)| position.0);
    match channel {
        Channel::Mailbox(agent) => cmd.arg(last).arg("mail").arg(1 + 3 * messages.len()).arg(agent.as_str()),
        Channel::Topic(topic) => cmd.arg(last).arg("topic").arg(1 + 2 * messages.len()).arg(topic.as_str()),
    };
    for (position, message) in messages {
        cmd.arg(position.0);
        if let Channel::Mailbox(_) = channel {
            cmd.arg(message.id.0);
        }
        cmd.arg(event_bytes(&message.event)?);
    }
    Ok(())
}

/// One row's arguments. What is not held leaves no trace.
fn row(cmd: &mut Cmd, logged: &Logged) -> Result<(), StoreError> {
    let mut add = |kind: &str, arguments: usize| {
        cmd.arg(logged.position.0).arg(kind).arg(arguments);
    };
    match &logged.delta {
        Delta::Memory(change) => {
            add("memory", 6);
            let verb = if change.value.is_some() { "put" } else { "delete" };
            cmd.arg(change.drawer.scope().as_str()).arg(change.drawer.owner()).arg(&change.key);
            cmd.arg(change.revision.0).arg(verb);
            match (&change.drawer, &change.value) {
                (Drawer::Session(_), Some(value)) => cmd.arg(stored(change.revision, value)),
                _ => cmd.arg(""),
            };
        }
        Delta::Taken { agent, messages, places, by } => {
            let placed = messages.iter().zip(places);
            add("taken", 2 + 2 * placed.len());
            cmd.arg(agent.as_str()).arg(taker(by));
            for (id, place) in placed {
                cmd.arg(id.0).arg(place.0);
            }
        }
        Delta::Processed { agent, message } => {
            add("processed", 2);
            cmd.arg(agent.as_str()).arg(message.0);
        }
        Delta::Buried { agent, message, reason, at } => {
            add("buried", 4);
            cmd.arg(agent.as_str()).arg(message.0).arg(reason).arg(at.to_string());
        }
        Delta::Revived { agent, message } => {
            add("revived", 2);
            cmd.arg(agent.as_str()).arg(message.0);
        }
        Delta::Released { by, at } => {
            add("released", 2);
            cmd.arg(taker(by)).arg(at.to_string());
        }
        Delta::Run(mark) => {
            let over = if mark.state.is_over() { mark.state.as_str() } else { "" };
            let steps = if over.is_empty() { &mark.steps[..] } else { &[] };
            add("run", 3 + 2 * steps.len());
            cmd.arg(mark.run.to_string()).arg(over);
            run(cmd, mark, steps)?;
        }
        // Told channel by channel.
        Delta::Sent(_) => {}
        Delta::FactBegan(_) | Delta::FactEnded(_) | Delta::NoteKept(_) | Delta::NoteForgotten { .. } => {}
    }
    Ok(())
}

/// One item's arguments.
pub(crate) fn item(cmd: &mut Cmd, item: &Item) -> Result<(), StoreError> {
    match item.deltas.first() {
        Some(Delta::Memory(change)) => {
            if let Drawer::Session(owner) = &change.drawer {
                cmd.arg("session").arg(3).arg(owner.as_str()).arg(&change.key);
                match &change.value {
                    Some(value) => cmd.arg(stored(change.revision, value)),
                    None => cmd.arg(""),
                };
            }
        }
        Some(Delta::Sent(message)) => {
            if item.position == Position(0) {
                return Err(odd(format!("`{}` has no place in the log", item.key)));
            }
            match &message.channel {
                Channel::Topic(topic) => {
                    cmd.arg("topic").arg(3).arg(topic.as_str()).arg(item.position.0);
                    cmd.arg(event_bytes(&message.event)?);
                }
                Channel::Mailbox(agent) => mail(cmd, agent, message, item)?,
            }
        }
        Some(Delta::Run(mark)) => {
            let over = mark.state.is_over();
            let steps = if over { &[] } else { &mark.steps[..] };
            cmd.arg("run").arg(2 + 2 * steps.len()).arg(mark.run.to_string());
            if over {
                cmd.arg("");
            } else {
                run(cmd, mark, steps)?;
            }
        }
        _ => return Err(odd(format!("`{}` is nothing that is held here", item.key))),
    }
    Ok(())
}

/// A message as its deltas leave it.
fn mail(cmd: &mut Cmd, agent: &AgentName, message: &Message, item: &Item) -> Result<(), StoreError> {
    let (mut deliveries, mut by, mut dead) = (0_u32, None, None);
    for delta in &item.deltas[1..] {
        match delta {
            Delta::Taken { by: taker, .. } => (deliveries, by) = (deliveries + 1, Some(taker)),
            Delta::Released { .. } => by = None,
            Delta::Buried { reason, at, .. } => (by, dead) = (None, Some((reason, at))),
            Delta::Revived { .. } => (deliveries, by, dead) = (0, None, None),
            _ => return Err(odd(format!("`{}` has a change that is no message's", item.key))),
        }
    }
    cmd.arg("mail").arg(if dead.is_some() { 8 } else { 6 });
    cmd.arg(agent.as_str()).arg(message.id.0).arg(item.position.0).arg(event_bytes(&message.event)?);
    cmd.arg(deliveries).arg(by.map(taker).unwrap_or_default());
    if let Some((reason, at)) = dead {
        cmd.arg(reason).arg(at.to_string());
    }
    Ok(())
}

/// A run's mark and its steps.
fn run(cmd: &mut Cmd, mark: &RunMark, steps: &[ltmc_model::delta::StepMark]) -> Result<(), StoreError> {
    let bare = RunMark { steps: Vec::new(), origin: None, ..mark.clone() };
    cmd.arg(json(&bare)?);
    for step in steps {
        cmd.arg(step.step.as_str()).arg(json(step)?);
    }
    Ok(())
}

/// An attempt, as consumers of a mailbox's group are named.
pub(crate) fn taker(by: &Taker) -> String {
    format!("{}/{}/{}", by.run, by.step, by.hold())
}

/// How a session's value is held: its revision, when it ends, and the value unless it is large.
fn stored(revision: Revision, value: &MemoryValue) -> Vec<u8> {
    let expires = value.expires_at.map_or_else(|| "-".to_owned(), |at| at.millis().to_string());
    if value.bytes.len() > MAX_HELD {
        return format!("{revision} {expires} -").into_bytes();
    }
    let mut held = format!("{revision} {expires} v").into_bytes();
    held.extend_from_slice(&value.bytes);
    held
}

/// What is held of a key of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its version.
    pub revision: Revision,
    /// When it ends; none: stays until deleted.
    pub expires_at: Option<Timestamp>,
    /// The value; none: it is large, and the record has it.
    pub value: Option<Vec<u8>>,
}

impl Held {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(3, |b| *b == b' ');
        let mut number = || std::str::from_utf8(parts.next()?).ok();
        let revision = Revision(number()?.parse().ok()?);
        let expires_at = match number()? {
            "-" => None,
            millis => Some(Timestamp::from_millis(millis.parse().ok()?)),
        };
        let value = match parts.next()?.split_first()? {
            (b'v', value) => Some(value.to_vec()),
            _ => None,
        };
        Some(Self { revision, expires_at, value })
    }
}

/// Events are kept in MessagePack: in JSON, content would come back in another form than it was sent in.
fn event_bytes(event: &Event) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec_named(event).map_err(|error| StoreError::new(Kind::Internal, "redis.encode").because(error))
}

pub(crate) fn event_of(bytes: &[u8]) -> Result<Event, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|error| StoreError::new(Kind::Corrupt, "redis.events").because(error))
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::new(Kind::Internal, "redis.encode").because(error))
}

fn odd(what: String) -> StoreError {
    StoreError::new(Kind::Internal, "redis.put").because(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_reads_back() {
        let at = Some(Timestamp::from_millis(1_795_000_000_000));
        for (bytes, expires_at) in [(&b"\0 v \xff"[..], None), (b"", at)] {
            let value = MemoryValue { bytes: bytes.to_vec().into(), expires_at };
            let held = Held { revision: Revision(7), expires_at, value: Some(bytes.to_vec()) };
            assert_eq!(Held::parse(&stored(Revision(7), &value)), Some(held));
        }
        let large = MemoryValue { bytes: vec![0; MAX_HELD + 1].into(), expires_at: at };
        let held = Held { revision: Revision(u64::MAX), expires_at: at, value: None };
        assert_eq!(Held::parse(&stored(Revision(u64::MAX), &large)), Some(held));
        assert_eq!(Held::parse(b"nonsense"), None);
    }
}
