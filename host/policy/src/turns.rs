//! Turns, divided among tenants: so many at once, for what is short enough to be waited for.
//!
//! The rule: a tenant that has none takes any that is free. One that has some has half of them at most, and leaves a quarter, one
//! at least, to those that have none. So of six a tenant has three, and three others one each. Whoever waits is served tenant by
//! tenant; where turns are [charged](Turn::charge) by what they cost, first whose have cost the least since somebody began to wait. The host's own is one tenant's.
//!
//! It is not the rule of a [pot](crate::pot), which refuses: a tenant alone would have one of four.
//!
//! Invariant: what is out is what [`Turn`]s hold; one that is dropped, anywhere, goes to the next who waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ltmc_model::TenantId;
use tokio::sync::oneshot;

/// So many turns.
#[derive(Debug)]
pub struct Turns {
    most: usize,
    /// How many of a tenant's may wait.
    waiting: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    out: usize,
    of: HashMap<TenantId, Of>,
    /// Tenants of whom somebody waits; the one that was not served for longest comes first.
    line: VecDeque<TenantId>,
    /// What tenants' turns have cost, as far as it is more than what those had cost of whoever was served last.
    cost: HashMap<TenantId, u64>,
    /// That: whoever waited for nothing before has no credit for it.
    served: u64,
}

impl State {
    /// What a tenant's turns have cost, for whoever compares.
    fn cost_of(&self, tenant: &TenantId) -> u64 {
        self.cost.get(tenant).copied().unwrap_or(0).max(self.served)
    }

    /// The place in line of whoever is next among those who may: whose turns have cost the least, of several who came first.
    fn next(&self, may: impl Fn(&TenantId) -> bool) -> Option<usize> {
        let waiting = self.line.iter().enumerate().filter(|(_, tenant)| may(tenant));
        waiting.min_by_key(|(place, tenant)| (self.cost_of(tenant), *place)).map(|(place, _)| place)
    }
}

#[derive(Debug, Default)]
struct Of {
    out: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Option<Arc<Turns>>,
    tenant: TenantId,
    cost: u64,
}

impl Turn {
    /// What was done in it cost so much, in whatever unit all that is done in these turns is charged by.
    pub fn charge(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
    }
}

impl Turns {
    /// So many at once; so many of each tenant's may wait.
    pub fn new(most: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self { most, waiting, state: Mutex::default() })
    }

    /// The rule: whether a tenant that has `own` may have another where `out` are out.
    fn allow(&self, out: usize, own: usize) -> bool {
        let left = self.most.saturating_sub(out);
        match own {
            0 => left > 0,
            _ => own < self.most / 2 && left > self.most.div_ceil(4),
        }
    }

    /// A turn of a tenant's, when it comes. None: too many of its wait.
    pub async fn take(self: &Arc<Self>, tenant: &TenantId) -> Option<Turn> {
        let coming = {
            let mut state = self.state();
            let State { out, of, line, .. } = &mut *state;
            let of = of.entry(tenant.clone()).or_default();
            // Where there is a turn for anybody who waits, it was given already.
            if self.allow(*out, of.out) {
                (*out, of.out) = (*out + 1, of.out + 1);
                return Some(self.turn(tenant));
            }
            of.waiting.retain(|waiting| !waiting.is_closed());
            if of.waiting.len() >= self.waiting {
                return None;
            }
            let (turn, coming) = oneshot::channel();
            of.waiting.push_back(turn);
            if !line.contains(tenant) {
                line.push_back(tenant.clone());
            }
            coming
        };
        coming.await.ok()
    }

    fn turn(self: &Arc<Self>, tenant: &TenantId) -> Turn {
        Turn { turns: Some(self.clone()), tenant: tenant.clone(), cost: 0 }
    }

    fn give_back(self: &Arc<Self>, tenant: &TenantId, cost: u64) {
        let mut state = self.state();
        state.out -= 1;
        if let Some(of) = state.of.get_mut(tenant) {
            of.out -= 1;
        }
        if cost > 0 {
            let cost = state.cost_of(tenant).saturating_add(cost);
            state.cost.insert(tenant.clone(), cost);
        }
        loop {
            let may = |tenant: &TenantId| self.allow(state.out, state.of.get(tenant).map_or(0, |of| of.out));
            let Some(place) = state.next(may) else { break };
            let Some(next) = state.line.remove(place) else { break };
            state.served = state.cost_of(&next);
            let State { out, of, line, .. } = &mut *state;
            let Some(served) = of.get_mut(&next) else { continue };
            while let Some(waiting) = served.waiting.pop_front() {
                match waiting.send(self.turn(&next)) {
                    Ok(()) => {
                        (*out, served.out) = (*out + 1, served.out + 1);
                        break;
                    }
                    // It does not wait any more; the turn was never out.
                    Err(mut turn) => turn.turns = None,
                }
            }
            if !served.waiting.is_empty() {
                line.push_back(next);
            }
        }
        let State { out, of, line, cost, served } = &mut *state;
        of.retain(|_, of| of.out > 0 || !of.waiting.is_empty());
        // Where nobody has a turn nobody waits: what they cost is no matter any more.
        if *out == 0 && line.is_empty() {
            (*cost, *served) = (HashMap::new(), 0);
        }
        cost.retain(|_, cost| *cost > *served);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.give_back(&self.tenant, self.cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Looks at what waits without waiting.
    fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    /// What asks for a turn, and is not waited for.
    fn ask(turns: &Arc<Turns>, of: &TenantId) -> Pin<Box<dyn Future<Output = Option<Turn>>>> {
        let (turns, of) = (turns.clone(), of.clone());
        Box::pin(async move { turns.take(&of).await })
    }

    fn now(turns: &Arc<Turns>, of: &TenantId) -> Option<Turn> {
        poll(&mut ask(turns, of)).flatten()
    }

    #[test]
    fn whatever_two_tenants_take_there_is_a_turn_for_a_third_and_a_fourth() {
        let (turns, names) = (Turns::new(6, 8), ["a", "b", "c", "d", "e"].map(tenant));
        let taken = names.each_ref().map(|name| std::iter::from_fn(|| now(&turns, name)).collect::<Vec<_>>());
        assert_eq!(taken.each_ref().map(Vec::len), [3, 1, 1, 1, 0]);
        let mut last = ask(&turns, &names[4]);
        assert!(poll(&mut last).is_none());
        let [of_a, ..] = taken;
        drop(of_a);
        assert!(poll(&mut last).flatten().is_some());
        for (most, each) in [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (4, [2, 1, 1]), (8, [4, 2, 1])] {
            let turns = Turns::new(most, 8);
            let taken =
                ["a", "b", "c"].map(tenant).map(|name| std::iter::from_fn(|| now(&turns, &name)).collect::<Vec<_>>());
            assert_eq!(taken.map(|taken| taken.len()), each, "of {most}");
        }
    }

    #[test]
    fn who_waits_is_served_tenant_by_tenant_and_no_more_wait_than_may() {
        let (turns, acme, beta, gamma) = (Turns::new(4, 5), tenant("acme"), tenant("beta"), tenant("gamma"));
        let first = (now(&turns, &acme).unwrap(), now(&turns, &acme).unwrap());
        let mut waiting: Vec<_> = (0..5).map(|_| ask(&turns, &acme)).collect();
        assert!(waiting.iter_mut().all(|one| poll(one).is_none()), "a tenant has half of the turns");
        assert!(poll(&mut ask(&turns, &acme)).unwrap().is_none(), "a sixth does not wait");
        let others = (now(&turns, &beta).unwrap(), now(&turns, &gamma).unwrap());
        let (mut of_beta, mut of_gamma) = (ask(&turns, &beta), ask(&turns, &gamma));
        assert!(poll(&mut of_beta).is_none() && poll(&mut of_gamma).is_none());
        drop(first);
        let served = waiting.iter_mut().filter_map(poll).flatten().collect::<Vec<_>>();
        assert_eq!(served.len(), 1, "it has none now; the last is for who has none either");
        assert!(poll(&mut of_beta).is_none());
        drop(others.0);
        assert!(poll(&mut of_beta).flatten().is_some(), "before four of acme's that came before");
        drop(others.1);
        assert!(poll(&mut of_gamma).flatten().is_some());
        drop(served);
        drop((waiting, of_beta, of_gamma));
        assert!(now(&turns, &acme).is_some());
        let state = turns.state();
        assert_eq!((state.out, state.of.len(), state.line.len()), (0, 0, 0), "whoever went away has nothing of it");
    }

    #[test]
    fn who_was_served_waits_behind_all_others() {
        let (turns, names) = (Turns::new(1, 8), ["a", "b", "c"].map(tenant));
        let mut held = now(&turns, &names[0]);
        // Each has two that wait, and all of a's came before any of the others'.
        let mut waiting: Vec<_> = names.iter().flat_map(|of| [(of, ask(&turns, of)), (of, ask(&turns, of))]).collect();
        assert!(waiting.iter_mut().all(|(_, one)| poll(one).is_none()));
        let mut served = Vec::new();
        while held.take().is_some() {
            let next = waiting.iter_mut().position(|(_, one)| {
                poll(one).flatten().is_some_and(|turn| {
                    held = Some(turn);
                    true
                })
            });
            served.extend(next.map(|place| waiting.remove(place).0.as_str()));
        }
        assert_eq!(served, ["a", "b", "c", "a", "b", "c"]);
    }

    /// Three wait, and one of them has turns that cost ten times as much as the others': it has one where they have ten.
    #[test]
    fn whose_turns_cost_more_has_fewer_while_others_wait() {
        let (turns, [dear, one, other]) = (Turns::new(1, 64), ["dear", "one", "other"].map(tenant));
        let mut held = now(&turns, &dear).unwrap();
        let mut waiting: Vec<_> =
            [&dear, &one, &other].into_iter().flat_map(|of| [of; 30]).map(|of| (of, ask(&turns, of))).collect();
        assert!(waiting.iter_mut().all(|(_, one)| poll(one).is_none()));
        held.charge(10);
        let mut served = HashMap::<&str, u32>::new();
        for _ in 0..42 {
            drop(held);
            let next = waiting.iter_mut().enumerate().find_map(|(place, (_, one))| Some((place, poll(one)?.unwrap())));
            let (place, turn) = next.unwrap();
            held = turn;
            let (of, _) = waiting.remove(place);
            held.charge(if *of == dear { 10 } else { 1 });
            *served.entry(of.as_str()).or_default() += 1;
        }
        assert!((19..=21).contains(&served["one"]) && (19..=21).contains(&served["other"]), "{served:?}");
        assert!((1..=3).contains(&served["dear"]), "{served:?}");
        // Whoever comes now has no credit for having waited for nothing before.
        let late = tenant("late");
        let mut of_late: Vec<_> = (0..30).map(|_| ask(&turns, &late)).collect();
        assert!(of_late.iter_mut().all(|one| poll(one).is_none()));
        let mut in_a_row = 0;
        loop {
            drop(held);
            let Some(turn) = of_late.first_mut().and_then(poll) else { break };
            (held, in_a_row) = (turn.unwrap(), in_a_row + 1);
            held.charge(1);
            drop(of_late.remove(0));
        }
        assert!(in_a_row <= 3, "{in_a_row} in a row");
        drop((waiting, of_late));
        assert!(now(&turns, &dear).is_some());
        let state = turns.state();
        assert_eq!((state.out, state.cost.len(), state.served), (0, 0, 0), "nobody waits, and nothing is remembered");
    }
}
