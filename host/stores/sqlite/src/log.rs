//! The log of changes, read and trimmed; and what a database that follows it should hold.

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged, MemoryChange, MemoryValue, RunMark, StepMark, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Event, Message, Taker};
use ltmc_model::recall::Note;
use ltmc_model::run::Run;
use ltmc_model::{Position, Revision, RunId, Seq, StepPath, TenantId, Timestamp};
use ltmc_ports::log::{Ends, Group, Interest, Item, Rows};
use ltmc_ports::{ReadContext, ReadJournal as _, ReadLog, StoreError};
use rusqlite::Connection;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::{broadcast, watch};

use crate::bind::{blob, execute, int, time};
use crate::deltas::{about, taker_of, topic};
use crate::error::{corrupt, store};
use crate::journal::{number, parsed, stamp, tenant as tenant_of, uuid};
use crate::{Record, marks};

/// Bytes of a page of the log.
const PAGE_BYTES: usize = 8 << 20;
/// Rows read at once: deltas may be large.
const ROWS: u32 = 256;
/// Entries of a run's journal read at once.
const ENTRIES: u32 = 1_000;

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
        const OP: &str = "log.read";
        let topics: Vec<String> = topics.iter().map(|one| topic(*one).to_string()).collect();
        let of_tenant = if tenant.is_some() { "and tenant = ?" } else { "" };
        let sql = format!(
            "select position, tenant, delta from log where position > ? and position <= ? and topic in ({}) {of_tenant} \
             order by position limit ?",
            topics.join(", ")
        );
        let (mut found, mut bytes, mut from) = (Vec::new(), 0, after);
        while found.len() < limit as usize {
            let rows = u32::try_from(limit as usize - found.len()).unwrap_or(ROWS).min(ROWS);
            let mut query = sqlx::query(AssertSqlSafe(sql.clone())).bind(int(from.0)).bind(int(to.0));
            if let Some(tenant) = tenant {
                query = query.bind(tenant.as_str());
            }
            let page = query.bind(i64::from(rows)).fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
            let count = page.len();
            for row in page {
                let kept: Vec<u8> = row.try_get(2).map_err(|e| store(OP, e))?;
                bytes += kept.len();
                if bytes > PAGE_BYTES && !found.is_empty() {
                    return Ok(found);
                }
                let delta = Delta::from_bytes(&kept).map_err(|e| corrupt(OP, e))?;
                let position = Position(number(row.try_get(0).map_err(|e| store(OP, e))?));
                let tenant = tenant_of(row.try_get(1).map_err(|e| store(OP, e))?).map_err(|e| store(OP, e))?;
                from = position;
                found.push(Logged { position, tenant, delta });
            }
            if count < rows as usize {
                break;
            }
        }
        Ok(found)
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
                "select position, delta from log indexed by log_memory where topic = 0 and tenant = ?1 and position > ?2 \
                 and position <= ?3 and substr(about, 1, length(?5)) = ?5 order by position limit ?4",
                about(drawer, prefix),
            ),
            Interest::Topic(topic) => (
                "select position, delta from events join log using (position) where events.tenant = ?1 and \
                 events.position > ?2 and events.position <= ?3 and events.topic = ?5 order by position limit ?4",
                topic.to_string(),
            ),
            // Of the few rows since somebody looked into a mailbox.
            Interest::Mailbox(_) => (
                "select position, delta from log where position > ?2 and position <= ?3 and tenant = ?1 and topic = 3 \
                 order by position limit ?4",
                String::new(),
            ),
            Interest::Run(run) => {
                let run = self.run(tenant, *run).await?;
                return Ok(Rows::of_run(run.as_ref(), after));
            }
        };
        let most = limit.min(ROWS);
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(int(after.0)).bind(int(to.0)).bind(i64::from(most));
        let page = query.bind(value).fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let is_last = page.len() < most as usize;
        let (mut rows, mut next, mut bytes) = (Vec::new(), after, 0);
        for row in page {
            let kept: Vec<u8> = row.try_get(1).map_err(|e| store(OP, e))?;
            bytes += kept.len();
            if bytes > PAGE_BYTES / 2 && next > after {
                return Ok(Rows { rows, next });
            }
            let delta = Delta::from_bytes(&kept).map_err(|e| corrupt(OP, e))?;
            next = Position(number(row.try_get(0).map_err(|e| store(OP, e))?));
            if interest.concerns(&delta) {
                rows.push(Logged { position: next, tenant: tenant.clone(), delta });
            }
        }
        Ok(Rows { rows, next: if is_last { to.max(after) } else { next } })
    }

    async fn trimmed(&self) -> Result<Position, StoreError> {
        Ok(Position(self.trimmed.load(std::sync::atomic::Ordering::Acquire)))
    }

    async fn trim(&self, to: Position, limit: u32) -> Result<u64, StoreError> {
        const OP: &str = "log.trim";
        let sql = "select count(*), max(position) from (select position from log where position <= ? order by position limit ?)";
        let row = sqlx::query(sql).bind(int(to.0)).bind(i64::from(limit)).fetch_one(&self.readers);
        let row = row.await.map_err(|e| store(OP, e))?;
        let count: i64 = row.try_get(0).map_err(|e| store(OP, e))?;
        let Some(last) = row.try_get::<Option<i64>, _>(1).map_err(|e| store(OP, e))? else { return Ok(0) };
        // Readers are told before it is gone: whoever asks from before it then knows that it lost something.
        self.trimmed.fetch_max(number(last), std::sync::atomic::Ordering::AcqRel);
        let forget = move |db: &Connection| {
            execute(db, "update meta set value = max(value, ?) where key = 'trimmed'", [last])?;
            execute(db, "delete from log where position <= ?", [last])?;
            execute(db, "delete from events where position <= ?", [last])
        };
        self.writing.side(OP, forget).await?;
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
        const OP: &str = "log.tenants";
        let rows = sqlx::query("select name from tenants order by name").fetch_all(&self.readers).await;
        let rows = rows.map_err(|e| store(OP, e))?;
        let names = rows.iter().map(|row| parsed(row.try_get(0)?));
        names.collect::<Result<_, sqlx::Error>>().map_err(|e| store(OP, e))
    }
}

impl Record {
    /// The last place of the log that is older than `before`, or that is more than `most` places from its end: what may be
    /// thrown away of it.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) async fn log_before(&self, before: Timestamp, most: u64) -> Result<Position, StoreError> {
        const OP: &str = "log.old";
        let end = self.tail.ends.borrow().durable.0;
        // Rows are written in the order of time, near enough: the first that is young ends the old ones.
        let sql = "select coalesce((select min(position) from log where at >= ?) - 1, ?)";
        let old: i64 = sqlx::query_scalar(sql)
            .bind(time(before))
            .bind(int(end))
            .fetch_one(&self.readers)
            .await
            .map_err(|e| store(OP, e))?;
        Ok(Position(number(old).max(end.saturating_sub(most)).min(end)))
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
        match topic {
            Topic::Memory => self.session_memory(tenant, after, limit).await,
            Topic::Graph => self.all_facts(tenant, after, limit).await,
            Topic::Recall => self.all_notes(tenant, after, limit).await,
            Topic::Messages => self.all_messages(tenant, after, limit).await,
            Topic::Runs => self.all_runs(tenant, after, limit).await,
        }
    }
}

impl Record {
    async fn items(
        &self,
        op: &'static str,
        sql: impl Into<String> + Send,
        values: &[&str],
        limit: u32,
        read: impl Fn(&SqliteRow) -> Result<Item, sqlx::Error>,
    ) -> Result<Vec<Item>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(sql.into()));
        for value in values {
            query = query.bind((*value).to_owned());
        }
        let rows = query.bind(i64::from(limit)).fetch_all(&self.readers).await.map_err(|e| store(op, e))?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|e| store(op, e))
    }

    async fn session_memory(
        &self,
        tenant: &TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Item>, StoreError> {
        // A key is OWNER/KEY; a session's id has no `/`, and `/` is less than whatever may stand in one but `-` and `.`.
        let sql = "select owner || '/' || key as place, owner, key, revision, expires_at, value from memory \
                   where tenant = ? and scope = 1 and owner || '/' || key > ? order by place limit ?";
        self.items("context.memory", sql, &[tenant.as_str(), after.unwrap_or_default()], limit, |row| {
            let revision = number(row.try_get(3)?);
            let change = MemoryChange {
                drawer: Drawer::Session(parsed(row.try_get(1)?)?),
                key: row.try_get(2)?,
                revision: Revision(revision),
                value: Some(MemoryValue {
                    bytes: row.try_get::<Vec<u8>, _>(5)?.into(),
                    expires_at: row.try_get::<Option<i64>, _>(4)?.map(stamp),
                }),
            };
            let deltas = vec![Delta::Memory(change)];
            Ok(Item { key: row.try_get(0)?, version: revision, position: Position(0), deltas })
        })
        .await
    }

    async fn all_facts(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let columns = crate::graph::COLUMNS;
        let sql =
            format!("select {columns} from facts where tenant = ? and id > cast(? as integer) order by id limit ?");
        self.items("context.graph", sql, &[tenant.as_str(), after.unwrap_or("-1")], limit, |row| {
            let fact = crate::graph::fact(row)?;
            let version = if fact.valid_to.is_some() { 2 } else { 1 };
            let key = digits(fact.id.0);
            Ok(Item { key, version, position: Position(0), deltas: vec![Delta::FactBegan(fact)] })
        })
        .await
    }

    async fn all_notes(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let sql = crate::notes::PAGE;
        self.items("context.recall", sql, &[tenant.as_str(), after.unwrap_or_default()], limit, |row| {
            let note: Note = crate::notes::note(row)?;
            let (key, version) = (note.id.clone(), note.revision.0);
            Ok(Item { key, version, position: Position(0), deltas: vec![Delta::NoteKept(note)] })
        })
        .await
    }

    async fn all_messages(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        let sql = "select * from (select 'mailbox/' || agent || '/' || printf('%020d', id) as place, 0 as kind, agent as name, \
                   position, id, event, taker, dead_at, dead_reason, deliveries from mail where tenant = ?1 \
                   union all select 'topic/' || topic || '/' || printf('%020d', position), 1, topic, position, id, event, null, null, \
                   null, 0 from events where tenant = ?1) where place > ?2 order by place limit ?3";
        self.items("context.messages", sql, &[tenant.as_str(), after.unwrap_or_default()], limit, |row| {
            let name: String = row.try_get(2)?;
            let (agent, channel) = match row.try_get::<i64, _>(1)? {
                0 => {
                    let agent: ltmc_model::AgentName = parsed(name)?;
                    (Some(agent.clone()), Channel::Mailbox(agent))
                }
                _ => (None, Channel::Topic(parsed(name)?)),
            };
            let id = Revision(number(row.try_get(4)?));
            let event: Event = crate::mail::event(row.try_get(5)?)?;
            let position = Position(number(row.try_get(3)?));
            let mut deltas = vec![Delta::Sent(Message { id, channel, event })];
            let mut version = 1;
            if let Some(agent) = agent {
                let taker = row.try_get::<Option<String>, _>(6)?.as_deref().and_then(taker_of);
                let dead = row.try_get::<Option<i64>, _>(7)?.map(stamp);
                // As often as it was handed out, so that whoever counts comes to the same number.
                let nobody = || Taker { run: RunId::ledger(), step: StepPath::root(), attempt: 0, part: 0 };
                let by = taker.clone().unwrap_or_else(nobody);
                for _ in 0..number(row.try_get(9)?) {
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
                    let reason = row.try_get::<Option<String>, _>(8)?.unwrap_or_default();
                    deltas.push(Delta::Buried { agent, message: id, reason, at });
                }
            }
            Ok(Item { key: row.try_get(0)?, version, position, deltas })
        })
        .await
    }

    async fn all_runs(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Item>, StoreError> {
        const OP: &str = "context.runs";
        let after = after.and_then(|after| after.parse::<RunId>().ok());
        let sql = "select id from runs where tenant = ? and (? is null or id > ?) order by id limit ?";
        let after = after.map(blob);
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(after.clone()).bind(after).bind(i64::from(limit));
        let rows = query.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.try_get(0).and_then(uuid).map_err(|e| store(OP, e))?;
            let Some(run) = self.run(tenant, id).await? else { continue };
            let steps = self.steps(tenant, &run).await?;
            let deltas = vec![Delta::Run(Box::new(RunMark::of(&run, steps)))];
            items.push(Item { key: id.to_string(), version: run.seq.0, position: Position(0), deltas });
        }
        Ok(items)
    }

    async fn steps(&self, tenant: &TenantId, run: &Run) -> Result<Vec<StepMark>, StoreError> {
        let (mut steps, mut after) = (Vec::new(), Seq(0));
        loop {
            let page = self.entries(tenant, run.id, after, ENTRIES).await?;
            let Some(last) = page.last() else { return Ok(steps) };
            after = last.seq;
            steps.extend(page.iter().filter_map(|placed| marks::step(&placed.entry)));
        }
    }
}

/// A number that sorts as a text.
fn digits(number: u64) -> String {
    format!("{number:020}")
}
