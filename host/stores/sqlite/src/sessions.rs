//! Sessions and their turns: rows that follow acts and the journals of runs, within their transaction; and read.

use async_trait::async_trait;
use ltmc_model::delta::MemoryValue;
use ltmc_model::hand_off::Holder;
use ltmc_model::journal::Entry;
use ltmc_model::run::Run;
use ltmc_model::session::{Active, Fork, MAX_BACK, Part, Remains, Session, Settings, Stage, Standing, Turn};
use ltmc_model::{AgentName, Epoch, KeyId, RunId, SessionId, TenantId, Timestamp};
use ltmc_ports::sessions::{self, SessionFilter, place};
use ltmc_ports::{Append, Kind, ReadSessions, StoreError};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Record;
use crate::bind::{
    all, blob, execute, from_json, int, json, number, one, parsed, run_id, stamp, tenant as tenant_of, time,
};
use crate::deltas::By;
use crate::error::{Error, wrong};
use crate::purge::DELETED;

/// So often, by the numbers of turns, it is looked for what memory was too long ago.
const PRUNED: u32 = 16;

const COLUMNS: &str = "tenant, id, by_key, opened_at, settings, standing, epoch, turns, active, active_number, active_since, \
                       queued, interrupted, last_at, due_at, holder, copied, closed_at, summary, memory";

#[async_trait]
impl ReadSessions for Record {
    async fn session(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<Session>, StoreError> {
        self.readers.point("sessions.get", |db| row(db, tenant, id))
    }

    async fn sessions(&self, tenant: &TenantId, filter: &SessionFilter) -> Result<Vec<Session>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from sessions where tenant = ?1 and (?2 is null or standing = ?2) and (?3 is null or by_key = ?3 \
             or exists (select 1 from json_each(settings, '$.participants') as part where part.key = ?3)) \
             and (?4 is null or (opened_at, id) < (?4, ?5)) order by opened_at desc, id desc limit ?6"
        );
        let (of, filter) = (tenant.clone(), filter.clone());
        let read = move |db: &Connection| {
            let standing = filter.standing.map(standing_number);
            let key = filter.of.as_ref().map(KeyId::as_str);
            let (at, id) = filter.before.as_ref().map(|(at, id)| (time(*at), id.as_str())).unzip();
            all(db, &sql, params![of.as_str(), standing, key, at, id, filter.limit], read)
        };
        self.readers.search("sessions.list", tenant, read).await
    }

    async fn turns(&self, tenant: &TenantId, id: &SessionId, after: u32, limit: u32) -> Result<Vec<Turn>, StoreError> {
        let sql = "select number, run, by_key, stage, began, undone, holder from turns where tenant = ? and session = ? and number > ? \
                   order by number limit ?";
        let values = params![tenant.as_str(), id.as_str(), after, limit];
        self.readers.point("sessions.turns", |db| all(db, sql, values, read_turn))
    }

    async fn begun(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        after: Option<Epoch>,
        before: Option<Epoch>,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError> {
        let sql = "select number, run, by_key, stage, began, undone, holder from turns indexed by turns_begun where tenant = ? and session = ? \
                   and began is not null and undone = 0 and began > ? and began < ? order by began desc, number desc limit ?";
        let after = after.map_or(-1, |after| int(after.0));
        let before = before.map_or(i64::MAX, |before| int(before.0));
        let values = params![tenant.as_str(), id.as_str(), after, before, limit];
        self.readers.point("sessions.begun", |db| all(db, sql, values, read_turn))
    }

    async fn changed_since(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        began: Epoch,
        most: (u32, usize),
    ) -> Result<Vec<(String, Option<MemoryValue>)>, StoreError> {
        // Of a column beside a smallest one SQLite takes that row's.
        let sql = "select key, value, expires_at, min(began) from session_keeps where tenant = ?1 and session = ?2 and began > ?3 \
                   group by key order by key limit ?4";
        let (of, id) = (tenant.clone(), id.clone());
        self.readers.search("sessions.changed-since", tenant, move |db| kept(db, sql, (&of, &id, began), most)).await
    }

    async fn memory_after(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        began: Epoch,
        most: (u32, usize),
    ) -> Result<Vec<(String, MemoryValue)>, StoreError> {
        let sql = "with since as (select key, value, expires_at, min(began) from session_keeps \
                   where tenant = ?1 and session = ?2 and began > ?3 group by key) \
                   select key, value, expires_at from memory where tenant = ?1 and scope = 1 and owner = ?2 \
                   and key not in (select key from since) \
                   union all select key, value, expires_at from since where value is not null order by key limit ?4";
        let (of, id) = (tenant.clone(), id.clone());
        let read = move |db: &Connection| kept(db, sql, (&of, &id, began), most);
        let found = self.readers.search("sessions.memory-after", tenant, read).await?;
        Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
    }

    async fn archive(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<String>, StoreError> {
        let sql = "select document from session_archives where tenant = ? and id = ?";
        let values = params![tenant.as_str(), id.as_str()];
        self.readers.point("sessions.archive", |db| one(db, sql, values, |row| Ok(row.get(0)?)))
    }

    async fn waiting_turns(&self, tenant: &TenantId, id: &SessionId, by: &KeyId) -> Result<u32, StoreError> {
        self.readers.point("sessions.waiting", |db| Ok(waiting(db, tenant, id, by)?))
    }

    async fn coming_sessions(
        &self,
        by: Timestamp,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let after = after.map_or("", TenantId::as_str);
        self.readers.point("sessions.coming", |db| coming(db, by, after, limit))
    }

    async fn due_sessions(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        after: Option<&(Timestamp, SessionId)>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from sessions indexed by sessions_coming where tenant = ? and due_at is not null and due_at <= ? \
             and (due_at, id) > (?, ?) and tenant not in {DELETED} order by due_at, id limit ?"
        );
        let (at, id) = after.map_or((-1, ""), |(at, id)| (time(*at), id.as_str()));
        let values = params![tenant.as_str(), time(now), at, id, limit];
        self.readers.point("sessions.due", |db| all(db, &sql, values, read))
    }
}

/// By when the first of each tenant's is due: neither those that are due later are looked at, nor how many each tenant has.
fn coming(db: &Connection, by: Timestamp, after: &str, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, Error> {
    let sql = format!(
        "select tenant, due_at from session_times indexed by session_times_due where due_at <= ? and tenant > ? \
         and tenant not in {DELETED} order by tenant limit ?"
    );
    let read = |row: &Row<'_>| Ok((tenant_of(row.get(0)?)?, stamp(row.get(1)?)));
    all(db, &sql, params![time(by), after, limit], read)
}

/// Why a turn's next entries cannot be written; none: they can.
pub(crate) fn refuse(db: &Connection, append: &Append) -> Result<Option<Kind>, rusqlite::Error> {
    let Run { tenant, session, turn, updated_at, .. } = &append.run;
    let Some(turn) = turn else {
        let comes_late = sessions::writes_beside(append) && is_done_with(db, append)?;
        return Ok(comes_late.then_some(Kind::Displaced));
    };
    if let Some(place) = place(&append.entries) {
        let Some(found) = of(db, tenant, session)? else { return Ok(Some(Kind::Conflict)) };
        let waiting = if place.waits { waiting(db, tenant, session, &append.run.by)? } else { 0 };
        return Ok((!found.takes(place, *updated_at, waiting)).then_some(Kind::Conflict));
    }
    let is_fenced = sessions::is_fenced(append) && stage(db, tenant, session, *turn)? != Some(Stage::Active);
    Ok(is_fenced.then_some(Kind::Displaced))
}

/// Whether the turn that a run belongs to, as its child, is no part of its session any more, or that is over.
fn is_done_with(db: &Connection, append: &Append) -> Result<bool, rusqlite::Error> {
    let Run { tenant, session, .. } = &append.run;
    let Some(found) = of(db, tenant, session)? else { return Ok(false) };
    if found.standing.is_over() {
        return Ok(true);
    }
    let sql = "select run.parent, turn.undone from runs as run left join turns as turn \
               on turn.tenant = run.tenant and turn.session = run.session and turn.number = run.turn \
               where run.tenant = ? and run.id = ? and run.session = ?";
    let mut above = append.run.parent;
    for _ in 0..sessions::MAX_UP {
        let Some(run) = above else { break };
        let read = |row: &Row<'_>| Ok((row.get::<_, Option<[u8; 16]>>(0)?, row.get::<_, Option<bool>>(1)?));
        let values = params![tenant.as_str(), blob(run), session.as_str()];
        match db.prepare_cached(sql)?.query_row(values, read).optional()? {
            Some((_, Some(undone))) => return Ok(undone),
            Some((parent, None)) => above = parent.map(run_id),
            None => break,
        }
    }
    Ok(false)
}

/// What entries of a run make of the session whose turn it is, and of its other turns.
pub(crate) fn follow(db: &Connection, run: &Run, entries: &[Entry]) -> Result<(), rusqlite::Error> {
    let (of_tenant, id, at) = (&run.tenant, &run.session, run.updated_at);
    let Some(turn) = run.turn else { return Ok(()) };
    let place = place(entries);
    let mut handed = sessions::handed_on(entries).peekable();
    let begins_anew = sessions::begins_anew(entries);
    if place.is_none() && handed.peek().is_none() && !begins_anew && !run.state.is_final() {
        return Ok(());
    }
    let Some(mut session) = of(db, of_tenant, id)? else { return Ok(()) };
    if let Some(place) = place {
        session.take(place, run.id, at);
        let stage = if place.waits { Stage::Queued } else { Stage::Active };
        let sql = "insert into turns (tenant, session, number, run, by_key, stage) values (?, ?, ?, ?, ?, ?)";
        let (tenant, by) = (of_tenant.as_str(), run.by.as_str());
        execute(db, sql, params![tenant, id.as_str(), turn, blob(run.id), by, stage_number(stage)])?;
        if !place.waits {
            begun(db, &session, turn)?;
        }
        keep(db, &session)?;
    }
    if session.holder.is_some() && begins_anew {
        session.holder = None;
        keep(db, &session)?;
    }
    if handed.peek().is_some() {
        handed.for_each(|handed| session.hand_off(handed, (turn, run.id), at));
        keep(db, &session)?;
    }
    if run.state.is_final() { end(db, &mut session, turn, run.id, at) } else { Ok(()) }
}

/// A turn is over, however: where it was at work the next one begins.
fn end(db: &Connection, session: &mut Session, turn: u32, run: RunId, at: Timestamp) -> Result<(), rusqlite::Error> {
    let (tenant, id) = (session.tenant.clone(), session.id.clone());
    let is_at_work = session.active.is_some_and(|active| active.run == run);
    match if is_at_work { Some(Stage::Active) } else { stage(db, &tenant, &id, turn)? } {
        Some(Stage::Queued) => session.leave(),
        Some(Stage::Active) if is_at_work => session.finish(at),
        _ => return Ok(()),
    }
    go(db, (&tenant, &id), turn, Stage::Over)?;
    let next = if session.active.is_none() && session.queued > 0 {
        next(db, &tenant, &id, session.interrupted)?
    } else {
        None
    };
    session.go_on(next, at);
    if let Some((number, run)) = next {
        go(db, (&tenant, &id), number, Stage::Active)?;
        begun(db, session, number)?;
        let sql = "update runs set wakes_at = ?1 where tenant = ?2 and id = ?3 and wakes_at > ?1";
        execute(db, sql, params![time(at), tenant.as_str(), blob(run)])?;
    }
    keep(db, session)
}

/// Notes when a turn began, and who held the conversation then; what memory was so many turns ago is kept no more.
fn begun(db: &Connection, session: &Session, turn: u32) -> Result<(), rusqlite::Error> {
    let (tenant, id, epoch) = (session.tenant.as_str(), session.id.as_str(), int(session.epoch.0));
    let sql = "update turns set began = ?, holder = ? where tenant = ? and session = ? and number = ?";
    execute(db, sql, params![epoch, session.holder.as_ref().map(json), tenant, id, turn])?;
    if !turn.is_multiple_of(PRUNED) {
        return Ok(());
    }
    let sql = "delete from session_keeps where tenant = ?1 and session = ?2 and began <= (select began from turns indexed by turns_begun \
               where tenant = ?1 and session = ?2 and began is not null and undone = 0 order by began desc limit 1 offset ?3)";
    execute(db, sql, params![tenant, id, MAX_BACK])
}

/// A session is opened, within the transaction that is open.
pub(crate) fn open(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    by: Option<&KeyId>,
    at: Timestamp,
    (settings, fork): (&Settings, Option<&Fork>),
) -> Result<(), rusqlite::Error> {
    let (Ok(tenant), Some(by)) = (TenantId::recorded(tenant), by) else { return Ok(()) };
    let mut session = Session::opened(tenant, id.clone(), by.clone(), at, settings.clone());
    if let Some(fork) = fork {
        // What it has of the other one began before anything of its own.
        let sql = "insert into turns (tenant, session, number, run, by_key, stage, began, holder) \
                   select tenant, ?3, number, run, by_key, stage, 0, holder from turns indexed by turns_begun \
                   where tenant = ?1 and session = ?2 and began is not null and undone = 0 and began <= ?4 and stage = 2";
        let of = session.tenant.as_str();
        execute(db, sql, params![of, fork.of.as_str(), id.as_str(), int(fork.began.0)])?;
        let last = "select max(number) from turns where tenant = ? and session = ?";
        let last: Option<u32> = db.prepare_cached(last)?.query_row(params![of, id.as_str()], |row| row.get(0))?;
        session.forked(fork, last.unwrap_or(0));
    }
    let sql = format!(
        "insert into sessions ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null, null, null)"
    );
    let values = params![
        session.tenant.as_str(),
        session.id.as_str(),
        session.by.as_str(),
        time(session.opened_at),
        json(&session.settings),
        standing_number(session.standing),
        int(session.epoch.0),
        session.turns,
        None::<Vec<u8>>,
        None::<u32>,
        None::<i64>,
        session.queued,
        session.interrupted,
        time(session.last_at),
        session.due_at.map(time),
        session.holder.as_ref().map(json),
        session.copied,
    ];
    execute(db, &sql, values)
}

/// A session takes no more turns.
pub(crate) fn close(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    (expired, now): (bool, bool),
    at: Timestamp,
) -> Result<(), rusqlite::Error> {
    let Some(mut session) = of_text(db, tenant, id)? else { return Ok(()) };
    match expired {
        true => session.expire(at),
        false => session.close(now, at),
    }
    keep(db, &session)
}

/// This became of the memory of a session that is over; nobody takes it back any more.
pub(crate) fn settle(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    memory: Remains,
    archive: Option<&str>,
) -> Result<(), rusqlite::Error> {
    let Some(mut session) = of_text(db, tenant, id)? else { return Ok(()) };
    session.settle(memory);
    if let Some(document) = archive {
        let sql = "insert or replace into session_archives (tenant, id, document) values (?, ?, ?)";
        execute(db, sql, params![tenant, id.as_str(), document])?;
    }
    if memory != Remains::TooLarge {
        execute(db, "delete from session_keeps where tenant = ? and session = ?", params![tenant, id.as_str()])?;
    }
    keep(db, &session)
}

/// A key takes part in a session from now on, or no more.
pub(crate) fn take_part(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    key: &KeyId,
    part: Option<Part>,
) -> Result<(), rusqlite::Error> {
    let Some(mut session) = of_text(db, tenant, id)? else { return Ok(()) };
    session.take_part(key.clone(), part);
    let sql = "update sessions set settings = ? where tenant = ? and id = ?";
    execute(db, sql, params![json(&session.settings), tenant, id.as_str()])
}

/// A person hands a session's conversation on.
pub(crate) fn hand_over(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    to: &AgentName,
    at: Timestamp,
) -> Result<(), rusqlite::Error> {
    let Some(mut session) = of_text(db, tenant, id)? else { return Ok(()) };
    session.hand_over(to.clone(), at);
    keep(db, &session)
}

/// A session is taken back to after a turn.
pub(crate) fn rewind(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    began: Epoch,
    holder: Option<&Holder>,
) -> Result<(), rusqlite::Error> {
    let Some(mut session) = of_text(db, tenant, id)? else { return Ok(()) };
    session.rewind(holder.cloned());
    let values = params![tenant, id.as_str(), int(began.0)];
    execute(db, "update turns set undone = 1 where tenant = ? and session = ? and began > ?", values)?;
    execute(db, "delete from session_keeps where tenant = ? and session = ? and began > ?", values)?;
    keep(db, &session)
}

/// The statement that keeps it for the turn that began when a query says.
macro_rules! keeps {
    ($began:literal) => {
        concat!(
            "insert or ignore into session_keeps (tenant, session, began, key, value, expires_at, revision) \
             select ?1, ?2, turn.began, ?3, memory.value, memory.expires_at, memory.revision from (select ",
            $began,
            ") as turn \
             left join memory on memory.tenant = ?1 and memory.scope = 1 and memory.owner = ?2 and memory.key = ?3 where turn.began > 0"
        )
    };
}

/// Keeps what a key of a session's memory holds before a turn changes it for the first time. What nobody opened has no turns.
pub(crate) fn keep_before(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    key: &str,
    by: By,
) -> Result<(), rusqlite::Error> {
    let turn = match by {
        By::Turn(turn) => Some(turn),
        By::Anybody => None,
        By::Rewinding => return Ok(()),
    };
    let sql = match turn {
        Some(_) => keeps!("began from turns where tenant = ?1 and session = ?2 and number = ?4"),
        None => keeps!(
            "began from turns indexed by turns_begun where tenant = ?1 and session = ?2 and began is not null and undone = 0 \
             and ?4 is null order by began desc limit 1"
        ),
    };
    execute(db, sql, params![tenant, id.as_str(), key, turn])
}

/// For which turn, by when it began, it is kept what a key holds before it changes; none: for none.
pub(crate) fn kept_for(db: &Connection, tenant: &str, id: &SessionId, by: By) -> Result<Option<i64>, rusqlite::Error> {
    let (sql, turn) = match by {
        By::Rewinding => return Ok(None),
        By::Turn(turn) => ("select began from turns where tenant = ?1 and session = ?2 and number = ?3", Some(turn)),
        By::Anybody => {
            let sql = "select began from turns indexed by turns_begun where tenant = ?1 and session = ?2 and began is not null and undone = 0 \
                       and ?3 is null order by began desc limit 1";
            (sql, None)
        }
    };
    let began = db.prepare_cached(sql)?.query_row(params![tenant, id.as_str(), turn], |row| row.get(0)).optional()?;
    Ok(began.flatten().filter(|began| *began > 0))
}

/// A turn has lost its session.
pub(crate) fn lose(
    db: &Connection,
    tenant: &str,
    id: &SessionId,
    (turn, run): (u32, RunId),
    at: Timestamp,
) -> Result<(), rusqlite::Error> {
    let Some(mut session) = of_text(db, tenant, id)? else { return Ok(()) };
    end(db, &mut session, turn, run, at)
}

/// A session, within the transaction that is open; what does not read back is not there.
pub(crate) fn of(db: &Connection, tenant: &TenantId, id: &SessionId) -> Result<Option<Session>, rusqlite::Error> {
    of_text(db, tenant.as_str(), id)
}

fn of_text(db: &Connection, tenant: &str, id: &SessionId) -> Result<Option<Session>, rusqlite::Error> {
    let sql = format!("select {COLUMNS} from sessions where tenant = ? and id = ?");
    let found =
        db.prepare_cached(&sql)?.query_row(params![tenant, id.as_str()], |row| Ok(read(row).ok())).optional()?;
    Ok(found.flatten())
}

/// The turn that begins next of those that wait, from this one on.
fn next(
    db: &Connection,
    tenant: &TenantId,
    id: &SessionId,
    from: u32,
) -> Result<Option<(u32, RunId)>, rusqlite::Error> {
    let sql = "select number, run from turns as waiting indexed by turns_queued where tenant = ?1 and session = ?2 and stage = 0 and number >= ?3 \
               order by coalesce((select max(number) from turns as served indexed by turns_served where served.tenant = ?1 \
               and served.session = ?2 and served.by_key = waiting.by_key and served.stage > 0), 0), number limit 1";
    let read = |row: &Row<'_>| Ok((row.get(0)?, run_id(row.get(1)?)));
    db.prepare_cached(sql)?.query_row(params![tenant.as_str(), id.as_str(), from], read).optional()
}

/// How many turns of a key wait.
fn waiting(db: &Connection, tenant: &TenantId, id: &SessionId, by: &KeyId) -> Result<u32, rusqlite::Error> {
    let sql = "select count(*) from turns indexed by turns_queued where tenant = ? and session = ? and stage = 0 and by_key = ?";
    let values = params![tenant.as_str(), id.as_str(), by.as_str()];
    db.prepare_cached(sql)?.query_row(values, |row| row.get(0))
}

fn stage(db: &Connection, tenant: &TenantId, id: &SessionId, turn: u32) -> Result<Option<Stage>, rusqlite::Error> {
    let sql = "select stage from turns where tenant = ? and session = ? and number = ?";
    let found = db.prepare_cached(sql)?.query_row(params![tenant.as_str(), id.as_str(), turn], |row| row.get(0));
    Ok(found.optional()?.and_then(stage_of))
}

fn go(db: &Connection, (tenant, id): (&TenantId, &SessionId), turn: u32, to: Stage) -> Result<(), rusqlite::Error> {
    let sql = "update turns set stage = ? where tenant = ? and session = ? and number = ?";
    execute(db, sql, params![stage_number(to), tenant.as_str(), id.as_str(), turn])
}

/// Writes what turns make of a session.
fn keep(db: &Connection, session: &Session) -> Result<(), rusqlite::Error> {
    let sql = "update sessions set standing = ?, epoch = ?, turns = ?, active = ?, active_number = ?, active_since = ?, \
               queued = ?, interrupted = ?, last_at = ?, due_at = ?, holder = ?, closed_at = ?, summary = ?, memory = ? \
               where tenant = ? and id = ?";
    let active = session.active.as_ref();
    let values = params![
        standing_number(session.standing),
        int(session.epoch.0),
        session.turns,
        active.map(|active| blob(active.run)),
        active.map(|active| active.number),
        active.map(|active| time(active.since)),
        session.queued,
        session.interrupted,
        time(session.last_at),
        session.due_at.map(time),
        session.holder.as_ref().map(json),
        session.closed_at.map(time),
        session.summary,
        session.memory.map(remains_number),
        session.tenant.as_str(),
        session.id.as_str(),
    ];
    execute(db, sql, values)
}

fn row(db: &Connection, tenant: &TenantId, id: &SessionId) -> Result<Option<Session>, Error> {
    let sql = format!("select {COLUMNS} from sessions where tenant = ? and id = ?");
    one(db, &sql, params![tenant.as_str(), id.as_str()], read)
}

fn read(row: &Row<'_>) -> Result<Session, Error> {
    let active = match (row.get::<_, Option<[u8; 16]>>(8)?, row.get(9)?, row.get::<_, Option<i64>>(10)?) {
        (Some(run), Some(number), Some(since)) => Some(Active { number, run: run_id(run), since: stamp(since) }),
        _ => None,
    };
    let standing = Standing::ALL.into_iter().find(|one| Ok(standing_number(*one)) == row.get(5));
    Ok(Session {
        tenant: tenant_of(row.get(0)?)?,
        id: parsed(row.get(1)?)?,
        by: parsed(row.get(2)?)?,
        opened_at: stamp(row.get(3)?),
        settings: from_json(row.get(4)?)?,
        standing: standing.ok_or_else(|| wrong("where a session stands"))?,
        epoch: Epoch(number(row.get(6)?)),
        turns: row.get(7)?,
        active,
        queued: row.get(11)?,
        interrupted: row.get(12)?,
        last_at: stamp(row.get(13)?),
        due_at: row.get::<_, Option<i64>>(14)?.map(stamp),
        holder: row.get::<_, Option<String>>(15)?.map(from_json).transpose()?,
        copied: row.get(16)?,
        closed_at: row.get::<_, Option<i64>>(17)?.map(stamp),
        summary: row.get(18)?,
        memory: row.get::<_, Option<i64>>(19)?.map(remains).transpose()?,
    })
}

/// Keys with what they held, up to so many and so many bytes: what is beyond is not read.
fn kept(
    db: &Connection,
    sql: &str,
    (tenant, id, began): (&TenantId, &SessionId, Epoch),
    (limit, most): (u32, usize),
) -> Result<Vec<(String, Option<MemoryValue>)>, Error> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant.as_str(), id.as_str(), int(began.0), limit])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()?
        && bytes <= most
    {
        let (key, value) = (row.get::<_, String>(0)?, row.get::<_, Option<Vec<u8>>>(1)?);
        let expires_at = row.get::<_, Option<i64>>(2)?.map(stamp);
        bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        found.push((key, value.map(|bytes| MemoryValue { bytes: bytes.into(), expires_at })));
    }
    Ok(found)
}

fn read_turn(row: &Row<'_>) -> Result<Turn, Error> {
    let stage = stage_of(row.get(3)?).ok_or_else(|| wrong("a turn's stage"))?;
    Ok(Turn {
        number: row.get(0)?,
        run: run_id(row.get(1)?),
        by: parsed(row.get(2)?)?,
        stage,
        began: row.get::<_, Option<i64>>(4)?.map(|began| Epoch(number(began))),
        undone: row.get(5)?,
        holder: row.get::<_, Option<String>>(6)?.map(from_json).transpose()?,
    })
}

fn standing_number(standing: Standing) -> i64 {
    match standing {
        Standing::Open => 0,
        Standing::Closing => 1,
        Standing::Closed => 2,
        Standing::Expired => 3,
    }
}

fn remains_number(memory: Remains) -> i64 {
    match memory {
        Remains::TooLarge => 0,
        Remains::Archived => 1,
        Remains::Forgotten => 2,
    }
}

fn remains(number: i64) -> Result<Remains, Error> {
    let found = Remains::ALL.into_iter().find(|one| remains_number(*one) == number);
    found.ok_or_else(|| wrong("what became of a session's memory"))
}

fn stage_number(stage: Stage) -> i64 {
    match stage {
        Stage::Queued => 0,
        Stage::Active => 1,
        Stage::Over => 2,
    }
}

fn stage_of(number: i64) -> Option<Stage> {
    Stage::ALL.into_iter().find(|stage| stage_number(*stage) == number)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::open;

    /// Whose sessions are due, and the next of them, is found without looking at each. Counted in steps of SQLite's machine.
    #[test]
    fn a_tenants_sessions_cost_others_nothing() {
        let db = open::in_memory().unwrap();
        let sql = "insert into sessions (tenant, id, by_key, opened_at, settings, standing, epoch, turns, queued, interrupted, last_at, due_at, copied) \
                   values (?, ?, '', 0, '', 0, 0, 0, 0, 0, 0, ?, 0)";
        let insert = |of: &str, number: i64| {
            db.prepare_cached(sql).unwrap().execute(params![of, format!("s{number}"), number]).unwrap();
        };
        (1..10_000).for_each(|number| insert("acme", number));
        insert("beta", 20_000);
        let steps = Arc::new(AtomicU64::new(0));
        let count = steps.clone();
        db.progress_handler(1, Some(move || count.fetch_add(1, Ordering::Relaxed) > 1_000_000)).unwrap();
        let [acme, beta] = ["acme", "beta"].map(|name| name.parse().unwrap());
        assert_eq!(coming(&db, stamp(20_000), "", 10).unwrap(), [(acme, stamp(1)), (beta, stamp(20_000))]);
        let steps = steps.load(Ordering::Relaxed);
        assert!((1..1_000).contains(&steps), "{steps} steps");
    }

    /// Of tenants with sessions about which nothing is to be done yet none is read, however many there are. Counted in steps of SQLite's machine.
    #[test]
    fn tenants_about_which_nothing_is_due_are_not_read() {
        let db = open::in_memory().unwrap();
        let sql = "insert into sessions (tenant, id, by_key, opened_at, settings, standing, epoch, turns, queued, interrupted, last_at, due_at, copied) \
                   values (?, 's', '', 0, '', 0, 0, 0, 0, 0, 0, ?, 0)";
        for number in 1..10_000 {
            db.prepare_cached(sql).unwrap().execute(params![format!("t{number}"), 1_000 + number]).unwrap();
        }
        let steps = Arc::new(AtomicU64::new(0));
        let count = steps.clone();
        db.progress_handler(1, Some(move || count.fetch_add(1, Ordering::Relaxed) > 1_000_000)).unwrap();
        let of = |name: &str| name.parse::<TenantId>().unwrap();
        let due = [(of("t1"), stamp(1_001)), (of("t2"), stamp(1_002))];
        assert_eq!(coming(&db, stamp(1_002), "", 10).unwrap(), due);
        assert_eq!(coming(&db, stamp(1_002), "t1", 10).unwrap(), due[1..]);
        assert_eq!(coming(&db, stamp(1_000), "", 10).unwrap(), []);
        let steps = steps.load(Ordering::Relaxed);
        assert!((1..1_000).contains(&steps), "{steps} steps");
    }
}
