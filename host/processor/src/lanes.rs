//! The lanes: as many threads as there are processors, on which tenants take turns, a poll each.
//!
//! They have the system's own priority. With a lower one (nice 5) runs came to a standstill where something else kept the machine
//! busy: what waits for their locks counts time.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};

use ltmc_model::TenantId;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The threads, and what they have to poll.
pub(crate) struct Lanes {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Each tenant's, in the order in which they want to be polled.
    tenants: HashMap<TenantId, VecDeque<Arc<Task>>>,
    /// Tenants that have something queued, in the order of their turns.
    turns: VecDeque<TenantId>,
}

impl Queue {
    fn push(&mut self, task: Arc<Task>) {
        match self.tenants.get_mut(&task.tenant) {
            Some(own) => own.push_back(task),
            None => {
                self.turns.push_back(task.tenant.clone());
                self.tenants.insert(task.tenant.clone(), VecDeque::from([task]));
            }
        }
    }

    fn pop(&mut self) -> Option<Arc<Task>> {
        let tenant = self.turns.pop_front()?;
        let own = self.tenants.get_mut(&tenant)?;
        let task = own.pop_front();
        if own.is_empty() {
            self.tenants.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        task
    }
}

impl Lanes {
    /// So many, for as long as the process lives.
    pub(crate) fn start(lanes: usize) -> Arc<Self> {
        let all = Arc::new(Self { queue: Mutex::default(), work: Condvar::new() });
        for _ in 0..lanes {
            let lane = all.clone();
            let begun = std::thread::Builder::new().name("lane".to_owned()).spawn(move || lane.serve());
            begun.expect("a process that cannot have a thread for each processor cannot serve");
        }
        all
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: Arc<Task>) {
        self.queue().push(task);
        self.work.notify_one();
    }

    /// Polls a tenant's work from here on.
    pub(crate) async fn take_over<T: Send + 'static>(self: &Arc<Self>, tenant: &TenantId, mut work: Work<T>) -> T {
        let (to, answer) = oneshot::channel();
        let mut to = Some(to);
        let answered = poll_fn(move |cx| {
            let done: Result<T, Box<dyn Any + Send>> = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(done)) => Ok(done),
                Err(panic) => Err(panic),
            };
            if let Some(to) = to.take() {
                drop(to.send(done));
            }
            Poll::Ready(())
        });
        let task = Arc::new(Task {
            lanes: self.clone(),
            tenant: tenant.clone(),
            runtime: Handle::current(),
            state: AtomicU8::new(IDLE),
            is_dropped: AtomicBool::new(false),
            work: Mutex::new(Some(Box::pin(answered))),
        });
        let _awaits = Awaits(task.clone());
        task.wake();
        match answer.await.expect("what is in the lanes is answered, or dropped by who awaits it") {
            Ok(done) => done,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// What a thread does.
    fn serve(&self) {
        let mut queue = self.queue();
        loop {
            match queue.pop() {
                None => queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(task) => {
                    drop(queue);
                    let wants_another = task.take_turn();
                    queue = self.queue();
                    if wants_another {
                        queue.push(task);
                    }
                }
            }
        }
    }
}

/// It waits.
const IDLE: u8 = 0;
/// It is queued.
const QUEUED: u8 = 1;
/// A thread polls it.
const POLLED: u8 = 2;
/// A thread polls it, and it is to be polled once more.
const WOKEN: u8 = 3;

/// Work in the lanes.
struct Task {
    lanes: Arc<Lanes>,
    tenant: TenantId,
    runtime: Handle,
    state: AtomicU8,
    /// Nobody awaits it any more.
    is_dropped: AtomicBool,
    /// None: over, or dropped.
    work: Mutex<Option<Work<()>>>,
}

impl Task {
    /// Polls it once; whether it wants to be polled again at once.
    fn take_turn(self: &Arc<Self>) -> bool {
        self.state.store(POLLED, Ordering::Release);
        let _runtime = self.runtime.enter();
        {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(polled) = work.as_mut() else { return false };
            let waker = Waker::from(self.clone());
            if polled.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *work = None;
                return false;
            }
        }
        if self.is_dropped.load(Ordering::SeqCst) {
            self.drop_work();
            return false;
        }
        let waits = self.state.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !waits {
            self.state.store(QUEUED, Ordering::Release);
        }
        !waits
    }

    /// Drops the work, unless it is being polled: then who polls it does.
    fn drop_work(&self) {
        let work = match self.work.try_lock() {
            Ok(mut work) => work.take(),
            Err(TryLockError::Poisoned(work)) => work.into_inner().take(),
            Err(TryLockError::WouldBlock) => return,
        };
        // Outside the lock.
        drop(work);
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let woken = |state| match state {
            IDLE => Some(QUEUED),
            POLLED => Some(WOKEN),
            _ => None,
        };
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, woken) == Ok(IDLE) {
            let lanes = self.lanes.clone();
            lanes.push(self);
        }
    }
}

/// Who awaits work in the lanes. Dropped, so is the work.
struct Awaits(Arc<Task>);

impl Drop for Awaits {
    fn drop(&mut self) {
        let task = &self.0;
        let _runtime = task.runtime.enter();
        // In this order: who polls it looks after it has let go of the lock.
        task.is_dropped.store(true, Ordering::SeqCst);
        task.drop_work();
    }
}
