//! The record, whole: everything that a host asks of the store it is built on.

use async_trait::async_trait;
use ltmc_model::{Position, Timestamp};

use crate::{
    Bus, Purge, ReadCatalog, ReadChains, ReadContext, ReadFacts, ReadJournal, ReadLog, ReadMail, ReadMemory, ReadNotes,
    ReadQuestions, ReadSchedules, ReadSessions, ReadTriggers, StoreError, TakeUps, Waits, WriteCatalog, WriteJournal,
    WriteSchedules, WriteTriggers, WriteVectors,
};

/// A store that can be a host's record. It deletes keys whose time to live is over by itself, within seconds, and the log says so
/// as of any change. The core asks for the small ports it is made of; only who puts a host together holds it.
#[async_trait]
pub trait Record:
    ReadJournal
    + ReadChains
    + WriteJournal
    + TakeUps
    + ReadCatalog
    + WriteCatalog
    + Purge
    + ReadSchedules
    + WriteSchedules
    + ReadSessions
    + ReadTriggers
    + WriteTriggers
    + ReadMemory
    + ReadLog
    + ReadContext
    + ReadFacts
    + ReadMail
    + ReadQuestions
    + Bus
    + Waits
    + ReadNotes
    + WriteVectors
{
    /// Whether it answers, whoever reads and whoever writes.
    ///
    /// # Errors
    /// [`StoreError`] that says why not.
    async fn check(&self) -> Result<(), StoreError>;

    /// Whether there is room for what tenants write. Where the disk is full there is none: what frees room, ends runs or changes
    /// what tenants may is then still taken, from a reserve.
    fn has_room(&self) -> bool;

    /// The last place of the log that is older than `before`: what may be thrown away of it.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    async fn old_log(&self, before: Timestamp) -> Result<Position, StoreError>;

    /// Throws away the oldest rows of the log of tenants that have more than `most` of them, or more bytes of them than their share
    /// of the disk: of each tenant at most `limit`, and none after `to`. How many it was. Nothing of the others' goes with them.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses the change.
    async fn trim_shares(&self, most: u64, to: Position, limit: u32) -> Result<u64, StoreError>;

    /// Brings everything to disk and lets go of what it holds. Whoever writes after that is refused.
    async fn close(&self);
}
