//! The port: which indexes are loaded, who may change them, and what leaves when memory is short.
//!
//! Invariants: whoever loads, changes, saves or evicts an index holds its `work`; whoever reads or replaces what is in memory
//! holds `held`, and only for as long as FAISS takes for a few vectors. `work` is taken before `room` before `held`, and
//! whoever has `room` only tries for another index's `work`. What is asked of an index is done in the order in which it was
//! asked, and to its end, also where a caller gave it up: see [`whole`]. An index that FAISS left half changed is forgotten, and
//! read from its file again.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use async_trait::async_trait;
use ltmc_model::Position;
use ltmc_policy::Turns;
use ltmc_ports::recall::{IndexId, Near, VectorId};
use ltmc_ports::{Kind as Failure, StoreError, Vectors};
use ltmc_processor::Account;
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, RwLock, Semaphore, watch};

use crate::error;
use crate::file::{self, Read};
use crate::index::{Index, Kind};
use crate::rebuild;

/// The most numbers of a vector.
const MOST_DIMENSIONS: u32 = 16_384;
/// Vectors added to a graph before searches that wait have their turn: some 10 ms.
const TURN_GRAPH: usize = 16;
/// The same of an exact index, which only copies them.
const TURN_EXACT: usize = 1_000;

/// How many searches of a tenant's may wait for their turn.
const WAITING: usize = 1_024;

/// Where indexes are, and how much memory they may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Their directory. It is made, for its owner only, where it is not there. Belongs to one host.
    pub dir: PathBuf,
    /// About how many bytes all of them may take in memory. One index that is larger than that is still used.
    pub memory: u64,
}

/// Indexes of vectors in FAISS, with their files in a directory.
pub struct FaissVectors {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    options: Options,
    slots: Mutex<HashMap<IndexId, Arc<Slot>>>,
    /// Whoever makes room in memory.
    room: tokio::sync::Mutex<()>,
    /// As many searches at once as there are processors: more would only wait for each other. Tenants take turns.
    searching: Arc<Turns>,
    /// One rebuild at a time, on one thread.
    pub(crate) building: Arc<Semaphore>,
    /// How many rebuilds run or wait.
    pub(crate) rebuilds: watch::Sender<usize>,
    /// Counts uses, and numbers what is loaded.
    ticks: AtomicU64,
}

/// The place of one index.
pub(crate) struct Slot {
    pub(crate) id: IndexId,
    path: PathBuf,
    pub(crate) work: Arc<tokio::sync::Mutex<()>>,
    pub(crate) held: Arc<RwLock<Held>>,
    /// When it was last used.
    used: AtomicU64,
    /// What it takes of the memory.
    bytes: AtomicU64,
    pub(crate) rebuilding: AtomicBool,
}

/// What is known of an index.
pub(crate) enum Held {
    /// Nothing yet: its file has to be read, if there is one.
    OnDisk,
    /// There is none that can be used.
    Nothing,
    /// It is in memory.
    Ready(Box<Ready>),
}

/// An index in memory.
pub(crate) struct Ready {
    pub(crate) index: Index,
    stamp: Option<Position>,
    /// Which one: what is loaded or reset has a new number.
    pub(crate) number: u64,
    /// Whether the file has less.
    pub(crate) unsaved: bool,
    /// What has changed since a rebuild began.
    pub(crate) touched: Option<HashSet<VectorId>>,
}

impl FaissVectors {
    /// Opens a directory, and makes it where it is not there. Indexes are loaded when they are first used.
    ///
    /// # Errors
    /// `Unavailable` where the directory cannot be used; `Internal` where its name is not UTF-8.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        const OP: &str = "vectors.open";
        if options.dir.to_str().is_none() {
            return Err(error::wrong(OP, format!("{} is not UTF-8", options.dir.display())));
        }
        file::make_dir(&options.dir).and_then(|()| sweep(&options.dir)).map_err(|error| error::io(OP, error))?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            options,
            slots: Mutex::default(),
            room: tokio::sync::Mutex::default(),
            // bound: searches by meaning
            searching: Turns::new(processors, WAITING),
            // bound: searches by meaning
            building: Arc::new(Semaphore::new(1)),
            rebuilds: watch::Sender::new(0),
            ticks: AtomicU64::new(1),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits until no index is being rebuilt.
    pub async fn settle(&self) {
        // The sender is our own, so that it is there.
        let _ = self.shared.rebuilds.subscribe().wait_for(|count| *count == 0).await;
    }

    /// About how many bytes the indexes take in memory now.
    pub fn memory(&self) -> u64 {
        self.shared.all().iter().map(|slot| slot.bytes.load(Ordering::Relaxed)).sum()
    }

    /// How an index searches now; none: there is no index.
    ///
    /// # Errors
    /// Where its file cannot be read.
    pub async fn kind(&self, index: &IndexId) -> Result<Option<Kind>, StoreError> {
        let held = self.shared.clone().read("vectors.kind", &self.shared.slot(index)).await?;
        Ok(held.ready().map(|ready| ready.index.kind()))
    }
}

#[async_trait]
impl Vectors for FaissVectors {
    async fn search(
        &self,
        index: &IndexId,
        vector: &[f32],
        k: u32,
        among: Option<&[VectorId]>,
    ) -> Result<Vec<Near>, StoreError> {
        const OP: &str = "vectors.search";
        check(OP, index, vector)?;
        let (vector, among) = (vector.to_vec(), among.map(<[VectorId]>::to_vec));
        let held = self.shared.clone().read(OP, &self.shared.slot(index)).await?;
        let mut turn = self.shared.searching.take(&index.tenant).await.ok_or_else(|| error::busy(OP))?;
        let account = Account::of(&index.tenant);
        here(OP, move || {
            let began = Instant::now();
            let index = &held.ready().ok_or_else(|| error::nothing(OP))?.index;
            let found = index.search(&vector, k as usize, among.as_deref()).map_err(|e| error::native(OP, e));
            let took = began.elapsed();
            turn.charge(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
            account.charge(took);
            found
        })
        .await
    }

    async fn change(
        &self,
        index: &IndexId,
        add: &[(VectorId, Vec<f32>)],
        remove: &[VectorId],
        stamp: Position,
    ) -> Result<(), StoreError> {
        const OP: &str = "vectors.change";
        for (_, vector) in add {
            check(OP, index, vector)?;
        }
        let change = Change::new(add, remove, stamp);
        let (shared, slot) = (self.shared.clone(), self.shared.slot(index));
        whole(OP, &slot, |slot, work| shared.change(OP, slot, change, work)).await
    }

    async fn reset(&self, index: &IndexId) -> Result<(), StoreError> {
        const OP: &str = "vectors.reset";
        check_dimensions(OP, index)?;
        let (shared, slot) = (self.shared.clone(), self.shared.slot(index));
        whole(OP, &slot, |slot, _work| async move {
            // What is thrown away does not come back if the host dies now.
            let (path, dimensions) = (slot.path.clone(), slot.id.embedder.dimensions);
            let empty = blocking(OP, move || {
                file::remove(&path)?;
                Index::new(Kind::Exact, dimensions).map_err(|e| error::native(OP, e))
            });
            let mut ready = shared.loaded(empty.await?, None);
            ready.unsaved = true;
            *slot.held.write().await = Held::Ready(Box::new(ready));
            slot.bytes.store(0, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    async fn stamp(&self, index: &IndexId) -> Result<Option<Position>, StoreError> {
        let held = self.shared.clone().read("vectors.stamp", &self.shared.slot(index)).await?;
        Ok(held.ready().and_then(|ready| ready.stamp))
    }

    async fn ids(&self, index: &IndexId) -> Result<Vec<VectorId>, StoreError> {
        const OP: &str = "vectors.ids";
        let held = self.shared.clone().read(OP, &self.shared.slot(index)).await?;
        blocking(OP, move || {
            let mut ids: Vec<VectorId> = held.ready().ok_or_else(|| error::nothing(OP))?.index.ids().collect();
            ids.sort_unstable();
            Ok(ids)
        })
        .await
    }

    async fn save(&self) -> Result<(), StoreError> {
        const OP: &str = "vectors.save";
        let mut done = Ok(());
        for slot in self.shared.all() {
            let saved = whole(OP, &slot, |slot, work| async move { slot.save(OP, &work).await }).await;
            // The others are saved whatever becomes of one.
            done = done.and(saved);
        }
        done
    }

    async fn drop_index(&self, index: &IndexId) -> Result<(), StoreError> {
        const OP: &str = "vectors.drop";
        let slot = self.shared.slot(index);
        whole(OP, &slot, |slot, _work| async move {
            *slot.held.write().await = Held::Nothing;
            slot.bytes.store(0, Ordering::Relaxed);
            let path = slot.path.clone();
            blocking(OP, move || file::remove(&path)).await
        })
        .await
    }
}

impl Shared {
    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn slot(&self, id: &IndexId) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match slots.get(id) {
            Some(slot) => slot.clone(),
            None => {
                let slot = Arc::new(Slot {
                    id: id.clone(),
                    path: file::path(&self.options.dir, id),
                    work: Arc::default(),
                    held: Arc::new(RwLock::new(Held::OnDisk)),
                    used: AtomicU64::new(0),
                    bytes: AtomicU64::new(0),
                    rebuilding: AtomicBool::new(false),
                });
                slots.insert(id.clone(), slot.clone());
                slot
            }
        };
        slot.used.store(self.tick(), Ordering::Relaxed);
        slot
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn loaded(&self, index: Index, stamp: Option<Position>) -> Ready {
        Ready { index, stamp, number: self.tick(), unsaved: false, touched: None }
    }

    /// What there is of an index, loaded where it is not yet. It stays as it is until the guard is dropped.
    async fn read(
        self: Arc<Self>,
        op: &'static str,
        slot: &Arc<Slot>,
    ) -> Result<OwnedRwLockReadGuard<Held>, StoreError> {
        loop {
            let held = slot.held.clone().read_owned().await;
            if !matches!(*held, Held::OnDisk) {
                return Ok(held);
            }
            drop(held);
            let shared = self.clone();
            whole(op, slot, move |slot, work| async move { shared.load(op, &slot, &work).await }).await?;
        }
    }

    /// Loads an index, where that was not done yet.
    async fn load(
        self: &Arc<Self>,
        op: &'static str,
        slot: &Arc<Slot>,
        _: &OwnedMutexGuard<()>,
    ) -> Result<(), StoreError> {
        if !matches!(*slot.held.read().await, Held::OnDisk) {
            return Ok(());
        }
        let path = slot.path.clone();
        let size = blocking(op, move || Ok(std::fs::metadata(&path).map_or(0, |file| file.len()))).await?;
        self.make_room(slot, size).await;
        let (path, embedder) = (slot.path.clone(), slot.id.embedder.clone());
        let read = match check_dimensions(op, &slot.id) {
            Ok(()) => blocking(op, move || file::read(&path, &embedder)).await,
            Err(_) => Ok(Read::Missing),
        };
        let (held, bytes) = match read {
            Ok(Read::Whole(index, stamp)) => {
                metrics::counter!("ltmc_vectors_loads_total").increment(1);
                let bytes = index.bytes();
                (Held::Ready(Box::new(self.loaded(*index, stamp))), bytes)
            }
            Ok(Read::Missing) => (Held::Nothing, 0),
            Ok(Read::Damaged(why)) => {
                tracing::warn!(file = %slot.path.display(), why, "an index is damaged, and will be built from the record");
                (Held::Nothing, 0)
            }
            Err(error) => {
                slot.bytes.store(0, Ordering::Relaxed);
                return Err(error);
            }
        };
        *slot.held.write().await = held;
        slot.bytes.store(bytes, Ordering::Relaxed);
        self.gauge();
        rebuild::consider(self, slot).await;
        Ok(())
    }

    async fn change(
        self: Arc<Self>,
        op: &'static str,
        slot: Arc<Slot>,
        change: Change,
        work: OwnedMutexGuard<()>,
    ) -> Result<(), StoreError> {
        self.load(op, &slot, &work).await?;
        let turn = match slot.held.read().await.ready() {
            None => return Err(error::nothing(op)),
            Some(ready) if !ready.index.has_room(change.ids.len()) => return Err(StoreError::new(Failure::Full, op)),
            Some(ready) if ready.index.kind() == Kind::Exact => TURN_EXACT,
            Some(_) => TURN_GRAPH,
        };
        let held = slot.held.clone();
        // One piece of work for all parts: what has begun is not ended between two of them, not even with the runtime.
        blocking(op, move || {
            for part in change.parts(turn) {
                apply(op, &mut held.blocking_write(), &change, part)?;
            }
            Ok(())
        })
        .await?;
        let bytes = slot.held.read().await.ready().map_or(0, |ready| ready.index.bytes());
        self.make_room(&slot, bytes).await;
        self.gauge();
        rebuild::consider(&self, &slot).await;
        Ok(())
    }

    /// Says that an index takes so many bytes, and lets others leave until all of them have room; the least recently used
    /// first, and never one that is busy.
    pub(crate) async fn make_room(&self, for_slot: &Arc<Slot>, bytes: u64) {
        let _room = self.room.lock().await;
        for_slot.bytes.store(bytes, Ordering::Relaxed);
        let mut others = self.all();
        others.retain(|slot| !Arc::ptr_eq(slot, for_slot) && slot.bytes.load(Ordering::Relaxed) > 0);
        others.sort_by_key(|slot| slot.used.load(Ordering::Relaxed));
        let taken = || self.all().iter().map(|slot| slot.bytes.load(Ordering::Relaxed)).sum::<u64>();
        for slot in others {
            if taken() <= self.options.memory {
                break;
            }
            if let Err(error) = slot.evict().await {
                tracing::warn!(%error, file = %slot.path.display(), "an index stays in memory, since it cannot be saved");
            }
        }
    }

    pub(crate) fn gauge(&self) {
        let bytes: u64 = self.all().iter().map(|slot| slot.bytes.load(Ordering::Relaxed)).sum();
        metrics::gauge!("ltmc_vectors_memory_bytes").set(bytes as f64);
    }
}

impl Slot {
    /// Writes what has changed.
    async fn save(self: &Arc<Self>, op: &'static str, _: &OwnedMutexGuard<()>) -> Result<(), StoreError> {
        let held = self.held.clone().read_owned().await;
        if !held.ready().is_some_and(|ready| ready.unsaved) {
            return Ok(());
        }
        let slot = self.clone();
        blocking(op, move || {
            let Some(ready) = held.ready() else { return Ok(()) };
            let begun = file::begin(&slot.path, &slot.id.embedder, &ready.index, ready.stamp)?;
            drop(held);
            begun.finish()
        })
        .await?;
        // Nobody has changed it since: that needs `work`.
        if let Held::Ready(ready) = &mut *self.held.write().await {
            ready.unsaved = false;
        }
        Ok(())
    }

    /// Lets go of the memory, unless somebody is at work.
    async fn evict(self: &Arc<Self>) -> Result<(), StoreError> {
        let Ok(work) = self.work.clone().try_lock_owned() else { return Ok(()) };
        if self.rebuilding.load(Ordering::Acquire) {
            return Ok(());
        }
        self.save("vectors.evict", &work).await?;
        let mut held = self.held.write().await;
        if matches!(*held, Held::Ready(_)) {
            *held = Held::OnDisk;
            metrics::counter!("ltmc_vectors_evictions_total").increment(1);
        }
        self.bytes.store(0, Ordering::Relaxed);
        Ok(())
    }
}

impl Held {
    pub(crate) fn ready(&self) -> Option<&Ready> {
        match self {
            Self::Ready(ready) => Some(ready),
            Self::OnDisk | Self::Nothing => None,
        }
    }
}

/// A change, each id once.
struct Change {
    ids: Vec<VectorId>,
    vectors: Vec<f32>,
    remove: Vec<VectorId>,
    stamp: Position,
}

impl Change {
    fn new(add: &[(VectorId, Vec<f32>)], remove: &[VectorId], stamp: Position) -> Self {
        let gone: HashSet<VectorId> = remove.iter().copied().collect();
        let last: HashMap<VectorId, usize> = add.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        let mut change =
            Self { ids: Vec::with_capacity(last.len()), vectors: Vec::new(), remove: remove.to_vec(), stamp };
        for (at, (id, vector)) in add.iter().enumerate() {
            if last.get(id) == Some(&at) && !gone.contains(id) {
                change.ids.push(*id);
                change.vectors.extend_from_slice(vector);
            }
        }
        change
    }

    /// The places of what is added, so many at once; one part that is empty where nothing is.
    fn parts(&self, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let count = self.ids.len();
        (0..count.max(1)).step_by(most).map(move |from| from..count.min(from + most))
    }
}

/// Applies a part of a change; with the last one go what is removed, and the stamp.
fn apply(op: &'static str, held: &mut Held, change: &Change, part: std::ops::Range<usize>) -> Result<(), StoreError> {
    // Taken out, and put back when it went well: after anything else nobody knows what FAISS has. Its file is as it was.
    let mut ready = match std::mem::replace(held, Held::OnDisk) {
        Held::Ready(ready) => ready,
        other => {
            *held = other;
            return Err(error::nothing(op));
        }
    };
    let dimensions = ready.index.dimensions();
    let last = part.end == change.ids.len();
    let remove: &[VectorId] = if last { &change.remove } else { &[] };
    let ids = &change.ids[part.clone()];
    if let Some(touched) = &mut ready.touched {
        touched.extend(ids.iter().chain(remove));
    }
    let vectors = &change.vectors[part.start * dimensions..part.end * dimensions];
    let new = ready.index.put(ids, vectors).map_err(|e| error::native(op, e))?;
    let count = new + ready.index.remove(remove).map_err(|e| error::native(op, e))?;
    let stamp = if last { Some(change.stamp) } else { ready.stamp };
    ready.unsaved |= count > 0 || stamp != ready.stamp;
    ready.stamp = stamp;
    *held = Held::Ready(ready);
    Ok(())
}

/// Refuses a vector that is none of this index's.
fn check(op: &'static str, index: &IndexId, vector: &[f32]) -> Result<(), StoreError> {
    check_dimensions(op, index)?;
    let wanted = index.embedder.dimensions as usize;
    if vector.len() != wanted {
        return Err(error::wrong(op, format!("a vector has {wanted} numbers here, not {}", vector.len())));
    }
    match vector.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(error::wrong(op, "a vector has a number that is none, or has no end")),
    }
}

fn check_dimensions(op: &'static str, index: &IndexId) -> Result<(), StoreError> {
    match index.embedder.dimensions {
        1..=MOST_DIMENSIONS => Ok(()),
        other => Err(error::wrong(op, format!("a vector has 1 to {MOST_DIMENSIONS} numbers, not {other}"))),
    }
}

/// Removes what was left of files that a host did not finish.
fn sweep(dir: &std::path::Path) -> std::io::Result<()> {
    for tenant in std::fs::read_dir(dir)? {
        let tenant = tenant?.path();
        if !tenant.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&tenant)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == file::TEMPORARY) {
                std::fs::remove_file(&file)?;
            }
        }
    }
    Ok(())
}

/// Does what takes hardly longer than to wake another thread, on this one, which lets another drive futures meanwhile. A
/// runtime with one thread has no other, so that it goes the long way.
async fn here<T: Send + 'static>(
    op: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => blocking(op, work).await,
    }
}

/// Does what takes long on a thread that is there for that.
async fn blocking<T: Send + 'static>(
    op: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // bound: threads beside
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error::wrong(op, error)))
}

/// Does something with an index's `work`. It is done from the first poll on, whether anybody waits for it or not, and after
/// all that was asked before: the place in the queue is taken at once, for tasks begin in any order.
async fn whole<T: Send + 'static, F: Future<Output = Result<T, StoreError>> + Send + 'static>(
    op: &'static str,
    slot: &Arc<Slot>,
    work: impl FnOnce(Arc<Slot>, OwnedMutexGuard<()>) -> F + Send + 'static,
) -> Result<T, StoreError> {
    // Without tokio's budget, for which it might be pending before it is in the queue.
    let mut turn = Box::pin(tokio::task::unconstrained(slot.work.clone().lock_owned()));
    let first = std::future::poll_fn(|context| Poll::Ready(turn.as_mut().poll(context))).await;
    let slot = slot.clone();
    let done = tokio::spawn(async move {
        let turn = match first {
            Poll::Ready(turn) => turn,
            Poll::Pending => turn.await,
        };
        work(slot, turn).await
    });
    done.await.unwrap_or_else(|error| Err(error::wrong(op, error)))
}

impl std::fmt::Debug for FaissVectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaissVectors").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use ltmc_ports::testing::suite::vectors::place;

    use super::*;

    const DIMENSIONS: usize = 8;
    const PARTS: usize = 3;

    /// Polls it once, as whoever gives it up at once does.
    async fn begun<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        let mut future = Some(future);
        std::future::poll_fn(|context| Poll::Ready(future.take().map_or(Poll::Pending, |f| f.poll(context)))).await
    }

    /// A caller begins a change of several parts, gives it up when so many of them are there, and makes another change. That
    /// one comes after it, and finds all of it.
    async fn given_up_after(parts: usize) {
        let (dir, index) = (tempfile::tempdir().unwrap(), place("acme", "m", DIMENSIONS as u32));
        let store = FaissVectors::open(Options { dir: dir.path().join("vectors"), memory: u64::MAX }).unwrap();
        store.reset(&index).await.unwrap();
        store.change(&index, &[], &[], Position(1)).await.unwrap();
        let count = PARTS * TURN_EXACT;
        let vectors: Vec<_> = (1..=count as i64).map(|id| (id, vec![id as f32; DIMENSIONS])).collect();
        let held = store.shared.slot(&index).held.clone();
        // Who reads lets one part after the other pass: those that wait have their turns in order.
        let mut gate = held.clone().read_owned().await;
        // The worker begins anew: what it has done of late does not change what it does next.
        tokio::task::yield_now().await;
        {
            let mut change = pin!(store.change(&index, &vectors, &[], Position(2)));
            assert!(begun(change.as_mut()).await.is_pending());
            for part in 1..=parts {
                while held.try_read().is_ok() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                let mut next = pin!(held.clone().read_owned());
                assert!(begun(next.as_mut()).await.is_pending());
                drop(gate);
                gate = next.await;
                let ready = gate.ready().unwrap();
                assert_eq!((ready.index.len(), ready.stamp == Some(Position(2))), (part * TURN_EXACT, part == PARTS));
            }
        }
        drop(gate);
        store.change(&index, &[], &[1], Position(3)).await.unwrap();
        // After all that was asked for.
        store.save().await.unwrap();
        let ids = store.ids(&index).await.unwrap();
        assert_eq!((ids.len(), ids.first()), (count - 1, Some(&2)), "given up after {parts} parts");
        assert_eq!(store.stamp(&index).await.unwrap(), Some(Position(3)), "given up after {parts} parts");
    }

    #[test]
    fn a_change_that_its_caller_gives_up_is_whole_or_not_there() {
        // One worker: what it spawned last it does first, so that whoever trusts in the order of tasks is found out.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        for parts in 0..=PARTS {
            runtime.block_on(async { tokio::spawn(given_up_after(parts)).await }).unwrap();
        }
    }

    /// However many searches of one tenant wait, another's has its turn.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn searches_take_turns_tenant_by_tenant() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = FaissVectors::open(Options { dir: dir.path().join("vectors"), memory: u64::MAX }).unwrap();
        Arc::get_mut(&mut store.shared).unwrap().searching = Turns::new(2, 1);
        let [acme, beta] = ["acme", "beta"].map(|of| place(of, "m", 2));
        for index in [&acme, &beta] {
            store.reset(index).await.unwrap();
            store.change(index, &[(1, vec![1.0, 0.0])], &[], Position(1)).await.unwrap();
        }
        let held = store.shared.searching.take(&acme.tenant).await.unwrap();
        let search = async |index| store.search(index, &[1.0, 0.0], 1, None).await;
        let mut waits = pin!(search(&acme));
        assert!(begun(waits.as_mut()).await.is_pending(), "a tenant has half of the turns");
        assert_eq!(search(&beta).await.unwrap().len(), 1);
        assert!(begun(waits.as_mut()).await.is_pending());
        assert_eq!(search(&acme).await.unwrap_err().kind, Failure::Unavailable, "more of its may not wait");
        drop(held);
        assert_eq!(waits.await.unwrap().len(), 1);
    }
}
