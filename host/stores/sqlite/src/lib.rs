//! The record in SQLite: every port of a store on one database file. The only crate that knows SQL.
//!
//! Invariants: one writer, a thread that takes what is waiting, tenants in turns, and commits it as one group; readers do not wait for it, and
//! read in the thread that asks.
//! An append's entries, the memory it changes and the run's row are one transaction. A data directory belongs to one host: a
//! lock on it refuses a second one.
//!
//! - [`open`]: the directory, its lock, migrations; [`readers`]: connections for those who read; [`turns`]: who reads for long
//! - [`line`]: what waits to be written, and in whose turn; [`writer`]: groups, fences, the chain; [`expects`]: whether what a change was decided on is so
//! - [`counts`], [`quota`]: how much a tenant has on disk, and may have; [`reserve`]: what is kept of the disk for those who make room on a full one
//! - [`statements`], [`acts`], [`deltas`]: what is written of runs, of the catalog, of shared context and the log; [`bind`]: values
//! - [`frames`]: entries as the journal keeps them
//! - [`journal`], [`memory`], [`catalog`], [`log`], [`graph`], [`mail`], [`notes`]: reads, a file per port; [`questions`], [`subscriptions`]: rows that follow journals
//! - [`schedules`]: when workflows are started by themselves, written and read; [`snapshots`]: where runs stood, likewise
//! - [`triggers`]: which events start runs, and what became of them
//! - [`purge`]: what deleted tenants left; [`revisions`]: each tenant's count of changes; [`verify`]: the walk along the chain
//!
//! To change the schema: a new file in `migrations/`, and its line in [`open`]; old ones stay as they are.

mod acts;
mod bind;
mod cascades;
mod catalog;
mod counts;
mod deltas;
mod error;
mod expects;
mod frames;
mod graph;
mod journal;
mod line;
mod log;
mod mail;
mod memory;
mod notes;
mod open;
mod purge;
mod questions;
mod quota;
mod readers;
mod reserve;
mod revisions;
mod schedules;
mod sessions;
mod snapshots;
mod statements;
mod states;
mod subscriptions;
mod triggers;
mod verify;
mod writer;

pub use open::{DataDirectory, OpenOptions, Record, pragmas_for_benchmarks};
