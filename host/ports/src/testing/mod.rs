//! In-memory adapters, and one contract suite per port that every adapter passes.
//!
//! Invariants: nothing here needs more than the ports do. The in-memory record keeps the same promises as a store on disk,
//! what a crash leaves of it included. [`crate::contract`] makes a test of every case of every suite. What a host needs to run over
//! memory is there with the feature `in-memory` already; whatever is for tests alone needs `testing`.
//!
//! To add a case: a function in its port's file under `suite/`, and its name in [`crate::contract`].

mod clock;
pub mod context;
#[cfg(feature = "testing")]
mod faulty;
mod items;
mod notes;
mod purge;
mod questions;
mod record;
#[cfg(feature = "testing")]
pub mod sample;
mod sessions;
mod shelf;
#[cfg(feature = "testing")]
mod slow;
mod states;
mod subscriptions;
#[cfg(feature = "testing")]
pub mod suite;
mod tables;
mod triggers;
#[cfg(feature = "testing")]
mod vectors;

pub use clock::{ManualClock, SeededEntropy};
#[cfg(feature = "testing")]
pub use faulty::{Fault, Faulty};
pub use record::MemoryRecord;
pub use shelf::NoShelf;
#[cfg(feature = "testing")]
pub use slow::Slow;
#[cfg(feature = "testing")]
pub use vectors::MemoryVectors;
