//! Journals and runs, read.

use async_trait::async_trait;
use ltmc_model::journal::{Entry, Placed};
use ltmc_model::run::Run;
use ltmc_model::{Digest, Epoch, Revision, RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, IdempotencyKey, RunFilter};
use ltmc_ports::{Append, Durability, ReadJournal, Receipt, StoreError, WriteJournal};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::bind::{blob, int, time};
use crate::error::{corrupt, store};
use crate::open::{state_number, state_of, target_of};
use crate::{Record, frames, verify};

const COLUMNS: &str = "tenant, id, target, state, session, by_key, created_at, updated_at, epoch, seq";

#[async_trait]
impl WriteJournal for Record {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        self.writing.hand_over(append, durability).await
    }

    fn next_revision(&self) -> Revision {
        Revision(self.draw_revision())
    }
}

#[async_trait]
impl ReadJournal for Record {
    async fn entries(&self, tenant: &TenantId, run: RunId, after: Seq, limit: u32) -> Result<Vec<Placed>, StoreError> {
        const OP: &str = "journal.entries";
        let mut placed = Vec::new();
        let mut after = after.0;
        // A row holds at least one entry, so `limit` rows are enough; mostly one does.
        while placed.len() < limit as usize {
            let sql = "select first, last, frames from journal where tenant = ?1 and run = ?2 and first <= \
                       (select min(first) from journal where tenant = ?1 and run = ?2 and last > ?3) + ?4 and last > ?3 \
                       order by first limit 64";
            let rows = sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(blob(run))
                .bind(int(after))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await
                .map_err(|e| store(OP, e))?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let first: i64 = row.try_get(0).map_err(|e| store(OP, e))?;
                let kept: Vec<u8> = row.try_get(2).map_err(|e| store(OP, e))?;
                for (seq, frame) in (u64::try_from(first).unwrap_or(0)..).zip(frames::read(&kept)) {
                    let (_, bytes) = frame.map_err(|e| corrupt(OP, e))?;
                    if seq <= after || placed.len() >= limit as usize {
                        continue;
                    }
                    let entry = Entry::from_bytes(bytes).map_err(|e| corrupt(OP, e))?;
                    placed.push(Placed { seq: Seq(seq), entry });
                }
            }
            let last = placed.last().map_or(after, |last: &Placed| last.seq.0);
            if last == after {
                return Err(corrupt(OP, format!("run {run} has no entry after {after} where one should be")));
            }
            after = last;
        }
        Ok(placed)
    }

    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, StoreError> {
        const OP: &str = "journal.run";
        let sql = format!("select {COLUMNS} from runs where tenant = ? and id = ?");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(blob(run));
        let row = row.fetch_optional(&self.readers).await.map_err(|e| store(OP, e))?;
        row.map(|row| read_run(OP, &row)).transpose()
    }

    async fn runs(&self, tenant: &TenantId, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        const OP: &str = "journal.runs";
        let mut sql = format!("select {COLUMNS} from runs where tenant = ?");
        for (wanted, condition) in [
            (filter.state.is_some(), " and state = ?"),
            (filter.target.is_some(), " and name = ?"),
            (filter.session.is_some(), " and session = ?"),
            (filter.by.is_some(), " and by_key = ?"),
            (filter.before.is_some(), " and id < ?"),
        ] {
            if wanted {
                sql.push_str(condition);
            }
        }
        sql.push_str(" order by id desc limit ?");
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
        if let Some(state) = filter.state {
            query = query.bind(state_number(state));
        }
        if let Some(target) = &filter.target {
            query = query.bind(target.clone());
        }
        if let Some(session) = &filter.session {
            query = query.bind(session.to_string());
        }
        if let Some(by) = &filter.by {
            query = query.bind(by.to_string());
        }
        if let Some(before) = filter.before {
            query = query.bind(blob(before));
        }
        let rows = query.bind(i64::from(filter.limit)).fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        rows.iter().map(|row| read_run(OP, row)).collect()
    }

    async fn unfinished(&self, after: Option<(TenantId, RunId)>, limit: u32) -> Result<Vec<Run>, StoreError> {
        const OP: &str = "journal.unfinished";
        let sql =
            format!("select {COLUMNS} from runs where state < 3 and (id, tenant) > (?, ?) order by id, tenant limit ?");
        let (id, tenant) = match &after {
            Some((tenant, run)) => (blob(*run), tenant.to_string()),
            None => (Vec::new(), String::new()),
        };
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(id).bind(tenant).bind(i64::from(limit));
        let rows = rows.fetch_all(&self.readers).await.map_err(|e| store(OP, e))?;
        rows.iter().map(|row| read_run(OP, row)).collect()
    }

    async fn idempotent(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<IdempotencyKey>, StoreError> {
        const OP: &str = "journal.idempotent";
        let sql = "select request, run, expires_at from idempotency where tenant = ? and key = ? and expires_at > ?";
        let row = sqlx::query(sql).bind(tenant.as_str()).bind(key.to_owned()).bind(time(now));
        let Some(row) = row.fetch_optional(&self.readers).await.map_err(|e| store(OP, e))? else { return Ok(None) };
        let read = || -> Result<IdempotencyKey, sqlx::Error> {
            let request = fixed(row.try_get(0)?)?;
            let run = uuid(row.try_get(1)?)?;
            let expires_at = stamp(row.try_get(2)?);
            Ok(IdempotencyKey { key: key.to_owned(), request: Digest(request), run, expires_at })
        };
        read().map(Some).map_err(|e| store(OP, e))
    }

    async fn verify(&self) -> Result<Audit, StoreError> {
        const OP: &str = "journal.verify";
        let connection = self.aside().await.map_err(|e| store(OP, e))?;
        verify::walk(connection).await.map_err(|e| store(OP, e))
    }
}

fn read_run(op: &'static str, row: &SqliteRow) -> Result<Run, StoreError> {
    let read = || -> Result<Run, sqlx::Error> {
        Ok(Run {
            tenant: parsed(row.try_get(0)?)?,
            id: uuid(row.try_get(1)?)?,
            target: target_of(row.try_get(2)?).ok_or_else(|| wrong("a run's target"))?,
            state: state_of(row.try_get(3)?).ok_or_else(|| wrong("a run's state"))?,
            session: parsed(row.try_get(4)?)?,
            by: parsed(row.try_get(5)?)?,
            created_at: stamp(row.try_get(6)?),
            updated_at: stamp(row.try_get(7)?),
            epoch: Epoch(number(row.try_get(8)?)),
            seq: Seq(number(row.try_get(9)?)),
        })
    };
    read().map_err(|e| store(op, e))
}

pub(crate) fn wrong(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} does not read back").into())
}

pub(crate) fn parsed<T: TryFrom<String>>(text: String) -> Result<T, sqlx::Error> {
    T::try_from(text).map_err(|_| wrong("a name"))
}

/// A tenant's name, or the host's own ledger.
pub(crate) fn tenant(text: String) -> Result<TenantId, sqlx::Error> {
    TenantId::recorded(&text).map_err(|_| wrong("a name"))
}

pub(crate) fn uuid(bytes: Vec<u8>) -> Result<RunId, sqlx::Error> {
    fixed::<16>(bytes).map(|bytes| RunId(uuid::Uuid::from_bytes(bytes)))
}

pub(crate) fn fixed<const N: usize>(bytes: Vec<u8>) -> Result<[u8; N], sqlx::Error> {
    bytes.try_into().map_err(|_| wrong("an id or a digest"))
}

pub(crate) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn stamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(number(millis))
}
