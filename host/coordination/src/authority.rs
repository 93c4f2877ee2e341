//! What holds now: who may, what an agent is granted, what its tenant's ceiling is.
//!
//! Invariants: every use case asks [`Authority::authorize`] first; a refusal is in the ledger. What is remembered of the
//! catalog is forgotten for a tenant as soon as anything of it changes, before the change is acknowledged: a grant that is
//! taken back is not there at the very next host call.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use ltmc_model::agent::{Agent, AgentRef};
use ltmc_model::caller::Caller;
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Act, Change};
use ltmc_model::tenancy::Ceiling;
use ltmc_model::{AgentName, KeyId, TenantId, WorkflowName};
use ltmc_policy::{Action, InForce};
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_ports::{Clock, ReadCatalog, StoreError, WriteCatalog};
use moka::sync::Cache;

use crate::Error;

/// How many things are remembered of each kind.
const REMEMBERED: u64 = 100_000;

/// How many bytes of workflows' documents are remembered.
const MAX_DOCUMENTS: u64 = 16 << 20;

/// What holds now.
pub struct Authority {
    read: Arc<dyn ReadCatalog>,
    write: Arc<dyn WriteCatalog>,
    clock: Arc<dyn Clock>,
    /// Counts the changes of each tenant's catalog.
    generations: DashMap<TenantId, u64>,
    ceilings: Cache<TenantId, At<Ceiling>>,
    in_force: Cache<(TenantId, AgentName), At<InForce>>,
    agents: Cache<(TenantId, AgentRef), At<Agent>>,
    workflows: Cache<(TenantId, WorkflowName), At<StoredWorkflow>>,
    /// Refusals recorded a moment ago: a client that asks again and again does not fill the ledger.
    refused: Cache<(KeyId, Action), ()>,
}

/// What was found, and when.
struct At<T> {
    generation: u64,
    value: Arc<T>,
}

impl<T> Clone for At<T> {
    fn clone(&self) -> Self {
        Self { generation: self.generation, value: self.value.clone() }
    }
}

impl Authority {
    /// Over this catalog.
    pub fn new(read: Arc<dyn ReadCatalog>, write: Arc<dyn WriteCatalog>, clock: Arc<dyn Clock>) -> Self {
        Self {
            read,
            write,
            clock,
            generations: DashMap::new(),
            ceilings: Cache::new(REMEMBERED),
            in_force: Cache::new(REMEMBERED),
            agents: Cache::new(REMEMBERED),
            // A document has up to 1 MiB: their bytes are what is counted.
            workflows: Cache::builder()
                .max_capacity(MAX_DOCUMENTS)
                .weigher(|_, found: &At<StoredWorkflow>| u32::try_from(found.value.source.len()).unwrap_or(u32::MAX))
                .build(),
            refused: Cache::builder().max_capacity(REMEMBERED).time_to_live(Duration::from_secs(1)).build(),
        }
    }

    /// Whether a caller may; a refusal is recorded.
    ///
    /// # Errors
    /// [`Error::Denied`], saying which roles may.
    pub async fn authorize(&self, caller: &Caller, action: Action) -> Result<(), Error> {
        let Err(denied) = ltmc_policy::authorize(caller, action) else { return Ok(()) };
        metrics::counter!("ltmc_refusals_total").increment(1);
        let place = (caller.key.clone(), action);
        if self.refused.get(&place).is_none() {
            self.refused.insert(place, ());
            let change = Change::Refused { action: action.to_string(), why: denied.to_string() };
            if let Err(error) = self.act(&caller.tenant, Some(&caller.key), change).await {
                tracing::warn!(tenant = %caller.tenant, %error, "a refusal could not be recorded");
            }
        }
        Err(Error::Denied { why: denied.to_string() })
    }

    /// Records an act, makes it true, and forgets what it may have changed.
    ///
    /// # Errors
    /// The record's.
    pub async fn act(&self, tenant: &TenantId, by: Option<&KeyId>, change: Change) -> Result<(), StoreError> {
        self.act_with(tenant, by, change, Vec::new()).await
    }

    /// The same, with what of the tenant's shared context changes by it.
    ///
    /// # Errors
    /// The record's.
    pub async fn act_with(
        &self,
        tenant: &TenantId,
        by: Option<&KeyId>,
        change: Change,
        deltas: Vec<Delta>,
    ) -> Result<(), StoreError> {
        let about = match &change {
            Change::CeilingSet { tenant, .. } => tenant.clone(),
            _ => tenant.clone(),
        };
        let catalog = !matches!(change, Change::Context { .. });
        let act = Act { by: by.cloned(), change };
        let done = self.write.act_with(tenant, self.clock.now(), act, deltas).await;
        // After the change is true and before anybody learns of it; also when it failed, for it may have happened.
        if catalog {
            *self.generations.entry(about).or_default() += 1;
        }
        done
    }

    /// A tenant's ceiling.
    ///
    /// # Errors
    /// The record's.
    pub async fn ceiling(&self, tenant: &TenantId) -> Result<Arc<Ceiling>, StoreError> {
        let generation = self.generation(tenant);
        if let Some(found) = self.ceilings.get(tenant).filter(|found| found.generation == generation) {
            return Ok(found.value);
        }
        let value = Arc::new(self.read.ceiling(tenant).await?);
        self.ceilings.insert(tenant.clone(), At { generation, value: value.clone() });
        Ok(value)
    }

    /// What is in force for an agent.
    ///
    /// # Errors
    /// The record's.
    pub async fn in_force(&self, tenant: &TenantId, agent: &AgentName) -> Result<Arc<InForce>, StoreError> {
        let generation = self.generation(tenant);
        let place = (tenant.clone(), agent.clone());
        if let Some(found) = self.in_force.get(&place).filter(|found| found.generation == generation) {
            return Ok(found.value);
        }
        let ceiling = self.ceiling(tenant).await?;
        let grants = self.read.grants(tenant, agent).await?;
        let value = Arc::new(InForce::new(grants, ceiling.capabilities.clone()));
        self.in_force.insert(place, At { generation, value: value.clone() });
        Ok(value)
    }

    /// A version of an agent.
    ///
    /// # Errors
    /// The record's.
    pub async fn agent(&self, tenant: &TenantId, agent: &AgentRef) -> Result<Option<Arc<Agent>>, StoreError> {
        let generation = self.generation(tenant);
        let place = (tenant.clone(), agent.clone());
        if let Some(found) = self.agents.get(&place).filter(|found| found.generation == generation) {
            return Ok(Some(found.value));
        }
        let Some(found) = self.read.agent(tenant, &agent.name, agent.digest.as_ref()).await? else { return Ok(None) };
        let value = Arc::new(found);
        self.agents.insert(place, At { generation, value: value.clone() });
        Ok(Some(value))
    }

    /// A workflow.
    ///
    /// # Errors
    /// The record's.
    pub async fn workflow(
        &self,
        tenant: &TenantId,
        name: &WorkflowName,
    ) -> Result<Option<Arc<StoredWorkflow>>, StoreError> {
        let generation = self.generation(tenant);
        let place = (tenant.clone(), name.clone());
        if let Some(found) = self.workflows.get(&place).filter(|found| found.generation == generation) {
            return Ok(Some(found.value));
        }
        let Some(found) = self.read.workflow(tenant, name).await? else { return Ok(None) };
        let value = Arc::new(found);
        self.workflows.insert(place, At { generation, value: value.clone() });
        Ok(Some(value))
    }

    fn generation(&self, tenant: &TenantId) -> u64 {
        self.generations.get(tenant).map_or(0, |generation| *generation)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}
