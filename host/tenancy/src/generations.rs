//! Generations of tenants' catalogs: what was read of one is good until the next.
//!
//! Invariant: what is remembered under a generation stood in the record at some moment after every change that was answered
//! before it was read. While a change is on its way there is no generation: whether it is in the record yet nobody knows, so
//! nothing is remembered, and what is remembered is not believed. That holds also for a change that is never answered.

use std::sync::Arc;

use dashmap::DashMap;
use ltmc_model::TenantId;

/// The generations of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Generations(DashMap<TenantId, Generation>);

#[derive(Debug, Default)]
struct Generation {
    number: u64,
    /// Changes on their way.
    changing: u32,
}

impl Generations {
    /// A tenant's generation; none while something of its catalog changes.
    pub(crate) fn now(&self, tenant: &TenantId) -> Option<u64> {
        self.0.get(tenant).map_or(Some(0), |of| (of.changing == 0).then_some(of.number))
    }

    /// Begins a change; the next generation begins when what this gives is dropped.
    pub(crate) fn change(self: &Arc<Self>, tenant: &TenantId) -> Changing {
        self.0.entry(tenant.clone()).or_default().changing += 1;
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
        let mut of = self.generations.0.entry(self.tenant.clone()).or_default();
        of.changing = of.changing.saturating_sub(1);
        of.number += 1;
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
