//! The record, whole: everything that a host asks of the store it is built on.

use async_trait::async_trait;
use ltmc_model::{Position, Timestamp};

use crate::{
    Bus, ReadCatalog, ReadContext, ReadFacts, ReadJournal, ReadLog, ReadMail, ReadMemory, ReadNotes, StoreError,
    TakeUps, WriteCatalog, WriteJournal, WriteVectors,
};

/// A store that can be a host's record. It deletes keys whose time to live is over by itself, within seconds, and the log says so
/// as of any change. The core asks for the small ports it is made of; only who puts a host together holds it.
#[async_trait]
pub trait Record:
    ReadJournal
    + WriteJournal
    + TakeUps
    + ReadCatalog
    + WriteCatalog
    + ReadMemory
    + ReadLog
    + ReadContext
    + ReadFacts
    + ReadMail
    + Bus
    + ReadNotes
    + WriteVectors
{
    /// Whether it answers, whoever reads and whoever writes.
    ///
    /// # Errors
    /// Why not.
    async fn check(&self) -> Result<(), StoreError>;

    /// The last place of the log that is older than `before`, or that is more than `most` places from its end: what may be
    /// thrown away of it.
    ///
    /// # Errors
    /// The store's.
    async fn old_log(&self, before: Timestamp, most: u64) -> Result<Position, StoreError>;

    /// Brings everything to disk and lets go of what it holds. Whoever writes after that is refused.
    async fn close(&self);
}
