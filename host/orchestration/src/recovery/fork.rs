//! A new run that goes on from where another one was: forked at an entry of its journal, or restarted from a step.
//!
//! Invariants: the new run's journal begins with where it was forked from, and what happened there up to that entry has happened in
//! it: by reference, for a journal is only added to. What was open there is cut off; what its steps and checkpoints made true is
//! not done again. Its place is taken before anything is written.

use std::sync::Arc;
use std::time::Duration;

use ltmc_journal::RunLog;
use ltmc_model::caller::Caller;
use ltmc_model::journal::{Amendment, Event, Follows, Forked, RunStarted};
use ltmc_model::run::Run;
use ltmc_model::{Digest, RunId, Seq};
use ltmc_policy::Action;
use ltmc_ports::journal::IdempotencyKey;
use ltmc_ports::{Durability, Kind};
use ltmc_tenancy::Error;

use super::amend::{Changes, unfit};
use crate::runs::{IDEMPOTENCY, Runs, Started};
use crate::stop::Cancelled;
use crate::supervise::Live;
use crate::take_up;

/// A run that is to go on from where another one was.
#[derive(Debug, Clone)]
pub struct ForkRequest {
    /// Where the new run begins.
    pub from: ForkFrom,
    /// What is changed in it first.
    pub changes: Changes,
    /// The client's idempotency key.
    pub idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub request_digest: Digest,
}

/// Where a run is forked from another one.
#[derive(Debug, Clone)]
pub enum ForkFrom {
    /// At this entry of its journal; none: the last.
    Entry(Option<Seq>),
    /// At its end, and from a step on all is done again.
    Step {
        /// By its name or its path.
        step: String,
        /// Whether one that is under way is cancelled first.
        cancel: bool,
    },
}

impl Runs {
    /// Starts a run that goes on from where another one was, and leaves that one as it is.
    ///
    /// # Errors
    /// Where the run is not there; where what is asked for does not fit it; where one is to be restarted that is under way; where
    /// there is no room for another.
    pub async fn fork(&self, caller: &Caller, run: RunId, request: ForkRequest) -> Result<Started, Error> {
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move { runs.branch_off(&by, run, request).await };
        self.inner.ports.authority.perform(caller, Action::Run, work).await
    }

    async fn branch_off(&self, caller: &Caller, of: RunId, request: ForkRequest) -> Result<Started, Error> {
        let inner = &self.inner;
        let now = inner.ports.clock.now();
        let idempotency = request.idempotency.map(|key| (format!("{}/{key}", caller.key), request.request_digest));
        if let Some((key, digest)) = &idempotency
            && let Some(found) = inner.ports.read.idempotent(&caller.tenant, key, now).await?
        {
            return self.attach(caller, found, digest);
        }
        let mut changes = request.changes;
        let at = match request.from {
            ForkFrom::Entry(at) => at,
            ForkFrom::Step { step, cancel } => {
                self.is_to_be_over(caller, of, cancel).await?;
                changes.steps.insert(0, (step, Amendment::Again));
                None
            }
        };
        self.settle(&caller.tenant, of, Durability::Barrier).await?;
        let row = self.row(caller, of).await?;
        let (at, is_changed) = (at.unwrap_or(row.seq), !changes.steps.is_empty());
        let (log, run) = self.forked(caller, &row, (at, is_changed), idempotency.as_ref()).await?;
        let mut events = self.changed(&log, &caller.key, &changes, (of, at)).await?;
        events.push(Event::RunResumed { by: caller.key.clone() });
        let log = Arc::new(log);
        let pins = inner.pinned(&log, &events).await;
        let live = Live::new(log.clone(), log.started().input.bytes.len() as u64);
        let place = inner.registry.enter(live.clone())?;
        // In doubt, the run's task looks into the record: it goes on with what is there, or says that there is nothing.
        if let Err(error) = log.append(events, Durability::Barrier).await
            && error.kind != Kind::Unavailable
        {
            drop(place);
            let found = match (&idempotency, error.kind) {
                (Some((key, digest)), Kind::Conflict) => {
                    inner.ports.read.idempotent(&caller.tenant, key, now).await?.map(|found| (found, digest))
                }
                _ => None,
            };
            return match found {
                Some((found, digest)) => self.attach(caller, found, digest),
                None => Err(error.into()),
            };
        }
        inner.spawn(place, None, pins);
        Ok(Started::begun(run, live))
    }

    /// Sees to it that a run which is to be restarted is over.
    async fn is_to_be_over(&self, caller: &Caller, run: RunId, cancel: bool) -> Result<(), Error> {
        let row = self.row(caller, run).await?;
        if row.state.is_over() {
            return Ok(());
        }
        if !cancel {
            let message = format!(
                "run {run} is {}: it is restarted once it is over, or is cancelled first with `cancel`",
                row.state.as_str()
            );
            return Err(Error::Conflict { code: "conflict", message });
        }
        match self.cancel(caller, run).await {
            // It came to its end meanwhile.
            Err(Error::Conflict { .. }) | Ok(Cancelled::Over) => Ok(()),
            Ok(Cancelled::BeingUndone) => {
                let message =
                    format!("run {run} is being cancelled: what it did is undone first, and then it can be restarted");
                Err(Error::Conflict { code: "conflict", message })
            }
            Err(error) => Err(error),
        }
    }

    /// The log of a new run that goes on from an entry of another one; whether something of it is changed first.
    async fn forked(
        &self,
        caller: &Caller,
        of: &Run,
        (at, is_changed): (Seq, bool),
        idempotency: Option<&(String, Digest)>,
    ) -> Result<(RunLog, RunId), Error> {
        let inner = &self.inner;
        if inner.registry.is_stopping() {
            return Err(Error::Busy { message: "the host is stopping".into(), retry_after: Duration::from_secs(5) });
        }
        if at == Seq(0) || at > of.seq {
            return Err(unfit("at", format!("run {} has the entries 1 to {}, and no {at}", of.id, of.seq)));
        }
        let read = inner.ports.read.as_ref();
        let before = match is_changed {
            true => take_up::to_be_changed(read, &caller.tenant, of.id, at).await?,
            false => take_up::history(read, &caller.tenant, of.id, at).await?,
        };
        if before.forks() >= Forked::MOST {
            let why = format!(
                "run {} was forked from one that was forked, {} times over: begin a new one",
                of.id,
                before.forks()
            );
            return Err(Error::Conflict { code: "conflict", message: why });
        }
        let now = inner.ports.clock.now();
        let (run, seed) = inner.drawn(now);
        let missing = || Error::Internal { message: format!("the journal of run {} lacks its beginning", of.id) };
        let begun = RunStarted::clone(before.started().ok_or_else(missing)?);
        let is_turn = begun.turn.is_some();
        let started = RunStarted {
            by: caller.key.clone(),
            seed,
            traceparent: None,
            forked: Some(Forked { of: of.id, at }),
            parent: None,
            // Another one may be at work in the session by then.
            session: if is_turn { run.to_string().parse().map_err(|_| missing())? } else { begun.session.clone() },
            turn: None,
            follows: Follows::passed_on(begun.follows.map(|follows| follows.trail)),
            ..begun
        };
        let kept = idempotency.map(|(key, request)| IdempotencyKey {
            key: key.clone(),
            request: *request,
            run,
            expires_at: now.after(IDEMPOTENCY),
        });
        let log = RunLog::forked(inner.log_ports(), caller.tenant.clone(), run, started, before, kept);
        Ok((log.ok_or_else(missing)?, run))
    }
}
