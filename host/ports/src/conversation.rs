//! The conversation whose turn a run is, as the crossing asks for it: who knows what a run is looks it up.

use async_trait::async_trait;
use ltmc_model::session::Exchange;

use crate::StoreError;

/// What was said before one turn.
#[async_trait]
pub trait Conversation: Send + Sync {
    /// The last turns before it that are over, in their order: at most `last` of them, and the newest that have
    /// [`ltmc_model::session::MAX_TOLD_BYTES`] together, but one at least. Empty for what is no turn.
    ///
    /// # Errors
    /// The record's.
    async fn history(&self, last: u32) -> Result<Vec<Exchange>, StoreError>;
}
