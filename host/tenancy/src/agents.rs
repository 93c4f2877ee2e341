//! Agents: pushed, granted, looked at, deleted.
//!
//! Invariants: a component is on the shelf before the catalog names it, and stays while the catalog or a run does. What was
//! granted was granted to a version: another component under the same name has it only by a rule that whoever granted it chose
//! ([`Carry`]). What is taken back is taken back from all versions. Asking grants nothing. What changes anything does so on a
//! task of the host's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ltmc_model::agent::{Agent, AgentRef, Carry, Grants};
use ltmc_model::caller::Caller;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Change;
use ltmc_model::manifest::Manifest;
use ltmc_model::state::Declared;
use ltmc_model::{AgentName, Capability, Digest, Payload, TenantId};
use ltmc_policy::{Action, InForce};
use ltmc_ports::runner::AdmitError;
use ltmc_ports::{Changes, Clock, Components, Expect, Kind, ReadCatalog, Schemas, StoreError};

use crate::{Authority, Error, Pins};

/// How many capabilities one agent can be granted.
pub const MAX_GRANTS: usize = 128;
/// How often a push looks anew at what it would take over, because others changed that meanwhile.
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
    /// To look at what states are judged by.
    pub schemas: Arc<dyn Schemas>,
    /// For times.
    pub clock: Arc<dyn Clock>,
}

/// An agent, as it is seen.
#[derive(Debug, Clone)]
pub struct AgentView {
    /// The version that was asked for; what it asks for is left out with its terms.
    pub agent: Agent,
    /// None: whoever looks may not see them.
    pub terms: Option<Terms>,
}

/// What an agent may do.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What this version was granted.
    pub grants: Vec<Capability>,
    /// Whether the next version takes that over.
    pub carry: Carry,
    /// What it asks for and is not in force: not granted, or above the tenant's ceiling.
    pub missing: Vec<Capability>,
    /// What of all that it asks for or was granted the tenant's ceiling withholds, whatever is granted.
    pub withheld: Vec<Capability>,
}

/// What came of a push.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The agent as it is now.
    pub view: AgentView,
    /// Whether this version is new.
    pub created: bool,
    /// The component whose grants it took over, by the rule these were given with.
    pub grants_of: Option<Digest>,
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
            // bound: threads beside
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
        // That may have taken minutes.
        self.ports.authority.still_good(caller).await?;
        let tenant = &caller.tenant;
        let known = self.ports.catalog.agent(tenant, &name, Some(&found.digest)).await?;
        let manifest = match (manifest, &known, &found.manifest) {
            (Some(beside), ..) => beside,
            // What a version was pushed with is no less its own where it is pushed again without that.
            (None, Some(known), _) => known.manifest.clone(),
            (None, None, Some(inside)) => Manifest::parse(inside).map_err(|why| {
                Error::invalid("bad-manifest", "component", format!("the manifest inside the component: {why}"))
            })?,
            (None, None, None) => Manifest::default(),
        };
        check(&manifest)?;
        self.check_state(tenant, &manifest).await?;
        self.check_input(tenant, &manifest).await?;
        let agent = Agent {
            name,
            digest: found.digest,
            manifest,
            exports: found.exports,
            size,
            pushed_at: self.ports.clock.now(),
        };
        for _ in 0..TRIES {
            let newest = self.ports.catalog.agent(tenant, &agent.name, None).await?;
            let is_same = |newest: &Agent| newest.digest == agent.digest && newest.manifest == agent.manifest;
            if let Some(as_it_was) = newest.clone().filter(is_same) {
                return Ok(Pushed { view: self.view(caller, as_it_was).await?, created: false, grants_of: None });
            }
            let carried = match newest {
                Some(before) => {
                    ltmc_model::state::check_upgrade(&before.manifest, &agent.manifest)
                        .map_err(|why| Error::invalid("bad-manifest", "manifest", why))?;
                    self.carried(tenant, &before, &agent).await?
                }
                None => None,
            };
            let grants_of = carried.as_ref().map(|(version, _)| *version);
            let (change, expects) = match carried {
                None => (Change::AgentPushed(agent.clone()), Vec::new()),
                Some((version, grants)) => (
                    Change::AgentUpgraded { agent: agent.clone(), grants_of: version },
                    vec![Expect::Grants { agent: agent.name.clone(), version, grants }],
                ),
            };
            let changes = Changes { deltas: Vec::new(), expects };
            match self.ports.authority.act_with(tenant, Some(&caller.key), change, changes).await {
                Ok(()) => {
                    return Ok(Pushed { view: self.view(caller, agent).await?, created: known.is_none(), grants_of });
                }
                // What it would have taken over was changed meanwhile.
                Err(error) if error.kind == Kind::Stale => {}
                Err(error) => return Err(error.into()),
            }
        }
        let message = format!("the grants of agent `{}` were changed by others {TRIES} times: push again", agent.name);
        Err(Error::Conflict { code: "conflict", message })
    }

    /// Whether the schema of its states can be judged by, and what they begin with is as it says.
    async fn check_state(&self, tenant: &TenantId, manifest: &Manifest) -> Result<(), Error> {
        let wrong = |why: String| Error::invalid("bad-manifest", "manifest", why);
        let Some(declared) = Declared::of(manifest).map_err(wrong)? else { return Ok(()) };
        let Some(schema) = declared.schema else { return Ok(()) };
        let busy = |failure: Failure| Error::Busy { message: failure.message, retry_after: Duration::from_secs(1) };
        if let Some(unusable) = self.ports.schemas.check(tenant, std::slice::from_ref(&schema)).await.map_err(busy)? {
            return Err(wrong(format!("`state`: `schema`: {}", unusable.why)));
        }
        let first = Payload { content_type: Payload::JSON.into(), bytes: declared.declaration.data.to_string().into() };
        let judged = match self.ports.schemas.judge(tenant, &schema, &first).await {
            Err(heavy) if matches!(heavy.code, Code::LimitCpu | Code::LimitMemory) => {
                return Err(wrong(format!("`state`: `schema`: it cannot be judged by: {}", heavy.message)));
            }
            judged => judged.map_err(busy)?,
        };
        match judged.first() {
            None => Ok(()),
            Some(found) => {
                let at = if found.at.is_empty() { "the whole" } else { found.at.as_str() };
                let why =
                    format!("`state`: the `data` it begins with is not as `schema` says: {at}: {}", found.message);
                Err(wrong(why))
            }
        }
    }

    /// Whether inputs can be judged by what it says of them.
    async fn check_input(&self, tenant: &TenantId, manifest: &Manifest) -> Result<(), Error> {
        let Some(schema) = &manifest.input else { return Ok(()) };
        let busy = |failure: Failure| Error::Busy { message: failure.message, retry_after: Duration::from_secs(1) };
        match self.ports.schemas.check(tenant, &[schema.to_string()]).await.map_err(busy)? {
            None => Ok(()),
            Some(unusable) => Err(Error::invalid("bad-manifest", "manifest", format!("`input`: {}", unusable.why))),
        }
    }

    /// What `next` takes over of the grants of the version `before` it: that one's component, and all that it was granted.
    async fn carried(
        &self,
        tenant: &TenantId,
        before: &Agent,
        next: &Agent,
    ) -> Result<Option<(Digest, Grants)>, Error> {
        if before.digest == next.digest {
            return Ok(None);
        }
        let grants = self.ports.catalog.grants(tenant, &before.name, &before.digest).await?;
        let carries = !grants.capabilities.is_empty() && grants.carry.allows(before, next);
        Ok(carries.then_some((before.digest, grants)))
    }

    /// An agent: its newest version, or the one that is named.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, agent: &AgentRef) -> Result<AgentView, Error> {
        self.ports.authority.authorize(caller, Action::ReadAgents).await?;
        let found = self.resolve(&caller.tenant, agent).await?;
        self.view(caller, Agent::clone(&found)).await
    }

    /// The newest version of each of the tenant's agents, by name, after `after`.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn list(&self, caller: &Caller, after: Option<&AgentName>, limit: u32) -> Result<Vec<AgentView>, Error> {
        self.ports.authority.authorize(caller, Action::ReadAgents).await?;
        let mut views = Vec::new();
        for agent in self.ports.catalog.agents(&caller.tenant, after, limit).await? {
            views.push(self.view(caller, agent).await?);
        }
        Ok(views)
    }

    /// Deletes an agent with its versions and grants. Attempts under way go on to their end; then its components are gone too.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn delete(self: &Arc<Self>, caller: &Caller, name: &AgentName) -> Result<(), Error> {
        let (agents, by, name) = (self.clone(), caller.clone(), name.clone());
        let work = async move {
            agents.existing(&by.tenant, &name).await?;
            let versions = agents.ports.catalog.versions(&by.tenant, &name).await?;
            agents.ports.authority.act(&by.tenant, Some(&by.key), Change::AgentDeleted { name }).await?;
            for digest in versions {
                if let Err(error) = agents.ports.pins.sweep(&digest).await {
                    tracing::warn!(%digest, %error, "a component that nobody has could not be removed");
                }
            }
            Ok(())
        };
        self.ports.authority.perform(caller, Action::DeleteAgent, work).await
    }

    /// What a version of an agent was granted.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn grants(&self, caller: &Caller, agent: &AgentRef) -> Result<Grants, Error> {
        self.ports.authority.authorize(caller, Action::ReadDefinitions).await?;
        let found = self.resolve(&caller.tenant, agent).await?;
        Ok(self.ports.catalog.grants(&caller.tenant, &found.name, &found.digest).await?)
    }

    /// Sets what an agent is granted, whole. It takes effect at the agent's next host call. Where a version is named it is that
    /// one's alone; else it is the newest one's, and older ones keep of theirs what the new set covers.
    ///
    /// # Errors
    /// Where it is not there, or there are too many.
    pub async fn set_grants(
        self: &Arc<Self>,
        caller: &Caller,
        agent: &AgentRef,
        grants: Vec<Capability>,
        carry: Carry,
    ) -> Result<(), Error> {
        let (agents, by, agent) = (self.clone(), caller.clone(), agent.clone());
        let work = async move {
            agents.resolve(&by.tenant, &agent).await?;
            let grants: BTreeSet<Capability> = grants.into_iter().collect();
            if grants.len() > MAX_GRANTS {
                let message = format!("{} capabilities are more than the {MAX_GRANTS} an agent can have", grants.len());
                return Err(Error::invalid("bad-json", None, message));
            }
            let grants = grants.into_iter().collect();
            let change = Change::GrantsSet { agent: agent.name, grants, digest: agent.digest, carry: Some(carry) };
            Ok(agents.ports.authority.act(&by.tenant, Some(&by.key), change).await?)
        };
        self.ports.authority.perform(caller, Action::SetGrants, work).await
    }

    /// Takes one capability back, from every version. The agent's next host call notices.
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
            agents.existing(&by.tenant, &agent).await?;
            let versions = agents.ports.catalog.granted_versions(&by.tenant, &agent).await?;
            if !versions.iter().any(|(_, held)| held.capabilities.contains(&grant)) {
                return Err(Error::not_found(format!("grant of `{grant}` to agent `{agent}`")));
            }
            let change = Change::GrantRevoked { agent, grant };
            Ok(agents.ports.authority.act(&by.tenant, Some(&by.key), change).await?)
        };
        self.ports.authority.perform(caller, Action::SetGrants, work).await
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

    async fn view(&self, caller: &Caller, mut agent: Agent) -> Result<AgentView, Error> {
        let tenant = &caller.tenant;
        if ltmc_policy::authorize(caller, Action::ReadDefinitions).is_err() {
            agent.manifest.asks.clear();
            return Ok(AgentView { agent, terms: None });
        }
        let granted = self.ports.catalog.grants(tenant, &agent.name, &agent.digest).await?;
        let Grants { capabilities: grants, carry } = granted;
        let ceiling = self.ports.authority.ceiling(tenant).await?;
        let in_force = InForce::new(grants.clone(), ceiling.capabilities.clone());
        let missing = in_force.missing(&agent.manifest.asks);
        let both: BTreeSet<Capability> = grants.iter().chain(&agent.manifest.asks).cloned().collect();
        let withheld = in_force.withheld(&Vec::from_iter(both));
        Ok(AgentView { agent, terms: Some(Terms { grants, carry, missing, withheld }) })
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
