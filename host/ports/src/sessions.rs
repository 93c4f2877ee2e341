//! The port of sessions: which there are, and which turns they had.
//!
//! Invariants: a session is opened, closed and expired by acts; its turns follow the journals of their runs. That a turn begins, waits or is over,
//! and what that makes of its session ([`ltmc_model::session::Session`]), is one commit with the run's entries: a run whose session has no
//! place for it is refused as `Conflict`, and one whose turn is not at work changes nothing (`Displaced`). Where a turn is over the next one
//! begins: its run is due in the same transaction. Of those that wait the first of the key that had its turn the longest ago is next.

use async_trait::async_trait;
use ltmc_model::session::{Session, Standing, Turn};
use ltmc_model::{KeyId, SessionId, TenantId, Timestamp};

use crate::StoreError;

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

    /// Sessions of all tenants about which something is to be done by `now`, those first that are due the longest; at most `limit`.
    async fn due_sessions(&self, now: Timestamp, limit: u32) -> Result<Vec<Session>, StoreError>;

    /// When something is to be done about a session next.
    async fn next_due_session(&self) -> Result<Option<Timestamp>, StoreError>;
}
