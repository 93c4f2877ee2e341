//! Memory, read.

use async_trait::async_trait;
use ltmc_model::memory::{Drawer, Item, Page};
use ltmc_model::{Revision, TenantId, Timestamp};
use ltmc_ports::{ReadMemory, StoreError};
use rusqlite::{Connection, Row, params};

use crate::Record;
use crate::bind::{found, number, one, parsed, scope, stamp, time};
use crate::error::{Error, wrong};

/// A page holds so many bytes of values, or one entry.
const PAGE_BYTES: usize = 4 << 20;

#[async_trait]
impl ReadMemory for Record {
    async fn get(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Item>, StoreError> {
        let sql = "select key, value, revision, expires_at from memory \
                   where tenant = ? and scope = ? and owner = ? and key = ? and (expires_at is null or expires_at > ?)";
        let values = params![tenant.as_str(), scope(drawer.scope()), drawer.owner(), key, time(now)];
        self.readers.point("memory.get", |db| one(db, sql, values, item))
    }

    async fn usage(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let sql = "select coalesce(sum(length(value) + octet_length(key)), 0) from memory where tenant = ?";
        let whose = tenant;
        let tenant = tenant.clone();
        let bytes =
            self.readers.search("memory.usage", whose, move |db| Ok(found(db, sql, [tenant.as_str()])?)).await?;
        Ok(bytes.map_or(0, number))
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
        let whose = tenant;
        let (tenant, drawer, prefix) = (tenant.clone(), drawer.clone(), prefix.to_owned());
        let after = after.filter(|after| *after >= prefix.as_str()).map(str::to_owned);
        let read = move |db: &Connection| page(db, &tenant, &drawer, &prefix, after.as_deref(), limit, now);
        self.readers.search("memory.list", whose, read).await
    }
}

fn page(
    db: &Connection,
    tenant: &TenantId,
    drawer: &Drawer,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
    now: Timestamp,
) -> Result<Page, Error> {
    // Texts compare by their bytes. Whoever begins with the prefix stands in one stretch from the prefix on.
    let sql = "select key, value, revision, expires_at from memory where tenant = ?1 and scope = ?2 and owner = ?3 \
               and key >= ?4 and (?5 is null or key > ?5) and (expires_at is null or expires_at > ?6) order by key";
    let mut statement = db.prepare_cached(sql)?;
    let values = params![tenant.as_str(), scope(drawer.scope()), drawer.owner(), prefix, after, time(now)];
    let (mut rows, mut page, mut bytes) = (statement.query(values)?, Page::default(), 0);
    while let Some(row) = rows.next()? {
        let item = item(row)?;
        if !item.key.starts_with(prefix) {
            break;
        }
        bytes += item.value.len();
        if (page.items.len() >= limit.max(1) as usize || bytes > PAGE_BYTES)
            && let Some(last) = page.items.last()
        {
            page.next = Some(last.key.clone());
            break;
        }
        page.items.push(item);
    }
    Ok(page)
}

/// A drawer, as the table keeps it.
pub(crate) fn drawer(scope: i64, owner: String) -> Result<Drawer, Error> {
    match scope {
        0 => Ok(Drawer::Global),
        1 => parsed(owner).map(Drawer::Session),
        2 => parsed(owner).map(Drawer::Agent),
        3 => parsed(owner).map(Drawer::State),
        _ => Err(wrong("a memory scope")),
    }
}

fn item(row: &Row<'_>) -> Result<Item, Error> {
    Ok(Item {
        key: row.get(0)?,
        value: row.get::<_, Vec<u8>>(1)?.into(),
        revision: Revision(number(row.get(2)?)),
        expires_at: row.get::<_, Option<i64>>(3)?.map(stamp),
    })
}
