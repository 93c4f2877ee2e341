//! Deleted tenants in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use ltmc_model::journal::{Change, Event};
use ltmc_model::{RunId, TenantId, Timestamp};

use super::MemoryRecord;
use super::tables::Tables;
use crate::journal::Head;
use crate::{Kind, Purge, ReadChains, StoreError};

/// Tenants that are deleted and of which something is left: at least the end of their chains, which keeps their names taken.
pub(super) type Deleted = BTreeSet<TenantId>;

impl Tables {
    /// Whoever writes something of a deleted tenant is fenced off.
    pub(super) fn is_there(&self, tenant: &TenantId, operation: &'static str) -> Result<(), StoreError> {
        match self.deleted.contains(tenant) {
            true => Err(StoreError::new(Kind::Fenced, operation).because("the tenant is deleted")),
            false => Ok(()),
        }
    }

    /// Throws away what a deleted tenant left besides its chain's end; whether there was anything. The log keeps its rows: their
    /// number is their place.
    pub(super) fn purge(&mut self, tenant: &TenantId) -> bool {
        if !self.deleted.contains(tenant) {
            return false;
        }
        let before = self.left(tenant);
        self.runs.retain(|(of, _), _| of != tenant);
        self.journal.retain(|(of, _), _| of != tenant);
        self.snapshots.retain(|(of, _), _| of != tenant);
        self.idempotency.retain(|(of, _), _| of != tenant);
        self.questions.purge(tenant);
        self.subscriptions.purge(tenant);
        self.context.purge(tenant);
        before > self.left(tenant)
    }

    fn left(&self, tenant: &TenantId) -> usize {
        let journals = self.journal.keys().filter(|(of, _)| of == tenant).count();
        journals + self.idempotency.keys().filter(|(of, _)| of == tenant).count() + self.context.left(tenant)
    }
}

#[async_trait]
impl Purge for MemoryRecord {
    async fn deleted(&self) -> Result<Vec<TenantId>, StoreError> {
        Ok(self.with_tables(|tables| tables.deleted.iter().cloned().collect()))
    }

    async fn purge(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        Ok(self.write_purge(tenant))
    }

    async fn gone(&self) -> Result<BTreeMap<TenantId, Timestamp>, StoreError> {
        Ok(self.with_tables(|tables| {
            let ledger = tables.journal.get(&(TenantId::host(), RunId::ledger())).into_iter().flatten();
            let gone = ledger.filter_map(|entry| match &entry.event {
                Event::Act(act) => match &act.change {
                    Change::TenantGone { head } => Some((head.tenant.clone(), entry.at)),
                    _ => None,
                },
                _ => None,
            });
            gone.collect()
        }))
    }
}

#[async_trait]
impl ReadChains for MemoryRecord {
    async fn heads(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Head>, StoreError> {
        // What is told is on disk.
        self.sync();
        Ok(self.with_tables(|tables| {
            let links = tables.links.iter().filter(|(tenant, _)| after.is_none_or(|after| *tenant > after));
            let heads =
                links.map(|(tenant, (end, _))| Head { tenant: tenant.clone(), length: end.length, hash: end.head });
            heads.take(limit as usize).collect()
        }))
    }
}
