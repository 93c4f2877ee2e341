//! Runs, followed: their journals, as these come to disk.

use std::sync::Arc;

use ltmc_context::subscription::{Lost, Subscription, Watermark};
use ltmc_journal::{Extent, Shown, Sight};
use ltmc_model::caller::Caller;
use ltmc_model::delta::Delta;
use ltmc_model::run::State;
use ltmc_model::{RunId, Seq, TenantId};
use ltmc_policy::Action;
use ltmc_ports::log::Interest;
use ltmc_ports::{Durability, ReadJournal};
use ltmc_tenancy::Error;

use super::look::sight;
use super::{PAGE, PAGE_BYTES, Ports, Runs};

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

impl Runs {
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
}

fn lost(lost: Lost) -> Error {
    match lost {
        Lost::Store(error) => error.into(),
        // How far a run is now is always there to be read.
        Lost::Resync(_) => Error::Internal { message: "a run cannot be followed on".into() },
    }
}
