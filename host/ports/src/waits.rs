//! What runs wait for in topics: written with the journal alone, read here.

use async_trait::async_trait;
use ltmc_model::message::{Events, Topic};
use ltmc_model::{Position, TenantId};

use crate::{Bus, StoreError};

/// For runs that wait for events: the topics as the record has them, and who else waits there. Rows follow the journal, in its own
/// transaction; with an event that a suspended run may wait for, its row says that it goes on.
#[async_trait]
pub trait Waits: Bus {
    /// Events of a topic after a place, in order: those of this subject. Others may be among them.
    async fn events_about(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        subject: &str,
        after: Position,
        limit: u32,
    ) -> Result<Events, StoreError>;

    /// How many runs wait for events of this subject, or of any; not counted further than `most`.
    async fn waiting(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        subject: Option<&str>,
        most: u32,
    ) -> Result<u32, StoreError>;
}
