//! The host's side of every interface: convert, bound, cross; nothing else. A line here links an interface, and what it
//! needs and how it replays stands in `ltmc_model::call`, through which alone it can reach anything.

mod attempt;
mod coordination;
mod graph;
pub(crate) mod log;
pub(crate) mod memory;
mod messages;
mod poll;
mod recall;
mod session;
mod state;

use ltmc_model::call::HostCall;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::Failure;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::ltmc::agent as wit;
use crate::ending::Stopped;
use crate::guest::Guest;

pub(crate) use poll::Polls;

/// Links everything a component may import: whether it is granted is asked at each call.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    crate::files::link(linker)?;
    poll::link(linker)?;
    wit::types::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::attempt::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::memory::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::graph::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::recall::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::messages::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::coordination::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::session::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::state::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    wit::log::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    Ok(())
}

impl wit::types::Host for Guest {}

/// What a function answers: the outer error ends the attempt, the inner one is the guest's to live with.
type Answered<T> = wasmtime::Result<Result<T, wit::types::Error>>;

impl Guest {
    /// The same as [`Self::cross`], for a call whose arguments may be none: nothing is asked of the gate then.
    async fn cross_checked<C: HostCall>(&mut self, call: Result<C, String>) -> Answered<C::Reply> {
        match call {
            Ok(call) => self.cross(call).await,
            Err(why) => Ok(Err(wit::types::Error::Invalid(why))),
        }
    }

    /// The same, for a call that may ask to wait for so many milliseconds: if it does, without a slot meanwhile.
    async fn cross_waiting<C: HostCall>(&mut self, call: Result<C, String>, wait_ms: u64) -> Answered<C::Reply> {
        match call {
            Ok(call) if wait_ms > 0 => self.cross_aside(call).await,
            call => self.cross_checked(call).await,
        }
    }

    /// The same, for a call that waits for others: without a slot meanwhile.
    async fn cross_aside<C: HostCall>(&mut self, call: C) -> Answered<C::Reply> {
        self.meter.called();
        let answer = self.slot.wait(self.gate.call(call)).await;
        self.answered(answer)
    }

    /// The one way out: every interface's every function ends here, or in the one above.
    async fn cross<C: HostCall>(&mut self, call: C) -> Answered<C::Reply> {
        self.meter.called();
        let answer = self.slot.wait_if_long(self.gate.call(call)).await;
        self.answered(answer)
    }

    fn answered<T>(&mut self, answer: Result<Result<T, Refusal>, Failure>) -> Answered<T> {
        match answer {
            Ok(answer) => Ok(answer.map_err(refusal)),
            Err(failure) => {
                self.stopped = Some(failure);
                Err(Stopped.into())
            }
        }
    }
}

fn refusal(refusal: Refusal) -> wit::types::Error {
    use wit::types::{Busy, Error};
    match refusal {
        Refusal::Denied(capability) => Error::AccessDenied(capability.to_string()),
        Refusal::Conflict(current) => Error::Conflict(current.map(|revision| revision.0)),
        Refusal::NotFound => Error::NotFound,
        Refusal::Resync(at) => Error::Resync(at.0),
        Refusal::Quota(which) => Error::QuotaExceeded(which),
        Refusal::Invalid(why) => Error::Invalid(why),
        Refusal::Unavailable { message, retry_after_ms } => Error::Unavailable(Busy { message, retry_after_ms }),
    }
}
