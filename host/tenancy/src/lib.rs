//! Tenants and what is theirs: keys, agents, grants, ceilings; who may do what, and what clients asked for done to its end.
//!
//! - [`Access`]: tenants, keys, ceilings; [`Agents`]: components pushed and granted; [`Pins`]: which of them are in use
//! - [`Authority`]: who may, and what is in force; what it remembers is good for one of the `generations` of a catalog
//! - [`Read`]: reads that the audit tells of, counted by the hour
//! - [`Tasks`]: changes survive the client that asked for them
//! - [`Pot`]: what tenants share, divided among them; [`Compute`]: threads for what takes long
//! - [`Error`]: how a use case of any crate fails
//!
//! Invariants: a use case takes `&Caller` first and asks `policy` before anything else. To add a use case: a method on the noun
//! it is about; one that changes anything does so in [`Authority::perform`], whichever door it is reached by.

pub mod access;
pub mod agents;
mod authority;
pub mod compute;
pub mod deletions;
pub mod error;
mod generations;
pub mod pins;
mod reads;
mod tasks;

pub use access::Access;
pub use agents::Agents;
pub use authority::Authority;
pub use compute::Compute;
pub use deletions::{Deletions, Holds};
pub use error::Error;
pub use ltmc_policy::Turns;
pub use ltmc_policy::pot::{self, Pot};
pub use pins::Pins;
pub use reads::Read;
pub use tasks::Tasks;
