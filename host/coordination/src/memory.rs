//! Memory: what a guest's call on it means, and what becomes of it.
//!
//! Invariants: a change is decided (its precondition looked at, its revision drawn) and staged under the key's lock, so
//! that two changes of one key never see the same "before". The lock goes with the change, and is held until that is in
//! the record, also when the guest that asked is gone by then. Until then the run that made it sees it, and nobody else;
//! whoever waits for the lock has the change written at once.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use ltmc_model::effect::{Call, Refusal, Reply};
use ltmc_model::memory::{self, Drawer, Item, Precondition, Scope};
use ltmc_model::{AgentName, Revision, Timestamp};
use ltmc_ports::journal::MemoryChange;
use ltmc_ports::{Durability, ReadMemory, StoreError};
use ltmc_state::RunLog;
use ltmc_state::runlog::Hold;
use tokio::sync::Mutex;

/// Locks over all keys of all tenants: two keys share one now and then, which costs a wait and nothing else.
const LOCKS: usize = 1_024;
/// After which whoever waits for a lock has its holder write once more: it may have been deciding the first time.
const AGAIN: Duration = Duration::from_millis(5);
/// The longest time to live.
const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The memory of all tenants.
pub struct Memory {
    read: Arc<dyn ReadMemory>,
    locks: Vec<Place>,
}

/// Where a lock stands, and who had it last.
#[derive(Default)]
struct Place {
    lock: Arc<Mutex<()>>,
    holder: std::sync::Mutex<Weak<RunLog>>,
}

/// Whose memory a call is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) log: &'a Arc<RunLog>,
    pub(crate) agent: &'a AgentName,
}

/// What a call comes to.
pub(crate) enum Decided {
    /// An answer; nothing changes.
    Answer(Result<Reply, Refusal>),
    /// An answer that becomes true with this change.
    Change { reply: Reply, change: MemoryChange, lock: Lock },
}

/// A key's lock: its number, and what keeps it.
pub(crate) struct Lock {
    pub(crate) place: usize,
    pub(crate) hold: Hold,
}

impl Memory {
    /// Over a store.
    pub fn new(read: Arc<dyn ReadMemory>) -> Self {
        Self { read, locks: (0..LOCKS).map(|_| Place::default()).collect() }
    }

    /// What a call comes to at `now`. `revision` draws the next one.
    pub(crate) async fn decide(
        &self,
        whose: Whose<'_>,
        call: Call,
        now: Timestamp,
        revision: impl FnOnce() -> Revision + Send,
    ) -> Result<Decided, StoreError> {
        let answer = |reply| Ok(Decided::Answer(Ok(reply)));
        let refuse = |why| Ok(Decided::Answer(Err(Refusal::Invalid(why))));
        match call {
            Call::Log(_) | Call::MemoryOpen(_) => answer(Reply::Done),
            Call::MemoryGet { scope, key } => {
                if let Err(why) = memory::check_key(&key) {
                    return refuse(why);
                }
                answer(Reply::Item(self.item(whose, &whose.drawer(scope), &key, now).await?))
            }
            Call::MemoryList { scope, prefix, cursor, limit } => {
                if prefix.len() > memory::MAX_KEY || cursor.as_ref().is_some_and(|c| c.len() > memory::MAX_KEY) {
                    return refuse(format!("a prefix and a cursor have at most {} bytes", memory::MAX_KEY));
                }
                if !(1..=memory::MAX_PAGE).contains(&limit) {
                    return refuse(format!("a page has 1 to {} entries, not {limit}", memory::MAX_PAGE));
                }
                if whose.log.has_pending() {
                    whose.log.flush(Durability::Lazy).await?;
                }
                let drawer = whose.drawer(scope);
                answer(Reply::Page(
                    self.read.list(whose.log.tenant(), &drawer, &prefix, cursor.as_deref(), limit, now).await?,
                ))
            }
            Call::MemoryPut { scope, key, value, precondition, ttl_ms } => {
                if let Err(why) = memory::check_key(&key) {
                    return refuse(why);
                }
                if value.len() > memory::MAX_VALUE {
                    let why = format!("a value has at most {} bytes, this one has {}", memory::MAX_VALUE, value.len());
                    return refuse(why);
                }
                let ttl = ttl_ms.map(Duration::from_millis);
                if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > MAX_TTL) {
                    return refuse(format!("a time to live is 1 to {} milliseconds", MAX_TTL.as_millis()));
                }
                let drawer = whose.drawer(scope);
                let lock = self.lock(whose, &drawer, &key).await;
                // Where anything goes there is nothing to look at.
                if precondition != Precondition::Any
                    && let (Some(conflict), _) = self.look(whose, &drawer, &key, precondition, now).await?
                {
                    return Ok(Decided::Answer(Err(conflict)));
                }
                let revision = revision();
                let value = Some((value, ttl.map(|ttl| now.after(ttl))));
                let change = MemoryChange { drawer, key, revision, value };
                Ok(Decided::Change { reply: Reply::Revision(revision), change, lock })
            }
            Call::MemoryDelete { scope, key, precondition } => {
                if let Err(why) = memory::check_key(&key) {
                    return refuse(why);
                }
                let drawer = whose.drawer(scope);
                let lock = self.lock(whose, &drawer, &key).await;
                // Whether there was something is part of the answer, so it is looked up in any case.
                let (conflict, current) = self.look(whose, &drawer, &key, precondition, now).await?;
                if let Some(conflict) = conflict {
                    return Ok(Decided::Answer(Err(conflict)));
                }
                if current.is_none() {
                    return answer(Reply::Existed(false));
                }
                let change = MemoryChange { drawer, key, revision: revision(), value: None };
                Ok(Decided::Change { reply: Reply::Existed(true), change, lock })
            }
        }
    }

    /// What a key holds, as this run sees it.
    async fn item(
        &self,
        whose: Whose<'_>,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Item>, StoreError> {
        match whose.log.pending(drawer, key) {
            Some(item) => Ok(item.filter(|item| item.expires_at.is_none_or(|end| now < end))),
            None => self.read.get(whose.log.tenant(), drawer, key, now).await,
        }
    }

    async fn look(
        &self,
        whose: Whose<'_>,
        drawer: &Drawer,
        key: &str,
        precondition: Precondition,
        now: Timestamp,
    ) -> Result<(Option<Refusal>, Option<Revision>), StoreError> {
        let current = self.item(whose, drawer, key, now).await?.map(|item| item.revision);
        let refusal = (!precondition.holds(current)).then_some(Refusal::Conflict(current));
        Ok((refusal, current))
    }

    async fn lock(&self, whose: Whose<'_>, drawer: &Drawer, key: &str) -> Lock {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one((whose.log.tenant(), drawer, key));
        let number = usize::try_from(hash % LOCKS as u64).unwrap_or(0);
        // An attempt makes one call at a time, and the attempts of a run follow one another: its own lock is free to it.
        if let Some(hold) = whose.log.hold(number) {
            return Lock { place: number, hold };
        }
        let place = &self.locks[number];
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
        *place.holder() = Arc::downgrade(whose.log);
        Lock { place: number, hold: Arc::new(guard) }
    }
}

impl Place {
    fn holder(&self) -> std::sync::MutexGuard<'_, Weak<RunLog>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Whose<'_> {
    fn drawer(&self, scope: Scope) -> Drawer {
        match scope {
            Scope::Global => Drawer::Global,
            Scope::Session => Drawer::Session(self.log.started().session.clone()),
            Scope::Agent => Drawer::Agent(self.agent.clone()),
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
