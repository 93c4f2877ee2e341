//! The journal's ports: one for the engine that writes, one for those who read.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::chain::{Anchors, Link};
use ltmc_model::commitment::Commitment;
use ltmc_model::journal::{Entry, Placed};
use ltmc_model::run::{Run, State, Trial};
use ltmc_model::{Digest, Epoch, Revision, RunId, Seq, SessionId, TenantId, Timestamp};

pub use ltmc_model::chain::Head;

use crate::schedules::ScheduledStart;
use crate::triggers::TriggeredStart;
use crate::{Changes, Purge, ReadLog, StoreError};

/// One run's next entries, with everything that becomes true by them: one commit.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run's row after these entries; its `epoch` is the writer's, its `seq` the journal's new length.
    pub run: Run,
    /// The journal's length before these entries.
    pub expected: Seq,
    /// The epoch of the row before: the same, or, in a claim, a lower one. `None`: the run is new.
    pub previous: Option<Epoch>,
    /// What happened, in order; their numbers are `expected + 1 …`. Empty, with [`Durability::Barrier`]: nothing happened,
    /// and all that did before is to be on disk.
    pub entries: Vec<Entry>,
    /// What of the tenant's shared context changes by it, and what that was decided on.
    pub changes: Changes,
    /// A key under which a client can ask for this run again; with the run's first entries.
    pub idempotency: Option<IdempotencyKey>,
    /// The schedule that starts it; with the run's first entries.
    pub scheduled: Option<ScheduledStart>,
    /// The event that starts it; with the run's first entries.
    pub triggered: Option<TriggeredStart>,
    /// Where the run stands as of one of these entries, which says so ([`Event::Sealed`](ltmc_model::journal::Event::Sealed)).
    pub snapshot: Option<Snapshot>,
}

/// Where a run stands as of an entry of its journal, written out: it is there to spare whoever takes the run up what came before. The
/// last two of a run are kept; one for which its tenant has no room any more is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The entry that commits to it.
    pub at: Seq,
    /// What was written.
    pub bytes: Arc<[u8]>,
}

impl Snapshot {
    /// How many of a run are kept: where one is damaged there is the one before.
    pub const KEPT: usize = 2;
}

/// A client's idempotency key: the same key and request mean the same run, until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client's text, with the key that sent it: clients do not share them.
    pub key: String,
    /// Digest of the request.
    pub request: Digest,
    /// The run it started.
    pub run: RunId,
    /// From when on it is forgotten.
    pub expires_at: Timestamp,
}

impl IdempotencyKey {
    /// What it leaves in the chain.
    pub fn commitment(&self) -> Commitment {
        Commitment::of_key(&self.key, &self.request, self.run, self.expires_at)
    }
}

/// What becomes of an append that was handed over. To be dropped changes nothing of it.
pub type Receipt = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// When an append is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In order, and visible to every reader of this process; on disk with the next barrier, or soon.
    Lazy,
    /// On disk, with all before it, also those of others.
    Barrier,
}

/// For the engine: appends.
#[async_trait]
pub trait WriteJournal: Send + Sync {
    /// Puts an append in its place, behind all that were handed over before it; the receipt is what becomes of it. Where a run is over by
    /// it, the one that began that run and those that it began are due in the same transaction, if they are suspended. It is
    /// recorded only if the run's journal still has `expected` entries, its epoch is still `previous`, and everything that its
    /// changes expect is so.
    ///
    /// # Errors
    /// By the receipt: `Conflict` where the journal has another length (or a new run exists already, or the schedule that starts it does
    /// not allow it any more), `Fenced` where the epoch
    /// is another, or where an earlier lazy append of this process was lost, `Stale` where an expectation does not hold:
    /// nothing of this append is then recorded, and the run is to be taken up again from the record. `Full`,
    /// `Unavailable`: the same, and it may pass.
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt;

    /// Hands over, and waits for what becomes of it.
    ///
    /// # Errors
    /// As [`Self::hand_over`] says.
    async fn append(&self, append: Append, durability: Durability) -> Result<(), StoreError> {
        self.hand_over(append, durability).await.await
    }

    /// The next revision for a delta of a tenant's: higher than any that the record has seen of it. Each tenant has a count of its own: what
    /// others write does not show in it.
    fn next_revision(&self, tenant: &TenantId) -> Revision;
}

/// For whoever takes runs up from the record: what is taken up is counted before anything of it is read.
#[async_trait]
pub trait TakeUps: Send + Sync {
    /// Adds `more` to how often each of these runs was taken up (one that came to nothing is taken back), and says how it is now.
    /// What is over is left as it is. On return it outlives this process; the machine only with what is brought to disk after it.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer: nothing was counted then.
    async fn take_up(&self, runs: &[(TenantId, RunId)], more: i32, trial: Trial) -> Result<(), StoreError>;

    /// Forgets all that was counted: the process comes to its end of itself.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    async fn forget_take_ups(&self) -> Result<(), StoreError>;
}

/// Which runs a list shows.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// In this state.
    pub state: Option<State>,
    /// Of this workflow, or of this agent's lone calls.
    pub target: Option<String>,
    /// In this session.
    pub session: Option<SessionId>,
    /// Started by this key.
    pub by: Option<ltmc_model::KeyId>,
    /// Begun by this run.
    pub parent: Option<RunId>,
    /// Older than this one; the newest first.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: u32,
}

/// Where a suspended run stands among its tenant's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspended {
    /// When it goes on.
    pub wakes_at: Timestamp,
    /// The run's id; it orders those that go on at the same time.
    pub run: RunId,
}

impl Suspended {
    /// Where this one stands; none: it is not suspended.
    pub fn of(run: &Run) -> Option<Self> {
        run.wakes_at.map(|wakes_at| Self { wakes_at, run: run.id })
    }
}

/// For those who read the journal. Reads see every append that has returned, lazy ones too.
#[async_trait]
pub trait ReadJournal: Send + Sync {
    /// A run's entries after number `after`, at most `limit`, in order. Empty for a run that is not there.
    async fn entries(&self, tenant: &TenantId, run: RunId, after: Seq, limit: u32) -> Result<Vec<Placed>, StoreError>;

    /// The number of a run's last entry; zero for a run that is not there.
    async fn last(&self, tenant: &TenantId, run: RunId) -> Result<Seq, StoreError>;

    /// As [`Self::entries`], and at most about so many bytes of them, as the record keeps them; at least one, where there is one. So there may
    /// be more although it is fewer than `limit`.
    async fn page(
        &self,
        tenant: &TenantId,
        run: RunId,
        after: Seq,
        limit: u32,
        bytes: usize,
    ) -> Result<Vec<Placed>, StoreError>;

    /// The newest snapshot of a run that is kept, of those as of `until` or before.
    async fn snapshot(&self, tenant: &TenantId, run: RunId, until: Seq) -> Result<Option<Snapshot>, StoreError>;

    /// A run's row.
    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, StoreError>;

    /// Rows of a tenant's runs, newest first.
    async fn runs(&self, tenant: &TenantId, filter: &RunFilter) -> Result<Vec<Run>, StoreError>;

    /// Rows of every tenant's runs that are neither over nor suspended, oldest first, after `after`: what a starting host takes
    /// up again.
    async fn unfinished(&self, after: Option<(TenantId, RunId)>, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// The same of one tenant's, from this one on.
    async fn unfinished_of(&self, tenant: &TenantId, from: RunId, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// Tenants after `after` that have suspended runs, by name, each with when the first of them goes on. What it costs does not grow
    /// with how many runs they have.
    async fn sleepers(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, StoreError>;

    /// Rows of a tenant's runs that are suspended, those first that go on first, after `after`.
    async fn suspended(&self, tenant: &TenantId, after: Option<Suspended>, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// How many of a tenant's runs are in a state in which they wait for people ([`State::is_set_aside`]). What it costs grows with
    /// those alone.
    async fn set_aside(&self, tenant: &TenantId, state: State) -> Result<u64, StoreError>;

    /// The run that an idempotency key started, unless it has expired by `now`.
    async fn idempotent(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<IdempotencyKey>, StoreError>;

    /// Walks the whole chain of every tenant and of the host; the first damage found, or how much was verified.
    async fn verify(&self) -> Result<Audit, StoreError>;
}

/// What a walk along the chain found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Audit {
    /// Entries whose hashes are right, over all tenants.
    pub verified: u64,
    /// Where the chain breaks, each tenant's first, and what else is not as the chain says; empty: whole.
    pub damage: Vec<Damage>,
    /// How each tenant's chain ends, by tenant. Whoever keeps one elsewhere can tell later that nothing before it was changed or
    /// taken away.
    pub heads: Vec<Head>,
    /// How many heads that were kept elsewhere were looked for.
    pub anchors: u64,
    /// Lines kept elsewhere that are of other records, by the record: they were left out.
    pub others: BTreeMap<String, u64>,
}

/// What somebody kept of the chains outside of the record: all of it has to stand there still.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Hashes of entries, in whichever chain.
    pub since: Vec<Link>,
    /// Heads, with their places.
    pub anchors: Vec<Anchors>,
    /// The time now: keys of memory that end by then may be gone. None: whatever ends may be gone.
    pub now: Option<Timestamp>,
}

/// For whoever keeps the chains' heads elsewhere.
#[async_trait]
pub trait ReadChains: Send + Sync {
    /// How chains end, by tenant, after `after`; at most `limit`. All of it is on disk: a power cut takes none of it back.
    async fn heads(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Head>, StoreError>;
}

/// Which record it is, and how its chains end.
#[derive(Debug)]
pub struct ChainEnds {
    /// Its id, as those who follow it know it.
    pub id: String,
    /// How they end, by tenant.
    pub heads: Vec<Head>,
    /// Tenants that were deleted and of which nothing is left, and since when.
    pub gone: BTreeMap<TenantId, Timestamp>,
    /// Tenants that are deleted and of which something is left.
    pub deleted: BTreeSet<TenantId>,
}

impl ChainEnds {
    /// Heads that are asked for at once.
    const PAGE: u32 = 500;

    /// Of a record that this process has.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn of<R: ReadChains + ReadLog + Purge + ?Sized>(record: &R) -> Result<Self, StoreError> {
        let mut heads: Vec<Head> = Vec::new();
        loop {
            let more = record.heads(heads.last().map(|head| &head.tenant), Self::PAGE).await?;
            if more.is_empty() {
                break;
            }
            heads.extend(more);
        }
        let deleted = record.deleted().await?.into_iter().collect();
        Ok(Self { id: record.record_id().to_owned(), heads, gone: record.gone().await?, deleted })
    }
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// Whose chain; none: what was looked for is in no chain.
    pub tenant: Option<TenantId>,
    /// In which run's journal; run zero is the ledger. None: in no place (the end is missing).
    pub run: Option<RunId>,
    /// Which entry of it.
    pub seq: Option<Seq>,
    /// What is wrong there.
    pub what: String,
}
