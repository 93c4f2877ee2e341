//! The port of what follows from events: which runs an event started, and which events followed from it.
//!
//! Invariants: what is kept of an event goes with the event, when the log is thrown away by its age. All of it is written in the transactions that
//! publish an event and start a run.

use async_trait::async_trait;
use ltmc_model::message::{Published, Topic};
use ltmc_model::trigger::{Stage, TriggerId};
use ltmc_model::{Position, Revision, RunId, TenantId};

use crate::StoreError;

/// What a subscription made of an event: a run that it started, or where the event stands that is not dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The subscription.
    pub by: TriggerId,
    /// The run that it started; none: see `stands`.
    pub run: Option<RunId>,
    /// How far the event is, and why it is a dead letter; none: it is dealt with, or its run is under way.
    pub stands: Option<(Stage, Option<String>)>,
}

/// For those who look at what followed from an event.
#[async_trait]
pub trait ReadCascades: Send + Sync {
    /// An event of a topic, by the id of its message.
    async fn event(&self, tenant: &TenantId, id: Revision) -> Result<Option<(Topic, Published)>, StoreError>;

    /// Events that followed from one at once (its `SOURCE ID`), in order, after this place.
    async fn following(
        &self,
        tenant: &TenantId,
        cause: &str,
        after: Position,
        limit: u32,
    ) -> Result<Vec<(Topic, Published)>, StoreError>;

    /// What subscriptions made of the event at this place: runs that they started, the oldest first, then where it waits or is a dead letter.
    async fn made_of(&self, tenant: &TenantId, position: Position, limit: u32) -> Result<Vec<Made>, StoreError>;
}
