//! A call's slot, which it gives back for as long as it waits and computes nothing, so that others can run meanwhile.
//!
//! Invariants: a guest's code runs only while its call has a slot. A call without one has a place among those that wait, of
//! which there are so many, and memory for so much; both are a [`Pot`]. Where there is no place it waits in its slot, of which
//! [`Admission`] leaves others theirs. Its wall time goes on all the while: what it waits for, and for a slot to go on in.

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

/// So often a call that waits in its slot looks for a place to wait in without it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who may run, and who may wait without a slot.
pub(crate) struct Slots {
    pub(crate) admission: Arc<Admission>,
    /// Calls that wait without a slot.
    pub(crate) waiting: Pot,
    /// Bytes of their linear memories.
    pub(crate) waiting_memory: Pot,
    /// Bytes of the linear memories of all calls, at work or waiting.
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
    /// Waits for what the guest asked to wait for: without the slot, if there is a place to. What is there at once costs no turn.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        match once(work.as_mut()).await {
            Some(done) => done,
            None => self.wait_aside(work).await,
        }
    }

    /// Waits for what the host does for the guest: where that takes long it is a wait like any other.
    pub(crate) async fn wait_if_long<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(done) = once(work.as_mut()).await {
            return done;
        }
        match tokio::time::timeout(LONG, work.as_mut()).await {
            Ok(done) => done,
            Err(_) => self.wait_aside(work).await,
        }
    }

    /// Its part of the memory that calls share, with nothing in it yet.
    pub(crate) fn memory(&self) -> Share {
        self.slots.memory.share(&self.tenant)
    }

    /// What the call uses.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether it has waited for what it wanted, and now waits for its turn.
    pub(crate) fn returns(&self) -> bool {
        matches!(*self.lock(), State::Returns)
    }

    /// Waits without the slot, from when there is a place to; until then with it.
    async fn wait_aside<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> T {
        loop {
            if let Ok(place) = self.place() {
                return self.wait_in(place, work).await;
            }
            if let Ok(done) = tokio::time::timeout(LOOK_AGAIN, work.as_mut()).await {
                return done;
            }
        }
    }

    /// A place to wait in without a slot.
    fn place(&self) -> Result<Place, Full> {
        let call = self.slots.waiting.take(&self.tenant, 1)?;
        let memory = self.slots.waiting_memory.take(&self.tenant, self.meter.memory() as u64)?;
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
