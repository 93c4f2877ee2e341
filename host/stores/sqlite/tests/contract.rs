//! The record in SQLite keeps the contract of every port of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use ltmc_model::TenantId;
use ltmc_model::delta::Delta;
use ltmc_ports::testing::sample::Owner;
use ltmc_ports::testing::suite::Fixture;
use ltmc_ports::testing::suite::bus::{BusFixture, Recorded};
use ltmc_ports::testing::suite::graph::GraphFixture;
use ltmc_ports::{Durability, ReadGraph, WriteJournal as _};
use ltmc_sqlite::Record;

use on_disk::OnDisk;

mod on_disk;

ltmc_ports::contract!(OnDisk::default());
ltmc_ports::record_contract!(OnDisk::default());

#[async_trait]
impl BusFixture for OnDisk {
    type Told = Recorded<Record>;

    async fn fresh(&self) -> Arc<Self::Told> {
        Recorded::new(Fixture::fresh(self).await)
    }
}

ltmc_ports::bus_contract!(OnDisk::default());

/// One record for a case, told by one run after another.
#[derive(Default)]
struct Graph {
    disk: OnDisk,
    record: tokio::sync::OnceCell<Arc<Record>>,
    runs: AtomicU64,
}

#[async_trait]
impl GraphFixture for Graph {
    async fn apply(&self, tenant: &TenantId, deltas: Vec<Delta>) -> Arc<dyn ReadGraph> {
        let record = self.record.get_or_init(|| Fixture::fresh(&self.disk)).await.clone();
        let mut owner = Owner::new(tenant.as_str(), self.runs.fetch_add(1, Ordering::Relaxed) + 1);
        record.append(owner.change(deltas), Durability::Lazy).await.unwrap();
        record
    }
}

ltmc_ports::graph_contract!(Graph::default());
