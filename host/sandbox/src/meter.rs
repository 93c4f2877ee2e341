//! What one call uses: CPU time, memory, host calls; known whenever it is asked for, also of a call that was broken off.
//!
//! CPU time is what the thread has used while it polled the call, so that waiting costs nothing and another guest's turn is
//! not charged. To read the thread's CPU clock is a system call. A short call does without: its first [`ROUGH`] are measured by the
//! monotonic clock, which shows the same, and more where the thread had to wait for a processor.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ltmc_model::run::Usage;
use rustix::time::{ClockId, clock_gettime};

/// So much of a call is measured by the monotonic clock.
const ROUGH: Duration = Duration::from_millis(20);

/// The meter, shared by the call's future and the epoch's callback, which both run on the polling thread.
#[derive(Default)]
pub(crate) struct Meter {
    /// Nanoseconds of polls that have ended.
    used: AtomicU64,
    /// When the present poll began, by its clock.
    began: AtomicU64,
    /// Whether the present poll is measured by the thread's CPU clock.
    exact: AtomicBool,
    /// The largest linear memory, in bytes.
    memory: AtomicUsize,
    /// Host calls through the gate.
    calls: AtomicU32,
}

impl Meter {
    /// The present poll's clock, in nanoseconds.
    fn now(&self) -> u64 {
        let exact = self.exact.load(Ordering::Relaxed);
        let now = clock_gettime(if exact { ClockId::ThreadCPUTime } else { ClockId::Monotonic });
        u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
    }

    fn begin(&self) {
        self.exact.store(self.used() >= ROUGH, Ordering::Relaxed);
        self.began.store(self.now(), Ordering::Relaxed);
    }

    fn end(&self) {
        let present = self.now().saturating_sub(self.began.load(Ordering::Relaxed));
        self.used.fetch_add(present, Ordering::Relaxed);
    }

    /// Used so far, asked from within a poll.
    pub(crate) fn used_in_poll(&self) -> Duration {
        let present = self.now().saturating_sub(self.began.load(Ordering::Relaxed));
        Duration::from_nanos(self.used.load(Ordering::Relaxed) + present)
    }

    /// Used in all polls that have ended.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// Linear memory is so large now; it never shrinks.
    pub(crate) fn grown(&self, memory: usize) {
        self.memory.store(memory, Ordering::Relaxed);
    }

    /// How large it is.
    pub(crate) fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// One more host call.
    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it, with the time since `began`.
    pub(crate) fn usage(&self, began: Instant) -> Usage {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Usage {
            cpu_us: micros(self.used()),
            wall_us: micros(began.elapsed()),
            memory: self.memory() as u64,
            calls: self.calls.load(Ordering::Relaxed),
        }
    }

    /// The future, metered.
    pub(crate) fn around<'a, F: Future>(&'a self, future: Pin<&'a mut F>) -> Metered<'a, F> {
        Metered { future, meter: self }
    }
}

/// A future whose polls are metered.
pub(crate) struct Metered<'a, F> {
    future: Pin<&'a mut F>,
    meter: &'a Meter,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.meter.begin();
        let polled = self.future.as_mut().poll(cx);
        self.meter.end();
        polled
    }
}
