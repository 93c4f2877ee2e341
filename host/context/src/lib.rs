//! Shared context: what agents and clients of a tenant share.
//!
//! - [`Context`]: what a call comes to, with a file for each part: [`memory`], [`graph`], [`recall`], [`messages`]
//! - [`Transaction`]: what an attempt did and is not true yet; [`Handed`]: what is on its way to the record; [`locks`]: advice
//! - [`state`]: what an agent's look at its own state, or a transition, comes to; [`state_people`]: what people do with states
//! - `apart`: what a step sees and does in a branch with a context of its own; [`merge`]: what becomes of that
//! - [`Clients`]: the same calls, asked for by a key
//! - [`Subscriptions`]: the one way to follow the record, for whoever watches, follows or waits
//!
//! Invariant: nothing here writes but the acts of clients. What a call comes to is made true by the record, if what it was
//! decided on is still so.

mod apart;
pub mod clients;
mod context;
pub mod graph;
mod graph_overlay;
mod handed;
pub mod locks;
pub mod memory;
pub mod merge;
pub mod messages;
pub mod recall;
pub mod state;
pub mod state_people;
pub mod state_time;
pub mod subscription;
pub mod transaction;

pub use clients::Clients;
pub use context::{Asked, Context, Decided, Whose, Within};
pub use graph::Graph;
pub use handed::Handed;
pub use locks::Locks;
pub use memory::Memory;
pub use messages::Messages;
pub use recall::Recall;
pub use subscription::{Subscription, Subscriptions};
pub use transaction::Transaction;
