//! A run takes its place among those alive, and sets out: a new one, or one of the record that goes on.
//!
//! Invariant: nothing is written that could afterwards find no place. Once a run has its place that is done to its end, also where whoever
//! asks for it goes away meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_model::journal::{Event, RunStarted};
use ltmc_model::{AgentName, Digest, RunId, TenantId};
use ltmc_ports::journal::IdempotencyKey;
use ltmc_ports::{Durability, Kind};
use ltmc_processor::Account;
use ltmc_tenancy::Error;
use ltmc_tenancy::pins::Pin;
use tracing::Instrument as _;

use super::{Inner, Runs};
use crate::plan;
use crate::registry::Place;
use crate::supervise::{self, Found, Live, Whose};

/// A new run that has its place, and is not under way yet.
pub(crate) struct Entered {
    pub(super) place: Place,
    plan: plan::Shared,
    pins: Vec<Pin>,
}

impl Entered {
    /// Its life, to be driven by whoever has it.
    pub(super) fn driven(self, inner: &Arc<Inner>) -> impl Future<Output = ()> + Send + use<> {
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

impl Runs {
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
    pub(super) async fn enter_as(&self, log: RunLog, plan: plan::Shared) -> Result<Entered, Error> {
        let inner = &self.inner;
        let weight = log.started().input.bytes.len() as u64;
        let pins = inner.pin(&log.started().agents).await;
        let place = inner.registry.enter(Live::new(Arc::new(log), weight))?;
        Ok(Entered { place, plan, pins })
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
}

impl Inner {
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

    pub(crate) fn spawn(self: &Arc<Self>, place: Place, plan: Option<plan::Shared>, pins: Vec<Pin>) {
        let account = Account::of(&place.live().tenant);
        tokio::spawn(ltmc_processor::run(account, supervise::live(self.clone(), place, plan, pins)));
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
