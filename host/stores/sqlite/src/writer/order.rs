//! What the writer is asked for: parts of a group, and statements beside the journal.
//!
//! Invariant: what is large is written out and hashed before it is in the line, so that the writer never waits for it.

use std::sync::Arc;

use ltmc_model::commitment::Commitment;
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Act, Change, Entry, Event};
use ltmc_model::{Digest, TenantId, Timestamp};
use ltmc_ports::journal::{IdempotencyKey, Snapshot};
use ltmc_ports::{Append, Changes, Durability, Kind, Receipt, StoreError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::line::{Line, Size};
use crate::quota::Purpose;

/// The way to the writer, which ends when this is dropped.
pub(crate) struct Writing {
    pub(super) line: Arc<Line<Order>>,
    pub(super) marks_runs: bool,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.line.shut();
    }
}

impl Writing {
    /// Puts an append behind what was handed over before; what becomes of it.
    pub(crate) async fn hand_over(&self, mut append: Append, durability: Durability) -> Receipt {
        const OP: &str = "journal.append";
        if append.run.seq.0 != append.expected.0 + append.entries.len() as u64 {
            let why = "the row's length is not that of the journal after these entries";
            let error = StoreError::new(Kind::Internal, OP).because(why);
            return Box::pin(std::future::ready(Err(error)));
        }
        // Written out and hashed here: the writer never waits for a large entry.
        let mut commitments: Vec<Commitment> = append.changes.deltas.iter().flat_map(Commitment::of).collect();
        commitments.extend(append.idempotency.as_ref().map(IdempotencyKey::commitment));
        let entries = all_sealed(&append.entries, &commitments);
        if self.marks_runs {
            append.changes.deltas.extend(ltmc_ports::marks::of(&append).map(|mark| Delta::Run(Box::new(mark))));
        }
        self.send(OP, Work::Append(Box::new(append)), entries, durability).await
    }

    pub(crate) async fn act(
        &self,
        tenant: &TenantId,
        at: Timestamp,
        act: Act,
        changes: Changes,
    ) -> Result<(), StoreError> {
        let act = Box::new(act);
        let commitments: Vec<Commitment> = changes.deltas.iter().flat_map(Commitment::of).collect();
        // Also to nothing: of a chain that begins so it is known that all of its changes are committed to.
        let entry = Entry { at, event: Event::Act(act.clone()) };
        let entries = vec![sealed(entry.to_bytes_committing(&commitments))];
        let work = Work::Act { tenant: tenant.clone(), at, act, changes };
        self.send("catalog.act", work, entries, Durability::Barrier).await.await
    }

    pub(super) async fn send(
        &self,
        op: &'static str,
        work: Work,
        entries: Vec<Sealed>,
        durability: Durability,
    ) -> Receipt {
        let deltas: Vec<Vec<u8>> = work.changes().deltas.iter().map(Delta::to_bytes).collect();
        // A delta is written twice: to the log, and as what it makes.
        let besides: usize = deltas.iter().map(|bytes| 2 * bytes.len()).sum();
        let bytes = besides + entries.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
        let (reply, answer) = oneshot::channel();
        let purpose = work.purpose(bytes);
        let tenant = work.tenant().clone();
        let size = bytes + work.snapshot().map_or(0, |snapshot| snapshot.bytes.len());
        let part = Part { work, entries, deltas, bytes, purpose, durability, reply };
        // Where it is closed the part is dropped, and its reply with it.
        self.line.join(&tenant, Size::Part(size), Order::Write(part)).await;
        Box::pin(async move { answer.await.map_err(|_| closed(op))? })
    }

    /// Statements in a transaction of their own, between groups, in a tenant's turn.
    pub(crate) async fn side(
        &self,
        op: &'static str,
        tenant: &TenantId,
        needs: Needs,
        work: impl FnOnce(&Connection) -> Result<(), rusqlite::Error> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.line.join(tenant, Size::Alone, Order::Side(tenant.clone(), Box::new(work), needs, reply)).await;
        answer.await.map_err(|_| closed(op))?
    }

    pub(crate) async fn close(&self) {
        self.line.close().await;
    }
}

pub(super) enum Order {
    Write(Part),
    /// Statements that belong to no journal: what is made again at any time.
    Side(TenantId, Side, Needs, oneshot::Sender<Result<(), StoreError>>),
}

/// Whether statements beside the journal are done on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// They add something: not there.
    Room,
    /// They do not.
    Nothing,
}

/// Statements of somebody beside the journal.
pub(super) type Side = Box<dyn FnOnce(&Connection) -> Result<(), rusqlite::Error> + Send>;

/// One part of a group.
pub(super) struct Part {
    pub(super) work: Work,
    /// The entries as bytes, with their digests.
    pub(super) entries: Vec<Sealed>,
    /// The deltas as bytes.
    pub(super) deltas: Vec<Vec<u8>>,
    pub(super) bytes: usize,
    pub(super) purpose: Purpose,
    pub(super) durability: Durability,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Part {
    /// How many bytes there are more by it.
    pub(super) fn more(&self) -> u64 {
        self.bytes as u64 + self.work.besides()
    }

    /// When it was made.
    pub(super) fn at(&self) -> Timestamp {
        match &self.work {
            Work::Append(append) => append.run.updated_at,
            Work::Act { at, .. } => *at,
        }
    }
}

pub(super) enum Work {
    Append(Box<Append>),
    Act { tenant: TenantId, at: Timestamp, act: Box<Act>, changes: Changes },
}

impl Work {
    pub(super) fn tenant(&self) -> &TenantId {
        match self {
            Self::Append(append) => &append.run.tenant,
            Self::Act { tenant, .. } => tenant,
        }
    }

    pub(super) fn changes(&self) -> &Changes {
        match self {
            Self::Append(append) => &append.changes,
            Self::Act { changes, .. } => changes,
        }
    }

    /// What it is for, where it has so many bytes.
    fn purpose(&self, bytes: usize) -> Purpose {
        match self {
            Self::Append(append) => Purpose::of_append(append, bytes),
            Self::Act { act, changes, .. } => Purpose::of_act(act, changes),
        }
    }

    /// Where its run stands as of one of its entries.
    fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Append(append) => append.snapshot.as_ref(),
            Self::Act { .. } => None,
        }
    }

    /// What it puts beside the record.
    pub(super) fn besides(&self) -> u64 {
        match self {
            Self::Act { act, .. } => match &act.change {
                Change::AgentPushed(agent) => agent.size,
                _ => 0,
            },
            Self::Append(_) => 0,
        }
    }
}

fn closed(op: &'static str) -> StoreError {
    StoreError::new(Kind::Unavailable, op).because("the record is closed")
}

pub(super) fn fail(parts: Vec<Part>, error: &StoreError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    for part in parts {
        let mut told = StoreError::new(error.kind, error.op);
        if let Some(cause) = &cause {
            told = told.because(cause.clone());
        }
        let _ = part.reply.send(Err(told));
    }
}

/// An entry as bytes, with their digest.
type Sealed = (Vec<u8>, Digest);

/// Entries of a run, the last of which commits to what becomes true by them.
fn all_sealed(entries: &[Entry], commitments: &[Commitment]) -> Vec<Sealed> {
    let last = entries.len().saturating_sub(1);
    let one = |(number, entry): (usize, &Entry)| match number == last && !commitments.is_empty() {
        true => sealed(entry.to_bytes_committing(commitments)),
        false => sealed(entry.to_bytes()),
    };
    entries.iter().enumerate().map(one).collect()
}

fn sealed(bytes: Vec<u8>) -> Sealed {
    let digest = Digest::of(&bytes);
    (bytes, digest)
}
