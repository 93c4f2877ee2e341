//! The record, whole: everything that a host asks of the store it is built on. And where it is kept ([`Backend`]): what is asked
//! before a host runs on it, or beside one that does.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::{Position, Timestamp};

use crate::journal::{Audit, ChainEnds, Kept};
use crate::{
    Bus, Purge, ReadCascades, ReadCatalog, ReadChains, ReadContext, ReadFacts, ReadJournal, ReadLog, ReadMail,
    ReadMemory, ReadNotes, ReadQuestions, ReadSchedules, ReadSessions, ReadStates, ReadTriggers, StoreError, TakeUps,
    Waits, WriteCatalog, WriteJournal, WriteSchedules, WriteTriggers, WriteVectors,
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
    + ReadStates
    + ReadTriggers
    + ReadCascades
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

/// The place of one record, of one kind of store: what can be asked of it without owning it, and how it comes to be owned. The binary
/// names one for the kind that is configured; nothing else knows which files, tables or servers there are.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Whether there is a record.
    fn exists(&self) -> bool;

    /// Whether there is a record and no host has it. A place that this process may not look at is not abandoned.
    fn is_abandoned(&self) -> bool;

    /// Whether a host has it.
    fn is_in_use(&self) -> bool;

    /// Opens the record for this process alone, and makes it where it is not there.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is changed then.
    async fn open(&self, settings: Settings) -> Result<Arc<dyn Record>, OpenError>;

    /// Which record it is, and how its chains end. It may be in use, and is not changed.
    ///
    /// # Errors
    /// See [`OpenError`].
    async fn ends(&self) -> Result<ChainEnds, OpenError>;

    /// Walks the chains of the record, which may be in use and is not changed. What somebody `kept` of them has to stand there
    /// still.
    ///
    /// # Errors
    /// See [`OpenError`].
    async fn audit(&self, kept: Kept) -> Result<Audit, OpenError>;
}

/// How a record is to be kept, whichever kind it is of.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether the log tells how far runs came: for databases that follow them.
    pub marks_runs: bool,
    /// Bytes that each tenant may have on disk, where its ceiling says nothing else.
    pub quota: u64,
    /// Bytes of the disk that are kept for those who make room on a full one; 0: none.
    pub reserve: u64,
}

impl Default for Settings {
    /// No bounds, and nothing kept back.
    fn default() -> Self {
        Self { marks_runs: false, quota: u64::MAX, reserve: 0 }
    }
}

/// Why a record cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another host has it.
    #[error("another host is running on {}", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// Others than its owner may write to it.
    #[error("others than its owner may write to {} (mode {mode:o}): what they put there would be loaded", dir.display())]
    Shared {
        /// The data directory, or one in it.
        dir: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It, or something in it, is another user's.
    #[error("{} belongs to another user ({owner}) than the one that the host runs as ({own}): what that one puts there would be loaded", path.display())]
    Foreign {
        /// The data directory, or what is in it.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it is to be.
        own: u32,
    },
    /// It has a link in it.
    #[error("{} is a link: none is followed in a data directory", path.display())]
    Link {
        /// The link's path.
        path: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error("{} was written by a newer version: its schema is {found}, this version knows up to {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The schema's version there.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// It is no record, or a damaged one.
    #[error("{} is not a record this version can use: {why}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The store's words.
        why: String,
    },
    /// The directory or a file in it cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}
