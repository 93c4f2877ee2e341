//! What the host tells others of its own accord, outside of any run.
//!
//! Invariants: whatever is told is on disk here before. Nobody in the host waits for whoever is told: each has a task of its own, which tries
//! again with growing pauses, and keeps of what it could not tell only what is newest.
//!
//! - [`anchor`]: the heads of the chains, kept where who can write the record cannot
//! - `webhook`: what is posted somewhere, signed; with feature `webhooks`, which brings TLS
//! - [`file`]: files that an operator names, which may be on a mount that does not answer
//!
//! To add one: a module here, its options in the binary's configuration, and where it is started (`commands/serve.rs`).

pub mod anchor;
pub mod file;
#[cfg(feature = "webhooks")]
mod webhook;
