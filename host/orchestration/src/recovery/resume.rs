//! A run that is over, and not well, is taken up again.

use std::sync::Arc;

use ltmc_journal::{History, RunLog};
use ltmc_model::caller::Caller;
use ltmc_model::journal::{Event, Replayed};
use ltmc_model::run::State;
use ltmc_model::session::Stage;
use ltmc_model::{KeyId, RunId, Seq};
use ltmc_policy::Action;
use ltmc_ports::Kind;
use ltmc_tenancy::Error;

use super::amend::{Amend, Changes};
use super::rehearse::{self, replayed};
use crate::plan::Plan;
use crate::runs::Runs;
use crate::supervise::{self, Found, Whose};
use crate::{lineage, rescued};

impl Runs {
    /// Takes a run up again that failed, was cancelled or is set aside: what it did stays done, and what was undone is done
    /// again. Where somebody paused it, it goes on.
    ///
    /// # Errors
    /// Where it is not there, or none of these; where there is no room for it, and nothing is then written.
    pub async fn resume(&self, caller: &Caller, run: RunId) -> Result<(), Error> {
        self.resume_with(caller, run, Changes::default()).await.map(drop)
    }

    /// The same, with something changed before: what steps gave, or work on, or by which versions of agents they are done. What
    /// versions that take over made again first, of steps in the middle of their work.
    ///
    /// # Errors
    /// As [`Self::resume`]; where a change does not fit the run, and nothing is then written.
    pub async fn resume_with(&self, caller: &Caller, run: RunId, changes: Changes) -> Result<Vec<Replayed>, Error> {
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move { runs.take_up_again(&by, run, &changes).await };
        self.inner.ports.authority.perform(caller, Action::Run, work).await
    }

    pub(crate) async fn take_up_again(
        &self,
        caller: &Caller,
        run: RunId,
        changes: &Changes,
    ) -> Result<Vec<Replayed>, Error> {
        let row = self.row(caller, run).await?;
        if !matches!(row.state, State::Failed | State::Cancelled) && !row.state.is_set_aside() {
            let message = format!(
                "run {run} is {}: only one that failed, was cancelled or is quarantined, paused or stuck is resumed",
                row.state.as_str()
            );
            return Err(Error::Conflict { code: "conflict", message });
        }
        if self.stage(&row).await?.is_some_and(|stage| stage != Stage::Active) {
            let message = format!(
                "run {run} is a turn of session {}, which is over: say it again there, or `ltmc runs restart` it as a run of its own",
                row.session
            );
            return Err(Error::Conflict { code: "conflict", message });
        }
        let whose = if changes.steps.is_empty() { Whose::Nobodys } else { Whose::ToBeChanged };
        let log = match supervise::take_over(&self.inner, &caller.tenant, run, whose).await? {
            Found::Log(log) => log,
            Found::Over(..) | Found::Taken | Found::Nothing => return Err(Error::not_found(format!("run `{run}`"))),
        };
        let mut events = self.changed(&log, &caller.key, changes, (run, lineage::TO_THE_END)).await?;
        let replayed = events.iter().flat_map(replayed).cloned().collect();
        let by = caller.key.clone();
        let is_paused = log.read(History::is_paused_by_somebody);
        events.push(if is_paused && events.is_empty() { Event::RunContinued { by } } else { Event::RunResumed { by } });
        rescued::by_people();
        if row.state == State::Paused {
            // Before it looks for their ends.
            self.continue_below(caller, run).await?;
        }
        // Whoever resumes it at the same moment is fenced off here.
        self.go_on(log, events).await.map_err(|error| match error {
            Error::Store(error) if matches!(error.kind, Kind::Fenced | Kind::Conflict) => {
                Error::Conflict { code: "conflict", message: format!("somebody else resumed run {run} just now") }
            }
            error => error,
        })?;
        Ok(replayed)
    }

    /// What is changed in a run, as it is journaled. `kept`: the run, and up to which entry, whose journal has what its steps did.
    pub(super) async fn changed(
        &self,
        log: &RunLog,
        by: &KeyId,
        changes: &Changes,
        kept: (RunId, Seq),
    ) -> Result<Vec<Event>, Error> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let plan = Plan::pinned(log.started())
            .map_err(|failure| Error::Conflict { code: "conflict", message: failure.message })?;
        let plan = Arc::new(plan);
        let history = log.read(Clone::clone);
        let amend = Amend { inner: &self.inner, tenant: log.tenant(), by, plan: &plan, history: &history };
        let mut events = amend.events(changes).await?;
        if !changes.agents.is_empty() {
            rehearse::all(&self.inner, log, &plan, &mut events, kept).await?;
        }
        Ok(events)
    }
}
