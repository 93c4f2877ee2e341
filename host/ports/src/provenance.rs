//! Where things come from, asked of a run's steps and of a tenant's runs.

use async_trait::async_trait;
use ltmc_model::TenantId;
use ltmc_model::provenance::{Dependents, DependentsOf, RunsOf, RunsPage};

use crate::StoreError;

/// For those who ask. What another tenant has is not there.
#[async_trait]
pub trait ReadProvenance: Send + Sync {
    /// What depends on a step; nothing where there is no such run.
    async fn dependents(&self, tenant: &TenantId, of: &DependentsOf) -> Result<Dependents, StoreError>;

    /// Runs of which an agent did a step, the newest first.
    async fn runs_of(&self, tenant: &TenantId, of: &RunsOf) -> Result<RunsPage, StoreError>;
}
