//! Deltas, made true one after the other: each its row in the log, and what it makes of its table.

use ltmc_model::delta::{Delta, FactEnd, Logged, MemoryChange, Topic};
use ltmc_model::graph::Fact;
use ltmc_model::journal::Change;
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, MAX_DELIVERIES, Message, Taker};
use ltmc_model::recall::Note;
use ltmc_model::{Position, TenantId, Timestamp};
use ltmc_ports::triggers::short;
use rusqlite::{Connection, params};

use crate::bind::{execute, found, int, scope, time};
use crate::{sessions, states, subscriptions, triggers};

/// A delta in its place, with its bytes.
pub(crate) struct Row<'a> {
    pub(crate) position: Position,
    pub(crate) tenant: &'a TenantId,
    pub(crate) at: Timestamp,
    pub(crate) delta: &'a Delta,
    pub(crate) bytes: &'a [u8],
    /// Who does it.
    pub(crate) by: By,
}

/// Who does something to a session's memory, as far as it is kept what was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The run of this turn.
    Turn(u32),
    /// A client, or a run that is no turn: it counts to the turn that began last.
    Anybody,
    /// Who puts back what was there, makes a fork, or has it forgotten.
    Rewinding,
}

impl By {
    /// Who changes something with an act.
    pub(crate) fn of_act(change: &Change) -> Self {
        match change {
            Change::SessionRewound { .. } | Change::SessionOpened { .. } | Change::SessionForgotten { .. } => {
                Self::Rewinding
            }
            _ => Self::Anybody,
        }
    }
}

impl Row<'_> {
    /// The same, for those who follow the log.
    pub(crate) fn logged(&self) -> Logged {
        Logged { position: self.position, tenant: self.tenant.clone(), delta: self.delta.clone() }
    }

    /// Makes it true, within the transaction that is open.
    pub(crate) fn perform(&self, db: &Connection) -> Result<(), rusqlite::Error> {
        let tenant = self.tenant.as_str();
        self.log(db)?;
        match self.delta {
            Delta::Memory(change) => {
                if let Drawer::Session(session) = &change.drawer {
                    sessions::keep_before(db, tenant, session, &change.key, self.by)?;
                }
                triggers::remembered(db, self.tenant, self.position, change)?;
                memory(db, tenant, change)?;
                states::follow(db, tenant, change)
            }
            Delta::NoteKept(kept) => note(db, tenant, kept),
            Delta::NoteForgotten { id, .. } => forget(db, tenant, id),
            Delta::FactBegan(fact) => fact_began(db, tenant, fact),
            Delta::FactEnded(end) => fact_ended(db, tenant, end),
            Delta::Sent(message) => self.sent(db, message),
            Delta::Run(_) => Ok(()),
            mail => mailbox(db, tenant, self.position, mail),
        }
    }

    fn sent(&self, db: &Connection, message: &Message) -> Result<(), rusqlite::Error> {
        sent(db, self.tenant.as_str(), self.position, message)?;
        match &message.channel {
            Channel::Topic(topic) => {
                triggers::published(db, self.tenant, self.position, topic)?;
                subscriptions::published(db, self.tenant, self.at, self.position, topic, &message.event)
            }
            Channel::Mailbox(_) => Ok(()),
        }
    }

    fn log(&self, db: &Connection) -> Result<(), rusqlite::Error> {
        let about = about_delta(self.delta);
        let sql = "insert into log (position, tenant, topic, about, at, delta) values (?, ?, ?, ?, ?, ?)";
        let (position, topic) = (int(self.position.0), topic(self.delta.topic()));
        execute(db, sql, params![position, self.tenant.as_str(), topic, about, time(self.at), self.bytes])
    }
}

/// Whether what a delta replaces is older than it: revisions of a key and of a note only grow, so that whoever was told of one
/// knows the newer of two.
pub(crate) fn is_newer(db: &Connection, tenant: &TenantId, delta: &Delta) -> Result<bool, rusqlite::Error> {
    let (there, revision) = match delta {
        Delta::Memory(change) => {
            let sql = "select revision from memory where tenant = ? and scope = ? and owner = ? and key = ?";
            let drawer = &change.drawer;
            let values = params![tenant.as_str(), scope(drawer.scope()), drawer.owner(), change.key];
            (found(db, sql, values)?, change.revision)
        }
        Delta::NoteKept(note) => {
            let sql = "select revision from notes where tenant = ? and id = ?";
            (found(db, sql, params![tenant.as_str(), note.id])?, note.revision)
        }
        _ => return Ok(true),
    };
    Ok(there.is_none_or(|there| there < int(revision.0)))
}

fn memory(db: &Connection, tenant: &str, change: &MemoryChange) -> Result<(), rusqlite::Error> {
    let (scope, owner) = (scope(change.drawer.scope()), change.drawer.owner());
    match &change.value {
        Some(value) => {
            let sql = "insert into memory (tenant, scope, owner, key, revision, expires_at, value) \
                       values (?, ?, ?, ?, ?, ?, ?) \
                       on conflict (tenant, scope, owner, key) do update set revision = excluded.revision, \
                       expires_at = excluded.expires_at, value = excluded.value";
            let (revision, expires) = (int(change.revision.0), value.expires_at.map(time));
            execute(db, sql, params![tenant, scope, owner, change.key, revision, expires, &value.bytes[..]])
        }
        None => {
            let sql = "delete from memory where tenant = ? and scope = ? and owner = ? and key = ?";
            execute(db, sql, params![tenant, scope, owner, change.key])
        }
    }
}

fn fact_began(db: &Connection, tenant: &str, fact: &Fact) -> Result<(), rusqlite::Error> {
    let sql = "insert into facts (tenant, id, subject, relation, object, properties, valid_from, valid_to, recorded_at, \
               ended_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let (subject, relation, object) = (fact.subject.as_str(), fact.relation.as_str(), fact.object.as_str());
    let (properties, id) = (fact.properties.as_bytes(), int(fact.id.0));
    let (from, to) = (time(fact.valid_from), fact.valid_to.map(time));
    let (recorded, ended) = (time(fact.recorded_at), fact.ended_at.map(time));
    execute(db, sql, params![tenant, id, subject, relation, object, properties, from, to, recorded, ended])
}

fn fact_ended(db: &Connection, tenant: &str, end: &FactEnd) -> Result<(), rusqlite::Error> {
    let sql = "update facts set valid_to = ?, ended_at = ? where tenant = ? and id = ?";
    execute(db, sql, params![time(end.valid_to), time(end.ended_at), tenant, int(end.id.0)])
}

/// What stood there is replaced.
fn note(db: &Connection, tenant: &str, note: &Note) -> Result<(), rusqlite::Error> {
    forget(db, tenant, &note.id)?;
    let sql = "insert into notes (tenant, id, revision, kept_at, metadata, text) values (?, ?, ?, ?, ?, ?)";
    let (revision, kept) = (int(note.revision.0), time(note.kept_at));
    execute(db, sql, params![tenant, note.id, revision, kept, note.metadata_text(), note.text.as_bytes()])?;
    let sql = "insert into note_metadata (tenant, name, value, note) values (?, ?, ?, ?)";
    for (name, value) in &note.metadata {
        execute(db, sql, params![tenant, name, value, note.id])?;
    }
    Ok(())
}

fn forget(db: &Connection, tenant: &str, id: &str) -> Result<(), rusqlite::Error> {
    execute(db, "delete from note_metadata where tenant = ? and note = ?", params![tenant, id])?;
    execute(db, "delete from notes where tenant = ? and id = ?", params![tenant, id])
}

fn sent(db: &Connection, tenant: &str, place: Position, message: &Message) -> Result<(), rusqlite::Error> {
    let event = message.event.to_bytes();
    let (place, id) = (int(place.0), int(message.id.0));
    match &message.channel {
        Channel::Mailbox(agent) => {
            let sql = "insert into mail (tenant, agent, position, id, sender, deliveries, event) \
                       values (?, ?, ?, ?, ?, 0, ?)";
            execute(db, sql, params![tenant, agent.as_str(), place, id, message.event.source, event])
        }
        Channel::Topic(topic) => {
            let sql =
                "insert into events (tenant, topic, position, id, event, subject, cause) values (?, ?, ?, ?, ?, ?, ?)";
            let cause = message.event.trail.as_ref().map(|trail| short(&trail.causation).to_vec());
            execute(db, sql, params![tenant, topic.as_str(), place, id, event, message.event.subject, cause])
        }
    }
}

/// What becomes of messages that were sent to a mailbox.
fn mailbox(db: &Connection, tenant: &str, place: Position, delta: &Delta) -> Result<(), rusqlite::Error> {
    match delta {
        Delta::Taken { messages, by, .. } => {
            let sql = "update mail set taker = ?, deliveries = deliveries + 1 where tenant = ? and id = ?";
            let by = taker(by);
            for message in messages {
                execute(db, sql, params![by, tenant, int(message.0)])?;
            }
        }
        Delta::Processed { message, .. } => {
            execute(db, "delete from mail where tenant = ? and id = ?", params![tenant, int(message.0)])?;
        }
        Delta::Buried { message, reason, at, .. } => {
            let sql = "update mail set taker = null, dead_reason = ?, dead_at = ? where tenant = ? and id = ?";
            execute(db, sql, params![reason, time(*at), tenant, int(message.0)])?;
        }
        Delta::Revived { message, .. } => {
            let sql = "update mail set position = ?, deliveries = 0, taker = null, dead_at = null, dead_reason = null \
                       where tenant = ? and id = ?";
            execute(db, sql, params![int(place.0), tenant, int(message.0)])?;
        }
        Delta::Released { by, at } => {
            let sql = "update mail set taker = null, dead_at = case when deliveries >= ?1 then ?2 end, \
                       dead_reason = case when deliveries >= ?1 \
                       then 'handed out ' || deliveries || ' times and never processed' end \
                       where tenant = ?3 and taker = ?4";
            execute(db, sql, params![MAX_DELIVERIES, time(*at), tenant, taker(by)])?;
        }
        Delta::Memory(_)
        | Delta::FactBegan(_)
        | Delta::FactEnded(_)
        | Delta::NoteKept(_)
        | Delta::NoteForgotten { .. }
        | Delta::Sent(_)
        | Delta::Run(_) => {}
    }
    Ok(())
}

/// An attempt, as the table keeps it.
pub(crate) fn taker(by: &Taker) -> String {
    format!("{}/{}#{}", by.run, by.step, by.hold())
}

/// The same, read back.
pub(crate) fn taker_of(text: &str) -> Option<Taker> {
    let (run, rest) = text.split_once('/')?;
    let (step, hold) = rest.rsplit_once('#')?;
    let (attempt, part) = Taker::parse_hold(hold)?;
    Some(Taker { run: run.parse().ok()?, step: step.parse().ok()?, attempt, part })
}

/// What a delta is about: of a change of memory which key, otherwise nothing.
pub(crate) fn about_delta(delta: &Delta) -> String {
    match delta {
        Delta::Memory(change) => about(&change.drawer, &change.key),
        _ => String::new(),
    }
}

/// What a change of memory is about: SCOPE/OWNER/KEY.
pub(crate) fn about(drawer: &Drawer, key: &str) -> String {
    format!("{}/{}/{key}", drawer.scope(), drawer.owner())
}

pub(crate) fn topic(topic: Topic) -> i64 {
    match topic {
        Topic::Memory => 0,
        Topic::Graph => 1,
        Topic::Recall => 2,
        Topic::Messages => 3,
        Topic::Runs => 4,
    }
}

/// The revision that a delta was drawn.
pub(crate) fn revision(delta: &Delta) -> Option<u64> {
    match delta {
        Delta::Memory(change) => Some(change.revision.0),
        Delta::FactBegan(fact) => Some(fact.id.0),
        Delta::NoteKept(note) => Some(note.revision.0),
        Delta::NoteForgotten { revision, .. } => Some(revision.0),
        Delta::Sent(message) => Some(message.id.0),
        _ => None,
    }
}
