//! The conversation whose turn a run is, as the crossing asks for it: who knows what a run is looks it up.

use async_trait::async_trait;
use std::time::Duration;

use ltmc_model::hand_off::{Handed, Holder};
use ltmc_model::session::Exchange;

use crate::StoreError;

/// Who holds the conversation as a turn begins.
#[derive(Debug, Clone)]
pub struct Held {
    /// The agent that holds it, and whom it came from.
    pub holder: Holder,
    /// How it came to that one; none: a person handed it on, or nobody knows any more.
    pub handed: Option<Handed>,
    /// How long it had no turn.
    pub idle: Duration,
}

/// What was said before one turn.
#[async_trait]
pub trait Conversation: Send + Sync {
    /// The last turns before it, and after turn `after`, that are over, in their order: at most `last` of them, and the newest that have
    /// [`ltmc_model::session::MAX_TOLD_BYTES`] together, but one at least. Empty for what is no turn.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    async fn history(&self, last: u32, after: u32) -> Result<Vec<Exchange>, StoreError>;

    /// Who holds it as the turn begins; none: whoever is to hold it first, or it is no turn.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    async fn held(&self) -> Result<Option<Held>, StoreError>;
}
