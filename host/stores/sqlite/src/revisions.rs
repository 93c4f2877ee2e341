//! Revisions: each tenant has a count of its own, so that what others write does not show in what it sees.
//!
//! Invariants: a count goes on above the highest revision of the tenant that was ever committed (`chains.revision`, which each commit that has changes
//! writes); what was drawn and not committed is gone with the process. A tenant that comes anew begins at 1.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ltmc_model::{Revision, TenantId};
use rusqlite::Connection;

use crate::bind::{all, number, tenant};
use crate::error::Error;

/// The last that was drawn of each tenant.
pub(crate) struct Revisions(Mutex<HashMap<TenantId, u64>>);

impl Revisions {
    /// As the record has them. Where it was made when all tenants had one count, each goes on above that.
    pub(crate) fn load(db: &Connection) -> Result<Self, Error> {
        let sql = "select tenant, max(revision, (select value from meta where key = 'revision')) from chains";
        let read = |row: &rusqlite::Row<'_>| Ok((tenant(row.get(0)?)?, number(row.get(1)?)));
        Ok(Self(Mutex::new(all(db, sql, [], read)?.into_iter().collect())))
    }

    /// The next of a tenant's.
    pub(crate) fn draw(&self, tenant: &TenantId) -> Revision {
        let mut all = self.lock();
        let last = match all.get_mut(tenant) {
            Some(last) => last,
            None => all.entry(tenant.clone()).or_default(),
        };
        *last += 1;
        Revision(*last)
    }

    /// Nothing is left of a tenant: another may have its name.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.lock().remove(tenant);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
