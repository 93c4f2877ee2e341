//! A host's runs over a record in memory, with no more around them than they need: what workflows are tried with, and what the engine is
//! measured with.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_context::{Context, Handed, Subscriptions};
use ltmc_journal::Sealing;
use ltmc_ports::testing::{MemoryRecord, NoShelf, SeededEntropy};
use ltmc_ports::{Clock, Embedder, Runner, Schemas, WriteJournal};
use ltmc_tenancy::{Authority, Pins};

use crate::runs::Ports;

/// What differs between one and another.
pub struct InMemory {
    /// What everything is read from.
    pub record: Arc<MemoryRecord>,
    /// What journals are written through: the record, or whoever listens before it.
    pub write: Arc<dyn WriteJournal>,
    /// Whose time it is.
    pub clock: Arc<dyn Clock>,
    /// Who plays the agents' parts.
    pub runner: Arc<dyn Runner>,
    /// Who judges by JSON Schema.
    pub schemas: Arc<dyn Schemas>,
    /// What needs are compared by.
    pub embedder: Arc<dyn Embedder>,
}

impl From<InMemory> for Ports {
    fn from(host: InMemory) -> Self {
        let InMemory { record, write, clock, runner, schemas, embedder } = host;
        let authority = Arc::new(Authority::new(record.clone(), record.clone(), clock.clone()));
        let handed = Handed::new(write);
        let subscriptions = Subscriptions::start(record.clone());
        let context = Context::of_record(&record, &handed, &subscriptions, authority.clone());
        let context = Arc::new(Context { schemas: Some(schemas.clone()), ..context });
        Self {
            read: record.clone(),
            write: handed,
            take_ups: record.clone(),
            bus: record.clone(),
            questions: record.clone(),
            sessions: record.clone(),
            subscriptions,
            authority: authority.clone(),
            crossing: Arc::new(ltmc_crossing::Shared { authority, context, clock: clock.clone() }),
            runner,
            pins: Pins::new(record, Arc::new(NoShelf)),
            clock,
            entropy: Arc::new(SeededEntropy::new(1)),
            directories: BTreeMap::new(),
            schemas,
            embedder,
            sealing: Sealing::default(),
            graph: None,
            lessons: None,
        }
    }
}

impl std::fmt::Debug for InMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InMemory").finish_non_exhaustive()
    }
}
