//! What follows from events, read.

use async_trait::async_trait;
use ltmc_model::message::{Published, Topic};
use ltmc_model::trigger::Stage;
use ltmc_model::{Position, Revision, TenantId};
use ltmc_ports::StoreError;
use ltmc_ports::cascades::{Made, ReadCascades};
use ltmc_ports::triggers::short;
use rusqlite::{Row, params};

use crate::Record;
use crate::bind::{all, int, number, one, parsed, run_id};
use crate::error::{Error, wrong};
use crate::mail::event;

#[async_trait]
impl ReadCascades for Record {
    async fn event(&self, tenant: &TenantId, id: Revision) -> Result<Option<(Topic, Published)>, StoreError> {
        let sql = "select position, event, topic from events indexed by events_id where tenant = ? and id = ?";
        self.readers.point("cascades.event", |db| one(db, sql, params![tenant.as_str(), int(id.0)], published))
    }

    async fn following(
        &self,
        tenant: &TenantId,
        cause: &str,
        after: Position,
        limit: u32,
    ) -> Result<Vec<(Topic, Published)>, StoreError> {
        let sql = "select position, event, topic from events indexed by events_cause where tenant = ? and cause = ? \
                   and position > ? order by position limit ?";
        let values = params![tenant.as_str(), &short(cause)[..], int(after.0), limit];
        self.readers.point("cascades.following", |db| all(db, sql, values, published))
    }

    async fn made_of(&self, tenant: &TenantId, position: Position, limit: u32) -> Result<Vec<Made>, StoreError> {
        let sql = "select trigger_id, run, null, null from starts where tenant = ?1 and position = ?2 \
                   union all select trigger_id, null, stage, reason from arrivals where tenant = ?1 and position = ?2 and stage <> 1 \
                   limit ?3";
        let values = params![tenant.as_str(), int(position.0), limit];
        self.readers.point("cascades.made-of", |db| all(db, sql, values, made))
    }
}

fn published(row: &Row<'_>) -> Result<(Topic, Published), Error> {
    let event = event(row, 1)?;
    Ok((parsed(row.get(2)?)?, Published { position: Position(number(row.get(0)?)), event }))
}

fn made(row: &Row<'_>) -> Result<Made, Error> {
    let stage = |number: i64| usize::try_from(number).ok().and_then(|number| Stage::ALL.get(number).copied());
    let stands = match row.get::<_, Option<i64>>(2)? {
        Some(number) => Some((stage(number).ok_or_else(|| wrong("how far an event is"))?, row.get(3)?)),
        None => None,
    };
    Ok(Made { by: parsed(row.get(0)?)?, run: row.get::<_, Option<[u8; 16]>>(1)?.map(run_id), stands })
}
