//! Recovery by people: why a run stands where it does, and what they do about it.
//!
//! Invariants: a run is changed only while it is over, and by whoever claims it; what somebody changed is an entry of its journal
//! with whose key it was. What was done stays done.
//!
//! - `why`: what happened, for people
//! - `resume`: a run that is over goes on; `amend`: with steps changed before; `rehearse`: with another version of an agent
//! - `conflicts`: where branches did not go together
//! - `fork`: a new run goes on from where another one was
//! - `diff`: two runs beside each other
//!
//! To add a verb: a file here, its route in `api/src/rest/recovery.rs`, its command in `ltmc/src/commands/recovery.rs`, and its
//! section in docs/recovery.md.

mod amend;
mod conflicts;
mod diff;
mod fork;
mod rehearse;
mod resume;
mod why;

pub use amend::{Asked, Changes, Taken};
pub use conflicts::Conflicts;
pub use fork::{ForkFrom, ForkRequest};
