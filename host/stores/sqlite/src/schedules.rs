//! Schedules: their rows, as acts and ticks change them, and as they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ltmc_model::schedule::{Planned, ScheduleId};
use ltmc_model::{Digest, KeyId, RunId, TenantId, Timestamp, WorkflowName};
use ltmc_ports::schedules::{Coming, LastStart, Paused, ScheduledStart, StoredSchedule, Ticked};
use ltmc_ports::{ReadSchedules, StoreError, WriteSchedules};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Record;
use crate::bind::{
    all, blob, execute, first_of_each, found, from_json, int, json, number, one, parsed, run_id, stamp, state_of,
    tenant as tenant_of, time,
};
use crate::error::{Error, wrong};
use crate::writer::Needs;

const COLUMNS: &str = "tenant, workflow, number, digest, timing, by_key, paused_at, paused_by, paused_why, next, \
                       last_run, last_tick, started, skipped, missed, trouble";

#[async_trait]
impl WriteSchedules for Record {
    async fn tick(
        &self,
        tenant: &TenantId,
        id: &ScheduleId,
        digest: Digest,
        ticked: Ticked,
    ) -> Result<bool, StoreError> {
        let (of, id, is_done) = (tenant.clone(), id.clone(), Arc::new(AtomicBool::new(false)));
        let done = is_done.clone();
        // Not synced: what is to be outlived is the process, and a tick that comes up again is dealt with again.
        let work = move |db: &Connection| {
            let is_open = next_of(db, &of, &id, digest)? == Some(ticked.due);
            if is_open {
                deal(db, &of, &id, &ticked)?;
            }
            done.store(is_open, Ordering::Release);
            Ok(())
        };
        self.writing.side("schedules.tick", tenant, Needs::Nothing, work).await?;
        Ok(is_done.load(Ordering::Acquire))
    }
}

#[async_trait]
impl ReadSchedules for Record {
    async fn schedule(&self, tenant: &TenantId, id: &ScheduleId) -> Result<Option<StoredSchedule>, StoreError> {
        self.readers.point("schedules.schedule", |db| row(db, tenant, id))
    }

    async fn schedules(
        &self,
        tenant: &TenantId,
        of: Option<&WorkflowName>,
        after: Option<&ScheduleId>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from schedules where tenant = ?1 and (?2 is null or workflow = ?2) and \
             (workflow, number) > (?3, ?4) order by workflow, number limit ?5"
        );
        let (workflow, last) = after.map_or(("", 0), |after| (after.workflow.as_str(), after.number));
        let values = params![tenant.as_str(), of.map(WorkflowName::as_str), workflow, last, limit];
        self.readers.point("schedules.schedules", |db| all(db, &sql, values, read))
    }

    async fn coming(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let after = after.map_or("", TenantId::as_str);
        self.readers.point("schedules.coming", |db| coming(db, after, limit))
    }

    async fn due(
        &self,
        tenant: &TenantId,
        after: Option<&Coming>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from schedules indexed by schedules_coming where tenant = ? and paused_at is null and \
             (next, workflow, number) > (?, ?, ?) order by next, workflow, number limit ?"
        );
        let (next, workflow, last) =
            after.map_or((-1, "", 0), |after| (time(after.next), after.id.workflow.as_str(), after.id.number));
        let values = params![tenant.as_str(), next, workflow, last, limit];
        self.readers.point("schedules.due", |db| all(db, &sql, values, read))
    }
}

fn coming(db: &Connection, after: &str, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, Error> {
    let sql = "select tenant, next from schedules indexed by schedules_coming where paused_at is null and tenant > ? \
               order by tenant, next limit 1";
    first_of_each(db, sql, after, limit)
}

/// A workflow's schedules are these from now on, within the transaction that is open.
pub(crate) fn plan(
    db: &Connection,
    tenant: &str,
    of: &WorkflowName,
    planned: &[Planned],
    by: Option<&KeyId>,
) -> Result<(), rusqlite::Error> {
    let sql = format!("select {COLUMNS} from schedules where tenant = ? and workflow = ?");
    // What does not read back does not go on.
    let before: Vec<StoredSchedule> = db
        .prepare_cached(&sql)?
        .query_map(params![tenant, of.as_str()], |row| Ok(read(row).ok()))?
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    execute(db, "delete from schedules where tenant = ? and workflow = ?", params![tenant, of.as_str()])?;
    let Ok(tenant) = TenantId::recorded(tenant) else { return Ok(()) };
    for (number, planned) in (1..).zip(planned) {
        let id = ScheduleId { workflow: of.clone(), number };
        let before = before.iter().find(|row| row.digest == planned.digest);
        insert(db, &StoredSchedule::planned(&tenant, id, planned, by, before))?;
    }
    Ok(())
}

/// A schedule starts nothing.
pub(crate) fn pause(
    db: &Connection,
    tenant: &str,
    (workflow, number, digest): (&WorkflowName, u32, &Digest),
    paused: &Paused,
) -> Result<(), rusqlite::Error> {
    let sql = "update schedules set paused_at = ?, paused_by = ?, paused_why = ? \
               where tenant = ? and workflow = ? and number = ? and digest = ?";
    let Paused { at, by, why } = paused;
    let values =
        params![time(*at), by.as_ref().map(KeyId::as_str), why, tenant, workflow.as_str(), number, &digest.0[..]];
    execute(db, sql, values)
}

/// A schedule goes on, in the name of a key.
pub(crate) fn go_on(
    db: &Connection,
    tenant: &str,
    (workflow, number, digest): (&WorkflowName, u32, &Digest),
    next: Timestamp,
    by: Option<&KeyId>,
) -> Result<(), rusqlite::Error> {
    let sql = "update schedules set paused_at = null, paused_by = null, paused_why = null, trouble = null, next = ?, by_key = ? \
               where tenant = ? and workflow = ? and number = ? and digest = ?";
    let by = by.map(KeyId::as_str);
    execute(db, sql, params![time(next), by, tenant, workflow.as_str(), number, &digest.0[..]])
}

/// Whether a schedule allows a start, within the transaction that is open.
pub(crate) fn allows(db: &Connection, tenant: &TenantId, start: &ScheduledStart) -> Result<bool, rusqlite::Error> {
    let sql = "select digest, paused_at is not null, next, last_run from schedules where tenant = ? and workflow = ? and number = ?";
    let values = params![tenant.as_str(), start.id.workflow.as_str(), start.id.number];
    let read = |row: &Row<'_>| {
        let last: Option<[u8; 16]> = row.get(3)?;
        Ok((Digest(row.get(0)?), row.get::<_, bool>(1)?, stamp(row.get(2)?), last.map(run_id)))
    };
    let Some((digest, is_paused, next, last)) = db.prepare_cached(sql)?.query_row(values, read).optional()? else {
        return Ok(false);
    };
    let is_open = start.due.as_ref().is_none_or(|ticked| !is_paused && next == ticked.due);
    if digest != start.digest || !is_open {
        return Ok(false);
    }
    match last.filter(|_| start.is_alone) {
        Some(last) => is_over(db, tenant, last),
        None => Ok(true),
    }
}

fn is_over(db: &Connection, tenant: &TenantId, run: RunId) -> Result<bool, rusqlite::Error> {
    let state = found(db, "select state from runs where tenant = ? and id = ?", params![tenant.as_str(), blob(run)])?;
    // Of one that is not there, or of which it is not known how it stands, nothing is under way.
    Ok(state.is_none_or(|state| state_of(state).map_or(true, |state| state.is_over())))
}

/// A schedule has started a run.
pub(crate) fn start(
    db: &Connection,
    tenant: &TenantId,
    run: RunId,
    start: &ScheduledStart,
) -> Result<(), rusqlite::Error> {
    let sql = "update schedules set last_run = ?, last_tick = ?, started = started + 1 \
               where tenant = ? and workflow = ? and number = ?";
    let ScheduledStart { id, tick, due, .. } = start;
    execute(db, sql, params![blob(run), time(*tick), tenant.as_str(), id.workflow.as_str(), id.number])?;
    due.as_ref().map_or(Ok(()), |ticked| deal(db, tenant, id, ticked))
}

/// Due ticks are dealt with.
fn deal(db: &Connection, tenant: &TenantId, id: &ScheduleId, ticked: &Ticked) -> Result<(), rusqlite::Error> {
    let sql = "update schedules set next = ?, skipped = skipped + ?, missed = missed + ?, trouble = ? \
               where tenant = ? and workflow = ? and number = ?";
    let (passed, trouble) = (ticked.passed, ticked.trouble.as_ref().map(json));
    let values = params![
        time(ticked.next),
        passed.skipped,
        passed.missed,
        trouble,
        tenant.as_str(),
        id.workflow.as_str(),
        id.number
    ];
    execute(db, sql, values)
}

/// The first tick of a schedule that is open; none: there is no such schedule, or it is paused.
fn next_of(
    db: &Connection,
    tenant: &TenantId,
    id: &ScheduleId,
    digest: Digest,
) -> Result<Option<Timestamp>, rusqlite::Error> {
    let sql = "select next from schedules where tenant = ? and workflow = ? and number = ? and digest = ? and paused_at is null";
    let values = params![tenant.as_str(), id.workflow.as_str(), id.number, &digest.0[..]];
    Ok(found(db, sql, values)?.map(stamp))
}

fn insert(db: &Connection, schedule: &StoredSchedule) -> Result<(), rusqlite::Error> {
    let sql = format!("insert into schedules ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    let StoredSchedule { tenant, id, digest, timing, by, next, paused, last, started, skipped, missed, trouble } =
        schedule;
    let paused = paused.as_ref();
    let values = params![
        tenant.as_str(),
        id.workflow.as_str(),
        id.number,
        &digest.0[..],
        json(timing),
        by.as_ref().map(KeyId::as_str),
        paused.map(|paused| time(paused.at)),
        paused.and_then(|paused| paused.by.as_ref()).map(KeyId::as_str),
        paused.and_then(|paused| paused.why.as_ref()),
        time(*next),
        last.map(|last| blob(last.run)),
        last.map(|last| time(last.tick)),
        int(*started),
        int(*skipped),
        int(*missed),
        trouble.as_ref().map(json),
    ];
    execute(db, &sql, values)
}

fn row(db: &Connection, tenant: &TenantId, id: &ScheduleId) -> Result<Option<StoredSchedule>, Error> {
    let sql = format!("select {COLUMNS} from schedules where tenant = ? and workflow = ? and number = ?");
    one(db, &sql, params![tenant.as_str(), id.workflow.as_str(), id.number], read)
}

fn read(row: &Row<'_>) -> Result<StoredSchedule, Error> {
    let key = |text: Option<String>| text.map(parsed::<KeyId>).transpose();
    let paused_at: Option<i64> = row.get(6)?;
    let paused = match paused_at {
        Some(at) => Some(Paused { at: stamp(at), by: key(row.get(7)?)?, why: row.get(8)? }),
        None => None,
    };
    let last = match (row.get::<_, Option<[u8; 16]>>(10)?, row.get::<_, Option<i64>>(11)?) {
        (Some(run), Some(tick)) => Some(LastStart { run: run_id(run), tick: stamp(tick) }),
        _ => None,
    };
    Ok(StoredSchedule {
        tenant: tenant_of(row.get(0)?)?,
        id: ScheduleId {
            workflow: parsed(row.get(1)?)?,
            number: u32::try_from(row.get::<_, i64>(2)?).map_err(|_| wrong("a schedule's number"))?,
        },
        digest: Digest(row.get(3)?),
        timing: from_json(row.get(4)?)?,
        by: key(row.get(5)?)?,
        next: stamp(row.get(9)?),
        paused,
        last,
        started: number(row.get(12)?),
        skipped: number(row.get(13)?),
        missed: number(row.get(14)?),
        trouble: row.get::<_, Option<String>>(15)?.map(from_json).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::open;

    /// Whose schedules come next is found without looking at each of a tenant's. Counted in steps of SQLite's machine.
    #[test]
    fn a_tenants_schedules_cost_others_nothing() {
        let db = open::in_memory().unwrap();
        let sql = "insert into schedules (tenant, workflow, number, digest, timing, next, started, skipped, missed) \
                   values (?, 'w', ?, x'', '', ?, 0, 0, 0)";
        let insert = |of: &str, number: i64| {
            db.prepare_cached(sql).unwrap().execute(params![of, number, number]).unwrap();
        };
        (1..10_000).for_each(|number| insert("acme", number));
        insert("beta", 20_000);
        let steps = Arc::new(AtomicU64::new(0));
        let count = steps.clone();
        db.progress_handler(1, Some(move || count.fetch_add(1, Ordering::Relaxed) > 1_000_000)).unwrap();
        let [acme, beta] = ["acme", "beta"].map(|name| name.parse().unwrap());
        assert_eq!(coming(&db, "", 10).unwrap(), [(acme, stamp(1)), (beta, stamp(20_000))]);
        let steps = steps.load(Ordering::Relaxed);
        assert!((1..1_000).contains(&steps), "{steps} steps");
    }
}
