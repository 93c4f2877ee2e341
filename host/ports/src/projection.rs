//! A database that follows the record: it is told every delta of the topics it wants, in order, and holds what the record
//! holds.
//!
//! Invariant: it follows one record. Two that told it of tenants of the same name would each throw away what the other told.
//!
//! Invariants: the record is right. Told the same rows twice, also after a crash between applying and acknowledging, it
//! holds the same: how far it has been told is kept in the database itself, in the same transaction as what it was told.
//!
//! What an adapter believes its database to have been told, and in which pieces it tells it more, is [`crate::told`] for all of them.

use async_trait::async_trait;
use ltmc_model::delta::{Logged, Topic};
use ltmc_model::{Position, TenantId};

use crate::{Kind, StoreError};

/// That a database follows another record than the one it is asked to follow.
pub fn follows_another(op: &'static str, found: &str, record: &str) -> StoreError {
    StoreError::new(Kind::Conflict, op).because(format!(
        "it follows the record {found} and not this one, which is {record}: give this host a database of its own; or, where that \
         record is gone, stop this host and have it follow this one with `ltmc repair --rebind`"
    ))
}

/// How a database is bound to the record that it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// What it says it was told is this record's.
    Wholly,
    /// It is being taken from another record, whose places in the log it may still have: nothing it says is believed.
    Halfway,
}

/// One destination of the outbox.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Its name in metrics, in `/readyz` and to operators: `neo4j`, `redis`.
    fn name(&self) -> &'static str;

    /// What it is told of.
    fn topics(&self) -> &'static [Topic];

    /// Whether it keeps an item of the record's: some keep only what is of use to them.
    fn holds(&self, topic: Topic, item: &crate::log::Item) -> bool {
        let _ = (topic, item);
        true
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// Why not, in words for an operator: a wrong password, a wrong version, read-only, out of memory.
    async fn check(&self) -> Result<(), StoreError>;

    /// Binds it to a record: one that follows none yet follows this from now on, and one that follows another does so where it is to be
    /// `taken`. That is begun by this, and done with [`Self::bound`] once it holds what this record holds.
    ///
    /// # Errors
    /// `Conflict` where it follows another record, also halfway; the source says which.
    async fn bind(&self, record: &str, taken: bool) -> Result<Bound, StoreError>;

    /// It holds what this record holds: it is bound. Of all but these tenants it forgets how far it was told: that was another's log.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer, or refuses the change.
    async fn bound(&self, record: &str, tenants: &[TenantId]) -> Result<(), StoreError>;

    /// Up to which place of the log it has been told of a tenant; none: it knows nothing of it, and is to be built.
    async fn applied(&self, tenant: &TenantId) -> Result<Option<Position>, StoreError>;

    /// Applies rows of one tenant, in order, and remembers `to`. Rows that are not after what was applied are passed over.
    ///
    /// # Errors
    /// `Conflict` where it knows nothing of the tenant, or less than it did: rows in the middle are not taken for a
    /// beginning, the log's very first row aside. Ask [`Self::applied`], and build.
    async fn apply(&self, tenant: &TenantId, rows: &[Logged], to: Position) -> Result<(), StoreError>;

    /// What it holds of a tenant and topic, after the key `after`, at most `limit`, in the order of the keys' bytes: keys
    /// and versions as [`crate::log::Item`] has them.
    async fn inventory(
        &self,
        tenant: &TenantId,
        topic: Topic,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError>;

    /// Puts these items of a tenant right, whatever stands there: for a rebuild and for repair. It does not touch what was
    /// applied.
    async fn put(&self, tenant: &TenantId, items: &[crate::log::Item]) -> Result<(), StoreError>;

    /// Removes items that should not be there.
    async fn discard(&self, tenant: &TenantId, topic: Topic, keys: &[String]) -> Result<(), StoreError>;

    /// Sets how far it has been told of a tenant: after a rebuild.
    async fn set_applied(&self, tenant: &TenantId, to: Position) -> Result<(), StoreError>;
}
