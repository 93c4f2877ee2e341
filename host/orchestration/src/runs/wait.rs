//! Ends of runs, waited for.

use std::time::Duration;

use ltmc_journal::view::Outline;
use ltmc_model::caller::Caller;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Event;
use ltmc_model::{Payload, RunId, Seq, TenantId};
use ltmc_ports::{Durability, Kind, StoreError};
use ltmc_tenancy::Error;
use tokio::time::Instant;

use super::{AGAIN, CANCEL, Inner, Runs, Started};
use crate::supervise::Live;

impl Runs {
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
}

impl Inner {
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
}

/// What comes, if it comes within `patience`; none: for ever.
pub(super) async fn within<T>(patience: Option<Duration>, comes: impl Future<Output = T>) -> Option<T> {
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
