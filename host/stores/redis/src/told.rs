//! What this process believes a Redis to have been told, tenant by tenant: where it turns out to hold less, it was wiped or
//! went back to an older state, and is not told on as if nothing had happened.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ltmc_model::{Position, TenantId};

/// What is known of a tenant there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has been told up to here.
    Applied(Position),
    /// It is being built: the token, and how many calls it has made so far.
    Building(String, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Told {
    tenants: Mutex<HashMap<TenantId, Known>>,
}

impl Told {
    pub(crate) fn get(&self, tenant: &TenantId) -> Option<Known> {
        self.lock().get(tenant).cloned()
    }

    pub(crate) fn set(&self, tenant: &TenantId, known: Known) {
        self.lock().insert(tenant.clone(), known);
    }

    /// Nothing is known any more: it is asked again.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.lock().remove(tenant);
    }

    /// The build under way, as the server has it; empty: none.
    pub(crate) fn building(&self, tenant: &TenantId) -> String {
        match self.get(tenant) {
            Some(Known::Building(token, calls)) => format!("{token}:{calls}"),
            _ => String::new(),
        }
    }

    /// The build made another call.
    pub(crate) fn built(&self, tenant: &TenantId) {
        if let Some(Known::Building(_, calls)) = self.lock().get_mut(tenant) {
            *calls += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Known>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
