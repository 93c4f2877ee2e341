//! Subscriptions that start runs: their rows and those of the events they took in, as acts, publications, starts and ends of runs change
//! them, and as they are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ltmc_model::delta::MemoryChange;
use ltmc_model::journal::Entry;
use ltmc_model::message::{Event, Topic};
use ltmc_model::run::Run;
use ltmc_model::trigger::{CASCADE, Feed, Planted, Stage, Trigger, TriggerId, Verdict, WINDOW, Watched};
use ltmc_model::{AgentName, Digest, KeyId, Position, TenantId, Timestamp, WorkflowName};
use ltmc_ports::schedules::Paused;
use ltmc_ports::triggers::{
    Arrival, ArrivalFilter, Intake, Outcome, StoredTrigger, TriggeredStart, after_run, over_budget, root, seen,
    shortened,
};
use ltmc_ports::{ReadTriggers, StoreError, WriteTriggers};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Record;
use crate::bind::{
    all, blob, execute, found, from_json, int, json, number, one, parsed, run_id, stamp, tenant as tenant_of, time,
};
use crate::deltas::about;
use crate::error::{Error, wrong};
use crate::mail::event;
use crate::writer::Needs;

/// Of one, with what is counted of its events.
const COLUMNS: &str = "t.tenant, t.id, t.digest, t.settings, t.by_key, t.paused_at, t.paused_by, t.paused_why, t.position, t.newest, \
    t.waiting, t.started, t.duplicates, t.trouble, \
    (select coalesce(sum(length(event)), 0) from arrivals a where a.tenant = t.tenant and a.trigger_id = t.id and a.stage = 0), \
    (select count(distinct run) from arrivals a where a.tenant = t.tenant and a.trigger_id = t.id and a.stage = 1), \
    (select count(*) from arrivals a where a.tenant = t.tenant and a.trigger_id = t.id and a.stage >= 2), t.replay_to, t.superseded";
const ARRIVAL: &str = "trigger_id, position, event, stage, run, reason, at, key";
/// After so many events more it is looked which of those seen are too old to be known.
const TRIMMED_EVERY: u64 = 256;

#[async_trait]
impl WriteTriggers for Record {
    async fn take_in(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        digest: Digest,
        intake: Intake,
    ) -> Result<bool, StoreError> {
        let (of, id, is_done) = (tenant.clone(), id.clone(), Arc::new(AtomicBool::new(false)));
        let done = is_done.clone();
        let needs = if intake.found.is_empty() { Needs::Nothing } else { Needs::Room };
        // Not synced: what is looked through again is found again.
        let work = move |db: &Connection| {
            done.store(take_in(db, of.as_str(), &id, digest, &intake)?, Ordering::Release);
            Ok(())
        };
        self.writing.side("triggers.take-in", tenant, needs, work).await?;
        Ok(is_done.load(Ordering::Acquire))
    }

    async fn bury(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        position: Position,
        reason: String,
    ) -> Result<bool, StoreError> {
        let (of, id, is_done) = (tenant.clone(), id.clone(), Arc::new(AtomicBool::new(false)));
        let done = is_done.clone();
        let work = move |db: &Connection| {
            let place = params![of.as_str(), id.as_str(), int(position.0)];
            let Some(trigger) = settings_of(db, of.as_str(), id.as_str())? else { return Ok(()) };
            let sql = "select 1 from arrivals where tenant = ? and trigger_id = ? and position = ? and stage = 0";
            if found(db, sql, place)?.is_none() {
                return Ok(());
            }
            let stage = trigger.on_poison.stage();
            let sql = "update arrivals set stage = ?, reason = ? where tenant = ? and trigger_id = ? and position = ?";
            execute(db, sql, params![stage as i64, shortened(&reason), of.as_str(), id.as_str(), int(position.0)])?;
            done.store(true, Ordering::Release);
            Ok(())
        };
        self.writing.side("triggers.bury", tenant, Needs::Nothing, work).await?;
        Ok(is_done.load(Ordering::Acquire))
    }

    async fn tell(&self, tenant: &TenantId, id: &TriggerId, trouble: Option<String>) -> Result<(), StoreError> {
        let (of, id) = (tenant.clone(), id.clone());
        let work = move |db: &Connection| {
            let sql = "update triggers set trouble = ? where tenant = ? and id = ?";
            execute(db, sql, params![trouble.as_deref().map(shortened), of.as_str(), id.as_str()])
        };
        self.writing.side("triggers.tell", tenant, Needs::Nothing, work).await
    }
}

#[async_trait]
impl ReadTriggers for Record {
    async fn trigger(&self, tenant: &TenantId, id: &TriggerId) -> Result<Option<StoredTrigger>, StoreError> {
        let sql = format!("select {COLUMNS} from triggers t where t.tenant = ? and t.id = ?");
        self.readers.point("triggers.trigger", |db| one(db, &sql, params![tenant.as_str(), id.as_str()], read))
    }

    async fn triggers(
        &self,
        tenant: &TenantId,
        after: Option<&TriggerId>,
        limit: u32,
    ) -> Result<Vec<StoredTrigger>, StoreError> {
        let sql = format!("select {COLUMNS} from triggers t where t.tenant = ? and t.id > ? order by t.id limit ?");
        let values = params![tenant.as_str(), after.map_or("", TriggerId::as_str), limit];
        self.readers.point("triggers.triggers", |db| all(db, &sql, values, read))
    }

    async fn triggered_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<TenantId>, StoreError> {
        // From one tenant's first to the next one's, by the index: those between are not looked at.
        let sql = "select tenant from triggers indexed by triggers_due where paused_at is null and \
                   (newest > position or waiting > 0) and tenant > ? order by tenant limit 1";
        let after = after.map_or("", TenantId::as_str);
        self.readers.point("triggers.tenants", |db| {
            let (mut found, mut after) = (Vec::new(), after.to_owned());
            while found.len() < limit as usize {
                let Some(next) = one(db, sql, [&after], |row| tenant_of(row.get(0)?))? else { break };
                after = TenantId::to_string(&next);
                found.push(next);
            }
            Ok(found)
        })
    }

    async fn watches_memory(&self) -> Result<bool, StoreError> {
        let sql = "select 1 from triggers indexed by triggers_watch where watch is not null limit 1";
        Ok(self.readers.point("triggers.watches", |db| found(db, sql, []).map_err(Error::from))?.is_some())
    }

    async fn due_triggers(
        &self,
        tenant: &TenantId,
        after: Option<&TriggerId>,
        limit: u32,
    ) -> Result<Vec<StoredTrigger>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from triggers t indexed by triggers_due where t.tenant = ? and t.paused_at is null and \
             (t.newest > t.position or t.waiting > 0) and t.id > ? order by t.id limit ?"
        );
        let values = params![tenant.as_str(), after.map_or("", TriggerId::as_str), limit];
        self.readers.point("triggers.due", |db| all(db, &sql, values, read))
    }

    async fn startable(&self, tenant: &TenantId, id: &TriggerId, limit: u32) -> Result<Vec<Arrival>, StoreError> {
        let sql = format!(
            "select {ARRIVAL} from arrivals a where tenant = ?1 and trigger_id = ?2 and stage = 0 and not exists \
             (select 1 from arrivals b where b.tenant = ?1 and b.trigger_id = ?2 and b.key = a.key and b.position < a.position \
             and b.stage < 3) order by position limit ?3"
        );
        self.readers.point("triggers.ready", |db| all(db, &sql, params![tenant.as_str(), id.as_str(), limit], arrival))
    }

    async fn parked(&self, tenant: &TenantId, id: &TriggerId) -> Result<BTreeMap<String, u32>, StoreError> {
        let sql = "select p.key, (select count(*) from arrivals b where b.tenant = ?1 and b.trigger_id = ?2 and b.key = p.key and \
                   b.stage = 0) from arrivals p where p.tenant = ?1 and p.trigger_id = ?2 and p.stage = 2";
        let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?));
        let values = params![tenant.as_str(), id.as_str()];
        let found = self.readers.point("triggers.parked", |db| all(db, sql, values, read))?;
        Ok(found.into_iter().collect())
    }

    async fn arrivals(&self, tenant: &TenantId, filter: &ArrivalFilter) -> Result<Vec<Arrival>, StoreError> {
        let sql = format!(
            "select {ARRIVAL} from arrivals where tenant = ?1 and (?2 is null or trigger_id = ?2) and stage >= ?3 and \
             (trigger_id, position) > (?4, ?5) order by trigger_id, position limit ?6"
        );
        let ArrivalFilter { of, dead, after, limit } = filter;
        let (last, position) = after.as_ref().map_or(("", -1), |(id, position)| (id.as_str(), int(position.0)));
        let least = if *dead { Stage::Parked as i64 } else { 0 };
        let values = params![tenant.as_str(), of.as_ref().map(TriggerId::as_str), least, last, position, limit];
        self.readers.point("triggers.arrivals", |db| all(db, &sql, values, arrival))
    }

    async fn started_since(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        since: Timestamp,
        most: u32,
    ) -> Result<u32, StoreError> {
        let read = |db: &Connection| started_since(db, tenant.as_str(), id.as_str(), since, most).map_err(Error::from);
        let count = self.readers.point("triggers.started-since", read)?;
        Ok(u32::try_from(count).unwrap_or(most))
    }

    async fn lag(&self, tenant: &TenantId, id: &TriggerId, most: u32) -> Result<u32, StoreError> {
        let sql = "select count(*) from (select 1 from triggers t join events e on e.tenant = t.tenant and e.topic = t.topic \
                   and e.position > t.position where t.tenant = ?1 and t.id = ?2 union all select 1 from triggers t \
                   cross join log l indexed by log_topic on l.tenant = t.tenant and l.topic = 0 and l.position > t.position \
                   where t.tenant = ?1 and t.id = ?2 and t.watch is not null and substr(l.about, 1, length(t.watch)) = t.watch \
                   limit ?3)";
        let values = params![tenant.as_str(), id.as_str(), most];
        let count = self.readers.point("triggers.lag", |db| Ok::<_, Error>(found(db, sql, values)?))?;
        Ok(u32::try_from(count.unwrap_or(0)).unwrap_or(most))
    }
}

/// A workflow's subscriptions are these from now on, within the transaction that is open.
pub(crate) fn plan(
    db: &Connection,
    tenant: &str,
    of: &WorkflowName,
    planted: &[Planted],
    by: Option<&KeyId>,
) -> Result<(), rusqlite::Error> {
    for (number, planted) in (1..).zip(planted) {
        put(db, tenant, &TriggerId::of_workflow(of, number), planted, by)?;
    }
    let sql = "select id from triggers where tenant = ? and id > ? || ':' and id < ? || ';'";
    let values = params![tenant, of.as_str(), of.as_str()];
    let ids: Vec<String> = db.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?;
    let is_there = |id: &String| (1..=planted.len()).any(|number| TriggerId::of_workflow(of, number).as_str() == id);
    ids.iter().filter(|id| !is_there(id)).try_for_each(|id| delete(db, tenant, id))
}

/// A subscription is this from now on. One that had the name goes on from where it is, if it is of the same topic; also paused, unless that was the
/// host's doing.
pub(crate) fn put(
    db: &Connection,
    tenant: &str,
    id: &TriggerId,
    Planted { trigger, after }: &Planted,
    by: Option<&KeyId>,
) -> Result<(), rusqlite::Error> {
    let before = settings_of(db, tenant, id.as_str())?;
    if before.as_ref().is_some_and(|before| before.feed != trigger.feed) {
        delete(db, tenant, id.as_str())?;
    }
    let (topic, watch) = match &trigger.feed {
        Feed::Topic(topic) => (topic.as_str(), None),
        Feed::Memory(Watched { drawer, prefix }) => ("", Some(about(drawer, prefix))),
    };
    let newest = match &watch {
        None => {
            let newest = "select coalesce(max(position), 0) from events where tenant = ? and topic = ?";
            found(db, newest, params![tenant, topic])?.unwrap_or(0)
        }
        // Of any key: what it looks through for nothing costs little.
        Some(_) => {
            let newest =
                "select coalesce(max(position), 0) from log indexed by log_topic where tenant = ? and topic = 0";
            found(db, newest, [tenant])?.unwrap_or(0)
        }
    };
    let sql = "insert into triggers (tenant, id, digest, settings, by_key, topic, position, newest, replay_to, waiting, started, duplicates, seen, watch) \
               values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 0, 0, 0, 0, ?9) on conflict (tenant, id) do update set digest = excluded.digest, \
               settings = excluded.settings, by_key = excluded.by_key, trouble = null, \
               paused_at = iif(paused_by is null, null, paused_at), paused_why = iif(paused_by is null, null, paused_why)";
    let (digest, settings, by) = (trigger.digest(), json(trigger), by.map(KeyId::as_str));
    let after = int(after.0);
    execute(db, sql, params![tenant, id.as_str(), &digest.0[..], settings, by, topic, after, newest.max(after), watch])
}

/// An agent is gone, and with it what its manifest asked to be woken by.
pub(crate) fn forget_agent(db: &Connection, tenant: &str, agent: &AgentName) -> Result<(), rusqlite::Error> {
    let sql = "select id from triggers where tenant = ?1 and id > ?2 || '@' and id < ?2 || 'A'";
    let values = params![tenant, agent.as_str()];
    let ids: Vec<String> = db.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?;
    ids.iter().try_for_each(|id| delete(db, tenant, id))
}

/// A subscription is gone, with all that it took in.
pub(crate) fn delete(db: &Connection, tenant: &str, id: &str) -> Result<(), rusqlite::Error> {
    for (table, column) in [("arrivals", "trigger_id"), ("seen_events", "trigger_id"), ("triggers", "id")] {
        execute(db, &format!("delete from {table} where tenant = ? and {column} = ?"), [tenant, id])?;
    }
    Ok(())
}

/// A subscription starts nothing.
pub(crate) fn pause(db: &Connection, tenant: &str, id: &TriggerId, paused: &Paused) -> Result<(), rusqlite::Error> {
    let Paused { at, by, why } = paused;
    let sql = "update triggers set paused_at = ?, paused_by = ?, paused_why = ? where tenant = ? and id = ?";
    execute(db, sql, params![time(*at), by.as_ref().map(KeyId::as_str), why, tenant, id.as_str()])
}

/// A subscription goes on, in the name of a key.
pub(crate) fn go_on(db: &Connection, tenant: &str, id: &TriggerId, by: Option<&KeyId>) -> Result<(), rusqlite::Error> {
    let sql = "update triggers set paused_at = null, paused_by = null, paused_why = null, trouble = null, by_key = ? \
               where tenant = ? and id = ?";
    execute(db, sql, params![by.map(KeyId::as_str), tenant, id.as_str()])
}

/// A subscription looks through its topic anew. What it has seen starts nothing, unless that is forgotten.
pub(crate) fn replay(
    db: &Connection,
    tenant: &str,
    id: &TriggerId,
    after: Position,
    force: bool,
) -> Result<(), rusqlite::Error> {
    let values = params![int(after.0), tenant, id.as_str()];
    let sql = "update triggers set replay_to = max(replay_to, position), position = ?1 \
               where tenant = ?2 and id = ?3 and position > ?1";
    execute(db, sql, values)?;
    if force {
        execute(db, "delete from seen_events where position > ?1 and tenant = ?2 and trigger_id = ?3", values)?;
    }
    Ok(())
}

/// Somebody said what becomes of a dead letter.
pub(crate) fn settle(
    db: &Connection,
    tenant: &str,
    id: &TriggerId,
    position: Position,
    verdict: Verdict,
) -> Result<(), rusqlite::Error> {
    let sql = match verdict {
        Verdict::Release => {
            "update arrivals set stage = 0, run = null, reason = null where tenant = ? and trigger_id = ? and position = ? and stage >= 2"
        }
        Verdict::Skip => "delete from arrivals where tenant = ? and trigger_id = ? and position = ? and stage >= 2",
    };
    execute(db, sql, params![tenant, id.as_str(), int(position.0)])
}

/// An event stands in a topic: subscriptions have something to look at.
pub(crate) fn published(
    db: &Connection,
    tenant: &TenantId,
    place: Position,
    topic: &Topic,
) -> Result<(), rusqlite::Error> {
    let sql = "update triggers set newest = ? where tenant = ? and topic = ?";
    execute(db, sql, params![int(place.0), tenant.as_str(), topic.as_str()])
}

/// A key of memory changed: subscriptions that watch it have something to look at.
pub(crate) fn remembered(
    db: &Connection,
    tenant: &TenantId,
    place: Position,
    change: &MemoryChange,
) -> Result<(), rusqlite::Error> {
    let sql = "update triggers indexed by triggers_watch set newest = ?1 where tenant = ?2 and watch is not null \
               and substr(?3, 1, length(watch)) = watch";
    execute(db, sql, params![int(place.0), tenant.as_str(), about(&change.drawer, &change.key)])
}

/// Whether a subscription allows a start, within the transaction that is open.
pub(crate) fn allows(
    db: &Connection,
    tenant: &TenantId,
    start: &TriggeredStart,
    at: Timestamp,
) -> Result<bool, rusqlite::Error> {
    let (of, id, position) = (tenant.as_str(), start.id.as_str(), int(start.position.0));
    let sql = "select 1 from triggers where tenant = ? and id = ? and digest = ? and paused_at is null";
    if found(db, sql, params![of, id, &start.digest.0[..]])?.is_none() {
        return Ok(false);
    }
    let Some(trigger) = settings_of(db, of, id)? else { return Ok(false) };
    let sql = "select key from arrivals where tenant = ? and trigger_id = ? and position = ? and stage = 0";
    let waits = |position: i64| -> Result<Option<String>, rusqlite::Error> {
        db.prepare_cached(sql)?.query_row(params![of, id, position], |row| row.get(0)).optional()
    };
    let Some(key) = waits(position)? else { return Ok(false) };
    for other in start.with.iter().chain(&start.dropped) {
        if waits(int(other.0))?.as_ref() != Some(&key) {
            return Ok(false);
        }
    }
    let earlier =
        "select 1 from arrivals where tenant = ? and trigger_id = ? and key = ? and position < ? and stage < 3";
    // Which of those that wait go together was decided.
    let others = "select 1 from arrivals where tenant = ? and trigger_id = ? and key = ? and stage in (1, 2)";
    let is_held_up = match trigger.gather {
        None => found(db, earlier, params![of, id, key, position])?.is_some(),
        Some(_) => found(db, others, params![of, id, key])?.is_some(),
    };
    if is_held_up {
        return Ok(false);
    }
    if let Some(rate) = start.rate
        && started_since(db, of, id, rate.since(at), rate.starts)? >= i64::from(rate.starts)
    {
        return Ok(false);
    }
    let sql = "select count(distinct run) from arrivals where tenant = ? and trigger_id = ? and stage = 1";
    Ok(found(db, sql, params![of, id])?.is_some_and(|count| count < i64::from(trigger.at_once)))
}

/// How many runs a subscription has started since then; not counted further than `most`.
fn started_since(db: &Connection, tenant: &str, id: &str, since: Timestamp, most: u32) -> Result<i64, rusqlite::Error> {
    let sql = "select count(*) from (select distinct run from starts indexed by starts_at where tenant = ? and trigger_id = ? \
               and at > ? limit ?)";
    Ok(found(db, sql, params![tenant, id, time(since), most])?.unwrap_or(0))
}

/// A subscription has started a run.
pub(crate) fn start(db: &Connection, run: &Run, start: &TriggeredStart) -> Result<(), rusqlite::Error> {
    let (tenant, id) = (run.tenant.as_str(), start.id.as_str());
    for position in start.with.iter().chain([&start.position]) {
        let sql = "update arrivals set stage = 1, run = ?, reason = null where tenant = ? and trigger_id = ? and position = ?";
        execute(db, sql, params![blob(run.id), tenant, id, int(position.0)])?;
        let sql = "insert or ignore into starts (tenant, position, trigger_id, run, at) values (?, ?, ?, ?, ?)";
        execute(db, sql, params![tenant, int(position.0), id, blob(run.id), time(run.created_at)])?;
    }
    for position in &start.dropped {
        let sql = "delete from arrivals where tenant = ? and trigger_id = ? and position = ? and stage = 0";
        execute(db, sql, params![tenant, id, int(position.0)])?;
    }
    let sql = "update triggers set started = started + 1, superseded = superseded + ?3, trouble = null where tenant = ?1 and id = ?2";
    let dropped = i64::try_from(start.dropped.len()).unwrap_or(i64::MAX);
    execute(db, sql, params![tenant, id, dropped])
}

/// What a run's end makes of the event that started it, within the transaction that is open.
pub(crate) fn follow(db: &Connection, run: &Run, entries: &[Entry]) -> Result<(), rusqlite::Error> {
    if !run.state.is_final() {
        return Ok(());
    }
    let (tenant, id) = (run.tenant.as_str(), blob(run.id));
    let sql = "select trigger_id from arrivals where tenant = ? and run = ?";
    let of = db.prepare_cached(sql)?.query_row(params![tenant, id], |row| row.get::<_, String>(0)).optional()?;
    let Some(of) = of else { return Ok(()) };
    let on_poison = settings_of(db, tenant, &of)?.map(|trigger| trigger.on_poison).unwrap_or_default();
    match after_run(run, entries, on_poison) {
        Outcome::Done => execute(db, "delete from arrivals where tenant = ? and run = ?", params![tenant, id]),
        Outcome::DeadLetter(stage, reason) => {
            let sql = "update arrivals set stage = ?, reason = ? where tenant = ? and run = ? and stage = 1";
            execute(db, sql, params![stage as i64, reason, tenant, id])
        }
    }
}

fn take_in(
    db: &Connection,
    tenant: &str,
    id: &TriggerId,
    digest: Digest,
    intake: &Intake,
) -> Result<bool, rusqlite::Error> {
    let sql =
        "select seen from triggers where tenant = ? and id = ? and digest = ? and position = ? and paused_at is null";
    let values = params![tenant, id.as_str(), &digest.0[..], int(intake.after.0)];
    let Some(before) = found(db, sql, values)?.map(number) else { return Ok(false) };
    let (mut count, mut duplicates) = (before, 0);
    for one in &intake.found {
        let sql = "insert or ignore into seen_events (tenant, trigger_id, event, position) values (?, ?, ?, ?)";
        let values = params![tenant, id.as_str(), &seen(&one.event)[..], int(one.position.0)];
        if db.prepare_cached(sql)?.execute(values)? == 0 {
            duplicates += 1;
            continue;
        }
        count += 1;
        let dead = match &one.dead {
            None if !followed(db, tenant, &one.event, intake)? => Some(over_budget(&one.event, intake.cascade)),
            dead => dead.clone(),
        };
        let stage = if dead.is_some() { Stage::Dead } else { Stage::Waiting };
        let sql = "insert or ignore into arrivals (tenant, trigger_id, position, key, stage, reason, at, event) values (?, ?, ?, ?, ?, ?, ?, ?)";
        let reason = dead.as_deref().map(shortened);
        let (key, event) = (&one.key, one.event.to_bytes());
        execute(
            db,
            sql,
            params![tenant, id.as_str(), int(one.position.0), key, stage as i64, reason, time(intake.at), event],
        )?;
    }
    let sql = "update triggers set position = ?, duplicates = duplicates + ?, seen = ?, trouble = ? where tenant = ? and id = ?";
    let trouble = intake.trouble.as_deref().map(shortened);
    execute(db, sql, params![int(intake.upto.0), duplicates, int(count), trouble, tenant, id.as_str()])?;
    if count / TRIMMED_EVERY != before / TRIMMED_EVERY {
        let sql = "delete from seen_events where tenant = ?1 and trigger_id = ?2 and position <= (select position from seen_events \
                   where tenant = ?1 and trigger_id = ?2 order by position desc limit 1 offset ?3)";
        execute(db, sql, params![tenant, id.as_str(), WINDOW])?;
    }
    Ok(true)
}

/// Counts an event to those that followed from the one that all of it began with; whether there is room for it among them.
fn followed(db: &Connection, tenant: &str, event: &Event, intake: &Intake) -> Result<bool, rusqlite::Error> {
    let Some(root) = root(event) else { return Ok(true) };
    let sql = "select followed from cascades where tenant = ? and root = ?";
    let before = found(db, sql, params![tenant, &root[..]])?;
    if before.is_none() {
        let old = time(intake.at).saturating_sub(i64::try_from(CASCADE.as_millis()).unwrap_or(i64::MAX));
        execute(db, "delete from cascades where tenant = ? and at < ?", params![tenant, old])?;
    }
    if before.is_some_and(|before| before >= i64::from(intake.cascade)) {
        return Ok(false);
    }
    let sql = "insert into cascades (tenant, root, followed, at) values (?, ?, 1, ?) on conflict (tenant, root) \
               do update set followed = followed + 1, at = excluded.at";
    execute(db, sql, params![tenant, &root[..], time(intake.at)])?;
    Ok(true)
}

/// What a subscription is; none: it is not there, or does not read back.
fn settings_of(db: &Connection, tenant: &str, id: &str) -> Result<Option<Trigger>, rusqlite::Error> {
    let sql = "select settings from triggers where tenant = ? and id = ?";
    let text = db.prepare_cached(sql)?.query_row([tenant, id], |row| row.get::<_, String>(0)).optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn read(row: &Row<'_>) -> Result<StoredTrigger, Error> {
    let key = |text: Option<String>| text.map(parsed::<KeyId>).transpose();
    let paused = match row.get::<_, Option<i64>>(5)? {
        Some(at) => Some(Paused { at: stamp(at), by: key(row.get(6)?)?, why: row.get(7)? }),
        None => None,
    };
    let count = |column| row.get::<_, i64>(column).map(number);
    Ok(StoredTrigger {
        tenant: tenant_of(row.get(0)?)?,
        id: parsed(row.get(1)?)?,
        digest: Digest(row.get(2)?),
        trigger: from_json(row.get(3)?)?,
        by: key(row.get(4)?)?,
        paused,
        position: Position(count(8)?),
        newest: Position(count(9)?),
        waiting: row.get(10)?,
        started: count(11)?,
        duplicates: count(12)?,
        trouble: row.get(13)?,
        waiting_bytes: count(14)?,
        under_way: row.get(15)?,
        dead: row.get(16)?,
        replay_to: Position(count(17)?),
        superseded: count(18)?,
    })
}

fn arrival(row: &Row<'_>) -> Result<Arrival, Error> {
    let stage = usize::try_from(row.get::<_, i64>(3)?).ok().and_then(|number| Stage::ALL.get(number).copied());
    let event = event(row, 2)?;
    Ok(Arrival {
        id: parsed(row.get(0)?)?,
        position: Position(number(row.get(1)?)),
        event,
        stage: stage.ok_or_else(|| wrong("how far an event is"))?,
        run: row.get::<_, Option<[u8; 16]>>(4)?.map(run_id),
        reason: row.get(5)?,
        at: Timestamp::from_millis(number(row.get(6)?)),
        key: row.get(7)?,
    })
}
