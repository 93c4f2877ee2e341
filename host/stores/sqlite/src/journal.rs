//! Journals and runs, read.

use async_trait::async_trait;
use ltmc_model::chain::Link;
use ltmc_model::journal::{Entry, Placed};
use ltmc_model::run::{Run, State, Trial};
use ltmc_model::{Digest, Epoch, Revision, RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Head, IdempotencyKey, Kept, RunFilter, Snapshot, Suspended};
use ltmc_ports::{
    Append, Durability, Kind, ReadChains, ReadJournal, ReadLog as _, Receipt, StoreError, TakeUps, WriteJournal,
};
use rusqlite::{Connection, Row, ToSql, params};

use crate::bind::{
    all, blob, first_of_each, found, int, number, one, parsed, run_id, stamp, state_number, state_of, taken_up_of,
    target_of, tenant as tenant_of, time,
};
use crate::error::{Error, store, wrong};
use crate::purge::DELETED;
use crate::writer::Needs;
use crate::{Record, frames, snapshots, statements, verify};

const COLUMNS: &str = "tenant, id, target, state, session, by_key, created_at, updated_at, epoch, seq, wakes_at, \
                       taken_up, trial, parent, turn";
/// Entries are read in stretches of so many bytes: whoever reads many lets others go on between them.
const STRETCH: usize = 1 << 20;

#[async_trait]
impl WriteJournal for Record {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        self.writing.hand_over(append, durability).await
    }

    fn next_revision(&self, tenant: &TenantId) -> Revision {
        self.tail.revisions.draw(tenant)
    }
}

#[async_trait]
impl TakeUps for Record {
    async fn take_up(&self, runs: &[(TenantId, RunId)], more: i32, trial: Trial) -> Result<(), StoreError> {
        let runs = runs.to_vec();
        // Not synced: what is to be outlived is the process, and the system has what was committed.
        self.writing
            .side("journal.take-up", &TenantId::host(), Needs::Nothing, move |db| {
                statements::take_up(db, &runs, more, trial)
            })
            .await
    }

    async fn forget_take_ups(&self) -> Result<(), StoreError> {
        let host = TenantId::host();
        self.writing.side("journal.forget-take-ups", &host, Needs::Nothing, statements::forget_take_ups).await
    }
}

#[async_trait]
impl ReadJournal for Record {
    async fn entries(&self, tenant: &TenantId, run: RunId, after: Seq, limit: u32) -> Result<Vec<Placed>, StoreError> {
        let mut placed: Vec<Placed> = Vec::new();
        while placed.len() < limit as usize {
            let from = placed.last().map_or(after, |last| last.seq);
            let most = Most { entries: limit as usize - placed.len(), bytes: STRETCH };
            let read = |db: &Connection| stretch(db, tenant, run, from, most, &mut placed);
            let there_may_be_more = self.readers.point("journal.entries", read)?;
            if !there_may_be_more {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(placed)
    }

    async fn last(&self, tenant: &TenantId, run: RunId) -> Result<Seq, StoreError> {
        let sql = "select last from journal where tenant = ? and run = ? order by first desc limit 1";
        let values = params![tenant.as_str(), &run.0.as_bytes()[..]];
        let found = self.readers.point("journal.last", |db| Ok(found(db, sql, values)?))?;
        Ok(Seq(number(found.unwrap_or(0))))
    }

    async fn page(
        &self,
        tenant: &TenantId,
        run: RunId,
        after: Seq,
        limit: u32,
        bytes: usize,
    ) -> Result<Vec<Placed>, StoreError> {
        let (mut placed, most) = (Vec::new(), Most { entries: limit as usize, bytes });
        self.readers.point("journal.page", |db| stretch(db, tenant, run, after, most, &mut placed))?;
        Ok(placed)
    }

    async fn snapshot(&self, tenant: &TenantId, run: RunId, until: Seq) -> Result<Option<Snapshot>, StoreError> {
        self.readers.point("journal.snapshot", |db| snapshots::newest(db, tenant, run, until))
    }

    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, StoreError> {
        self.readers.point("journal.run", |db| row(db, tenant, run))
    }

    async fn runs(&self, tenant: &TenantId, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        let (of, filter) = (tenant.clone(), filter.clone());
        self.readers.search("journal.runs", tenant, move |db| rows(db, &of, &filter)).await
    }

    async fn unfinished(&self, after: Option<(TenantId, RunId)>, limit: u32) -> Result<Vec<Run>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from runs where state < 3 and wakes_at is null and (id, tenant) > (?, ?) \
             and tenant not in {DELETED} order by id, tenant limit ?"
        );
        let (id, tenant) = match &after {
            Some((tenant, run)) => (blob(*run), tenant.as_str()),
            None => (Vec::new(), ""),
        };
        self.readers.point("journal.unfinished", |db| all(db, &sql, params![id, tenant, limit], read_run))
    }

    async fn unfinished_of(&self, tenant: &TenantId, from: RunId, limit: u32) -> Result<Vec<Run>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from runs where tenant = ? and id >= ? and state < 3 and wakes_at is null \
             and tenant not in {DELETED} order by id limit ?"
        );
        let of = tenant.clone();
        let read = move |db: &Connection| all(db, &sql, params![of.as_str(), blob(from), limit], read_run);
        self.readers.search("journal.unfinished-of", &TenantId::host(), read).await
    }

    async fn set_aside(&self, tenant: &TenantId, state: State) -> Result<u64, StoreError> {
        let sql = "select count(*) from runs indexed by runs_ended_badly where tenant = ? and state > 3 and state = ?";
        let values = params![tenant.as_str(), state_number(state)];
        let count = self.readers.point("journal.set-aside", |db| one(db, sql, values, |row| Ok(row.get(0)?)))?;
        Ok(number(count.unwrap_or(0)))
    }

    async fn sleepers(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let after = after.map_or("", TenantId::as_str);
        self.readers.point("journal.sleepers", |db| sleepers(db, after, limit))
    }

    async fn suspended(&self, tenant: &TenantId, after: Option<Suspended>, limit: u32) -> Result<Vec<Run>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from runs indexed by runs_suspended where tenant = ? and wakes_at is not null and \
             (wakes_at, id) > (?, ?) order by wakes_at, id limit ?"
        );
        let (wakes_at, id) = after.map_or((-1, Vec::new()), |after| (time(after.wakes_at), blob(after.run)));
        let values = params![tenant.as_str(), wakes_at, id, limit];
        self.readers.point("journal.suspended", |db| all(db, &sql, values, read_run))
    }

    async fn idempotent(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<IdempotencyKey>, StoreError> {
        let sql = "select request, run, expires_at from idempotency where tenant = ? and key = ? and expires_at > ?";
        let read = |row: &Row<'_>| {
            let (request, run, expires_at) = (Digest(row.get(0)?), run_id(row.get(1)?), stamp(row.get(2)?));
            Ok(IdempotencyKey { key: key.to_owned(), request, run, expires_at })
        };
        self.readers.point("journal.idempotent", |db| one(db, sql, params![tenant.as_str(), key, time(now)], read))
    }

    async fn verify(&self) -> Result<Audit, StoreError> {
        const OP: &str = "journal.verify";
        let connection = self.aside().map_err(|e| store(OP, e))?;
        // bound: threads beside
        let walked = tokio::task::spawn_blocking(move || verify::walk(&connection, &Kept::default())).await;
        walked.map_err(|e| StoreError::new(Kind::Internal, OP).because(e))?.map_err(|e| store(OP, e))
    }
}

#[async_trait]
impl ReadChains for Record {
    async fn heads(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Head>, StoreError> {
        let after = after.cloned();
        let read = move |db: &Connection| heads(db, after.as_ref(), limit);
        let heads = self.readers.scan("journal.heads", &TenantId::host(), read).await?;
        self.settled().await;
        Ok(heads)
    }
}

/// How chains end, by tenant, after `after`.
pub(crate) fn heads(db: &Connection, after: Option<&TenantId>, limit: u32) -> Result<Vec<Head>, Error> {
    let sql = "select tenant, length, head from chains where ?1 is null or tenant > ?1 order by tenant limit ?2";
    all(db, sql, params![after.map(TenantId::as_str), limit], |row| {
        let (length, hash) = (number(row.get(1)?), Link(row.get(2)?));
        Ok(Head { tenant: tenant_of(row.get(0)?)?, length, hash })
    })
}

fn sleepers(db: &Connection, after: &str, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, Error> {
    let sql = format!(
        "select tenant, wakes_at from runs indexed by runs_suspended where wakes_at is not null and tenant > ? \
         and tenant not in {DELETED} order by tenant, wakes_at limit 1"
    );
    first_of_each(db, &sql, after, limit)
}

/// A run's row.
pub(crate) fn row(db: &Connection, tenant: &TenantId, run: RunId) -> Result<Option<Run>, Error> {
    let sql = format!("select {COLUMNS} from runs where tenant = ? and id = ?");
    one(db, &sql, params![tenant.as_str(), &run.0.as_bytes()[..]], read_run)
}

/// How much is read at once: so many entries, and about so many bytes; at least one entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

/// Adds a run's entries after `after` to what is read already, as many as there are to be at most. Whether there may be more.
pub(crate) fn stretch(
    db: &Connection,
    tenant: &TenantId,
    run: RunId,
    after: Seq,
    most: Most,
    placed: &mut Vec<Placed>,
) -> Result<bool, Error> {
    // The first row is the one that holds the next entry: it may begin before it.
    let sql = "select first, frames from journal where tenant = ?1 and run = ?2 and last > ?3 and first >= coalesce(\
               (select max(first) from journal where tenant = ?1 and run = ?2 and first <= ?3 + 1), 0) order by first";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant.as_str(), &run.0.as_bytes()[..], int(after.0)])?;
    let (mut found, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let kept = row.get_ref(1)?.as_blob().map_err(|_| wrong("a run's entries"))?;
        let before = found;
        for (seq, frame) in (number(row.get(0)?)..).zip(frames::read(kept)) {
            let (_, entry) = frame.map_err(|e| Error::Corrupt(e.to_string()))?;
            if seq <= after.0 {
                continue;
            }
            bytes += entry.len();
            if found >= most.entries || found > 0 && bytes > most.bytes {
                return Ok(true);
            }
            let entry = Entry::from_bytes(entry).map_err(|e| Error::Corrupt(e.to_string()))?;
            placed.push(Placed { seq: Seq(seq), entry });
            found += 1;
        }
        if found == before {
            return Err(Error::Corrupt(format!("run {run} has no entry after {} where one should be", after.0)));
        }
    }
    Ok(false)
}

fn rows(db: &Connection, tenant: &TenantId, filter: &RunFilter) -> Result<Vec<Run>, Error> {
    // By itself SQLite goes through all of the tenant's runs.
    let by = if filter.parent.is_some() { " indexed by runs_children" } else { "" };
    let mut sql = format!("select {COLUMNS} from runs{by} where tenant = ?");
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(tenant.to_string())];
    let mut only = |condition: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(value);
        }
    };
    only(" and state = ?", filter.state.map(|state| Box::new(state_number(state)) as _));
    only(" and name = ?", filter.target.clone().map(|target| Box::new(target) as _));
    only(" and session = ?", filter.session.as_ref().map(|session| Box::new(session.to_string()) as _));
    only(" and by_key = ?", filter.by.as_ref().map(|by| Box::new(by.to_string()) as _));
    only(" and parent = ?", filter.parent.map(|parent| Box::new(blob(parent)) as _));
    only(" and id < ?", filter.before.map(|before| Box::new(blob(before)) as _));
    only(" order by id desc limit ?", Some(Box::new(filter.limit)));
    all(db, &sql, rusqlite::params_from_iter(values), read_run)
}

fn read_run(row: &Row<'_>) -> Result<Run, Error> {
    Ok(Run {
        tenant: parsed(row.get(0)?)?,
        id: run_id(row.get(1)?),
        target: target_of(&row.get::<_, String>(2)?)?,
        state: state_of(row.get(3)?)?,
        session: parsed(row.get(4)?)?,
        by: parsed(row.get(5)?)?,
        created_at: stamp(row.get(6)?),
        updated_at: stamp(row.get(7)?),
        epoch: Epoch(number(row.get(8)?)),
        seq: Seq(number(row.get(9)?)),
        wakes_at: row.get::<_, Option<i64>>(10)?.map(stamp),
        taken_up: taken_up_of(row.get(11)?, row.get(12)?),
        parent: row.get::<_, Option<[u8; 16]>>(13)?.map(run_id),
        turn: row.get(14)?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::open;

    /// Who sleeps is found without looking at each of a tenant's runs. Counted in steps of SQLite's machine.
    #[test]
    fn a_tenants_backlog_costs_others_nothing() {
        let db = open::in_memory().unwrap();
        let sql = "insert into runs (tenant, id, target, name, state, session, by_key, created_at, updated_at, epoch, seq, wakes_at) \
                   values (?, ?, '', '', 2, '', '', 0, 0, 1, 1, ?)";
        let insert = |of: &str, number: u64| {
            db.prepare_cached(sql).unwrap().execute(params![of, number.to_be_bytes(), int(number)]).unwrap();
        };
        (1..10_000).for_each(|number| insert("acme", number));
        insert("beta", 20_000);
        let steps = Arc::new(AtomicU64::new(0));
        let count = steps.clone();
        db.progress_handler(1, Some(move || count.fetch_add(1, Ordering::Relaxed) > 1_000_000)).unwrap();
        let found = sleepers(&db, "", 10).unwrap();
        let [acme, beta] = ["acme", "beta"].map(|name| name.parse().unwrap());
        assert_eq!(found, [(acme, stamp(1)), (beta, stamp(20_000))]);
        let steps = steps.load(Ordering::Relaxed);
        assert!((1..1_000).contains(&steps), "{steps} steps");
    }
}
