//! Children: runs that a run's guests begin, and wait for.
//!
//! Invariants: which run a child is follows from the call that begins it: its parent, the step, the attempt, the number of the call
//! and what it says. So whoever makes the same call again, after a crash or because others were faster, finds the child that was
//! begun, and no other is. An end is looked up where it was not told. A child does not outlive what began it: what is open when its
//! parent's attempt, or its parent, is over is cancelled, here or by the next host ([`Runs::claim`]); where its parent is taken up
//! again at that very call, so is the child.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use ltmc_crossing::broken;
use ltmc_journal::{History, RunLog};
use ltmc_model::agent::AgentRef;
use ltmc_model::child::{self, MAX_ABOVE, MAX_CHILDREN, OnParentEnd, Parent};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Event, RunStarted};
use ltmc_model::run::{State, Target};
use ltmc_model::{Epoch, Payload, RunId, StepPath, TenantId};
use ltmc_ports::children::Child;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::{Durability, StoreError};
use ltmc_processor::Account;
use ltmc_tenancy::Error;
use sha2::{Digest as _, Sha256};

use crate::plan::Plan;
use crate::runs::{AGAIN, CANCEL, Inner, Runs};
use crate::supervise::{self, Found, Live, Whose, Why};

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
            tokio::spawn(ltmc_processor::run(account, async move { runs.end_with_parent(&tenant, child).await }));
        }
    }

    /// 32 bytes that are the same for the same call of the same attempt, and for nothing else.
    fn derived(&self, purpose: &str, child: &Child) -> [u8; 32] {
        let Child { step, attempt, effect, request, .. } = child;
        let mut hash = Sha256::new();
        hash.update(self.log.started().seed);
        hash.update(format!("{purpose}\n{step}\n{attempt}\n{effect}\n{request}"));
        hash.finalize().into()
    }

    /// Which run the child is. Its time is that of the attempt, which is in the record.
    fn id(&self, child: &Child) -> RunId {
        let mut random = [0; 10];
        random.copy_from_slice(&self.derived("child", child)[..10]);
        let begun = self.log.read(|history| {
            let attempt = history.step(&child.step).and_then(|step| step.last());
            attempt.map_or(history.created_at(), |attempt| attempt.started_at)
        });
        RunId::new(begun, random)
    }

    /// Whether it was begun already. A run that was never taken up again knows of all that it began.
    async fn is_begun(&self, run: RunId) -> Result<bool, Failure> {
        let (inner, tenant) = (&self.runs.inner, self.log.tenant());
        if inner.registry.get(tenant, run).is_some() {
            return Ok(true);
        }
        Ok(self.log.epoch() > Epoch(1) && inner.ports.read.run(tenant, run).await.map_err(|e| broken(&e))?.is_some())
    }

    /// How a run begins that this one begins; the refusal: it may not.
    fn beginning(&self, target: Target, input: Payload, child: &Child) -> Result<RunStarted, Refusal> {
        let started = self.log.started();
        let above = started.parent.iter().flat_map(|parent| parent.chain.iter().cloned());
        let chain: Vec<Target> = above.chain([started.target.clone()]).collect();
        if chain.len() > MAX_ABOVE {
            return Err(Refusal::Quota(child::too_deep(&chain, &target)));
        }
        let Child { step, attempt, effect, .. } = child.clone();
        let parent = Parent { run: self.log.run(), step, attempt, effect, chain, on_end: OnParentEnd::Cancel };
        Ok(RunStarted {
            target,
            agents: BTreeMap::new(),
            document: None,
            document_digest: None,
            input,
            session: started.session.clone(),
            by: started.by.clone(),
            seed: self.derived("child's seed", child),
            traceparent: started.traceparent.clone(),
            parent: Some(Box::new(parent)),
        })
    }
}

#[async_trait]
impl ltmc_ports::Children for Children {
    async fn begin(&self, mut child: Child) -> Result<Result<RunId, Refusal>, Failure> {
        let (inner, tenant, run) = (&self.runs.inner, self.log.tenant(), self.id(&child));
        self.parent.children.insert(run, &child.step);
        if self.is_begun(run).await? {
            return Ok(Ok(run));
        }
        if self.log.read(|history| history.children().len()) >= MAX_CHILDREN {
            return Ok(Err(Refusal::Quota(child::too_many())));
        }
        let reference = AgentRef { name: child.agent.clone(), digest: None };
        let found = inner.ports.authority.agent(tenant, &reference).await.map_err(|e| broken(&e))?;
        let Some(agent) = found else { return Ok(Err(Refusal::NotFound)) };
        let plan = Plan::call(&reference)?;
        let input = std::mem::take(&mut child.input);
        let mut started = match self.beginning(Target::Agent(reference), input, &child) {
            Ok(started) => started,
            Err(refusal) => return Ok(Err(refusal)),
        };
        started.agents.insert(agent.name.clone(), agent.digest);
        match self.runs.enter(tenant, run, started, Arc::new(plan), None).await {
            Ok(entered) => {
                entered.set_out(inner);
                Ok(Ok(run))
            }
            // It is under way by now.
            Err(Error::Conflict { .. }) => Ok(Ok(run)),
            // It is parked, and goes on here at the next start.
            Err(Error::Busy { .. }) if inner.registry.is_stopping() => std::future::pending().await,
            Err(Error::Busy { message, retry_after }) => {
                let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                Ok(Err(Refusal::Unavailable { message, retry_after_ms }))
            }
            Err(error) => Err(failure(error)),
        }
    }

    async fn ended(&self, child: RunId) -> Result<Result<Payload, Failure>, Failure> {
        let ended = self.runs.child_ended(self.log.tenant(), child).await?;
        self.parent.children.remove(child);
        Ok(ended)
    }
}

impl Runs {
    /// Waits until a child is over: what it gave, or how it ended badly. One that was cancelled with its parent goes on first: its
    /// parent is there again.
    async fn child_ended(&self, tenant: &TenantId, child: RunId) -> Result<Result<Payload, Failure>, Failure> {
        let inner = &self.inner;
        loop {
            if let Some(live) = inner.registry.get(tenant, child) {
                let end = live.ended().await;
                if end.state.is_some_and(|state| state.is_over() && state != State::Cancelled) {
                    return Ok(end.result);
                }
            }
            // It is parked, and goes on here at the next start.
            if inner.registry.is_stopping() {
                return std::future::pending().await;
            }
            match inner.ports.read.run(tenant, child).await.map_err(|e| broken(&e))?.map(|row| row.state) {
                Some(State::Cancelled) => match self.cancelled(tenant, child).await.map_err(failure)? {
                    Some(failure) => return Ok(Err(failure)),
                    None => continue,
                },
                Some(state) if state.is_over() => {
                    let result = self.result(tenant, child).await.map_err(failure)?;
                    return result.ok_or_else(|| gone(child));
                }
                Some(_) => inner.news(tenant, child).await,
                None => return Err(gone(child)),
            }
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

    /// Ends a run because what began it is over; one that is over already is left as it is.
    pub(crate) async fn end_with_parent(&self, tenant: &TenantId, child: RunId) {
        if let Some(live) = self.inner.registry.get(tenant, child) {
            live.stop(Why::Cancelled { by: None, reason: PARENT_OVER.into() });
            let _ = tokio::time::timeout(CANCEL, live.ended()).await;
            return;
        }
        let ended = match supervise::take_over(&self.inner, tenant, child, Whose::Anyones).await {
            Ok(Found::Log(log)) => cancel(&log).await,
            Ok(Found::Over(..) | Found::Taken | Found::Nothing) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%tenant, run = %child, %error, "a run whose parent is over could not be ended; the next start does");
        }
    }

    /// Whether a run is to end because what began it is over.
    pub(crate) async fn is_orphan(&self, log: &RunLog) -> Result<bool, StoreError> {
        let Some(parent) = log.started().parent.as_ref().filter(|parent| parent.on_end.is_cancel()) else {
            return Ok(false);
        };
        let row = self.inner.ports.read.run(log.tenant(), parent.run).await?;
        Ok(row.is_none_or(|row| row.state.is_over() && row.state != State::Quarantined))
    }
}

/// Ends what is open of a run's children, now that it is over, and waits for that.
pub(crate) async fn end_all(inner: &Arc<Inner>, parent: &Live) {
    let runs = Runs { inner: inner.clone() };
    let mut children = parent.children.take_within(&StepPath::root());
    // Of one that was taken up the host before may have begun others.
    if parent.log().epoch() > Epoch(1) {
        let limit = u32::try_from(MAX_CHILDREN).unwrap_or(u32::MAX);
        let filter = RunFilter { parent: Some(parent.run), limit, ..RunFilter::default() };
        match inner.ports.read.runs(&parent.tenant, &filter).await {
            Ok(found) => {
                let open = found.into_iter().filter(|row| !row.state.is_over() && !children.contains(&row.id));
                let open: Vec<RunId> = open.map(|row| row.id).collect();
                children.extend(open);
            }
            Err(error) => tracing::warn!(%error, "the children of a run that is over could not be looked up"),
        }
    }
    join_all(children.into_iter().map(|child| runs.end_with_parent(&parent.tenant, child))).await;
}

/// Journals that a run ends because what began it is over.
pub(crate) async fn cancel(log: &RunLog) -> Result<(), StoreError> {
    let cancelled = Event::RunCancelled { by: None, reason: PARENT_OVER.into() };
    log.append(vec![cancelled], Durability::Barrier).await
}

/// Children that were begun and whose end nobody waited for yet, each with the step that began it.
#[derive(Debug, Default)]
pub(crate) struct Open(std::sync::Mutex<BTreeMap<RunId, StepPath>>);

impl Open {
    fn insert(&self, child: RunId, step: &StepPath) {
        self.lock().insert(child, step.clone());
    }

    fn remove(&self, child: RunId) {
        self.lock().remove(&child);
    }

    /// Those of a step, or of the steps below a node, which are then known no more.
    fn take_within(&self, node: &StepPath) -> Vec<RunId> {
        let mut open = self.lock();
        let (taken, left) = std::mem::take(&mut *open).into_iter().partition(|(_, step)| step.is_within(node));
        *open = left;
        let taken: BTreeMap<RunId, StepPath> = taken;
        taken.into_keys().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, StepPath>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
