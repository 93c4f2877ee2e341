//! The catalog's ports: tenants, keys, agents, grants, workflows. Every write is an act in a ledger: the catalog is what
//! the ledger's entries add up to, and both are one commit.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::agent::{Agent, Grants};
use ltmc_model::journal::Act;
use ltmc_model::tenancy::{Ceiling, DiskUsage, Key, Tenant};
use ltmc_model::{AgentName, Digest, KeyId, TenantId, Timestamp, WorkflowName};

use crate::{Changes, StoreError};

/// A workflow as the catalog keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWorkflow {
    /// Its name.
    pub name: WorkflowName,
    /// As it was sent.
    pub source: String,
    /// Of the source.
    pub digest: Digest,
    /// When it was put.
    pub updated_at: Timestamp,
}

/// For use cases that change the catalog.
#[async_trait]
pub trait WriteCatalog: Send + Sync {
    /// Records an act in the tenant's ledger and makes it true; durable when it returns.
    ///
    /// # Errors
    /// `Conflict` where what would be created is there already.
    async fn act(&self, tenant: &TenantId, at: Timestamp, act: Act) -> Result<(), StoreError> {
        self.act_with(tenant, at, act, Changes::default()).await
    }

    /// The same, with what of the tenant's shared context changes by it, and what the act was decided on.
    ///
    /// # Errors
    /// `Conflict` where what would be created is there already, `Stale` where an expectation does not hold.
    async fn act_with(&self, tenant: &TenantId, at: Timestamp, act: Act, changes: Changes) -> Result<(), StoreError>;
}

/// What deleted tenants left. From the act on with which a tenant is deleted nothing of it is written any more: whoever tries is
/// fenced off.
#[async_trait]
pub trait Purge: Send + Sync {
    /// Tenants that are deleted and of which something is left.
    async fn deleted(&self) -> Result<Vec<TenantId>, StoreError>;

    /// Throws away a piece of what a deleted tenant left besides its chain's end; whether there may be more.
    async fn purge(&self, tenant: &TenantId) -> Result<bool, StoreError>;

    /// Tenants that were deleted and of which nothing is left, and since when: those of the same name since then are others.
    async fn gone(&self) -> Result<BTreeMap<TenantId, Timestamp>, StoreError>;
}

/// For those who read it. Lists are in the order of names, after `after`, at most `limit`.
#[async_trait]
pub trait ReadCatalog: Send + Sync {
    /// A tenant.
    async fn tenant(&self, name: &TenantId) -> Result<Option<Tenant>, StoreError>;
    /// All tenants.
    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError>;
    /// A tenant's ceiling; the default one where none was set.
    async fn ceiling(&self, tenant: &TenantId) -> Result<Ceiling, StoreError>;
    /// A key, by its public half.
    async fn key(&self, id: &KeyId) -> Result<Option<Key>, StoreError>;
    /// A tenant's keys.
    async fn keys(&self, tenant: &TenantId, after: Option<&KeyId>, limit: u32) -> Result<Vec<Key>, StoreError>;
    /// An agent: the version with this digest, or the newest.
    async fn agent(
        &self,
        tenant: &TenantId,
        name: &AgentName,
        digest: Option<&Digest>,
    ) -> Result<Option<Agent>, StoreError>;
    /// The newest version of each of a tenant's agents.
    async fn agents(&self, tenant: &TenantId, after: Option<&AgentName>, limit: u32) -> Result<Vec<Agent>, StoreError>;
    /// What a version of an agent was granted.
    async fn grants(&self, tenant: &TenantId, agent: &AgentName, version: &Digest) -> Result<Grants, StoreError>;
    /// The versions of an agent that were granted anything, and what.
    async fn granted_versions(&self, tenant: &TenantId, agent: &AgentName)
    -> Result<Vec<(Digest, Grants)>, StoreError>;
    /// A workflow.
    async fn workflow(&self, tenant: &TenantId, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError>;
    /// A tenant's workflows, without their documents: `source` is empty.
    async fn workflows(
        &self,
        tenant: &TenantId,
        after: Option<&WorkflowName>,
        limit: u32,
    ) -> Result<Vec<StoredWorkflow>, StoreError>;
    /// How much a tenant has on disk, and may have.
    async fn disk_usage(&self, tenant: &TenantId) -> Result<DiskUsage, StoreError>;
    /// The components of an agent's versions.
    async fn versions(&self, tenant: &TenantId, name: &AgentName) -> Result<Vec<Digest>, StoreError>;
    /// Whether any tenant has an agent with this component, in any of its versions. A run that is suspended finds its agents here when
    /// it goes on: one whose agent was deleted meanwhile has no use for the component either.
    async fn component_in_use(&self, digest: &Digest) -> Result<bool, StoreError>;
}
