//! What the writer knows of the record without reading it: where journals, chains and the log end, and what tenants have on disk.
//!
//! Invariant: what a group will have made true is apart ([`Next`]) until it is committed.

use std::collections::{BTreeSet, HashMap};

use ltmc_model::chain::{Chain, Link};
use ltmc_model::{Epoch, Position, RunId, Seq, TenantId};
use ltmc_ports::journal::Snapshot;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::Writer;
use super::order::{Part, Work};
use crate::bind::{blob, found, number};
use crate::counts::Counts;
use crate::quota::{self, Purpose};
use crate::{snapshots, statements};

/// Where journals, chains and the log end.
#[derive(Default)]
pub(super) struct Known {
    pub(super) runs: HashMap<(TenantId, RunId), End>,
    pub(super) chains: HashMap<TenantId, Ledger>,
    /// What tenants have on disk besides journals, after the last commit.
    pub(super) besides: HashMap<TenantId, u64>,
    /// What they may have: forgotten where it may have changed.
    pub(super) allowed: HashMap<TenantId, u64>,
    /// Tenants that are deleted, of which nothing is written; none: not looked up yet.
    pub(super) deleted: Option<BTreeSet<TenantId>>,
    pub(super) position: Position,
}

impl Known {
    /// Nothing is left of a tenant: another may have its name.
    pub(super) fn forget(&mut self, tenant: &TenantId) {
        self.runs.retain(|(of, _), _| of != tenant);
        self.chains.remove(tenant);
        self.besides.remove(tenant);
        self.allowed.remove(tenant);
        if let Some(deleted) = &mut self.deleted {
            deleted.remove(tenant);
        }
    }

    /// What was counted has been committed.
    pub(super) fn settled(&mut self, counts: &Counts) {
        for (tenant, count) in counts.take() {
            if let Ok(tenant) = TenantId::recorded(&tenant)
                && let Some(besides) = self.besides.get_mut(&tenant)
            {
                *besides = besides.saturating_add_signed(count.bytes);
            }
        }
    }
}

/// The end of a tenant's chain, and what its journals take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ledger {
    pub(super) chain: Chain,
    pub(super) bytes: u64,
}

/// Where a run's journal ends; none: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) over: bool,
}

/// What a group will have made true.
#[derive(Default)]
pub(super) struct Next {
    pub(super) runs: HashMap<(TenantId, RunId), End>,
    pub(super) chains: HashMap<TenantId, Ledger>,
    /// Tenants that are deleted by it, and those of which nothing is left by it.
    pub(super) deleted: BTreeSet<TenantId>,
    pub(super) gone: BTreeSet<TenantId>,
    pub(super) position: Position,
}

impl Next {
    /// Writes what stands once a group.
    pub(super) fn finish(&self, db: &Connection) -> Result<(), rusqlite::Error> {
        for (tenant, ledger) in &self.chains {
            statements::chain(db, tenant, &ledger.chain, ledger.bytes)?;
        }
        if self.runs.is_empty() {
            // A synced commit needs something to write, also where all there is was written before.
            statements::touch(db)?;
        }
        Ok(())
    }
}

/// What a tenant has on disk, and what it may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) used: u64,
    pub(super) allowed: u64,
}

impl Room {
    /// Whether there is any for a snapshot besides what its part adds: it is nothing that has to be kept.
    pub(super) fn has_for(self, part: &Part, snapshot: &Snapshot) -> bool {
        let more = part.more() + snapshot.bytes.len() as u64 + snapshots::ROW;
        part.purpose == Purpose::Adds && self.used.saturating_add(more) <= self.allowed
    }
}

impl Writer {
    /// Reads the ends that a group needs and that are not known: of runs from before, and of tenants' chains.
    pub(super) fn look_up(&mut self, parts: &[Part]) -> Result<(), rusqlite::Error> {
        let mut runs = Vec::new();
        let mut tenants = Vec::new();
        for part in parts {
            let (tenant, run, new) = match &part.work {
                Work::Append(append) => (&append.run.tenant, append.run.id, append.previous.is_none()),
                Work::Act { tenant, .. } => (tenant, RunId::ledger(), false),
            };
            // A new run is not looked for: where it is there after all, its first entry breaks a constraint.
            if !new && !self.known.runs.contains_key(&(tenant.clone(), run)) {
                runs.push((tenant.clone(), run));
            }
            if !self.known.chains.contains_key(tenant) {
                tenants.push(tenant.clone());
            }
        }
        for (tenant, run) in runs {
            let of = params![tenant.as_str(), blob(run)];
            let end = if run == RunId::ledger() {
                let sql = "select last from journal where tenant = ? and run = ? order by first desc limit 1";
                let last = found(self.connection()?, sql, of)?;
                last.map(|last| End { epoch: Epoch(0), seq: Seq(number(last)), over: false })
            } else {
                let sql = "select epoch, seq, state >= 3 or wakes_at is not null from runs where tenant = ? and id = ?";
                let end = |row: &rusqlite::Row<'_>| {
                    let epoch = Epoch(number(row.get(0)?));
                    Ok(End { epoch, seq: Seq(number(row.get(1)?)), over: row.get(2)? })
                };
                self.connection()?.prepare_cached(sql)?.query_row(of, end).optional()?
            };
            if let Some(end) = end {
                self.known.runs.insert((tenant, run), end);
            }
        }
        for tenant in tenants {
            let sql = "select length, head, bytes from chains where tenant = ?";
            let ledger = |row: &rusqlite::Row<'_>| {
                let chain = Chain { length: number(row.get(0)?), head: Link(row.get(1)?) };
                Ok(Ledger { chain, bytes: number(row.get(2)?) })
            };
            let ledger = self.connection()?.prepare_cached(sql)?.query_row([tenant.as_str()], ledger).optional()?;
            self.known.chains.insert(tenant, ledger.unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn end(&self, next: &Next, tenant: &TenantId, run: RunId) -> Option<End> {
        let place = (tenant.clone(), run);
        next.runs.get(&place).or_else(|| self.known.runs.get(&place)).copied()
    }

    /// Whether a tenant is deleted, as the group has it so far.
    pub(super) fn is_deleted(
        &mut self,
        db: &Connection,
        next: &Next,
        tenant: &TenantId,
    ) -> Result<bool, rusqlite::Error> {
        if self.known.deleted.is_none() {
            let sql = "select name from tenants where deleted_at is not null";
            let names = db.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            self.known.deleted = Some(names.iter().filter_map(|name| TenantId::recorded(name).ok()).collect());
        }
        let known = self.known.deleted.as_ref().is_some_and(|deleted| deleted.contains(tenant));
        Ok((known && !next.gone.contains(tenant)) || next.deleted.contains(tenant))
    }

    /// What a tenant has on disk, as the group has it so far, and what it may have.
    pub(super) fn room(&mut self, db: &Connection, next: &Next, tenant: &TenantId) -> Result<Room, rusqlite::Error> {
        let Known { chains, besides, allowed, .. } = &mut self.known;
        let journals = next.chains.get(tenant).or_else(|| chains.get(tenant)).map_or(0, |ledger| ledger.bytes);
        let besides = match besides.get(tenant) {
            Some(bytes) => *bytes,
            None => *besides.entry(tenant.clone()).or_insert(quota::besides(db, tenant)?),
        };
        let besides = besides.saturating_add_signed(self.counts.of(tenant.as_str()));
        let allowed = match allowed.get(tenant) {
            Some(bytes) => *bytes,
            None => *allowed.entry(tenant.clone()).or_insert(quota::allowed_now(db, tenant, self.options.quota)?),
        };
        Ok(Room { used: journals + besides, allowed })
    }
}
