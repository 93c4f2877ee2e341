//! Admission: so many calls at once and no more, each tenant within its own bound, and those that wait take turns by
//! tenant: one tenant's thousand calls delay another's one call by one.
//!
//! Invariant: permits out plus free slots are always the slots there are; a permit dropped, or offered to somebody who has
//! gone, is free again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ltmc_model::TenantId;
use tokio::sync::oneshot;

/// The gatekeeper.
pub(crate) struct Admission {
    state: Mutex<State>,
}

struct State {
    free: usize,
    slots: usize,
    queued: usize,
    queue_length: usize,
    tenants: HashMap<TenantId, Line>,
    /// Tenants that have somebody waiting, in the order of their turns.
    turns: VecDeque<TenantId>,
}

#[derive(Default)]
struct Line {
    running: u32,
    /// The tenant's own bound, as last told.
    bound: u32,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// Leave to run one call, until it is dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    tenant: TenantId,
}

/// No room in the queue itself.
#[derive(Debug)]
pub(crate) struct QueueFull;

impl Admission {
    pub(crate) fn new(slots: usize, queue_length: usize) -> Arc<Self> {
        let state =
            State { free: slots, slots, queued: 0, queue_length, tenants: HashMap::new(), turns: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Waits for a turn. Dropping the future gives the place in the queue up.
    pub(crate) async fn enter(self: &Arc<Self>, tenant: &TenantId, bound: u32) -> Result<Permit, QueueFull> {
        let receiver = {
            let mut state = self.lock();
            let (free, room) = (state.free, state.queued < state.queue_length);
            let line = state.tenants.entry(tenant.clone()).or_default();
            line.bound = bound.max(1);
            if free > 0 && line.running < line.bound && line.waiting.is_empty() {
                line.running += 1;
                state.free -= 1;
                return Ok(Permit { admission: self.clone(), tenant: tenant.clone() });
            }
            if !room {
                return Err(QueueFull);
            }
            let (sender, receiver) = oneshot::channel();
            line.waiting.push_back(sender);
            let first = line.waiting.len() == 1;
            state.queued += 1;
            if first {
                state.turns.push_back(tenant.clone());
            }
            receiver
        };
        let mut place = Place { admission: self, tenant, receiver, answered: false };
        let answer = (&mut place.receiver).await;
        place.answered = true;
        Ok(answer.expect("a place in the queue is answered or outlives the admission"))
    }

    /// Calls that run, and that wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.slots - state.free, state.queued)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a slot back, and free slots to those whose turn it is.
    fn leave(self: &Arc<Self>, tenant: &TenantId) {
        let mut offers = Vec::new();
        {
            let mut state = self.lock();
            let state = &mut *state;
            state.free += 1;
            if let Some(line) = state.tenants.get_mut(tenant) {
                line.running -= 1;
            }
            // Each tenant in the round is looked at once; one that is at its own bound keeps its place.
            for _ in 0..state.turns.len() {
                if state.free == 0 {
                    break;
                }
                let Some(turn) = state.turns.pop_front() else { break };
                let Some(line) = state.tenants.get_mut(&turn) else { continue };
                if line.running < line.bound {
                    while let Some(waiter) = line.waiting.pop_front() {
                        state.queued -= 1;
                        if !waiter.is_closed() {
                            line.running += 1;
                            state.free -= 1;
                            offers.push((waiter, Permit { admission: self.clone(), tenant: turn.clone() }));
                            break;
                        }
                    }
                }
                if !line.waiting.is_empty() {
                    state.turns.push_back(turn);
                }
            }
            if state.tenants.get(tenant).is_some_and(|line| line.running == 0 && line.waiting.is_empty()) {
                state.tenants.remove(tenant);
            }
        }
        // Outside the lock: an offer that nobody takes drops its permit, which comes back here.
        for (waiter, permit) in offers {
            drop(waiter.send(permit));
        }
    }
}

/// A place in the queue; dropped without an answer, it is there no more.
struct Place<'a> {
    admission: &'a Arc<Admission>,
    tenant: &'a TenantId,
    receiver: oneshot::Receiver<Permit>,
    answered: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // A permit that is on its way already comes back when the receiver is dropped.
        self.receiver.close();
        let mut state = self.admission.lock();
        let state = &mut *state;
        let Some(line) = state.tenants.get_mut(self.tenant) else { return };
        let before = line.waiting.len();
        line.waiting.retain(|waiter| !waiter.is_closed());
        state.queued -= before - line.waiting.len();
        if line.waiting.is_empty() {
            state.turns.retain(|turn| turn != self.tenant);
            if line.running == 0 {
                state.tenants.remove(self.tenant);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.leave(&self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn one_tenants_crowd_does_not_keep_another_out() {
        let admission = Admission::new(1, 100);
        let first = admission.enter(&tenant("crowd"), 10).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for name in ["crowd", "crowd", "crowd", "guest"] {
            let (admission, order) = (admission.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = admission.enter(&tenant(name), 10).await.unwrap();
                order.lock().unwrap().push(name);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["crowd", "guest", "crowd", "crowd"]);
        assert_eq!(admission.counts(), (0, 0));
    }

    #[tokio::test]
    async fn a_tenants_own_bound_holds_and_a_place_given_up_is_free_again() {
        let admission = Admission::new(4, 2);
        let held = admission.enter(&tenant("a"), 1).await.unwrap();
        let name = tenant("a");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), admission.enter(&name, 1));
        assert!(waiting.await.is_err());
        assert_eq!(admission.counts(), (1, 0));
        let other = admission.enter(&tenant("b"), 1).await.unwrap();
        drop((held, other));
        assert_eq!(admission.counts(), (0, 0));
        drop(admission.enter(&tenant("a"), 1).await.unwrap());
    }

    #[tokio::test]
    async fn the_queue_itself_is_bounded() {
        let admission = Admission::new(1, 0);
        let _held = admission.enter(&tenant("a"), 1).await.unwrap();
        assert!(admission.enter(&tenant("b"), 1).await.is_err());
    }
}
