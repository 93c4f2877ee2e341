//! What has expired is thrown away: now and then, and not all at once.

use std::time::Duration;

use ltmc_model::delta::{Delta, MemoryChange};
use ltmc_model::{Position, Timestamp};
use ltmc_ports::StoreError;
use rusqlite::params;

use super::Writer;
use crate::bind::{int, tenant};
use crate::deltas::{By, Row};
use crate::memory::drawer;
use crate::purge::DELETED;
use crate::{error, statements};

/// How often what has expired is thrown away, and how much at once.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_ROWS: usize = 1_000;

impl Writer {
    /// Throws away what has expired by `now`: now and then, and not all at once.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let swept = self.transaction(false, |_, db| statements::forget_idempotency(db, now, SWEEP_ROWS));
        let swept = swept.map_err(|e| error::store("record.sweep", e)).and_then(|()| self.end_memory(now));
        if let Err(error) = swept {
            tracing::warn!(%error, "what has expired could not be thrown away; trying again later");
        }
    }

    /// Deletes keys that have come to their end, like anybody else would: whoever watches sees it.
    fn end_memory(&mut self, now: Timestamp) -> Result<(), StoreError> {
        const OP: &str = "record.end_memory";
        let read = |e: error::Error| error::store(OP, e);
        let mut deltas = Vec::new();
        for (of, scope, owner, key) in self.ended(now).map_err(|e| error::store(OP, e))? {
            let drawer = drawer(scope, owner).map_err(read)?;
            let of = tenant(of).map_err(read)?;
            let revision = self.tail.revisions.draw(&of);
            let delta = Delta::Memory(MemoryChange { drawer, key, revision, value: None, trail: None });
            let bytes = delta.to_bytes();
            deltas.push((of, delta, bytes));
        }
        if deltas.is_empty() {
            return Ok(());
        }
        let place = |number: usize| Position(self.known.position.0 + 1 + number as u64);
        let rows: Vec<Row<'_>> = deltas
            .iter()
            .enumerate()
            .map(|(n, (tenant, delta, bytes))| Row {
                position: place(n),
                tenant,
                at: now,
                delta,
                bytes,
                by: By::Anybody,
            })
            .collect();
        self.begin();
        let done = self.transaction(false, |writer, db| rows.iter().try_for_each(|row| writer.perform(db, row)));
        done.map_err(|e| self.failed(OP, e))?;
        self.committed(&rows, std::iter::empty(), false);
        Ok(())
    }

    /// Keys that have come to their end: tenant, scope, owner, key; not all at once.
    fn ended(&mut self, now: Timestamp) -> Result<Vec<(String, i64, String, String)>, rusqlite::Error> {
        let sql = format!(
            "select tenant, scope, owner, key from memory where expires_at <= ? and tenant not in {DELETED} limit ?"
        );
        let mut statement = self.connection()?.prepare_cached(&sql)?;
        let of = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        statement.query_map(params![int(now.millis()), SWEEP_ROWS as i64], of)?.collect()
    }
}
