//! Memory: what a guest's call on it means, and what becomes of it.
//!
//! Invariants: a change is decided, and its revision drawn, under the key's lock, so that two changes of one key seldom see the
//! same "before"; where they did, the record refuses the later one. The lock goes with the change and is let go when that is
//! handed to the record: whoever changes the key next decides on what was handed over.
//!
//! To a step in a branch that has memory of its own, that of the session is what `apart` says: nothing of it is locked or expected.
//!
//! To add a call: its [`Decide`], and its line in [`Memory::decide_any`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use ltmc_journal::runlog::Lock;
use ltmc_model::call::memory::{Changes, Delete, Get, List, MemoryCall, Open, Put, Touch, Update};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::fork::{Did, Outcome};
use ltmc_model::memory::{self, Drawer, Feed, Item, Page, Precondition, Scope};
use ltmc_model::{Position, Revision, TenantId, Timestamp};
use ltmc_ports::log::Interest;
use ltmc_ports::{Expect, ReadMemory, StoreError};
use ltmc_tenancy::Authority;

use crate::apart::Apart;
use crate::context::{Asked, Decide, Decided, Decision, Whose, decided, patience};
use crate::handed::Handed;
use crate::locks::{LetGo, Locks};
use crate::subscription::Subscriptions;
use crate::transaction::{self, Range, item_after, item_of};

/// After this a tenant's memory is counted again; and, where it seems full, after this.
const COUNT_AGAIN: Duration = Duration::from_secs(30);
const COUNT_WHEN_FULL: Duration = Duration::from_secs(1);
/// The longest time to live.
const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The memory of all tenants.
pub struct Memory {
    read: Arc<dyn ReadMemory>,
    handed: Arc<Handed>,
    subscriptions: Arc<Subscriptions>,
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
    /// Over a store, which is written through `handed`.
    pub fn new(
        read: Arc<dyn ReadMemory>,
        handed: Arc<Handed>,
        subscriptions: Arc<Subscriptions>,
        locks: Arc<Locks>,
        authority: Arc<Authority>,
    ) -> Self {
        Self { read, handed, subscriptions, locks, authority, held: DashMap::new() }
    }

    /// How far the log is of what reads of the record see, or of what is on disk.
    pub(crate) fn newest(&self, on_disk: bool) -> Position {
        let ends = *self.subscriptions.log().ends().borrow();
        if on_disk { ends.durable } else { ends.visible }
    }

    /// Whether so many bytes more are within the tenant's quota; where they come near it, the record is to look again, and
    /// where they come with an attempt in any case: by then others may have come. What was deleted shows when it is counted
    /// again; what an attempt did is counted with what the record holds.
    pub(crate) async fn fits(
        &self,
        whose: Whose<'_>,
        bytes: usize,
    ) -> Result<Result<Option<Expect>, Refusal>, StoreError> {
        let tenant = whose.tenant;
        let quota = self.authority.ceiling(tenant).await?.storage.as_u64();
        let known = self.held.get(tenant).map(|held| *held);
        let mut held = match known {
            Some(held) if held.counted.elapsed() < COUNT_AGAIN => held,
            _ => self.count(whose).await?,
        };
        if held.bytes + bytes as u64 > quota && held.counted.elapsed() > COUNT_WHEN_FULL {
            held = self.count(whose).await?;
        }
        if held.bytes + bytes as u64 > quota {
            let which = format!("the tenant's memory holds {} bytes of {quota}", held.bytes);
            return Ok(Err(Refusal::Quota(which)));
        }
        self.held.entry(tenant.clone()).and_modify(|held| held.bytes += bytes as u64);
        let is_near = whose.within.is_some() || held.bytes + bytes as u64 > quota / 2;
        Ok(Ok(is_near.then_some(Expect::Storage { more: bytes as u64, quota })))
    }

    async fn count(&self, whose: Whose<'_>) -> Result<Held, StoreError> {
        let bytes = self.read.usage(whose.tenant).await? + transaction::held(whose.own());
        let held = Held { bytes, counted: Instant::now() };
        self.held.insert(whose.tenant.clone(), held);
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

    /// What a key holds, as who asks sees it.
    pub(crate) async fn item(
        &self,
        whose: Whose<'_>,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Item>, StoreError> {
        if let Some(apart) = whose.apart(drawer) {
            return self.item_apart(whose, &apart, drawer, key, now).await;
        }
        if let Some(own) = item_after(whose.own(), drawer, key) {
            return Ok(own.filter(|item| lives(item, now)));
        }
        let found = match whose.newest(|delta| item_of(delta, drawer, key)) {
            Some(earlier) => earlier.filter(|item| lives(item, now)),
            None => self.read.get(whose.tenant, drawer, key, now).await?,
        };
        if let Some(within) = whose.within {
            within.transaction.saw(drawer.clone(), key.to_owned(), found.as_ref().map(|item| item.revision));
        }
        Ok(found)
    }

    /// What a key holds to a branch; what its fork began with is journaled, where nobody has looked at it before.
    async fn item_apart(
        &self,
        whose: Whose<'_>,
        apart: &Apart<'_>,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Item>, StoreError> {
        if let Some(known) = apart.known(key, now) {
            return Ok(known);
        }
        let pending = whose.log().and_then(|log| log.newest_pending(|delta| item_of(delta, drawer, key)));
        let found = match pending {
            Some(earlier) => earlier.filter(|item| lives(item, now)),
            None => self.read.get(whose.tenant, drawer, key, now).await?,
        };
        apart.pin(vec![(key.to_owned(), found)])?;
        Ok(apart.known(key, now).flatten())
    }

    /// What keys hold once branches came together, within the tenant's quota; what each of them holds is expected.
    pub(crate) async fn brought_together(
        &self,
        whose: Whose<'_>,
        came: Vec<(String, Option<Item>, Outcome)>,
    ) -> Result<Result<ltmc_ports::Changes, Refusal>, StoreError> {
        let drawer = whose.drawer(Scope::Session);
        let more = |(key, current, outcome): &(String, Option<Item>, Outcome)| {
            let size = |bytes: usize| key.len() + bytes;
            let after = outcome.value.as_ref().map_or(0, |value| size(value.bytes.len()));
            after.saturating_sub(current.as_ref().map_or(0, |item| size(item.value.len())))
        };
        let more = came.iter().map(more).sum::<usize>();
        let mut changes = ltmc_ports::Changes::default();
        if more > 0 {
            match self.fits(whose, more).await? {
                Ok(room) => changes.expects.extend(room),
                Err(full) => return Ok(Err(full)),
            }
        }
        let Some(log) = whose.log() else { return Ok(Ok(changes)) };
        for (key, current, Outcome { value, .. }) in came {
            let (revision, before) = (log.next_revision(), current.map(|item| item.revision));
            let trail = whose.trail();
            let change = MemoryChange { drawer: drawer.clone(), key, revision, value, trail };
            changes.expects.extend(expected(whose, &change, before));
            changes.deltas.push(Delta::Memory(change));
        }
        Ok(Ok(changes))
    }

    /// The lock of a key that is everybody's.
    pub(crate) async fn lock(&self, whose: Whose<'_>, drawer: &Drawer, key: &String) -> Option<Lock> {
        match whose.apart(drawer) {
            Some(_) => None,
            None => self.locks.take(whose, &(drawer, key), LetGo::Early).await,
        }
    }

    /// What a key will hold when what is decided now becomes true, where a change of it is possible by that: `suits`. The
    /// change before it may be on its way still, and come to nothing; so whoever is to be refused is refused by what is true.
    pub(crate) async fn latest(
        &self,
        whose: Whose<'_>,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
        suits: impl Fn(Option<&Item>) -> bool,
    ) -> Result<Option<Item>, StoreError> {
        if let Some(apart) = whose.apart(drawer) {
            return self.item_apart(whose, &apart, drawer, key, now).await;
        }
        if let Some(own) = item_after(whose.own(), drawer, key) {
            return Ok(own.filter(|item| lives(item, now)));
        }
        let found = match whose.newest(|delta| item_of(delta, drawer, key)) {
            Some(earlier) => earlier.filter(|item| lives(item, now)),
            None => {
                let handed = self.handed.item(whose.tenant, drawer, key);
                match handed.map(|item| item.filter(|item| lives(item, now))).filter(|item| suits(item.as_ref())) {
                    Some(item) => item,
                    None => self.read.get(whose.tenant, drawer, key, now).await?,
                }
            }
        };
        if let Some(within) = whose.within {
            within.transaction.decided_on(drawer, key, found.as_ref().map(|item| item.revision));
        }
        Ok(found)
    }
}

pub(crate) fn lives(item: &Item, now: Timestamp) -> bool {
    item.expires_at.is_none_or(|end| now < end)
}

/// That what stood under a key when a change of it was decided stands there; nothing, where it was decided in a branch.
fn expected(whose: Whose<'_>, change: &MemoryChange, before: Option<Revision>) -> Vec<Expect> {
    match whose.apart(&change.drawer) {
        Some(_) => Vec::new(),
        None => vec![Expect::Key { drawer: change.drawer.clone(), key: change.key.clone(), revision: before }],
    }
}

/// An answer with a change, which is what was `did`: true with what asks, or its branch's own.
fn changed<R>(
    whose: Whose<'_>,
    reply: R,
    change: MemoryChange,
    did: Did,
    expects: Vec<Expect>,
    lock: Option<Lock>,
) -> Decision<R> {
    if whose.settles(&change.drawer) {
        let why = "whoever settles a conflict of branches changes nothing that the session remembers: what it gives is what the key holds";
        return Ok(Decided::refuse(why));
    }
    let change = MemoryChange { trail: whose.trail(), ..change };
    match whose.apart(&change.drawer) {
        Some(apart) => apart.change(&whose, reply, change, did),
        None => Ok(Decided::change(reply, vec![Delta::Memory(change)], expects, lock)),
    }
}

/// What an attempt's own changes made of keys that begin so.
fn own_changes(own: &[Delta], drawer: &Drawer, prefix: &str) -> BTreeMap<String, Option<Item>> {
    let mut changed = BTreeMap::new();
    for delta in own {
        if let Delta::Memory(change) = delta
            && change.drawer == *drawer
            && change.key.starts_with(prefix)
        {
            changed.insert(change.key.clone(), change.item());
        }
    }
    changed
}

/// A page of the record with what is known of its keys on top of it.
fn overlaid(mut page: Page, mut changed: BTreeMap<String, Option<Item>>, after: Option<&str>, limit: usize) -> Page {
    changed.retain(|key, _| after.is_none_or(|after| key.as_str() > after));
    if changed.is_empty() {
        return page;
    }
    page.items.retain(|item| !changed.contains_key(item.key.as_str()));
    // Of what comes after the page nothing belongs to it.
    let within = changed.into_iter().filter(|(key, _)| page.next.as_deref().is_none_or(|last| key.as_str() <= last));
    page.items.extend(within.filter_map(|(_, item)| item));
    page.items.sort_by(|a, b| a.key.cmp(&b.key));
    if page.items.len() > limit {
        page.items.truncate(limit);
        page.next = page.items.last().map(|last| last.key.clone());
    }
    page
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
        if let Some(apart) = whose.apart(&drawer) {
            apart.pin(page.items.iter().map(|item| (item.key.clone(), Some(item.clone()))).collect())?;
            let known = apart.overlay(&prefix, now)?;
            return Ok(Decided::Answer(Ok(overlaid(page, known, cursor.as_deref(), limit as usize))));
        }
        if let Some(within) = whose.within {
            let range =
                Range { drawer: drawer.clone(), prefix: prefix.clone(), after: cursor.clone(), to: page.next.clone() };
            within.transaction.listed(range, &page.items);
        }
        let own = own_changes(whose.own(), &drawer, &prefix);
        let mut page = overlaid(page, own, cursor.as_deref(), limit as usize);
        page.items.retain(|item| lives(item, now));
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
        let lock = self.lock(whose, &drawer, &key).await;
        // Where anything goes there is nothing to look at, and nothing to expect; but a branch has to know what it began with.
        let before = match precondition {
            Precondition::Any if whose.apart(&drawer).is_none() => None,
            _ => {
                let suits = |item: Option<&Item>| precondition.holds(item.map(|item| item.revision));
                Some(self.latest(whose, &drawer, &key, now, suits).await?.map(|item| item.revision))
            }
        };
        if let Some(current) = before.filter(|current| !precondition.holds(*current)) {
            return Ok(Decided::Answer(Err(Refusal::Conflict(current))));
        }
        let room = match self.fits(whose, key.len() + value.len()).await? {
            Ok(room) => room,
            Err(full) => return Ok(Decided::Answer(Err(full))),
        };
        let revision = revision();
        let value = Some(MemoryValue { bytes: value, expires_at });
        let change = MemoryChange { drawer, key, revision, value, trail: None };
        let expects = before.map(|before| expected(whose, &change, before)).into_iter().flatten().chain(room).collect();
        changed(whose, revision, change, Did::Put, expects, lock)
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
        let lock = self.lock(whose, &drawer, &key).await;
        let suits = |item: Option<&Item>| merge.apply(item.map(|item| &item.value[..])).is_ok();
        let current = self.latest(whose, &drawer, &key, now, suits).await?;
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
        let room = match self.fits(whose, more).await? {
            Ok(room) => room,
            Err(full) => return Ok(Decided::Answer(Err(full))),
        };
        let before = current.as_ref().map(|item| item.revision);
        let expires_at = expires_at.or_else(|| current.and_then(|item| item.expires_at));
        let revision = revision();
        let item = Item { key: key.clone(), value: bytes.clone(), revision, expires_at };
        let value = Some(MemoryValue { bytes, expires_at });
        let change = MemoryChange { drawer, key, revision, value, trail: None };
        let expects = expected(whose, &change, before).into_iter().chain(room).collect();
        changed(whose, item, change, Did::of(&merge), expects, lock)
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
        let lock = self.lock(whose, &drawer, &key).await;
        let current = self.latest(whose, &drawer, &key, now, |item| item.is_some()).await?;
        let before = current.as_ref().map(|item| item.revision);
        let value = current.map(|item| MemoryValue { bytes: item.value, expires_at });
        let change = MemoryChange { drawer, key, revision: revision(), value, trail: None };
        let expects = expected(whose, &change, before);
        if before.is_none() {
            return Ok(whose.unchanged(false, expects, lock));
        }
        changed(whose, true, change, Did::Put, expects, lock)
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
        let (drawer, is_dirty) = (whose.drawer(scope), !whose.own().is_empty());
        if whose.apart(&drawer).is_some() {
            return Ok(Decided::refuse(
                "memory of the session is forked here: nobody else changes what this branch sees of it",
            ));
        }
        // What it changed before "now" is not to come after it.
        if is_dirty && after.is_none() {
            return Ok(Decided::Checkpoint);
        }
        // What earlier steps changed is in the log.
        whose.settle().await?;
        let interest = Interest::Memory(drawer, prefix);
        let patience = if is_dirty { Duration::ZERO } else { wait };
        match self.subscriptions.once(whose, interest, after, limit, patience).await {
            Ok((rows, _)) if rows.is_empty() && is_dirty && !wait.is_zero() => Ok(Decided::Checkpoint),
            Ok((rows, next)) => {
                let changes = rows.iter().filter_map(|row| row.changed()).collect();
                Ok(Decided::Answer(Ok(Feed { changes, next })))
            }
            Err(lost) => Ok(Decided::Answer(Err(lost.refusal()?))),
        }
    }
}

impl Decide<Delete> for Memory {
    async fn decide(&self, asked: Asked<'_>, Delete { scope, key, precondition }: Delete) -> Decision<bool> {
        let Asked { whose, now, revision } = asked;
        if let Err(why) = memory::check_key(&key) {
            return Ok(Decided::refuse(why));
        }
        let drawer = whose.drawer(scope);
        let lock = self.lock(whose, &drawer, &key).await;
        // Whether there was something is part of the answer, so it is looked up in any case.
        let suits = |item: Option<&Item>| item.is_some() && precondition.holds(item.map(|item| item.revision));
        let current = self.latest(whose, &drawer, &key, now, suits).await?.map(|item| item.revision);
        if !precondition.holds(current) {
            return Ok(Decided::Answer(Err(Refusal::Conflict(current))));
        }
        let change = MemoryChange { drawer, key, revision: revision(), value: None, trail: None };
        let expects = expected(whose, &change, current);
        if current.is_none() {
            return Ok(whose.unchanged(false, expects, lock));
        }
        changed(whose, true, change, Did::Deleted, expects, lock)
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
