//! In-memory adapters, and one contract suite per port that every adapter passes.
//!
//! Invariants: nothing here needs more than the ports do. The in-memory record keeps the same promises as a store on disk,
//! what a crash leaves of it included. [`crate::contract`] makes a test of every case of every suite.
//!
//! To add a case: a function in its port's file under `suite/`, and its name in [`crate::contract`].

mod clock;
pub mod context;
mod faulty;
mod questions;
mod record;
pub mod sample;
mod slow;
mod subscriptions;
pub mod suite;
mod tables;
mod vectors;

pub use clock::{ManualClock, SeededEntropy};
pub use faulty::{Fault, Faulty};
pub use record::MemoryRecord;
pub use slow::Slow;
pub use vectors::MemoryVectors;
