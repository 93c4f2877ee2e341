//! Early release: what was handed to the record and is not in it yet.
//!
//! Whoever changes a key next need not wait until the change before is on disk: it decides on the value that was handed over,
//! and is handed over behind it, expecting it. Where the one before is refused after all, so is the one that relied on it.
//!
//! Invariant: nobody is answered out of here but whoever decides a change, which the record checks in its transaction.

use std::sync::Arc;

use async_trait::async_trait;
use dashmap::DashMap;
use ltmc_model::delta::{Delta, MemoryChange};
use ltmc_model::memory::{Drawer, Item};
use ltmc_model::{Revision, TenantId};
use ltmc_ports::{Append, Durability, Receipt, WriteJournal};

type Place = (TenantId, Drawer, String);

/// A journal that remembers the changes of memory that are on their way to it.
pub struct Handed {
    journal: Arc<dyn WriteJournal>,
    on_their_way: OnTheirWay,
}

/// The last change of each key.
type OnTheirWay = Arc<DashMap<Place, MemoryChange>>;

impl Handed {
    /// In front of this journal, through which runs are written. Of what is written beside it (clients' acts, what expires) nothing
    /// is known here, and what was decided on something older is refused by the record.
    pub fn new(journal: Arc<dyn WriteJournal>) -> Arc<Self> {
        Arc::new(Self { journal, on_their_way: Arc::default() })
    }

    /// What a key will hold once everything that was handed over is in the record; none: nothing of it is on its way.
    pub(crate) fn item(&self, tenant: &TenantId, drawer: &Drawer, key: &str) -> Option<Option<Item>> {
        // Mostly there is nothing, and nothing need be copied to see it.
        if self.on_their_way.is_empty() {
            return None;
        }
        let place = (tenant.clone(), drawer.clone(), key.to_owned());
        self.on_their_way.get(&place).map(|change| change.item())
    }
}

#[async_trait]
impl WriteJournal for Handed {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        let memory = append.changes.deltas.iter().filter_map(|delta| match delta {
            Delta::Memory(change) => Some(change.clone()),
            _ => None,
        });
        let tenant = append.run.tenant.clone();
        let changes: Vec<(Place, MemoryChange)> =
            memory.map(|change| ((tenant.clone(), change.drawer.clone(), change.key.clone()), change)).collect();
        if changes.is_empty() {
            return self.journal.hand_over(append, durability).await;
        }
        let landing = Landing {
            on_their_way: self.on_their_way.clone(),
            places: changes.iter().map(|(place, change)| (place.clone(), change.revision)).collect(),
        };
        let receipt = self.journal.hand_over(append, durability).await;
        for (place, change) in changes {
            self.on_their_way.insert(place, change);
        }
        Box::pin(async move {
            let landed = receipt.await;
            drop(landing);
            landed
        })
    }

    fn next_revision(&self, tenant: &TenantId) -> Revision {
        self.journal.next_revision(tenant)
    }
}

/// Takes changes off the list once it is known what became of them, or nobody wants to know any more.
struct Landing {
    on_their_way: OnTheirWay,
    places: Vec<(Place, Revision)>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        for (place, revision) in &self.places {
            self.on_their_way.remove_if(place, |_, change| change.revision == *revision);
        }
    }
}

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handed").field("on_their_way", &self.on_their_way.len()).finish_non_exhaustive()
    }
}
