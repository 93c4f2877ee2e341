//! Vectors in FAISS, in process: search by similarity, an index a tenant and an embedder. The only crate that knows FAISS.
//!
//! Invariants: everything here can be built from the record again, so whatever is missing or damaged is said, never
//! guessed at. No byte of a file reaches FAISS before its checksum was right. FAISS never runs on a thread that drives
//! futures. One change of an index at a time; searches do not wait for a rebuild. The memory of all indexes together is
//! bounded: the least recently used one leaves for the disk.
//!
//! - [`native`]: FAISS's own index, to be searched by many at once
//! - [`index`]: ids, replacements, removals; exact or by a graph
//! - [`file`]: an index as a file
//! - [`store`]: the port; what is loaded, and what leaves
//! - [`rebuild`]: graphs are built in the background
//!
//! To add a kind of index: a variant of [`index::Kind`], and where it pays in [`index::Index::wants`].

mod error;
mod file;
mod index;
mod native;
mod rebuild;
mod store;

pub use index::{CROSSOVER, EF_CONSTRUCTION, EF_SEARCH, Kind, NEIGHBOURS};
pub use store::{FaissVectors, Options};
