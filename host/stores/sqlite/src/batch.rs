//! A group as one statement: `begin immediate; …; commit;` with all its values.
//!
//! What costs is the hop to the driver's thread, about 0.1 ms each: so a group makes one, whatever is in it.

use std::collections::HashMap;

use ltmc_model::chain::Chain;
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::{Drawer, Scope};
use ltmc_model::run::Run;
use ltmc_model::{RunId, TenantId, Timestamp};
use ltmc_ports::journal::{IdempotencyKey, MemoryChange};
use sqlx::Arguments as _;
use sqlx::sqlite::SqliteArguments;

use crate::open::{state_number, target_text};

/// SQL and its values, in order.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) sql: String,
    pub(crate) values: SqliteArguments,
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
        // Encoding a number, a text or a blob of ours does not fail.
        $( let _ = $batch.values.add($value); )+
    }};
}

impl Batch {
    /// A statement without values.
    pub(crate) fn plain(&mut self, sql: &str) {
        self.sql.push_str(sql);
        self.sql.push(';');
    }

    /// `HEAD values (?,…),(?,…) TAIL;`
    fn rows<T>(&mut self, head: &str, columns: usize, tail: &str, rows: &[T], mut bind: impl FnMut(&mut Self, &T)) {
        if rows.is_empty() {
            return;
        }
        let one = format!("({})", vec!["?"; columns].join(","));
        self.sql.push_str(head);
        for index in 0..rows.len() {
            self.sql.push_str(if index == 0 { " values " } else { "," });
            self.sql.push_str(&one);
        }
        self.sql.push(' ');
        self.sql.push_str(tail);
        self.sql.push(';');
        rows.iter().for_each(|row| bind(self, row));
    }

    pub(crate) fn journal(&mut self, rows: &mut [JournalRow]) {
        let mut taken: Vec<&mut JournalRow> = rows.iter_mut().collect();
        let count = taken.len();
        if count == 0 {
            return;
        }
        let one = "(?,?,?,?,?,?)";
        self.sql.push_str("insert into journal (tenant, run, first, last, place, frames) values ");
        self.sql.push_str(&vec![one; count].join(","));
        self.sql.push(';');
        for row in &mut taken {
            let frames = std::mem::take(&mut row.frames);
            bind!(self, row.tenant.to_string(), blob(row.run), int(row.first), int(row.last), int(row.place), frames);
        }
    }

    pub(crate) fn chains(&mut self, chains: &[(TenantId, Chain)]) {
        let tail = "on conflict (tenant) do update set length = excluded.length, head = excluded.head";
        self.rows("insert into chains (tenant, length, head)", 3, tail, chains, |batch, (tenant, chain)| {
            bind!(batch, tenant.to_string(), int(chain.length), chain.head.0.to_vec());
        });
    }

    pub(crate) fn runs(&mut self, runs: &[&Run]) {
        let head =
            "insert into runs (tenant, id, target, name, state, session, by_key, created_at, updated_at, epoch, seq)";
        let tail = "on conflict (tenant, id) do update set state = excluded.state, updated_at = excluded.updated_at, \
                    epoch = excluded.epoch, seq = excluded.seq";
        self.rows(head, 11, tail, runs, |batch, run| {
            let (target, name) = target_text(&run.target);
            bind!(
                batch,
                run.tenant.to_string(),
                blob(run.id),
                target,
                name,
                state_number(run.state),
                run.session.to_string(),
                run.by.to_string(),
                time(run.created_at),
                time(run.updated_at),
                int(run.epoch.0),
                int(run.seq.0),
            );
        });
    }

    /// The last change of each key counts.
    pub(crate) fn memory(&mut self, changes: &[(&TenantId, &MemoryChange)]) {
        let mut last: HashMap<(&TenantId, &Drawer, &str), &MemoryChange> = HashMap::new();
        for (tenant, change) in changes {
            last.insert((tenant, &change.drawer, &change.key), change);
        }
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for ((tenant, _, _), change) in last {
            match &change.value {
                Some((value, expires_at)) => puts.push((tenant, change, value, *expires_at)),
                None => deletes.push((tenant, change)),
            }
        }
        let head = "insert into memory (tenant, scope, owner, key, revision, expires_at, value)";
        let tail = "on conflict (tenant, scope, owner, key) do update set revision = excluded.revision, \
                    expires_at = excluded.expires_at, value = excluded.value";
        self.rows(head, 7, tail, &puts, |batch, (tenant, change, value, expires_at)| {
            bind!(
                batch,
                tenant.to_string(),
                scope(change.drawer.scope()),
                change.drawer.owner().to_owned(),
                change.key.clone(),
                int(change.revision.0),
                expires_at.map(time),
                value.to_vec(),
            );
        });
        let head = "delete from memory where (tenant, scope, owner, key) in (";
        self.rows(head, 4, ")", &deletes, |batch, (tenant, change)| {
            let owner = change.drawer.owner().to_owned();
            bind!(batch, tenant.to_string(), scope(change.drawer.scope()), owner, change.key.clone());
        });
        if let Some(highest) = changes.iter().map(|(_, change)| change.revision.0).max() {
            self.plain("update meta set value = max(value, ?) where key = 'revision'");
            bind!(self, int(highest));
        }
    }

    pub(crate) fn idempotency(&mut self, keys: &[(&TenantId, &IdempotencyKey)]) {
        let head = "insert into idempotency (tenant, key, request, run, expires_at)";
        self.rows(head, 5, "", keys, |batch, (tenant, key)| {
            bind!(
                batch,
                tenant.to_string(),
                key.key.clone(),
                key.request.0.to_vec(),
                blob(key.run),
                time(key.expires_at)
            );
        });
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
            Change::Refused { .. } => {}
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
