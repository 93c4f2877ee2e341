//! The record in memory, for tests: every port of a store. It counts nothing of what tenants have on disk, and keeps what is trimmed of its log.
//!
//! Invariant: [`MemoryRecord::crash`] leaves just what a crash may leave: everything up to the last barrier.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use ltmc_model::agent::{Agent, Grants};
use ltmc_model::chain::Chain;
use ltmc_model::journal::{Act, Entry, Placed};
use ltmc_model::memory::{Drawer, Item, Page};
use ltmc_model::run::{Run, State, TakenUp, Target, Trial};
use ltmc_model::schedule::ScheduleId;
use ltmc_model::tenancy::{Ceiling, DiskUsage, Key, Tenant};
use ltmc_model::trigger::TriggerId;
use ltmc_model::{AgentName, Digest, KeyId, Revision, RunId, Seq, TenantId, Timestamp, WorkflowName};
use tokio::sync::{broadcast, watch};

use super::notes::Made;
use super::tables::Tables;
use super::triggers::Written;
use crate::catalog::StoredWorkflow;
use crate::journal::{Audit, Damage, Head, IdempotencyKey, RunFilter, Snapshot, Suspended};
use crate::log::{Ends, Group};
use crate::schedules::{Coming, StoredSchedule, Ticked};
use crate::{
    Append, Changes, Durability, ReadCatalog, ReadJournal, ReadMemory, ReadSchedules, Receipt, StoreError, TakeUps,
    WriteCatalog, WriteJournal, WriteSchedules,
};

/// A page holds so many bytes of values, or one entry.
const PAGE_BYTES: usize = 4 << 20;

/// The record in memory.
#[derive(Debug)]
pub struct MemoryRecord {
    inner: Mutex<Inner>,
    /// The last that was drawn of each tenant.
    revisions: Mutex<BTreeMap<TenantId, u64>>,
    ends: watch::Sender<Ends>,
    news: broadcast::Sender<Arc<Group>>,
    /// What was thrown away of the log, to who asks: it is kept.
    pub(super) trimmed: AtomicU64,
    /// How often a key was looked up.
    keys_read: AtomicU64,
    /// How many rows of runs were read to take them up.
    runs_read: AtomicU64,
    /// How many entries of journals were read.
    entries_read: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    log: Vec<Op>,
    durable: usize,
    /// Beside the log: whoever embeds keeps it at once, of what is on disk.
    made: Made,
}

#[derive(Debug, Clone)]
enum Op {
    Append(Box<Append>),
    Act(TenantId, Timestamp, Box<Act>, Changes),
    Tick(TenantId, ScheduleId, Digest, Ticked),
    Trigger(TenantId, TriggerId, Box<Written>),
    Purge(TenantId),
}

impl MemoryRecord {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::with(Inner::default(), BTreeMap::new()))
    }

    /// How often a key was looked up.
    pub fn keys_read(&self) -> u64 {
        self.keys_read.load(Ordering::SeqCst)
    }

    /// How many rows of runs were read to take them up.
    pub fn runs_read(&self) -> u64 {
        self.runs_read.load(Ordering::SeqCst)
    }

    /// How many entries of journals were read.
    pub fn entries_read(&self) -> u64 {
        self.entries_read.load(Ordering::SeqCst)
    }

    /// Changes what is kept of a run's state, as a disk may.
    pub fn damage_snapshots(&self, tenant: &TenantId, run: RunId, damage: impl Fn(&mut Vec<u8>)) {
        let mut inner = self.lock();
        for snapshot in inner.tables.snapshots.get_mut(&(tenant.clone(), run)).into_iter().flatten() {
            let mut bytes = snapshot.bytes.to_vec();
            damage(&mut bytes);
            snapshot.bytes = bytes.into();
        }
    }

    /// Rows of runs that were read to take them up.
    fn read(&self, runs: Vec<Run>) -> Vec<Run> {
        self.runs_read.fetch_add(runs.len() as u64, Ordering::SeqCst);
        runs
    }

    /// What is left of it if the host dies now: everything up to the last barrier. This one stays as it is.
    pub fn crash(&self) -> Arc<Self> {
        let inner = self.lock();
        self.replay(&inner, inner.durable)
    }

    /// What is left of it if the host dies now and luck has it that everything had reached the disk.
    pub fn copy(&self) -> Arc<Self> {
        let inner = self.lock();
        self.replay(&inner, inner.log.len())
    }

    /// Loses here and now what a crash would, and lives on: lazy appends that never reached the disk.
    pub fn lose(&self) {
        let mut inner = self.lock();
        let Inner { log, durable, made, .. } = &*inner;
        *inner = Inner { made: made.clone(), ..Self::made_of(&log[..*durable]) };
    }

    fn replay(&self, inner: &Inner, length: usize) -> Arc<Self> {
        let mut left = Inner { made: inner.made.clone(), ..Self::made_of(&inner.log[..length]) };
        // How often runs were taken up outlives the process.
        for (run, row) in &mut left.tables.runs {
            if let Some(known) = inner.tables.runs.get(run).filter(|_| !row.state.is_over()) {
                row.taken_up = known.taken_up;
            }
        }
        let revisions = self.revisions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Arc::new(Self::with(left, revisions))
    }

    fn with(inner: Inner, revisions: BTreeMap<TenantId, u64>) -> Self {
        let end = inner.tables.context.end();
        Self {
            inner: Mutex::new(inner),
            revisions: Mutex::new(revisions),
            ends: watch::Sender::new(Ends { visible: end, durable: end, ..Ends::default() }),
            news: broadcast::Sender::new(1_024),
            trimmed: AtomicU64::new(0),
            keys_read: AtomicU64::new(0),
            runs_read: AtomicU64::new(0),
            entries_read: AtomicU64::new(0),
        }
    }

    fn record(&self, append: Append, durability: Durability) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let before = inner.tables.context.log.len();
        inner.tables.append(&append)?;
        let grown = (!append.entries.is_empty()).then(|| append.run.clone());
        inner.log.push(Op::Append(Box::new(append)));
        if durability == Durability::Barrier {
            inner.durable = inner.log.len();
        }
        self.tell(&inner, before, grown, durability == Durability::Barrier);
        Ok(())
    }

    /// Brings everything to disk, as a store does by itself after a while.
    pub fn sync(&self) {
        let mut inner = self.lock();
        inner.durable = inner.log.len();
        self.ends.send_modify(|ends| (ends.durable, ends.synced) = (ends.visible, ends.begun));
    }

    /// Tells those who follow the log.
    fn tell(&self, inner: &Inner, before: usize, grown: Option<Run>, durable: bool) {
        let context = &inner.tables.context;
        self.ends.send_modify(|ends| {
            ends.begun += 1;
            ends.visible = context.end();
            if durable {
                (ends.durable, ends.synced) = (ends.visible, ends.begun);
            }
        });
        let rows = context.log[before..].iter().cloned().map(Arc::new).collect();
        let commit = self.ends.borrow().begun;
        let _ = self.news.send(Arc::new(Group { commit, rows, runs: grown.into_iter().collect() }));
    }

    fn made_of(log: &[Op]) -> Inner {
        let mut tables = Tables::default();
        for op in log {
            match op {
                Op::Append(append) => tables.append(append),
                Op::Act(tenant, at, act, changes) => tables.act(tenant, *at, act, changes),
                Op::Tick(tenant, id, digest, ticked) => {
                    tables.tick(tenant, id, digest, ticked);
                    Ok(())
                }
                Op::Trigger(tenant, id, written) => {
                    tables.triggers.write(tenant, id, written);
                    Ok(())
                }
                Op::Purge(tenant) => {
                    tables.purge(tenant);
                    Ok(())
                }
            }
            .expect("what was appended once can be appended again");
        }
        Inner { tables, log: log.to_vec(), durable: log.len(), made: Made::default() }
    }

    /// Looks at the shared context.
    pub fn context<T>(&self, look: impl FnOnce(&super::context::Context) -> T) -> T {
        look(&self.lock().tables.context)
    }

    /// Looks at each of a tenant's runs and its journal.
    pub(super) fn with_runs<T>(&self, tenant: &TenantId, look: impl Fn(&Run, &[Entry]) -> T) -> Vec<T> {
        let inner = self.lock();
        let of_tenant = inner.tables.runs.iter().filter(|((t, _), _)| t == tenant);
        let journal = |place| inner.tables.journal.get(place).map_or(&[][..], Vec::as_slice);
        of_tenant.map(|(place, run)| look(run, journal(place))).collect()
    }

    pub(super) fn with_made<T>(&self, look: impl FnOnce(&Made, &super::context::Context) -> T) -> T {
        let inner = self.lock();
        look(&inner.made, &inner.tables.context)
    }

    pub(super) fn change_made<T>(&self, change: impl FnOnce(&mut Made) -> T) -> T {
        change(&mut self.lock().made)
    }

    pub(super) fn with_questions<T>(&self, look: impl FnOnce(&super::questions::Questions) -> T) -> T {
        look(&self.lock().tables.questions)
    }

    /// Looks at what is kept in memory, by tenant, drawer and key.
    pub(super) fn with_memory<T>(&self, look: impl FnOnce(&BTreeMap<(TenantId, Drawer, String), Item>) -> T) -> T {
        look(&self.lock().tables.context.memory)
    }

    pub(super) fn with_tables<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().tables)
    }

    /// Throws away what a deleted tenant left; whether there was anything.
    pub(super) fn write_purge(&self, tenant: &TenantId) -> bool {
        let mut inner = self.lock();
        let is_done = inner.tables.purge(tenant);
        if is_done {
            inner.log.push(Op::Purge(tenant.clone()));
            inner.durable = inner.log.len();
        }
        is_done
    }

    pub(super) fn with_sessions<T>(&self, look: impl FnOnce(&super::sessions::Sessions) -> T) -> T {
        look(&self.lock().tables.sessions)
    }

    pub(super) fn with_triggers<T>(&self, look: impl FnOnce(&super::triggers::Triggers) -> T) -> T {
        look(&self.lock().tables.triggers)
    }

    /// Writes beside journals and acts; whether it did.
    pub(super) fn write_trigger(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        written: Written,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        inner.tables.is_there(tenant, "triggers.write")?;
        let is_done = inner.tables.triggers.write(tenant, id, &written);
        if is_done {
            inner.log.push(Op::Trigger(tenant.clone(), id.clone(), Box::new(written)));
        }
        Ok(is_done)
    }

    pub(super) fn with_subscriptions<T>(&self, look: impl FnOnce(&super::subscriptions::Subscriptions) -> T) -> T {
        look(&self.lock().tables.subscriptions)
    }

    pub(super) fn subscribe_ends(&self) -> watch::Receiver<Ends> {
        self.ends.subscribe()
    }

    pub(super) fn subscribe_news(&self) -> broadcast::Receiver<Arc<Group>> {
        self.news.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl WriteJournal for MemoryRecord {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        Box::pin(std::future::ready(self.record(append, durability)))
    }

    fn next_revision(&self, tenant: &TenantId) -> Revision {
        let mut revisions = self.revisions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = revisions.entry(tenant.clone()).or_default();
        *last += 1;
        Revision(*last)
    }
}

#[async_trait]
impl TakeUps for MemoryRecord {
    async fn take_up(&self, runs: &[(TenantId, RunId)], more: i32, trial: Trial) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for run in runs {
            if let Some(row) = inner.tables.runs.get_mut(run).filter(|row| !row.state.is_over()) {
                row.taken_up = TakenUp { times: row.taken_up.times.saturating_add_signed(more), trial };
            }
        }
        Ok(())
    }

    async fn forget_take_ups(&self) -> Result<(), StoreError> {
        self.lock().tables.runs.values_mut().for_each(|row| row.taken_up = TakenUp::default());
        Ok(())
    }
}

#[async_trait]
impl ReadJournal for MemoryRecord {
    async fn entries(&self, tenant: &TenantId, run: RunId, after: Seq, limit: u32) -> Result<Vec<Placed>, StoreError> {
        let inner = self.lock();
        let Some(journal) = inner.tables.journal.get(&(tenant.clone(), run)) else { return Ok(Vec::new()) };
        let placed = (1..).map(Seq).zip(journal).skip(usize::try_from(after.0).unwrap_or(usize::MAX));
        let read: Vec<Placed> =
            placed.take(limit as usize).map(|(seq, entry)| Placed { seq, entry: entry.clone() }).collect();
        self.entries_read.fetch_add(read.len() as u64, Ordering::SeqCst);
        Ok(read)
    }

    async fn page(
        &self,
        tenant: &TenantId,
        run: RunId,
        after: Seq,
        limit: u32,
        bytes: usize,
    ) -> Result<Vec<Placed>, StoreError> {
        let (mut page, mut has) = (self.entries(tenant, run, after, limit).await?, 0);
        let fits = |placed: &Placed| {
            let is_first = has == 0;
            has += placed.entry.to_bytes().len();
            is_first || has <= bytes
        };
        let count = page.iter().map(fits).take_while(|fits| *fits).count();
        page.truncate(count);
        Ok(page)
    }

    async fn snapshot(&self, tenant: &TenantId, run: RunId, until: Seq) -> Result<Option<Snapshot>, StoreError> {
        let inner = self.lock();
        let kept = inner.tables.snapshots.get(&(tenant.clone(), run)).map_or(&[][..], Vec::as_slice);
        Ok(kept.iter().rev().find(|snapshot| snapshot.at <= until).cloned())
    }

    async fn run(&self, tenant: &TenantId, run: RunId) -> Result<Option<Run>, StoreError> {
        Ok(self.lock().tables.runs.get(&(tenant.clone(), run)).cloned())
    }

    async fn runs(&self, tenant: &TenantId, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        let name = |run: &Run| match &run.target {
            Target::Agent(agent) => agent.name.to_string(),
            Target::Workflow(name) => name.to_string(),
        };
        let inner = self.lock();
        let shown = inner.tables.runs.values().rev().filter(|run| {
            run.tenant == *tenant
                && filter.state.is_none_or(|state| run.state == state)
                && filter.target.as_ref().is_none_or(|target| name(run) == *target)
                && filter.session.as_ref().is_none_or(|session| run.session == *session)
                && filter.by.as_ref().is_none_or(|by| run.by == *by)
                && filter.parent.is_none_or(|parent| run.parent == Some(parent))
                && filter.before.is_none_or(|before| run.id < before)
        });
        Ok(shown.take(filter.limit as usize).cloned().collect())
    }

    async fn unfinished(&self, after: Option<(TenantId, RunId)>, limit: u32) -> Result<Vec<Run>, StoreError> {
        let is_unfinished = |run: &&Run| !run.state.is_over() && run.wakes_at.is_none();
        let mut runs: Vec<Run> = self.with_tables(|tables| {
            let own = tables.runs.values().filter(|run| !tables.deleted.contains(&run.tenant));
            own.filter(is_unfinished).cloned().collect()
        });
        runs.sort_by(|a, b| (a.id, &a.tenant).cmp(&(b.id, &b.tenant)));
        if let Some((tenant, id)) = after {
            runs.retain(|run| (run.id, &run.tenant) > (id, &tenant));
        }
        runs.truncate(limit as usize);
        Ok(self.read(runs))
    }

    async fn unfinished_of(&self, tenant: &TenantId, from: RunId, limit: u32) -> Result<Vec<Run>, StoreError> {
        let inner = self.lock();
        let own = inner.tables.runs.range((tenant.clone(), from)..).map(|(_, run)| run);
        let own = own.take_while(|run| run.tenant == *tenant && !inner.tables.deleted.contains(tenant));
        let unfinished = own.filter(|run| !run.state.is_over() && run.wakes_at.is_none());
        Ok(self.read(unfinished.take(limit as usize).cloned().collect()))
    }

    async fn set_aside(&self, tenant: &TenantId, state: State) -> Result<u64, StoreError> {
        let is_set_aside = |run: &&Run| run.tenant == *tenant && run.state == state;
        Ok(self.lock().tables.runs.values().filter(is_set_aside).count() as u64)
    }

    async fn sleepers(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let inner = self.lock();
        let mut first: BTreeMap<TenantId, Timestamp> = BTreeMap::new();
        let deleted = &inner.tables.deleted;
        let meant = |run: &&Run| after.is_none_or(|after| run.tenant > *after) && !deleted.contains(&run.tenant);
        for run in inner.tables.runs.values().filter(meant) {
            let Some(wakes_at) = run.wakes_at else { continue };
            let first = first.entry(run.tenant.clone()).or_insert(wakes_at);
            *first = wakes_at.min(*first);
        }
        Ok(first.into_iter().take(limit as usize).collect())
    }

    async fn suspended(&self, tenant: &TenantId, after: Option<Suspended>, limit: u32) -> Result<Vec<Run>, StoreError> {
        let inner = self.lock();
        let own = inner.tables.runs.values().filter(|run| run.tenant == *tenant);
        let placed = own.filter_map(|run| Suspended::of(run).map(|place| (place, run.clone())));
        let placed: BTreeMap<Suspended, Run> =
            placed.filter(|(place, _)| after.as_ref().is_none_or(|a| place > a)).collect();
        let runs: Vec<Run> = placed.into_values().take(limit as usize).collect();
        Ok(self.read(runs))
    }

    async fn idempotent(
        &self,
        tenant: &TenantId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<IdempotencyKey>, StoreError> {
        let inner = self.lock();
        let found = inner.tables.idempotency.get(&(tenant.clone(), key.to_owned()));
        Ok(found.filter(|key| key.expires_at > now).cloned())
    }

    async fn last(&self, tenant: &TenantId, run: RunId) -> Result<Seq, StoreError> {
        let inner = self.lock();
        Ok(Seq(inner.tables.journal.get(&(tenant.clone(), run)).map_or(0, |entries| entries.len() as u64)))
    }

    async fn verify(&self) -> Result<Audit, StoreError> {
        let inner = self.lock();
        let mut audit =
            Audit { verified: 0, damage: Vec::new(), heads: Vec::new(), anchors: 0, others: BTreeMap::new() };
        for (tenant, (end, links)) in &inner.tables.links {
            if inner.tables.deleted.contains(tenant) {
                // Its entries go before the end of its chain does.
                continue;
            }
            let mut chain = Chain::default();
            let broken = links.iter().find(|(run, seq, link)| {
                let entry = inner.tables.journal.get(&(tenant.clone(), *run)).and_then(|j| j.get(seq.0 as usize - 1));
                let whole =
                    entry.is_some_and(|entry| chain.link(tenant, *run, *seq, &Digest::of(&entry.to_bytes())) == *link);
                audit.verified += u64::from(whole);
                !whole
            });
            let damage = |run, seq, what: &str| Damage { tenant: Some(tenant.clone()), run, seq, what: what.into() };
            audit.heads.push(Head { tenant: tenant.clone(), length: end.length, hash: end.head });
            match broken {
                Some((run, seq, _)) => audit.damage.push(damage(Some(*run), Some(*seq), "the entry is not as it was")),
                None if chain != *end => audit.damage.push(damage(None, None, "the chain's end is missing")),
                None => {}
            }
        }
        Ok(audit)
    }
}

#[async_trait]
impl ReadMemory for MemoryRecord {
    async fn get(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Item>, StoreError> {
        let inner = self.lock();
        let found = inner.tables.context.memory.get(&(tenant.clone(), drawer.clone(), key.to_owned()));
        Ok(found.filter(|item| lives(item, now)).cloned())
    }

    async fn usage(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let of_tenant = |((of, _, _), item): (&(TenantId, Drawer, String), &Item)| {
            if of == tenant { (item.key.len() + item.value.len()) as u64 } else { 0 }
        };
        Ok(self.lock().tables.context.memory.iter().map(of_tenant).sum())
    }

    async fn list(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let place = |key: &str| (tenant.clone(), drawer.clone(), key.to_owned());
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(place(after)),
            _ => Bound::Included(place(prefix)),
        };
        let inner = self.lock();
        let found = inner.tables.context.memory.range((from, Bound::Unbounded));
        let found = found.take_while(|((t, d, key), _)| t == tenant && d == drawer && key.starts_with(prefix));
        let mut page = Page::default();
        let mut bytes = 0;
        for item in found.map(|(_, item)| item).filter(|item| lives(item, now)) {
            bytes += item.value.len();
            let full = page.items.len() >= limit.max(1) as usize || bytes > PAGE_BYTES;
            if full && let Some(last) = page.items.last() {
                page.next = Some(last.key.clone());
                break;
            }
            page.items.push(item.clone());
        }
        Ok(page)
    }
}

fn lives(item: &Item, now: Timestamp) -> bool {
    item.expires_at.is_none_or(|end| end > now)
}

#[async_trait]
impl WriteCatalog for MemoryRecord {
    async fn act_with(&self, tenant: &TenantId, at: Timestamp, act: Act, changes: Changes) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let before = inner.tables.context.log.len();
        inner.tables.act(tenant, at, &act, &changes)?;
        inner.log.push(Op::Act(tenant.clone(), at, Box::new(act), changes));
        inner.durable = inner.log.len();
        self.tell(&inner, before, None, true);
        Ok(())
    }
}

#[async_trait]
impl WriteSchedules for MemoryRecord {
    async fn tick(
        &self,
        tenant: &TenantId,
        id: &ScheduleId,
        digest: Digest,
        ticked: Ticked,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        inner.tables.is_there(tenant, "schedules.tick")?;
        let is_done = inner.tables.tick(tenant, id, &digest, &ticked);
        if is_done {
            inner.log.push(Op::Tick(tenant.clone(), id.clone(), digest, ticked));
        }
        Ok(is_done)
    }
}

#[async_trait]
impl ReadSchedules for MemoryRecord {
    async fn schedule(&self, tenant: &TenantId, id: &ScheduleId) -> Result<Option<StoredSchedule>, StoreError> {
        Ok(self.lock().tables.schedules.get(&(tenant.clone(), id.clone())).cloned())
    }

    async fn schedules(
        &self,
        tenant: &TenantId,
        of: Option<&WorkflowName>,
        after: Option<&ScheduleId>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, StoreError> {
        let inner = self.lock();
        let found = inner.tables.schedules.values().filter(|row| {
            row.tenant == *tenant
                && of.is_none_or(|of| row.id.workflow == *of)
                && after.is_none_or(|after| row.id > *after)
        });
        Ok(found.take(limit as usize).cloned().collect())
    }

    async fn coming(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let inner = self.lock();
        let mut first: BTreeMap<TenantId, Timestamp> = BTreeMap::new();
        for row in inner.tables.schedules.values().filter(|row| row.paused.is_none()) {
            let first = first.entry(row.tenant.clone()).or_insert(row.next);
            *first = row.next.min(*first);
        }
        let found = first.into_iter().filter(|(tenant, _)| after.is_none_or(|after| tenant > after));
        Ok(found.take(limit as usize).collect())
    }

    async fn due(
        &self,
        tenant: &TenantId,
        after: Option<&Coming>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, StoreError> {
        let inner = self.lock();
        let own = inner.tables.schedules.values().filter(|row| row.tenant == *tenant && row.paused.is_none());
        let placed: BTreeMap<Coming, &StoredSchedule> = own.map(|row| (row.place(), row)).collect();
        let found = placed.into_iter().filter(|(place, _)| after.is_none_or(|after| place > after));
        Ok(found.take(limit as usize).map(|(_, row)| row.clone()).collect())
    }
}

#[async_trait]
impl ReadCatalog for MemoryRecord {
    async fn tenant(&self, name: &TenantId) -> Result<Option<Tenant>, StoreError> {
        Ok(self.lock().tables.tenants.get(name).cloned())
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError> {
        let inner = self.lock();
        let tenants = inner.tables.tenants.values().filter(|tenant| after.is_none_or(|after| tenant.name > *after));
        Ok(tenants.take(limit as usize).cloned().collect())
    }

    async fn ceiling(&self, tenant: &TenantId) -> Result<Ceiling, StoreError> {
        Ok(self.lock().tables.ceilings.get(tenant).cloned().unwrap_or_default())
    }

    async fn key(&self, id: &KeyId) -> Result<Option<Key>, StoreError> {
        self.keys_read.fetch_add(1, Ordering::SeqCst);
        Ok(self.lock().tables.keys.get(id).cloned())
    }

    async fn keys(&self, tenant: &TenantId, after: Option<&KeyId>, limit: u32) -> Result<Vec<Key>, StoreError> {
        let inner = self.lock();
        let keys = inner.tables.keys.values();
        let keys = keys.filter(|key| key.tenant == *tenant && after.is_none_or(|after| key.id > *after));
        Ok(keys.take(limit as usize).cloned().collect())
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        name: &AgentName,
        digest: Option<&Digest>,
    ) -> Result<Option<Agent>, StoreError> {
        let inner = self.lock();
        let Some(versions) = inner.tables.agents.get(&(tenant.clone(), name.clone())) else { return Ok(None) };
        let wanted = |agent: &&Agent| digest.is_none_or(|digest| agent.digest == *digest);
        Ok(versions.iter().rev().find(wanted).cloned())
    }

    async fn agents(&self, tenant: &TenantId, after: Option<&AgentName>, limit: u32) -> Result<Vec<Agent>, StoreError> {
        let inner = self.lock();
        let agents = inner.tables.agents.iter();
        let agents = agents.filter(|((t, name), _)| t == tenant && after.is_none_or(|after| name > after));
        Ok(agents.filter_map(|(_, versions)| versions.last()).take(limit as usize).cloned().collect())
    }

    async fn grants(&self, tenant: &TenantId, agent: &AgentName, version: &Digest) -> Result<Grants, StoreError> {
        let inner = self.lock();
        let granted = inner.tables.grants.get(&(tenant.clone(), agent.clone()));
        Ok(granted.and_then(|of| of.get(version)).cloned().unwrap_or_default())
    }

    async fn granted_versions(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
    ) -> Result<Vec<(Digest, Grants)>, StoreError> {
        let inner = self.lock();
        let granted = inner.tables.grants.get(&(tenant.clone(), agent.clone())).cloned().unwrap_or_default();
        Ok(granted.into_iter().filter(|(_, held)| !held.capabilities.is_empty()).collect())
    }

    async fn workflow(&self, tenant: &TenantId, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError> {
        Ok(self.lock().tables.workflows.get(&(tenant.clone(), name.clone())).cloned())
    }

    async fn workflows(
        &self,
        tenant: &TenantId,
        after: Option<&WorkflowName>,
        limit: u32,
    ) -> Result<Vec<StoredWorkflow>, StoreError> {
        let inner = self.lock();
        let found = inner.tables.workflows.iter();
        let found = found.filter(|((t, name), _)| t == tenant && after.is_none_or(|after| name > after));
        let short = |workflow: &StoredWorkflow| StoredWorkflow { source: String::new(), ..workflow.clone() };
        Ok(found.map(|(_, workflow)| short(workflow)).take(limit as usize).collect())
    }

    /// It counts nothing, and refuses nothing.
    async fn disk_usage(&self, tenant: &TenantId) -> Result<DiskUsage, StoreError> {
        let allowed = self.ceiling(tenant).await?.disk.map_or(u64::MAX, |disk| disk.as_u64());
        Ok(DiskUsage { used: 0, allowed })
    }

    async fn versions(&self, tenant: &TenantId, name: &AgentName) -> Result<Vec<Digest>, StoreError> {
        let inner = self.lock();
        let versions = inner.tables.agents.get(&(tenant.clone(), name.clone())).into_iter().flatten();
        Ok(versions.map(|agent| agent.digest).collect())
    }

    async fn component_in_use(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.lock().tables.components().contains(digest))
    }
}
