//! People end runs, pause them, and have them go on.
//!
//! Invariants: whoever is answered knows that what was asked for is on disk. A run that is cancelled and has something to undo is
//! being cancelled from then on: that goes on by itself, over restarts, and to cancel it again changes nothing. A paused run is a row
//! and nothing else: it has no place, and no start takes it up. What a run began that ends with it is paused with it, each in its own journal,
//! from the top down, and goes on with it from the leaves up: whoever waits for a run that is paused would be told so.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use ltmc_journal::{History, RunLog};
use ltmc_model::caller::Caller;
use ltmc_model::child::MAX_CHILDREN;
use ltmc_model::journal::Event;
use ltmc_model::run::{Run, State};
use ltmc_model::session::Stage;
use ltmc_model::{KeyId, RunId, Seq, TenantId};
use ltmc_policy::Action;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::{Durability, Kind, StoreError};
use ltmc_tenancy::Error;
use tokio::time::Instant;

use crate::children::ends_with_parent;
use crate::metered;
use crate::recovery::Changes;
use crate::runs::{AT_REST, CANCEL, Runs, being_taken_up, is_over, may_see};
use crate::supervise::{self, Found, Live, Whose, Why};

/// What became of a run that was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is over.
    Over,
    /// What it did is undone first, which goes on by itself.
    BeingUndone,
}

const REASON: &str = "cancelled by a client";

impl Runs {
    /// Ends a run. What it did is kept, where it has nothing that undoes it. What is not undone yet of one that is stuck is given up.
    ///
    /// # Errors
    /// Where it is not there, or over already.
    pub async fn cancel(&self, caller: &Caller, run: RunId) -> Result<Cancelled, Error> {
        self.inner.ports.authority.authorize(caller, Action::Run).await?;
        self.row_or_live(caller, run).await?;
        self.end(&caller.tenant, run, Some(caller.key.clone()), REASON).await
    }

    /// Ends a run, whoever may see it; `by`: whose key, none: the host.
    ///
    /// # Errors
    /// Where it is not there, or over already; `Busy` where it does not end in time.
    pub(crate) async fn end(
        &self,
        tenant: &TenantId,
        run: RunId,
        by: Option<KeyId>,
        reason: &str,
    ) -> Result<Cancelled, Error> {
        if let Some(live) = self.live(tenant, run) {
            live.stop(Why::Cancelled { by: by.clone(), reason: reason.into() });
            match stopped(&live, "the run is being cancelled, and its end is not on disk yet").await? {
                None => return Ok(Cancelled::BeingUndone),
                Some(State::Cancelled) => return Ok(Cancelled::Over),
                // It was suspended at that very moment, and is ended where it waits.
                Some(State::Waiting) => {}
                Some(state) => return Err(is_over(run, state)),
            }
        }
        let row = self.inner.ports.read.run(tenant, run).await?;
        let row = self.at_rest(row.ok_or_else(|| Error::not_found(format!("run `{run}`")))?)?;
        let (runs, of, reason) = (self.clone(), tenant.clone(), reason.to_owned());
        let work = async move { runs.end_waiting(&of, row, by, reason).await };
        self.inner.ports.authority.tasks().own(tenant, work).await
    }

    /// Ends a run of which nothing but its row is kept.
    async fn end_waiting(
        &self,
        tenant: &TenantId,
        row: Run,
        by: Option<KeyId>,
        reason: String,
    ) -> Result<Cancelled, Error> {
        let log = self.taken_over(tenant, &row).await?;
        let (event, is_cancelling) = log.read(|history| {
            let event = match history.state() {
                State::Stuck => Event::RunCancelled { by, reason: format!("{reason}: what is not undone is given up") },
                _ => supervise::cancelled(history, by, reason),
            };
            (event, supervise::is_cancelling(history) && !history.state().is_over())
        });
        match event {
            // It waits until what undoes something is tried again.
            Event::RunCancelling { .. } if is_cancelling => Ok(Cancelled::BeingUndone),
            Event::RunCancelling { .. } => {
                let goes_on = self.go_on(log, vec![event]).await;
                goes_on.map(|()| Cancelled::BeingUndone).map_err(|error| match error {
                    Error::Store(error) => faster(error),
                    Error::Conflict { .. } => being_taken_up(),
                    error => error,
                })
            }
            event => {
                let is_turn = log.started().turn.is_some();
                log.append(vec![event], Durability::Barrier).await.map_err(faster)?;
                metered::RUNS.of([State::Cancelled.as_str()]).increment(1);
                self.end_below(tenant, row.id, Vec::new(), true).await;
                if is_turn {
                    // The next turn of its session is due.
                    self.inner.sleepers.notify_one();
                }
                Ok(Cancelled::Over)
            }
        }
    }

    /// Has a run wait until somebody goes on with it, and with it what it began that ends with it: what is open is made again from its
    /// checkpoint then. One that is paused stays so.
    ///
    /// # Errors
    /// Where it is not there, or over. Where it is paused and something that it began is not yet: to be asked again.
    pub async fn pause(&self, caller: &Caller, run: RunId) -> Result<(), Error> {
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move {
            let begun = runs.pause_one(&by, run).await?;
            runs.pause_below(&by, run, begun).await
        };
        self.inner.ports.authority.perform(caller, Action::Run, work).await
    }

    /// Pauses a run alone; the runs that it is known to have begun and did not wait for.
    async fn pause_one(&self, caller: &Caller, run: RunId) -> Result<Vec<RunId>, Error> {
        let mut begun = Vec::new();
        if let Some(live) = self.live(&caller.tenant, run).filter(|live| may_see(caller, &live.by)) {
            live.stop(Why::Paused { by: caller.key.clone() });
            let state = live_end(&live, "the run is being paused, which is not on disk yet").await?;
            begun = live.children.all();
            match state {
                State::Paused => return Ok(begun),
                // It was suspended at that very moment.
                State::Waiting => {}
                state => return Err(is_over(run, state)),
            }
        }
        let row = self.at_rest(self.row(caller, run).await?)?;
        match row.state {
            State::Paused => return Ok(begun),
            state if state.is_over() => return Err(is_over(run, state)),
            _ => {}
        }
        if self.stage(&row).await? == Some(Stage::Queued) {
            let message =
                format!("run {run} waits for its turn in session {}: it can be cancelled, and not paused", row.session);
            return Err(Error::Conflict { code: "conflict", message });
        }
        let paused = Event::RunPaused { by: Some(caller.key.clone()), failure: None };
        let log = self.taken_over(&caller.tenant, &row).await?;
        log.append(vec![paused], Durability::Barrier).await.map_err(faster)?;
        Ok(begun)
    }

    /// Pauses what a run began that ends with it, down the tree: those in the record, and those that are known besides.
    fn pause_below<'a>(
        &'a self,
        caller: &'a Caller,
        parent: RunId,
        known: Vec<RunId>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            // Of one that is paused something may not be, where that was broken off.
            let is_open = |state: State| !state.is_over() || state == State::Paused;
            let rows = self.begun_by(caller, parent, None).await?.into_iter();
            let mut children: Vec<RunId> = rows.filter(|row| is_open(row.state)).map(|row| row.id).collect();
            children.extend(known);
            children.sort_unstable();
            children.dedup();
            join_all(children.into_iter().map(|child| self.pause_child(caller, child)))
                .await
                .into_iter()
                .collect::<Result<(), Error>>()
        }
        .boxed()
    }

    async fn pause_child(&self, caller: &Caller, child: RunId) -> Result<(), Error> {
        if !self.goes_with_parent(caller, child).await? {
            return Ok(());
        }
        let since = Instant::now();
        let begun = loop {
            match self.pause_one(caller, child).await {
                Ok(begun) => break begun,
                // It is over by itself, or was never begun.
                Err(Error::Conflict { .. } | Error::NotFound { .. }) => return Ok(()),
                // It is taken up, or suspended, at this very moment.
                Err(Error::Busy { .. }) if since.elapsed() < CANCEL => tokio::time::sleep(AT_REST).await,
                Err(error) => return Err(error),
            }
        };
        self.pause_below(caller, child, begun).await
    }

    /// Goes on with what a run began that was paused with it.
    pub(crate) fn continue_below<'a>(&'a self, caller: &'a Caller, parent: RunId) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let rows = self.begun_by(caller, parent, Some(State::Paused)).await?;
            let all = rows.into_iter().map(|row| self.continue_child(caller, row.id));
            join_all(all).await.into_iter().collect::<Result<(), Error>>()
        }
        .boxed()
    }

    async fn continue_child(&self, caller: &Caller, child: RunId) -> Result<(), Error> {
        let found = supervise::take_over(&self.inner, &caller.tenant, child, Whose::Nobodys).await?;
        let Found::Log(log) = found else { return Ok(()) };
        if !ends_with_parent(&log) || !log.read(History::is_paused_by_somebody) {
            return Ok(());
        }
        self.continue_below(caller, child).await?;
        match self.go_on(log, vec![Event::RunContinued { by: caller.key.clone() }]).await {
            // Somebody else goes on with it.
            Err(Error::Store(error)) if matches!(error.kind, Kind::Fenced | Kind::Conflict) => Ok(()),
            Err(Error::Conflict { .. }) => Ok(()),
            went => went,
        }
    }

    /// The rows of runs that a run began; in this state, where one is said.
    async fn begun_by(&self, caller: &Caller, parent: RunId, state: Option<State>) -> Result<Vec<Run>, StoreError> {
        let limit = u32::try_from(MAX_CHILDREN).unwrap_or(u32::MAX);
        let filter = RunFilter { parent: Some(parent), state, limit, ..RunFilter::default() };
        self.inner.ports.read.runs(&caller.tenant, &filter).await
    }

    /// Whether a run ends with what began it, and so is paused with it.
    async fn goes_with_parent(&self, caller: &Caller, child: RunId) -> Result<bool, StoreError> {
        if let Some(live) = self.live(&caller.tenant, child) {
            return Ok(ends_with_parent(&live.log()));
        }
        let first = self.inner.ports.read.entries(&caller.tenant, child, Seq(0), 1).await?;
        Ok(first.into_iter().any(|placed| match placed.entry.event {
            Event::RunStarted(started) => started.parent.is_some_and(|parent| parent.on_end.is_cancel()),
            _ => false,
        }))
    }

    /// Goes on with a run that is paused, and with what was paused with it.
    ///
    /// # Errors
    /// Where it is not there, or not paused; where there is no room for it, and nothing is then written.
    pub async fn go_on_with(&self, caller: &Caller, run: RunId) -> Result<(), Error> {
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move {
            let row = runs.row(&by, run).await?;
            if row.state != State::Paused {
                let message = format!("run {run} is {}: only one that is paused is continued", row.state.as_str());
                return Err(Error::Conflict { code: "conflict", message });
            }
            runs.take_up_again(&by, run, &Changes::default()).await.map(drop)
        };
        self.inner.ports.authority.perform(caller, Action::Run, work).await
    }

    /// Whether a caller may see a run, alive here or not.
    pub(crate) async fn row_or_live(&self, caller: &Caller, run: RunId) -> Result<(), Error> {
        match self.live(&caller.tenant, run) {
            Some(live) if may_see(caller, &live.by) => Ok(()),
            Some(_) | None => self.row(caller, run).await.map(drop),
        }
    }

    /// The row of a run that is set aside, or of which nothing else is kept for now.
    fn at_rest(&self, row: Run) -> Result<Run, Error> {
        if row.state.is_final() {
            return Err(is_over(row.id, row.state));
        }
        let is_at_rest = row.state.is_set_aside() || row.wakes_at.is_some() || self.is_waiting_alone(&row);
        if is_at_rest { Ok(row) } else { Err(being_taken_up()) }
    }

    /// The log of a run at rest. Whoever goes on with it at the same moment is fenced off by what is written next, or fences that off.
    async fn taken_over(&self, tenant: &TenantId, row: &Run) -> Result<Arc<RunLog>, Error> {
        let whose = if row.state.is_set_aside() { Whose::Nobodys } else { Whose::Anyones };
        match supervise::take_over(&self.inner, tenant, row.id, whose).await? {
            Found::Log(log) if row.state.is_set_aside() && log.read(History::state) != row.state => {
                Err(being_taken_up())
            }
            Found::Log(log) => Ok(log),
            Found::Over(state, _) => Err(is_over(row.id, state)),
            Found::Taken | Found::Nothing => Err(being_taken_up()),
        }
    }
}

/// Waits until a run that was cancelled has stopped: where it stands; none: what it did is being undone.
async fn stopped(live: &Live, not_yet: &str) -> Result<Option<State>, Error> {
    tokio::select! {
        biased;
        state = live_end(live, not_yet) => state.map(Some),
        () = live.unwinds() => Ok(None),
    }
}

/// Waits until a run that was to stop has: where it stands.
async fn live_end(live: &Live, not_yet: &str) -> Result<State, Error> {
    let ended = tokio::time::timeout(CANCEL, live.ended()).await;
    let state = ended.ok().and_then(|end| end.state);
    state.ok_or_else(|| Error::Busy { message: not_yet.to_owned(), retry_after: Duration::from_secs(1) })
}

fn faster(error: StoreError) -> Error {
    match error.kind {
        Kind::Fenced | Kind::Conflict => being_taken_up(),
        _ => error.into(),
    }
}
