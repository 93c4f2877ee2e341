//! Locks over everything that is decided by what stands there: keys of memory, facts, mailboxes.
//!
//! Invariant: whoever waits for a lock has its holder write what keeps it, so that nobody waits for what is only staged.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use ltmc_ports::Durability;
use ltmc_state::RunLog;
use ltmc_state::runlog::Lock;
use tokio::sync::Mutex;

use crate::context::Whose;

/// Two things share a lock now and then, which costs a wait and nothing else.
const LOCKS: usize = 1_024;
/// After which whoever waits for a lock has its holder write once more: it may have been deciding the first time.
const AGAIN: Duration = Duration::from_millis(5);

/// The locks of all tenants.
#[derive(Debug)]
pub struct Locks(Vec<Place>);

/// Where a lock stands, and who had it last.
#[derive(Debug, Default)]
struct Place {
    lock: Arc<Mutex<()>>,
    holder: std::sync::Mutex<Weak<RunLog>>,
}

impl Default for Locks {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Place::default()).collect())
    }
}

impl Locks {
    /// Takes the lock of a thing of the tenant's.
    pub(crate) async fn take(&self, whose: Whose<'_>, thing: &(impl Hash + Sync)) -> Lock {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one((whose.tenant, thing));
        let number = usize::try_from(hash % LOCKS as u64).unwrap_or(0);
        // An attempt makes one call at a time, and the attempts of a run follow one another: its own lock is free to it.
        if let Some(hold) = whose.run.and_then(|run| run.log.hold(number)) {
            return Lock { place: number, hold };
        }
        let place = &self.0[number];
        let guard = loop {
            if let Ok(guard) = place.lock.clone().try_lock_owned() {
                break guard;
            }
            let other = place.holder().upgrade();
            if let Some(other) = other {
                // Its own appends tell it what came of this.
                drop(other.flush(Durability::Lazy).await);
            }
            if let Ok(guard) = tokio::time::timeout(AGAIN, place.lock.clone().lock_owned()).await {
                break guard;
            }
        };
        *place.holder() = whose.run.map_or_else(Weak::new, |run| Arc::downgrade(run.log));
        Lock { place: number, hold: Arc::new(guard) }
    }
}

impl Place {
    fn holder(&self) -> std::sync::MutexGuard<'_, Weak<RunLog>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
