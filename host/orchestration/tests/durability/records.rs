//! The records that hosts stand on, and the time that passes with them.
//!
//! To add one: a [`Fixture`] that also says in which time its tests run. What must hold on every record is a function over [`On`], and a
//! test for each.

use ltmc_ports::testing::suite::{Fixture, InMemory, Store};
use ltmc_ports::{Bus, ReadContext, ReadFacts, ReadLog, ReadMail, ReadNotes, WriteVectors};

pub(crate) use on_disk::OnDisk;

use crate::host::in_paused_time;

#[path = "../../../stores/sqlite/tests/on_disk/mod.rs"]
mod on_disk;

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

/// Its writer is a thread: time passes as it does.
impl On for OnDisk {
    fn in_time<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
    }
}

/// The record of a play, as its type.
pub(crate) type Of<F> = <F as Fixture>::Store;
