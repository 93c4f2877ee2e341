//! Agents: pushed, granted, looked at, deleted.
//!
//! Invariants: a component is on the shelf before the catalog names it, and stays while the catalog or a run does. An
//! agent's grants are its name's, not a version's. Asking grants nothing. What changes anything does so on a task of the host's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ltmc_model::agent::{Agent, AgentRef};
use ltmc_model::caller::Caller;
use ltmc_model::journal::Change;
use ltmc_model::manifest::Manifest;
use ltmc_model::{AgentName, Capability, Digest, TenantId};
use ltmc_policy::{Action, InForce};
use ltmc_ports::runner::AdmitError;
use ltmc_ports::{Changes, Clock, Components, Expect, Kind, ReadCatalog, StoreError};

use crate::{Authority, Error, Pins};

/// How many capabilities one agent can be granted.
pub const MAX_GRANTS: usize = 128;
/// How often grants are looked at anew because others changed them meanwhile.
const TRIES: u32 = 16;

/// The use cases.
pub struct Agents {
    ports: Ports,
}

/// What they need.
pub struct Ports {
    /// To look things up.
    pub catalog: Arc<dyn ReadCatalog>,
    /// To ask, and to change things.
    pub authority: Arc<Authority>,
    /// The sandbox's shelf.
    pub components: Arc<dyn Components>,
    /// What is needed on it.
    pub pins: Arc<Pins>,
    /// For times.
    pub clock: Arc<dyn Clock>,
}

/// An agent with its grants.
#[derive(Debug, Clone)]
pub struct AgentView {
    /// The version that was asked for.
    pub agent: Agent,
    /// What it was granted.
    pub grants: Vec<Capability>,
    /// What it asks for and is not in force: not granted, or above the tenant's ceiling.
    pub missing: Vec<Capability>,
}

/// What came of a push.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The agent as it is now.
    pub view: AgentView,
    /// Whether this version is new.
    pub created: bool,
}

impl Agents {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Takes a component in and stores it under a name; it becomes the newest version. A manifest that comes beside it
    /// wins over the one inside.
    ///
    /// # Errors
    /// What is wrong with the component or its manifest.
    pub async fn push(
        self: &Arc<Self>,
        caller: &Caller,
        name: AgentName,
        component: Bytes,
        manifest: Option<Manifest>,
    ) -> Result<Pushed, Error> {
        let (agents, by) = (self.clone(), caller.clone());
        let work = async move { agents.take_in(&by, name, component, manifest).await };
        self.ports.authority.perform(caller, Action::PushAgent, work).await
    }

    async fn take_in(
        &self,
        caller: &Caller,
        name: AgentName,
        component: Bytes,
        manifest: Option<Manifest>,
    ) -> Result<Pushed, Error> {
        let size = component.len() as u64;
        let digest = {
            let bytes = component.clone();
            // Up to 64 MiB: not on a thread that others wait for.
            let hashed = tokio::task::spawn_blocking(move || Digest::of(&bytes)).await;
            hashed.map_err(|e| Error::Internal { message: e.to_string() })?
        };
        let pin = self.ports.pins.hold(digest).await;
        let pushed = self.store(caller, name, component, size, manifest).await;
        if pushed.is_err()
            && let Err(error) = pin.release().await
        {
            tracing::warn!(%digest, %error, "a component that nobody has could not be removed");
        }
        pushed
    }

    async fn store(
        &self,
        caller: &Caller,
        name: AgentName,
        component: Bytes,
        size: u64,
        manifest: Option<Manifest>,
    ) -> Result<Pushed, Error> {
        let found = self.ports.components.admit(&caller.tenant, component).await.map_err(refused)?;
        let manifest = match (manifest, &found.manifest) {
            (Some(beside), _) => beside,
            (None, Some(inside)) => Manifest::parse(inside).map_err(|why| {
                Error::invalid("bad-manifest", "component", format!("the manifest inside the component: {why}"))
            })?,
            (None, None) => Manifest::default(),
        };
        check(&manifest)?;
        let tenant = &caller.tenant;
        let known = self.ports.catalog.agent(tenant, &name, Some(&found.digest)).await?;
        let newest = self.ports.catalog.agent(tenant, &name, None).await?;
        let as_it_was = newest.filter(|newest| newest.digest == found.digest && newest.manifest == manifest);
        let agent = match as_it_was {
            Some(agent) => agent,
            None => {
                let agent = Agent {
                    name,
                    digest: found.digest,
                    manifest,
                    exports: found.exports,
                    size,
                    pushed_at: self.ports.clock.now(),
                };
                self.ports.authority.act(tenant, Some(&caller.key), Change::AgentPushed(agent.clone())).await?;
                agent
            }
        };
        Ok(Pushed { view: self.view(tenant, agent).await?, created: known.is_none() })
    }

    /// An agent: its newest version, or the one that is named.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, agent: &AgentRef) -> Result<AgentView, Error> {
        self.ports.authority.authorize(caller, Action::ReadAgents).await?;
        let found = self.resolve(&caller.tenant, agent).await?;
        self.view(&caller.tenant, Agent::clone(&found)).await
    }

    /// The newest version of each of the tenant's agents, by name, after `after`.
    ///
    /// # Errors
    /// The record's.
    pub async fn list(&self, caller: &Caller, after: Option<&AgentName>, limit: u32) -> Result<Vec<AgentView>, Error> {
        self.ports.authority.authorize(caller, Action::ReadAgents).await?;
        let mut views = Vec::new();
        for agent in self.ports.catalog.agents(&caller.tenant, after, limit).await? {
            views.push(self.view(&caller.tenant, agent).await?);
        }
        Ok(views)
    }

    /// Deletes an agent with its versions and grants. Runs under way keep their components until they end.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn delete(self: &Arc<Self>, caller: &Caller, name: &AgentName) -> Result<(), Error> {
        let (agents, by, name) = (self.clone(), caller.clone(), name.clone());
        let work = async move {
            let newest = agents.existing(&by.tenant, &name).await?;
            agents.ports.authority.act(&by.tenant, Some(&by.key), Change::AgentDeleted { name }).await?;
            // Older versions stay as files: they are a bounded cost, and a run that is resumed may need one.
            if let Err(error) = agents.ports.pins.sweep(&newest.digest).await {
                tracing::warn!(digest = %newest.digest, %error, "a component that nobody has could not be removed");
            }
            Ok(())
        };
        self.ports.authority.perform(caller, Action::DeleteAgent, work).await
    }

    /// What an agent was granted.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn grants(&self, caller: &Caller, agent: &AgentName) -> Result<Vec<Capability>, Error> {
        self.ports.authority.authorize(caller, Action::ReadAgents).await?;
        self.existing(&caller.tenant, agent).await?;
        Ok(self.ports.catalog.grants(&caller.tenant, agent).await?)
    }

    /// Sets what an agent is granted, whole. It takes effect at the agent's next host call.
    ///
    /// # Errors
    /// Where it is not there, or there are too many.
    pub async fn set_grants(
        self: &Arc<Self>,
        caller: &Caller,
        agent: &AgentName,
        grants: Vec<Capability>,
    ) -> Result<(), Error> {
        let (agents, by, agent) = (self.clone(), caller.clone(), agent.clone());
        let work = async move {
            agents.existing(&by.tenant, &agent).await?;
            let grants: BTreeSet<Capability> = grants.into_iter().collect();
            if grants.len() > MAX_GRANTS {
                let message = format!("{} capabilities are more than the {MAX_GRANTS} an agent can have", grants.len());
                return Err(Error::invalid("bad-json", None, message));
            }
            agents.change_grants(&by, agent, grants.into_iter().collect(), Vec::new()).await
        };
        self.ports.authority.perform(caller, Action::SetGrants, work).await
    }

    /// Takes one capability back. The agent's next host call notices.
    ///
    /// # Errors
    /// Where the agent is not there, or was not granted just this.
    pub async fn revoke_grant(
        self: &Arc<Self>,
        caller: &Caller,
        agent: &AgentName,
        grant: &Capability,
    ) -> Result<(), Error> {
        let (agents, by, agent, grant) = (self.clone(), caller.clone(), agent.clone(), grant.clone());
        let work = async move {
            for _ in 0..TRIES {
                agents.existing(&by.tenant, &agent).await?;
                let before = agents.ports.catalog.grants(&by.tenant, &agent).await?;
                let grants: Vec<Capability> = before.iter().filter(|held| **held != grant).cloned().collect();
                if grants.len() == before.len() {
                    return Err(Error::not_found(format!("grant of `{grant}` to agent `{agent}`")));
                }
                let expects = vec![Expect::Grants { agent: agent.clone(), grants: before }];
                match agents.change_grants(&by, agent.clone(), grants, expects).await {
                    // Somebody else set them meanwhile.
                    Err(Error::Store(error)) if error.kind == Kind::Stale => {}
                    done => return done,
                }
            }
            let message = format!("the grants of agent `{agent}` were changed by others {TRIES} times: ask again");
            Err(Error::Conflict { code: "conflict", message })
        };
        self.ports.authority.perform(caller, Action::SetGrants, work).await
    }

    async fn change_grants(
        &self,
        caller: &Caller,
        agent: AgentName,
        grants: Vec<Capability>,
        expects: Vec<Expect>,
    ) -> Result<(), Error> {
        let change = Change::GrantsSet { agent, grants };
        let changes = Changes { deltas: Vec::new(), expects };
        Ok(self.ports.authority.act_with(&caller.tenant, Some(&caller.key), change, changes).await?)
    }

    /// The version of an agent that a reference means now.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn resolve(&self, tenant: &TenantId, agent: &AgentRef) -> Result<Arc<Agent>, Error> {
        let found = self.ports.authority.agent(tenant, agent).await?;
        found.ok_or_else(|| Error::not_found(format!("agent `{agent}`")))
    }

    async fn existing(&self, tenant: &TenantId, name: &AgentName) -> Result<Arc<Agent>, Error> {
        self.resolve(tenant, &AgentRef { name: name.clone(), digest: None }).await
    }

    async fn view(&self, tenant: &TenantId, agent: Agent) -> Result<AgentView, Error> {
        let grants = self.ports.catalog.grants(tenant, &agent.name).await?;
        let ceiling = self.ports.authority.ceiling(tenant).await?;
        let in_force = InForce::new(grants.clone(), ceiling.capabilities.clone());
        let missing = in_force.missing(&agent.manifest.asks);
        Ok(AgentView { agent, grants, missing })
    }
}

fn refused(error: AdmitError) -> Error {
    match error {
        AdmitError::Refused { code, message } => Error::invalid(code, "component", message),
        AdmitError::Busy { message } => Error::Busy { message, retry_after: Duration::from_secs(5) },
        AdmitError::Full => StoreError::new(Kind::Full, "component.admit").into(),
        AdmitError::Failed { message } => Error::Internal { message },
    }
}

/// What parses one by one and makes no sense together.
fn check(manifest: &Manifest) -> Result<(), Error> {
    let wrong = |message: String| Err(Error::invalid("bad-manifest", "manifest", message));
    let mut seen = BTreeSet::new();
    if let Some(twice) = manifest.asks.iter().find(|ask| !seen.insert(*ask)) {
        return wrong(format!("`asks` names `{twice}` twice"));
    }
    let limits = &manifest.limits;
    let zero = [
        ("memory", limits.memory.is_some_and(|b| b.as_u64() == 0)),
        ("cpu", limits.cpu.is_some_and(|d| d.is_zero())),
        ("wall", limits.wall.is_some_and(|d| d.is_zero())),
        ("output", limits.output.is_some_and(|b| b.as_u64() == 0)),
    ];
    if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
        return wrong(format!("`limits.{name}` is zero: nothing could run; leave it out for the default"));
    }
    if let (Some(cpu), Some(wall)) = (limits.cpu, limits.wall)
        && cpu > wall
    {
        return wrong("`limits.cpu` is longer than `limits.wall`: no call lives that long".into());
    }
    Ok(())
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agents").finish_non_exhaustive()
    }
}
