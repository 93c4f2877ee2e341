//! Runs: started, waited for, looked at, followed. How people end and pause them: `stop`; what they do about those that went wrong:
//! `recovery`.
//!
//! Invariants: a use case takes `&Caller` first and asks policy before anything else. A run of another tenant is not there;
//! for a key of the role `caller` neither is another key's. Nothing about a run is told before it is on disk, except to
//! the client that waits for its end, who is told the end. A run has its place among those alive before anything of it is
//! written, and from then on is on a task of the host's: its client may go away at any moment. One whose client asked for
//! that ends with it ([`CallRequest::cancel_on_disconnect`]): it is driven by who waits for it, and taken to its end by a task of
//! the host's where the client goes away.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_context::subscription::{Lost, Subscription, Subscriptions, Watermark};
use ltmc_journal::view::Outline;
use ltmc_journal::{Extent, RunLog, RunView, Sealing, Shown, Sight, runlog};
use ltmc_model::agent::{AgentRef, Export};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Event, Follows, RunStarted};
use ltmc_model::message::Trail;
use ltmc_model::run::{Run, State, Target, is_traceparent};
use ltmc_model::schedule::Scheduled;
use ltmc_model::session::{Place as Turn, Stage};
use ltmc_model::trigger::Arrived;
use ltmc_model::workflow::{Acts, Document, HandOff, Node};
use ltmc_model::{AgentName, Digest, Payload, Position, RunId, Seq, SessionId, TenantId, Timestamp, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_ports::journal::{IdempotencyKey, RunFilter};
use ltmc_ports::log::Interest;
use ltmc_ports::schedules::ScheduledStart;
use ltmc_ports::triggers::TriggeredStart;
use ltmc_ports::{
    Clock, Durability, Embedder, Entropy, Kind, ReadJournal, ReadQuestions, ReadSessions, Runner, Schemas, StoreError,
    TakeUps, Vectors, Waits, WriteJournal,
};
use ltmc_processor::Account;
use ltmc_tenancy::pins::Pin;
use ltmc_tenancy::{Authority, Compute, Error, Holds, Pins, Read, Turns};
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::coordinator::Coordinator;
use crate::experience::Experience;
use crate::lineage::{self, Told};
use crate::plan::{self, Plan};
use crate::provenance::{Graph, Provenance};
use crate::registry::{Place, Registry};
use crate::supervise::{self, Found, Live, Whose, Why};
use crate::suspects::Suspects;
use crate::take_up;
use crate::wake;

/// How long an idempotency key is remembered.
pub const IDEMPOTENCY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long between two looks at a run that is not alive here.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);
/// Entries that whoever follows a run is given at once.
const PAGE: u32 = 256;
/// Bytes of entries that are read at once, where one is not larger by itself.
const PAGE_BYTES: usize = 1 << 20;
/// How much of what documents ask for is computed at once; of one tenant's half.
const COMPUTED_AT_ONCE: usize = 4;
/// How many of a tenant's may wait for it: no more than it has runs alive.
const WAITING: usize = 20_000;
/// How long until it is looked again whether a run that is being taken up, or suspended, has come to rest.
pub(crate) const AT_REST: Duration = Duration::from_millis(50);
/// How long somebody who cancels a run waits for its end.
pub(crate) const CANCEL: Duration = Duration::from_secs(10);

/// What runs need.
pub struct Ports {
    /// To read journals.
    pub read: Arc<dyn ReadJournal>,
    /// To write them.
    pub write: Arc<dyn WriteJournal>,
    /// Topics, and who waits there.
    pub bus: Arc<dyn Waits>,
    /// What they ask people.
    pub questions: Arc<dyn ReadQuestions>,
    /// Whose turns they are.
    pub sessions: Arc<dyn ReadSessions>,
    /// What counts which runs are taken up from them.
    pub take_ups: Arc<dyn TakeUps>,
    /// What runs are followed by.
    pub subscriptions: Arc<Subscriptions>,
    /// Who may, which agents and workflows there are, and what holds.
    pub authority: Arc<Authority>,
    /// The guests' way to the host.
    pub crossing: Arc<ltmc_crossing::Shared>,
    /// The sandbox.
    pub runner: Arc<dyn Runner>,
    /// Keeps components that runs need.
    pub pins: Arc<Pins>,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// For ids and seeds.
    pub entropy: Arc<dyn Entropy>,
    /// Directories that can be granted, by the names the operator gave them.
    pub directories: BTreeMap<AgentName, PathBuf>,
    /// Who judges by JSON Schema.
    pub schemas: Arc<dyn Schemas>,
    /// What needs and agents' descriptions are compared by.
    pub embedder: Arc<dyn Embedder>,
    /// When where a run stands is written beside its journal.
    pub sealing: Sealing,
    /// A database that follows runs, where there is one: what depends on what is asked of it.
    pub graph: Option<Graph>,
    /// An index for what is learned from runs; none: nothing is.
    pub lessons: Option<Arc<dyn Vectors>>,
}

/// The use cases. A handle: clones are the same.
#[derive(Clone)]
pub struct Runs {
    pub(crate) inner: Arc<Inner>,
}

/// A call to be made.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// The agent that is called, in its newest version where none is named.
    pub agent: AgentRef,
    /// What the agent works on.
    pub input: Payload,
    /// In which session; none: one of its own.
    pub session: Option<SessionId>,
    /// The client's idempotency key.
    pub idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub request_digest: Digest,
    /// The client's W3C trace context.
    pub traceparent: Option<String>,
    /// Whether the call ends with its client: it goes on while that waits for its end ([`Runs::wait`]), and is cancelled where
    /// what [`Runs::call`] gives is dropped before. With an idempotency key it never is: somebody else may be waiting for it.
    pub cancel_on_disconnect: bool,
}

/// A workflow to be run.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: WorkflowName,
    /// What the run works on.
    pub input: Payload,
    /// In which session; none: one of its own.
    pub session: Option<SessionId>,
    /// The client's idempotency key.
    pub idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub request_digest: Digest,
    /// The client's W3C trace context.
    pub traceparent: Option<String>,
}

/// A turn to be taken.
#[derive(Debug, Clone)]
pub(crate) struct TurnRequest {
    /// The session whose turn it is.
    pub(crate) session: SessionId,
    /// In which place there.
    pub(crate) place: Turn,
    /// The message.
    pub(crate) input: Payload,
    /// The client's idempotency key.
    pub(crate) idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub(crate) request_digest: Digest,
    /// The client's W3C trace context.
    pub(crate) traceparent: Option<String>,
}

/// The event that starts a run, or several of them.
#[derive(Debug)]
pub(crate) struct Triggering {
    /// What the run is given.
    pub(crate) input: serde_json::Value,
    /// What it follows from.
    pub(crate) trail: Option<Trail>,
    /// The trace that it goes on with.
    pub(crate) traceparent: Option<String>,
    /// Whether it was there before the subscription was put, or is looked at anew.
    pub(crate) is_replay: bool,
}

/// A run that a request started, or found by its idempotency key.
pub struct Started {
    /// The run's id.
    pub run: RunId,
    /// Whether an earlier request with the same key started it.
    pub attached: bool,
    live: Option<Arc<Live>>,
    tied: Option<Tied>,
}

pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) registry: Arc<Registry>,
    /// Told when a run is suspended.
    pub(crate) sleepers: Notify,
    /// Told when a run ended that an event had started.
    pub(crate) triggered: Notify,
    /// Documents made ready to run, by the digest of their source.
    ready: Cache<Digest, Arc<Ready>>,
    /// For what documents have the host compute.
    pub(crate) compute: Compute,
    pub(crate) suspects: Suspects,
    /// Finds agents for needs.
    pub(crate) coordinator: Coordinator,
    pub(crate) provenance: Provenance,
    /// What was learned from runs that are over.
    pub(crate) experience: Option<Arc<Experience>>,
}

impl Runs {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        Self::with(ports, Registry::default())
    }

    /// The same, with room for so many runs alive at once and no more.
    pub fn with_room(ports: Ports, most: u64) -> Self {
        Self::with(ports, Registry::with_room(most))
    }

    fn with(ports: Ports, registry: Registry) -> Self {
        let experience = ports.lessons.clone().map(|vectors| {
            Experience::new(ports.read.clone(), vectors, ports.embedder.clone(), ports.subscriptions.log())
        });
        let inner = Inner {
            coordinator: Coordinator::new(ports.embedder.clone(), experience.clone()),
            experience,
            provenance: Provenance::new(ports.read.clone(), ports.graph.clone()),
            ports,
            registry: Arc::new(registry),
            sleepers: Notify::new(),
            triggered: Notify::new(),
            // bound: what is remembered
            ready: Cache::new(1_000),
            // bound: documents computed
            compute: Compute::new(Turns::new(COMPUTED_AT_ONCE, WAITING)),
            suspects: Suspects::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Calls an agent: a run of one step.
    ///
    /// # Errors
    /// Where the agent is not there, the host is busy, or the idempotency key was used for another request.
    pub async fn call(&self, caller: &Caller, request: CallRequest) -> Result<Started, Error> {
        let inner = &self.inner;
        inner.ports.authority.authorize(caller, Action::Run).await?;
        let found = inner.ports.authority.agent(&caller.tenant, &request.agent).await?;
        let agent = found.ok_or_else(|| Error::not_found(format!("agent `{}`", request.agent)))?;
        let plan = Plan::call(&request.agent).map_err(|f| Error::Internal { message: f.to_string() })?;
        let begin = Begin {
            target: Target::Agent(request.agent),
            agents: BTreeMap::from([(agent.name.clone(), agent.digest)]),
            document: None,
            plan: Arc::new(plan),
            input: request.input,
            session: request.session,
            tied: request.cancel_on_disconnect && request.idempotency.is_none(),
            idempotency: request.idempotency.map(|key| (key, request.request_digest)),
            traceparent: request.traceparent,
            scheduled: None,
            triggered: None,
            turn: None,
            position: None,
        };
        self.begin(caller, begin).await
    }

    /// Starts a run of a workflow.
    ///
    /// # Errors
    /// Where the workflow or an agent of it is not there, the host is busy, or the idempotency key was used for another
    /// request.
    pub async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Error> {
        let (ready, agents) = self.ready_for(caller, &request.workflow).await?;
        let begin = Begin {
            target: Target::Workflow(request.workflow),
            agents,
            document: Some((ready.json.clone(), ready.digest)),
            plan: ready.plan.clone(),
            input: request.input,
            session: request.session,
            tied: false,
            idempotency: request.idempotency.map(|key| (key, request.request_digest)),
            traceparent: request.traceparent,
            scheduled: None,
            triggered: None,
            turn: None,
            position: self.position(&ready),
        };
        self.begin(caller, begin).await
    }

    /// Starts a run of a workflow by a schedule of its document, or finds the one that was with this idempotency key. It is recorded when
    /// this returns, unless the record does not say.
    ///
    /// # Errors
    /// As [`Self::start`]; a conflict of the record's where the schedule does not allow it any more.
    pub(crate) async fn start_scheduled(
        &self,
        caller: &Caller,
        start: ScheduledStart,
        idempotency: Option<(String, Digest)>,
    ) -> Result<Started, Error> {
        let (ready, agents) = self.ready_for(caller, &start.id.workflow).await?;
        let schedule = ready
            .schedules
            .get((start.id.number as usize).saturating_sub(1))
            .filter(|found| found.digest == start.digest);
        let input = schedule.ok_or_else(|| Error::not_found(format!("schedule `{}`", start.id)))?.input.clone();
        let position = self.position(&ready);
        let begin = Begin {
            target: Target::Workflow(start.id.workflow.clone()),
            agents,
            document: Some((ready.json.clone(), ready.digest)),
            plan: ready.plan.clone(),
            input,
            session: None,
            tied: false,
            idempotency,
            traceparent: None,
            scheduled: Some(start),
            triggered: None,
            turn: None,
            position,
        };
        self.begin(caller, begin).await
    }

    /// Starts a run by an event that a subscription took in. It is recorded when this returns, unless the record does not say.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::call`]; a conflict of the record's where the subscription does not allow it any more.
    pub(crate) async fn start_triggered(
        &self,
        caller: &Caller,
        target: &Target,
        start: TriggeredStart,
        triggering: Triggering,
    ) -> Result<Started, Error> {
        let Triggering { mut input, trail, traceparent, is_replay } = triggering;
        let Made { agents, document, plan, position } = self.made(caller, target, false).await?;
        if is_replay {
            input["replay"] = true.into();
        }
        let begin = Begin {
            target: target.clone(),
            agents,
            document,
            plan,
            input: Payload::json(&input),
            session: None,
            tied: false,
            idempotency: None,
            traceparent: traceparent.filter(|text| is_traceparent(text.as_bytes())),
            scheduled: None,
            triggered: trail.map(|trail| (start, is_replay, trail)),
            turn: None,
            position,
        };
        self.begin(caller, begin).await
    }

    /// The same as [`Self::ready`], for somebody who may run it, and may do what it does by itself.
    ///
    /// # Errors
    /// Where they may not; those of [`Self::ready`].
    async fn ready_for(
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
        for agent in &ready.agents {
            let found = inner.ports.authority.agent(tenant, agent).await?;
            let found = found.ok_or_else(|| Error::not_found(format!("agent `{agent}`, which the workflow names")))?;
            agents.insert(found.name.clone(), found.digest);
        }
        Ok((ready, agents))
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

    async fn begin(&self, caller: &Caller, begin: Begin) -> Result<Started, Error> {
        let inner = &self.inner;
        if inner.registry.is_stopping() {
            return Err(Error::Busy { message: "the host is stopping".into(), retry_after: Duration::from_secs(5) });
        }
        let now = inner.ports.clock.now();
        let idempotency = begin.idempotency.map(|(key, request)| (format!("{}/{key}", caller.key), request));
        if let Some((key, request)) = &idempotency
            && let Some(found) = inner.ports.read.idempotent(&caller.tenant, key, now).await?
        {
            return self.attach(caller, found, request);
        }
        let (run, seed) = inner.drawn(now);
        let session = match begin.session {
            Some(session) if begin.turn.is_some() => session,
            Some(session) => self.own_session(caller, session).await?,
            None => run.to_string().parse().map_err(|e| Error::Internal { message: format!("{e}") })?,
        };
        let (document, document_digest) = begin.document.unzip();
        let started = RunStarted {
            target: begin.target,
            agents: begin.agents,
            document,
            document_digest,
            input: begin.input,
            session,
            by: caller.key.clone(),
            seed,
            traceparent: begin.traceparent,
            position: begin.position,
            forked: None,
            parent: None,
            scheduled: begin.scheduled.as_ref().map(|start| Scheduled {
                number: start.id.number,
                tick: start.tick,
                asked_for: start.due.is_none(),
            }),
            follows: match &begin.triggered {
                Some((start, replay, trail)) => {
                    let arrived = Arrived { subscription: start.id.clone(), position: start.position, replay: *replay };
                    Some(Box::new(Follows { trail: trail.clone(), arrived: Some(arrived) }))
                }
                None => Follows::passed_on(caller.cause.as_ref().and_then(|cause| cause.trail.clone())),
            },
            turn: begin.turn,
        };
        let kept = idempotency.as_ref().map(|(key, request)| IdempotencyKey {
            key: key.clone(),
            request: *request,
            run,
            expires_at: now.after(IDEMPOTENCY),
        });
        let is_to_be_first =
            kept.is_some() || begin.scheduled.is_some() || begin.triggered.is_some() || begin.turn.is_some();
        let log =
            RunLog::fresh(inner.log_ports(), caller.tenant.clone(), run, started, kept).scheduled(begin.scheduled);
        let log = log.triggered(begin.triggered.map(|(start, ..)| start));
        if begin.turn.is_some_and(|turn| turn.waits) {
            return self.begin_later(caller, log, idempotency).await;
        }
        let entered = self.enter_as(log, begin.plan).await?;
        let live = entered.place.live().clone();
        if !is_to_be_first {
            // Nothing is to be written first: the run itself is what survives its client.
            let tied = match begin.tied {
                true => Some(Tied::new(live.clone(), entered.driven(inner))),
                false => {
                    entered.set_out(inner);
                    None
                }
            };
            return Ok(Started { run, attached: false, live: Some(live), tied });
        }
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move {
            let inner = &runs.inner;
            // Recorded before anything is done, so that of two requests with the same key, or by the same tick, one only does it.
            // In doubt, the run's task looks into the record: it goes on with what is there, or says that there is nothing.
            if let Err(error) = live.log().flush(Durability::Lazy).await
                && error.kind != Kind::Unavailable
            {
                drop(entered);
                return runs.begun_by_another(&by, idempotency, error).await;
            }
            entered.set_out(inner);
            Ok(Started::begun(run, live))
        };
        inner.ports.authority.tasks().own(&caller.tenant, work).await
    }

    /// Records a turn that waits for others: a row, and nothing in memory.
    async fn begin_later(
        &self,
        caller: &Caller,
        log: RunLog,
        idempotency: Option<(String, Digest)>,
    ) -> Result<Started, Error> {
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move {
            // The end of the turn before makes it due.
            log.stage(Event::RunSuspended { until: Timestamp::NEVER, heard: None });
            match log.flush(Durability::Barrier).await {
                Ok(()) => Ok(Started { run: log.run(), attached: false, live: None, tied: None }),
                Err(error) => runs.begun_by_another(&by, idempotency, error).await,
            }
        };
        self.inner.ports.authority.tasks().own(&caller.tenant, work).await
    }

    /// The run that another request with the same idempotency key began, where that is why this one could not be.
    async fn begun_by_another(
        &self,
        caller: &Caller,
        idempotency: Option<(String, Digest)>,
        error: StoreError,
    ) -> Result<Started, Error> {
        let Some((key, request)) = idempotency.filter(|_| error.kind == Kind::Conflict) else {
            return Err(error.into());
        };
        let now = self.inner.ports.clock.now();
        match self.inner.ports.read.idempotent(&caller.tenant, &key, now).await? {
            Some(found) => self.attach(caller, found, &request),
            None => Err(error.into()),
        }
    }

    /// Takes a place for a new run. Nothing of it is written, nor done.
    ///
    /// # Errors
    /// Where there is no room, or it is under way already.
    pub(crate) async fn enter(
        &self,
        tenant: &TenantId,
        run: RunId,
        started: RunStarted,
        plan: plan::Shared,
        kept: Option<IdempotencyKey>,
    ) -> Result<Entered, Error> {
        let log = RunLog::fresh(self.inner.log_ports(), tenant.clone(), run, started, kept);
        self.enter_as(log, plan).await
    }

    /// The same, for the log of a new run.
    async fn enter_as(&self, log: RunLog, plan: plan::Shared) -> Result<Entered, Error> {
        let inner = &self.inner;
        let weight = log.started().input.bytes.len() as u64;
        let pins = inner.pin(&log.started().agents).await;
        let place = inner.registry.enter(Live::new(Arc::new(log), weight))?;
        Ok(Entered { place, plan, pins })
    }

    /// The session that a caller means by a name. Keys of the role `caller` have each their own: what one keeps in a session
    /// another is not to read by its agents. That of a run of its own it may go on with by the run's id.
    async fn own_session(&self, caller: &Caller, session: SessionId) -> Result<SessionId, Error> {
        if let Ok(run) = session.as_str().parse::<RunId>() {
            let row = self.inner.ports.read.run(&caller.tenant, run).await?;
            if row.is_some_and(|row| row.by == caller.key) {
                return Ok(session);
            }
        }
        let session = named_by(caller, session)?;
        if self.inner.ports.sessions.session(&caller.tenant, &session).await?.is_some() {
            let message = format!(
                "session {session} was opened, and one turn at a time works in it: say it there (`ltmc session say {session}`, or POST \
                 /v1/sessions/{session}/turns)"
            );
            return Err(Error::Conflict { code: "conflict", message });
        }
        Ok(session)
    }

    /// Begins a turn of a session, or has it wait. It is recorded when this returns, unless the record does not say.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::call`]; a conflict of the record's where the session has another place for it by now, or none.
    pub(crate) async fn take_turn(
        &self,
        caller: &Caller,
        with: &Target,
        is_apart: bool,
        turn: TurnRequest,
    ) -> Result<Started, Error> {
        let Made { agents, document, plan, position } = self.made(caller, with, is_apart).await?;
        let begin = Begin {
            target: with.clone(),
            agents,
            document,
            plan,
            input: turn.input,
            session: Some(turn.session),
            tied: false,
            idempotency: turn.idempotency.map(|key| (key, turn.request_digest)),
            traceparent: turn.traceparent,
            scheduled: None,
            triggered: None,
            turn: Some(turn.place),
            position,
        };
        self.begin(caller, begin).await
    }

    /// What a run of a target is begun with, as the target is now; in a branch of its own, where it is to be one.
    ///
    /// # Errors
    /// Where it is not there, or the caller may not run it, or it cannot be in such a branch.
    async fn made(&self, caller: &Caller, target: &Target, is_apart: bool) -> Result<Made, Error> {
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

    /// The run that an earlier request with this idempotency key began; none: there was no such request.
    ///
    /// # Errors
    /// Where that was another request.
    pub(crate) async fn said_before(
        &self,
        caller: &Caller,
        key: Option<&String>,
        request: &Digest,
    ) -> Result<Option<Started>, Error> {
        let Some(key) = key else { return Ok(None) };
        let (key, now) = (format!("{}/{key}", caller.key), self.inner.ports.clock.now());
        let found = self.inner.ports.read.idempotent(&caller.tenant, &key, now).await?;
        found.map(|found| self.attach(caller, found, request)).transpose()
    }

    /// How far the turn is that a run is; none: it is no turn.
    pub(crate) async fn stage(&self, row: &Run) -> Result<Option<Stage>, StoreError> {
        let Some(before) = row.turn.and_then(|turn| turn.checked_sub(1)) else { return Ok(None) };
        let found = self.inner.ports.sessions.turns(&row.tenant, &row.session, before, 1).await?;
        Ok(found.into_iter().next().map(|turn| turn.stage))
    }

    /// A run's row, and how it began.
    ///
    /// # Errors
    /// Where it is not there.
    pub(crate) async fn begun(&self, tenant: &TenantId, run: RunId) -> Result<(Run, RunStarted), Error> {
        let missing = || Error::not_found(format!("run `{run}`"));
        let row = self.inner.ports.read.run(tenant, run).await?.ok_or_else(missing)?;
        let first = self.inner.ports.read.entries(tenant, run, Seq(0), 1).await?.into_iter().next();
        match first.map(|placed| placed.entry.event) {
            Some(Event::RunStarted(started)) => Ok((row, *started)),
            _ => Err(missing()),
        }
    }

    pub(crate) fn attach(&self, caller: &Caller, found: IdempotencyKey, request: &Digest) -> Result<Started, Error> {
        if found.request != *request {
            let message = format!(
                "the idempotency key was used within 24 hours for another request, which started run {}: use a new key",
                found.run
            );
            return Err(Error::Conflict { code: "idempotency-key-reused", message });
        }
        let live = self.live(&caller.tenant, found.run);
        Ok(Started { run: found.run, attached: true, live, tied: None })
    }

    /// Waits for a run's end: for ever, or for so long. None: it is not over yet; what is so far is then on disk.
    ///
    /// One that is not alive here and not over either is about to be taken up again, or is another host's: its end is waited
    /// for all the same. Only where it is known that it waits for the next start that is said instead.
    ///
    /// # Errors
    /// Where the record does not answer.
    pub async fn wait(
        &self,
        caller: &Caller,
        started: &Started,
        patience: Option<Duration>,
    ) -> Result<Option<Result<Payload, Failure>>, Error> {
        let (registry, tenant, run, begun) = (&self.inner.registry, &caller.tenant, started.run, Instant::now());
        let mut known = started.live.clone();
        // One that ends with its client goes on only while it is waited for: to its end.
        let patience = patience.filter(|_| started.tied.is_none());
        loop {
            let patience = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
            if let Some(live) = known.take().or_else(|| registry.get(tenant, run)) {
                let Some(end) = within(patience, started.ended(&live)).await else {
                    match written(&live, Durability::Barrier).await {
                        // Somebody else has it by now, to end it or to go on with it: what it began with is in the record.
                        Err(error) if matches!(error.kind, Kind::Fenced | Kind::Displaced) => {
                            self.inner.ports.subscriptions.log().settled().await;
                        }
                        written => written?,
                    }
                    return Ok(None);
                };
                if !end.goes_on {
                    return Ok(Some(end.result));
                }
                continue;
            }
            let is_left = registry.is_left_behind(tenant, run);
            if let Some(result) = self.result(tenant, run).await? {
                return Ok(Some(result));
            }
            if is_left {
                let message = "the run is not over, and goes on when the host is started again";
                return Ok(Some(Err(Failure::new(Code::Unavailable, message).retryable())));
            }
            if within(patience, self.inner.news(tenant, run)).await.is_none() {
                return Ok(None);
            }
        }
    }

    /// How a run ended, if it is over.
    pub(crate) async fn result(
        &self,
        tenant: &TenantId,
        run: RunId,
    ) -> Result<Option<Result<Payload, Failure>>, Error> {
        let row = self.inner.ports.read.run(tenant, run).await?;
        let row = row.ok_or_else(|| Error::not_found(format!("run `{run}`")))?;
        if !row.state.is_over() {
            return Ok(None);
        }
        let outline = self.outline(tenant, run).await?;
        self.result_in(tenant, run, &outline).await
    }

    /// The same, of one that is over and of which this is known.
    pub(crate) async fn result_in(
        &self,
        tenant: &TenantId,
        run: RunId,
        outline: &Outline,
    ) -> Result<Option<Result<Payload, Failure>>, Error> {
        let Some((of, seq)) = outline.result_at() else { return Ok(outline.history.result()) };
        let found = self.inner.ports.read.entries(tenant, of, Seq(seq.0.saturating_sub(1)), 1).await?;
        match found.into_iter().next().map(|placed| placed.entry.event) {
            Some(Event::Amended(amended)) => Ok(amended.output().map(Ok)),
            Some(
                Event::StepCompleted { output, .. }
                | Event::NodeEnded { output, .. }
                | Event::Answered { answer: output, .. }
                | Event::EventTaken { event: output, .. }
                | Event::ChildEnded { result: Ok(output), .. },
            ) => Ok(Some(Ok(output))),
            _ => Err(Error::Internal { message: format!("the result of run {run} is not where it stood") }),
        }
    }

    /// A tenant's runs, newest first; of a key of the role `caller` its own.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn list(&self, caller: &Caller, mut filter: RunFilter) -> Result<Vec<Run>, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        if caller.role == Role::Caller {
            filter.by = Some(caller.key.clone());
            let is_a_runs = |session: &SessionId| session.as_str().parse::<RunId>().is_ok();
            filter.session = match filter.session {
                Some(session) if !is_a_runs(&session) => Some(named_by(caller, session)?),
                session => session,
            };
        }
        Ok(self.inner.ports.read.runs(&caller.tenant, &filter).await?)
    }

    /// A run, with its steps and its result.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, run: RunId) -> Result<RunView, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        let row = self.seen(caller, run).await?;
        let limit = u32::try_from(RunView::CHILDREN + 1).unwrap_or(u32::MAX);
        let filter = RunFilter { parent: Some(run), limit, ..RunFilter::default() };
        let mut children = self.inner.ports.read.runs(&caller.tenant, &filter).await?;
        children.sort_by_key(|child| (child.created_at, child.id));
        Ok(RunView::new(&row, &self.outline(&caller.tenant, run).await?, &children))
    }

    /// A run's result; none: it is not over.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn output(&self, caller: &Caller, run: RunId) -> Result<Option<Result<Payload, Failure>>, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        self.seen(caller, run).await?;
        self.result(&caller.tenant, run).await
    }

    /// A page of a run's journal after entry `after`: at most `limit` entries and about 1 MiB, without what is large in them and
    /// what the caller may not read elsewhere; and the entry to go on after, where there are more.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn journal(
        &self,
        caller: &Caller,
        run: RunId,
        after: Seq,
        limit: u32,
    ) -> Result<(Vec<Shown>, Option<Seq>), Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        let row = self.seen(caller, run).await?;
        let page = self.inner.ports.read.page(&caller.tenant, run, after, limit, PAGE_BYTES).await?;
        let next = page.last().map(|last| last.seq).filter(|last| *last < row.seq);
        Ok((page.into_iter().map(|placed| Shown::of(placed, sight(caller), Extent::Short)).collect(), next))
    }

    /// One entry of a run's journal, all of it that the caller may read elsewhere.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn entry(&self, caller: &Caller, run: RunId, seq: Seq) -> Result<Shown, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        self.seen(caller, run).await?;
        let missing = || Error::not_found(format!("entry {seq} of run `{run}`"));
        let before = Seq(seq.0.checked_sub(1).ok_or_else(missing)?);
        let found = self.inner.ports.read.entries(&caller.tenant, run, before, 1).await?;
        let placed = found.into_iter().next().ok_or_else(missing)?;
        Ok(Shown::of(placed, sight(caller), Extent::Whole))
    }

    /// Follows a run's journal after entry `after`.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn watch(&self, caller: &Caller, run: RunId, after: Seq) -> Result<Watch, Error> {
        let Ports { authority, subscriptions, read, .. } = &self.inner.ports;
        authority.authorize(caller, Action::ReadRuns).await?;
        // One that began just now is then there; its end, and what it does, comes to disk without being asked for.
        self.settle(&caller.tenant, run, Durability::Lazy).await?;
        self.seen(caller, run).await?;
        let news = subscriptions.subscribe(&caller.tenant, Interest::Run(run), Watermark::Durable, None).await;
        let (read, tenant, news) = (read.clone(), caller.tenant.clone(), news.map_err(lost)?);
        let sight = sight(caller);
        Ok(Watch { read, news, sight, tenant, run, after, length: Seq(0), state: State::Queued })
    }

    /// Goes on with suspended runs as they become due, until the host stops.
    pub async fn wake(&self) {
        wake::wake(self).await;
    }

    /// Goes on with a run of the record that is not over; none: there is none to go on with, or what began it is over, and so is it.
    pub(crate) async fn claim(&self, tenant: &TenantId, run: RunId) -> Option<Result<(), Error>> {
        match supervise::take_over(&self.inner, tenant, run, Whose::Anyones).await {
            Ok(Found::Log(log)) => match self.is_orphan(&log).await {
                Ok(false) => Some(self.go_on(log, Vec::new()).await),
                Ok(true) => match self.end_at_rest(log).await {
                    Ok(true) => Some(Ok(())),
                    Ok(false) => {
                        self.end_below(tenant, run, Vec::new(), true).await;
                        None
                    }
                    Err(error) => Some(Err(error)),
                },
                Err(error) => Some(Err(error.into())),
            },
            Ok(Found::Over(..) | Found::Taken | Found::Nothing) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Goes on with a run of the record: takes its place, and only then writes what claims it, and `first`. Once it has its place that is
    /// done to its end, also where whoever asks for it goes away meanwhile.
    pub(crate) async fn go_on(&self, log: Arc<RunLog>, first: Vec<Event>) -> Result<(), Error> {
        let inner = &self.inner;
        let started = log.started().clone();
        let pins = inner.pinned(&log, &first).await;
        // Before anybody finds it alive: whoever brings something else into it sees what this brings.
        first.into_iter().for_each(|event| log.stage(event));
        let place = inner.registry.enter(Live::new(log.clone(), started.input.bytes.len() as u64))?;
        let (inner, tenant) = (inner.clone(), log.tenant().clone());
        to_its_end(&tenant, async move {
            let written = log.flush(Durability::Barrier).await;
            // In doubt, the run's task looks into the record: it goes on with what is there, or finds the run over.
            if written.as_ref().err().is_none_or(|error| error.kind == Kind::Unavailable) {
                inner.spawn(place, None, pins);
            }
            Ok(written?)
        })
        .await
    }

    /// Takes no new runs, gives those under way `grace` to end, and parks the rest: the next start goes on with them.
    pub async fn stop(&self, grace: Duration) {
        self.inner.registry.stop(grace).await;
        // It came to its end: whatever was taken up has not kept it from that.
        if let Err(error) = self.inner.ports.take_ups.forget_take_ups().await {
            tracing::warn!(%error, "which runs were taken up could not be forgotten: the next start takes them for suspects");
        }
    }

    /// How many runs are alive.
    pub fn alive(&self) -> usize {
        self.inner.registry.len()
    }

    /// Bytes of the inputs of the runs that are alive: what is bounded for each tenant and for all.
    pub fn input_bytes(&self) -> u64 {
        self.inner.registry.input_bytes()
    }

    pub(crate) fn live(&self, tenant: &TenantId, run: RunId) -> Option<Arc<Live>> {
        self.inner.registry.get(tenant, run)
    }

    /// Writes what is so far of a live run, so that it can be read, or told.
    pub(crate) async fn settle(&self, tenant: &TenantId, run: RunId, durability: Durability) -> Result<(), Error> {
        match self.live(tenant, run) {
            // Its log may have lost its thread: then the record has what there is.
            Some(live) => match written(&live, durability).await {
                Err(error) if !matches!(error.kind, Kind::Fenced | Kind::Stale) => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// A run's row for who looks at the run: the audit tells who looks at another key's.
    pub(crate) async fn seen(&self, caller: &Caller, run: RunId) -> Result<Run, Error> {
        let row = self.row(caller, run).await?;
        // Nobody waited for the disk when it was over; of one that is alive here what is so far was written just now.
        if row.parent.is_some() && self.live(&caller.tenant, run).is_none() {
            self.inner.ports.subscriptions.log().settled().await;
        }
        if row.by != caller.key {
            self.inner.ports.authority.note_read(&caller.tenant, &caller.key, Read::OthersRuns);
        }
        Ok(row)
    }

    pub(crate) async fn row(&self, caller: &Caller, run: RunId) -> Result<Run, Error> {
        let row = self.inner.ports.read.run(&caller.tenant, run).await?;
        row.filter(|row| may_see(caller, &row.by)).ok_or_else(|| Error::not_found(format!("run `{run}`")))
    }

    /// What a client's request follows from that works in this run, as the record has it.
    ///
    /// # Errors
    /// Where the run is not there, or is not for the caller to see.
    pub async fn cause(&self, caller: &Caller, run: RunId) -> Result<Option<Trail>, Error> {
        let inner = &self.inner;
        self.row_or_live(caller, run).await?;
        if let Some(live) = inner.registry.get(&caller.tenant, run) {
            return Ok(live.log().read(|history| history.trail().cloned()));
        }
        let until = lineage::TO_THE_END;
        let history = take_up::history(inner.ports.read.as_ref(), &caller.tenant, run, until).await?;
        Ok(history.trail().cloned())
    }

    /// Where a run stands, for those who look at it.
    pub(crate) async fn outline(&self, tenant: &TenantId, run: RunId) -> Result<Outline, StoreError> {
        let mut outline = Outline::default();
        let mut apply = |told: Told| match told {
            Told::Entry(of, placed) => outline.apply(of, *placed),
            Told::BranchesOff => outline.history.branch_off(),
        };
        let (read, until) = (self.inner.ports.read.as_ref(), lineage::TO_THE_END);
        lineage::each(read, tenant, run, until, Some(PAGE_BYTES), &mut apply).await?;
        Ok(outline)
    }
}

/// Nothing of a deleted tenant can be written: what is alive of it ends where it is.
#[async_trait]
impl Holds for Runs {
    async fn let_go(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let alive = self.inner.registry.of(tenant);
        alive.iter().for_each(|live| live.stop(Why::Parked));
        for live in alive {
            if within(Some(CANCEL), live.ended()).await.is_none() {
                let why = format!("run {} does not end", live.run);
                return Err(StoreError::new(Kind::Unavailable, "runs.let-go").because(why));
            }
        }
        match &self.inner.experience {
            Some(experience) => experience.forget(tenant).await,
            None => Ok(()),
        }
    }
}

impl Inner {
    pub(crate) fn log_ports(&self) -> runlog::Ports {
        let Ports { write, clock, sealing, .. } = &self.ports;
        runlog::Ports { journal: write.clone(), clock: clock.clone(), sealing: *sealing }
    }

    /// A new run's id, and its seed.
    pub(crate) fn drawn(&self, now: Timestamp) -> (RunId, [u8; 32]) {
        let mut random = [0; 42];
        self.ports.entropy.fill(&mut random);
        let (mut id, mut seed) = ([0; 10], [0; 32]);
        id.copy_from_slice(&random[..10]);
        seed.copy_from_slice(&random[10..]);
        (RunId::new(now, id), seed)
    }

    /// Keeps what a run needs that goes on with these events.
    pub(crate) async fn pinned(&self, log: &RunLog, first: &[Event]) -> Vec<Pin> {
        let mut agents =
            log.read(|history| history.started().map(|started| started.agents.clone())).unwrap_or_default();
        for event in first {
            if let Event::AgentReplaced { agent, to, .. } = event {
                agents.insert(agent.clone(), *to);
            }
        }
        self.pin(&agents).await
    }

    async fn pin(&self, agents: &BTreeMap<AgentName, Digest>) -> Vec<Pin> {
        let mut pins = Vec::with_capacity(agents.len());
        for digest in agents.values() {
            pins.push(self.ports.pins.hold(*digest).await);
        }
        pins
    }

    /// Comes when a run that is not alive here may have ended, or takes a place here, or the host stops.
    pub(crate) async fn news(&self, tenant: &TenantId, run: RunId) {
        let registry = &self.registry;
        let again = tokio::time::sleep(AGAIN);
        tokio::pin!(again);
        // Whatever else takes a place is no news of this one, and no reason to ask the record.
        loop {
            let entered = registry.entered();
            if registry.get(tenant, run).is_some() {
                return;
            }
            tokio::select! {
                () = entered => {}
                () = registry.stopping() => return,
                () = &mut again => return,
            }
        }
    }

    pub(crate) fn spawn(self: &Arc<Self>, place: Place, plan: Option<plan::Shared>, pins: Vec<Pin>) {
        let account = Account::of(&place.live().tenant);
        tokio::spawn(ltmc_processor::run(account, supervise::live(self.clone(), place, plan, pins)));
    }
}

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
    schedules: Vec<ReadySchedule>,
}

/// What a schedule starts runs with.
struct ReadySchedule {
    digest: Digest,
    input: Payload,
}

impl Ready {
    fn of(stored: &StoredWorkflow) -> Result<Self, String> {
        let document = Document::parse(&stored.source, Some(&stored.name)).map_err(|faults| faults.to_string())?;
        Ok(Self::of_document(&document))
    }

    fn of_document(document: &Document) -> Self {
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

/// A new run that has its place, and is not under way yet.
pub(crate) struct Entered {
    place: Place,
    plan: plan::Shared,
    pins: Vec<Pin>,
}

impl Entered {
    /// Its life, to be driven by whoever has it.
    fn driven(self, inner: &Arc<Inner>) -> impl Future<Output = ()> + Send + use<> {
        supervise::live(inner.clone(), self.place, Some(self.plan), self.pins)
    }

    /// It is driven by a task of the host's, once its beginning is in the record; also where it is not known whether that is: its task
    /// looks. That is done to its end, also where whoever asks for it goes away meanwhile.
    ///
    /// # Errors
    /// The record's; nothing of it is then done.
    pub(crate) async fn set_out_recorded(self, inner: &Arc<Inner>) -> Result<(), Error> {
        let inner = inner.clone();
        let live = self.place.live().clone();
        to_its_end(&live.tenant, async move {
            match self.place.live().log().flush(Durability::Lazy).await {
                Err(error) if error.kind != Kind::Unavailable => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
            self.set_out(&inner);
            Ok(())
        })
        .await
    }

    /// It is driven by a task of the host's.
    pub(crate) fn set_out(self, inner: &Arc<Inner>) {
        let Self { place, plan, pins } = self;
        inner.spawn(place, Some(plan), pins);
    }
}

/// Does what would be half done if whoever waits for it went away, on a task of the host's.
async fn to_its_end(
    tenant: &TenantId,
    work: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<(), Error> {
    let done = tokio::spawn(ltmc_processor::run(Account::of(tenant), work.in_current_span())).await;
    done.unwrap_or_else(|broken| Err(Error::Internal { message: format!("a run could not set out: {broken}") }))
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

/// What a target is at the moment at which a run of it begins.
struct Made {
    /// The version of each agent that the plan names.
    agents: BTreeMap<AgentName, Digest>,
    /// None: an agent that is called alone.
    document: Option<(Arc<str>, Digest)>,
    plan: plan::Shared,
    /// From where on it may wait for events; none: it waits for none.
    position: Option<Position>,
}

/// What a run is begun with.
struct Begin {
    target: Target,
    agents: BTreeMap<AgentName, Digest>,
    document: Option<(Arc<str>, Digest)>,
    plan: plan::Shared,
    input: Payload,
    session: Option<SessionId>,
    /// Whether it ends with its client.
    tied: bool,
    idempotency: Option<(String, Digest)>,
    traceparent: Option<String>,
    /// The schedule that starts it.
    scheduled: Option<ScheduledStart>,
    /// The event that starts it, whether that came before, and what the run follows from.
    triggered: Option<(TriggeredStart, bool, Trail)>,
    /// Which turn of its session it is.
    turn: Option<Turn>,
    /// From where on it may wait for events.
    position: Option<Position>,
}

impl Started {
    /// One that a task of the host's drives.
    pub(crate) fn begun(run: RunId, live: Arc<Live>) -> Self {
        Self { run, attached: false, live: Some(live), tied: None }
    }

    /// Waits until it ended.
    async fn ended(&self, live: &Live) -> supervise::End {
        let Some(tied) = &self.tied else { return live.ended().await };
        tokio::select! {
            biased;
            () = tied.drive() => live.ended().await,
            // Nobody is kept waiting where the record does not answer, though the run goes on when it does.
            end = live.ended() => end,
        }
    }
}

/// A call that ends with its client. The client's own task drives it, which spares it a task and the way to that and back; where
/// the client goes away it is cancelled, and a task of the host's takes it to its end.
struct Tied {
    live: Arc<Live>,
    /// None: it ended.
    driven: tokio::sync::Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Tied {
    fn new(live: Arc<Live>, driven: impl Future<Output = ()> + Send + 'static) -> Self {
        // What breaks in it ends the run, as it would on a task: its place says so to those who wait.
        let driven = AssertUnwindSafe(driven).catch_unwind().map(drop).boxed();
        Self { live, driven: tokio::sync::Mutex::new(Some(driven)) }
    }

    async fn drive(&self) {
        let mut driven = self.driven.lock().await;
        if let Some(run) = driven.as_mut() {
            run.await;
            *driven = None;
        }
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        let Some(run) = self.driven.get_mut().take() else { return };
        if !self.live.has_ended() {
            self.live.stop(Why::Cancelled { by: None, reason: "the client went away".into() });
        }
        // Where there is no runtime any more, what is dropped here is found in the record by the next host.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(ltmc_processor::run(Account::of(&self.live.tenant), run));
        }
    }
}

/// Follows a run, whichever host it is alive in, and whether it is: its journal from an entry on, as it comes to disk.
pub struct Watch {
    read: Arc<dyn ReadJournal>,
    news: Subscription,
    sight: Sight,
    tenant: TenantId,
    run: RunId,
    after: Seq,
    /// How far its journal is known to be on disk, and where it stood then.
    length: Seq,
    state: State,
}

/// What comes next of a run.
#[derive(Debug)]
pub enum Followed {
    /// Entries of its journal, without what is large in them and what whoever follows may not read elsewhere.
    Entries(Vec<Shown>),
    /// It is over, and everything was given.
    Over(State),
}

impl Watch {
    /// What comes next. To be dropped while it waits does no harm.
    ///
    /// # Errors
    /// Where the record does not answer, or the run cannot be followed on.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            if self.after < self.length {
                let left = u32::try_from(self.length.0 - self.after.0).unwrap_or(PAGE).min(PAGE);
                let entries = self.read.page(&self.tenant, self.run, self.after, left, PAGE_BYTES).await?;
                if let Some(last) = entries.last() {
                    self.after = last.seq;
                    let shown = entries.into_iter().map(|placed| Shown::of(placed, self.sight, Extent::Short));
                    return Ok(Followed::Entries(shown.collect()));
                }
            } else if self.state.is_over() {
                return Ok(Followed::Over(self.state));
            }
            for row in self.news.next(1).await.map_err(lost)? {
                if let Delta::Run(mark) = &row.delta
                    && mark.seq > self.length
                {
                    (self.length, self.state) = (mark.seq, mark.state);
                }
            }
        }
    }
}

fn lost(lost: Lost) -> Error {
    match lost {
        Lost::Store(error) => error.into(),
        // How far a run is now is always there to be read.
        Lost::Resync(_) => Error::Internal { message: "a run cannot be followed on".into() },
    }
}

/// What comes, if it comes within `patience`; none: for ever.
async fn within<T>(patience: Option<Duration>, comes: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, comes).await.ok(),
        None => Some(comes.await),
    }
}

/// Writes what is so far of a live run. One that is being taken up again, for others were faster, is waited for.
async fn written(live: &Live, durability: Durability) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        match live.log().flush(durability).await {
            Err(error) if error.kind == Kind::Stale && begun.elapsed() < CANCEL && !live.has_ended() => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            done => return done,
        }
    }
}

/// A session by the name that a caller has for it; with its key before it, where it is one of its own alone.
fn named_by(caller: &Caller, session: SessionId) -> Result<SessionId, Error> {
    let own = format!("{}:", caller.key);
    if caller.role != Role::Caller || session.as_str().starts_with(&own) {
        return Ok(session);
    }
    format!("{own}{session}").parse().map_err(|_| {
        let most = 128 - own.len();
        Error::invalid(
            "bad-header",
            "Ltmc-Session",
            format!("the name of a session of this key has at most {most} bytes"),
        )
    })
}

/// What a caller may read besides runs.
pub(crate) fn sight(caller: &Caller) -> Sight {
    let may = |action| ltmc_policy::authorize(caller, action).is_ok();
    Sight { context: may(Action::ReadContext), definitions: may(Action::ReadDefinitions) }
}

pub(crate) fn may_see(caller: &Caller, by: &ltmc_model::KeyId) -> bool {
    caller.role != Role::Caller || *by == caller.key
}

pub(crate) fn being_taken_up() -> Error {
    Error::Busy { message: "the run is being taken up again".into(), retry_after: Duration::from_secs(1) }
}

pub(crate) fn is_over(run: RunId, state: State) -> Error {
    let message = match state {
        State::Paused => format!("run {run} is paused: `ltmc runs continue {run}` goes on with it first"),
        State::Stuck => {
            format!("run {run} is stuck: what undoes its work has failed, which somebody is to look at first")
        }
        State::Quarantined => format!("run {run} is quarantined: `ltmc runs resume {run}` takes it up again"),
        state => format!("run {run} is over: it is {}", state.as_str()),
    };
    Error::Conflict { code: "conflict", message }
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs").field("alive", &self.alive()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("run", &self.run).field("attached", &self.attached).finish_non_exhaustive()
    }
}

/// Why a conversation that is handed on is in no session with `rollback`.
fn not_rolled_back() -> Error {
    let message = "a conversation that is handed on cannot be in a session with `rollback`: what is undone would have been held by others";
    Error::invalid("invalid", "if-busy", message)
}
