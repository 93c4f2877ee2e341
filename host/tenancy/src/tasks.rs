//! Tasks that the host owns: what a client asked for is done to its end, also where the client goes away.
//!
//! Invariants: dropping what [`Tasks::own`] gives drops the answer and nothing else. A client whose connection is gone does
//! not count as a connection any more, so tasks have bounds of their own, also for each tenant. A host that stops waits for
//! them, but not for ever.

use std::future::Future;
use std::time::Duration;

use ltmc_model::TenantId;
use ltmc_processor::Account;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{Error, Pot};

/// Tasks at once, of all tenants.
const MOST: u64 = 8_192;
/// Tasks at once, of one tenant.
const MOST_OF_A_TENANT: u64 = 1_024;

/// The tasks of a host. A handle: clones are the same.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    pot: Pot,
}

impl Default for Tasks {
    fn default() -> Self {
        // bound: changes under way
        Self { tracker: TaskTracker::new(), pot: Pot::new(MOST, MOST_OF_A_TENANT) }
    }
}

impl Tasks {
    /// Does `work` on a task of the host's, and gives what it gives.
    ///
    /// # Errors
    /// Those of `work`; `Busy` where too much is under way, and nothing of it was then begun; `Internal` where it panicked.
    pub async fn own<T, W>(&self, tenant: &TenantId, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let done = self.begin(tenant, work)?.await;
        done.unwrap_or_else(|broken| Err(Error::Internal { message: said(broken) }))
    }

    /// Does `work` on a task of the host's that nobody waits for; not at all where too much is under way.
    pub(crate) fn detach(&self, tenant: &TenantId, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.begin(tenant, work));
    }

    fn begin<W>(&self, tenant: &TenantId, work: W) -> Result<JoinHandle<W::Output>, Error>
    where
        W: Future<Output: Send + 'static> + Send + 'static,
    {
        let share = self.pot.take(tenant, 1).map_err(|_| {
            let message = "too many changes are under way".to_owned();
            Error::Busy { message, retry_after: Duration::from_secs(1) }
        })?;
        let work = async move {
            let _share = share;
            work.await
        };
        Ok(self.tracker.spawn(ltmc_processor::run(Account::of(tenant), work.in_current_span())))
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until every task has ended; at most for `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.under_way(), "what clients asked for did not end in time and is cut off");
        }
    }
}

fn said(broken: tokio::task::JoinError) -> String {
    let Ok(panic) = broken.try_into_panic() else { return "the host stopped before it was done".to_owned() };
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without words"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_dropped_answer_leaves_the_work_to_its_end_and_nothing_counted() {
        let (tasks, done, acme) = (Tasks::default(), Arc::new(AtomicUsize::new(0)), tenant("acme"));
        for _ in 0..10 {
            let done = done.clone();
            let mut asked = Box::pin(tasks.own(&acme, async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }));
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx))).await.is_pending());
        }
        tasks.stop(Duration::from_secs(10)).await;
        assert_eq!((done.load(Ordering::SeqCst), tasks.under_way(), tasks.pot.tenants()), (10, 0, 0));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_hosts() {
        let tasks = Tasks::default();
        let broken = tasks.own::<(), _>(&tenant("acme"), async { panic!("on {}", "purpose") }).await;
        assert!(matches!(&broken, Err(Error::Internal { message }) if message == "panicked: on purpose"), "{broken:?}");
        assert_eq!((tasks.under_way(), tasks.pot.tenants()), (0, 0));
    }

    #[tokio::test]
    async fn one_tenant_has_so_many_and_others_go_on() {
        let (tasks, gate) = (Tasks::default(), Arc::new(Semaphore::new(0)));
        let mut asked = Vec::new();
        for _ in 0..=MOST_OF_A_TENANT {
            let (tasks, gate) = (tasks.clone(), gate.clone());
            asked.push(tokio::spawn(async move {
                let work = async move {
                    drop(gate.acquire().await);
                    Ok(())
                };
                tasks.own(&tenant("acme"), work).await
            }));
        }
        while (tasks.under_way() as u64) < MOST_OF_A_TENANT {
            tokio::task::yield_now().await;
        }
        assert!(tasks.own(&tenant("beta"), async { Ok(()) }).await.is_ok());
        gate.add_permits(1);
        let mut busy = 0;
        for one in asked {
            busy += usize::from(matches!(one.await.unwrap(), Err(Error::Busy { .. })));
        }
        assert_eq!((busy, tasks.pot.tenants()), (1, 0));
    }
}
