//! One part of a group: judged, and written within the transaction that is open.
//!
//! Invariant: a part that is refused has nothing written of it.

use std::time::Instant;

use ltmc_model::chain::Link;
use ltmc_model::journal::Change;
use ltmc_model::{Epoch, RunId, Seq};
use ltmc_ports::journal::Snapshot;
use ltmc_ports::{Append, Changes, Kind, StoreError};
use rusqlite::Connection;

use super::Writer;
use super::known::{End, Ledger, Next, Room};
use super::order::{Part, Work};
use crate::deltas::{By, Row};
use crate::{
    acts, deltas, expects, frames, questions, quota, schedules, sessions, snapshots, statements, subscriptions,
    triggers,
};

impl Writer {
    /// Writes one part, within the transaction that is open. Some: why it is refused; nothing of it is then written.
    pub(super) fn write<'a>(
        &mut self,
        db: &Connection,
        next: &mut Next,
        rows: &mut Vec<Row<'a>>,
        part: &'a Part,
    ) -> Result<Option<StoreError>, rusqlite::Error> {
        if self.is_deleted(db, next, part.work.tenant())? {
            return Ok(Some(StoreError::new(Kind::Fenced, "journal.append").because("the tenant is deleted")));
        }
        if let Err(error) = self.judge(next, part) {
            return Ok(Some(error));
        }
        if let Some(kind) = self.conflicts(db, part)? {
            return Ok(Some(StoreError::new(kind, "journal.append")));
        }
        let (tenant, at) = (part.work.tenant(), part.at());
        let room = self.room(db, next, tenant)?;
        if let Err(error) = self.is_within_quota(room, part) {
            return Ok(Some(error));
        }
        let (run, expected) = match &part.work {
            Work::Append(append) => (append.run.id, append.expected),
            Work::Act { .. } => {
                let end = self.end(next, tenant, RunId::ledger());
                (RunId::ledger(), end.map_or(Seq(0), |end| end.seq))
            }
        };
        let seq = self.journal(db, next, part, run, expected)?;
        let end = match &part.work {
            Work::Append(append) => {
                follow(db, append, |snapshot| room.has_for(part, snapshot))?;
                let row = &append.run;
                End { epoch: row.epoch, seq, over: row.state.is_over() || row.wakes_at.is_some() }
            }
            Work::Act { act, .. } => {
                acts::perform(db, tenant, at, act)?;
                match &act.change {
                    Change::CeilingSet { tenant, .. } => drop(self.known.allowed.remove(tenant)),
                    Change::TenantDeleted { tenant } => drop(next.deleted.insert(tenant.clone())),
                    Change::TenantGone { head } => drop(next.gone.insert(head.tenant.clone())),
                    _ => {}
                }
                End { epoch: Epoch(0), seq, over: false }
            }
        };
        next.runs.insert((tenant.clone(), run), end);
        let by = match &part.work {
            Work::Append(append) => append.run.turn.map_or(By::Anybody, By::Turn),
            Work::Act { act, .. } => By::of_act(&act.change),
        };
        for (delta, bytes) in part.work.changes().deltas.iter().zip(&part.deltas) {
            next.position = next.position.next();
            let row = Row { position: next.position, tenant, at, delta, bytes, by };
            self.perform(db, &row)?;
            rows.push(row);
        }
        Ok(None)
    }

    /// Why a part cannot be, by what it was decided on; none: all of that is so.
    fn conflicts(&mut self, db: &Connection, part: &Part) -> Result<Option<Kind>, rusqlite::Error> {
        let (tenant, at) = (part.work.tenant(), part.at());
        if let Work::Append(append) = &part.work {
            if let Some(start) = &append.scheduled
                && !schedules::allows(db, tenant, start)?
            {
                return Ok(Some(Kind::Conflict));
            }
            if let Some(start) = &append.triggered
                && !triggers::allows(db, tenant, start, append.run.created_at)?
            {
                return Ok(Some(Kind::Conflict));
            }
            if let Some(kind) = sessions::refuse(db, append)? {
                return Ok(Some(kind));
            }
        }
        let Changes { deltas, expects } = part.work.changes();
        for expect in expects {
            if !expects::holds(db, &mut self.bounds, tenant, at, expect)? {
                return Ok(Some(Kind::Stale));
            }
        }
        for delta in deltas {
            if !deltas::is_newer(db, tenant, delta)? {
                return Ok(Some(Kind::Stale));
            }
        }
        Ok(None)
    }

    /// Whether the record ends where a part thinks it does.
    pub(super) fn judge(&self, next: &Next, part: &Part) -> Result<(), StoreError> {
        let Work::Append(append) = &part.work else { return Ok(()) };
        let refuse = |kind| Err(StoreError::new(kind, "journal.append"));
        match (self.end(next, &append.run.tenant, append.run.id), append.previous) {
            (None, None) if append.expected == Seq(0) => Ok(()),
            (None | Some(_), None) => refuse(Kind::Conflict),
            // The writer knows of a run, or of entries, that the record does not have: they were lost.
            (None, Some(_)) => refuse(Kind::Fenced),
            (Some(end), Some(previous)) if end.epoch != previous || append.run.epoch < previous => refuse(Kind::Fenced),
            (Some(end), Some(_)) if end.seq < append.expected => refuse(Kind::Fenced),
            (Some(end), Some(_)) if end.seq > append.expected => refuse(Kind::Conflict),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// Whether a tenant may have what a part adds. The error: how much it has and may have.
    fn is_within_quota(&mut self, Room { used, allowed }: Room, part: &Part) -> Result<(), StoreError> {
        let (tenant, more) = (part.work.tenant(), part.more());
        let checked = part.purpose.check(used, more, allowed);
        if checked.is_err() && self.refusals.is_to_be_said(tenant, Instant::now()) {
            tracing::warn!(%tenant, used, allowed, more, "refused: the tenant has all that it may have on disk");
        }
        checked
    }

    /// Writes a part's entries into the journal and the tenant's chain; how long the journal is then.
    fn journal(
        &self,
        db: &Connection,
        next: &mut Next,
        part: &Part,
        run: RunId,
        expected: Seq,
    ) -> Result<Seq, rusqlite::Error> {
        if part.entries.is_empty() {
            return Ok(expected);
        }
        let tenant = part.work.tenant();
        let known = next.chains.get(tenant).or_else(|| self.known.chains.get(tenant)).copied();
        let Ledger { mut chain, mut bytes } = known.unwrap_or_default();
        let place = chain.length + 1;
        let mut seq = expected;
        let mut written = Vec::with_capacity(part.bytes + 36 * part.entries.len());
        for (entry, digest) in &part.entries {
            seq = seq.next();
            let link: Link = chain.link(tenant, run, seq, digest);
            frames::push(&mut written, link, entry);
        }
        statements::journal(db, tenant, run, (expected.next(), seq), place, &written)?;
        let is_new = expected == Seq(0) && run != RunId::ledger();
        bytes += written.len() as u64 + quota::ROW + if is_new { quota::RUN } else { 0 };
        next.chains.insert(tenant.clone(), Ledger { chain, bytes });
        Ok(seq)
    }

    /// Makes a row true, within the transaction that is open.
    pub(super) fn perform(&self, db: &Connection, row: &Row<'_>) -> Result<(), rusqlite::Error> {
        if let Some(revision) = deltas::revision(row.delta) {
            self.counts.drawn(row.tenant.as_str(), revision);
        }
        row.perform(db)
    }
}

/// What else of the record follows from a run's entries: its row, what it asks and waits for, its session, what started it.
fn follow(db: &Connection, append: &Append, has_room_for: impl Fn(&Snapshot) -> bool) -> Result<(), rusqlite::Error> {
    let (row, tenant) = (&append.run, &append.run.tenant);
    statements::run(db, row)?;
    questions::follow(db, row, &append.entries)?;
    subscriptions::follow(db, row, &append.entries)?;
    sessions::follow(db, row, &append.entries)?;
    if row.state.is_over() {
        statements::wake(db, row)?;
    }
    if let Some(key) = &append.idempotency {
        statements::idempotency(db, tenant, key, row.updated_at)?;
    }
    if let Some(start) = &append.scheduled {
        schedules::start(db, tenant, row.id, start)?;
    }
    if let Some(start) = &append.triggered {
        triggers::start(db, row, start)?;
    }
    triggers::follow(db, row, &append.entries)?;
    if let Some(snapshot) = append.snapshot.as_ref().filter(|snapshot| has_room_for(snapshot)) {
        snapshots::keep(db, tenant, row.id, snapshot)?;
    }
    Ok(())
}
