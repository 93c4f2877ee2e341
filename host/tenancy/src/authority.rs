//! What holds now: who may, what an agent is granted, what its tenant's ceiling is.
//!
//! Invariants: every use case asks [`Authority::authorize`] first; a refusal is in the ledger. One that changes anything goes
//! through [`Authority::perform`], which asks and then has it done on a task of the host's: a client that goes away drops only
//! its answer. What is remembered of the catalog is forgotten for a tenant as soon as anything of it changes, before the
//! change is acknowledged: a key or a grant that is taken back is not there at the very next call.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::agent::{Agent, AgentRef};
use ltmc_model::caller::Caller;
use ltmc_model::journal::{Act, Change};
use ltmc_model::tenancy::{Ceiling, Key};
use ltmc_model::{AgentName, Digest, KeyId, TenantId, WorkflowName};
use ltmc_policy::{Action, Denied, InForce};
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_ports::{Changes, Clock, ReadCatalog, StoreError, WriteCatalog};
use moka::sync::Cache;
use tokio::sync::futures::Notified;

use crate::generations::{Changing, Generations};
use crate::reads::{Reads, Told};
use crate::{Error, Read, Tasks};

/// How many things are remembered of each kind.
const REMEMBERED: u64 = 100_000;

/// How many of a tenant's agents are listed where one is to be chosen among all.
const LISTED: usize = 500;
/// Of how many tenants the list of agents is remembered.
const LISTS: u64 = 1_000;

/// How long a key is believed that nothing here has changed: another host on the same record may have taken it back.
pub(crate) const KEY_BELIEVED: Duration = Duration::from_secs(10);

/// How many bytes of workflows' documents are remembered.
const MAX_DOCUMENTS: u64 = 16 << 20;

/// What holds now.
pub struct Authority {
    read: Arc<dyn ReadCatalog>,
    write: Arc<dyn WriteCatalog>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    generations: Arc<Generations>,
    keys: Cache<KeyId, At<Key>>,
    ceilings: Cache<TenantId, At<Ceiling>>,
    in_force: Cache<(TenantId, AgentName, Digest), At<InForce>>,
    agents: Cache<(TenantId, AgentRef), At<Agent>>,
    lists: Cache<TenantId, At<Vec<AgentRef>>>,
    workflows: Cache<(TenantId, WorkflowName), At<StoredWorkflow>>,
    /// Refusals recorded a moment ago: a client that asks again and again does not fill the ledger.
    refused: Cache<(KeyId, Action), ()>,
    /// Keys with which somebody came in vain a moment ago.
    wrong: Cache<KeyId, ()>,
    reads: Reads,
}

/// What was found, and in which generation of its tenant's catalog.
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
            tasks: Tasks::default(),
            generations: Arc::default(),
            // bound: what is remembered
            keys: Cache::builder().max_capacity(REMEMBERED).time_to_live(KEY_BELIEVED).build(),
            // bound: what is remembered
            ceilings: Cache::new(REMEMBERED),
            // bound: what is remembered
            in_force: Cache::new(REMEMBERED),
            // bound: what is remembered
            agents: Cache::new(REMEMBERED),
            // bound: what is remembered
            lists: Cache::new(LISTS),
            workflows: documents(),
            reads: Reads::default(),
            // bound: what is remembered
            wrong: Cache::builder().max_capacity(REMEMBERED).time_to_live(Duration::from_secs(60)).build(),
            // bound: what is remembered
            refused: Cache::builder().max_capacity(REMEMBERED).time_to_live(Duration::from_secs(60)).build(),
        }
    }

    /// Whether a caller may; a refusal is recorded, also where who was refused goes away.
    ///
    /// # Errors
    /// [`Error::Denied`], saying which roles may.
    pub async fn authorize(self: &Arc<Self>, caller: &Caller, action: Action) -> Result<(), Error> {
        match ltmc_policy::authorize(caller, action) {
            Ok(()) => Ok(()),
            Err(denied) => Err(self.refuse(caller, denied).await),
        }
    }

    /// Whether a key's role may all of this, for what is done as if by it after it asked.
    ///
    /// # Errors
    /// [`Error::Denied`], saying which roles may.
    pub async fn may_all(&self, key: &KeyId, tenant: &TenantId, needs: &[Action]) -> Result<(), Error> {
        if needs.is_empty() {
            return Ok(());
        }
        let found = self.key(key).await?.ok_or(Error::Unauthorized)?;
        let caller = Caller { tenant: tenant.clone(), key: key.clone(), role: found.role, cause: None };
        let denied = needs.iter().find_map(|action| ltmc_policy::authorize(&caller, *action).err());
        denied.map_or(Ok(()), |denied| Err(Error::Denied { why: denied.to_string() }))
    }

    /// What a caller is told that policy refuses, which is recorded.
    pub async fn refuse(self: &Arc<Self>, caller: &Caller, denied: Denied) -> Error {
        let action = denied.action;
        metrics::counter!("ltmc_refusals_total").increment(1);
        let place = (caller.key.clone(), action);
        if self.refused.get(&place).is_none() {
            self.refused.insert(place, ());
            let change = Change::Refused { action: action.to_string(), why: denied.to_string() };
            let (authority, by) = (self.clone(), caller.clone());
            let record = async move { Ok(authority.act(&by.tenant, Some(&by.key), change).await?) };
            if let Err(error) = self.tasks.own(&caller.tenant, record).await {
                tracing::warn!(tenant = %caller.tenant, %error, "a refusal could not be recorded");
            }
        }
        Error::Denied { why: denied.to_string() }
    }

    /// Records that somebody came with a key that is not good, where its tenant sees it: once a minute for a key, for anybody
    /// can try, and by a task of the host's, for an answer that takes longer would say that there is such a key.
    pub(crate) fn came_in_vain(self: &Arc<Self>, tenant: &TenantId, key: &KeyId, why: &'static str) {
        metrics::counter!("ltmc_wrong_keys_total").increment(1);
        if self.wrong.get(key).is_some() {
            return;
        }
        self.wrong.insert(key.clone(), ());
        let change = Change::Refused { action: "come in".to_owned(), why: format!("{why} (key {key})") };
        let (authority, tenant) = (self.clone(), tenant.clone());
        self.tasks.detach(&tenant.clone(), async move {
            if let Err(error) = authority.act(&tenant, None, change).await {
                tracing::warn!(%tenant, %error, "a wrong key could not be recorded");
            }
        });
    }

    /// Counts a read of what is not the key's own, where the audit of `tenant` tells of it. Nobody waits for that, and a read whose
    /// number cannot be written is answered all the same.
    pub fn note_read(self: &Arc<Self>, tenant: &TenantId, by: &KeyId, read: Read) {
        let Some(told) = self.reads.count(tenant, by, read, self.clock.now()) else { return };
        let (authority, of) = (self.clone(), tenant.clone());
        self.tasks.detach(tenant, async move { authority.tell_read(&of, told).await });
    }

    /// Writes how many reads there were in hours that are over; `all`: also in those that are not.
    pub async fn tell_reads(&self, all: bool) {
        for (tenant, told) in self.reads.take(self.clock.now(), all) {
            self.tell_read(&tenant, told).await;
        }
    }

    async fn tell_read(&self, tenant: &TenantId, Told { by, read, times }: Told) {
        let change = Change::Accessed { what: read.as_str().to_owned(), times };
        if let Err(error) = self.act(tenant, by.as_ref(), change).await {
            tracing::warn!(%tenant, %error, what = read.as_str(), times, "reads could not be recorded");
        }
    }

    /// What every use case goes through that changes anything: asks whether the caller may, and then does `work` to its end on
    /// a task of the host's.
    ///
    /// # Errors
    /// As [`Self::authorize`] and [`Tasks::own`].
    pub async fn perform<T, W>(self: &Arc<Self>, caller: &Caller, action: Action, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.authorize(caller, action).await?;
        self.tasks.own(&caller.tenant, work).await
    }

    /// The tasks of what is performed.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Records an act, makes it true, and forgets what it may have changed.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses the change.
    pub async fn act(&self, tenant: &TenantId, by: Option<&KeyId>, change: Change) -> Result<(), StoreError> {
        self.act_with(tenant, by, change, Changes::default()).await
    }

    /// The same, with what of the tenant's shared context changes by it, and what the act was decided on.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses the change.
    pub async fn act_with(
        &self,
        tenant: &TenantId,
        by: Option<&KeyId>,
        change: Change,
        changes: Changes,
    ) -> Result<(), StoreError> {
        // Until it is known what became of it, nothing of the catalog is believed but what the record says.
        let _changing = match change {
            Change::Context { .. } | Change::Refused { .. } | Change::Accessed { .. } => None,
            _ => Some(self.generations.change(tenant)),
        };
        self.write.act_with(tenant, self.clock.now(), Act { by: by.cloned(), change }, changes).await
    }

    /// Until it is dropped nothing is believed of a tenant's catalog but what the record says: somebody else's act changes it.
    pub(crate) fn changing(&self, tenant: &TenantId) -> Changing {
        self.generations.change(tenant)
    }

    /// The next change of any tenant's keys, grants, or whatever else is remembered.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.generations.news()
    }

    /// A key that was looked up a moment ago, and has not changed here since.
    pub(crate) fn remembered_key(&self, id: &KeyId) -> Option<Arc<Key>> {
        let found = self.keys.get(id)?;
        (self.generations.now(&found.value.tenant) == Some(found.generation)).then_some(found.value)
    }

    /// A key, by its public half.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn key(&self, id: &KeyId) -> Result<Option<Arc<Key>>, StoreError> {
        if let Some(found) = self.remembered_key(id) {
            return Ok(Some(found));
        }
        let Some(key) = self.read.key(id).await? else { return Ok(None) };
        // Only now it is known whose it is: it is read again, in a generation of that tenant's.
        let Some(generation) = self.generations.now(&key.tenant) else { return Ok(Some(Arc::new(key))) };
        let Some(key) = self.read.key(id).await? else { return Ok(None) };
        Ok(Some(remember(&self.keys, id.clone(), Some(generation), key)))
    }

    /// Whether a caller's key is good still, where what it asked for has taken long.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] where it was taken back, or has expired.
    pub(crate) async fn still_good(&self, caller: &Caller) -> Result<(), Error> {
        // Who is a caller had a key that was good: one that is not known is the host's own.
        match self.key(&caller.key).await? {
            Some(key) if !self.is_good(&key) => Err(Error::Unauthorized),
            Some(_) | None => Ok(()),
        }
    }

    /// Who comes with a key of a tenant's, for what goes on in its name where nobody comes. The inner error: why nothing goes on in
    /// its name any more.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn standing(&self, tenant: &TenantId, id: &KeyId) -> Result<Result<Caller, String>, StoreError> {
        let found = self.key(id).await?.filter(|key| key.tenant == *tenant);
        Ok(match found {
            None => Err(format!("there is no key `{id}` any more")),
            Some(key) if key.revoked_at.is_some() => Err(format!("the key `{id}` was taken back")),
            Some(key) if !self.is_good(&key) => Err(format!("the key `{id}` has expired")),
            Some(key) => Ok(Caller { tenant: tenant.clone(), key: id.clone(), role: key.role, cause: None }),
        })
    }

    pub(crate) fn is_good(&self, key: &Key) -> bool {
        key.revoked_at.is_none() && key.expires_at.is_none_or(|at| self.clock.now() < at)
    }

    /// A tenant's ceiling.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn ceiling(&self, tenant: &TenantId) -> Result<Arc<Ceiling>, StoreError> {
        let generation = self.generations.now(tenant);
        if let Some(found) = remembered(&self.ceilings, tenant, generation) {
            return Ok(found);
        }
        let ceiling = self.read.ceiling(tenant).await?;
        Ok(remember(&self.ceilings, tenant.clone(), generation, ceiling))
    }

    /// What is in force for a version of an agent.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn in_force(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        version: &Digest,
    ) -> Result<Arc<InForce>, StoreError> {
        let generation = self.generations.now(tenant);
        let place = (tenant.clone(), agent.clone(), *version);
        if let Some(found) = remembered(&self.in_force, &place, generation) {
            return Ok(found);
        }
        let ceiling = self.ceiling(tenant).await?;
        let grants = self.read.grants(tenant, agent, version).await?;
        let in_force = InForce::new(grants.capabilities, ceiling.capabilities.clone());
        Ok(remember(&self.in_force, place, generation, in_force))
    }

    /// A version of an agent.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn agent(&self, tenant: &TenantId, agent: &AgentRef) -> Result<Option<Arc<Agent>>, StoreError> {
        let generation = self.generations.now(tenant);
        let place = (tenant.clone(), agent.clone());
        if let Some(found) = remembered(&self.agents, &place, generation) {
            return Ok(Some(found));
        }
        let found = self.read.agent(tenant, &agent.name, agent.digest.as_ref()).await?;
        Ok(found.map(|found| remember(&self.agents, place, generation, found)))
    }

    /// The first 500 of a tenant's agents by their names, in their newest versions.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn agents(&self, tenant: &TenantId) -> Result<Arc<Vec<AgentRef>>, StoreError> {
        const PAGE: u32 = 100;
        let generation = self.generations.now(tenant);
        if let Some(found) = remembered(&self.lists, tenant, generation) {
            return Ok(found);
        }
        let mut agents: Vec<AgentRef> = Vec::new();
        loop {
            let after = agents.last().map(|last| &last.name);
            let page = self.read.agents(tenant, after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            agents.extend(page.into_iter().map(|agent| AgentRef { name: agent.name, digest: Some(agent.digest) }));
            if is_last || agents.len() >= LISTED {
                agents.truncate(LISTED);
                return Ok(remember(&self.lists, tenant.clone(), generation, agents));
            }
        }
    }

    /// A workflow.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn workflow(
        &self,
        tenant: &TenantId,
        name: &WorkflowName,
    ) -> Result<Option<Arc<StoredWorkflow>>, StoreError> {
        let generation = self.generations.now(tenant);
        let place = (tenant.clone(), name.clone());
        if let Some(found) = remembered(&self.workflows, &place, generation) {
            return Ok(Some(found));
        }
        let found = self.read.workflow(tenant, name).await?;
        Ok(found.map(|found| remember(&self.workflows, place, generation, found)))
    }
}

/// Documents of workflows. One has up to 1 MiB: their bytes are what is counted.
fn documents() -> Cache<(TenantId, WorkflowName), At<StoredWorkflow>> {
    // bound: what is remembered
    Cache::builder()
        .max_capacity(MAX_DOCUMENTS)
        .weigher(|_, found: &At<StoredWorkflow>| u32::try_from(found.value.source.len()).unwrap_or(u32::MAX))
        .build()
}

/// What was found in this very generation.
fn remembered<K, T>(cache: &Cache<K, At<T>>, place: &K, generation: Option<u64>) -> Option<Arc<T>>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    let generation = generation?;
    cache.get(place).filter(|found| found.generation == generation).map(|found| found.value)
}

/// Keeps what was found in a generation.
fn remember<K, T>(cache: &Cache<K, At<T>>, place: K, generation: Option<u64>, value: T) -> Arc<T>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    let value = Arc::new(value);
    if let Some(generation) = generation {
        cache.insert(place, At { generation, value: value.clone() });
    }
    value
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::Timestamp;

    use super::*;

    #[test]
    fn documents_are_remembered_up_to_so_many_bytes() {
        let (cache, tenant) = (documents(), "acme".parse::<TenantId>().unwrap());
        for number in 0..40 {
            let name: WorkflowName = format!("w{number}").parse().unwrap();
            let value = StoredWorkflow {
                name: name.clone(),
                source: "x".repeat(1 << 20),
                digest: Digest([0; 32]),
                updated_at: Timestamp::default(),
            };
            remember(&cache, (tenant.clone(), name), Some(1), value);
        }
        cache.run_pending_tasks();
        let (count, bytes) = (cache.entry_count(), cache.weighted_size());
        assert!((1..=16).contains(&count) && bytes <= MAX_DOCUMENTS, "{count} documents, {bytes} bytes");
    }
}
