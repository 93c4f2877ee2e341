//! Where runs stood as of entries of their journals: written with the entry that commits to it, the one before the last thrown away with it.

use ltmc_model::{RunId, Seq, TenantId};
use ltmc_ports::journal::Snapshot;
use rusqlite::{Connection, params};

use crate::bind::{blob, execute, int, number, one};
use crate::error::Error;

/// What one takes besides what was written, as the triggers count it.
pub(crate) const ROW: u64 = 128;

/// Keeps it, and the one before it.
pub(crate) fn keep(db: &Connection, tenant: &TenantId, run: RunId, snapshot: &Snapshot) -> Result<(), rusqlite::Error> {
    const { assert!(Snapshot::KEPT == 2, "the statement keeps two") };
    let (tenant, run, at) = (tenant.as_str(), blob(run), int(snapshot.at.0));
    let sql = "insert into snapshots (tenant, run, at, state) values (?, ?, ?, ?)";
    execute(db, sql, params![tenant, run, at, &snapshot.bytes[..]])?;
    let sql = "delete from snapshots where tenant = ?1 and run = ?2 and at < \
               (select max(at) from snapshots where tenant = ?1 and run = ?2 and at < ?3)";
    execute(db, sql, params![tenant, run, at])
}

/// The newest as of `until` or before.
pub(crate) fn newest(db: &Connection, tenant: &TenantId, run: RunId, until: Seq) -> Result<Option<Snapshot>, Error> {
    let sql = "select at, state from snapshots where tenant = ? and run = ? and at <= ? order by at desc limit 1";
    one(db, sql, params![tenant.as_str(), blob(run), int(until.0)], |row| {
        let bytes: Vec<u8> = row.get(1)?;
        Ok(Snapshot { at: Seq(number(row.get(0)?)), bytes: bytes.into() })
    })
}
