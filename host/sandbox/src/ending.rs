//! How an attempt ended badly: whatever wasmtime reports, as the failure a client reads.

use std::time::Duration;

use ltmc_model::failure::{Code, Failure};
use ltmc_policy::pot::Full;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use crate::guest::Guest;
use crate::limits::{Breach, MAX_HANDLES, MAX_RANDOM};

/// The gate ended the attempt; why stands in the guest.
#[derive(Debug, thiserror::Error)]
#[error("the host ended the attempt")]
pub(crate) struct Stopped;

/// A call that did not return.
pub(crate) fn of(
    error: &wasmtime::Error,
    guest: Option<&Guest>,
    limits: &ltmc_model::limits::Limits,
    stderr: &[u8],
) -> Failure {
    if let Some(failure) = guest.and_then(|guest| guest.stopped.clone()) {
        return failure;
    }
    if let Some(breach) = error.downcast_ref::<Breach>() {
        return breached(breach, limits);
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Failure::new(Code::AgentTrapped, format!("it ended itself with exit status {}", exit.0));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Failure::new(Code::LimitResources, format!("it holds {MAX_HANDLES} handles, and asked for another"));
    }
    if let Some(short) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        // The pool is sized so that this does not happen; should it, the guest has not done anything wrong.
        tracing::error!(error = %short, "the pool of instances has less than what calls were admitted for");
        let message = "the host is busy: there is no room for another instance at the moment; try again later";
        return Failure::new(Code::Busy, message).retryable();
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return trapped(*trap, stderr);
    }
    // These two have no type of their own in wasmtime.
    let text = format!("{error:#}");
    if text.contains("too much data is being copied") {
        let limit = limits.output;
        return Failure::new(
            Code::LimitOutput,
            format!("it passed more in one piece than its output limit, {limit} bytes"),
        );
    }
    if text.contains("exceeds limit") {
        return Failure::new(Code::LimitResources, format!("it asked for more than {MAX_RANDOM} random bytes at once"));
    }
    // What comes before the cause is a backtrace of the guest.
    let cause = error.root_cause().to_string();
    Failure::new(Code::AgentTrapped, format!("it broke the contract: {}", &cause[..cause.floor_char_boundary(500)]))
}

fn breached(breach: &Breach, limits: &ltmc_model::limits::Limits) -> Failure {
    match breach {
        Breach::Cpu => cpu(limits.cpu),
        Breach::Memory { .. } | Breach::Table { .. } => Failure::new(Code::LimitMemory, breach.to_string()),
        Breach::NoMemory(full) => {
            let whose = match full {
                Full::Own => "its tenant's calls have as much memory as one tenant's may: make fewer at once",
                Full::All => "the calls that run have all the memory there is for them: try again later",
            };
            Failure::new(Code::Busy, format!("the host is busy: {whose}")).retryable()
        }
        Breach::Output { .. } => Failure::new(Code::LimitOutput, breach.to_string()),
    }
}

fn trapped(trap: Trap, stderr: &[u8]) -> Failure {
    let what = match trap {
        Trap::UnreachableCodeReached => "it panicked or aborted".to_owned(),
        Trap::StackOverflow => "its stack overflowed".to_owned(),
        Trap::MemoryOutOfBounds => "it reached outside its memory (its stack may have overflowed)".to_owned(),
        other => format!("it trapped: {other}"),
    };
    let said = String::from_utf8_lossy(stderr);
    let said = said.trim();
    let said = &said[said.ceil_char_boundary(said.len().saturating_sub(500))..];
    Failure::new(Code::AgentTrapped, if said.is_empty() { what } else { format!("{what}: {said}") })
}

fn cpu(limit: Duration) -> Failure {
    Failure::new(Code::LimitCpu, format!("it used more than its CPU time, {limit:?}"))
}

/// A call that took too long by the clock on the wall.
pub(crate) fn wall(limit: Duration) -> Failure {
    Failure::new(Code::LimitWall, format!("it took longer than its wall time, {limit:?}"))
}
