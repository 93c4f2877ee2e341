//! The use cases over a tenant's own things, and the crossing.
//!
//! Invariants: a use case takes `&Caller` first and asks `policy` before anything else; every host call of a guest goes
//! through [`crossing::Crossing`]. To add a use case: a method on the noun it is about.

pub mod access;
pub mod agents;
pub mod authority;
pub mod crossing;
pub mod error;
pub mod memory;
pub mod pins;

pub use access::Access;
pub use agents::Agents;
pub use authority::Authority;
pub use crossing::Crossing;
pub use error::Error;
pub use memory::Memory;
pub use pins::Pins;
