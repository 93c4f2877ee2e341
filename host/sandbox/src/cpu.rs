//! CPU time of one call: what the thread has used while it polled the call, so that waiting costs nothing and another
//! guest's turn is not charged.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The meter, shared by the call's future and the epoch's callback, which both run on the polling thread.
#[derive(Default)]
pub(crate) struct Meter {
    /// Nanoseconds of polls that have ended.
    used: AtomicU64,
    /// The thread's clock when the present poll began.
    began: AtomicU64,
}

fn thread_nanos() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

impl Meter {
    /// Used so far, asked from within a poll.
    pub(crate) fn used_in_poll(&self) -> Duration {
        let present = thread_nanos().saturating_sub(self.began.load(Ordering::Relaxed));
        Duration::from_nanos(self.used.load(Ordering::Relaxed) + present)
    }

    /// Used in all polls that have ended.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// The future, metered.
    pub(crate) fn around<F: Future>(self: &Arc<Self>, future: F) -> Metered<F> {
        Metered { future: Box::pin(future), meter: self.clone() }
    }
}

/// A future whose polls are metered.
pub(crate) struct Metered<F> {
    future: Pin<Box<F>>,
    meter: Arc<Meter>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = thread_nanos();
        self.meter.began.store(began, Ordering::Relaxed);
        let polled = self.future.as_mut().poll(cx);
        self.meter.used.fetch_add(thread_nanos().saturating_sub(began), Ordering::Relaxed);
        polled
    }
}
