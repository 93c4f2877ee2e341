//! Things to test with: an owner that writes a run's entries, and plain values.

use std::collections::BTreeMap;

use bytes::Bytes;
use ltmc_model::journal::{Entry, Event, RunStarted, Semantics};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{self, Channel, Message};
use ltmc_model::run::{Run, State, TakenUp, Target, Usage};
use ltmc_model::{Digest, Epoch, Payload, Revision, RunId, Seq, StepPath, TenantId, Timestamp};

use crate::expect::{Changes, Expect};
use crate::journal::{Append, IdempotencyKey};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};

/// The start of the tests' time, in November 2026.
pub const START: u64 = 1_795_000_000_000;

/// A moment so many milliseconds after [`START`].
pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

/// A tenant's name.
pub fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant's name")
}

/// The run number `number`: higher numbers are newer.
pub fn run_id(number: u64) -> RunId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    RunId::new(at(number), random)
}

/// A run's owner: knows where its journal stands and writes what comes next.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The row as after its last append.
    pub row: Run,
    /// The epoch of its last append; none before the first.
    pub previous: Option<Epoch>,
}

impl Owner {
    /// Of a new run of the tenant.
    pub fn new(of: &str, number: u64) -> Self {
        Self {
            row: Run {
                tenant: tenant(of),
                id: run_id(number),
                target: Target::Agent("echo".parse().expect("an agent's name")),
                parent: None,
                state: State::Running,
                session: "s1".parse().expect("a session's id"),
                turn: None,
                by: "abcdefghijkl".parse().expect("a key's id"),
                created_at: at(number),
                updated_at: at(number),
                epoch: Epoch(1),
                seq: Seq(0),
                wakes_at: None,
                taken_up: TakenUp::default(),
            },
            previous: None,
        }
    }

    /// Who takes the run over from a row.
    pub fn claim(row: &Run) -> Self {
        Self { row: Run { epoch: row.epoch.next(), ..row.clone() }, previous: Some(row.epoch) }
    }

    /// The next append, of so many entries.
    pub fn append(&mut self, entries: u64) -> Append {
        let first = self.row.seq.0;
        let tenant = self.row.tenant.clone();
        self.write((0..entries).map(|i| entry(&tenant, first + i + 1)).collect())
    }

    /// The next append, of these entries.
    pub fn write(&mut self, entries: Vec<Entry>) -> Append {
        let expected = self.row.seq;
        self.row.seq = Seq(expected.0 + entries.len() as u64);
        let previous = self.previous.replace(self.row.epoch);
        Append {
            run: self.row.clone(),
            expected,
            previous,
            entries,
            changes: Changes::default(),
            idempotency: None,
            scheduled: None,
            triggered: None,
            snapshot: None,
        }
    }

    /// The next append: one entry with these changes of memory.
    pub fn remember(&mut self, changes: Vec<MemoryChange>) -> Append {
        self.change(changes.into_iter().map(Delta::Memory).collect())
    }

    /// The next append: one entry with these deltas, whatever the record holds.
    pub fn change(&mut self, deltas: Vec<Delta>) -> Append {
        self.expecting(Vec::new(), deltas)
    }

    /// The next append: one entry with these deltas, where this is so.
    pub fn expecting(&mut self, expects: Vec<Expect>, deltas: Vec<Delta>) -> Append {
        Append { changes: Changes { deltas, expects }, ..self.append(1) }
    }

    /// The next append: one entry under this key, with which the run can be asked for again.
    pub fn under(&mut self, key: &str, expires_at: Timestamp) -> Append {
        let idempotency = Some(IdempotencyKey {
            key: key.to_owned(),
            request: Digest::of(key.as_bytes()),
            run: self.row.id,
            expires_at,
        });
        Append { idempotency, ..self.append(1) }
    }
}

/// An entry that tells its number and its tenant.
pub fn entry(tenant: &TenantId, number: u64) -> Entry {
    if number == 1 {
        return Entry { at: at(number), event: Event::RunStarted(Box::new(started(tenant))) };
    }
    let output = Payload::text(format!("entry {number} of a run of {tenant}"));
    completed(number, output)
}

/// An entry that carries a payload.
pub fn completed(number: u64, output: Payload) -> Entry {
    let usage = Usage { cpu_us: 1, wall_us: 2, memory: 3, calls: 4 };
    Entry { at: at(number), event: Event::StepCompleted { step: StepPath::root(), attempt: 1, output, usage } }
}

/// How a run of the tenant begins.
pub fn started(tenant: &TenantId) -> RunStarted {
    RunStarted {
        target: Target::Agent("echo".parse().expect("an agent's name")),
        agents: BTreeMap::from([("echo".parse().expect("an agent's name"), Digest::of(b"echo"))]),
        document: None,
        document_digest: None,
        input: Payload::text(format!("for {tenant}")),
        session: "s1".parse().expect("a session's id"),
        by: "abcdefghijkl".parse().expect("a key's id"),
        seed: [7; 32],
        traceparent: None,
        position: None,
        forked: None,
        parent: None,
        scheduled: None,
        follows: None,
        turn: None,
        semantics: Semantics::CURRENT,
    }
}

/// A change of memory: the new value, until deleted.
pub fn put(drawer: &Drawer, key: &str, revision: Revision, value: impl Into<Bytes>) -> MemoryChange {
    MemoryChange {
        drawer: drawer.clone(),
        key: key.into(),
        revision,
        value: Some(MemoryValue { bytes: value.into(), expires_at: None }),
        trail: None,
    }
}

/// A change of memory: nothing there any more.
pub fn delete(drawer: &Drawer, key: &str, revision: Revision) -> MemoryChange {
    MemoryChange { drawer: drawer.clone(), key: key.into(), revision, value: None, trail: None }
}

/// An agent's mailbox.
pub fn mailbox(of: &str) -> Channel {
    Channel::Mailbox(of.parse().expect("an agent's name"))
}

/// A topic.
pub fn topic(name: &str) -> Channel {
    Channel::Topic(name.parse().expect("a topic's name"))
}

/// A text that alice sent to this channel.
pub fn sent(channel: Channel, id: u64, text: &str) -> Delta {
    let event = message::Event {
        id: format!("e{id}"),
        source: "/agents/alice".into(),
        kind: "sample.sent".into(),
        subject: None,
        time: at(id),
        data: Payload::text(text),
        attributes: Default::default(),
        trail: None,
    };
    Delta::Sent(Message { id: Revision(id), channel, event })
}
