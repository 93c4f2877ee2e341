//! Shared context against the chain: what stands in memory, in notes, facts, mailboxes and topics is what the entries of the tenant's chain commit
//! to, and what they commit to stands there.
//!
//! Of a chain that was begun by a build that did not commit to anything, only what was changed since can be compared.

use std::collections::{HashMap, HashSet};

use ltmc_model::commitment::{self, Commitment, Place};
use ltmc_model::journal::{Commits, Entry};
use ltmc_model::{Digest, Revision, RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::{Connection, Row};

use super::log::Logged;
use super::{MOST_ROWS, arrivals};
use crate::bind::{all, found, number, run_id, stamp};
use crate::error::Error;
use crate::{graph, memory, notes};

/// What a tenant's chain commits to, as far as it was walked.
#[derive(Default)]
pub(super) struct Committed {
    /// Whether it does so from its first entry on.
    is_whole: bool,
    /// From which entry of the chain on it does so of idempotency keys, too.
    keys_from: Option<u64>,
    /// Whether it does so of events of topics, from its first entry on.
    has_events: bool,
    places: HashMap<Place, Left>,
    logged: Logged,
}

/// What is left in a place, and by which entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) content: Digest,
    pub(super) ends_at: Option<Timestamp>,
    by: (RunId, Seq),
}

/// A place that something changed.
pub(super) struct Changed {
    pub(super) place: Place,
    /// What was left there before; none: nothing.
    pub(super) before: Option<Left>,
    /// What is left there now.
    pub(super) after: Option<Left>,
}

/// A row: its place, what it holds, and what it is called.
type Found = (Place, Digest, String);

impl Committed {
    /// Of a tenant whose rows of the log these are.
    pub(super) fn of(logged: Logged) -> Self {
        Self { logged, ..Self::default() }
    }

    /// Whether the chain commits to what the tenant changed from its first entry on.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The next entry, at this place of the chain; what changes by it.
    pub(super) fn saw(&mut self, place: u64, by: (RunId, Seq), bytes: &[u8]) -> Vec<Changed> {
        let Ok(Some(Commits { several, with_keys, with_events })) = Entry::committed(bytes) else { return Vec::new() };
        self.is_whole |= place == 1;
        self.has_events |= place == 1 && with_events;
        if with_keys {
            self.keys_from.get_or_insert(place);
        }
        let mut change = |commitment: Commitment| {
            self.logged.saw(&commitment);
            let Commitment { place, content, ends_at } = commitment;
            let after = content.map(|content| Left { content, ends_at, by });
            let before = match after {
                Some(left) => self.places.insert(place, left),
                None => self.places.remove(&place),
            };
            Changed { place, before, after }
        };
        several.into_iter().map(&mut change).collect()
    }

    /// Holds the tables against it.
    pub(super) fn compare(
        mut self,
        snapshot: &Connection,
        tenant: &TenantId,
        now: Option<Timestamp>,
        audit: &mut Audit,
    ) -> Result<(), Error> {
        let mut told = 0;
        let mut damage = |by: Option<(RunId, Seq)>, what: String| {
            told += 1;
            if told <= MOST_ROWS {
                let (run, seq) = by.unzip();
                audit.damage.push(Damage { tenant: Some(tenant.clone()), run, seq, what });
            }
        };
        if self.has_events {
            for (subscription, event) in arrivals::unknown(snapshot, tenant, &self.contents(snapshot, tenant)?)? {
                damage(
                    None,
                    format!("in `arrivals`, what `{subscription}` took in at {event} was published by nobody"),
                );
            }
        }
        for (table, columns, read) in TABLES {
            let is_whole = if table == "events" { self.has_events } else { self.is_whole };
            let mut statement = snapshot.prepare(&format!("select {columns} from {table} where tenant = ?"))?;
            let mut rows = statement.query([tenant.as_str()])?;
            while let Some(row) = rows.next()? {
                let Ok(found) = read(row) else {
                    damage(None, format!("in `{table}`, a row does not read back"));
                    continue;
                };
                for (place, content, name) in found {
                    match self.places.remove(&place) {
                        Some(left) if left.content == content => {}
                        Some(left) => {
                            damage(Some(left.by), format!("in `{table}`, {name} is not what this entry made it"));
                        }
                        None if is_whole => damage(None, format!("in `{table}`, {name} is in no entry of the chain")),
                        None => {}
                    }
                }
            }
        }
        for (place, content, run, key) in keys(snapshot, tenant)? {
            match self.places.remove(&place) {
                Some(left) if left.content == content => {}
                Some(left) => damage(Some(left.by), format!("in `idempotency`, {key} is not what this entry made it")),
                // One of before nothing commits to.
                None if self.keys_from.is_some_and(|from| run.is_none_or(|begun| begun >= from)) => {
                    damage(None, format!("in `idempotency`, {key} is in no entry of the chain"));
                }
                None => {}
            }
        }
        for left in self.places.into_values() {
            let may_be_gone = left.ends_at.is_some_and(|ends| now.is_none_or(|now| ends <= now));
            if !may_be_gone {
                damage(Some(left.by), "what this entry put into shared context is not there".to_owned());
            }
        }
        if told > MOST_ROWS {
            damage_more(audit, tenant, told - MOST_ROWS);
        }
        self.logged.finish(tenant, self.is_whole, self.has_events, audit);
        Ok(())
    }

    /// What is left anywhere, where a subscription of the tenant's took anything in.
    fn contents(&self, snapshot: &Connection, tenant: &TenantId) -> Result<HashSet<Digest>, Error> {
        let sql = "select 1 from arrivals where tenant = ? limit 1";
        if found(snapshot, sql, [tenant.as_str()])?.is_none() {
            return Ok(HashSet::new());
        }
        Ok(self.places.values().map(|left| left.content).collect())
    }
}

/// An idempotency key: place, content, where in the chain the run that it stands for begins, and what it is called.
type Kept = (Place, Digest, Option<u64>, String);

/// A tenant's idempotency keys.
fn keys(snapshot: &Connection, tenant: &TenantId) -> Result<Vec<Kept>, Error> {
    let sql = "select i.key, i.request, i.run, i.expires_at, j.place from idempotency i left join journal j \
               on j.tenant = i.tenant and j.run = i.run and j.first = 1 where i.tenant = ?";
    all(snapshot, sql, [tenant.as_str()], |row| {
        let (key, request): (String, _) = (row.get(0)?, Digest(row.get(1)?));
        let content = commitment::asked(&request, run_id(row.get(2)?), stamp(row.get(3)?));
        let begun = row.get::<_, Option<i64>>(4)?.map(number);
        // The client's text stands behind the key that sent it.
        let called: String = key.chars().filter(|c| !c.is_control()).take(80).collect();
        Ok((commitment::asked_place(&key), content, begun, format!("the key `{called}`")))
    })
}

fn damage_more(audit: &mut Audit, tenant: &TenantId, more: usize) {
    let what = format!("in shared context, {more} more things are not as the chain says");
    audit.damage.push(Damage { tenant: Some(tenant.clone()), run: None, seq: None, what });
}

type Read = fn(&Row<'_>) -> Result<Vec<Found>, Error>;

/// Each table with the columns that its rows are read from.
const TABLES: [(&str, &str, Read); 5] = [
    ("memory", "scope, owner, key, revision, expires_at, value", memory_row),
    ("notes", "id, text, metadata, revision, kept_at", note_row),
    ("facts", graph::COLUMNS, fact_row),
    ("mail", "id, agent, event", mail_row),
    ("events", "id, topic, event", event_row),
];

fn memory_row(row: &Row<'_>) -> Result<Vec<Found>, Error> {
    let (drawer, key): (_, String) = (memory::drawer(row.get(0)?, row.get(1)?)?, row.get(2)?);
    let (revision, expires_at) = (Revision(number(row.get(3)?)), row.get::<_, Option<i64>>(4)?.map(stamp));
    let content = commitment::memory(revision, expires_at, row.get_ref(5)?.as_blob().unwrap_or_default());
    let owner = if drawer.owner().is_empty() { String::new() } else { format!(" of {}", drawer.owner()) };
    let name = format!("`{key}` ({}{owner})", drawer.scope());
    Ok(vec![(commitment::memory_place(&drawer, &key), content, name)])
}

fn note_row(row: &Row<'_>) -> Result<Vec<Found>, Error> {
    let note = notes::note(row)?;
    // As it stands there: another order of the same metadata is another text.
    let metadata: String = row.get(2)?;
    let content = commitment::note(note.revision, note.kept_at, &metadata, note.text.as_bytes());
    Ok(vec![(commitment::note_place(&note.id), content, format!("the note `{}`", note.id))])
}

fn fact_row(row: &Row<'_>) -> Result<Vec<Found>, Error> {
    let fact = graph::fact(row)?;
    let name = format!("the fact {} {} {}", fact.subject, fact.relation, fact.object);
    let end = commitment::fact_end(fact.valid_to, fact.ended_at);
    let end = end.map(|end| (commitment::fact_end_place(fact.id), end, format!("the end of {name}")));
    let began = (commitment::fact_place(fact.id), commitment::fact(&fact), name);
    Ok(std::iter::once(began).chain(end).collect())
}

fn mail_row(row: &Row<'_>) -> Result<Vec<Found>, Error> {
    let (id, agent): (_, String) = (Revision(number(row.get(0)?)), row.get(1)?);
    let content = commitment::mail(&agent, row.get_ref(2)?.as_blob().unwrap_or_default());
    Ok(vec![(commitment::mail_place(id), content, format!("a message to `{agent}`"))])
}

fn event_row(row: &Row<'_>) -> Result<Vec<Found>, Error> {
    let (id, topic): (_, String) = (Revision(number(row.get(0)?)), row.get(1)?);
    let content = commitment::event(&topic, row.get_ref(2)?.as_blob().unwrap_or_default());
    Ok(vec![(commitment::event_place(id), content, format!("an event of `{topic}`"))])
}
