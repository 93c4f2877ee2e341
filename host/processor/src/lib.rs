//! Processor time, divided among tenants. What is done for one is [`run`]: as a rule where it is awaited, on the threads that serve
//! everybody; in the [lanes](lanes) where that would keep others waiting: threads apart, on which tenants take turns.
//!
//! A future goes over to the lanes, for good, when
//! - one of its polls took long: a guest that computes, a large document;
//! - others want the processor too, and its tenant has had its part outside the lanes.
//!
//! Invariants: a future is polled by one thread at a time, and within the runtime of whoever awaits it, wherever that is. Dropped, it is
//! over at the latest when its poll returns.
//!
//! In a runtime of one thread everything is done there.
//!
//! To have something divided: [`run`] where it is spawned or awaited, with the [`Account`] it is charged to.

mod balance;
mod lanes;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use ltmc_model::TenantId;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::balance::{Balance, Balances};
use crate::lanes::Lanes;

/// A poll that takes so long keeps others waiting.
const LONG: Duration = Duration::from_millis(1);

/// The process has its processors once.
static PROCESSOR: LazyLock<Processor> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // bound: processors
    Processor { balances: Balances::new(processors), lanes: Lanes::start(processors) }
});

struct Processor {
    balances: Balances,
    lanes: Arc<Lanes>,
}

/// The account that work is charged to. Whose it is may become known while the work is done, as with a request whose key has to be
/// looked up first.
#[derive(Clone, Default)]
pub struct Account(Arc<OnceLock<Arc<Balance>>>);

impl Account {
    /// A tenant's.
    pub fn of(tenant: &TenantId) -> Self {
        let account = Self::default();
        account.is_of(tenant);
        account
    }

    /// It is this tenant's. What was said first counts.
    pub fn is_of(&self, tenant: &TenantId) {
        self.0.get_or_init(|| PROCESSOR.balances.of(tenant));
    }

    /// Something was done for it apart from all this, by a thread of its own that needed a processor for so long.
    pub fn charge(&self, took: Duration) {
        if let Some(balance) = self.0.get() {
            PROCESSOR.balances.charge(balance, Instant::now(), took);
        }
    }
}

/// Does a tenant's work, in its part of the processors' time. To be awaited in a runtime.
///
/// # Panics
/// Where the work does.
pub async fn run<T: Send + 'static>(account: Account, work: impl Future<Output = T> + Send + 'static) -> T {
    let mut work: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(work);
    let (mut was_long, mut may_go_over) = (false, true);
    let here = poll_fn(|cx| {
        let began = Instant::now();
        let is_to_go = |balance: &Arc<Balance>| was_long || !PROCESSOR.balances.may_go_on(balance, began);
        if may_go_over && account.0.get().is_some_and(is_to_go) {
            may_go_over = Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
            if may_go_over {
                return Poll::Ready(None);
            }
        }
        let polled = work.as_mut().poll(cx);
        if let Some(balance) = account.0.get() {
            let took = began.elapsed();
            was_long = took >= LONG;
            PROCESSOR.balances.charge(balance, began, took);
        }
        polled.map(Some)
    });
    match here.await {
        Some(done) => done,
        None => match account.0.get() {
            Some(balance) => PROCESSOR.lanes.take_over(balance.tenant(), work).await,
            None => work.await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    fn account(name: &str) -> Account {
        Account::of(&name.parse().unwrap())
    }

    fn lane() -> bool {
        thread::current().name() == Some("lane")
    }

    /// Holds its thread for so long.
    fn compute(long: Duration) {
        let began = Instant::now();
        while began.elapsed() < long {
            std::hint::spin_loop();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_brief_is_done_where_it_is_awaited() {
        let here = thread::current().id();
        let work = async move {
            for _ in 0..100 {
                assert_eq!(thread::current().id(), here);
                tokio::task::yield_now().await;
            }
            7
        };
        assert_eq!(run(account("brief"), work).await, 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_took_long_goes_on_in_the_lanes() {
        let work = async {
            assert!(!lane());
            compute(2 * LONG);
            tokio::task::yield_now().await;
            assert!(lane());
            // Timers and tasks are those of the runtime that awaits it.
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(lane());
            tokio::spawn(async { assert!(!lane()) }).await.unwrap();
            "done"
        };
        assert_eq!(run(account("long"), work).await, "done");
    }

    #[tokio::test]
    async fn in_a_runtime_of_one_thread_everything_is_done_there() {
        let work = async {
            compute(2 * LONG);
            tokio::task::yield_now().await;
            lane()
        };
        assert!(!run(account("one-thread"), work).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn whose_it_is_may_be_known_later() {
        let account = Account::default();
        let known = account.clone();
        let work = async move {
            compute(2 * LONG);
            tokio::task::yield_now().await;
            assert!(!lane(), "nobody's");
            known.is_of(&"late".parse().unwrap());
            compute(2 * LONG);
            tokio::task::yield_now().await;
            lane()
        };
        assert!(run(account, work).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    #[should_panic(expected = "on purpose")]
    async fn what_panics_in_the_lanes_panics_where_it_is_awaited() {
        let work = async {
            compute(2 * LONG);
            tokio::task::yield_now().await;
            assert!(lane());
            panic!("on purpose");
        };
        run(account("panics"), work).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn one_tenant_s_crowd_keeps_another_waiting_for_a_turn_at_most() {
        let over = Arc::new(AtomicBool::new(false));
        let crowd: Vec<_> = (0..64)
            .map(|_| {
                let over = over.clone();
                let work = async move {
                    while !over.load(Ordering::Relaxed) {
                        compute(2 * LONG);
                        tokio::task::yield_now().await;
                    }
                };
                tokio::spawn(run(account("crowd"), work))
            })
            .collect();
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = turns.clone();
        let guest = async move {
            // In the lanes too, and yet it has a turn for each of the crowd's.
            for _ in 0..20 {
                compute(2 * LONG);
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, run(account("guest"), guest)).await.expect("it has its turns");
        over.store(true, Ordering::Relaxed);
        assert_eq!(turns.load(Ordering::Relaxed), 20);
        for one in crowd {
            one.await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn who_has_had_its_part_goes_on_in_the_lanes_while_others_want_the_processor() {
        let over = Arc::new(AtomicBool::new(false));
        let wanted = over.clone();
        let other = tokio::spawn(run(account("wants-little"), async move {
            while !wanted.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        }));
        let work = async {
            while !lane() {
                compute(LONG / 10);
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), run(account("wants-much"), work)).await;
        over.store(true, Ordering::Relaxed);
        other.await.unwrap();
        done.expect("it goes over though each of its polls is brief");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn dropped_in_the_lanes_it_is_over() {
        struct Told(Arc<AtomicBool>);
        impl Drop for Told {
            fn drop(&mut self) {
                // Whoever is dropped may need a runtime for it.
                assert!(tokio::runtime::Handle::try_current().is_ok());
                self.0.store(true, Ordering::SeqCst);
            }
        }
        for busy in [false, true] {
            let dropped = Arc::new(AtomicBool::new(false));
            let told = Told(dropped.clone());
            let work = async move {
                let _told = told;
                compute(2 * LONG);
                tokio::task::yield_now().await;
                loop {
                    if busy {
                        compute(2 * LONG);
                        tokio::task::yield_now().await;
                    } else {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                }
            };
            let run = run(account("dropped"), work);
            assert!(tokio::time::timeout(Duration::from_millis(50), run).await.is_err());
            let patience = Instant::now() + Duration::from_secs(10);
            while !dropped.load(Ordering::SeqCst) {
                assert!(Instant::now() < patience, "busy: {busy}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
