//! Threads for what may keep a thread waiting: everything that guests ask of file systems. They are apart from the
//! host's own, so that a file system that does not answer (a network mount whose server is gone) holds guests' files up and
//! nothing else.
//!
//! Invariants: there are at most so many, and a tenant has at most a quarter of them; work begins only where a thread is
//! free for it, so nothing queues behind a thread that never comes back; a thread that stays behind its call is counted,
//! told once, and told again when it comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ltmc_model::{AgentName, RunId, TenantId};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// A thread that is this long behind its call is blocked: until then it may be just about to come back.
const GRACE: Duration = Duration::from_secs(1);

/// Whose call it is that a thread works for.
#[derive(Debug)]
pub(crate) struct Whose {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) agent: AgentName,
}

/// Why there is no thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoThread {
    /// All that could be given are held by a file system that does not answer.
    #[error("a file system does not answer, and holds all of the threads that work on this tenant's files")]
    Blocked,
    /// The work panicked, or the host stops.
    #[error("the work on the file was broken off")]
    BrokenOff,
}

/// How busy the threads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// Threads at most.
    pub(crate) threads: usize,
    /// That work.
    pub(crate) working: usize,
    /// Of these, that are behind their calls.
    pub(crate) blocked: usize,
}

/// The threads.
pub(crate) struct Threads {
    /// Only its blocking threads are used: nobody drives it.
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    threads: usize,
    /// What a tenant has at most.
    share: usize,
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tenants: HashMap<TenantId, Arc<Semaphore>>,
    working: HashMap<u64, Work>,
    next: u64,
}

struct Work {
    whose: Arc<Whose>,
    what: &'static str,
    /// When its call ended without it.
    left: Option<Instant>,
    /// It is behind its call for longer than is forgiven.
    blocked: bool,
}

impl Threads {
    pub(crate) fn new(threads: usize) -> std::io::Result<Arc<Self>> {
        let threads = threads.max(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_name("guest-files")
            .thread_stack_size(512 << 10)
            .build()?;
        Ok(Arc::new(Self {
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            threads,
            share: (threads / 4).max(1),
            // bound: threads for files
            free: Arc::new(Semaphore::new(threads)),
            state: Mutex::default(),
        }))
    }

    /// Has work done on a thread of its own, as soon as one is free for this tenant. Dropping the future leaves the thread
    /// behind: what it does is done, and nobody learns of it.
    pub(crate) async fn run<R: Send + 'static>(
        self: &Arc<Self>,
        whose: &Arc<Whose>,
        what: &'static str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, NoThread> {
        if self.is_blocked(&whose.tenant) {
            return Err(NoThread::Blocked);
        }
        let seat = self.seat(whose, what).await?;
        let mut waiting = Waiting { threads: self.clone(), number: Some(seat.number) };
        let done = self.begin(seat, work).await;
        waiting.number = None;
        done.map_err(|_| NoThread::BrokenOff)
    }

    /// Has work done for a call that is over, however long it takes until there is a thread for it.
    pub(crate) async fn run_behind(
        self: &Arc<Self>,
        whose: &Arc<Whose>,
        what: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) {
        let Ok(seat) = self.seat(whose, what).await else { return };
        let number = seat.number;
        self.mark_left(number);
        if tokio::time::timeout(GRACE, self.begin(seat, work)).await.is_err() {
            self.tell(number);
        }
    }

    fn begin<R: Send + 'static>(&self, seat: Seat, work: impl FnOnce() -> R + Send + 'static) -> oneshot::Receiver<R> {
        let (sender, receiver) = oneshot::channel();
        // bound: threads for files
        drop(self.handle.spawn_blocking(move || {
            let _seat = seat;
            // Where nobody waits any more what was made is let go here: to close a file may take as long as to open it.
            drop(sender.send(work()));
        }));
        receiver
    }

    /// Whether a thread can be had at all, within `patience`.
    pub(crate) async fn answer(self: &Arc<Self>, patience: Duration) -> bool {
        let asked = async {
            let _turn = self.free.clone().acquire_owned().await.ok()?;
            // bound: threads for files
            self.handle.spawn_blocking(|| ()).await.ok()
        };
        matches!(tokio::time::timeout(patience, asked).await, Ok(Some(())))
    }

    /// A call is over: whatever still works for it is behind from now on.
    pub(crate) fn leave(self: &Arc<Self>, whose: &Arc<Whose>) {
        let left: Vec<u64> = {
            let state = self.lock();
            let of_it = state.working.iter().filter(|(_, work)| Arc::ptr_eq(&work.whose, whose));
            of_it.map(|(number, _)| *number).collect()
        };
        for number in left {
            self.leave_one(number);
        }
    }

    pub(crate) fn busy(&self) -> Busy {
        let state = self.lock();
        let blocked = state.working.values().filter(|work| work.blocked).count();
        Busy { threads: self.threads, working: state.working.len(), blocked }
    }

    /// Whether everything that this tenant could be given is held by threads that do not come back.
    fn is_blocked(&self, tenant: &TenantId) -> bool {
        let state = self.lock();
        let blocked = state.working.values().filter(|work| work.blocked);
        let (all, own) =
            blocked.fold((0, 0), |(all, own), work| (all + 1, own + usize::from(work.whose.tenant == *tenant)));
        own >= self.share || all >= self.threads
    }

    async fn seat(self: &Arc<Self>, whose: &Arc<Whose>, what: &'static str) -> Result<Seat, NoThread> {
        let line = {
            let mut state = self.lock();
            // bound: threads for files
            state.tenants.entry(whose.tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.share))).clone()
        };
        let line = Line { threads: self.clone(), tenant: whose.tenant.clone(), line: Some(line) };
        let own = line.semaphore().acquire_owned().await.map_err(|_| NoThread::BrokenOff)?;
        let turn = self.free.clone().acquire_owned().await.map_err(|_| NoThread::BrokenOff)?;
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.working.insert(number, Work { whose: whose.clone(), what, left: None, blocked: false });
        drop(state);
        Ok(Seat { number, _turn: turn, _own: own, line })
    }

    fn leave_one(self: &Arc<Self>, number: u64) {
        if !self.mark_left(number) {
            return;
        }
        let threads = self.clone();
        match Handle::try_current() {
            Ok(here) => drop(here.spawn(async move {
                tokio::time::sleep(GRACE).await;
                threads.tell(number);
            })),
            Err(_) => self.tell(number),
        }
    }

    /// The call has gone on without this work; whether that is new.
    fn mark_left(&self, number: u64) -> bool {
        match self.lock().working.get_mut(&number) {
            Some(work) if work.left.is_none() => {
                work.left = Some(Instant::now());
                true
            }
            _ => false,
        }
    }

    /// Tells of a thread that is still behind.
    fn tell(&self, number: u64) {
        let mut state = self.lock();
        if let Some(work) = state.working.get_mut(&number) {
            work.blocked = true;
            let Whose { tenant, run, agent } = &*work.whose;
            let operation = work.what;
            tracing::warn!(%tenant, %run, %agent, operation, "a file system does not answer: a thread stays behind its call");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Threads that do not come back do not keep the process.
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

/// A thread's place, for as long as it works, whoever waits for it.
struct Seat {
    number: u64,
    _turn: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    /// Last, so that it sees the permits returned.
    line: Line,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(work) = self.line.threads.lock().working.remove(&self.number) else { return };
        if let (true, Some(left)) = (work.blocked, work.left) {
            let Whose { tenant, run, agent } = &*work.whose;
            let (operation, late) = (work.what, left.elapsed());
            tracing::info!(%tenant, %run, %agent, operation, ?late, "a thread that was behind its call came back");
        }
    }
}

/// A place in a tenant's line; the last one takes the line with it.
struct Line {
    threads: Arc<Threads>,
    tenant: TenantId,
    line: Option<Arc<Semaphore>>,
}

impl Line {
    fn semaphore(&self) -> Arc<Semaphore> {
        self.line.clone().expect("a line is given up only when it is dropped")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.threads.lock();
        self.line = None;
        if state.tenants.get(&self.tenant).is_some_and(|line| Arc::strong_count(line) == 1) {
            state.tenants.remove(&self.tenant);
        }
    }
}

/// Somebody who waits for a thread; dropped before it is done, the thread is behind.
struct Waiting {
    threads: Arc<Threads>,
    number: Option<u64>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.threads.leave_one(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use ltmc_model::Timestamp;

    use super::*;

    fn whose(tenant: &str) -> Arc<Whose> {
        Arc::new(Whose {
            tenant: tenant.parse().unwrap(),
            run: RunId::new(Timestamp::from_millis(1), [7; 10]),
            agent: "reader".parse().unwrap(),
        })
    }

    /// Calls of a tenant whose work never returns, until the sender is dropped; each is given up at its limit.
    async fn hang(threads: &Arc<Threads>, tenant: &str, calls: usize) -> mpsc::Sender<()> {
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..calls {
            let (receiver, whose) = (receiver.clone(), whose(tenant));
            let work = threads.run(&whose, "read", move || drop(receiver.lock().map(|receiver| receiver.recv())));
            assert!(tokio::time::timeout(Duration::from_millis(5), work).await.is_err());
        }
        sender
    }

    async fn until(threads: &Arc<Threads>, wanted: impl Fn(Busy) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !wanted(threads.busy()) {
            assert!(Instant::now() < deadline, "{:?}", threads.busy());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_tenant_whose_file_system_hangs_leaves_the_others_their_threads() {
        let threads = Threads::new(8).unwrap();
        let stuck = hang(&threads, "stuck", 20).await;
        // Two of eight are a tenant's share; the other eighteen calls ended without a thread.
        assert_eq!(threads.busy(), Busy { threads: 8, working: 2, blocked: 0 });
        until(&threads, |busy| busy.blocked == 2).await;
        // What it asks from now on is answered at once; others do not notice, nor does who asks whether there are threads.
        assert_eq!(threads.run(&whose("stuck"), "read", || 1).await, Err(NoThread::Blocked));
        for number in 0..100 {
            assert_eq!(threads.run(&whose("other"), "read", move || number).await, Ok(number));
        }
        assert!(threads.answer(Duration::from_secs(5)).await);
        drop(stuck);
        until(&threads, |busy| busy == Busy { threads: 8, working: 0, blocked: 0 }).await;
        assert_eq!(threads.run(&whose("stuck"), "read", || 2).await, Ok(2));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !threads.lock().tenants.is_empty() {
            assert!(Instant::now() < deadline, "a tenant's line is left");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn used_up_threads_are_said_and_the_hosts_own_still_work() {
        let threads = Threads::new(4).unwrap();
        let mut stuck = Vec::new();
        for tenant in ["a", "b", "c", "d"] {
            stuck.push(hang(&threads, tenant, 3).await);
        }
        assert_eq!(threads.busy().working, 4);
        assert!(!threads.answer(Duration::from_millis(50)).await);
        until(&threads, |busy| busy.blocked == 4).await;
        assert_eq!(threads.run(&whose("e"), "read", || ()).await, Err(NoThread::Blocked));
        assert_eq!(tokio::task::spawn_blocking(|| 5).await.unwrap(), 5);
        drop(stuck);
        until(&threads, |busy| busy.working == 0).await;
        assert!(threads.answer(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn work_that_ends_with_its_call_is_never_behind() {
        let threads = Threads::new(4).unwrap();
        let call = whose("a");
        assert_eq!(threads.run(&call, "read", || 1).await, Ok(1));
        threads.leave(&call);
        // A little late is forgiven.
        let late = threads.run(&call, "read", || std::thread::sleep(Duration::from_millis(50)));
        assert!(tokio::time::timeout(Duration::from_millis(1), late).await.is_err());
        until(&threads, |busy| busy.working == 0).await;
        tokio::time::sleep(GRACE + Duration::from_millis(50)).await;
        assert_eq!(threads.busy().blocked, 0);
        assert_eq!(threads.run(&call, "read", || panic!("broken")).await, Err::<(), _>(NoThread::BrokenOff));
        until(&threads, |busy| busy.working == 0).await;
    }
}
