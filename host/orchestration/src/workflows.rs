//! Workflow documents: put, looked at, deleted.
//!
//! Invariants: a document that is stored has been checked whole, and every agent and every workflow it names was there and could do its
//! part; what it starts did not come back to it, which the record looks at again in the transaction that stores it. (Documents change: how deep runs begin runs is bounded where they do.)
//! What changes anything does so on a task of the host's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::agent::{AgentRef, Export};
use ltmc_model::caller::Caller;
use ltmc_model::failure::Failure;
use ltmc_model::journal::Change;
use ltmc_model::workflow::{self, Document, Fault, Node, Part, Place};
use ltmc_model::{AgentName, Digest, TenantId, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_ports::schema::Unusable;
use ltmc_ports::{Expect, Kind, ReadCatalog, Schemas, StoreError};
use ltmc_tenancy::error::Detail;
use ltmc_tenancy::{Authority, Error};

use crate::judge;
use crate::schedules::Schedules;
use crate::triggers::Triggers;

/// How many workflows a document may start, those that these start included.
const MAX_STARTED: usize = 100;
/// How often a document is put where others change what it starts meanwhile.
const TRIES: u32 = 5;

/// The use cases.
pub struct Workflows {
    ports: Ports,
}

/// What they need.
pub struct Ports {
    /// To look things up.
    pub read: Arc<dyn ReadCatalog>,
    /// Who may, which agents there are, and to change things.
    pub authority: Arc<Authority>,
    /// Who judges by JSON Schema.
    pub schemas: Arc<dyn Schemas>,
    /// What starts them by themselves.
    pub schedules: Arc<Schedules>,
    /// Which events start them.
    pub triggers: Arc<Triggers>,
}

/// Workflows that a document starts, by others that these start too.
struct Starts {
    /// What is wrong with that.
    details: Vec<Detail>,
    /// As they were when that was looked at.
    as_they_are: Vec<Expect>,
}

/// What came of putting a document.
#[derive(Debug, Clone)]
pub struct Put {
    /// As it is now.
    pub workflow: StoredWorkflow,
    /// Whether it is new.
    pub created: bool,
}

impl Workflows {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Stores a document under the name it has.
    ///
    /// # Errors
    /// Everything that is wrong with it at once, with line and column; agents that are not there, too.
    pub async fn put(self: &Arc<Self>, caller: &Caller, name: WorkflowName, source: String) -> Result<Put, Error> {
        let (workflows, by) = (self.clone(), caller.clone());
        let work = async move { workflows.store(&by, name, source).await };
        self.ports.authority.perform(caller, Action::PutWorkflow, work).await
    }

    async fn store(&self, caller: &Caller, name: WorkflowName, source: String) -> Result<Put, Error> {
        let (text, of) = (source.clone(), name.clone());
        // Not on a thread that others wait for: it may take its time.
        // bound: threads beside
        let parsed = tokio::task::spawn_blocking(move || Document::parse(&text, Some(&of))).await;
        let parsed = parsed.map_err(|e| Error::Internal { message: e.to_string() })?;
        let document = parsed.map_err(|faults| wrong(faults.0.into_iter().map(detail).collect()))?;
        let faults = check_agents(&self.ports.authority, &caller.tenant, &document, &BTreeMap::new()).await?;
        let mut details: Vec<Detail> = faults.into_iter().map(detail).collect();
        let mut started = self.check_workflows(caller, &document).await?;
        details.append(&mut started.details);
        if !details.is_empty() {
            details.truncate(workflow::MAX_FAULTS);
            return Err(wrong(details));
        }
        self.check_schemas(caller, &document).await?;
        let digest = Digest::of(source.as_bytes());
        let before = self.ports.read.workflow(&caller.tenant, &name).await?;
        let created = before.is_none();
        let schedules = &self.ports.schedules;
        // The same document once more changes in whose name it is started.
        if let Some(workflow) = before.filter(|before| before.digest == digest)
            && schedules.are_in_name_of(&caller.tenant, &name, &caller.key).await?
            && self.ports.triggers.are_in_name_of(&caller.tenant, &document, &caller.key).await?
        {
            return Ok(Put { workflow, created });
        }
        let planned = schedules.planned(&document);
        let planted = self.ports.triggers.planted(&document);
        if !planted.is_empty() {
            self.ports.authority.authorize(caller, Action::ReadContext).await?;
        }
        let mut tries = TRIES;
        loop {
            let mut changes = Schedules::fit(&name, &planned);
            changes.expects.extend(Triggers::fit(&name, &planted));
            changes.expects.extend(started.as_they_are.iter().cloned());
            let (name, source, schedules, triggers) = (name.clone(), source.clone(), planned.clone(), planted.clone());
            let change = Change::WorkflowPut { name, source, digest, schedules, triggers };
            match self.ports.authority.act_with(&caller.tenant, Some(&caller.key), change, changes).await {
                Ok(()) => break,
                Err(error) if error.kind == Kind::Stale && tries > 0 => {
                    let now = self.check_workflows(caller, &document).await?;
                    if !now.details.is_empty() {
                        return Err(wrong(now.details));
                    }
                    if now.as_they_are == started.as_they_are {
                        return Err(if planned.is_empty() {
                            Triggers::too_many(error)
                        } else {
                            Schedules::too_many(error)
                        });
                    }
                    (started, tries) = (now, tries - 1);
                }
                Err(error) if error.kind == Kind::Stale => {
                    let message = "the workflows that it starts are changed by others all the time".into();
                    return Err(Error::Busy { message, retry_after: Duration::from_secs(1) });
                }
                Err(error) => return Err(error.into()),
            }
        }
        schedules.changed();
        self.ports.triggers.changed();
        let stored = self.ports.read.workflow(&caller.tenant, &name).await?;
        let workflow = stored.ok_or_else(|| Error::not_found(format!("workflow `{name}`: it was deleted just now")))?;
        Ok(Put { workflow, created })
    }

    /// What is wrong with the workflows that a document starts: those that are not there, and those that come back to it.
    async fn check_workflows(&self, caller: &Caller, document: &Document) -> Result<Starts, Error> {
        let (mut details, mut as_they_are) = (Vec::new(), Vec::new());
        // Each with the way to it.
        let mut looked_at = BTreeSet::new();
        for (name, place) in document.workflows() {
            let mut fault = |message| details.push(Detail { line: place.line, column: place.column, message });
            let mut next = vec![vec![document.name.clone(), name.clone()]];
            while let Some(way) = next.pop() {
                let Some(last) = way.last() else { continue };
                if *last == document.name {
                    let way: Vec<&str> = way.iter().map(WorkflowName::as_str).collect();
                    fault(format!("workflows that start each other would never end: {}", way.join(" → ")));
                    break;
                }
                if !looked_at.insert(last.clone()) {
                    continue;
                }
                if looked_at.len() > MAX_STARTED {
                    fault(format!("it starts more than {MAX_STARTED} workflows, by others that it starts"));
                    return Ok(Starts { details, as_they_are });
                }
                let stored = self.ports.read.workflow(&caller.tenant, last).await?;
                let digest = stored.as_ref().map(|stored| stored.digest);
                as_they_are.push(Expect::Workflow { name: last.clone(), digest });
                let Some(stored) = stored else {
                    if way.len() == 2 {
                        fault(format!("there is no workflow `{last}`: put it first"));
                    }
                    continue;
                };
                // bound: threads beside
                let parsed = tokio::task::spawn_blocking(move || Document::parse(&stored.source, None)).await;
                let parsed = parsed.map_err(|e| Error::Internal { message: e.to_string() })?;
                // One that this version does not read fails where it is started.
                let Ok(parsed) = parsed else { continue };
                for (started, _) in parsed.workflows() {
                    next.push(way.iter().chain([started]).cloned().collect());
                }
            }
        }
        Ok(Starts { details, as_they_are })
    }

    /// Looks whether what outputs are to be judged by can be.
    async fn check_schemas(&self, caller: &Caller, document: &Document) -> Result<(), Error> {
        if document.schemas().is_empty() {
            return Ok(());
        }
        let looked = check_schemas(self.ports.schemas.as_ref(), &caller.tenant, document).await;
        let faults = looked.map_err(judge::trouble)?;
        if faults.is_empty() { Ok(()) } else { Err(wrong(faults.into_iter().map(detail).collect())) }
    }

    /// A document, as it was sent.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, name: &WorkflowName) -> Result<StoredWorkflow, Error> {
        self.ports.authority.authorize(caller, Action::ReadDefinitions).await?;
        let found = self.ports.read.workflow(&caller.tenant, name).await?;
        found.ok_or_else(|| Error::not_found(format!("workflow `{name}`")))
    }

    /// The tenant's workflows, by name, after `after`.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn list(
        &self,
        caller: &Caller,
        after: Option<&WorkflowName>,
        limit: u32,
    ) -> Result<Vec<StoredWorkflow>, Error> {
        self.ports.authority.authorize(caller, Action::ReadWorkflows).await?;
        Ok(self.ports.read.workflows(&caller.tenant, after, limit).await?)
    }

    /// Deletes one. Runs under way keep the document they began with.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn delete(self: &Arc<Self>, caller: &Caller, name: &WorkflowName) -> Result<(), Error> {
        let (workflows, by, name) = (self.clone(), caller.clone(), name.clone());
        let work = async move {
            if workflows.ports.read.workflow(&by.tenant, &name).await?.is_none() {
                return Err(Error::not_found(format!("workflow `{name}`")));
            }
            let change = Change::WorkflowDeleted { name };
            Ok(workflows.ports.authority.act(&by.tenant, Some(&by.key), change).await?)
        };
        self.ports.authority.perform(caller, Action::PutWorkflow, work).await
    }
}

/// What is wrong with the agents that a document names: those that are not there, and those that cannot do their part. `pinned`: versions
/// that are meant where none is said.
pub(crate) async fn check_agents(
    authority: &Arc<Authority>,
    tenant: &TenantId,
    document: &Document,
    pinned: &BTreeMap<AgentName, Digest>,
) -> Result<Vec<Fault>, StoreError> {
    let mut faults = Vec::new();
    for (agent, place, part) in document.agents() {
        let digest = agent.digest.or_else(|| pinned.get(&agent.name).copied());
        let found = authority.agent(tenant, &AgentRef { digest, name: agent.name.clone() }).await?;
        let message = match found {
            None => format!("there is no agent `{agent}`: push it first"),
            Some(found) => {
                let can = |export| found.exports.contains(&export);
                let is_called = can(Export::Agent) || can(Export::Command);
                match part {
                    Part::Judge if !can(Export::Validator) => {
                        format!("agent `{agent}` cannot judge: it exports no `validator`")
                    }
                    Part::Collect if !is_called && !can(Export::Aggregator) => {
                        format!(
                            "agent `{agent}` cannot make one of what branches give: it exports neither `aggregator` nor `agent`"
                        )
                    }
                    Part::Work if !is_called => {
                        format!("agent `{agent}` cannot be called: it exports neither `agent` nor `wasi:cli/run`")
                    }
                    _ => continue,
                }
            }
        };
        faults.push(Fault { place, message });
    }
    Ok(faults)
}

/// What is wrong with the JSON Schemas that a document has outputs judged by: every one that cannot be used, in its place.
///
/// # Errors
/// Where nobody is there to look at them.
pub async fn check_schemas(
    schemas: &dyn Schemas,
    tenant: &TenantId,
    document: &Document,
) -> Result<Vec<Fault>, Failure> {
    let name = |node: &Node| node.id.as_ref().map_or_else(|| node.word().to_owned(), ToString::to_string);
    let found = document.schemas().into_iter();
    let (steps, texts): (Vec<_>, Vec<_>) =
        found.map(|(node, place, schema)| ((name(node), place), schema.to_string())).unzip();
    let (mut faults, mut looked) = (Vec::new(), 0);
    while looked < texts.len() && faults.len() < workflow::MAX_FAULTS {
        let Some(Unusable { number, why }) = schemas.check(tenant, &texts[looked..]).await? else { break };
        let Some((id, place)) = number.and_then(|number| steps.get(looked + number)) else {
            let message = format!("a JSON Schema of the document: {why}");
            faults.push(Fault { place: Place::default(), message });
            break;
        };
        faults.push(Fault { place: *place, message: format!("the JSON Schema of step `{id}`: {why}") });
        looked += number.unwrap_or_default() + 1;
    }
    Ok(faults)
}

fn detail(Fault { place, message }: Fault) -> Detail {
    Detail { line: place.line, column: place.column, message }
}

fn wrong(details: Vec<Detail>) -> Error {
    let message = match details.as_slice() {
        [one] if one.line == 0 => one.message.clone(),
        [one] => format!("line {}, column {}: {}", one.line, one.column, one.message),
        several => format!("{} things are wrong with the document", several.len()),
    };
    Error::Invalid { code: "bad-workflow", message, field: None, details }
}

impl std::fmt::Debug for Workflows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workflows").finish_non_exhaustive()
    }
}
