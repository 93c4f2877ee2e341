//! Questions that runs ask: written with the journal alone, read here.

use async_trait::async_trait;
use ltmc_model::caller::Role;
use ltmc_model::question::{Asked, Token};
use ltmc_model::{KeyId, TenantId, Timestamp};

use crate::StoreError;

/// Which open questions a list shows.
#[derive(Debug, Clone, Default)]
pub struct QuestionFilter {
    /// To these roles.
    pub of: Vec<Role>,
    /// Of runs that this key started.
    pub by: Option<KeyId>,
    /// Asked later than this one.
    pub after: Option<(Timestamp, Token)>,
    /// At most so many.
    pub limit: u32,
}

/// For those who answer. Rows follow the journal, in its own transaction: a question is there once it was asked, and open until it was
/// answered or withdrawn, or its run is over.
#[async_trait]
pub trait ReadQuestions: Send + Sync {
    /// A question, whatever became of it.
    async fn question(&self, tenant: &TenantId, token: &Token) -> Result<Option<Asked>, StoreError>;

    /// Open questions, those first that were asked first; without what they show.
    async fn questions(&self, tenant: &TenantId, filter: &QuestionFilter) -> Result<Vec<Asked>, StoreError>;
}
