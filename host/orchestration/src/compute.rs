//! What documents have the host compute, on a few threads beside those that serve.
//!
//! Invariants: of so many at once one tenant has at most half, and who waits does so without a thread, behind its own tenant's
//! before it gets among the others. A place is had until the thread is done, also where nobody waits for it any more.

use std::sync::Arc;

use dashmap::DashMap;
use ltmc_model::TenantId;
use ltmc_model::failure::{Code, Failure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Each = Arc<DashMap<TenantId, Arc<Semaphore>>>;

/// How much is computed at once.
pub(crate) struct Compute {
    all: Arc<Semaphore>,
    each: Each,
    most_each: usize,
}

/// A place among what is computed, until it is dropped.
pub(crate) struct Turn {
    /// None: given back.
    permits: Option<[OwnedSemaphorePermit; 2]>,
    _of: Waiting,
}

/// One of a tenant's who has a place, or waits for one.
struct Waiting {
    each: Each,
    tenant: TenantId,
}

impl Compute {
    /// So much at once, and half of it for each tenant.
    pub(crate) fn new(most: usize) -> Self {
        // bound: documents computed and judged
        Self { all: Arc::new(Semaphore::new(most)), each: Arc::default(), most_each: (most / 2).max(1) }
    }

    /// Waits until it is a tenant's turn.
    pub(crate) async fn turn(&self, tenant: &TenantId) -> Result<Turn, Failure> {
        let closed = |_| Failure::new(Code::Unavailable, "the host is stopping").retryable();
        let Self { all, each, most_each } = self;
        let waiting = Waiting { each: each.clone(), tenant: tenant.clone() };
        // bound: documents computed and judged
        let own = each.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(*most_each))).clone();
        let own = own.acquire_owned().await.map_err(closed)?;
        let permits = Some([own, all.clone().acquire_owned().await.map_err(closed)?]);
        Ok(Turn { permits, _of: waiting })
    }

    /// Does a tenant's work on a thread of its own, once it is its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.turn(tenant).await?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|e| Failure::new(Code::Internal, format!("what was computed broke: {e}")))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before it is looked whether the tenant has any left.
        self.permits = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Whoever has a place, or waits for one, has the tenant's semaphore too.
        self.each.remove_if(&self.tenant, |_, own| Arc::strong_count(own) == 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_tenant_s_threads_leave_others_theirs() {
        let compute = Arc::new(Compute::new(4));
        let [acme, beta] = ["acme", "beta"].map(|name| name.parse::<TenantId>().unwrap());
        let (held, (began, begun)) = (mpsc::channel::<()>(), mpsc::channel());
        let release = Arc::new(std::sync::Mutex::new(held.1));
        let stuck: Vec<_> = (0..3)
            .map(|_| {
                let (compute, acme, release, began) = (compute.clone(), acme.clone(), release.clone(), began.clone());
                let work = move || {
                    began.send(()).unwrap();
                    let _ = release.lock().unwrap().recv();
                };
                tokio::spawn(async move { compute.run(&acme, work).await })
            })
            .collect();
        for _ in 0..100 {
            assert_eq!(compute.run(&beta, || 7).await.unwrap(), 7, "two of four are not acme's");
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            begun.recv().unwrap();
        }
        assert!(begun.try_recv().is_err(), "the third waits without a thread");
        drop(held.0);
        for one in stuck {
            one.await.unwrap().unwrap();
        }
        assert_eq!(compute.run(&beta, || 8).await.unwrap(), 8);
        assert!(compute.each.is_empty(), "nothing is kept of who has no place");
    }
}
