//! What runs wait for in topics: rows that follow the entries of journals, and are looked at in the transaction that publishes.
//!
//! Invariants: a run that is suspended becomes due with the event that it may wait for, in one transaction; and one that is suspended after
//! that event, without having looked so far, is due at once. Whether it is the event is for the run to find out.

use ltmc_model::journal::{Entry, Event};
use ltmc_model::message::{self, Topic};
use ltmc_model::run::{Run, State};
use ltmc_model::{Position, TenantId, Timestamp};
use rusqlite::{Connection, Error, params};

use crate::bind::{blob, execute, found, int, number, time};

/// What entries of a run make of what it waits for.
pub(crate) fn follow(db: &Connection, run: &Run, entries: &[Entry]) -> Result<(), Error> {
    let (tenant, id) = (run.tenant.as_str(), blob(run.id));
    for entry in entries {
        match &entry.event {
            Event::Subscribed { node, topic, subject, kind, .. } => {
                let sql = "insert or replace into subscriptions (tenant, run, node, topic, subject, kind) values (?, ?, ?, ?, ?, ?)";
                execute(db, sql, params![tenant, id, node.as_str(), topic.as_str(), subject, kind])?;
            }
            Event::EventTaken { node, .. } | Event::WaitCancelled { node } => {
                let sql = "delete from subscriptions where tenant = ? and run = ? and node = ?";
                execute(db, sql, params![tenant, id, node.as_str()])?;
            }
            Event::RunSuspended { heard: Some(heard), .. } => {
                let sql = "update runs set wakes_at = ? where tenant = ?2 and id = ?3 and exists \
                           (select 1 from subscriptions where tenant = ?2 and run = ?3 and hit > ?4)";
                execute(db, sql, params![time(entry.at), tenant, id, int(heard.0)])?;
            }
            _ => {}
        }
    }
    // One that is completed waits for nothing.
    if matches!(run.state, State::Failed | State::Cancelled | State::Quarantined) {
        execute(db, "delete from subscriptions where tenant = ? and run = ?", params![tenant, id])?;
    }
    Ok(())
}

/// Makes those runs due that may wait for an event.
pub(crate) fn published(
    db: &Connection,
    tenant: &TenantId,
    at: Timestamp,
    place: Position,
    topic: &Topic,
    event: &message::Event,
) -> Result<(), Error> {
    let mut due = Vec::new();
    let of_any = "update subscriptions set hit = ? where tenant = ? and topic = ? and subject is null \
                  and (kind is null or kind = ?) returning run";
    let of_it = "update subscriptions set hit = ? where tenant = ? and topic = ? and subject = ? \
                 and (kind is null or kind = ?) returning run";
    let (place, tenant, topic) = (int(place.0), tenant.as_str(), topic.as_str());
    let run = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
    for found in db.prepare_cached(of_any)?.query_map(params![place, tenant, topic, event.kind], run)? {
        due.push(found?);
    }
    if let Some(subject) = &event.subject {
        for found in db.prepare_cached(of_it)?.query_map(params![place, tenant, topic, subject, event.kind], run)? {
            due.push(found?);
        }
    }
    let sql = "update runs set wakes_at = ?1 where tenant = ?2 and id = ?3 and wakes_at > ?1 and state < 3";
    due.into_iter().try_for_each(|run| execute(db, sql, params![time(at), tenant, run]))
}

/// How many runs an event of this subject wakes; none: of any.
pub(crate) fn waiting(db: &Connection, tenant: &TenantId, topic: &Topic, subject: Option<&str>) -> Result<u64, Error> {
    let sql = "select count(*) from subscriptions where tenant = ? and topic = ? and subject is ?";
    Ok(number(found(db, sql, params![tenant.as_str(), topic.as_str(), subject])?.unwrap_or(0)))
}
