//! The port of agents' states as time goes by: which of them end by themselves, and when.
//!
//! Invariant: a timer follows what is kept of a state (`Kept::due`), in the transaction that writes it: so there is one where that says so, and none
//! otherwise, whoever wrote it.

use async_trait::async_trait;
use ltmc_model::delta::MemoryChange;
use ltmc_model::memory::Drawer;
use ltmc_model::state::{Kept, Timer};
use ltmc_model::{AgentName, TenantId, Timestamp};

use crate::StoreError;

/// The timer that a change of memory sets, and whose; none within: it sets none, and one that was there is gone. None: it is no change of a state.
pub fn timer(change: &MemoryChange) -> Option<(&AgentName, Option<Timestamp>)> {
    let Drawer::State(agent) = &change.drawer else { return None };
    let kept = change.value.as_ref().and_then(|value| Kept::from_bytes(&value.bytes).ok());
    Some((agent, kept.and_then(|kept| kept.due)))
}

/// For those who end states.
#[async_trait]
pub trait ReadStates: Send + Sync {
    /// Tenants with states that end by themselves, by name, after `after`: each with when the first of them does. At most `limit`. How many a tenant has makes
    /// no difference.
    async fn coming_states(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, Timestamp)>, StoreError>;

    /// A tenant's states that end by `now`, in the order of [`Timer`]; after this one, at most `limit`.
    async fn due_states(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, StoreError>;
}
