//! Limits of one instance, and the breach that ends it. A breach is an error that travels through wasmtime; `ending.rs`
//! turns it into the failure that the client reads.

use std::sync::Arc;

use ltmc_policy::pot::{Full, Share};
use wasmtime::ResourceLimiter;

use crate::engine::MAX_TABLE_ELEMENTS;
use crate::meter::Meter;

/// Handles one instance can hold on the host's side.
pub(crate) const MAX_HANDLES: usize = 1_024;
/// Random bytes one call of WASI can ask for.
pub(crate) const MAX_RANDOM: u64 = 1 << 20;
/// Bytes of standard error that are kept as log lines.
pub(crate) const MAX_STDERR: usize = 64 << 10;

/// What a guest did too much of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error("it used more than its CPU time")]
    Cpu,
    #[error("it asked for {wanted} bytes of memory; its limit is {limit}")]
    Memory { wanted: usize, limit: usize },
    #[error("there is no memory for it at the moment")]
    NoMemory(Full),
    #[error("it asked for a table of {wanted} elements; the limit is {MAX_TABLE_ELEMENTS}")]
    Table { wanted: usize },
    #[error("it wrote more than {limit} bytes to standard output")]
    Output { limit: usize },
}

/// So much at once is taken of the memory that calls share.
const PIECE: u64 = 1 << 20;

/// Counts the memory of all of an instance's memories together.
pub(crate) struct Limiter {
    limit: usize,
    meter: Arc<Meter>,
    share: Share,
    taken: u64,
}

impl Limiter {
    /// So much of its own, as far as there is so much of what `share` is of.
    pub(crate) fn new(memory: u64, meter: Arc<Meter>, share: Share) -> Self {
        Self { limit: usize::try_from(memory).unwrap_or(usize::MAX), meter, share, taken: 0 }
    }

    /// Takes what is wanted of the memory that calls share.
    fn take(&mut self, wanted: usize) -> Result<(), Breach> {
        let wanted = (wanted as u64).next_multiple_of(PIECE);
        if let Some(more) = wanted.checked_sub(self.taken).filter(|more| *more > 0) {
            self.share.take_more(more).map_err(Breach::NoMemory)?;
            self.taken = wanted;
        }
        Ok(())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.meter.memory().saturating_add(desired.saturating_sub(current));
        if wanted > self.limit {
            return Err(Breach::Memory { wanted, limit: self.limit }.into());
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // the component's own bound: it asked for this answer
        }
        self.take(wanted)?;
        self.meter.grown(wanted);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS { Err(Breach::Table { wanted: desired }.into()) } else { Ok(true) }
    }
}
