//! The words of the host: ids, manifests, capabilities, calls across the sandbox, journal entries, runs, workflow documents.
//!
//! Invariants: plain values only. Nothing here does I/O, reads a clock or draws a random number; what a text must look
//! like is decided once, in the `FromStr` or `TryFrom` of its type.
//!
//! To add a word: a module here, re-exported below where others are to say it without the module's name.

#[macro_use]
pub mod ids;

pub mod agent;
pub mod branch;
pub mod call;
pub mod caller;
pub mod capability;
pub mod chain;
pub mod child;
pub mod commitment;
pub mod delta;
pub mod effect;
pub mod failure;
pub mod filter;
pub mod fork;
pub mod gather;
pub mod graph;
pub mod hand_off;
pub mod journal;
pub mod limits;
pub mod manifest;
pub mod memory;
pub mod merge;
pub mod message;
pub mod payload;
pub mod provenance;
pub mod question;
pub mod recall;
pub mod run;
pub mod schedule;
pub mod session;
pub mod state;
pub mod tenancy;
pub mod time;
pub mod trigger;
pub mod workflow;

pub use capability::Capability;
pub use ids::{
    AgentName, Digest, Epoch, KeyId, Position, Revision, RunId, Seq, SessionId, StepPath, TenantId, WorkflowName,
};
pub use payload::Payload;
pub use time::Timestamp;
