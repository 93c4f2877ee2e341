//! Whether what a change was decided on is so: looked up in the transaction that makes the change true, after everything
//! before it.
//!
//! Two bounds are counted rather than looked up, for what they count may be long: how full a mailbox and a tenant's memory are.
//! [`Bounds`] remembers for each what was counted and what was expected to fit since, and counts anew where that reaches the bound.
//! What comes without being asked about, while there is plenty of room, is not in it until then.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ltmc_model::agent::Grants;
use ltmc_model::message::MAX_MAILBOX;
use ltmc_model::schedule::MAX_OF_A_TENANT;
use ltmc_model::session::Standing;
use ltmc_model::{AgentName, Digest, Position, Revision, TenantId, Timestamp, delta, trigger};
use ltmc_ports::Expect;
use ltmc_ports::expect::Part;
use rusqlite::{Connection, OptionalExtension as _, Params, params};

use crate::bind::{blob, found, int, number, scope, time};
use crate::deltas::taker;
use crate::{deltas, sessions, subscriptions};

/// Of so many mailboxes and tenants a number is remembered; of more, all are forgotten and counted anew.
const REMEMBERED: usize = 10_000;

/// How full mailboxes and memories are at most.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    mailboxes: HashMap<(TenantId, AgentName), u64>,
    memories: HashMap<TenantId, u64>,
}

/// Whether this is so, for a change that is made at `at`.
#[expect(clippy::too_many_lines, reason = "a table: an arm for each kind of expectation")]
pub(crate) fn holds(
    db: &Connection,
    bounds: &mut Bounds,
    tenant: &TenantId,
    at: Timestamp,
    expect: &Expect,
) -> Result<bool, rusqlite::Error> {
    let of = tenant.as_str();
    match expect {
        Expect::Key { drawer, key, revision } => {
            let sql = "select revision from memory where tenant = ? and scope = ? and owner = ? and key = ? \
                       and (expires_at is null or expires_at > ?)";
            let values = params![of, scope(drawer.scope()), drawer.owner(), key, time(at)];
            Ok(found(db, sql, values)? == revision.map(|revision| int(revision.0)))
        }
        Expect::Fact { subject, relation, object, id } => {
            let sql = "select id from facts where tenant = ? and subject = ? and relation = ? and object = ? \
                       and valid_to is null";
            let values = params![of, subject.as_str(), relation.as_str(), object.as_str()];
            Ok(found(db, sql, values)? == id.map(|id| int(id.0)))
        }
        Expect::Note { id, revision } => {
            let there = found(db, "select revision from notes where tenant = ? and id = ?", params![of, id])?;
            Ok(there == revision.map(|revision| int(revision.0)))
        }
        Expect::Waiting { agent, messages } => are_waiting(db, of, agent, messages),
        Expect::InHands { agent, message, by } => {
            let sql = "select 1 from mail where tenant = ? and id = ? and agent = ? and taker = ?";
            is_there(db, sql, params![of, int(message.0), agent.as_str(), taker(by)])
        }
        Expect::DeadLetter { agent, message } => {
            let sql = "select 1 from mail where tenant = ? and id = ? and agent = ? and dead_at is not null";
            is_there(db, sql, params![of, int(message.0), agent.as_str()])
        }
        Expect::Room { agent, more } => {
            let sql = "select count(*) from mail where tenant = ? and agent = ? and dead_at is null";
            let count = || Ok(number(found(db, sql, params![of, agent.as_str()])?.unwrap_or(0)));
            let place = (tenant.clone(), agent.clone());
            fits(&mut bounds.mailboxes, place, u64::from(*more), u64::from(MAX_MAILBOX), count)
        }
        Expect::Waiters { topic, subject, most } => {
            Ok(subscriptions::waiting(db, tenant, topic, subject.as_deref())? < u64::from(*most))
        }
        Expect::Unchanged { part, since } => unchanged(db, tenant, part, *since),
        Expect::Storage { more, quota } => {
            let sql = "select coalesce(sum(length(value) + octet_length(key)), 0) from memory where tenant = ?";
            let count = || Ok(number(found(db, sql, params![of])?.unwrap_or(0)));
            fits(&mut bounds.memories, tenant.clone(), *more, *quota, count)
        }
        Expect::Workflow { name, digest: Some(digest) } => {
            let sql = "select 1 from workflows where tenant = ? and name = ? and digest = ?";
            is_there(db, sql, params![of, name.as_str(), &digest.0[..]])
        }
        Expect::Workflow { name, digest: None } => {
            let sql = "select 1 from workflows where tenant = ? and name = ?";
            Ok(found(db, sql, params![of, name.as_str()])?.is_none())
        }
        Expect::Schedules { of: workflow, more } => {
            let sql = "select count(*) from schedules where tenant = ? and workflow <> ?";
            let others = number(found(db, sql, params![of, workflow.as_str()])?.unwrap_or(0));
            Ok(others + u64::from(*more) <= u64::from(MAX_OF_A_TENANT))
        }
        Expect::Schedule { id, digest, is_paused } => {
            let sql = "select 1 from schedules where tenant = ? and workflow = ? and number = ? and digest = ? \
                       and (paused_at is not null) = ?";
            let values = params![of, id.workflow.as_str(), id.number, &digest.0[..], is_paused];
            is_there(db, sql, values)
        }
        Expect::Subscriptions { of: workflow, more } => {
            let (from, to) = workflow.as_ref().map_or_else(Default::default, |of| (format!("{of}:"), format!("{of};")));
            let sql = "select count(*) from triggers where tenant = ? and not (id > ? and id < ?)";
            let others = number(found(db, sql, params![of, from, to])?.unwrap_or(0));
            Ok(others + u64::from(*more) <= u64::from(trigger::MAX_OF_A_TENANT))
        }
        Expect::Subscription { id, is_paused } => {
            let sql = "select paused_at is not null from triggers where tenant = ? and id = ?";
            Ok(found(db, sql, params![of, id.as_str()])? == is_paused.map(i64::from))
        }
        Expect::DeadEvent { id, position } => {
            let sql = "select 1 from arrivals where tenant = ? and trigger_id = ? and position = ? and stage >= 2";
            is_there(db, sql, params![of, id.as_str(), int(position.0)])
        }
        Expect::OpenSession { id, expires } => {
            let found = sessions::of(db, tenant, id)?.filter(|session| session.standing == Standing::Open);
            Ok(found.is_some_and(|session| expires.is_none_or(|by| session.has_expired(by))))
        }
        Expect::Unfinished { session } => {
            Ok(sessions::of(db, tenant, session)?.is_none_or(|session| !session.standing.is_over()))
        }
        Expect::RoomInSession { session, key } => {
            Ok(sessions::of(db, tenant, session)?.is_some_and(|session| session.has_room_for(key)))
        }
        Expect::NoSession { session } => Ok(sessions::of(db, tenant, session)?.is_none()),
        Expect::Unsettled { session } => {
            let found = sessions::of(db, tenant, session)?.filter(|session| session.standing.is_over());
            Ok(found.is_some_and(|session| session.memory.is_none()))
        }
        Expect::ToBeSummedUp { session } => {
            Ok(sessions::of(db, tenant, session)?.is_some_and(|session| session.is_to_be_summed_up()))
        }
        Expect::Idle { session, epoch } => {
            let found = sessions::of(db, tenant, session)?.filter(|session| session.standing == Standing::Open);
            Ok(found.is_some_and(|session| session.is_idle() && session.epoch == *epoch))
        }
        Expect::SessionEpoch { session, epoch } => {
            Ok(sessions::of(db, tenant, session)?.is_some_and(|session| session.epoch == *epoch))
        }
        Expect::AtWork { session, run } => {
            let found = sessions::of(db, tenant, session)?.and_then(|session| session.active);
            Ok(found.is_some_and(|active| active.run == *run))
        }
        Expect::UnderWay { run } => {
            let sql = "select 1 from runs where tenant = ? and id = ? and state < 3";
            is_there(db, sql, params![of, blob(*run)])
        }
        Expect::Grants { agent, version, grants } => are_granted(db, of, (agent, version), grants),
    }
}

/// Whether there is such a row.
fn is_there(db: &Connection, sql: &str, values: impl Params) -> Result<bool, rusqlite::Error> {
    Ok(found(db, sql, values)?.is_some())
}

fn are_waiting(db: &Connection, of: &str, agent: &AgentName, messages: &[Revision]) -> Result<bool, rusqlite::Error> {
    let sql = "select 1 from mail where tenant = ? and id = ? and agent = ? and taker is null and dead_at is null";
    for message in messages {
        if !is_there(db, sql, params![of, int(message.0), agent.as_str()])? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn are_granted(
    db: &Connection,
    of: &str,
    (agent, version): (&AgentName, &Digest),
    grants: &Grants,
) -> Result<bool, rusqlite::Error> {
    let sql = "select grants, carry from grants where tenant = ? and agent = ? and digest = ?";
    let values = params![of, agent.as_str(), &version.0[..]];
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let there = match db.prepare_cached(sql)?.query_row(values, read).optional()? {
        None => Some(Grants::default()),
        // What does not parse is not what anybody decided on.
        Some((text, carry)) => match (serde_json::from_str(&text), carry.parse()) {
            (Ok(capabilities), Ok(carry)) => Some(Grants { capabilities, carry }),
            _ => None,
        },
    };
    let sorted = |mut grants: Grants| {
        grants.capabilities.sort();
        grants
    };
    Ok(there.map(sorted) == Some(sorted(grants.clone())))
}

/// Rows of the log that are looked through for changes of a part.
const LOOKED_THROUGH: i64 = 10_000;

/// Whether the log has no change of a part after a place; where it is not kept as far back as that, or has more rows since than are looked
/// through, there may have been one.
fn unchanged(db: &Connection, tenant: &TenantId, part: &Part, since: Position) -> Result<bool, rusqlite::Error> {
    let (of, since) = (tenant.as_str(), int(since.0));
    let trimmed = "select max(coalesce((select trimmed from chains where tenant = ?1), 0), \
                   coalesce((select value from meta where key = 'trimmed'), 0)) > ?2";
    if db.prepare_cached(trimmed)?.query_row(params![of, since], |row| row.get(0))? {
        return Ok(false);
    }
    let (topic, about) = match part {
        Part::Keys(drawer, prefix) => (delta::Topic::Memory, deltas::about(drawer, prefix)),
        Part::Facts => (delta::Topic::Graph, String::new()),
        Part::Notes => (delta::Topic::Recall, String::new()),
    };
    let sql = "select count(*) <= ?5 and not coalesce(max(substr(about, 1, length(?4)) = ?4), 0) from \
               (select about from log indexed by log_topic where tenant = ?1 and topic = ?2 and position > ?3 limit ?5 + 1)";
    let values = params![of, deltas::topic(topic), since, about, LOOKED_THROUGH];
    db.prepare_cached(sql)?.query_row(values, |row| row.get(0))
}

/// Whether `more` fit below `most`; they count as being there from now on.
fn fits<K: std::hash::Hash + Eq>(
    known: &mut HashMap<K, u64>,
    place: K,
    more: u64,
    most: u64,
    count: impl Fn() -> Result<u64, rusqlite::Error>,
) -> Result<bool, rusqlite::Error> {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    let held = match known.entry(place) {
        Entry::Occupied(held) => held.into_mut(),
        Entry::Vacant(place) => place.insert(count()?),
    };
    if held.saturating_add(more) > most {
        *held = count()?;
    }
    let fits = held.saturating_add(more) <= most;
    if fits {
        *held += more;
    }
    Ok(fits)
}
