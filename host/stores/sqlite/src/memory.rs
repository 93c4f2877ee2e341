//! Memory, read.

use async_trait::async_trait;
use ltmc_model::memory::{Drawer, Item, Page};
use ltmc_model::{Revision, TenantId, Timestamp};
use ltmc_ports::{ReadMemory, StoreError};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::Record;
use crate::bind::{scope, time};
use crate::error::store;
use crate::journal::{number, parsed, stamp, wrong};

/// A page holds so many bytes of values, or one entry.
const PAGE_BYTES: usize = 4 << 20;
/// Rows read at once: values may be large.
const ROWS: u32 = 64;

#[async_trait]
impl ReadMemory for Record {
    async fn get(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Item>, StoreError> {
        const OP: &str = "memory.get";
        let sql = "select key, value, revision, expires_at from memory \
                   where tenant = ? and scope = ? and owner = ? and key = ? and (expires_at is null or expires_at > ?)";
        let row = sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(scope(drawer.scope()))
            .bind(drawer.owner())
            .bind(key)
            .bind(time(now))
            .fetch_optional(&self.readers)
            .await
            .map_err(|e| store(OP, e))?;
        row.map(|row| item(&row)).transpose().map_err(|e| store(OP, e))
    }

    async fn usage(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let sql = "select coalesce(sum(length(value) + octet_length(key)), 0) from memory where tenant = ?";
        let query = sqlx::query_scalar(sql).bind(tenant.as_str()).fetch_one(&self.readers);
        let bytes: i64 = query.await.map_err(|e| store("memory.usage", e))?;
        Ok(number(bytes))
    }

    async fn list(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        const OP: &str = "memory.list";
        let limit = limit.max(1) as usize;
        let mut page = Page::default();
        let mut bytes = 0;
        let mut from = after.filter(|after| *after >= prefix).map(str::to_owned);
        loop {
            // Texts compare by their bytes. Whoever begins with the prefix stands in one stretch from the prefix on.
            let sql = "select key, value, revision, expires_at from memory where tenant = ?1 and scope = ?2 and owner = ?3 \
                       and key >= ?4 and (?5 is null or key > ?5) and (expires_at is null or expires_at > ?6) \
                       order by key limit ?7";
            let rows = sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(scope(drawer.scope()))
                .bind(drawer.owner())
                .bind(prefix)
                .bind(from.clone())
                .bind(time(now))
                .bind(i64::from(ROWS))
                .fetch_all(&self.readers)
                .await
                .map_err(|e| store(OP, e))?;
            let count = rows.len();
            for row in rows {
                let item = item(&row).map_err(|e| store(OP, e))?;
                if !item.key.starts_with(prefix) {
                    return Ok(page);
                }
                bytes += item.value.len();
                if (page.items.len() >= limit || bytes > PAGE_BYTES)
                    && let Some(last) = page.items.last()
                {
                    page.next = Some(last.key.clone());
                    return Ok(page);
                }
                from = Some(item.key.clone());
                page.items.push(item);
            }
            if count < ROWS as usize {
                return Ok(page);
            }
        }
    }
}

/// A drawer, as the table keeps it.
pub(crate) fn drawer(scope: i64, owner: String) -> Result<Drawer, sqlx::Error> {
    match scope {
        0 => Ok(Drawer::Global),
        1 => parsed(owner).map(Drawer::Session),
        2 => parsed(owner).map(Drawer::Agent),
        _ => Err(wrong("a memory scope")),
    }
}

fn item(row: &SqliteRow) -> Result<Item, sqlx::Error> {
    Ok(Item {
        key: row.try_get(0)?,
        value: row.try_get::<Vec<u8>, _>(1)?.into(),
        revision: Revision(number(row.try_get(2)?)),
        expires_at: row.try_get::<Option<i64>, _>(3)?.map(stamp),
    })
}
