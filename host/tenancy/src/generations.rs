//! Generations of tenants' catalogs: what was read of one is good until the next.
//!
//! Invariant: what is remembered under a generation stood in the record at some moment after every change that was answered
//! before it was read. While a change is on its way there is no generation: whether it is in the record yet nobody knows, so
//! nothing is remembered, and what is remembered is not believed. That holds also for a change that is never answered.

use std::sync::Arc;

use dashmap::DashMap;
use ltmc_model::TenantId;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The generations of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    of: DashMap<TenantId, Generation>,
    /// Told of each that begins.
    news: Notify,
}

#[derive(Debug, Default)]
struct Generation {
    number: u64,
    /// Changes on their way.
    changing: u32,
}

impl Generations {
    /// A tenant's generation; none while something of its catalog changes.
    pub(crate) fn now(&self, tenant: &TenantId) -> Option<u64> {
        self.of.get(tenant).map_or(Some(0), |of| (of.changing == 0).then_some(of.number))
    }

    /// The next generation of any tenant.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Begins a change; the next generation begins when what this gives is dropped.
    pub(crate) fn change(self: &Arc<Self>, tenant: &TenantId) -> Changing {
        self.of.entry(tenant.clone()).or_default().changing += 1;
        Changing { generations: self.clone(), tenant: tenant.clone() }
    }
}

/// A change of a tenant's catalog that is on its way.
#[derive(Debug)]
pub(crate) struct Changing {
    generations: Arc<Generations>,
    tenant: TenantId,
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut of = self.generations.of.entry(self.tenant.clone()).or_default();
        of.changing = of.changing.saturating_sub(1);
        of.number += 1;
        drop(of);
        self.generations.news.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_generation_while_anything_changes_and_another_afterwards() {
        let (generations, tenant): (_, TenantId) = (Arc::new(Generations::default()), "acme".parse().unwrap());
        let before = generations.now(&tenant);
        assert!(before.is_some());
        let (one, two) = (generations.change(&tenant), generations.change(&tenant));
        assert_eq!(generations.now(&tenant), None);
        drop(one);
        assert_eq!(generations.now(&tenant), None, "another change is on its way");
        drop(two);
        let after = generations.now(&tenant);
        assert!(after.is_some() && after != before);
        assert_eq!(generations.now(&"beta".parse().unwrap()), before, "another tenant's catalog did not change");
    }
}
