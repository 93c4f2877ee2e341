//! Memory's port: it is written only with the journal (see [`ltmc_model::delta::MemoryChange`]), and read here.

use async_trait::async_trait;
use ltmc_model::memory::{Drawer, Item, Page};
use ltmc_model::{TenantId, Timestamp};

use crate::StoreError;

/// For those who read memory. Reads see every append that has returned, lazy ones too. What has expired by `now` is not there.
#[async_trait]
pub trait ReadMemory: Send + Sync {
    /// What stands under a key.
    async fn get(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Item>, StoreError>;

    /// Bytes of the keys and values that a tenant's memory holds, in all scopes; about, for it changes all the time.
    async fn usage(&self, tenant: &TenantId) -> Result<u64, StoreError>;

    /// Entries whose keys begin with `prefix` and come after `after`, in the byte order of their keys, at most `limit`;
    /// and at most 4 MiB of values, but always at least one.
    async fn list(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Page, StoreError>;
}
