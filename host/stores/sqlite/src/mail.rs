//! Mailboxes, dead letters and topics, read.

use async_trait::async_trait;
use ltmc_model::message::{Channel, DeadLetter, Delivery, Event, Events, Message, Published, Taker, Topic};
use ltmc_model::{AgentName, Position, Revision, TenantId};
use ltmc_ports::{Bus, ReadMail, StoreError};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::Record;
use crate::bind::{int, json};
use crate::deltas::taker;
use crate::error::store;
use crate::journal::{number, parsed, stamp, wrong};

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
        const OP: &str = "mail.ready";
        // Of a sender whose earlier message is in somebody's hands none is handed out.
        let sql = "select id, deliveries, event, position from mail as one where tenant = ?1 and agent = ?2 and taker is null \
                   and dead_at is null and sender not in (select other.sender from mail as other where other.tenant = ?1 \
                   and other.taker is not null and other.agent = ?2 and other.id not in (select value from json_each(?4))) \
                   order by position limit ?3";
        let gone = json(&gone.iter().map(|message| int(message.0)).collect::<Vec<_>>());
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(agent.as_str()).bind(i64::from(limit)).bind(gone);
        let rows = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        deliveries(rows, 1).map_err(|e| store(OP, e))
    }

    async fn in_hands(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        by: &Taker,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        const OP: &str = "mail.in_hands";
        let sql = "select id, deliveries, event, position from mail where tenant = ? and taker = ? and agent = ? \
                   order by position limit ?";
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(taker(by)).bind(agent.as_str()).bind(i64::from(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let found = deliveries(rows, 0).map_err(|e| store(OP, e))?;
        Ok(found.into_iter().map(|(_, delivery)| delivery).collect())
    }

    async fn waiting(&self, tenant: &TenantId, agent: &AgentName, most: u32) -> Result<u32, StoreError> {
        let sql =
            "select count(*) from (select 1 from mail where tenant = ? and agent = ? and dead_at is null limit ?)";
        let query = sqlx::query_scalar(sql).bind(tenant.as_str()).bind(agent.as_str()).bind(i64::from(most));
        let count: i64 = query.fetch_one(&self.readers).await.map_err(|e| store("mail.waiting", e))?;
        Ok(u32::try_from(count).unwrap_or(most))
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        agent: Option<&AgentName>,
        after: Option<Revision>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        const OP: &str = "mail.dead_letters";
        let sql = "select id, agent, event, deliveries, dead_reason, dead_at from mail where tenant = ? and dead_at is not null \
                   and (? is null or agent = ?) and id > ? order by id limit ?";
        let agent = agent.map(AgentName::as_str);
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(agent).bind(agent);
        let query = query.bind(after.map_or(-1, |after| int(after.0))).bind(i64::from(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        rows.iter().map(letter).collect::<Result<_, _>>().map_err(|e| store(OP, e))
    }

    async fn dead_letter(&self, tenant: &TenantId, id: Revision) -> Result<Option<DeadLetter>, StoreError> {
        const OP: &str = "mail.dead_letter";
        let sql = "select id, agent, event, deliveries, dead_reason, dead_at from mail where tenant = ? and id = ? \
                   and dead_at is not null";
        let row = sqlx::query(sql).bind(tenant.as_str()).bind(int(id.0)).fetch_optional(&self.readers).await;
        let row = row.map_err(|e| store(OP, e))?;
        row.as_ref().map(letter).transpose().map_err(|e| store(OP, e))
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
        const OP: &str = "bus.events";
        let sql = "select position, event from events where tenant = ? and topic = ? and position > ? order by position limit ?";
        let query =
            sqlx::query(sql).bind(tenant.as_str()).bind(topic.as_str()).bind(int(after.0)).bind(i64::from(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let (mut events, mut bytes): (Vec<Published>, usize) = (Vec::with_capacity(rows.len()), 0);
        for row in rows {
            let kept: Vec<u8> = row.try_get(1).map_err(|e| store(OP, e))?;
            bytes += kept.len();
            if bytes > PAGE_BYTES && !events.is_empty() {
                break;
            }
            let position = row.try_get(0).map_err(|e| store(OP, e))?;
            let event = event(kept).map_err(|e| store(OP, e))?;
            events.push(Published { position: Position(number(position)), event });
        }
        let next = events.last().map_or(after, |last| last.position);
        Ok(Events { events, next })
    }
}

/// Messages with their places, as many as are read at once; each was handed out so many times `more` than is written.
fn deliveries(rows: Vec<SqliteRow>, more: u32) -> Result<Vec<(Position, Delivery)>, sqlx::Error> {
    let (mut found, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        let kept: Vec<u8> = row.try_get(2)?;
        bytes += kept.len();
        if bytes > PAGE_BYTES && !found.is_empty() {
            break;
        }
        let deliveries = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX).saturating_add(more);
        let delivery = Delivery { id: Revision(number(row.try_get(0)?)), deliveries, event: event(kept)? };
        found.push((Position(number(row.try_get(3)?)), delivery));
    }
    Ok(found)
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    let channel = Channel::Mailbox(parsed(row.try_get(1)?)?);
    let message = Message { id: Revision(number(row.try_get(0)?)), channel, event: event(row.try_get(2)?)? };
    Ok(DeadLetter {
        message,
        deliveries: u32::try_from(row.try_get::<i64, _>(3)?).unwrap_or(u32::MAX),
        reason: row.try_get::<Option<String>, _>(4)?.unwrap_or_default(),
        at: stamp(row.try_get(5)?),
    })
}

pub(crate) fn event(kept: Vec<u8>) -> Result<Event, sqlx::Error> {
    rmp_serde::from_slice(&kept).map_err(|_| wrong("an event"))
}
