//! What the core needs from the world, as traits: the record, the sandbox, the clock.
//!
//! Invariants: a port says what, never how; nothing here names a database, a socket or wasmtime. Ports are small: one for
//! those who read, one for those who write. Every adapter passes the contract suite of its port (feature `testing`).
//!
//! To add a port: a module here, an in-memory adapter and a suite under `testing`.

pub mod cascades;
pub mod catalog;
pub mod children;
pub mod clock;
pub mod conversation;
pub mod error;
pub mod expect;
pub mod graph;
pub mod journal;
pub mod log;
pub mod mail;
pub mod marks;
pub mod memory;
pub mod metered;
pub mod projection;
pub mod provenance;
pub mod questions;
pub mod recall;
pub mod record;
pub mod runner;
pub mod schedules;
pub mod schema;
pub mod sessions;
pub mod states;
#[cfg(feature = "in-memory")]
pub mod testing;
pub mod told;
pub mod triggers;
pub mod waits;

pub use cascades::ReadCascades;
pub use catalog::{Purge, ReadCatalog, WriteCatalog};
pub use children::Children;
pub use clock::{Clock, Entropy};
pub use conversation::{Conversation, Held};
pub use error::{Kind, Retry, StoreError};
pub use expect::{Changes, Expect};
pub use graph::{ReadFacts, ReadGraph};
pub use journal::{Append, Durability, ReadChains, ReadJournal, Receipt, TakeUps, WriteJournal};
pub use log::{ReadContext, ReadLog};
pub use mail::{Bus, ReadMail};
pub use memory::ReadMemory;
pub use projection::{Bound, Projection};
pub use provenance::ReadProvenance;
pub use questions::ReadQuestions;
pub use recall::{Embedder, ReadNotes, Vectors, WriteVectors};
pub use record::Record;
pub use runner::{Components, Gate, Runner};
pub use schedules::{ReadSchedules, WriteSchedules};
pub use schema::Schemas;
pub use sessions::ReadSessions;
pub use states::ReadStates;
pub use triggers::{ReadTriggers, WriteTriggers};
pub use waits::Waits;
