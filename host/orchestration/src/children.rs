//! Children: runs that a run begins, and waits for: its guests', and those of nodes that start other workflows.
//!
//! Invariants: which run a child is follows from what begins it: its parent, the step, the attempt, the number of the call
//! and what it says; of a node, how often it began one. So whoever does the same again, after a crash or because others were faster,
//! finds the child that was begun, and no other is. An end is looked up where it was not told. A child does not outlive what began it:
//! what is open when its parent's attempt, or its parent, is over is cancelled, here or by the next host ([`Runs::claim`]); where its
//! parent is taken up again at that very call, so is the child.
//!
//! A child works in its parent's session. One that is begun in a branch which has memory of that session to itself works in a session of its
//! own: of the branch it has its input, and the branch what it gives. So what it does is neither to be brought together nor lost with the
//! branch, and does not depend on who is faster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use ltmc_crossing::broken;
use ltmc_journal::{History, RunLog};
use ltmc_model::agent::AgentRef;
use ltmc_model::child::{self, MAX_ABOVE, MAX_CHILDREN, OnParentEnd, Parent};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Event, Follows, RunStarted, Semantics};
use ltmc_model::message::Trail;
use ltmc_model::run::{State, Target};
use ltmc_model::workflow::{Document, Does, Node};
use ltmc_model::{AgentName, Digest, Epoch, Payload, RunId, StepPath, TenantId, WorkflowName};
use ltmc_ports::children::{Child, Wanted};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::{Durability, Kind, StoreError};
use ltmc_processor::Account;
use ltmc_tenancy::Error;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::engine::{TRIES_WHEN_BUSY, derived_for};
use crate::plan::{self, Plan};
use crate::runs::{AGAIN, AT_REST, CANCEL, Inner, Ready, Runs};
use crate::supervise::{self, Found, Live, Whose, Why};
use crate::{metered, wanted};

/// Said of a child that is cancelled with what began it.
const PARENT_OVER: &str = "what began it is over";

/// The children of one run that is alive here.
pub(crate) struct Children {
    runs: Runs,
    parent: Arc<Live>,
    log: Arc<RunLog>,
}

impl Children {
    /// Of a run with this log.
    pub(crate) fn new(inner: &Arc<Inner>, parent: &Arc<Live>, log: &Arc<RunLog>) -> Arc<Self> {
        Arc::new(Self { runs: Runs { inner: inner.clone() }, parent: parent.clone(), log: log.clone() })
    }

    /// Ends what is open of a step's children, or of those of the steps below a node.
    pub(crate) fn end(&self, node: &StepPath) {
        for child in self.parent.children.take_within(node) {
            let (runs, tenant) = (self.runs.clone(), self.log.tenant().clone());
            let account = Account::of(&tenant);
            let ending = async move { runs.end_with_parent(&tenant, child).await };
            self.parent.children.ending.spawn(ltmc_processor::run(account, ending));
        }
    }

    /// 32 bytes that are the same for what begins the same child, and for nothing else.
    fn derived(&self, purpose: &str, origin: &Origin<'_>) -> [u8; 32] {
        let Origin { step, attempt, effect, says, .. } = origin;
        derived_for(&self.log.started().seed, &format!("{purpose}\n{step}\n{attempt}\n{effect}\n{says}"))
    }

    /// Which run the child is. Its time is that of the attempt, or of the run, which is in the record.
    fn id(&self, origin: &Origin<'_>) -> RunId {
        let mut random = [0; 10];
        random.copy_from_slice(&self.derived("child", origin)[..10]);
        let begun = self.log.read(|history| {
            let attempt = history.step(origin.step).and_then(|step| step.last()).filter(|_| origin.attempt > 0);
            attempt.map_or(history.created_at(), |attempt| attempt.started_at)
        });
        RunId::new(begun, random)
    }

    /// Whether it was begun already. A run that was never taken up again knows of all that it began.
    async fn is_begun(&self, run: RunId) -> Result<bool, StoreError> {
        let (inner, tenant) = (&self.runs.inner, self.log.tenant());
        if inner.registry.get(tenant, run).is_some() {
            return Ok(true);
        }
        Ok(self.log.epoch() > Epoch(1) && inner.ports.read.run(tenant, run).await?.is_some())
    }

    /// How a run begins that this one begins; the error: why it may not.
    fn beginning(
        &self,
        run: RunId,
        target: Target,
        input: Payload,
        origin: &Origin<'_>,
        on_end: OnParentEnd,
    ) -> Result<RunStarted, String> {
        let started = self.log.started();
        let above = started.parent.iter().flat_map(|parent| parent.chain.iter().cloned());
        let chain: Vec<Target> = above.chain([started.target.clone()]).collect();
        if chain.len() > MAX_ABOVE {
            return Err(child::too_deep(&chain, &target));
        }
        let Origin { step, attempt, effect, is_apart, .. } = *origin;
        let session = match is_apart {
            true => run.to_string().parse().map_err(|_| format!("a run's id, {run}, is no name of a session"))?,
            false => started.session.clone(),
        };
        let parent = Parent { run: self.log.run(), step: step.clone(), attempt, effect, chain, on_end };
        Ok(RunStarted {
            target,
            agents: BTreeMap::new(),
            document: None,
            document_digest: None,
            input,
            session,
            by: started.by.clone(),
            seed: self.derived("child's seed", origin),
            traceparent: started.traceparent.clone(),
            position: None,
            forked: None,
            parent: Some(Box::new(parent)),
            scheduled: None,
            follows: Follows::passed_on(self.log.read(|history| history.trail().cloned())),
            turn: None,
            semantics: Semantics::CURRENT,
        })
    }

    /// Begins the run of a node that starts another workflow; or has the one go on that it began before its own run was resumed.
    ///
    /// # Errors
    /// The record's; the inner error is the node's failure.
    pub(crate) async fn start(
        &self,
        at: &StepPath,
        sub: &Sub,
        input: Payload,
        is_apart: bool,
    ) -> Result<Result<RunId, Failure>, StoreError> {
        self.log.flush(Durability::Lazy).await?;
        let (before, count) = self.log.read(|history| {
            let child = history.node(at).and_then(|node| node.child.as_ref());
            (child.map(|child| child.run), history.begun(at))
        });
        let origin = Origin { step: at, attempt: 0, effect: 0, says: count.to_string(), is_apart };
        let run = before.unwrap_or_else(|| self.id(&origin));
        // Before it is begun: where the node is ended meanwhile, so is what comes of it.
        if sub.on_parent_end.is_cancel() {
            self.parent.children.insert(run, at);
        }
        let begun = self.start_as(run, before.is_some(), sub, input, &origin).await?;
        if begun.is_err() {
            self.parent.children.remove(run);
        }
        Ok(begun.map(|()| run))
    }

    /// The same, as this run; as often as it takes to find room for it, within bounds.
    async fn start_as(
        &self,
        run: RunId,
        goes_on: bool,
        sub: &Sub,
        input: Payload,
        origin: &Origin<'_>,
    ) -> Result<Result<(), Failure>, StoreError> {
        let (inner, tenant) = (&self.runs.inner, self.log.tenant());
        let mut tries = 0;
        loop {
            let begun = match goes_on {
                true => self.runs.go_on_again(tenant, run).await,
                false if self.is_begun(run).await? => Ok(()),
                false => self.begin_workflow(run, sub, input.clone(), origin).await,
            };
            match begun {
                // Or it is under way by now.
                Ok(()) | Err(Error::Conflict { .. }) => return Ok(Ok(())),
                // It is parked, and goes on here at the next start.
                Err(Error::Busy { .. }) if inner.registry.is_stopping() => std::future::pending().await,
                Err(Error::Busy { .. }) if tries < TRIES_WHEN_BUSY => {
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(Error::Busy { message, .. }) => return Ok(Err(Failure::new(Code::Busy, message).retryable())),
                Err(Error::Store(error)) => return Err(error),
                Err(error) => {
                    let message = format!("workflow `{}` cannot be started: {error}", sub.workflow);
                    return Ok(Err(Failure::new(Code::BadStep, message)));
                }
            }
        }
    }

    async fn begin_workflow(&self, run: RunId, sub: &Sub, input: Payload, origin: &Origin<'_>) -> Result<(), Error> {
        let (ready, agents) = match &sub.planned {
            None => self.runs.ready(self.log.tenant(), &sub.workflow).await?,
            Some(document) => Runs::ready_plan(document, &self.log.started().agents),
        };
        let target = Target::Workflow(sub.workflow.clone());
        let started = self.beginning(run, target, input, origin, sub.on_parent_end);
        let mut started = started.map_err(|why| Error::invalid("bad-workflow", None, why))?;
        self.runs.inner.ports.authority.may_all(&started.by, self.log.tenant(), &ready.needs).await?;
        started.position = self.runs.position(&ready);
        started.agents = agents;
        (started.document, started.document_digest) = (Some(ready.json.clone()), Some(ready.digest));
        let entered = self.runs.enter(self.log.tenant(), run, started, ready.plan.clone(), None).await?;
        entered.set_out_recorded(&self.runs.inner).await
    }

    /// Waits until the run that a node began is over.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer; the inner error is how the run ended badly.
    pub(crate) async fn joined(&self, child: RunId) -> Result<Result<Payload, Failure>, StoreError> {
        let ended = match self.runs.child_ended(self.log.tenant(), child).await {
            Err(Error::Store(error)) => return Err(error),
            Err(error) => Err(failure(error)),
            Ok(ended) => ended,
        };
        self.parent.children.remove(child);
        Ok(ended)
    }
}

/// A workflow that a node starts.
pub(crate) struct Sub {
    pub(crate) workflow: WorkflowName,
    pub(crate) on_parent_end: OnParentEnd,
    /// Its document, where an agent wrote it.
    pub(crate) planned: Option<Document>,
}

impl Sub {
    /// What a node starts, of which this is known; none: nothing.
    pub(crate) fn of(node: &Node, planned: Option<Arc<str>>) -> Option<Self> {
        match (&node.does, planned) {
            (Does::Workflow(sub), _) => {
                Some(Self { workflow: sub.workflow.clone(), on_parent_end: sub.on_parent_end, planned: None })
            }
            (Does::Plan(_), Some(document)) => {
                let document = Document::from_json(&document).ok()?;
                let workflow = document.name.clone();
                Some(Self { workflow, on_parent_end: OnParentEnd::Cancel, planned: Some(document) })
            }
            _ => None,
        }
    }
}

/// What begins a child.
struct Origin<'a> {
    /// Which step, or other node.
    step: &'a StepPath,
    /// Which attempt of the step; 0: it is a node.
    attempt: u32,
    /// Which host call of the attempt; 0: the same.
    effect: u32,
    /// What the call says, or how often the node began a run before.
    says: String,
    /// Whether that stands in a branch which has memory of the session to itself.
    is_apart: bool,
}

/// What a run begins with that a guest asks for.
struct Beginning {
    target: Target,
    /// The versions that are meant by its agents' names.
    agents: BTreeMap<AgentName, Digest>,
    /// Its document; none: it is a lone call.
    ready: Option<Arc<Ready>>,
    plan: plan::Shared,
}

impl Children {
    /// What a guest asks for; the inner error: why it is not to be had.
    async fn to_begin(&self, wanted: Wanted) -> Result<Result<Beginning, Refusal>, Failure> {
        let (inner, tenant) = (&self.runs.inner, self.log.tenant());
        let document = match wanted {
            Wanted::Agent(agent) => {
                let reference = AgentRef { name: agent, digest: None };
                let found = inner.ports.authority.agent(tenant, &reference).await.map_err(|e| broken(&e))?;
                let Some(agent) = found else { return Ok(Err(Refusal::NotFound)) };
                let plan = Arc::new(Plan::call(&reference)?);
                let agents = BTreeMap::from([(agent.name.clone(), agent.digest)]);
                return Ok(Ok(Beginning { target: Target::Agent(reference), agents, ready: None, plan }));
            }
            Wanted::Need(need) => wanted::need(&need),
            Wanted::Answer(ask) => wanted::question(&ask),
        };
        let document = match document {
            Ok(document) => document,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Err(refusal) = wanted::check_schema(inner.ports.schemas.as_ref(), tenant, &document).await? {
            return Ok(Err(refusal));
        }
        let mut agents = BTreeMap::new();
        for (agent, _, _) in document.agents() {
            let found = inner.ports.authority.agent(tenant, agent).await.map_err(|e| broken(&e))?;
            let Some(agent) = found else { return Ok(Err(Refusal::NotFound)) };
            agents.insert(agent.name.clone(), agent.digest);
        }
        let ready = Arc::new(Ready::of_document(&document));
        let (target, plan) = (Target::Workflow(document.name), ready.plan.clone());
        Ok(Ok(Beginning { target, agents, ready: Some(ready), plan }))
    }
}

#[async_trait]
impl ltmc_ports::Children for Children {
    async fn begin(&self, child: Child) -> Result<Result<RunId, Refusal>, Failure> {
        let (inner, tenant) = (&self.runs.inner, self.log.tenant());
        let Child { step, attempt, effect, request, wanted, input, trail, is_told, is_apart } = child;
        let origin = Origin { step: &step, attempt, effect, says: request.to_string(), is_apart };
        let run = self.id(&origin);
        if self.is_begun(run).await.map_err(|e| broken(&e))? {
            self.parent.children.insert(run, &step);
            return Ok(Ok(run));
        }
        if self.log.read(|history| history.children().len()) >= MAX_CHILDREN {
            return Ok(Err(Refusal::Quota(child::too_many())));
        }
        let Beginning { target, agents, ready, plan } = match self.to_begin(wanted).await? {
            Ok(beginning) => beginning,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut started = match self.beginning(run, target, input, &origin, OnParentEnd::Cancel) {
            Ok(started) => started,
            Err(why) => return Ok(Err(Refusal::Quota(why))),
        };
        started.agents = agents;
        (started.document, started.document_digest) = ready.map(|ready| (ready.json.clone(), ready.digest)).unzip();
        started.follows = Follows::passed_on(Trail::deeper(started.follows.map(|follows| follows.trail), trail));
        let set_out = match self.runs.enter(tenant, run, started, plan, None).await {
            Ok(entered) => {
                // Before it sets out: where the step is ended meanwhile, so is what comes of it.
                self.parent.children.insert(run, &step);
                match is_told {
                    true => entered.set_out_recorded(inner).await,
                    false => {
                        entered.set_out(inner);
                        Ok(())
                    }
                }
            }
            Err(error) => Err(error),
        };
        match set_out {
            Ok(()) => Ok(Ok(run)),
            // It is parked, and goes on here at the next start.
            Err(Error::Busy { .. }) if inner.registry.is_stopping() => std::future::pending().await,
            Err(Error::Busy { message, retry_after }) => {
                let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                Ok(Err(Refusal::Unavailable { message, retry_after_ms }))
            }
            // Also where it is under way already, which was looked at: nobody else begins it.
            Err(error) => Err(failure(error)),
        }
    }

    async fn ended(&self, child: RunId) -> Result<Result<Payload, Failure>, Failure> {
        let ended = self.runs.child_ended(self.log.tenant(), child).await.map_err(failure)?;
        self.parent.children.remove(child);
        Ok(ended)
    }
}

impl Runs {
    /// Waits until a child is over: what it gave, or how it ended badly. One that was cancelled with its parent goes on first: its
    /// parent is there again.
    async fn child_ended(&self, tenant: &TenantId, child: RunId) -> Result<Result<Payload, Failure>, Error> {
        let inner = &self.inner;
        loop {
            if let Some(live) = inner.registry.get(tenant, child) {
                let end = live.ended().await;
                match end.state {
                    Some(state) if state.is_over() && state != State::Cancelled => return Ok(end.result),
                    // The record does not answer: nobody is kept waiting until it does.
                    None if end.is_left && !inner.registry.is_stopping() => {
                        tokio::time::sleep(AGAIN).await;
                        return Err(StoreError::new(Kind::Unavailable, "run.child").into());
                    }
                    _ => {}
                }
            }
            // It is parked, and goes on here at the next start.
            if inner.registry.is_stopping() {
                return std::future::pending().await;
            }
            match inner.ports.read.run(tenant, child).await?.map(|row| row.state) {
                Some(State::Cancelled) => {
                    if let Some(failure) = self.cancelled(tenant, child).await? {
                        return Ok(Err(failure));
                    }
                }
                Some(state) if state.is_over() => {
                    if let Some(result) = self.result(tenant, child).await? {
                        return Ok(result);
                    }
                }
                Some(_) => inner.news(tenant, child).await,
                None => return Ok(Err(gone(child))),
            }
        }
    }

    /// Has a run go on that failed, was cancelled or waits for people; any other is left as it is.
    async fn go_on_again(&self, tenant: &TenantId, run: RunId) -> Result<(), Error> {
        let row = self.inner.ports.read.run(tenant, run).await?;
        if !row.is_some_and(|row| row.state.is_over() && row.state != State::Completed) {
            return Ok(());
        }
        match supervise::take_over(&self.inner, tenant, run, Whose::Nobodys).await? {
            Found::Log(log) => {
                let resumed = Event::RunResumed { by: log.started().by.clone() };
                self.go_on(log, vec![resumed]).await
            }
            Found::Over(..) | Found::Taken | Found::Nothing => Ok(()),
        }
    }

    /// How a child was cancelled; none: it was with its parent, and now goes on.
    async fn cancelled(&self, tenant: &TenantId, child: RunId) -> Result<Option<Failure>, Error> {
        let log = match supervise::take_over(&self.inner, tenant, child, Whose::Nobodys).await? {
            Found::Log(log) => log,
            Found::Over(..) | Found::Taken | Found::Nothing => return Ok(Some(gone(child))),
        };
        if !log.read(History::is_cancelled_by_host) {
            return Ok(log.read(History::result).and_then(Result::err));
        }
        let resumed = Event::RunResumed { by: log.started().by.clone() };
        if let Err(error) = self.go_on(log, vec![resumed]).await {
            // There is no room at the moment, or somebody else was faster.
            tracing::debug!(%tenant, run = %child, %error, "a child could not be taken up again yet");
            tokio::time::sleep(AGAIN).await;
        }
        Ok(None)
    }

    /// Ends a run because what began it is over; one that is over already is left as it is, and one that goes on all the same.
    pub(crate) async fn end_with_parent(&self, tenant: &TenantId, child: RunId) {
        let since = Instant::now();
        loop {
            match self.ended_with_parent(tenant, child).await {
                Ok(true) => return,
                Ok(false) if since.elapsed() < CANCEL => tokio::time::sleep(AT_REST).await,
                Ok(false) => {
                    tracing::warn!(%tenant, run = %child, "a run whose parent is over could not be ended yet: it does not come to rest");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%tenant, run = %child, %error, "a run whose parent is over could not be ended yet");
                    return;
                }
            }
        }
    }

    /// The same, tried once. Not: it was suspended, or taken up, at that very moment.
    async fn ended_with_parent(&self, tenant: &TenantId, child: RunId) -> Result<bool, Error> {
        if let Some(live) = self.inner.registry.get(tenant, child) {
            if !ends_with_parent(&live.log()) {
                return Ok(true);
            }
            live.stop(Why::Cancelled { by: None, reason: PARENT_OVER.into() });
            return Ok(tokio::select! {
                ended = tokio::time::timeout(CANCEL, live.ended()) => !ended.is_ok_and(|end| end.goes_on),
                // What it did is undone first, which goes on by itself.
                () = live.unwinds() => true,
            });
        }
        let goes_on = match self.at_rest_with_parent(tenant, child).await? {
            Found::Log(log) if ends_with_parent(&log) => match self.end_at_rest(log).await {
                Err(Error::Store(error)) if matches!(error.kind, Kind::Fenced | Kind::Conflict) => return Ok(false),
                Err(Error::Conflict { .. }) => return Ok(false),
                ended => ended?,
            },
            // Whoever was faster ended it alone.
            Found::Over(State::Cancelled, _) => false,
            _ => return Ok(true),
        };
        if !goes_on {
            self.end_below(tenant, child, Vec::new(), true).await;
        }
        Ok(true)
    }

    /// A run that is not over, or that somebody paused: where what began it is over nobody goes on with it.
    async fn at_rest_with_parent(&self, tenant: &TenantId, child: RunId) -> Result<Found, StoreError> {
        match supervise::take_over(&self.inner, tenant, child, Whose::Anyones).await? {
            Found::Over(State::Paused, result) => {
                match supervise::take_over(&self.inner, tenant, child, Whose::Nobodys).await? {
                    Found::Log(log) if log.read(History::is_paused_by_somebody) => Ok(Found::Log(log)),
                    _ => Ok(Found::Over(State::Paused, result)),
                }
            }
            found => Ok(found),
        }
    }

    /// Ends what is open of a run's children, now that it is over, and waits for that: those that are known, and where it `looks`
    /// those in the record.
    pub(crate) fn end_below<'a>(
        &'a self,
        tenant: &'a TenantId,
        parent: RunId,
        mut children: Vec<RunId>,
        looks: bool,
    ) -> BoxFuture<'a, ()> {
        async move {
            if looks {
                let limit = u32::try_from(MAX_CHILDREN).unwrap_or(u32::MAX);
                let filter = RunFilter { parent: Some(parent), limit, ..RunFilter::default() };
                match self.inner.ports.read.runs(tenant, &filter).await {
                    Ok(found) => {
                        let is_open = |state: State| !state.is_over() || state == State::Paused;
                        let open = found.into_iter().filter(|row| is_open(row.state) && !children.contains(&row.id));
                        let open: Vec<RunId> = open.map(|row| row.id).collect();
                        children.extend(open);
                    }
                    Err(error) => tracing::warn!(%error, "the children of a run that is over could not be looked up"),
                }
            }
            join_all(children.into_iter().map(|child| self.end_with_parent(tenant, child))).await;
        }
        .boxed()
    }

    /// Whether a run is to end because what began it is over.
    pub(crate) async fn is_orphan(&self, log: &RunLog) -> Result<bool, StoreError> {
        let Some(parent) = log.started().parent.as_ref().filter(|_| ends_with_parent(log)) else { return Ok(false) };
        let row = self.inner.ports.read.run(log.tenant(), parent.run).await?;
        Ok(row.is_none_or(|row| row.state.is_final()))
    }

    /// Ends a run of which nothing but its row is kept, because what began it is over; whether it goes on first, for what it did is to
    /// be undone.
    pub(crate) async fn end_at_rest(&self, log: Arc<RunLog>) -> Result<bool, Error> {
        let is_cancelling = log.read(supervise::is_cancelling);
        let event = log.read(|history| supervise::cancelled(history, None, PARENT_OVER.into()));
        if is_cancelling {
            self.go_on(log, Vec::new()).await?;
        } else if matches!(event, Event::RunCancelling { .. }) {
            self.go_on(log, vec![event]).await?;
        } else {
            log.append(vec![event], Durability::Barrier).await?;
            metered::RUNS.of([State::Cancelled.as_str()]).increment(1);
            return Ok(false);
        }
        Ok(true)
    }
}

/// Ends what is open of a run's children, now that it is over.
pub(crate) async fn end_all(inner: &Arc<Inner>, parent: &Live) {
    let children = parent.children.take_all();
    // Of one that was taken up the host before may have begun others.
    let looks = parent.log().epoch() > Epoch(1);
    if looks || !children.is_empty() {
        let runs = Runs { inner: inner.clone() };
        runs.end_below(&parent.tenant, parent.run, children, looks).await;
    }
    parent.children.ending.close();
    parent.children.ending.wait().await;
}

/// Whether a run is cancelled where what began it is over.
pub(crate) fn ends_with_parent(log: &RunLog) -> bool {
    log.started().parent.as_ref().is_some_and(|parent| parent.on_end.is_cancel())
}

/// Children that were begun and whose end nobody waited for yet.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// Each with the step, or other node, that began it.
    begun: Mutex<BTreeMap<RunId, StepPath>>,
    /// Who ends those that are not needed any more.
    ending: TaskTracker,
}

impl Open {
    fn insert(&self, child: RunId, step: &StepPath) {
        self.lock().insert(child, step.clone());
    }

    fn remove(&self, child: RunId) {
        self.lock().remove(&child);
    }

    /// Those of a step, or of a node's own work, at it and below it, which are then known no more.
    fn take_within(&self, node: &StepPath) -> Vec<RunId> {
        let mut open = self.lock();
        let is_own = |step: &StepPath| step.is_within(node) && !Node::is_undoing(step, node);
        let (taken, left) = std::mem::take(&mut *open).into_iter().partition(|(_, step)| is_own(step));
        *open = left;
        let taken: BTreeMap<RunId, StepPath> = taken;
        taken.into_keys().collect()
    }

    /// All that are known.
    pub(crate) fn all(&self) -> Vec<RunId> {
        self.lock().keys().copied().collect()
    }

    fn take_all(&self) -> Vec<RunId> {
        std::mem::take(&mut *self.lock()).into_keys().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, StepPath>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fault that ends the attempt which asked.
fn failure(error: Error) -> Failure {
    match error {
        Error::Store(error) => broken(&error),
        error => {
            tracing::error!(%error, "a run's child could not be begun or looked up");
            Failure::new(Code::Internal, "a run that it began cannot be looked up")
        }
    }
}

/// A child that was begun and of which the record has nothing: what was asked for it was refused.
fn gone(child: RunId) -> Failure {
    Failure::new(Code::Unavailable, format!("the run {child}, which it began, is not in the record")).retryable()
}
