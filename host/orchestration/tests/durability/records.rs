//! The records that hosts stand on, and the time that passes with them.
//!
//! To add one: a [`Fixture`] that also says in which time its tests run. What must hold on every record is a function over [`On`], and a
//! test for each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ltmc_ports::testing::suite::{Fixture, InMemory, Store};
use ltmc_ports::{Bus, ReadContext, ReadFacts, ReadLog, ReadMail, ReadNotes, Record as _, WriteVectors};
use ltmc_sqlite::{OpenOptions, Record};
use tempfile::TempDir;

use crate::host::in_paused_time;

/// Everything that a host needs of a record.
pub(crate) trait AnyRecord:
    Store + ReadLog + ReadContext + ReadFacts + ReadMail + ReadNotes + WriteVectors + Bus
{
}

impl<R> AnyRecord for R where R: Store + ReadLog + ReadContext + ReadFacts + ReadMail + ReadNotes + WriteVectors + Bus {}

/// A kind of record that hosts stand on.
pub(crate) trait On: Fixture<Store: AnyRecord> + Default {
    /// Runs a test in the time that goes with it.
    fn in_time<T>(test: impl Future<Output = T>) -> T;
}

/// In memory; time passes only where something waits. A crash leaves what was on disk for sure.
impl On for InMemory {
    fn in_time<T>(test: impl Future<Output = T>) -> T {
        in_paused_time(test)
    }
}

/// SQLite's files, each record in a directory of its own. A crash leaves what is in the files, as a `kill -9` does.
#[derive(Default)]
pub(crate) struct OnDisk {
    directories: Mutex<HashMap<usize, TempDir>>,
}

impl OnDisk {
    async fn open(&self, dir: TempDir) -> Arc<Record> {
        let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
        self.directories.lock().unwrap().insert(Arc::as_ptr(&record) as usize, dir);
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
        let old = self.directories.lock().unwrap().remove(&(Arc::as_ptr(&store) as usize)).unwrap();
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

/// Its writer is a thread: time passes as it does.
impl On for OnDisk {
    fn in_time<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
    }
}

/// The record of a play, as its type.
pub(crate) type Of<F> = <F as Fixture>::Store;
