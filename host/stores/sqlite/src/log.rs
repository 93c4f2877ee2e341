//! The log of changes, read and trimmed; and what a database that follows it should hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged, MemoryChange, MemoryValue, RunMark, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Message, Taker};
use ltmc_model::run::Run;
use ltmc_model::tenancy::Ceiling;
use ltmc_model::{Position, Revision, RunId, Seq, StepPath, TenantId, Timestamp};
use ltmc_ports::log::{Ends, Group, Interest, Item, Rows};
use ltmc_ports::marks::Marks;
use ltmc_ports::{ReadContext, ReadLog, StoreError};
use rusqlite::{Connection, Params, Row, params};
use tokio::sync::{broadcast, watch};

use crate::bind::{
    all, blob, execute, found, from_json, int, number, one, parsed, run_id, stamp, tenant as tenant_of, time,
};
use crate::deltas::{about, taker_of, topic};
use crate::error::{Error, wrong};
use crate::writer::Needs;
use crate::{Record, journal, quota};

/// Bytes of a page of the log.
const PAGE_BYTES: usize = 8 << 20;
/// Changes of a page of a feed.
const CHANGES: u32 = 256;
/// Entries of a run's journal read at once.
const ENTRIES: usize = 1_000;

#[async_trait]
impl ReadLog for Record {
    async fn log(
        &self,
        tenant: Option<&TenantId>,
        topics: &[Topic],
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Vec<Logged>, StoreError> {
        let topics: Vec<String> = topics.iter().map(|one| topic(*one).to_string()).collect();
        let sql = format!(
            "select position, tenant, delta from log where position > ?1 and position <= ?2 and topic in ({}) \
             and (?3 is null or tenant = ?3) order by position limit ?4",
            topics.join(", ")
        );
        let whose = tenant.cloned().unwrap_or_else(TenantId::host);
        let tenant = tenant.cloned();
        let read = move |db: &Connection| {
            let values = params![int(after.0), int(to.0), tenant.as_ref().map(TenantId::as_str), limit];
            let (found, _) = deltas(db, &sql, values, PAGE_BYTES, |row| {
                let position = Position(number(row.get(0)?));
                Ok(Logged { position, tenant: tenant_of(row.get(1)?)?, delta: delta(row, 2)? })
            })?;
            Ok(found)
        };
        self.readers.search("log.read", &whose, read).await
    }

    async fn rows(
        &self,
        tenant: &TenantId,
        interest: &Interest,
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Rows, StoreError> {
        const OP: &str = "log.rows";
        let (sql, value) = match interest {
            Interest::Memory(drawer, prefix) => (
                "select position, tenant, delta from log indexed by log_topic where topic = 0 and tenant = ?1 and \
                 position > ?2 and position <= ?3 and substr(about, 1, length(?5)) = ?5 order by position limit ?4",
                about(drawer, prefix),
            ),
            Interest::Topic(topic) => (
                "select position, log.tenant, delta from events join log using (position) where events.tenant = ?1 and \
                 events.position > ?2 and events.position <= ?3 and events.topic = ?5 order by position limit ?4",
                topic.to_string(),
            ),
            // Of the few rows since somebody looked into a mailbox.
            Interest::Mailbox(_) => (
                "select position, tenant, delta from log indexed by log_topic where topic = 3 and tenant = ?1 and \
                 position > ?2 and position <= ?3 and ?5 = ?5 order by position limit ?4",
                String::new(),
            ),
            Interest::Run(run) => {
                let run = self.readers.point(OP, |db| journal::row(db, tenant, *run))?;
                return Ok(Rows::of_run(run.as_ref(), after));
            }
        };
        let whose = tenant;
        let (tenant, interest, most) = (tenant.clone(), interest.clone(), limit.min(CHANGES));
        let read = move |db: &Connection| {
            let values = params![tenant.as_str(), int(after.0), int(to.0), most, value];
            let (mut rows, is_cut) = deltas(db, sql, values, PAGE_BYTES / 2, |row| {
                let position = Position(number(row.get(0)?));
                Ok(Logged { position, tenant: tenant.clone(), delta: delta(row, 2)? })
            })?;
            let is_whole = !is_cut && rows.len() < most as usize;
            let next = if is_whole { to.max(after) } else { rows.last().map_or(to, |last| last.position) };
            rows.retain(|row| interest.concerns(&row.delta));
            Ok(Rows { rows, next })
        };
        self.readers.search(OP, whose, read).await
    }

    fn record_id(&self) -> &str {
        &self.id
    }

    async fn trimmed(&self, tenant: &TenantId) -> Result<Position, StoreError> {
        Ok(self.trimmed.of(tenant))
    }

    async fn trim(&self, to: Position, limit: u32) -> Result<u64, StoreError> {
        const OP: &str = "log.trim";
        let sql = "select count(*), max(position) from (select position from log where position <= ? order by position limit ?)";
        let read = move |db: &Connection| {
            let counted = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            one(db, sql, params![int(to.0), limit], counted)
        };
        let (count, last): (i64, Option<i64>) =
            self.readers.scan(OP, &TenantId::host(), read).await?.unwrap_or_default();
        let Some(last) = last else { return Ok(0) };
        // Readers are told before it is gone: whoever asks from before it then knows that it lost something.
        self.trimmed.saw(None, Position(number(last)));
        let forget = move |db: &Connection| {
            execute(db, "update meta set value = max(value, ?) where key = 'trimmed'", [last])?;
            execute(db, "delete from log where position <= ?", [last])?;
            execute(db, "delete from events where position <= ?", [last])?;
            execute(db, "delete from starts where position <= ?", [last])
        };
        self.writing.side(OP, &TenantId::host(), Needs::Nothing, forget).await?;
        Ok(number(count))
    }

    fn ends(&self) -> watch::Receiver<Ends> {
        self.tail.ends.subscribe()
    }

    fn follow(&self) -> broadcast::Receiver<Arc<Group>> {
        self.tail.news.subscribe()
    }

    fn newest(&self, topics: &[Topic]) -> Position {
        self.tail.newest.of(topics)
    }

    async fn tenants_with_context(&self) -> Result<Vec<TenantId>, StoreError> {
        let sql = "select name from tenants order by name";
        self.readers.scan("log.tenants", &TenantId::host(), move |db| all(db, sql, [], |row| parsed(row.get(0)?))).await
    }
}

/// The first rows, at least one, whose deltas in the third column have at most so many bytes in all; whether others were left.
fn deltas<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    most: usize,
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<(Vec<T>, bool), Error> {
    let mut statement = db.prepare_cached(sql)?;
    let (mut rows, mut found, mut bytes) = (statement.query(values)?, Vec::new(), 0);
    while let Some(row) = rows.next()? {
        bytes += row.get_ref(2)?.as_blob().map_or(0, <[u8]>::len);
        if bytes > most && !found.is_empty() {
            return Ok((found, true));
        }
        found.push(read(row)?);
    }
    Ok((found, false))
}

fn delta(row: &Row<'_>, column: usize) -> Result<Delta, Error> {
    let kept = row.get_ref(column)?.as_blob().map_err(|_| wrong("a delta"))?;
    Delta::from_bytes(kept).map_err(|e| Error::Corrupt(e.to_string()))
}

impl Record {
    /// The last place of the log that is older than `before`: what may be thrown away of it.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite cannot read.
    pub(crate) async fn log_before(&self, before: Timestamp) -> Result<Position, StoreError> {
        let end = self.tail.ends.borrow().durable.0;
        // Rows are written in the order of time, near enough: the first that is young ends the old ones.
        let sql = "select coalesce((select min(position) from log where at >= ?) - 1, ?)";
        let read = move |db: &Connection| Ok(found(db, sql, params![time(before), int(end)])?);
        let old = self.readers.scan("log.old", &TenantId::host(), read).await?.unwrap_or(0);
        Ok(Position(number(old).min(end)))
    }

    /// Throws away the oldest rows of tenants that have more than their share: of each at most `limit`, and none after `to`.
    ///
    /// # Errors
    /// [`StoreError`] where SQLite cannot write, or the record is closed.
    pub(crate) async fn trim_shares(&self, most: u64, to: Position, limit: u32) -> Result<u64, StoreError> {
        const OP: &str = "log.trim-shares";
        let (host, quota) = (TenantId::host(), self.quota);
        let too_much = self.readers.scan(OP, &host, move |db| too_much(db, most, quota)).await?;
        let mut gone = 0;
        for excess in too_much {
            let read = move |db: &Connection| excess.cut(db, to, limit).map(|cut| (excess.tenant, cut));
            let (tenant, Some((rows, last))) = self.readers.scan(OP, &host, read).await? else { continue };
            // As above: told before it is gone.
            self.trimmed.saw(Some(&tenant), Position(number(last)));
            let forget = move |db: &Connection| {
                let of = params![tenant.as_str(), last];
                execute(db, "update chains set trimmed = max(trimmed, ?2) where tenant = ?1", of)?;
                let events = "delete from events indexed by events_position where tenant = ?1 and position in \
                              (select position from log indexed by log_topic where tenant = ?1 and topic = 3 and position <= ?2)";
                execute(db, events, of)?;
                execute(db, "delete from starts where tenant = ?1 and position <= ?2", of)?;
                each_topic(|topic| {
                    let sql =
                        "delete from log indexed by log_topic where tenant = ?1 and topic = ?3 and position <= ?2";
                    execute(db, sql, params![tenant.as_str(), last, topic])
                })
            };
            self.writing.side(OP, &host, Needs::Nothing, forget).await?;
            gone += rows;
        }
        Ok(gone)
    }
}

/// Of each topic, as the log names it: rows of a tenant's are found by it.
fn each_topic<E>(each: impl FnMut(i64) -> Result<(), E>) -> Result<(), E> {
    Topic::ALL.into_iter().map(topic).try_for_each(each)
}

/// What a tenant has of the log beyond its share.
struct Excess {
    tenant: TenantId,
    rows: u64,
    bytes: u64,
}

/// Tenants with more than `most` rows of the log, or with rows that take more than a quarter of what they may have on disk.
fn too_much(db: &Connection, most: u64, quota: u64) -> Result<Vec<Excess>, Error> {
    let sql = "select chains.tenant, log_rows, log_bytes, ceiling from chains left join ceilings using (tenant) where log_rows > 0";
    let found = all(db, sql, [], |row| {
        let ceiling = row.get::<_, Option<String>>(3)?.map(from_json::<Ceiling>).transpose()?.unwrap_or_default();
        let bytes = quota::allowed(&ceiling, quota) / 4;
        let (has_rows, has_bytes) = (number(row.get(1)?), number(row.get(2)?));
        let (rows, bytes) = (has_rows.saturating_sub(most), has_bytes.saturating_sub(bytes));
        Ok(Excess { tenant: tenant_of(row.get(0)?)?, rows, bytes })
    })?;
    Ok(found.into_iter().filter(|excess| excess.rows > 0 || excess.bytes > 0).collect())
}

impl Excess {
    /// How many of the tenant's oldest rows are to go, and the place of the last of them. The newest stays.
    fn cut(&self, db: &Connection, to: Position, limit: u32) -> Result<Option<(u64, i64)>, Error> {
        let sql = "select position, length(delta) + octet_length(about) + 64 from log indexed by log_topic \
                   where tenant = ?1 and topic = ?4 and position <= ?2 order by position limit ?3";
        let mut oldest = Vec::new();
        each_topic(|topic| {
            let values = params![self.tenant.as_str(), int(to.0), limit, topic];
            oldest.extend(all(db, sql, values, |row| Ok((row.get::<_, i64>(0)?, number(row.get(1)?))))?);
            Ok::<_, Error>(())
        })?;
        oldest.sort_unstable();
        oldest.truncate(limit as usize);
        let (mut rows, mut bytes, mut last) = (0, 0, None);
        for (position, size) in oldest {
            if rows >= self.rows && bytes >= self.bytes {
                break;
            }
            (rows, bytes, last) = (rows + 1, bytes + size, Some((rows + 1, position)));
        }
        Ok(last)
    }
}

/// Up to where the log was thrown away: of all tenants by its age, of some because they had too much of it.
#[derive(Debug, Default)]
pub(crate) struct Trimmed {
    all: AtomicU64,
    of: RwLock<HashMap<TenantId, u64>>,
}

impl Trimmed {
    /// As the record has it.
    pub(crate) fn load(db: &Connection) -> Result<Self, Error> {
        let sql = "select tenant, trimmed from chains where trimmed > 0";
        let of = all(db, sql, [], |row| Ok((tenant_of(row.get(0)?)?, number(row.get(1)?))))?;
        let all = found(db, "select value from meta where key = 'trimmed'", [])?.map_or(0, number);
        Ok(Self { all: AtomicU64::new(all), of: RwLock::new(of.into_iter().collect()) })
    }

    fn of(&self, tenant: &TenantId) -> Position {
        let own = self.of.read().unwrap_or_else(PoisonError::into_inner).get(tenant).copied();
        Position(self.all.load(Ordering::Acquire).max(own.unwrap_or(0)))
    }

    /// The last place that was thrown away of any tenant's.
    pub(crate) fn last(&self) -> Position {
        let own = self.of.read().unwrap_or_else(PoisonError::into_inner).values().copied().max();
        Position(self.all.load(Ordering::Acquire).max(own.unwrap_or(0)))
    }

    /// Of a tenant's, or of everybody's.
    fn saw(&self, tenant: Option<&TenantId>, to: Position) {
        match tenant {
            None => drop(self.all.fetch_max(to.0, Ordering::AcqRel)),
            Some(tenant) => {
                let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
                let own = of.entry(tenant.clone()).or_default();
                *own = (*own).max(to.0);
            }
        }
    }
}

#[async_trait]
impl ReadContext for Record {
    async fn context(
        &self,
        tenant: &TenantId,
        topic: Topic,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Item>, StoreError> {
        let (tenant, after) = (tenant.clone(), after.map(str::to_owned));
        let read = move |db: &Connection| {
            let after = after.as_deref();
            match topic {
                Topic::Memory => session_memory(db, &tenant, after, limit),
                Topic::Graph => all_facts(db, &tenant, after, limit),
                Topic::Recall => all_notes(db, &tenant, after, limit),
                Topic::Messages => all_messages(db, &tenant, after, limit),
                Topic::Runs => all_runs(db, &tenant, after, limit),
            }
        };
        self.readers.scan("context.items", &TenantId::host(), read).await
    }
}

fn session_memory(db: &Connection, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, Error> {
    // A key is OWNER/KEY; a session's id has no `/`, and `/` is less than whatever may stand in one but `-` and `.`.
    let sql = "select owner || '/' || key as place, owner, key, revision, expires_at, value from memory \
               where tenant = ? and scope = 1 and owner || '/' || key > ? order by place limit ?";
    all(db, sql, params![tenant.as_str(), after.unwrap_or_default(), limit], |row| {
        let revision = number(row.get(3)?);
        let value = MemoryValue {
            bytes: row.get::<_, Vec<u8>>(5)?.into(),
            expires_at: row.get::<_, Option<i64>>(4)?.map(stamp),
        };
        let change = MemoryChange {
            drawer: Drawer::Session(parsed(row.get(1)?)?),
            key: row.get(2)?,
            revision: Revision(revision),
            value: Some(value),
            trail: None,
        };
        let deltas = vec![Delta::Memory(change)];
        Ok(Item { key: row.get(0)?, version: revision, position: Position(0), deltas })
    })
}

fn all_facts(db: &Connection, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, Error> {
    let columns = crate::graph::COLUMNS;
    let sql = format!("select {columns} from facts where tenant = ? and id > cast(? as integer) order by id limit ?");
    all(db, &sql, params![tenant.as_str(), after.unwrap_or("-1"), limit], |row| {
        let fact = crate::graph::fact(row)?;
        let version = if fact.valid_to.is_some() { 2 } else { 1 };
        let key = digits(fact.id.0);
        Ok(Item { key, version, position: Position(0), deltas: vec![Delta::FactBegan(fact)] })
    })
}

fn all_notes(db: &Connection, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, Error> {
    all(db, crate::notes::PAGE, params![tenant.as_str(), after.unwrap_or_default(), limit], |row| {
        let note = crate::notes::note(row)?;
        let (key, version) = (note.id.clone(), note.revision.0);
        Ok(Item { key, version, position: Position(0), deltas: vec![Delta::NoteKept(note)] })
    })
}

fn all_messages(db: &Connection, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, Error> {
    let sql = "select * from (select 'mailbox/' || agent || '/' || printf('%020d', id) as place, 0 as kind, agent as name, \
               position, id, event, taker, dead_at, dead_reason, deliveries from mail where tenant = ?1 \
               union all select 'topic/' || topic || '/' || printf('%020d', position), 1, topic, position, id, event, null, null, \
               null, 0 from events where tenant = ?1) where place > ?2 order by place limit ?3";
    all(db, sql, params![tenant.as_str(), after.unwrap_or_default(), limit], |row| {
        let name: String = row.get(2)?;
        let (agent, channel) = match row.get::<_, i64>(1)? {
            0 => {
                let agent: ltmc_model::AgentName = parsed(name)?;
                (Some(agent.clone()), Channel::Mailbox(agent))
            }
            _ => (None, Channel::Topic(parsed(name)?)),
        };
        let id = Revision(number(row.get(4)?));
        let event = crate::mail::event(row, 5)?;
        let position = Position(number(row.get(3)?));
        let mut deltas = vec![Delta::Sent(Message { id, channel, event })];
        let mut version = 1;
        if let Some(agent) = agent {
            let taker = row.get::<_, Option<String>>(6)?.as_deref().and_then(taker_of);
            let dead = row.get::<_, Option<i64>>(7)?.map(stamp);
            // As often as it was handed out, so that whoever counts comes to the same number.
            let nobody = || Taker { run: RunId::ledger(), step: StepPath::root(), attempt: 0, part: 0 };
            let by = taker.clone().unwrap_or_else(nobody);
            for _ in 0..number(row.get(9)?) {
                let (messages, places) = (vec![id], vec![position]);
                deltas.push(Delta::Taken { agent: agent.clone(), messages, places, by: by.clone() });
            }
            if taker.is_none() && dead.is_none() && deltas.len() > 1 {
                deltas.push(Delta::Released { by, at: Timestamp::default() });
            }
            if taker.is_some() {
                version = 2;
            } else if let Some(at) = dead {
                version = 3;
                let reason = row.get::<_, Option<String>>(8)?.unwrap_or_default();
                deltas.push(Delta::Buried { agent, message: id, reason, at });
            }
        }
        Ok(Item { key: row.get(0)?, version, position, deltas })
    })
}

fn all_runs(db: &Connection, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, Error> {
    let after = after.and_then(|after| after.parse::<RunId>().ok()).map(blob);
    let sql = "select id from runs where tenant = ?1 and (?2 is null or id > ?2) order by id limit ?3";
    let runs = all(db, sql, params![tenant.as_str(), after, limit], |row| Ok(run_id(row.get(0)?)))?;
    let mut items = Vec::with_capacity(runs.len());
    for id in runs {
        let Some(run) = journal::row(db, tenant, id)? else { continue };
        let deltas = vec![Delta::Run(Box::new(mark(db, tenant, &run)?))];
        items.push(Item { key: id.to_string(), version: run.seq.0, position: Position(0), deltas });
    }
    Ok(items)
}

/// All that a run's journal says of its steps.
fn mark(db: &Connection, tenant: &TenantId, run: &Run) -> Result<RunMark, Error> {
    let (mut marks, mut page, mut after) = (Marks::default(), Vec::new(), Seq(0));
    let most = journal::Most { entries: ENTRIES, bytes: PAGE_BYTES };
    loop {
        journal::stretch(db, tenant, run.id, after, most, &mut page)?;
        let Some(last) = page.last() else { return Ok(marks.mark(run)) };
        after = last.seq;
        page.drain(..).for_each(|placed| marks.take(placed.seq, &placed.entry));
    }
}

/// A number that sorts as a text.
fn digits(number: u64) -> String {
    format!("{number:020}")
}
