//! Work that would keep a thread that serves for too long: large requests, what documents have the host compute.
//! It is done on a few threads beside those.
//!
//! Invariants: of so many at once every tenant has its part ([`Turns`]), and who waits does so without a thread, behind its own
//! tenant's before it gets among the others. A place is had until the thread is done, also where nobody waits for it any more.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::TenantId;
use ltmc_policy::{Turn, Turns};

use crate::Error;

/// Of so many bytes on something is work of this kind: to parse or to write so much takes some hundreds of microseconds.
pub const LARGE: usize = 64 << 10;

/// Where it is done.
#[derive(Debug)]
pub struct Compute {
    turns: Arc<Turns>,
}

impl Compute {
    /// With these turns.
    pub fn new(turns: Arc<Turns>) -> Self {
        Self { turns }
    }

    /// Waits until it is a tenant's turn.
    ///
    /// # Errors
    /// `Busy` where too many of its wait already.
    pub async fn turn(&self, tenant: &TenantId) -> Result<Turn, Error> {
        self.turns.take(tenant).await.ok_or_else(|| Error::Busy {
            message: "Too much of what this tenant asked for waits to be computed.".to_owned(),
            retry_after: Duration::from_secs(1),
        })
    }

    /// Does a tenant's work on a thread of its own, once it is its turn.
    ///
    /// # Errors
    /// As [`Self::turn`], and `Internal` where the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.turn(tenant).await?;
        let (span, done) = (tracing::Span::current(), move || {
            let done = work();
            drop(turn);
            done
        });
        // bound: threads beside
        let done = tokio::task::spawn_blocking(move || span.in_scope(done)).await;
        done.map_err(|e| Error::Internal { message: format!("what was computed broke: {e}") })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_tenants_threads_leave_others_theirs() {
        let compute = Arc::new(Compute::new(Turns::new(4, 10)));
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
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_turn_back() {
        let (compute, acme) = (Compute::new(Turns::new(1, 1)), "acme".parse::<TenantId>().unwrap());
        for _ in 0..3 {
            let broken = compute.run(&acme, || panic!("broken")).await;
            assert!(matches!(broken, Err(Error::Internal { .. })));
        }
        assert_eq!(compute.run(&acme, || 1).await.unwrap(), 1);
    }
}
