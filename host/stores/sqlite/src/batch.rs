//! A group as statements: what changes each table, with all its values.
//!
//! What costs is to parse SQL: so the text for a table is the same however many rows there are, and the connection keeps the
//! statements prepared. Rows come as one JSON array (`json_each`), their bytes as one blob that each row cuts its own from.

use std::borrow::Cow;
use std::collections::HashMap;

use ltmc_model::chain::Chain;
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Scope;
use ltmc_model::run::Run;
use ltmc_model::{RunId, TenantId, Timestamp};
use ltmc_ports::journal::IdempotencyKey;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::Serialize;

use crate::open::{state_number, target_text};

/// Statements, in order.
#[derive(Default)]
pub(crate) struct Batch {
    statements: Vec<Statement>,
}

struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

/// A row of the journal.
pub(crate) struct JournalRow {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) place: u64,
    pub(crate) frames: Vec<u8>,
}

macro_rules! bind {
    ($batch:expr, $($value:expr),+ $(,)?) => {{
        if let Some(statement) = $batch.statements.last_mut() {
            $( statement.values.push(Value::from($value)); )+
        }
    }};
}

/// The bytes of many rows, one after the other. A byte of nobody's stands first: to SQLite a part of an empty blob is null.
pub(crate) struct Blob(Vec<u8>);

impl Default for Blob {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Blob {
    /// Adds some: where they begin, from 1 on, and how many they are, as `substr` wants it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> (usize, usize) {
        let from = self.0.len() + 1;
        self.0.extend_from_slice(bytes);
        (from, bytes.len())
    }
}

impl Batch {
    /// Executes them one after the other, up to the first that fails.
    pub(crate) fn execute(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        for Statement { sql, values } in &self.statements {
            connection.prepare_cached(sql)?.execute(params_from_iter(values))?;
        }
        Ok(())
    }

    /// Those of another after these.
    pub(crate) fn extend(&mut self, other: Self) {
        self.statements.extend(other.statements);
    }

    /// A statement without values.
    pub(crate) fn plain(&mut self, sql: impl Into<Cow<'static, str>>) {
        self.statements.push(Statement { sql: sql.into(), values: Vec::new() });
    }

    /// A statement over `json_each(?)`: each row is an array.
    pub(crate) fn each<T: Serialize>(&mut self, sql: impl Into<Cow<'static, str>>, rows: &[T]) {
        if !rows.is_empty() {
            self.plain(sql);
            bind!(self, json(&rows));
        }
    }

    /// The same, with `substr(?, …)` before it for the rows' bytes.
    pub(crate) fn each_with<T: Serialize>(&mut self, sql: impl Into<Cow<'static, str>>, blob: Blob, rows: &[T]) {
        if !rows.is_empty() {
            self.plain(sql);
            bind!(self, blob.0, json(&rows));
        }
    }

    pub(crate) fn journal(&mut self, rows: &[JournalRow]) {
        let sql = "insert into journal (tenant, run, first, last, place, frames) \
                   select value->>0, unhex(value->>1), value->>2, value->>3, value->>4, substr(?, value->>5, value->>6) \
                   from json_each(?)";
        let mut blob = Blob::default();
        let row = |row: &JournalRow| {
            let (from, length) = blob.push(&row.frames);
            (row.tenant.clone(), hex(row.run), int(row.first), int(row.last), int(row.place), from, length)
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        self.each_with(sql, blob, &rows);
    }

    pub(crate) fn chains(&mut self, chains: &HashMap<TenantId, Chain>) {
        let sql = "insert into chains (tenant, length, head) select value->>0, value->>1, unhex(value->>2) \
                   from json_each(?) where true \
                   on conflict (tenant) do update set length = excluded.length, head = excluded.head";
        let row = |(tenant, chain): (&TenantId, &Chain)| (tenant.clone(), int(chain.length), hex::encode(chain.head.0));
        self.each(sql, &chains.iter().map(row).collect::<Vec<_>>());
    }

    pub(crate) fn runs<'a>(&mut self, runs: impl Iterator<Item = &'a Run>) {
        let sql = "insert into runs (tenant, id, target, name, state, session, by_key, created_at, updated_at, epoch, seq) \
                   select value->>0, unhex(value->>1), value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
                   value->>8, value->>9, value->>10 from json_each(?) where true \
                   on conflict (tenant, id) do update set state = excluded.state, updated_at = excluded.updated_at, \
                   epoch = excluded.epoch, seq = excluded.seq";
        let row = |run: &'a Run| {
            let (target, name) = target_text(&run.target);
            let (created, updated) = (time(run.created_at), time(run.updated_at));
            let (state, epoch, seq) = (state_number(run.state), int(run.epoch.0), int(run.seq.0));
            (&run.tenant, hex(run.id), target, name, state, &run.session, &run.by, created, updated, epoch, seq)
        };
        self.each(sql, &runs.map(row).collect::<Vec<_>>());
    }

    /// A statement with texts.
    pub(crate) fn with_texts(&mut self, sql: impl Into<Cow<'static, str>>, texts: Vec<String>) {
        self.with_maybes(sql, texts.into_iter().map(Some).collect());
    }

    /// A statement with texts, some of which may be null.
    pub(crate) fn with_maybes(&mut self, sql: impl Into<Cow<'static, str>>, texts: Vec<Option<String>>) {
        self.plain(sql);
        for text in texts {
            bind!(self, text);
        }
    }

    /// A statement with one number.
    pub(crate) fn with_number(&mut self, sql: impl Into<Cow<'static, str>>, number: i64) {
        self.plain(sql);
        bind!(self, number);
    }

    pub(crate) fn idempotency(&mut self, keys: &[(&TenantId, &IdempotencyKey)]) {
        let sql = "insert into idempotency (tenant, key, request, run, expires_at) \
                   select value->>0, value->>1, unhex(value->>2), unhex(value->>3), value->>4 from json_each(?)";
        let row = |(tenant, key): &(&TenantId, &IdempotencyKey)| {
            (TenantId::clone(tenant), key.key.clone(), key.request.hex(), hex(key.run), time(key.expires_at))
        };
        self.each(sql, &keys.iter().map(row).collect::<Vec<_>>());
    }

    /// Makes room for a key that has expired.
    pub(crate) fn forget_idempotency(&mut self, tenant: &TenantId, key: &IdempotencyKey, now: Timestamp) {
        self.plain("delete from idempotency where tenant = ? and key = ? and expires_at <= ?");
        bind!(self, tenant.to_string(), key.key.clone(), time(now));
    }

    /// What an act makes true, besides its entry.
    pub(crate) fn act(&mut self, tenant: &TenantId, at: Timestamp, act: &Act) {
        match &act.change {
            Change::TenantCreated(new) => {
                self.plain("insert into tenants (name, created_at) values (?, ?)");
                bind!(self, new.name.to_string(), time(new.created_at));
            }
            Change::CeilingSet { tenant, ceiling } => {
                self.plain(
                    "insert into ceilings (tenant, ceiling) values (?, ?) \
                     on conflict (tenant) do update set ceiling = excluded.ceiling",
                );
                bind!(self, tenant.to_string(), json(ceiling));
            }
            Change::KeyCreated(key) => {
                self.plain(
                    "insert into keys (id, tenant, role, hash, created_at, expires_at, revoked_at) \
                     values (?, ?, ?, ?, ?, ?, ?)",
                );
                bind!(
                    self,
                    key.id.to_string(),
                    key.tenant.to_string(),
                    key.role.to_string(),
                    key.hash.to_vec(),
                    time(key.created_at),
                    key.expires_at.map(time),
                    key.revoked_at.map(time),
                );
            }
            Change::KeyRevoked { key, at } => {
                self.plain(
                    "update keys set revoked_at = coalesce(revoked_at, ?) where id = ? and (tenant = ? or ? = '_host')",
                );
                bind!(self, time(*at), key.to_string(), tenant.to_string(), tenant.to_string());
            }
            Change::AgentPushed(agent) => {
                self.plain(
                    "insert into agents (tenant, name, digest, pushed, manifest, exports, size, pushed_at) \
                     values (?, ?, ?, 1 + coalesce((select max(pushed) from agents where tenant = ? and name = ?), 0), ?, ?, ?, ?) \
                     on conflict (tenant, name, digest) do update set pushed = excluded.pushed, \
                     manifest = excluded.manifest, exports = excluded.exports, size = excluded.size, \
                     pushed_at = excluded.pushed_at",
                );
                bind!(
                    self,
                    tenant.to_string(),
                    agent.name.to_string(),
                    agent.digest.0.to_vec(),
                    tenant.to_string(),
                    agent.name.to_string(),
                    json(&agent.manifest),
                    json(&agent.exports),
                    int(agent.size),
                    time(agent.pushed_at),
                );
            }
            Change::AgentDeleted { name } => {
                self.plain("delete from agents where tenant = ? and name = ?");
                bind!(self, tenant.to_string(), name.to_string());
                self.plain("delete from grants where tenant = ? and agent = ?");
                bind!(self, tenant.to_string(), name.to_string());
            }
            Change::GrantsSet { agent, grants } => {
                self.plain(
                    "insert into grants (tenant, agent, grants) values (?, ?, ?) \
                     on conflict (tenant, agent) do update set grants = excluded.grants",
                );
                bind!(self, tenant.to_string(), agent.to_string(), json(grants));
            }
            Change::WorkflowPut { name, source, digest } => {
                self.plain(
                    "insert into workflows (tenant, name, source, digest, updated_at) values (?, ?, ?, ?, ?) \
                     on conflict (tenant, name) do update set source = excluded.source, digest = excluded.digest, \
                     updated_at = excluded.updated_at",
                );
                bind!(self, tenant.to_string(), name.to_string(), source.clone(), digest.0.to_vec(), time(at));
            }
            Change::WorkflowDeleted { name } => {
                self.plain("delete from workflows where tenant = ? and name = ?");
                bind!(self, tenant.to_string(), name.to_string());
            }
            Change::Context { .. } | Change::Refused { .. } => {}
        }
    }
}

pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn time(at: Timestamp) -> i64 {
    int(at.millis())
}

pub(crate) fn blob(run: RunId) -> Vec<u8> {
    run.0.as_bytes().to_vec()
}

fn hex(run: RunId) -> String {
    run.0.simple().to_string()
}

pub(crate) fn scope(scope: Scope) -> i64 {
    match scope {
        Scope::Global => 0,
        Scope::Session => 1,
        Scope::Agent => 2,
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain values, which JSON can write")
}
