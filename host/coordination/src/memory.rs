//! Memory: what a guest's call on it means, and what becomes of it.
//!
//! Invariants: a change is decided (its precondition looked at, its revision drawn) and staged under the key's lock, so
//! that two changes of one key never see the same "before". The lock goes with the change, and is held until that is in
//! the record, also when the guest that asked is gone by then. Until then the run that made it sees it, and nobody else;
//! whoever waits for the lock has the change written at once.
//!
//! To add a call: its [`Decide`], and its line in [`Memory::decide_any`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use ltmc_model::call::memory::{Changes, Delete, Get, List, MemoryCall, Open, Put, Touch, Update};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::memory::{self, Drawer, Feed, Item, Page, Precondition};
use ltmc_model::{Revision, TenantId, Timestamp};
use ltmc_ports::{ReadMemory, StoreError};

use crate::Authority;
use crate::context::{Asked, Decide, Decided, Decision, Whose, decided, patience};
use crate::feed::Feeds;
use crate::locks::Locks;

/// After this a tenant's memory is counted again; and, where it seems full, after this.
const COUNT_AGAIN: Duration = Duration::from_secs(30);
const COUNT_WHEN_FULL: Duration = Duration::from_secs(1);
/// The longest time to live.
const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The memory of all tenants.
pub struct Memory {
    read: Arc<dyn ReadMemory>,
    feeds: Arc<Feeds>,
    locks: Arc<Locks>,
    authority: Arc<Authority>,
    /// How much each tenant holds, as it was counted, with what was written since.
    held: DashMap<TenantId, Held>,
}

/// How much a tenant holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    counted: Instant,
}

impl Memory {
    /// Over a store.
    pub fn new(read: Arc<dyn ReadMemory>, feeds: Arc<Feeds>, locks: Arc<Locks>, authority: Arc<Authority>) -> Self {
        Self { read, feeds, locks, authority, held: DashMap::new() }
    }

    /// Whether so many bytes more are within the tenant's quota. What was deleted shows when it is counted again.
    async fn fits(&self, tenant: &TenantId, bytes: usize) -> Result<Result<(), Refusal>, StoreError> {
        let quota = self.authority.ceiling(tenant).await?.storage.as_u64();
        let known = self.held.get(tenant).map(|held| *held);
        let mut held = match known {
            Some(held) if held.counted.elapsed() < COUNT_AGAIN => held,
            _ => self.count(tenant).await?,
        };
        if held.bytes + bytes as u64 > quota && held.counted.elapsed() > COUNT_WHEN_FULL {
            held = self.count(tenant).await?;
        }
        if held.bytes + bytes as u64 > quota {
            let which = format!("the tenant's memory holds {} bytes of {quota}", held.bytes);
            return Ok(Err(Refusal::Quota(which)));
        }
        self.held.entry(tenant.clone()).and_modify(|held| held.bytes += bytes as u64);
        Ok(Ok(()))
    }

    async fn count(&self, tenant: &TenantId) -> Result<Held, StoreError> {
        let held = Held { bytes: self.read.usage(tenant).await?, counted: Instant::now() };
        self.held.insert(tenant.clone(), held);
        Ok(held)
    }

    /// What a call comes to.
    pub(crate) async fn decide_any(&self, asked: Asked<'_>, call: MemoryCall) -> Decision<Reply> {
        match call {
            MemoryCall::Open(call) => decided(self, asked, call).await,
            MemoryCall::Get(call) => decided(self, asked, call).await,
            MemoryCall::Put(call) => decided(self, asked, call).await,
            MemoryCall::Delete(call) => decided(self, asked, call).await,
            MemoryCall::List(call) => decided(self, asked, call).await,
            MemoryCall::Update(call) => decided(self, asked, call).await,
            MemoryCall::Touch(call) => decided(self, asked, call).await,
            MemoryCall::Changes(call) => decided(self, asked, call).await,
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
        match whose.run.and_then(|run| run.log.pending(drawer, key)) {
            Some(item) => Ok(item.filter(|item| item.expires_at.is_none_or(|end| now < end))),
            None => self.read.get(whose.tenant, drawer, key, now).await,
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
}

impl Decide<Open> for Memory {
    async fn decide(&self, _: Asked<'_>, _: Open) -> Decision<()> {
        Ok(Decided::Answer(Ok(())))
    }
}

impl Decide<Get> for Memory {
    async fn decide(&self, asked: Asked<'_>, Get { scope, key }: Get) -> Decision<Option<Item>> {
        let Asked { whose, now, .. } = asked;
        if let Err(why) = memory::check_key(&key) {
            return Ok(Decided::refuse(why));
        }
        Ok(Decided::Answer(Ok(self.item(whose, &whose.drawer(scope), &key, now).await?)))
    }
}

impl Decide<List> for Memory {
    async fn decide(&self, asked: Asked<'_>, List { scope, prefix, cursor, limit }: List) -> Decision<Page> {
        let Asked { whose, now, .. } = asked;
        if prefix.len() > memory::MAX_KEY || cursor.as_ref().is_some_and(|c| c.len() > memory::MAX_KEY) {
            return Ok(Decided::refuse(format!("a prefix and a cursor have at most {} bytes", memory::MAX_KEY)));
        }
        if !(1..=memory::MAX_PAGE).contains(&limit) {
            return Ok(Decided::refuse(format!("a page has 1 to {} entries, not {limit}", memory::MAX_PAGE)));
        }
        whose.settle().await?;
        let drawer = whose.drawer(scope);
        let page = self.read.list(whose.tenant, &drawer, &prefix, cursor.as_deref(), limit, now).await?;
        Ok(Decided::Answer(Ok(page)))
    }
}

impl Decide<Put> for Memory {
    async fn decide(&self, asked: Asked<'_>, call: Put) -> Decision<Revision> {
        let Asked { whose, now, revision } = asked;
        let Put { scope, key, value, precondition, ttl_ms } = call;
        if let Err(why) = memory::check_key(&key) {
            return Ok(Decided::refuse(why));
        }
        if value.len() > memory::MAX_VALUE {
            let why = format!("a value has at most {} bytes, this one has {}", memory::MAX_VALUE, value.len());
            return Ok(Decided::refuse(why));
        }
        let expires_at = match expiry(ttl_ms, now) {
            Ok(expires_at) => expires_at,
            Err(why) => return Ok(Decided::refuse(why)),
        };
        let drawer = whose.drawer(scope);
        let lock = self.locks.take(whose, &(&drawer, &key)).await;
        // Where anything goes there is nothing to look at.
        if precondition != Precondition::Any
            && let (Some(conflict), _) = self.look(whose, &drawer, &key, precondition, now).await?
        {
            return Ok(Decided::Answer(Err(conflict)));
        }
        if let Err(full) = self.fits(whose.tenant, key.len() + value.len()).await? {
            return Ok(Decided::Answer(Err(full)));
        }
        let revision = revision();
        let value = Some(MemoryValue { bytes: value, expires_at });
        let change = MemoryChange { drawer, key, revision, value };
        Ok(Decided::change(revision, Delta::Memory(change), lock))
    }
}

impl Decide<Update> for Memory {
    async fn decide(&self, asked: Asked<'_>, Update { scope, key, merge, ttl_ms }: Update) -> Decision<Item> {
        let Asked { whose, now, revision } = asked;
        let expires_at = match memory::check_key(&key).and_then(|()| expiry(ttl_ms, now)) {
            Ok(expires_at) => expires_at,
            Err(why) => return Ok(Decided::refuse(why)),
        };
        let drawer = whose.drawer(scope);
        let lock = self.locks.take(whose, &(&drawer, &key)).await;
        let current = self.item(whose, &drawer, &key, now).await?;
        let bytes = match merge.apply(current.as_ref().map(|item| &item.value[..])) {
            Ok(bytes) if bytes.len() <= memory::MAX_VALUE => bytes,
            Ok(bytes) => {
                let most = memory::MAX_VALUE;
                let why = format!("the value would have {} bytes; a value has at most {most}", bytes.len());
                return Ok(Decided::refuse(why));
            }
            Err(why) => return Ok(Decided::refuse(why)),
        };
        // What it holds already is paid for.
        let before = current.as_ref().map_or(0, |item| item.key.len() + item.value.len());
        let more = (key.len() + bytes.len()).saturating_sub(before);
        if let Err(full) = self.fits(whose.tenant, more).await? {
            return Ok(Decided::Answer(Err(full)));
        }
        let expires_at = expires_at.or_else(|| current.and_then(|item| item.expires_at));
        let revision = revision();
        let item = Item { key: key.clone(), value: bytes.clone(), revision, expires_at };
        let value = Some(MemoryValue { bytes, expires_at });
        let change = MemoryChange { drawer, key, revision, value };
        Ok(Decided::change(item, Delta::Memory(change), lock))
    }
}

impl Decide<Touch> for Memory {
    async fn decide(&self, asked: Asked<'_>, Touch { scope, key, ttl_ms }: Touch) -> Decision<bool> {
        let Asked { whose, now, revision } = asked;
        let expires_at = match memory::check_key(&key).and_then(|()| expiry(ttl_ms, now)) {
            Ok(expires_at) => expires_at,
            Err(why) => return Ok(Decided::refuse(why)),
        };
        let drawer = whose.drawer(scope);
        let lock = self.locks.take(whose, &(&drawer, &key)).await;
        let Some(current) = self.item(whose, &drawer, &key, now).await? else {
            return Ok(Decided::Answer(Ok(false)));
        };
        let value = Some(MemoryValue { bytes: current.value, expires_at });
        let change = MemoryChange { drawer, key, revision: revision(), value };
        Ok(Decided::change(true, Delta::Memory(change), lock))
    }
}

impl Decide<Changes> for Memory {
    async fn decide(&self, Asked { whose, .. }: Asked<'_>, call: Changes) -> Decision<Feed> {
        let Changes { scope, prefix, after, limit, wait_ms } = call;
        if prefix.len() > memory::MAX_KEY {
            return Ok(Decided::refuse(format!("a prefix has at most {} bytes", memory::MAX_KEY)));
        }
        if !(1..=memory::MAX_PAGE).contains(&limit) {
            return Ok(Decided::refuse(format!("a page has 1 to {} changes, not {limit}", memory::MAX_PAGE)));
        }
        let wait = match patience(wait_ms) {
            Ok(wait) => wait,
            Err(why) => return Ok(Decided::refuse(why)),
        };
        // What it changed itself is on disk, and so in the feed, before it waits.
        whose.barrier().await?;
        let feed = self.feeds.changes(whose.tenant, &whose.drawer(scope), &prefix, after, limit, wait).await?;
        Ok(Decided::Answer(feed.map_err(Refusal::Resync)))
    }
}

impl Decide<Delete> for Memory {
    async fn decide(&self, asked: Asked<'_>, Delete { scope, key, precondition }: Delete) -> Decision<bool> {
        let Asked { whose, now, revision } = asked;
        if let Err(why) = memory::check_key(&key) {
            return Ok(Decided::refuse(why));
        }
        let drawer = whose.drawer(scope);
        let lock = self.locks.take(whose, &(&drawer, &key)).await;
        // Whether there was something is part of the answer, so it is looked up in any case.
        let (conflict, current) = self.look(whose, &drawer, &key, precondition, now).await?;
        if let Some(conflict) = conflict {
            return Ok(Decided::Answer(Err(conflict)));
        }
        if current.is_none() {
            return Ok(Decided::Answer(Ok(false)));
        }
        let change = MemoryChange { drawer, key, revision: revision(), value: None };
        Ok(Decided::change(true, Delta::Memory(change), lock))
    }
}

/// When something ends that is to live so long from `now` on.
fn expiry(ttl_ms: Option<u64>, now: Timestamp) -> Result<Option<Timestamp>, String> {
    let ttl = ttl_ms.map(Duration::from_millis);
    if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > MAX_TTL) {
        return Err(format!("a time to live is 1 to {} milliseconds", MAX_TTL.as_millis()));
    }
    Ok(ttl.map(|ttl| now.after(ttl)))
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
