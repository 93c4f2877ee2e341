//! Locks over what is decided by what stands there: keys of memory, facts, mailboxes.
//!
//! They are advice. The record checks in its transaction what a change was decided on; a lock keeps those who would contradict
//! each other from working side by side in vain. So nobody waits long for one: who waits in a ring goes on without it, and who
//! keeps one for long keeps nobody waiting. Each tenant has its own: nobody's waiting is another tenant's doing.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use ltmc_journal::RunLog;
use ltmc_journal::runlog::Lock;
use ltmc_model::TenantId;
use ltmc_ports::Durability;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::context::Whose;

/// Locks of one tenant. Two things share one now and then, which costs a wait and nothing else.
const LOCKS: usize = 256;
/// After which whoever waits for a lock has its holder write what it has staged, and again.
const AGAIN: Duration = Duration::from_millis(5);
/// For so long after it was taken a lock keeps others waiting.
const PATIENCE: Duration = Duration::from_millis(50);
/// The same for those who were overtaken again and again: what they wanted is wanted by many, who work on it for long.
const LONGEST: Duration = Duration::from_secs(2);

/// For how long after it was taken a lock keeps somebody waiting who was overtaken so often: without it, the work would be in
/// vain once more.
pub fn patience(overtaken: u32) -> Duration {
    PATIENCE.saturating_mul(1 << overtaken.min(16)).min(LONGEST)
}

/// The locks of all tenants.
#[derive(Debug, Default)]
pub struct Locks(DashMap<TenantId, Arc<[Place]>>);

/// Where a lock stands, and who had it last, since when.
#[derive(Debug, Default)]
struct Place {
    lock: Arc<Mutex<()>>,
    holder: std::sync::Mutex<(Weak<RunLog>, Option<Instant>)>,
}

/// When a lock is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetGo {
    /// When the change is handed to the record: whoever comes next sees what was handed over.
    Early,
    /// When the change is in the record.
    Late,
}

impl Locks {
    /// Takes the lock of a thing of the tenant's; none: it could not be had soon.
    pub(crate) async fn take(&self, whose: Whose<'_>, thing: &(impl Hash + Sync), let_go: LetGo) -> Option<Lock> {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(thing);
        let number = usize::try_from(hash % LOCKS as u64).unwrap_or(0);
        let early = let_go == LetGo::Early;
        // What an attempt has locked is free to it, and what an earlier step of its run has too.
        if let Some(lock) = whose.lock(number) {
            return Some(Lock { early: early && lock.early, ..lock });
        }
        let places = self.of(whose.tenant);
        let place = &places[number];
        // One place in the queue, kept over all of the waiting.
        let mut turn = pin!(place.lock.clone().lock_owned());
        let guard = loop {
            let (holder, since) = place.holder().clone();
            let left = since.map_or(whose.patience, |since| whose.patience.saturating_sub(since.elapsed()));
            if let Ok(guard) = tokio::time::timeout(left.min(AGAIN), &mut turn).await {
                break guard;
            }
            if left.is_zero() {
                metrics::counter!("ltmc_locks_not_had_total").increment(1);
                return None;
            }
            if let Some(holder) = holder.upgrade().filter(|holder| holder.lock(number).is_some()) {
                // Its own appends tell it what came of this.
                drop(holder.flush(Durability::Lazy).await);
            }
        };
        let log = whose.log().map_or_else(Weak::new, Arc::downgrade);
        *place.holder() = (log, Some(Instant::now()));
        Some(Lock { place: number, hold: Arc::new(guard), early })
    }

    fn of(&self, tenant: &TenantId) -> Arc<[Place]> {
        if let Some(places) = self.0.get(tenant) {
            return places.clone();
        }
        let places = || (0..LOCKS).map(|_| Place::default()).collect();
        self.0.entry(tenant.clone()).or_insert_with(places).clone()
    }
}

impl Place {
    fn holder(&self) -> std::sync::MutexGuard<'_, (Weak<RunLog>, Option<Instant>)> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
