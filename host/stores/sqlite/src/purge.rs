//! What deleted tenants left, thrown away piece by piece.
//!
//! Invariants: nothing of a deleted tenant is written (the writer sees to that), so that what is gone stays gone, and a purge that was
//! broken off goes on where it was. Each piece is a transaction of so many rows. The end of the chain stays to the last: with it the
//! name becomes free.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::journal::{Act, Change, Entry, Event};
use ltmc_model::{RunId, TenantId, Timestamp};
use ltmc_ports::{Purge, StoreError};
use rusqlite::{Connection, params};

use crate::bind::{all, blob, execute, found, tenant as tenant_of};
use crate::error::{Error, wrong};
use crate::writer::Needs;
use crate::{Record, frames};

/// Names of tenants that are deleted, for statements.
pub(crate) const DELETED: &str = "(select name from tenants where deleted_at is not null)";

/// What goes with the deletion itself: without it nobody can do anything in the tenant's name.
pub(crate) const AT_ONCE: [&str; 7] = ["keys", "grants", "agents", "workflows", "schedules", "triggers", "ceilings"];

/// Each other table with what names its rows, and how many of them go at once: entries may have megabytes.
const TABLES: [(&str, &str, u32); 25] = [
    ("runs", "tenant, id", 1_000),
    ("journal", "id", 16),
    ("snapshots", "tenant, run, at", 4),
    ("idempotency", "tenant, key", 1_000),
    ("memory", "tenant, scope, owner, key", 64),
    ("facts", "tenant, id", 1_000),
    ("notes", "tenant, id", 64),
    ("note_metadata", "tenant, name, value, note", 1_000),
    ("passages", "id", 500),
    ("embedded", "tenant, embedder", 100),
    ("mail", "tenant, agent, position", 64),
    ("events", "tenant, topic, position", 64),
    ("log", "position", 64),
    ("questions", "tenant, token", 64),
    ("subscriptions", "tenant, run, node", 1_000),
    ("arrivals", "tenant, trigger_id, position", 64),
    ("seen_events", "tenant, trigger_id, event", 1_000),
    ("starts", "tenant, position, trigger_id, run", 1_000),
    ("cascades", "tenant, root", 1_000),
    ("sessions", "tenant, id", 100),
    ("session_times", "tenant", 1),
    ("turns", "tenant, session, number", 1_000),
    ("session_keeps", "tenant, session, began, key", 64),
    ("session_archives", "tenant, id", 16),
    ("state_timers", "tenant, agent, key", 1_000),
];

#[async_trait]
impl Purge for Record {
    async fn deleted(&self) -> Result<Vec<TenantId>, StoreError> {
        self.readers.point("purge.deleted", deleted)
    }

    async fn purge(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        const OP: &str = "purge.piece";
        let of = tenant.clone();
        let next = self.readers.point(OP, move |db| next(db, &of))?;
        let Some((table, key, most)) = next else { return Ok(false) };
        let of = tenant.clone();
        let piece = move |db: &Connection| execute(db, &piece(table, key), params![of.as_str(), most]);
        self.writing.side(OP, &TenantId::host(), Needs::Nothing, piece).await?;
        Ok(true)
    }

    async fn gone(&self) -> Result<BTreeMap<TenantId, Timestamp>, StoreError> {
        self.readers.scan("purge.gone", &TenantId::host(), gone).await
    }
}

/// The statement that throws away so many rows (`?2`) of a tenant (`?1`).
fn piece(table: &str, key: &str) -> String {
    format!("delete from {table} where ({key}) in (select {key} from {table} where tenant = ?1 limit ?2)")
}

/// The first table that has anything of a deleted tenant's.
fn next(db: &Connection, tenant: &TenantId) -> Result<Option<(&'static str, &'static str, u32)>, Error> {
    let sql = format!("select 1 where ? in {DELETED}");
    if found(db, &sql, [tenant.as_str()])?.is_none() {
        return Ok(None);
    }
    for (table, key, most) in TABLES {
        if found(db, &format!("select 1 from {table} where tenant = ? limit 1"), [tenant.as_str()])?.is_some() {
            return Ok(Some((table, key, most)));
        }
    }
    Ok(None)
}

/// Tenants that are deleted and of which something is left.
pub(crate) fn deleted(db: &Connection) -> Result<Vec<TenantId>, Error> {
    all(db, "select name from tenants where deleted_at is not null order by name", [], |row| tenant_of(row.get(0)?))
}

/// Tenants of which nothing is left, as the host's ledger has it.
pub(crate) fn gone(db: &Connection) -> Result<BTreeMap<TenantId, Timestamp>, Error> {
    let mut gone = BTreeMap::new();
    let mut statement = db.prepare("select frames from journal where tenant = ? and run = ? order by first")?;
    let mut rows = statement.query(params![TenantId::host().as_str(), blob(RunId::ledger())])?;
    while let Some(row) = rows.next()? {
        for (_, bytes) in frames::read(row.get_ref(0)?.as_blob().map_err(|_| wrong("a run's entries"))?).flatten() {
            let Ok(Entry { at, event: Event::Act(act) }) = Entry::from_bytes(bytes) else { continue };
            if let Act { change: Change::TenantGone { head }, .. } = *act {
                gone.insert(head.tenant, at);
            }
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use ltmc_ports::Record as _;

    use super::*;
    use crate::OpenOptions;
    use crate::counts::Counts;

    /// Tables that have a column `tenant`, as the schema has them.
    fn of_tenants(db: &Connection) -> Vec<String> {
        let sql = "select m.name from sqlite_schema m join pragma_table_info(m.name) c \
                   where m.type = 'table' and c.name = 'tenant' order by m.name";
        all(db, sql, [], |row| Ok(row.get(0)?)).unwrap()
    }

    #[tokio::test]
    async fn all_that_tenants_have_is_thrown_away_by_what_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
        record.close().await;
        let db = Connection::open(dir.path().join("record.db")).unwrap();
        Counts::default().count(&db).unwrap();
        // The end of the chain goes last, with the name.
        let mut thrown: Vec<&str> = TABLES.iter().map(|(table, ..)| *table).chain(AT_ONCE).chain(["chains"]).collect();
        thrown.sort_unstable();
        assert_eq!(thrown, of_tenants(&db), "a table of tenants stands in `TABLES` or `AT_ONCE`");
        for (table, key, _) in TABLES {
            let prepared = db.prepare(&piece(table, key)).map(drop);
            assert!(prepared.is_ok(), "{table}: {prepared:?}");
        }
    }
}
