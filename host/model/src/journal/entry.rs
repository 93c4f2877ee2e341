//! An entry of a journal: in its place, as bytes, and with what it commits to.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::Event;
use crate::commitment::Commitment;
use crate::{Seq, Timestamp};

/// One entry: when, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// By the host's clock.
    pub at: Timestamp,
    /// The event itself.
    pub event: Event,
}

impl Entry {
    /// As the record keeps it: MessagePack with field names.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("entries are plain values, which MessagePack can write")
    }

    /// The same, with commitments to what becomes true by it. Whoever reads the entry alone does not see them.
    pub fn to_bytes_committing(&self, to: &[Commitment]) -> Vec<u8> {
        let mut commits = ByteBuf::from(Commitment::to_bytes(to));
        commits.push(WITH_EVENTS);
        let written = Committing { at: self.at, event: &self.event, commits: &commits };
        rmp_serde::to_vec_named(&written).expect("entries are plain values, which MessagePack can write")
    }

    /// As read from the record.
    ///
    /// # Errors
    /// Where the bytes are no entry that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    /// What an entry in the record commits to; none: it is of a build that did not, or nothing became true by it.
    ///
    /// # Errors
    /// Where the bytes are no entry.
    pub fn committed(bytes: &[u8]) -> Result<Option<Commits>, rmp_serde::decode::Error> {
        let Committed { commits } = rmp_serde::from_slice(bytes)?;
        Ok(commits.map(|commits| Commits {
            several: Commitment::from_bytes(&commits).collect(),
            with_keys: commits.len() % Commitment::BYTES == 1,
            with_events: commits.len() % Commitment::BYTES == 1 && commits.last() >= Some(&WITH_EVENTS),
        }))
    }
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Its number in the run, from 1 on.
    pub seq: Seq,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Stands behind an entry's commitments where its build committed to idempotency keys and to events of topics, too; a 1: to keys alone.
const WITH_EVENTS: u8 = 2;

/// What an entry commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    /// What is left where.
    pub several: Vec<Commitment>,
    /// Whether the build that wrote it committed to idempotency keys, too.
    pub with_keys: bool,
    /// And to events of topics.
    pub with_events: bool,
}

/// An entry with what it commits to.
#[derive(Serialize)]
struct Committing<'a> {
    at: Timestamp,
    event: &'a Event,
    commits: &'a ByteBuf,
}

/// Of an entry only what it commits to.
#[derive(Deserialize)]
struct Committed {
    #[serde(default)]
    commits: Option<ByteBuf>,
}
