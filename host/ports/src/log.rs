//! The record's log of changes: every delta of every tenant, in the order in which they became true. Who subscribes,
//! what follows in another database, and what repairs one read the same log.
//!
//! How far a run came is a row of it only where a database follows runs: the run's journal has it already. Who follows the
//! log is told all the same ([`Group::runs`]).

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{self, Channel};
use ltmc_model::run::Run;
use ltmc_model::{AgentName, Position, RunId, TenantId};
use tokio::sync::{broadcast, watch};

use crate::StoreError;

/// How far the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Seen by every reader of this process.
    pub visible: Position,
    /// On disk. Nothing beyond it may leave the host: a power cut may take it back.
    pub durable: Position,
    /// How many commits this process began: what anybody has read was one of them.
    pub begun: u64,
    /// Up to which of them all is on disk.
    pub synced: u64,
}

/// What was committed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which commit of this process it was.
    pub commit: u64,
    /// Its rows of the log, in order.
    pub rows: Vec<Arc<Logged>>,
    /// Runs whose journals it made longer, as they are by it.
    pub runs: Vec<Run>,
}

/// What somebody wants to know of a tenant: which rows of the log are his.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Changes of a drawer's keys that begin with this.
    Memory(Drawer, String),
    /// Events of a topic.
    Topic(message::Topic),
    /// What may be taken from a mailbox: what was sent to it, and what others let go.
    Mailbox(AgentName),
    /// How far a run came. Only the newest of its rows is there to be read again, and the place of each is how long the run's
    /// journal was.
    Run(RunId),
}

impl Interest {
    /// Whether a row with this delta is among its rows.
    pub fn concerns(&self, delta: &Delta) -> bool {
        match (self, delta) {
            (Self::Memory(drawer, prefix), Delta::Memory(change)) => {
                change.drawer == *drawer && change.key.starts_with(prefix)
            }
            (Self::Topic(topic), Delta::Sent(message)) => matches!(&message.channel, Channel::Topic(to) if to == topic),
            (Self::Mailbox(agent), Delta::Sent(message)) => {
                matches!(&message.channel, Channel::Mailbox(to) if to == agent)
            }
            (
                Self::Mailbox(agent),
                Delta::Processed { agent: of, .. } | Delta::Buried { agent: of, .. } | Delta::Revived { agent: of, .. },
            ) => agent == of,
            // Whose mailboxes it had taken from is not said.
            (Self::Mailbox(_), Delta::Released { .. }) => true,
            (Self::Run(run), Delta::Run(mark)) => mark.run == *run,
            _ => false,
        }
    }
}

/// Part of the rows that concern somebody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// In order.
    pub rows: Vec<Logged>,
    /// How far was looked: go on after it.
    pub next: Position,
}

impl Rows {
    /// Of a run as it is now: that it came so far, where it was not so far before.
    pub fn of_run(run: Option<&Run>, after: Position) -> Self {
        let rows: Vec<Logged> = run.map(Logged::of_run).filter(|row| row.position > after).into_iter().collect();
        Self { next: rows.last().map_or(after, |row| row.position), rows }
    }
}

/// For those who follow the log.
#[async_trait]
pub trait ReadLog: Send + Sync {
    /// Which record it is the log of: the same for as long as that lives, and another for every other.
    fn record_id(&self) -> &str;

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

    /// A tenant's rows that are of interest, after `after` and up to `to`; at most `limit` of them, and 4 MiB. There may be
    /// more where `Rows::next` is not `to`. Of a run: its newest, whether or not that is on disk.
    async fn rows(
        &self,
        tenant: &TenantId,
        interest: &Interest,
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Rows, StoreError>;

    /// What was thrown away of a tenant's rows: a reader of them who has not seen everything up to here has lost something.
    async fn trimmed(&self, tenant: &TenantId) -> Result<Position, StoreError>;

    /// Throws away what is not after `to`; at most `limit`. How many it was.
    async fn trim(&self, to: Position, limit: u32) -> Result<u64, StoreError>;

    /// How far the log goes, now and as it grows.
    fn ends(&self) -> watch::Receiver<Ends>;

    /// Waits until everything that anybody can have read by now is on disk. It asks for nothing: that is soon, by itself.
    async fn settled(&self) {
        let mut ends = self.ends();
        let begun = ends.borrow().begun;
        let _ = ends.wait_for(|ends| ends.synced >= begun).await;
    }

    /// Every group, after [`Self::ends`] shows it: whoever follows first and then looks there misses nothing. Whoever
    /// is too slow is told, and reads on with [`Self::log`].
    fn follow(&self) -> broadcast::Receiver<Arc<Group>>;

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
