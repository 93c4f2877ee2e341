//! The record's log of changes: every delta of every tenant, in the order in which they became true. What watches,
//! what follows in another database, and what repairs one read the same log.

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged, Topic};
use ltmc_model::memory::{Changed, Drawer, Feed};
use ltmc_model::{Position, TenantId};
use tokio::sync::{broadcast, watch};

use crate::StoreError;

/// How far the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Seen by every reader of this process.
    pub visible: Position,
    /// On disk. Nothing beyond it may leave the host: a power cut may take it back.
    pub durable: Position,
}

/// For those who follow the log.
#[async_trait]
pub trait ReadLog: Send + Sync {
    /// Deltas after `after` and up to `to`, of these topics, of one tenant or of all, in order; at most `limit` of them,
    /// and at most 8 MiB, but always at least one where there is one.
    async fn log(
        &self,
        tenant: Option<&TenantId>,
        topics: &[Topic],
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Vec<Logged>, StoreError>;

    /// Changes of a drawer's keys that begin with `prefix`, after `after` and up to `to`, at most `limit`. `Feed::next` is
    /// how far was looked.
    async fn memory_changes(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        prefix: &str,
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Feed, StoreError>;

    /// What was thrown away: a reader who has not seen everything up to here has lost something.
    async fn trimmed(&self) -> Result<Position, StoreError>;

    /// Throws away what is not after `to`; at most `limit`. How many it was.
    async fn trim(&self, to: Position, limit: u32) -> Result<u64, StoreError>;

    /// How far the log goes, now and as it grows.
    fn ends(&self) -> watch::Receiver<Ends>;

    /// Every group of deltas, after [`Self::ends`] shows it: whoever follows first and then looks there misses nothing. Whoever
    /// is too slow is told, and reads on with [`Self::log`].
    fn follow(&self) -> broadcast::Receiver<Arc<[Logged]>>;

    /// The place of the newest row of these topics that became visible since the log was opened; 0: none did.
    fn newest(&self, topics: &[Topic]) -> Position;

    /// Every tenant that the log, or what stands in the record, tells anything of.
    async fn tenants_with_context(&self) -> Result<Vec<TenantId>, StoreError>;
}

/// What a database should hold of a tenant, as the record has it: for a rebuild, and to compare.
///
/// | topic | key | version | deltas |
/// | --- | --- | --- | --- |
/// | memory | `OWNER/KEY`, of sessions alone | the revision | the change that put it |
/// | graph | the fact's id, 20 digits | 1 where it holds, 2 where it is over | the fact as it is now, as `FactBegan` |
/// | messages | `mailbox/AGENT/ID`, `topic/TOPIC/PLACE` (20 digits) | 1 waiting, 2 taken, 3 dead | `Sent`, then `Taken` as often as it was handed out, then `Released` or `Buried` |
/// | runs | the run's id | its journal's length | one mark with all its steps |
#[async_trait]
pub trait ReadContext: Send + Sync {
    /// Items of one topic, after the item `after`, at most `limit`, in the order of their keys.
    async fn context(
        &self,
        tenant: &TenantId,
        topic: Topic,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Item>, StoreError>;
}

/// One thing that the record holds and a projection should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Names it within its tenant and topic, in the order of bytes.
    pub key: String,
    /// Grows with each of its changes.
    pub version: u64,
    /// Where in the log it began; of messages and events alone, 0 of others.
    pub position: Position,
    /// What makes it.
    pub deltas: Vec<Delta>,
}

/// What a row of the log is to whoever watches a drawer's keys that begin with `prefix`; none: nothing.
pub fn changed(logged: &Logged, drawer: &Drawer, prefix: &str) -> Option<Changed> {
    let Delta::Memory(change) = &logged.delta else { return None };
    (change.drawer == *drawer && change.key.starts_with(prefix)).then(|| Changed {
        position: logged.position,
        key: change.key.clone(),
        revision: change.revision,
        value: change.value.as_ref().map(|value| value.bytes.clone()),
        expires_at: change.value.as_ref().and_then(|value| value.expires_at),
    })
}
