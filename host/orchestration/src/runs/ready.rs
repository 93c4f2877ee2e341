//! What runs are begun with: documents made ready to run, and agents in the versions that are the newest now.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_model::agent::{AgentRef, Export};
use ltmc_model::caller::Caller;
use ltmc_model::run::Target;
use ltmc_model::workflow::{Acts, Document, HandOff, Node};
use ltmc_model::{AgentName, Digest, Payload, Position, TenantId, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_tenancy::Error;

use super::Runs;
use crate::plan::{self, Plan};

/// A workflow's document, made ready to run.
pub(crate) struct Ready {
    /// Its one form, which runs are pinned to.
    pub(crate) json: Arc<str>,
    /// Of that.
    pub(crate) digest: Digest,
    agents: Vec<AgentRef>,
    /// What its starter has to be allowed besides running it.
    pub(crate) needs: Vec<Action>,
    pub(crate) plan: plan::Shared,
    /// What starts it by itself, in the order of the document.
    pub(super) schedules: Vec<ReadySchedule>,
}

/// What a schedule starts runs with.
pub(super) struct ReadySchedule {
    pub(super) digest: Digest,
    pub(super) input: Payload,
}

impl Ready {
    pub(super) fn of(stored: &StoredWorkflow) -> Result<Self, String> {
        let document = Document::parse(&stored.source, Some(&stored.name)).map_err(|faults| faults.to_string())?;
        Ok(Self::of_document(&document))
    }

    pub(crate) fn of_document(document: &Document) -> Self {
        let json = document.to_json();
        let schedules = document.schedules.iter().map(|schedule| ReadySchedule {
            digest: schedule.digest(),
            input: Payload::json(schedule.input.as_ref().unwrap_or(&serde_json::Value::Null)),
        });
        Self {
            schedules: schedules.collect(),
            digest: Digest::of(json.as_bytes()),
            json: json.into(),
            agents: document.agents().map(|(agent, _, _)| agent.clone()).collect(),
            needs: needs(document),
            plan: Arc::new(Plan::of(document)),
        }
    }
}

/// What a target is at the moment at which a run of it begins.
pub(super) struct Made {
    /// The version of each agent that the plan names.
    pub(super) agents: BTreeMap<AgentName, Digest>,
    /// None: an agent that is called alone.
    pub(super) document: Option<(Arc<str>, Digest)>,
    pub(super) plan: plan::Shared,
    /// From where on it may wait for events; none: it waits for none.
    pub(super) position: Option<Position>,
}

impl Runs {
    /// The same as [`Self::ready`], for somebody who may run it, and may do what it does by itself.
    ///
    /// # Errors
    /// Where they may not; those of [`Self::ready`].
    pub(super) async fn ready_for(
        &self,
        caller: &Caller,
        workflow: &WorkflowName,
    ) -> Result<(Arc<Ready>, BTreeMap<AgentName, Digest>), Error> {
        let authority = &self.inner.ports.authority;
        authority.authorize(caller, Action::Run).await?;
        let ready = self.ready(&caller.tenant, workflow).await?;
        for action in &ready.0.needs {
            authority.authorize(caller, *action).await?;
        }
        Ok(ready)
    }

    /// A workflow's document as it is now, made ready to run, with the newest version of each agent that it names.
    ///
    /// # Errors
    /// Where the workflow or an agent of it is not there.
    pub(crate) async fn ready(
        &self,
        tenant: &TenantId,
        workflow: &WorkflowName,
    ) -> Result<(Arc<Ready>, BTreeMap<AgentName, Digest>), Error> {
        let inner = &self.inner;
        let missing = || Error::not_found(format!("workflow `{workflow}`"));
        let stored = inner.ports.authority.workflow(tenant, workflow).await?.ok_or_else(missing)?;
        let ready = match inner.ready.get(&stored.digest) {
            Some(ready) => ready,
            None => {
                let of = stored.clone();
                // bound: threads beside
                let made = tokio::task::spawn_blocking(move || Ready::of(&of)).await;
                let made = made.map_err(|e| Error::Internal { message: e.to_string() })?;
                let ready =
                    Arc::new(made.map_err(|why| Error::Internal { message: format!("workflow `{workflow}`: {why}") })?);
                inner.ready.insert(stored.digest, ready.clone());
                ready
            }
        };
        let mut agents = BTreeMap::new();
        let mut missing = None;
        for agent in &ready.agents {
            match inner.ports.authority.agent(tenant, agent).await? {
                Some(found) => drop(agents.insert(found.name.clone(), found.digest)),
                None => missing = missing.or(Some(agent)),
            }
        }
        // A conversation goes on among those that are there.
        let may_miss = ready.plan.conversation().is_some() && !agents.is_empty();
        match missing.filter(|_| !may_miss).map(ToString::to_string) {
            Some(agent) => Err(Error::not_found(format!("agent `{agent}`, which the workflow names"))),
            None => Ok((ready, agents)),
        }
    }

    /// The same for a document that an agent wrote; `agents`: the versions that its parent is pinned to.
    pub(crate) fn ready_plan(
        document: &Document,
        agents: &BTreeMap<AgentName, Digest>,
    ) -> (Arc<Ready>, BTreeMap<AgentName, Digest>) {
        let ready = Ready::of_document(document);
        let versions = ready.agents.iter().filter_map(|agent| Some((agent.name.clone(), *agents.get(&agent.name)?)));
        let versions = versions.collect();
        (Arc::new(ready), versions)
    }

    /// How far the log goes, for a run that may wait for events from its beginning on.
    pub(crate) fn position(&self, ready: &Ready) -> Option<Position> {
        let listens = ready.needs.contains(&Action::ReadContext);
        listens.then(|| self.inner.ports.subscriptions.log().ends().borrow().visible)
    }

    /// What a run of a target is begun with, as the target is now; in a branch of its own, where it is to be one.
    ///
    /// # Errors
    /// Where it is not there, or the caller may not run it, or it cannot be in such a branch.
    pub(super) async fn made(&self, caller: &Caller, target: &Target, is_apart: bool) -> Result<Made, Error> {
        let (mut made, apart) = match target {
            Target::Agent(agent) => {
                let found = self.inner.ports.authority.agent(&caller.tenant, agent).await?;
                let found = found.ok_or_else(|| Error::not_found(format!("agent `{agent}`")))?;
                let plan = Plan::call(agent).map_err(|f| Error::Internal { message: f.to_string() })?;
                let agents = BTreeMap::from([(found.name.clone(), found.digest)]);
                let made = Made { agents, document: None, plan: Arc::new(plan), position: None };
                (made, is_apart.then(|| agent_alone(agent)))
            }
            Target::Workflow(workflow) => {
                let (ready, agents) = self.ready_for(caller, workflow).await?;
                if is_apart && ready.plan.conversation().is_some() {
                    return Err(not_rolled_back());
                }
                let document = Some((ready.json.clone(), ready.digest));
                let made = Made { agents, document, plan: ready.plan.clone(), position: self.position(&ready) };
                (made, is_apart.then(|| ready.json.clone()))
            }
        };
        if let Some(document) = apart {
            let ready = self.apart(document).await?;
            (made.document, made.plan) = (Some((ready.json.clone(), ready.digest)), ready.plan.clone());
        }
        Ok(made)
    }

    /// Whether what is to answer is there, and may be run by this caller, in a context of its own where it is to have one.
    ///
    /// # Errors
    /// Where it is not, or may not.
    pub(crate) async fn is_there(&self, caller: &Caller, with: &Target, is_apart: bool) -> Result<(), Error> {
        match with {
            Target::Agent(agent) => {
                let found = self.inner.ports.authority.agent(&caller.tenant, agent).await?;
                let found = found.ok_or_else(|| Error::not_found(format!("agent `{agent}`")))?;
                if found.exports.iter().any(|export| matches!(export, Export::Agent | Export::Command)) {
                    return Ok(());
                }
                let message = format!("agent `{agent}` cannot answer: it exports neither `agent` nor `wasi:cli/run`");
                Err(Error::invalid("invalid", "agent", message))
            }
            Target::Workflow(_) => self.made(caller, with, is_apart).await.map(drop),
        }
    }

    /// How a workflow's conversation is handed on; none: it is no conversation.
    ///
    /// # Errors
    /// Where there is no such workflow, or the caller may not run it.
    pub(crate) async fn conversation(&self, caller: &Caller, with: &Target) -> Result<Option<HandOff>, Error> {
        let Target::Workflow(workflow) = with else { return Ok(None) };
        let (ready, _) = self.ready_for(caller, workflow).await?;
        Ok(ready.plan.conversation().cloned())
    }

    /// The same, for who looks.
    ///
    /// # Errors
    /// Where there is no such workflow, or no agent of its conversation.
    pub(crate) async fn goes(&self, tenant: &TenantId, workflow: &WorkflowName) -> Result<Option<HandOff>, Error> {
        let (ready, _) = self.ready(tenant, workflow).await?;
        Ok(ready.plan.conversation().cloned())
    }

    /// A document as one branch with a context of its own, which is true once the branch is done: what it does to the session's memory, and
    /// what it sends, is nobody's if it is ended before.
    ///
    /// # Errors
    /// Where the document cannot stand in a branch.
    async fn apart(&self, document: Arc<str>) -> Result<Arc<Ready>, Error> {
        let key = Digest::of(format!("apart {document}").as_bytes());
        if let Some(ready) = self.inner.ready.get(&key) {
            return Ok(ready);
        }
        // bound: threads beside
        let made = tokio::task::spawn_blocking(move || {
            let mut source: serde_json::Value = serde_json::from_str(&document).map_err(|e| e.to_string())?;
            let flow = source["flow"].take();
            source["flow"] = serde_json::json!({
                "parallel": [flow], "collect": "first",
                "context": {"fork": ["session", "messages"], "merge": {"*": "last"}},
            });
            let document = Document::from_json(&source.to_string()).map_err(|faults| faults.to_string())?;
            Ok::<_, String>(Ready::of_document(&document))
        });
        let made = made.await.map_err(|e| Error::Internal { message: e.to_string() })?;
        let unfit = |why| {
            let message = format!(
                "a session with `rollback` does a turn in a branch of its own, which this document cannot be: {why}"
            );
            Error::invalid("invalid", "if-busy", message)
        };
        let ready = Arc::new(made.map_err(unfit)?);
        self.inner.ready.insert(key, ready.clone());
        Ok(ready)
    }
}

/// The document of an agent's step alone.
fn agent_alone(agent: &AgentRef) -> Arc<str> {
    serde_json::json!({"name": agent.name, "flow": {"agent": agent}}).to_string().into()
}

/// What a document has its runs do by themselves with what a tenant's agents share, which is as if their starter did it.
fn needs(document: &Document) -> Vec<Action> {
    let acts: Vec<Acts> = document.nodes().into_iter().flat_map(Node::acts).copied().collect();
    let writes = acts.contains(&Acts::Publishes).then_some(Action::WriteContext);
    let reads = acts.contains(&Acts::Listens).then_some(Action::ReadContext);
    writes.into_iter().chain(reads).collect()
}

/// Why a conversation that is handed on is in no session with `rollback`.
fn not_rolled_back() -> Error {
    let message = "a conversation that is handed on cannot be in a session with `rollback`: what is undone would have been held by others";
    Error::invalid("invalid", "if-busy", message)
}
