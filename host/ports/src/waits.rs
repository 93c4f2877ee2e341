//! What runs wait for in topics: written with the journal alone, read here.

use async_trait::async_trait;
use ltmc_model::TenantId;
use ltmc_model::message::Topic;

use crate::{Bus, StoreError};

/// For runs that wait for events: the topics as the record has them, and who else waits there. Rows follow the journal, in its own
/// transaction; with an event that a suspended run may wait for, its row says that it goes on.
#[async_trait]
pub trait Waits: Bus {
    /// How many runs wait for events of this subject, or of any; not counted further than `most`.
    async fn waiting(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        subject: Option<&str>,
        most: u32,
    ) -> Result<u32, StoreError>;
}
