//! Changes survive their client, proved mechanically: the future of every use case that changes anything is dropped at every
//! await point. Afterwards record, caches and the registry of active runs agree, nothing is counted as alive, and a retry
//! gives what the first would have given.
//!
//! Invariants: time is tokio's, paused, and there is one thread, so that every case comes out the same each time. The record
//! takes its time over everything, and makes a write that was begun also where nobody waits for it any more. Somebody reads
//! all the while through the caches: what he leaves there must not be older than what was answered.
//!
//! - `house`: the use cases over such a record; `agree`: what must agree; `notes`: what recall needs of a record
//! - `case`: what a case is, and how it is dropped everywhere
//! - `catalog`, `context`, `runs`, `sessions`, `events`: every use case that changes anything. To add one: a case there
//! - `sites`: that there is a case for each of them
//! - `late`: whoever asks for a run that is about to be taken up again waits for its end
//! - `rings`: workflows that are put at once

mod agree;
mod case;
mod catalog;
mod context;
mod events;
mod house;
mod late;
mod notes;
mod rings;
mod runs;
mod sessions;
mod sites;
