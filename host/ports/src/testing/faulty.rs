//! A journal that fails when it is told to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ltmc_model::{Revision, TenantId};

use crate::{Append, Durability, Kind, Receipt, StoreError, WriteJournal};

/// What happens to one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The host dies before it is recorded: its caller and all after it get an error.
    CrashBefore,
    /// The host dies after it was recorded: its caller and all after it get an error.
    CrashAfter,
    /// It is refused, and not recorded; those after it are not touched.
    Refuse(Kind),
    /// It is recorded, and its caller told that the store does not answer; those after it are not touched.
    TimeOut,
    /// It takes this long.
    Delay(Duration),
}

/// A journal in front of another: counts the appends from 1 on, and lets some of them fail.
///
/// The crossings and reads of a test go to the inner one, which lives on: after a "crash" a test takes what is left of it
/// ([`super::MemoryRecord::crash`]) and starts anew.
#[derive(Debug)]
pub struct Faulty<J> {
    inner: J,
    faults: BTreeMap<u64, Fault>,
    appends: AtomicU64,
    dead: AtomicBool,
}

impl<J> Faulty<J> {
    /// With these faults, by the number of the append.
    pub fn new(inner: J, faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        Self { inner, faults: faults.into_iter().collect(), appends: AtomicU64::new(0), dead: AtomicBool::new(false) }
    }

    /// How many appends were asked for so far, failed ones included.
    pub fn appends(&self) -> u64 {
        self.appends.load(Ordering::SeqCst)
    }

    /// Whether a crash has come.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// The journal behind.
    pub fn inner(&self) -> &J {
        &self.inner
    }
}

impl<S: WriteJournal + ?Sized> Faulty<std::sync::Arc<S>> {
    async fn record(&self, append: Append, durability: Durability) -> Result<(), StoreError> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst) + 1;
        if self.is_dead() {
            return Err(silent());
        }
        match self.faults.get(&number) {
            None => self.inner.append(append, durability).await,
            Some(Fault::CrashBefore) => {
                self.dead.store(true, Ordering::SeqCst);
                Err(silent())
            }
            Some(Fault::CrashAfter) => {
                self.dead.store(true, Ordering::SeqCst);
                self.inner.append(append, durability).await?;
                Err(silent())
            }
            Some(Fault::Refuse(kind)) => {
                Err(StoreError::new(*kind, "journal.append").because("a refusal that the test asked for"))
            }
            Some(Fault::TimeOut) => {
                self.inner.append(append, durability).await?;
                Err(silent())
            }
            Some(Fault::Delay(by)) => {
                tokio::time::sleep(*by).await;
                self.inner.append(append, durability).await
            }
        }
    }
}

fn silent() -> StoreError {
    StoreError::new(Kind::Unavailable, "journal.append").because("a fault that the test asked for")
}

#[async_trait]
impl<S: WriteJournal + ?Sized> WriteJournal for Faulty<std::sync::Arc<S>> {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        Box::pin(std::future::ready(self.record(append, durability).await))
    }

    fn next_revision(&self, tenant: &TenantId) -> Revision {
        self.inner.next_revision(tenant)
    }
}
