//! The journals answer as a graph does.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ltmc_journal::FromJournals;
use ltmc_model::TenantId;
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::testing::suite::provenance::ProvenanceFixture;
use ltmc_ports::{Append, Durability, ReadProvenance, WriteJournal as _};

/// One record for all tenants of a case.
#[derive(Default)]
struct Journals(Mutex<Option<Arc<MemoryRecord>>>);

#[async_trait]
impl ProvenanceFixture for Journals {
    async fn told(&self, _: &TenantId, appends: Vec<Append>) -> Arc<dyn ReadProvenance> {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let record = record.get_or_insert_with(MemoryRecord::new).clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
        for append in appends {
            record.append(append, Durability::Lazy).await.unwrap();
        }
        Arc::new(FromJournals::new(record))
    }
}

ltmc_ports::provenance_contract!(Journals::default());
