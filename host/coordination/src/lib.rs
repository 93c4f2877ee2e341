//! The use cases over a tenant's own things, and the crossing.
//!
//! - [`crossing`]: a guest's way to the host; [`context`]: what its calls on shared context come to, with a file for each
//!   part: [`memory`], [`graph`], [`recall`], [`messages`] with their [`news`]; [`clients`]: the same for clients
//! - [`following`]: leads databases after the record; [`repair`]: puts them right; [`feed`]: shows changes to those who watch
//! - [`access`], [`agents`], [`authority`], [`pins`]: tenants and keys, agents, who may, components in use
//! - [`tasks`]: what clients asked for is done to its end; `generations`: until when what was read of a catalog is good
//!
//! Invariants: a use case takes `&Caller` first and asks `policy` before anything else; every host call of a guest goes
//! through [`crossing::Crossing`]. To add a use case: a method on the noun it is about; one that changes anything does so in
//! [`Authority::perform`], whichever door it is reached by.

pub mod access;
pub mod agents;
pub mod authority;
pub mod clients;
pub mod context;
pub mod crossing;
pub mod error;
pub mod feed;
pub mod following;
mod generations;
pub mod graph;
mod graph_overlay;
pub mod handed;
pub mod locks;
pub mod memory;
pub mod messages;
mod news;
pub mod pins;
pub mod recall;
pub mod repair;
pub mod tasks;
pub mod transaction;

pub use access::Access;
pub use agents::Agents;
pub use authority::Authority;
pub use clients::Clients;
pub use context::Context;
pub use crossing::Crossing;
pub use error::Error;
pub use feed::Feeds;
pub use following::Follower;
pub use graph::Graph;
pub use handed::Handed;
pub use locks::Locks;
pub use memory::Memory;
pub use messages::Messages;
pub use pins::Pins;
pub use recall::Recall;
pub use repair::Repairs;
pub use tasks::Tasks;
