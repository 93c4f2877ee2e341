//! What comes from outside is brought into a run: an answer, an event, the end of a child.
//!
//! Invariants: what is brought is decided by where the run stands at that very moment, and is on disk before whoever brings it is told.
//! A run that is suspended goes on with it, for which its place is taken first; one that is alive is told to look again.

use std::time::Duration;

use ltmc_journal::History;
use ltmc_model::journal::Event;
use ltmc_model::{RunId, TenantId};
use ltmc_ports::{Durability, Kind, StoreError};
use ltmc_tenancy::Error;
use tokio::time::Instant;

use crate::runs::{Runs, being_taken_up, is_over};
use crate::supervise::{self, Found, Live, Whose};

/// For how long it is tried to find a run that is on its way from one state to another.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long between two tries.
const AGAIN: Duration = Duration::from_millis(5);

/// What is to be journaled by where the run stands; the error is told to whoever brings it, and nothing is journaled.
pub(crate) type Decide<'a> = &'a (dyn Fn(&History) -> Result<Vec<Event>, Error> + Send + Sync);

/// Why something was not brought.
enum Not {
    /// The run is on its way to somewhere else: it is to be looked for again.
    Yet,
    /// It cannot be.
    Possible(Error),
}

impl From<StoreError> for Not {
    fn from(error: StoreError) -> Self {
        match error.kind {
            // Its log lost its thread, or somebody else was faster.
            Kind::Stale | Kind::Fenced | Kind::Conflict => Self::Yet,
            _ => Self::Possible(error.into()),
        }
    }
}

impl Runs {
    /// Brings what `decide` says into a run, wherever it is. On return that is on disk.
    ///
    /// # Errors
    /// That of `decide`; where the run is not there, or over, or where there is no room for it to go on; the record's.
    pub(crate) async fn deliver(&self, tenant: &TenantId, run: RunId, decide: Decide<'_>) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let brought = match self.live(tenant, run) {
                Some(live) => to_one_alive(&live, decide).await,
                None => self.to_one_at_rest(tenant, run, decide).await,
            };
            match brought {
                Ok(()) => return Ok(()),
                Err(Not::Possible(error)) => return Err(error),
                Err(Not::Yet) if begun.elapsed() >= PATIENCE => return Err(being_taken_up()),
                Err(Not::Yet) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn to_one_at_rest(&self, tenant: &TenantId, run: RunId, decide: Decide<'_>) -> Result<(), Not> {
        let row = self.inner.ports.read.run(tenant, run).await?;
        let row = row.ok_or_else(|| Not::Possible(Error::not_found(format!("run `{run}`"))))?;
        if row.state.is_over() {
            return Err(Not::Possible(is_over(run, row.state)));
        }
        if row.wakes_at.is_none() {
            return Err(Not::Yet);
        }
        let log = match supervise::take_over(&self.inner, tenant, run, Whose::Anyones).await? {
            Found::Log(log) => log,
            Found::Over(state, _) => return Err(Not::Possible(is_over(run, state))),
            Found::Taken | Found::Nothing => return Err(Not::Yet),
        };
        let events = log.read(decide).map_err(Not::Possible)?;
        self.go_on(log, events).await.map_err(|error| match error {
            Error::Store(error) => error.into(),
            // It came alive meanwhile.
            Error::Conflict { .. } => Not::Yet,
            error => Not::Possible(error),
        })
    }
}

async fn to_one_alive(live: &Live, decide: Decide<'_>) -> Result<(), Not> {
    let log = live.log();
    log.stage_if(|history| match (history.suspended(), history.state()) {
        (Some(_), _) => Err(Not::Yet),
        (None, state) if state.is_over() => Err(Not::Possible(is_over(live.run, state))),
        (None, _) => decide(history).map_err(Not::Possible),
    })?;
    log.flush(Durability::Barrier).await?;
    live.news.notify_one();
    Ok(())
}
