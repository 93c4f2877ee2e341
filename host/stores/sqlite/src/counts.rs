//! What is written and thrown away of tenants' rows, besides journals, counted while a transaction runs and written once at its
//! end.
//!
//! Invariant: each row is counted in the transaction that writes it, whoever does: triggers call a function of the connection's
//! (`migrations/0008_counting.sql`), and a connection that does not have it cannot write such rows. What is rolled back is not counted:
//! [`Counts`] are of one connection, one transaction after the other, and are emptied where one ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, params};

use crate::bind::{execute, int};

/// What has been counted since a transaction began. A handle: clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<HashMap<String, Count>>>);

/// A tenant's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    /// Bytes more on disk, besides journals.
    pub(crate) bytes: i64,
    log_rows: i64,
    log_bytes: i64,
    /// The highest revision that was drawn.
    revision: u64,
}

impl Counts {
    /// Has a connection count here what it writes.
    pub(crate) fn count(&self, db: &Connection) -> Result<(), Error> {
        let counts = self.clone();
        // Innocuous: triggers of a schema that is not trusted may call it.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
        db.create_scalar_function("counted", 3, flags, move |row| {
            let tenant = match row.get_raw(0) {
                ValueRef::Text(name) => std::str::from_utf8(name).map_err(|e| Error::UserFunctionError(e.into()))?,
                _ => return Err(Error::UserFunctionError("a row without its tenant".into())),
            };
            counts.add(tenant, row.get(1)?, row.get(2)?);
            Ok(None::<i64>)
        })
    }

    fn add(&self, tenant: &str, log_rows: i64, bytes: i64) {
        self.with(tenant, |count| {
            count.bytes += bytes;
            if log_rows != 0 {
                count.log_rows += log_rows;
                count.log_bytes += bytes;
            }
        });
    }

    /// A change of a tenant's has this revision.
    pub(crate) fn drawn(&self, tenant: &str, revision: u64) {
        self.with(tenant, |count| count.revision = count.revision.max(revision));
    }

    fn with(&self, tenant: &str, change: impl FnOnce(&mut Count)) {
        let mut all = self.lock();
        match all.get_mut(tenant) {
            Some(count) => change(count),
            None => change(all.entry(tenant.to_owned()).or_default()),
        }
    }

    /// How many bytes more a tenant has by what was written so far.
    pub(crate) fn of(&self, tenant: &str) -> i64 {
        self.lock().get(tenant).map_or(0, |count| count.bytes)
    }

    /// Writes what was counted, within the transaction that is open, as the last of it.
    pub(crate) fn settle(&self, db: &Connection) -> Result<(), Error> {
        let sql = "insert into chains (tenant, length, head, besides, log_rows, log_bytes, revision) \
                   values (?, 0, zeroblob(32), ?, ?, ?, ?) on conflict (tenant) do update set \
                   besides = besides + excluded.besides, log_rows = log_rows + excluded.log_rows, \
                   log_bytes = log_bytes + excluded.log_bytes, revision = max(revision, excluded.revision)";
        self.lock().iter().try_for_each(|(tenant, count)| {
            let Count { bytes, log_rows, log_bytes, revision } = *count;
            execute(db, sql, params![tenant, bytes, log_rows, log_bytes, int(revision)])
        })
    }

    /// Forgets all of it, and returns it: a transaction has ended.
    pub(crate) fn take(&self) -> HashMap<String, Count> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
