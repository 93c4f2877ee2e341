//! Judging by JSON Schema.

use async_trait::async_trait;
use ltmc_model::failure::Failure;
use ltmc_model::{Payload, TenantId};

use crate::runner::Violation;

/// A schema that cannot be judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Which of those that were looked at, from 0 on; none: that is not known.
    pub number: Option<usize>,
    /// Why, and what would be right.
    pub why: String,
}

/// Who judges. Both take bounded time and memory, whatever the schema and the output are, once it is the tenant's turn: of what can be judged at
/// once no tenant has all, whoever asks for it. Whoever drops the future lets go of its turn, and of what it waits for.
#[async_trait]
pub trait Schemas: Send + Sync {
    /// The first of these schemas, in JSON, that cannot be judged by.
    ///
    /// # Errors
    /// Too much of the tenant's waits to be judged, or the host has trouble of its own.
    async fn check(&self, tenant: &TenantId, schemas: &[String]) -> Result<Option<Unusable>, Failure>;

    /// What is wrong with an output; nothing: it is good.
    ///
    /// # Errors
    /// As [`Self::check`], and where judging takes too much time or memory.
    async fn judge(&self, tenant: &TenantId, schema: &str, output: &Payload) -> Result<Vec<Violation>, Failure>;
}
