//! Who may do what: what a role may ask for, what is in force for an agent, and what a tenant may have of what all share.
//!
//! Invariants: plain values, no I/O. Nothing is allowed unless a line here says so. In force for an agent is what both its
//! grant and its tenant's ceiling cover.
//!
//! To add a use case: a variant of [`Action`], and its line in [`Action::roles`].

mod actions;
mod in_force;
pub mod pot;
mod turns;

pub use actions::{Action, Denied, authorize, may_answer, may_answer_for};
pub use in_force::{InForce, Verdict};
pub use pot::Pot;
pub use turns::{Turn, Turns};
