//! Rebuilds in the background: an exact index that has grown gets a graph, and a graph with many dead places a new one.
//!
//! Invariants: until the new index is whole, the old one answers and takes changes; what changed meanwhile is noted by its
//! id and brought over before the two change places, the last of it while nothing can change. One thread builds, and one
//! index at a time: agents need the processors too. A store that is gone is not built for.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use faiss::error::Result;
use ltmc_ports::recall::VectorId;

use crate::index::{Index, Kind};
use crate::store::{Held, Shared, Slot};

/// Vectors added at once. FAISS goes over to several threads above a hundred.
const PART: usize = 64;
/// When so few have changed meanwhile, changes may wait for the rest.
const FEW: usize = 256;
/// How often the changes of meanwhile are brought over before changes wait.
const ROUNDS: usize = 4;

/// Begins a rebuild, where one is wanted and none is under way.
pub(crate) async fn consider(shared: &Arc<Shared>, slot: &Arc<Slot>) {
    let wants = slot.held.read().await.ready().and_then(|ready| ready.index.wants());
    let Some(kind) = wants else { return };
    if slot.rebuilding.swap(true, Ordering::AcqRel) {
        return;
    }
    shared.rebuilds.send_modify(|count| *count += 1);
    let (building, rebuilds) = (shared.building.clone(), shared.rebuilds.clone());
    let (shared, slot) = (Arc::downgrade(shared), slot.clone());
    tokio::spawn(async move {
        let under_way = UnderWay { slot: slot.clone(), rebuilds };
        let Ok(_turn) = building.acquire_owned().await else { return };
        let (weak, at) = (shared.clone(), slot.clone());
        // bound: searches by meaning
        let done = tokio::task::spawn_blocking(move || rebuild(&weak, &at, kind)).await;
        match done {
            Ok(Ok(true)) => metrics::counter!("ltmc_vectors_rebuilds_total").increment(1),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, tenant = %slot.id.tenant, "an index was not rebuilt"),
            Err(error) => tracing::warn!(%error, tenant = %slot.id.tenant, "an index was not rebuilt"),
        }
        drop(under_way);
        if let Some(shared) = shared.upgrade() {
            let bytes = slot.held.read().await.ready().map_or(0, |ready| ready.index.bytes());
            shared.make_room(&slot, bytes).await;
            shared.gauge();
        }
    });
}

/// Ends a rebuild, whatever becomes of it.
struct UnderWay {
    slot: Arc<Slot>,
    rebuilds: tokio::sync::watch::Sender<usize>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.slot.rebuilding.store(false, Ordering::Release);
        self.rebuilds.send_modify(|count| *count -= 1);
    }
}

/// Builds anew; false: it is not wanted any more.
fn rebuild(shared: &Weak<Shared>, slot: &Arc<Slot>, kind: Kind) -> Result<bool> {
    let (number, ids) = {
        let mut held = slot.held.blocking_write();
        let Held::Ready(ready) = &mut *held else { return Ok(false) };
        // It may have been made empty, and begun again, since this was wanted.
        if ready.index.wants() != Some(kind) {
            return Ok(false);
        }
        ready.touched = Some(HashSet::new());
        (ready.number, ready.index.ids().collect::<Vec<_>>())
    };
    let building = Building { shared, slot, number };
    let built = building.build(kind, ids);
    if !matches!(built, Ok(true)) {
        building.give_up();
    }
    built
}

struct Building<'a> {
    shared: &'a Weak<Shared>,
    slot: &'a Arc<Slot>,
    number: u64,
}

impl Building<'_> {
    fn build(&self, kind: Kind, mut ids: Vec<VectorId>) -> Result<bool> {
        let mut fresh = Index::new(kind, self.slot.id.embedder.dimensions)?;
        // In the order of the record, so that what was written together stands together.
        ids.sort_unstable();
        if !self.bring(&mut fresh, &ids)? {
            return Ok(false);
        }
        for round in 0.. {
            let few = {
                let held = self.slot.held.blocking_read();
                held.ready().and_then(|ready| ready.touched.as_ref()).map_or(0, HashSet::len) <= FEW
            };
            let work = (few || round == ROUNDS).then(|| self.slot.work.clone().blocking_lock_owned());
            let touched: Vec<VectorId> = {
                let mut held = self.slot.held.blocking_write();
                let Held::Ready(ready) = &mut *held else { return Ok(false) };
                if ready.number != self.number {
                    return Ok(false);
                }
                ready.touched.replace(HashSet::new()).into_iter().flatten().collect()
            };
            if !self.bring(&mut fresh, &touched)? {
                return Ok(false);
            }
            if work.is_some() {
                break;
            }
        }
        let mut held = self.slot.held.blocking_write();
        let Held::Ready(ready) = &mut *held else { return Ok(false) };
        let old = std::mem::replace(&mut ready.index, fresh);
        ready.touched = None;
        ready.unsaved = true;
        drop(held);
        drop(old);
        Ok(true)
    }

    /// Makes these vectors in the new index what they are in the old one.
    fn bring(&self, fresh: &mut Index, ids: &[VectorId]) -> Result<bool> {
        for some in ids.chunks(PART) {
            if self.shared.strong_count() == 0 {
                return Ok(false);
            }
            let (mut there, mut rows, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            {
                let held = self.slot.held.blocking_read();
                let Some(ready) = held.ready().filter(|ready| ready.number == self.number) else { return Ok(false) };
                for id in some {
                    match ready.index.vector(*id)? {
                        Some(vector) => {
                            there.push(*id);
                            rows.extend(vector);
                        }
                        None => gone.push(*id),
                    }
                }
            }
            fresh.remove(&gone)?;
            fresh.put(&there, &rows)?;
        }
        Ok(true)
    }

    fn give_up(&self) {
        if let Held::Ready(ready) = &mut *self.slot.held.blocking_write()
            && ready.number == self.number
        {
            ready.touched = None;
        }
    }
}
