//! Records in SQLite's files, each in a directory of its own, for contract suites and for hosts that stand on them.
//!
//! A crash leaves what is in the files, as a `kill -9` does: they are copied to another directory before anything is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ltmc_ports::Record as _;
use ltmc_ports::testing::suite::Fixture;
use ltmc_sqlite::{OpenOptions, Record};
use tempfile::TempDir;

#[derive(Default)]
pub(crate) struct OnDisk {
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
