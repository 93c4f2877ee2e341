//! The record in SQLite keeps the contract of every port of a store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ltmc_model::TenantId;
use ltmc_model::delta::Delta;
use ltmc_ports::testing::sample::Owner;
use ltmc_ports::testing::suite::Fixture;
use ltmc_ports::testing::suite::bus::{BusFixture, Recorded};
use ltmc_ports::testing::suite::graph::GraphFixture;
use ltmc_ports::{Durability, ReadGraph, Record as _, WriteJournal as _};
use ltmc_sqlite::{OpenOptions, Record};
use tempfile::TempDir;

/// Each record in a directory of its own.
#[derive(Default)]
struct OnDisk {
    dirs: Mutex<HashMap<usize, TempDir>>,
}

impl OnDisk {
    async fn open(&self, dir: TempDir) -> Arc<Record> {
        let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
        self.dirs.lock().unwrap().insert(Arc::as_ptr(&record) as usize, dir);
        record
    }
}

#[async_trait]
impl Fixture for OnDisk {
    type Store = Record;

    async fn fresh(&self) -> Arc<Record> {
        self.open(tempfile::tempdir().unwrap()).await
    }

    /// What a crash leaves is in the files as they are: they are copied to another directory before anything is closed.
    async fn crash(&self, store: Arc<Record>) -> Arc<Record> {
        let old = self.dirs.lock().unwrap().remove(&(Arc::as_ptr(&store) as usize)).unwrap();
        let new = tempfile::tempdir().unwrap();
        for file in ["record.db", "record.db-wal"] {
            if old.path().join(file).exists() {
                std::fs::copy(old.path().join(file), new.path().join(file)).unwrap();
            }
        }
        store.close().await;
        self.open(new).await
    }
}

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
