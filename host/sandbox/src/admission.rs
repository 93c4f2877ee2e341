//! Admission: so many at once and no more, each tenant within its own bound, and those that wait take turns by tenant: one
//! tenant's thousand calls delay another's one call by one.
//!
//! Invariants: permits out plus free slots are always the slots there are; a permit dropped, or offered to somebody who has
//! gone, is free again. Places in the queue are a [`Pot`]: no tenant's crowd leaves another without one. The last
//! [eighth](State::reserve) of the slots is for tenants that have few.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ltmc_model::TenantId;
use ltmc_policy::Pot;
use ltmc_policy::pot::{Full, Share};
use tokio::sync::oneshot;

/// The gatekeeper.
pub(crate) struct Admission {
    state: Mutex<State>,
    /// Places in the queue.
    places: Pot,
}

struct State {
    free: usize,
    slots: usize,
    queued: usize,
    tenants: HashMap<TenantId, Line>,
    /// Tenants that have somebody waiting, in the order of their turns.
    turns: VecDeque<TenantId>,
}

#[derive(Default)]
struct Line {
    running: usize,
    /// The tenant's own bound, as last told.
    bound: usize,
    /// Those that had a slot and gave it back for a while: they come first, for they hold memory.
    returning: VecDeque<Waiter>,
    waiting: VecDeque<Waiter>,
}

/// Somebody who waits for a permit.
struct Waiter {
    to: oneshot::Sender<Permit>,
    /// Its place in the queue; who returns has none, and needs none.
    _place: Option<Share>,
}

/// Leave to run one call, until it is dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    tenant: TenantId,
}

/// No room in the queue itself.
#[derive(Debug)]
pub(crate) struct QueueFull(pub(crate) Full);

impl State {
    /// What is left free by tenants that run more than a few.
    fn reserve(&self) -> usize {
        self.slots / 8
    }

    /// What a tenant may run however little is free.
    fn few(&self) -> usize {
        (self.slots / 64).max(1)
    }

    /// Whether a tenant may run one more.
    fn may_run(&self, line: &Line) -> bool {
        self.free > 0 && line.running < line.bound && (line.running < self.few() || self.free > self.reserve())
    }
}

impl Line {
    fn is_nobody_waiting(&self) -> bool {
        self.returning.is_empty() && self.waiting.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.is_nobody_waiting()
    }
}

impl Admission {
    /// With so many slots, and these places in the queue before them.
    pub(crate) fn new(slots: usize, places: Pot) -> Arc<Self> {
        let state = State { free: slots, slots, queued: 0, tenants: HashMap::new(), turns: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state), places })
    }

    /// Waits for a turn. Dropping the future gives the place in the queue up.
    pub(crate) async fn enter(self: &Arc<Self>, tenant: &TenantId, bound: u32) -> Result<Permit, QueueFull> {
        if let Some(permit) = self.at_once(&mut self.lock(), tenant, bound, false) {
            return Ok(permit);
        }
        let place = self.places.take(tenant, 1).map_err(QueueFull)?;
        Ok(self.turn(tenant, bound, Some(place)).await)
    }

    /// Waits for a turn again, for who gave a permit back to go on with what it does later: before those of its tenant that
    /// begin. To be asked for by no more at once than somebody else bounds.
    pub(crate) async fn enter_again(self: &Arc<Self>, tenant: &TenantId, bound: u32) -> Permit {
        self.turn(tenant, bound, None).await
    }

    /// A permit, if it is a call's turn now.
    fn at_once(
        self: &Arc<Self>,
        state: &mut State,
        tenant: &TenantId,
        bound: u32,
        is_returning: bool,
    ) -> Option<Permit> {
        let mut line = state.tenants.remove(tenant).unwrap_or_default();
        line.bound = usize::try_from(bound.max(1)).unwrap_or(usize::MAX);
        let is_next = line.returning.is_empty() && (is_returning || line.waiting.is_empty());
        let may_run = is_next && state.may_run(&line);
        if may_run {
            line.running += 1;
            state.free -= 1;
        }
        if !line.is_idle() {
            state.tenants.insert(tenant.clone(), line);
        }
        may_run.then(|| Permit { admission: self.clone(), tenant: tenant.clone() })
    }

    /// Waits for a turn; who has no place in the queue returns.
    async fn turn(self: &Arc<Self>, tenant: &TenantId, bound: u32, place: Option<Share>) -> Permit {
        let receiver = {
            let mut state = self.lock();
            let is_returning = place.is_none();
            if let Some(permit) = self.at_once(&mut state, tenant, bound, is_returning) {
                return permit;
            }
            let state = &mut *state;
            let line = state.tenants.entry(tenant.clone()).or_default();
            line.bound = usize::try_from(bound.max(1)).unwrap_or(usize::MAX);
            if line.is_nobody_waiting() {
                state.turns.push_back(tenant.clone());
            }
            let (to, receiver) = oneshot::channel();
            let queue = if is_returning { &mut line.returning } else { &mut line.waiting };
            queue.push_back(Waiter { to, _place: place });
            state.queued += 1;
            receiver
        };
        let mut place = Place { admission: self, tenant, receiver, answered: false };
        let answer = (&mut place.receiver).await;
        place.answered = true;
        answer.expect("a place in the queue is answered or outlives the admission")
    }

    /// What keeps a tenant's calls waiting now: its own bound, or the slots of all.
    pub(crate) fn holds_up(&self, tenant: &TenantId) -> Full {
        match self.lock().tenants.get(tenant) {
            Some(line) if line.running >= line.bound => Full::Own,
            _ => Full::All,
        }
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
            // Who had a slot comes after those that had none: a crowd delays others by what it runs, not by one more.
            if state.turns.front() == Some(tenant) {
                state.turns.rotate_left(1);
            }
            // Each tenant in the round is looked at once; one that is at its own bound keeps its place.
            for _ in 0..state.turns.len() {
                if state.free == 0 {
                    break;
                }
                let Some(turn) = state.turns.pop_front() else { break };
                let Some(mut line) = state.tenants.remove(&turn) else { continue };
                if state.may_run(&line) {
                    while let Some(waiter) = line.returning.pop_front().or_else(|| line.waiting.pop_front()) {
                        state.queued -= 1;
                        if !waiter.to.is_closed() {
                            line.running += 1;
                            state.free -= 1;
                            offers.push((waiter, Permit { admission: self.clone(), tenant: turn.clone() }));
                            break;
                        }
                    }
                }
                if !line.is_nobody_waiting() {
                    state.turns.push_back(turn.clone());
                }
                state.tenants.insert(turn, line);
            }
            if state.tenants.get(tenant).is_some_and(Line::is_idle) {
                state.tenants.remove(tenant);
            }
        }
        // Outside the lock: an offer that nobody takes drops its permit, which comes back here.
        for (waiter, permit) in offers {
            drop(waiter.to.send(permit));
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
        let before = line.waiting.len() + line.returning.len();
        line.waiting.retain(|waiter| !waiter.to.is_closed());
        line.returning.retain(|waiter| !waiter.to.is_closed());
        state.queued -= before - line.waiting.len() - line.returning.len();
        if line.is_nobody_waiting() {
            state.turns.retain(|turn| turn != self.tenant);
            if line.is_idle() {
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
        let admission = Admission::new(1, Pot::divided(100));
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
        assert_eq!(*order.lock().unwrap(), ["guest", "crowd", "crowd", "crowd"]);
        assert_eq!(admission.counts(), (0, 0));
    }

    #[tokio::test]
    async fn a_tenants_own_bound_holds_and_a_place_given_up_is_free_again() {
        let admission = Admission::new(4, Pot::divided(2));
        let held = admission.enter(&tenant("a"), 1).await.unwrap();
        let name = tenant("a");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), admission.enter(&name, 1));
        assert!(waiting.await.is_err());
        assert_eq!(admission.counts(), (1, 0));
        assert_eq!((admission.holds_up(&name), admission.holds_up(&tenant("b"))), (Full::Own, Full::All));
        let other = admission.enter(&tenant("b"), 1).await.unwrap();
        drop((held, other));
        assert_eq!(admission.counts(), (0, 0));
        drop(admission.enter(&tenant("a"), 1).await.unwrap());
    }

    /// So many who wait for a turn, each asked for once.
    async fn wait(admission: &Arc<Admission>, name: &'static str, many: usize) -> Vec<tokio::task::JoinHandle<bool>> {
        let mut waiting = Vec::new();
        for _ in 0..many {
            let admission = admission.clone();
            waiting.push(tokio::spawn(async move { admission.enter(&tenant(name), 1_000).await.is_ok() }));
            tokio::task::yield_now().await;
        }
        waiting
    }

    #[tokio::test]
    async fn the_queue_itself_is_bounded_and_no_tenants_crowd_leaves_another_without_a_place() {
        let admission = Admission::new(1, Pot::divided(64));
        let held = admission.enter(&tenant("a"), 1).await.unwrap();
        let mut asked = wait(&admission, "a", 64).await;
        asked.extend(wait(&admission, "b", 64).await);
        assert_eq!(admission.counts(), (1, 24 + 12));
        asked.extend(wait(&admission, "c", 1).await);
        assert_eq!(admission.counts(), (1, 24 + 12 + 1));
        drop(held);
        let mut had_a_turn = 0;
        for one in asked {
            had_a_turn += usize::from(one.await.unwrap());
        }
        assert_eq!((had_a_turn, admission.counts(), admission.places.out()), (37, (0, 0), 0));
    }

    #[tokio::test]
    async fn tenants_that_take_all_the_slots_they_can_leave_some_for_others() {
        let admission = Admission::new(64, Pot::divided(1_000));
        let mut held = Vec::new();
        for name in ["a", "b"] {
            for _ in 0..28 {
                held.push(admission.enter(&tenant(name), 1_000).await.unwrap());
            }
        }
        let waiting = wait(&admission, "a", 1).await;
        assert_eq!(admission.counts(), (56, 1), "the rest is for others");
        for name in ["c", "d", "e", "f", "g", "h", "i", "j"] {
            held.push(admission.enter(&tenant(name), 1_000).await.unwrap());
        }
        assert_eq!(admission.counts(), (64, 1));
        drop(held);
        for one in waiting {
            assert!(one.await.unwrap());
        }
        assert_eq!(admission.counts(), (0, 0));
    }

    #[tokio::test]
    async fn who_returns_comes_before_those_of_its_tenant_that_begin_and_takes_turns_with_others() {
        let admission = Admission::new(1, Pot::divided(100));
        let first = admission.enter(&tenant("a"), 10).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (name, is_returning, what) in
            [("a", false, "a begins"), ("b", false, "b begins"), ("b", true, "b returns"), ("a", true, "a returns")]
        {
            let (admission, order) = (admission.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = match is_returning {
                    true => admission.enter_again(&tenant(name), 10).await,
                    false => admission.enter(&tenant(name), 10).await.unwrap(),
                };
                order.lock().unwrap().push(what);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["b returns", "a returns", "b begins", "a begins"]);
        assert_eq!(admission.counts(), (0, 0));
    }
}
