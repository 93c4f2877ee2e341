//! Judging by JSON Schema.

use async_trait::async_trait;
use ltmc_model::Payload;
use ltmc_model::failure::Failure;

use crate::runner::Violation;

/// A schema that cannot be judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Which of those that were looked at, from 0 on; none: that is not known.
    pub number: Option<usize>,
    /// Why, and what would be right.
    pub why: String,
}

/// Who judges. Both take bounded time and memory, whatever the schema and the output are; whoever drops the future lets go of both.
#[async_trait]
pub trait Schemas: Send + Sync {
    /// The first of these schemas, in JSON, that cannot be judged by.
    ///
    /// # Errors
    /// The host's own trouble.
    async fn check(&self, schemas: &[String]) -> Result<Option<Unusable>, Failure>;

    /// What is wrong with an output; nothing: it is good.
    ///
    /// # Errors
    /// Where judging takes too much time or memory, or the host has trouble of its own.
    async fn judge(&self, schema: &str, output: &Payload) -> Result<Vec<Violation>, Failure>;
}
