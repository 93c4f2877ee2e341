//! A call's slot, which it gives back for as long as it waits and computes nothing, so that others can run meanwhile.
//!
//! Invariants: a guest's code runs only while its call has a slot. A call without one has a place among those that wait, of
//! which there are so many, and memory for so much; both are a [`Pot`]. Its wall time goes on all the while: what it waits
//! for, and for a slot to go on in.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ltmc_model::TenantId;
use ltmc_policy::Pot;
use ltmc_policy::pot::{Full, Share};

use crate::admission::{Admission, Permit, QueueFull};
use crate::meter::Meter;

/// A host call that takes this long is a wait, though nobody asked for one: of a file system, a lock, an endpoint.
const LONG: Duration = Duration::from_secs(1);

/// Who may run, and who may wait without a slot.
pub(crate) struct Slots {
    pub(crate) admission: Arc<Admission>,
    /// Calls that wait without a slot.
    pub(crate) waiting: Pot,
    /// Bytes of their linear memories.
    pub(crate) memory: Pot,
}

/// A call's slot.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    tenant: TenantId,
    bound: u32,
    meter: Arc<Meter>,
    state: Mutex<State>,
}

enum State {
    /// It has it.
    Runs { _permit: Permit },
    /// It gave it back.
    Waits,
    /// It is done with waiting, and waits for its turn.
    Returns,
    /// The call is over.
    Over,
}

/// A place among those that wait.
struct Place {
    _call: Share,
    _memory: Share,
}

/// There is no place for another call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", match .0 {
    Full::Own => "its tenant has as many calls that wait (for messages, for changes, for time to pass) as one may have, or as \
                  much memory in them: wait for shorter, or in fewer calls",
    Full::All => "as many calls wait (for messages, for changes, for time to pass) as there is room for: try again later",
})]
pub(crate) struct Crowded(pub(crate) Full);

impl Slots {
    /// Waits for a slot for a call. Its slot is free again when what comes of this is dropped.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        tenant: &TenantId,
        bound: u32,
        meter: &Arc<Meter>,
    ) -> Result<Entered, QueueFull> {
        let permit = self.admission.enter(tenant, bound).await?;
        let state = Mutex::new(State::Runs { _permit: permit });
        Ok(Entered(Arc::new(Slot { slots: self.clone(), tenant: tenant.clone(), bound, meter: meter.clone(), state })))
    }
}

/// A call that was admitted, until it is over.
pub(crate) struct Entered(Arc<Slot>);

impl Entered {
    /// Its slot, for what belongs to the guest.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.set(State::Over);
    }
}

impl Slot {
    /// Waits for what the guest asked to wait for. What is there at once costs no turn.
    ///
    /// # Errors
    /// Where it would wait, and there is no place for another that does.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Crowded> {
        let mut work = pin!(work);
        match once(work.as_mut()).await {
            Some(done) => Ok(done),
            None => Ok(self.wait_in(self.place()?, work).await),
        }
    }

    /// The same for work that changes something before it waits: it is not begun where there is no place to wait in.
    ///
    /// # Errors
    /// Where there is no place for another that waits.
    pub(crate) async fn wait_or_not_begin<T>(&self, work: impl Future<Output = T>) -> Result<T, Crowded> {
        let (place, mut work) = (self.place()?, pin!(work));
        match once(work.as_mut()).await {
            Some(done) => Ok(done),
            None => Ok(self.wait_in(place, work).await),
        }
    }

    /// Waits for what the host does for the guest: where that takes long the slot is given back, if there is a place for
    /// another that waits.
    pub(crate) async fn wait_if_long<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(done) = once(work.as_mut()).await {
            return done;
        }
        if let Ok(done) = tokio::time::timeout(LONG, work.as_mut()).await {
            return done;
        }
        match self.place() {
            Ok(place) => self.wait_in(place, work).await,
            Err(Crowded(_)) => work.await,
        }
    }

    /// What the call uses.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether it has waited for what it wanted, and now waits for its turn.
    pub(crate) fn returns(&self) -> bool {
        matches!(*self.lock(), State::Returns)
    }

    /// A place to wait in without a slot.
    fn place(&self) -> Result<Place, Crowded> {
        let call = self.slots.waiting.take(&self.tenant, 1).map_err(Crowded)?;
        let memory = self.slots.memory.take(&self.tenant, self.meter.memory() as u64).map_err(Crowded)?;
        Ok(Place { _call: call, _memory: memory })
    }

    /// Waits there, and then for a slot to go on in.
    async fn wait_in<T>(&self, place: Place, work: impl Future<Output = T>) -> T {
        self.set(State::Waits);
        let done = work.await;
        self.set(State::Returns);
        let permit = self.slots.admission.enter_again(&self.tenant, self.bound).await;
        self.set(State::Runs { _permit: permit });
        drop(place);
        done
    }

    fn set(&self, state: State) {
        let before = {
            let mut now = self.lock();
            // Nothing that belongs to the guest outlasts its call.
            if matches!(*now, State::Over) { state } else { std::mem::replace(&mut *now, state) }
        };
        // Outside the lock: a permit that is dropped lets others in.
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls it once.
async fn once<F: Future>(mut work: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match work.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}
