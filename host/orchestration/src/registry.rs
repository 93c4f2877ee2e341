//! The registry of active runs: which are alive in this process, and whether there is room for another.
//!
//! Invariants: a run is alive here at most once, and for just as long as its [`Place`] is held; whoever holds it may be dropped
//! anywhere. A place is taken before anything is committed that needs it. Whoever waits for a run that is alive is told how it
//! ended, or that it did not, whatever becomes of its task. A registry that stops gives out no more places, and waits for those
//! it gave out.

use std::sync::Arc;
use std::time::Duration;

use dashmap::mapref::entry::Entry;
use dashmap::{DashMap, DashSet};
use ltmc_model::{RunId, TenantId};
use ltmc_tenancy::pot::Share;
use ltmc_tenancy::{Error, Pot};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::metered;
use crate::supervise::{End, Live, Why};

/// Runs alive at once, which tenants divide among themselves.
const MAX_LIVE: u64 = 20_000;
/// Bytes of the inputs of all runs alive at once, divided in the same way.
const MAX_LIVE_BYTES: u64 = 1 << 30;

/// How long runs that are parked have to write what they did.
const PARKING: Duration = Duration::from_secs(30);

/// The runs alive in this process.
pub(crate) struct Registry {
    live: DashMap<(TenantId, RunId), Arc<Live>>,
    room: Pot,
    bytes: Pot,
    /// Runs that this process could not go on with: they wait for the next start.
    left: DashSet<(TenantId, RunId)>,
    entered: Notify,
    places: TaskTracker,
    stopping: CancellationToken,
}

impl Default for Registry {
    fn default() -> Self {
        Self::with_room(MAX_LIVE)
    }
}

impl Registry {
    /// With room for so many.
    pub(crate) fn with_room(most: u64) -> Self {
        Self {
            live: DashMap::new(),
            // bound: runs alive
            room: Pot::divided(most),
            // bound: inputs of runs alive
            bytes: Pot::divided(MAX_LIVE_BYTES),
            left: DashSet::new(),
            entered: Notify::new(),
            places: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Takes a place for a run, if there is room.
    ///
    /// # Errors
    /// `Busy` where there is none, or the host stops; `Conflict` where the run is alive already.
    pub(crate) fn enter(self: &Arc<Self>, live: Arc<Live>) -> Result<Place, Error> {
        // Taken before it is looked whether the host stops: whoever stops it waits for this place, or it is not given out.
        let token = self.places.token();
        if self.is_stopping() {
            return Err(busy("the host is stopping", 5));
        }
        let room = self.room.take(&live.tenant, 1).map_err(|_| busy("too many runs are under way", 1))?;
        let bytes = self
            .bytes
            .take(&live.tenant, live.weight)
            .map_err(|_| busy("the inputs of the runs under way take all the room there is for them", 1))?;
        match self.live.entry((live.tenant.clone(), live.run)) {
            Entry::Occupied(_) => {
                let message = format!("run {} is under way already", live.run);
                return Err(Error::Conflict { code: "conflict", message });
            }
            Entry::Vacant(free) => drop(free.insert(live.clone())),
        }
        metered::ALIVE.increment(1);
        self.left.remove(&(live.tenant.clone(), live.run));
        self.entered.notify_waiters();
        Ok(Place { registry: self.clone(), live, is_driven: false, end: None, room, bytes, _token: token })
    }

    /// A run that is alive.
    pub(crate) fn get(&self, tenant: &TenantId, run: RunId) -> Option<Arc<Live>> {
        self.live.get(&(tenant.clone(), run)).map(|live| live.clone())
    }

    /// Those of a tenant that are alive.
    pub(crate) fn of(&self, tenant: &TenantId) -> Vec<Arc<Live>> {
        self.live.iter().filter(|live| live.tenant == *tenant).map(|live| live.clone()).collect()
    }

    /// How many are alive.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Bytes of the inputs of those alive.
    pub(crate) fn input_bytes(&self) -> u64 {
        self.bytes.out()
    }

    /// Whether there may be room for one more of the tenant's.
    pub(crate) fn has_room(&self, tenant: &TenantId) -> bool {
        self.room.has(tenant, 1) && self.bytes.has(tenant, 1)
    }

    /// Says that this process does not go on with a run.
    pub(crate) fn leave_behind(&self, tenant: &TenantId, run: RunId) {
        self.left.insert((tenant.clone(), run));
    }

    /// Whether this process does not go on with a run that is not over.
    pub(crate) fn is_left_behind(&self, tenant: &TenantId, run: RunId) -> bool {
        self.is_stopping() || self.left.contains(&(tenant.clone(), run))
    }

    /// Comes when a run has taken a place since this was asked for.
    pub(crate) fn entered(&self) -> Notified<'_> {
        self.entered.notified()
    }

    /// Whether no more places are given out.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Comes when no more places are given out.
    pub(crate) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Gives out no more places, gives the runs alive `grace` to end, and parks the rest.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.stopping.cancel();
        self.places.close();
        if tokio::time::timeout(grace, self.places.wait()).await.is_err() {
            tracing::info!(runs = self.len(), "runs are parked; the next start goes on with them");
            for live in &self.live {
                live.stop(Why::Parked);
            }
            if tokio::time::timeout(PARKING, self.places.wait()).await.is_err() {
                tracing::warn!(
                    runs = self.len(),
                    "some runs could not be parked in time; the next start goes on with them"
                );
            }
        }
    }
}

/// A run's place among those alive; given back when it is dropped.
pub(crate) struct Place {
    registry: Arc<Registry>,
    live: Arc<Live>,
    /// Whether the run's task has it.
    is_driven: bool,
    end: Option<End>,
    room: Share,
    bytes: Share,
    _token: TaskTrackerToken,
}

impl Place {
    /// Whose it is.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The run's task has it from now on.
    pub(crate) fn driven(mut self) -> Self {
        self.is_driven = true;
        self
    }

    /// Gives it back, and tells those who wait how the run ended.
    pub(crate) fn end(mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let end = self.end.take().unwrap_or_else(|| if self.is_driven { End::broke_off() } else { End::not_begun() });
        self.room.give_back();
        self.bytes.give_back();
        let Self { registry, live, .. } = &*self;
        if end.is_left {
            registry.leave_behind(&live.tenant, live.run);
        }
        registry.live.remove(&(live.tenant.clone(), live.run));
        metered::ALIVE.decrement(1);
        // Whoever is told finds the place free.
        live.tell(end);
    }
}

fn busy(message: &str, seconds: u64) -> Error {
    Error::Busy { message: message.to_owned(), retry_after: Duration::from_secs(seconds) }
}

#[cfg(test)]
mod tests {
    use ltmc_journal::{RunLog, runlog};
    use ltmc_ports::testing::{ManualClock, MemoryRecord, sample};

    use super::*;

    fn live(number: u64) -> Arc<Live> {
        let acme = sample::tenant("acme");
        let clock = Arc::new(ManualClock::at(sample::at(0)));
        let ports = runlog::Ports { journal: MemoryRecord::new(), clock, sealing: Default::default() };
        let started = sample::started(&acme);
        let log = RunLog::fresh(ports, acme, sample::run_id(number), started, None);
        Live::new(Arc::new(log), MAX_LIVE_BYTES / 16 * 3)
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_is_counted_no_more() {
        let registry = Arc::new(Registry::default());
        let [one, other, third] = [1, 2, 3].map(live);
        for _ in 0..=MAX_LIVE {
            drop(registry.enter(one.clone()).unwrap());
        }
        assert_eq!((registry.len(), registry.room.out(), registry.bytes.out()), (0, 0, 0));
        let first = registry.enter(one.clone()).unwrap();
        assert!(matches!(registry.enter(one), Err(Error::Conflict { .. })), "it is alive already");
        let places = [first, registry.enter(other).unwrap()];
        assert!(matches!(registry.enter(third.clone()), Err(Error::Busy { .. })), "there is no room for its input");
        assert_eq!((registry.len(), registry.room.out()), (2, 2), "who got no place has none");
        drop(places);
        drop(registry.enter(third).unwrap());
        assert_eq!((registry.len(), registry.room.out(), registry.bytes.out()), (0, 0, 0));
    }
}
