//! A shelf on which no component stands: for hosts whose agents are no components.

use async_trait::async_trait;
use bytes::Bytes;
use ltmc_model::{Digest, TenantId};

use crate::runner::{AdmitError, Components, Inspection};

/// Keeps no component anywhere, and takes none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoShelf;

#[async_trait]
impl Components for NoShelf {
    async fn admit(&self, _: &TenantId, _: Bytes) -> Result<Inspection, AdmitError> {
        Err(AdmitError::Failed { message: "nothing is pushed here".into() })
    }

    async fn remove(&self, _: &Digest) {}

    async fn kept(&self) -> Vec<Digest> {
        Vec::new()
    }
}
