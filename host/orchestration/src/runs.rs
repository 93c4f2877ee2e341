//! Runs: started, waited for, looked at, followed, cancelled, resumed.
//!
//! Invariants: a use case takes `&Caller` first and asks policy before anything else. A run of another tenant is not there;
//! for a key of the role `caller` neither is another key's. Nothing about a run is told before it is on disk, except to
//! the client that waits for its end, who is told the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ltmc_coordination::crossing;
use ltmc_coordination::pins::Pin;
use ltmc_coordination::{Authority, Error, Pins};
use ltmc_model::agent::AgentRef;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Event, Placed, RunStarted};
use ltmc_model::run::{Run, State, Target};
use ltmc_model::workflow::Document;
use ltmc_model::{AgentName, Digest, Payload, RunId, Seq, SessionId, TenantId, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_ports::journal::{IdempotencyKey, RunFilter};
use ltmc_ports::{Clock, Durability, Entropy, Kind, ReadJournal, Runner, StoreError, WriteJournal};
use ltmc_state::{History, RunLog, RunView, runlog};
use moka::sync::Cache;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::plan::{self, Plan};
use crate::supervise::{self, Found, Live, Whose, Why};

/// How long an idempotency key is remembered.
pub const IDEMPOTENCY: Duration = Duration::from_secs(24 * 60 * 60);
/// Runs alive at once, of all tenants; one tenant has at most half.
const MAX_LIVE: usize = 20_000;
/// Bytes of the inputs of all runs alive at once.
const MAX_LIVE_BYTES: u64 = 1 << 30;
/// How long somebody who cancels a run waits for its end.
const CANCEL: Duration = Duration::from_secs(10);

/// What runs need.
pub struct Ports {
    /// To read journals.
    pub read: Arc<dyn ReadJournal>,
    /// To write them.
    pub write: Arc<dyn WriteJournal>,
    /// Who may, which agents and workflows there are, and what holds.
    pub authority: Arc<Authority>,
    /// The guests' way to the host.
    pub crossing: Arc<crossing::Shared>,
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
}

/// The use cases. A handle: clones are the same.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

/// A call to be made.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// Of which agent.
    pub agent: AgentRef,
    /// On what.
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

/// A workflow to be run.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// Which.
    pub workflow: WorkflowName,
    /// On what.
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

/// A run that a request started, or found by its idempotency key.
pub struct Started {
    /// Which.
    pub run: RunId,
    /// Whether an earlier request with the same key started it.
    pub attached: bool,
    live: Option<Arc<Live>>,
}

pub(crate) struct Inner {
    pub(crate) ports: Ports,
    live: DashMap<(TenantId, RunId), Arc<Live>>,
    of_tenant: DashMap<TenantId, usize>,
    bytes: AtomicU64,
    /// Documents made ready to run, by the digest of their source.
    ready: Cache<Digest, Arc<Ready>>,
    tasks: TaskTracker,
    stopping: AtomicBool,
    park: CancellationToken,
}

impl Runs {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        let inner = Inner {
            ports,
            live: DashMap::new(),
            of_tenant: DashMap::new(),
            bytes: AtomicU64::new(0),
            ready: Cache::new(1_000),
            tasks: TaskTracker::new(),
            stopping: AtomicBool::new(false),
            park: CancellationToken::new(),
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
            tied: request.idempotency.is_none(),
            idempotency: request.idempotency.map(|key| (key, request.request_digest)),
            traceparent: request.traceparent,
        };
        self.begin(caller, begin).await
    }

    /// Starts a run of a workflow.
    ///
    /// # Errors
    /// Where the workflow or an agent of it is not there, the host is busy, or the idempotency key was used for another
    /// request.
    pub async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Error> {
        let inner = &self.inner;
        inner.ports.authority.authorize(caller, Action::Run).await?;
        let missing = || Error::not_found(format!("workflow `{}`", request.workflow));
        let stored = inner.ports.authority.workflow(&caller.tenant, &request.workflow).await?.ok_or_else(missing)?;
        let ready = match inner.ready.get(&stored.digest) {
            Some(ready) => ready,
            None => {
                let of = stored.clone();
                let made = tokio::task::spawn_blocking(move || Ready::of(&of)).await;
                let made = made.map_err(|e| Error::Internal { message: e.to_string() })?;
                let ready =
                    Arc::new(made.map_err(|why| Error::Internal {
                        message: format!("workflow `{}`: {why}", request.workflow),
                    })?);
                inner.ready.insert(stored.digest, ready.clone());
                ready
            }
        };
        let mut agents = BTreeMap::new();
        for agent in &ready.agents {
            let found = inner.ports.authority.agent(&caller.tenant, agent).await?;
            let found = found.ok_or_else(|| Error::not_found(format!("agent `{agent}`, which the workflow names")))?;
            agents.insert(found.name.clone(), found.digest);
        }
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
        };
        self.begin(caller, begin).await
    }

    async fn begin(&self, caller: &Caller, begin: Begin) -> Result<Started, Error> {
        let inner = &self.inner;
        if inner.stopping.load(Ordering::SeqCst) {
            return Err(Error::Busy { message: "the host is stopping".into(), retry_after: Duration::from_secs(5) });
        }
        let now = inner.ports.clock.now();
        let idempotency = begin.idempotency.map(|(key, request)| (format!("{}/{key}", caller.key), request));
        if let Some((key, request)) = &idempotency
            && let Some(found) = inner.ports.read.idempotent(&caller.tenant, key, now).await?
        {
            return self.attach(caller, found, request);
        }
        let mut random = [0; 42];
        inner.ports.entropy.fill(&mut random);
        let (mut id, mut seed) = ([0; 10], [0; 32]);
        id.copy_from_slice(&random[..10]);
        seed.copy_from_slice(&random[10..]);
        let run = RunId::new(now, id);
        let session = match begin.session {
            Some(session) => session,
            None => run.to_string().parse().map_err(|e| Error::Internal { message: format!("{e}") })?,
        };
        let weight = begin.input.bytes.len() as u64;
        let (document, document_digest) = begin.document.unzip();
        let pins = inner.pin(&begin.agents).await;
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
        };
        let kept = idempotency.as_ref().map(|(key, request)| IdempotencyKey {
            key: key.clone(),
            request: *request,
            run,
            expires_at: now.after(IDEMPOTENCY),
        });
        let grown = watch::Sender::new(Seq(0));
        let log = RunLog::fresh(inner.log_ports(), caller.tenant.clone(), run, started, kept, grown.clone());
        let log = Arc::new(log);
        let live = Live::new(log.clone(), begin.tied, weight, grown);
        inner.enter(&live)?;
        if let Some((key, request)) = &idempotency {
            // Recorded before anything is done, so that of two requests with the same key one only does it.
            // In doubt, the run's task looks into the record: it goes on with what is there, or says that there is nothing.
            if let Err(error) = log.flush(Durability::Lazy).await
                && error.kind != Kind::Unavailable
            {
                inner.leave(&live);
                let found = match error.kind {
                    Kind::Conflict => inner.ports.read.idempotent(&caller.tenant, key, now).await?,
                    _ => None,
                };
                return match found {
                    Some(found) => self.attach(caller, found, request),
                    None => Err(error.into()),
                };
            }
        }
        inner.spawn(live.clone(), Some(begin.plan), pins);
        Ok(Started { run, attached: false, live: Some(live) })
    }

    fn attach(&self, caller: &Caller, found: IdempotencyKey, request: &Digest) -> Result<Started, Error> {
        if found.request != *request {
            let message = format!(
                "the idempotency key was used within 24 hours for another request, which started run {}: use a new key",
                found.run
            );
            return Err(Error::Conflict { code: "idempotency-key-reused", message });
        }
        let live = self.inner.live.get(&(caller.tenant.clone(), found.run)).map(|live| live.clone());
        Ok(Started { run: found.run, attached: true, live })
    }

    /// Waits for a run's end: for ever, or for so long. None: it is not over yet; what is so far is then on disk.
    ///
    /// A client that waits for ever for a call which nobody can ask for again, and goes away, cancels it.
    ///
    /// # Errors
    /// The record's.
    pub async fn wait(
        &self,
        caller: &Caller,
        started: &Started,
        patience: Option<Duration>,
    ) -> Result<Option<Result<Payload, Failure>>, Error> {
        let Some(live) = &started.live else {
            let history = self.history(&caller.tenant, started.run).await?;
            return Ok(history.result());
        };
        let Some(patience) = patience else {
            let leash = Leash(live.tied.then_some(live));
            let end = live.ended().await;
            std::mem::forget(leash);
            return Ok(Some(end.result));
        };
        match tokio::time::timeout(patience, live.ended()).await {
            Ok(end) => Ok(Some(end.result)),
            Err(_) => {
                live.log().flush(Durability::Barrier).await?;
                Ok(None)
            }
        }
    }

    /// A tenant's runs, newest first; of a key of the role `caller` its own.
    ///
    /// # Errors
    /// The record's.
    pub async fn list(&self, caller: &Caller, mut filter: RunFilter) -> Result<Vec<Run>, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        if caller.role == Role::Caller {
            filter.by = Some(caller.key.clone());
        }
        Ok(self.inner.ports.read.runs(&caller.tenant, &filter).await?)
    }

    /// A run, with its steps and its result.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, run: RunId) -> Result<RunView, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run).await?;
        let row = self.row(caller, run).await?;
        Ok(RunView::new(&row, &self.history(&caller.tenant, run).await?))
    }

    /// A run's journal after entry `after`, at most `limit` entries.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn journal(&self, caller: &Caller, run: RunId, after: Seq, limit: u32) -> Result<Vec<Placed>, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run).await?;
        self.row(caller, run).await?;
        Ok(self.inner.ports.read.entries(&caller.tenant, run, after, limit).await?)
    }

    /// Follows a run.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn watch(&self, caller: &Caller, run: RunId) -> Result<Watch, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        // Before the row is read: a run that ends in between is then seen to be over.
        let live = self.live(&caller.tenant, run);
        self.settle(&caller.tenant, run).await?;
        let row = self.row(caller, run).await?;
        Ok(match live {
            Some(live) => Watch { grown: Some(live.grown.subscribe()), end: Some(live.watch_end()), state: row.state },
            None => Watch { grown: None, end: None, state: row.state },
        })
    }

    /// Ends a run. What it did is kept.
    ///
    /// # Errors
    /// Where it is not there, or over already.
    pub async fn cancel(&self, caller: &Caller, run: RunId) -> Result<(), Error> {
        self.inner.ports.authority.authorize(caller, Action::Run).await?;
        if let Some(live) = self.live(&caller.tenant, run).filter(|live| may_see(caller, &live.by)) {
            live.stop(Why::Cancelled { by: Some(caller.key.clone()), reason: "cancelled by a client".into() });
            let ended = tokio::time::timeout(CANCEL, live.ended()).await;
            return match ended.map(|end| end.state) {
                Ok(Some(State::Cancelled)) => Ok(()),
                Ok(Some(state)) => Err(is_over(run, state)),
                Ok(None) | Err(_) => Err(Error::Busy {
                    message: "the run is being cancelled, and its end is not on disk yet".into(),
                    retry_after: Duration::from_secs(1),
                }),
            };
        }
        let row = self.row(caller, run).await?;
        if row.state.is_over() {
            return Err(is_over(run, row.state));
        }
        Err(Error::Busy { message: "the run is being taken up again".into(), retry_after: Duration::from_secs(1) })
    }

    /// Takes a failed or cancelled run up again: what it did is not done again.
    ///
    /// # Errors
    /// Where it is not there, or neither failed nor cancelled.
    pub async fn resume(&self, caller: &Caller, run: RunId) -> Result<(), Error> {
        let inner = &self.inner;
        inner.ports.authority.authorize(caller, Action::Run).await?;
        let row = self.row(caller, run).await?;
        if !matches!(row.state, State::Failed | State::Cancelled) {
            let message =
                format!("run {run} is {}: only one that failed or was cancelled is resumed", row.state.as_str());
            return Err(Error::Conflict { code: "conflict", message });
        }
        let grown = watch::Sender::new(row.seq);
        let log = match supervise::take_over(inner, &caller.tenant, run, &grown, Whose::Nobodys).await? {
            Found::Log(log) => log,
            Found::Over(..) | Found::Taken | Found::Nothing => return Err(Error::not_found(format!("run `{run}`"))),
        };
        let resumed = Event::RunResumed { by: caller.key.clone() };
        // Whoever resumes it at the same moment is fenced off here.
        log.append(vec![resumed], Durability::Barrier).await.map_err(|error| match error.kind {
            Kind::Fenced | Kind::Conflict => {
                Error::Conflict { code: "conflict", message: format!("somebody else resumed run {run} just now") }
            }
            _ => error.into(),
        })?;
        self.go_on(log, grown).await
    }

    /// Takes up every run that was under way when the host ended; those that cannot be are left as they are.
    ///
    /// # Errors
    /// Where the record does not say which these are.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        let inner = &self.inner;
        let mut recovered = Recovered::default();
        let mut after = None;
        loop {
            let page = inner.ports.read.unfinished(after.clone(), 100).await?;
            let Some(last) = page.last() else { return Ok(recovered) };
            after = Some((last.tenant.clone(), last.id));
            for row in page {
                if inner.stopping.load(Ordering::SeqCst) {
                    return Ok(recovered);
                }
                let (tenant, run) = (row.tenant.clone(), row.id);
                if inner.live.contains_key(&(tenant.clone(), run)) {
                    continue;
                }
                let grown = watch::Sender::new(row.seq);
                let taken = match supervise::take_over(inner, &tenant, run, &grown, Whose::Anyones).await {
                    Ok(Found::Log(log)) => self.go_on(log, grown).await.map_err(|e| e.to_string()),
                    Ok(Found::Over(..) | Found::Taken | Found::Nothing) => continue,
                    Err(error) => Err(error.to_string()),
                };
                match taken {
                    Ok(()) => recovered.resumed += 1,
                    Err(error) => {
                        tracing::error!(%tenant, %run, error, "a run could not be taken up again; it stays as it is");
                        recovered.left += 1;
                    }
                }
            }
        }
    }

    async fn go_on(&self, log: Arc<RunLog>, grown: watch::Sender<Seq>) -> Result<(), Error> {
        let inner = &self.inner;
        let started = log.started().clone();
        let pins = inner.pin(&started.agents).await;
        let live = Live::new(log, false, started.input.bytes.len() as u64, grown);
        inner.enter(&live)?;
        inner.spawn(live, None, pins);
        Ok(())
    }

    /// Takes no new runs, gives those under way `grace` to end, and parks the rest: the next start goes on with them.
    pub async fn stop(&self, grace: Duration) {
        let inner = &self.inner;
        inner.stopping.store(true, Ordering::SeqCst);
        inner.tasks.close();
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_err() {
            tracing::info!(runs = inner.live.len(), "runs are parked; the next start goes on with them");
            inner.park.cancel();
            for live in &inner.live {
                live.stop(Why::Parked);
            }
            inner.tasks.wait().await;
        }
    }

    /// How many runs are alive.
    pub fn alive(&self) -> usize {
        self.inner.live.len()
    }

    fn live(&self, tenant: &TenantId, run: RunId) -> Option<Arc<Live>> {
        self.inner.live.get(&(tenant.clone(), run)).map(|live| live.clone())
    }

    /// Brings what is so far of a live run to disk, so that it can be told.
    async fn settle(&self, tenant: &TenantId, run: RunId) -> Result<(), Error> {
        match self.live(tenant, run) {
            // Its log may have lost its thread: then the record has what there is.
            Some(live) => match live.log().flush(Durability::Barrier).await {
                Err(error) if error.kind != Kind::Fenced => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            },
            None => Ok(()),
        }
    }

    async fn row(&self, caller: &Caller, run: RunId) -> Result<Run, Error> {
        let row = self.inner.ports.read.run(&caller.tenant, run).await?;
        row.filter(|row| may_see(caller, &row.by)).ok_or_else(|| Error::not_found(format!("run `{run}`")))
    }

    async fn history(&self, tenant: &TenantId, run: RunId) -> Result<History, StoreError> {
        supervise::fold(self.inner.ports.read.as_ref(), tenant, run, History::new()).await
    }
}

impl Inner {
    pub(crate) fn log_ports(&self) -> runlog::Ports {
        runlog::Ports { journal: self.ports.write.clone(), clock: self.ports.clock.clone() }
    }

    async fn pin(&self, agents: &BTreeMap<AgentName, Digest>) -> Vec<Pin> {
        let mut pins = Vec::with_capacity(agents.len());
        for digest in agents.values() {
            pins.push(self.ports.pins.hold(*digest).await);
        }
        pins
    }

    /// Puts a run among those alive, if there is room.
    fn enter(&self, live: &Arc<Live>) -> Result<(), Error> {
        let busy = |message: &str| Error::Busy { message: message.into(), retry_after: Duration::from_secs(1) };
        let mut own = self.of_tenant.entry(live.tenant.clone()).or_default();
        if self.live.len() >= MAX_LIVE || *own >= MAX_LIVE / 2 {
            return Err(busy("too many runs are under way"));
        }
        if self.bytes.load(Ordering::Relaxed) + live.weight > MAX_LIVE_BYTES {
            return Err(busy("the inputs of the runs under way take all the room there is for them"));
        }
        match self.live.entry((live.tenant.clone(), live.run)) {
            Entry::Occupied(_) => {
                let message = format!("run {} is under way already", live.run);
                return Err(Error::Conflict { code: "conflict", message });
            }
            Entry::Vacant(place) => drop(place.insert(live.clone())),
        }
        *own += 1;
        self.bytes.fetch_add(live.weight, Ordering::Relaxed);
        metrics::gauge!("ltmc_runs_alive").increment(1);
        Ok(())
    }

    /// Takes it away again.
    pub(crate) fn leave(&self, live: &Live) {
        if self.live.remove(&(live.tenant.clone(), live.run)).is_none() {
            return;
        }
        self.bytes.fetch_sub(live.weight, Ordering::Relaxed);
        metrics::gauge!("ltmc_runs_alive").decrement(1);
        if let Entry::Occupied(mut own) = self.of_tenant.entry(live.tenant.clone()) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    fn spawn(self: &Arc<Self>, live: Arc<Live>, plan: Option<plan::Shared>, pins: Vec<Pin>) {
        if self.park.is_cancelled() {
            live.stop(Why::Parked);
        }
        self.tasks.spawn(supervise::live(self.clone(), live, plan, pins));
    }
}

/// A workflow's document, made ready to run.
struct Ready {
    /// Its one form, which runs are pinned to.
    json: Arc<str>,
    /// Of that.
    digest: Digest,
    agents: Vec<AgentRef>,
    plan: plan::Shared,
}

impl Ready {
    fn of(stored: &StoredWorkflow) -> Result<Self, String> {
        let document = Document::parse(&stored.source, Some(&stored.name)).map_err(|faults| faults.to_string())?;
        let json = document.to_json();
        Ok(Self {
            digest: Digest::of(json.as_bytes()),
            json: json.into(),
            agents: document.agents().map(|(agent, _, _)| agent.clone()).collect(),
            plan: Arc::new(Plan::of(&document).map_err(|failure| failure.message)?),
        })
    }
}

/// What a run is begun with.
struct Begin {
    target: Target,
    agents: BTreeMap<AgentName, Digest>,
    document: Option<(Arc<str>, Digest)>,
    plan: plan::Shared,
    input: Payload,
    session: Option<SessionId>,
    tied: bool,
    idempotency: Option<(String, Digest)>,
    traceparent: Option<String>,
}

/// What a start took up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Runs that go on.
    pub resumed: usize,
    /// Runs that could not be taken up, and stay as they are.
    pub left: usize,
}

/// Cancels a call whose client goes away.
struct Leash<'a>(Option<&'a Arc<Live>>);

impl Drop for Leash<'_> {
    fn drop(&mut self) {
        if let Some(live) = self.0 {
            live.stop(Why::Cancelled { by: None, reason: "the client went away".into() });
        }
    }
}

/// Follows a run: says when there is more, and when it is over.
pub struct Watch {
    grown: Option<watch::Receiver<Seq>>,
    end: Option<watch::Receiver<Option<supervise::End>>>,
    state: State,
}

impl Watch {
    /// Where the run stands, if that is known; over only if its last entry is in the record.
    pub fn look(&self) -> Option<State> {
        match &self.end {
            Some(end) => end.borrow().as_ref().and_then(|end| end.state),
            None => Some(self.state),
        }
    }

    /// Waits until there may be more.
    pub async fn changed(&mut self) {
        match (&mut self.grown, &mut self.end) {
            (Some(grown), Some(end)) => {
                let ended = end.has_changed().is_err();
                if ended {
                    // The run has left this process without an end: there is no more until it is taken up again.
                    return tokio::time::sleep(Duration::from_secs(1)).await;
                }
                tokio::select! {
                    _ = grown.changed() => {}
                    _ = end.changed() => {}
                }
            }
            _ => std::future::pending().await,
        }
    }
}

fn may_see(caller: &Caller, by: &ltmc_model::KeyId) -> bool {
    caller.role != Role::Caller || *by == caller.key
}

fn is_over(run: RunId, state: State) -> Error {
    Error::Conflict { code: "conflict", message: format!("run {run} is over: it is {}", state.as_str()) }
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
