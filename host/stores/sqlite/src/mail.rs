//! Mailboxes, dead letters and topics, read.

use async_trait::async_trait;
use ltmc_model::message::{Channel, DeadLetter, Delivery, Event, Events, Message, Published, Taker, Topic};
use ltmc_model::{AgentName, Position, Revision, TenantId};
use ltmc_ports::{Bus, ReadMail, StoreError, Waits};
use rusqlite::{Connection, Params, Row, params};

use crate::Record;
use crate::bind::{all, found, int, json, number, one, parsed, stamp};
use crate::deltas::taker;
use crate::error::{Error, wrong};

/// Bytes of events that are read at once.
const PAGE_BYTES: usize = 4 << 20;

#[async_trait]
impl ReadMail for Record {
    async fn ready(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        limit: u32,
        gone: &[Revision],
    ) -> Result<Vec<(Position, Delivery)>, StoreError> {
        // Of a sender whose earlier message is in somebody's hands none is handed out.
        let sql = "select id, deliveries, event, position from mail as one where tenant = ?1 and agent = ?2 and taker is null \
                   and dead_at is null and sender not in (select other.sender from mail as other where other.tenant = ?1 \
                   and other.taker is not null and other.agent = ?2 and other.id not in (select value from json_each(?4))) \
                   order by position limit ?3";
        let gone = json(&gone.iter().map(|message| int(message.0)).collect::<Vec<_>>());
        let whose = tenant;
        let (tenant, agent) = (tenant.clone(), agent.clone());
        let read = move |db: &Connection| deliveries(db, sql, params![tenant.as_str(), agent.as_str(), limit, gone], 1);
        self.readers.search("mail.ready", whose, read).await
    }

    async fn in_hands(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        by: &Taker,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let sql = "select id, deliveries, event, position from mail where tenant = ? and taker = ? and agent = ? \
                   order by position limit ?";
        let values = params![tenant.as_str(), taker(by), agent.as_str(), limit];
        let found = self.readers.point("mail.in_hands", |db| deliveries(db, sql, values, 0))?;
        Ok(found.into_iter().map(|(_, delivery)| delivery).collect())
    }

    async fn waiting(&self, tenant: &TenantId, agent: &AgentName, most: u32) -> Result<u32, StoreError> {
        let sql =
            "select count(*) from (select 1 from mail where tenant = ? and agent = ? and dead_at is null limit ?)";
        let whose = tenant;
        let (tenant, agent) = (tenant.clone(), agent.clone());
        let read = move |db: &Connection| Ok(found(db, sql, params![tenant.as_str(), agent.as_str(), most])?);
        let count = self.readers.search("mail.waiting", whose, read).await?;
        Ok(u32::try_from(count.unwrap_or(0)).unwrap_or(most))
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        agent: Option<&AgentName>,
        after: Option<Revision>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = "select id, agent, event, deliveries, dead_reason, dead_at from mail where tenant = ?1 and dead_at is not null \
                   and (?2 is null or agent = ?2) and id > ?3 order by id limit ?4";
        let whose = tenant;
        let (tenant, agent, after) = (tenant.clone(), agent.cloned(), after.map_or(-1, |after| int(after.0)));
        let read = move |db: &Connection| {
            all(db, sql, params![tenant.as_str(), agent.as_ref().map(AgentName::as_str), after, limit], letter)
        };
        self.readers.search("mail.dead_letters", whose, read).await
    }

    async fn dead_letter(&self, tenant: &TenantId, id: Revision) -> Result<Option<DeadLetter>, StoreError> {
        let sql = "select id, agent, event, deliveries, dead_reason, dead_at from mail where tenant = ? and id = ? \
                   and dead_at is not null";
        self.readers.point("mail.dead_letter", |db| one(db, sql, params![tenant.as_str(), int(id.0)], letter))
    }
}

#[async_trait]
impl Bus for Record {
    async fn events(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        after: Position,
        limit: u32,
    ) -> Result<Events, StoreError> {
        let sql = "select position, event from events where tenant = ? and topic = ? and position > ? order by position limit ?";
        let values = params![tenant.as_str(), topic.as_str(), int(after.0), limit];
        let events = self.readers.point("bus.events", |db| bounded(db, sql, values, 1, published))?;
        let next = events.last().map_or(after, |last| last.position);
        Ok(Events { events, next })
    }
}

/// The last place up to which events were kept without their subjects.
fn subjects_from(db: &Connection) -> Result<u64, Error> {
    Ok(number(found(db, "select value from meta where key = 'subjects_from'", [])?.unwrap_or(0)))
}

#[async_trait]
impl Waits for Record {
    async fn events_about(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        subject: &str,
        after: Position,
        limit: u32,
    ) -> Result<Events, StoreError> {
        const OP: &str = "bus.events-about";
        if after.0 < self.readers.point(OP, subjects_from)? {
            return self.events(tenant, topic, after, limit).await;
        }
        let sql = "select position, event from events indexed by events_subject where tenant = ? and topic = ? and subject = ? \
                   and position > ? order by position limit ?";
        let values = params![tenant.as_str(), topic.as_str(), subject, int(after.0), limit];
        let events = self.readers.point(OP, |db| bounded(db, sql, values, 1, published))?;
        let next = events.last().map_or(after, |last| last.position);
        Ok(Events { events, next })
    }

    async fn waiting(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        subject: Option<&str>,
        most: u32,
    ) -> Result<u32, StoreError> {
        let sql = "select count(*) from (select 1 from subscriptions where tenant = ? and topic = ? and subject is ? limit ?)";
        let values = params![tenant.as_str(), topic.as_str(), subject, most];
        let count = self.readers.point("waits.waiting", |db| Ok(found(db, sql, values)?))?;
        Ok(u32::try_from(count.unwrap_or(0)).unwrap_or(most))
    }
}

/// Messages with their places, as many as are read at once; each was handed out so many times `more` than is written.
fn deliveries(db: &Connection, sql: &str, values: impl Params, more: u32) -> Result<Vec<(Position, Delivery)>, Error> {
    bounded(db, sql, values, 2, |row| {
        let deliveries = u32::try_from(row.get::<_, i64>(1)?).unwrap_or(u32::MAX).saturating_add(more);
        let delivery = Delivery { id: Revision(number(row.get(0)?)), deliveries, event: event(row, 2)? };
        Ok((Position(number(row.get(3)?)), delivery))
    })
}

/// The first rows, at least one, whose events in the column `event` have at most so many bytes in all.
fn bounded<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    event: usize,
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut statement = db.prepare_cached(sql)?;
    let (mut rows, mut found, mut bytes) = (statement.query(values)?, Vec::new(), 0);
    while let Some(row) = rows.next()? {
        bytes += row.get_ref(event)?.as_blob().map_or(0, <[u8]>::len);
        if bytes > PAGE_BYTES && !found.is_empty() {
            break;
        }
        found.push(read(row)?);
    }
    Ok(found)
}

fn letter(row: &Row<'_>) -> Result<DeadLetter, Error> {
    let channel = Channel::Mailbox(parsed(row.get(1)?)?);
    let message = Message { id: Revision(number(row.get(0)?)), channel, event: event(row, 2)? };
    Ok(DeadLetter {
        message,
        deliveries: u32::try_from(row.get::<_, i64>(3)?).unwrap_or(u32::MAX),
        reason: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
        at: stamp(row.get(5)?),
    })
}

/// A place, and the event there.
fn published(row: &Row<'_>) -> Result<Published, Error> {
    Ok(Published { position: Position(number(row.get(0)?)), event: event(row, 1)? })
}

/// The event in this column.
pub(crate) fn event(row: &Row<'_>, column: usize) -> Result<Event, Error> {
    let kept = row.get_ref(column)?.as_blob().map_err(|_| wrong("an event"))?;
    rmp_serde::from_slice(kept).map_err(|_| wrong("an event"))
}
