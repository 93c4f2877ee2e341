//! Turns for long reads, divided among tenants: so many at once, half of them a tenant, and whoever waits is served tenant by
//! tenant. The host's own reads are one tenant's.
//!
//! Invariant: what is out is what [`Turn`]s hold; one that is dropped, anywhere, goes to the next who waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ltmc_model::TenantId;
use tokio::sync::oneshot;

/// How many of a tenant's may wait.
const WAITING: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Turns {
    most: usize,
    most_each: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    out: usize,
    of: HashMap<TenantId, Of>,
    /// Tenants of whom somebody waits; the one that was not served for longest comes first.
    line: VecDeque<TenantId>,
}

#[derive(Debug, Default)]
struct Of {
    out: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Option<Arc<Turns>>,
    tenant: TenantId,
}

impl Turns {
    /// So many at once.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, most_each: most.div_ceil(2), state: Mutex::default() })
    }

    /// A turn of a tenant's, when it comes. None: too many of its wait.
    pub(crate) async fn take(self: &Arc<Self>, tenant: &TenantId) -> Option<Turn> {
        let coming = {
            let mut state = self.state();
            let State { out, of, line } = &mut *state;
            let of = of.entry(tenant.clone()).or_default();
            // Where there is a turn for anybody who waits, it was given already.
            if *out < self.most && of.out < self.most_each {
                (*out, of.out) = (*out + 1, of.out + 1);
                return Some(self.turn(tenant));
            }
            of.waiting.retain(|waiting| !waiting.is_closed());
            if of.waiting.len() >= WAITING {
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
        Turn { turns: Some(self.clone()), tenant: tenant.clone() }
    }

    fn give_back(self: &Arc<Self>, tenant: &TenantId) {
        let mut state = self.state();
        let State { out, of, line } = &mut *state;
        *out -= 1;
        if let Some(of) = of.get_mut(tenant) {
            of.out -= 1;
        }
        while *out < self.most {
            let has_room = |tenant: &TenantId| of.get(tenant).is_none_or(|of| of.out < self.most_each);
            let Some(next) = line.iter().position(has_room).and_then(|place| line.remove(place)) else { break };
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
        of.retain(|_, of| of.out > 0 || !of.waiting.is_empty());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.give_back(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_for_tests::*;

    use super::*;

    /// The little that is needed to look at what waits without waiting.
    mod futures_for_tests {
        use std::pin::Pin;
        use std::task::{Context, Poll, Waker};

        pub(super) fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            }
        }
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn a_tenant_has_half_and_who_waits_is_served_tenant_by_tenant() {
        let (turns, acme, beta, gamma) = (Turns::new(4), tenant("acme"), tenant("beta"), tenant("gamma"));
        let ask = |of: &TenantId| {
            let (turns, of) = (turns.clone(), of.clone());
            Box::pin(async move { turns.take(&of).await })
        };
        let now = |of: &TenantId| poll(&mut ask(of)).flatten();
        let first = (now(&acme).unwrap(), now(&acme).unwrap());
        let mut waiting: Vec<_> = (0..5).map(|_| ask(&acme)).collect();
        assert!(waiting.iter_mut().all(|one| poll(one).is_none()), "a tenant has half of the turns");
        let others = (now(&beta).expect("the other half is there"), now(&gamma).unwrap());
        let (mut of_beta, mut of_gamma) = (ask(&beta), ask(&gamma));
        assert!(poll(&mut of_beta).is_none() && poll(&mut of_gamma).is_none());
        drop(first);
        let served = waiting.iter_mut().filter_map(poll).flatten().collect::<Vec<_>>();
        let beta_has = poll(&mut of_beta).flatten();
        assert!(served.len() == 1 && beta_has.is_some(), "one each, though five of acme's came before");
        drop(served);
        assert!(poll(&mut of_gamma).flatten().is_some(), "then the third");
        drop((others, beta_has));
        drop((waiting, of_beta, of_gamma));
        assert!(now(&acme).is_some());
        let state = turns.state();
        assert_eq!((state.out, state.of.len(), state.line.len()), (0, 0, 0), "whoever went away has nothing of it");
    }
}
