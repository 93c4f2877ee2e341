//! The port of sessions: which there are, and which turns they had.
//!
//! Invariants: a session is opened, closed and expired by acts; its turns follow the journals of their runs. That a turn begins, waits or is over,
//! and what that makes of its session ([`ltmc_model::session::Session`]), is one commit with the run's entries: a run whose session has no
//! place for it is refused as `Conflict`, and one whose turn is not at work changes nothing (`Displaced`; [`is_fenced`]). Where a turn is over the next one
//! begins: its run is due in the same transaction. Of those that wait the first of the key that had its turn the longest ago is next.

use async_trait::async_trait;
use ltmc_model::delta::{Delta, MemoryValue};
use ltmc_model::hand_off::HandedOff;
use ltmc_model::journal::{Decided, Entry, Event};
use ltmc_model::memory::Drawer;
use ltmc_model::session::{Place, Session, Standing, Turn};
use ltmc_model::workflow::Node;
use ltmc_model::{Epoch, KeyId, SessionId, StepPath, TenantId, Timestamp};

use crate::{Append, StoreError};

/// Whether a turn's next entries are taken only while the turn is at work: they change something. What undoes its work may do so later, too, but for
/// the session's memory, which is the next turn's by then. That it ends may be written at any time.
pub fn is_fenced(append: &Append) -> bool {
    let drawer = Drawer::Session(append.run.session.clone());
    let deltas = &append.changes.deltas;
    let is_the_sessions = |delta: &Delta| matches!(delta, Delta::Memory(change) if change.drawer == drawer);
    let is_undoing = |entry: &Entry| match &entry.event {
        Event::StepCompleted { step, .. } | Event::Checkpoint { step, .. } | Event::Emitted { node: step, .. } => {
            Node::is_undoing(step, &StepPath::root())
        }
        Event::ContextMerged(_) => false,
        _ => true,
    };
    let undoes = append.entries.iter().all(is_undoing);
    match undoes {
        _ if handed_on(&append.entries).next().is_some() => true,
        true => deltas.iter().any(is_the_sessions),
        false => !deltas.is_empty(),
    }
}

/// Whether a run that is no turn writes into its session's memory by these entries. It may belong to a turn, as its child: then it writes only while
/// the session is not over, and was not taken back to before that turn.
pub fn writes_beside(append: &Append) -> bool {
    let drawer = Drawer::Session(append.run.session.clone());
    let mut deltas = append.changes.deltas.iter();
    append.run.turn.is_none()
        && append.run.parent.is_some()
        && deltas.any(|delta| matches!(delta, Delta::Memory(change) if change.drawer == drawer))
}

/// How many runs up from a child its turn is looked for: deeper than any may be.
pub const MAX_UP: usize = 64;

/// How a turn's entries hand its session's conversation on: that of the document's own node, whatever other conversations stand below it.
pub fn handed_on(entries: &[Entry]) -> impl Iterator<Item = &HandedOff> {
    entries.iter().filter_map(|entry| match &entry.event {
        Event::HandedOff(handed) if handed.node == StepPath::root() => Some(handed.as_ref()),
        _ => None,
    })
}

/// Whether a turn's entries say that its session's conversation is with whoever holds it first: nobody went on with it for too long, or who held it may not
/// hold it any more.
pub fn begins_anew(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| match &entry.event {
        Event::NodeDecided { node, decided: Decided::Holds(holds) } => *node == StepPath::root() && holds.since == 0,
        _ => false,
    })
}

/// Which place in its session a run begins in by these entries; none: it began before, or is no turn.
pub fn place(entries: &[Entry]) -> Option<Place> {
    match &entries.first()?.event {
        Event::RunStarted(started) => started.turn,
        _ => None,
    }
}

/// Which sessions a list shows.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Those that stand so.
    pub standing: Option<Standing>,
    /// Those that this key opened, or takes part in.
    pub of: Option<KeyId>,
    /// Opened before this one, as `(opened_at, id)`; the newest first.
    pub before: Option<(Timestamp, SessionId)>,
    /// At most so many.
    pub limit: u32,
}

/// For those who read sessions.
#[async_trait]
pub trait ReadSessions: Send + Sync {
    /// A session.
    async fn session(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<Session>, StoreError>;

    /// A tenant's sessions, those first that were opened last.
    async fn sessions(&self, tenant: &TenantId, filter: &SessionFilter) -> Result<Vec<Session>, StoreError>;

    /// A session's turns after number `after`, in order, at most `limit`.
    async fn turns(&self, tenant: &TenantId, id: &SessionId, after: u32, limit: u32) -> Result<Vec<Turn>, StoreError>;

    /// A session's turns that began after `after`, and before `before`, where these are said, and count; those first that began last, at most `limit`.
    async fn begun(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        after: Option<Epoch>,
        before: Option<Epoch>,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError>;

    /// What keys of a session's memory held after the turn that began so that were changed since, in their order; none: nothing. It is kept of the last
    /// [`ltmc_model::session::MAX_BACK`] turns; what came to its end since is told all the same. At most `limit`, and about so many bytes.
    async fn changed_since(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        began: Epoch,
        most: (u32, usize),
    ) -> Result<Vec<(String, Option<MemoryValue>)>, StoreError>;

    /// What a session's memory held after the turn that began so, by its keys in their order; at most as much.
    async fn memory_after(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        began: Epoch,
        most: (u32, usize),
    ) -> Result<Vec<(String, MemoryValue)>, StoreError>;

    /// The document that a session's memory was archived as; none: it was not.
    async fn archive(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<String>, StoreError>;

    /// How many turns of a key wait in a session.
    async fn waiting_turns(&self, tenant: &TenantId, id: &SessionId, by: &KeyId) -> Result<u32, StoreError>;

    /// Tenants with sessions about which something is to be done by `by`, by name, after `after`: each with when that is first. At most
    /// `limit`. Neither how many sessions a tenant has makes a difference, nor how many tenants have some about which nothing is to be done by then.
    async fn coming_sessions(
        &self,
        by: Timestamp,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, Timestamp)>, StoreError>;

    /// A tenant's sessions about which something is to be done by `now`, those first that are due the longest; after the one that is due then and has
    /// this id, at most `limit`.
    async fn due_sessions(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        after: Option<&(Timestamp, SessionId)>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError>;
}
