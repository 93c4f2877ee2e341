//! What a run is: folded from its journal, and appended to through one handle.
//!
//! Invariants: a [`History`] is a fold of entries and of nothing else; a run's entries are written through its [`RunLog`]
//! and nowhere else. No I/O but through ports.

pub mod diff;
pub mod fold;
pub mod forked;
mod metered;
pub mod node;
pub mod place;
pub mod provenance;
pub mod runlog;
pub mod sealed;
pub mod shown;
pub mod standing;
pub mod undoing;
pub mod view;
pub mod why;

pub use diff::Diff;
pub use fold::History;
pub use provenance::FromJournals;
pub use runlog::RunLog;
pub use sealed::Sealing;
pub use shown::{Extent, Shown, Sight};
pub use view::RunView;
pub use why::Why;
