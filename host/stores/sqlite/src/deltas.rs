//! Deltas, as the statements of a group: their rows in the log, and what they make of each table.
//!
//! Invariant: within a group, deltas of one kind are applied in order, and kinds in the order in which one can follow
//! another: a message is sent before it is taken, taken before it is processed or let go.

use std::collections::HashMap;

use ltmc_model::delta::{Delta, Logged, MemoryChange, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, MAX_DELIVERIES, Taker};
use ltmc_model::recall::Note;
use ltmc_model::{Position, TenantId, Timestamp};

use crate::batch::{Batch, Blob, int, scope, time};

/// A delta in its place, with its bytes.
pub(crate) struct Row<'a> {
    pub(crate) position: Position,
    pub(crate) tenant: &'a TenantId,
    pub(crate) at: Timestamp,
    pub(crate) delta: &'a Delta,
    pub(crate) bytes: &'a [u8],
}

impl Row<'_> {
    /// The same, for those who follow the log.
    pub(crate) fn logged(&self) -> Logged {
        Logged { position: self.position, tenant: self.tenant.clone(), delta: self.delta.clone() }
    }
}

impl Batch {
    /// Everything that these deltas make true, and their rows in the log.
    pub(crate) fn deltas(&mut self, rows: &[Row<'_>]) {
        if rows.is_empty() {
            return;
        }
        self.log(rows);
        let memory: Vec<(&TenantId, &MemoryChange)> = rows
            .iter()
            .filter_map(|row| match row.delta {
                Delta::Memory(change) => Some((row.tenant, change)),
                _ => None,
            })
            .collect();
        self.memory(&memory);
        self.facts(rows);
        self.notes(rows);
        self.messages(rows);
        if let Some(highest) = rows.iter().filter_map(|row| revision(row.delta)).max() {
            self.with_number("update meta set value = max(value, ?) where key = 'revision'", int(highest));
        }
    }

    fn log(&mut self, rows: &[Row<'_>]) {
        let sql = "insert into log (position, tenant, topic, about, at, delta) \
                   select value->>0, value->>1, value->>2, value->>3, value->>4, substr(?, value->>5, value->>6) \
                   from json_each(?)";
        let mut blob = Blob::default();
        let row = |row: &Row<'_>| {
            let (from, length) = blob.push(row.bytes);
            let about = match row.delta {
                Delta::Memory(change) => about(&change.drawer, &change.key),
                _ => String::new(),
            };
            (int(row.position.0), row.tenant.clone(), topic(row.delta.topic()), about, time(row.at), from, length)
        };
        let values: Vec<_> = rows.iter().map(row).collect();
        self.each_with(sql, blob, &values);
    }

    /// The last change of each key counts.
    fn memory(&mut self, changes: &[(&TenantId, &MemoryChange)]) {
        let mut last: HashMap<(&TenantId, &Drawer, &str), &MemoryChange> = HashMap::new();
        for (tenant, change) in changes {
            last.insert((tenant, &change.drawer, &change.key), change);
        }
        let (mut blob, mut puts, mut deletes) = (Blob::default(), Vec::new(), Vec::new());
        for ((tenant, drawer, key), change) in last {
            let (scope, owner) = (scope(drawer.scope()), drawer.owner());
            match &change.value {
                Some(value) => {
                    let (from, length) = blob.push(&value.bytes);
                    let revision = int(change.revision.0);
                    puts.push((tenant, scope, owner, key, revision, value.expires_at.map(time), from, length));
                }
                None => deletes.push((tenant, scope, owner, key)),
            }
        }
        let sql = "insert into memory (tenant, scope, owner, key, revision, expires_at, value) \
                   select value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, \
                   substr(?, value->>6, value->>7) from json_each(?) where true \
                   on conflict (tenant, scope, owner, key) do update set revision = excluded.revision, \
                   expires_at = excluded.expires_at, value = excluded.value";
        self.each_with(sql, blob, &puts);
        let sql = "delete from memory where (tenant, scope, owner, key) in \
                   (select value->>0, value->>1, value->>2, value->>3 from json_each(?))";
        self.each(sql, &deletes);
    }

    fn facts(&mut self, rows: &[Row<'_>]) {
        let (mut blob, mut began, mut ended) = (Blob::default(), Vec::new(), Vec::new());
        for row in rows {
            match row.delta {
                Delta::FactBegan(fact) => {
                    let (from, length) = blob.push(fact.properties.as_bytes());
                    let of = (row.tenant, int(fact.id.0), &fact.subject, &fact.relation, &fact.object, from, length);
                    let times = (
                        time(fact.valid_from),
                        fact.valid_to.map(time),
                        time(fact.recorded_at),
                        fact.ended_at.map(time),
                    );
                    began.push((of, times));
                }
                Delta::FactEnded(end) => {
                    ended.push((row.tenant, int(end.id.0), time(end.valid_to), time(end.ended_at)))
                }
                _ => {}
            }
        }
        let sql = "insert into facts (tenant, id, subject, relation, object, properties, valid_from, valid_to, recorded_at, \
                   ended_at) select value->>'$[0][0]', value->>'$[0][1]', value->>'$[0][2]', value->>'$[0][3]', \
                   value->>'$[0][4]', substr(?, value->>'$[0][5]', value->>'$[0][6]'), value->>'$[1][0]', value->>'$[1][1]', \
                   value->>'$[1][2]', value->>'$[1][3]' from json_each(?)";
        self.each_with(sql, blob, &began);
        let sql = "update facts set valid_to = j.value->>2, ended_at = j.value->>3 from json_each(?) as j \
                   where facts.tenant = j.value->>0 and facts.id = j.value->>1";
        self.each(sql, &ended);
    }

    /// The last word on each note counts.
    fn notes(&mut self, rows: &[Row<'_>]) {
        let mut last: HashMap<(&TenantId, &str), Option<&Note>> = HashMap::new();
        for row in rows {
            match row.delta {
                Delta::NoteKept(note) => drop(last.insert((row.tenant, &note.id), Some(note))),
                Delta::NoteForgotten { id, .. } => drop(last.insert((row.tenant, id), None)),
                _ => {}
            }
        }
        if last.is_empty() {
            return;
        }
        let (mut blob, mut kept, mut metadata) = (Blob::default(), Vec::new(), Vec::new());
        for ((tenant, id), note) in &last {
            let Some(note) = note else { continue };
            let (from, length) = blob.push(note.text.as_bytes());
            let of = serde_json::to_string(&note.metadata).unwrap_or_default();
            kept.push((tenant, id, int(note.revision.0), time(note.kept_at), of, from, length));
            metadata.extend(note.metadata.iter().map(|(name, value)| (tenant, name, value, id)));
        }
        let all: Vec<_> = last.keys().collect();
        let which = "(select value->>0, value->>1 from json_each(?))";
        self.each(format!("delete from note_metadata where (tenant, note) in {which}"), &all);
        self.each(format!("delete from notes where (tenant, id) in {which}"), &all);
        let sql = "insert into notes (tenant, id, revision, kept_at, metadata, text) select value->>0, value->>1, value->>2, \
                   value->>3, value->>4, substr(?, value->>5, value->>6) from json_each(?)";
        self.each_with(sql, blob, &kept);
        let sql = "insert into note_metadata (tenant, name, value, note) \
                   select value->>0, value->>1, value->>2, value->>3 from json_each(?)";
        self.each(sql, &metadata);
    }

    fn messages(&mut self, rows: &[Row<'_>]) {
        let (mut mail, mut events) = ((Blob::default(), Vec::new()), (Blob::default(), Vec::new()));
        let (mut revived, mut taken, mut processed, mut buried, mut released) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let tenant = row.tenant;
            match row.delta {
                Delta::Sent(message) => {
                    let event = rmp_serde::to_vec_named(&message.event).unwrap_or_default();
                    let (place, id) = (int(row.position.0), int(message.id.0));
                    match &message.channel {
                        Channel::Mailbox(agent) => {
                            let (from, length) = mail.0.push(&event);
                            mail.1.push((tenant, agent, place, id, &message.event.source, from, length));
                        }
                        Channel::Topic(topic) => {
                            let (from, length) = events.0.push(&event);
                            events.1.push((tenant, topic, place, id, from, length));
                        }
                    }
                }
                Delta::Revived { message, .. } => revived.push((tenant, int(message.0), int(row.position.0))),
                Delta::Taken { messages, by, .. } => {
                    taken.extend(messages.iter().map(|message| (tenant, int(message.0), taker(by))));
                }
                Delta::Processed { message, .. } => processed.push((tenant, int(message.0))),
                Delta::Buried { message, reason, at, .. } => buried.push((tenant, int(message.0), reason, time(*at))),
                Delta::Released { by, at } => released.push((tenant, taker(by), time(*at))),
                _ => {}
            }
        }
        let sql = "insert into mail (tenant, agent, position, id, sender, deliveries, event) select value->>0, value->>1, \
                   value->>2, value->>3, value->>4, 0, substr(?, value->>5, value->>6) from json_each(?)";
        self.each_with(sql, mail.0, &mail.1);
        let sql = "insert into events (tenant, topic, position, id, event) select value->>0, value->>1, value->>2, value->>3, \
                   substr(?, value->>4, value->>5) from json_each(?)";
        self.each_with(sql, events.0, &events.1);
        let of = "from json_each(?) as j where mail.tenant = j.value->>0 and mail.id = j.value->>1";
        let sql =
            "update mail set position = j.value->>2, deliveries = 0, taker = null, dead_at = null, dead_reason = null";
        self.each(format!("{sql} {of}"), &revived);
        self.each(format!("update mail set taker = j.value->>2, deliveries = deliveries + 1 {of}"), &taken);
        self.each("delete from mail where (tenant, id) in (select value->>0, value->>1 from json_each(?))", &processed);
        let sql = "update mail set taker = null, dead_reason = j.value->>2, dead_at = j.value->>3";
        self.each(format!("{sql} {of}"), &buried);
        let sql = format!(
            "update mail set taker = null, \
             dead_at = case when deliveries >= {MAX_DELIVERIES} then j.value->>2 end, \
             dead_reason = case when deliveries >= {MAX_DELIVERIES} \
             then 'handed out ' || deliveries || ' times and never processed' end \
             from json_each(?) as j where mail.tenant = j.value->>0 and mail.taker = j.value->>1"
        );
        self.each(sql, &released);
    }
}

/// An attempt, as the table keeps it.
pub(crate) fn taker(by: &Taker) -> String {
    format!("{}/{}#{}", by.run, by.step, by.attempt)
}

/// The same, read back.
pub(crate) fn taker_of(text: &str) -> Option<Taker> {
    let (run, rest) = text.split_once('/')?;
    let (step, attempt) = rest.rsplit_once('#')?;
    Some(Taker { run: run.parse().ok()?, step: step.parse().ok()?, attempt: attempt.parse().ok()? })
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
fn revision(delta: &Delta) -> Option<u64> {
    match delta {
        Delta::Memory(change) => Some(change.revision.0),
        Delta::FactBegan(fact) => Some(fact.id.0),
        Delta::NoteKept(note) => Some(note.revision.0),
        Delta::NoteForgotten { revision, .. } => Some(revision.0),
        Delta::Sent(message) => Some(message.id.0),
        _ => None,
    }
}
