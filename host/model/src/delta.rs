//! What becomes true of a tenant's shared context by one effect: of its memory, graph, notes and messages.
//!
//! Invariant: decided. Preconditions hold, numbers are drawn, so that a store that applies deltas in the order of the
//! record's log comes to what the record holds, whichever store it is, and however often it is told.
//!
//! To add one: a variant here, its table in the record, and what each destination makes of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::graph::{Entity, Fact, Relation};
use crate::journal::Forked;
use crate::memory::{Changed, Drawer, Item};
use crate::message::{Event, Message, Published, Taker, Trail};
use crate::recall::Note;
use crate::run::{Run, State, Target};
use crate::{
    AgentName, Digest, KeyId, Payload, Position, Revision, RunId, Seq, SessionId, StepPath, TenantId, Timestamp,
};

/// One change of shared context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delta {
    /// Of a key in memory.
    Memory(MemoryChange),
    /// A fact holds.
    FactBegan(Fact),
    /// A fact holds no more.
    FactEnded(FactEnd),
    /// A note is kept; what was there under its id is replaced.
    NoteKept(Note),
    /// A note is forgotten.
    NoteForgotten {
        /// The note's id.
        id: String,
        /// This change's version.
        revision: Revision,
    },
    /// A message was sent.
    Sent(Message),
    /// Messages of a mailbox were handed out.
    Taken {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// The ids of the messages that were handed out.
        messages: Vec<Revision>,
        /// Where in the log each of them stood: where it was sent, or sent again.
        #[serde(default)]
        places: Vec<Position>,
        /// The attempt that they were handed to.
        by: Taker,
    },
    /// A message that somebody had in hand was processed: it is gone.
    Processed {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// The message's id.
        message: Revision,
    },
    /// A message that somebody had in hand went to the dead letters.
    Buried {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// The message's id.
        message: Revision,
        /// Why nobody could process it.
        reason: String,
        /// When it became a dead letter.
        at: Timestamp,
    },
    /// A dead letter was sent again, to the end of its mailbox.
    Revived {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// Which message it was.
        message: Revision,
    },
    /// An attempt, or what it did since its last checkpoint, is over: what it had taken and not processed goes back, or to the
    /// dead letters where that was the last time.
    Released {
        /// The attempt, or the part of it, that is over.
        by: Taker,
        /// When it was over.
        at: Timestamp,
    },
    /// A run came further. Only in the log, and only where a destination wants it: the record has the journal itself.
    Run(Box<RunMark>),
}

/// How far a run came with one append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMark {
    /// The run's id.
    pub run: RunId,
    /// The agent or the workflow that it is a run of.
    pub target: Target,
    /// The session that it works in.
    pub session: SessionId,
    /// Whose key started it.
    pub by: KeyId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it came this far.
    pub updated_at: Timestamp,
    /// Where it stands now.
    pub state: State,
    /// The length of its journal by now: grows with each mark.
    pub seq: Seq,
    /// Steps, and nodes that begin runs, that began or ended, in order.
    pub steps: Vec<StepMark>,
    /// Where it comes from; with the mark of its beginning, and where it comes from any other run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<Origin>>,
}

/// The runs that a run comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run that began it, and which step or other node of it; none: a client did.
    pub parent: Option<(RunId, StepPath)>,
    /// The run that it was forked from.
    pub forked: Option<Forked>,
}

impl RunMark {
    /// Of a run as it is now, with these steps.
    pub fn of(run: &Run, steps: Vec<StepMark>) -> Self {
        Self {
            run: run.id,
            target: run.target.clone(),
            session: run.session.clone(),
            by: run.by.clone(),
            created_at: run.created_at,
            updated_at: run.updated_at,
            state: run.state,
            seq: run.seq,
            steps,
            origin: None,
        }
    }
}

/// A step of a run that began or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepMark {
    /// The step, or the node that begins a run.
    pub step: StepPath,
    /// Which attempt of it.
    pub attempt: u32,
    /// Who does it; known where it begins.
    pub agent: Option<AgentName>,
    /// `Running`, `Waiting` for its next attempt, `Completed` or `Failed`.
    pub state: State,
    /// When it came to that state.
    pub at: Timestamp,
    /// Which entry of the run's journal says so.
    #[serde(default)]
    pub seq: Seq,
    /// Which version of the agent; known where it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Digest>,
    /// Whose outputs it works on, or was decided by; known where it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StepPath>,
    /// The run that it began, and whether an agent wrote that one's document; of a node that is no step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<(RunId, bool)>,
}

/// One change of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryChange {
    /// The drawer that the key is in.
    pub drawer: Drawer,
    /// The key that changed.
    pub key: String,
    /// This change's revision.
    pub revision: Revision,
    /// The new value and when it ends; none: deleted.
    pub value: Option<MemoryValue>,
    /// What it follows from, where it follows from an event. The host sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<Box<Trail>>,
}

impl MemoryChange {
    /// What the key holds after it.
    pub fn item(&self) -> Option<Item> {
        self.value.as_ref().map(|value| Item {
            key: self.key.clone(),
            value: value.bytes.clone(),
            revision: self.revision,
            expires_at: value.expires_at,
        })
    }
}

/// What a key is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryValue {
    /// The value.
    #[serde(with = "crate::memory::value_bytes")]
    pub bytes: Bytes,
    /// When it ends; none: stays until deleted.
    pub expires_at: Option<Timestamp>,
}

/// The end of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactEnd {
    /// The fact's id.
    pub id: Revision,
    /// Its subject.
    pub subject: Entity,
    /// Its relation.
    pub relation: Relation,
    /// Its object.
    pub object: Entity,
    /// Until when it held, exclusive.
    pub valid_to: Timestamp,
    /// When that was recorded.
    pub ended_at: Timestamp,
}

/// What a delta is about: which destinations are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Keys and values.
    Memory,
    /// Facts, and their ends.
    Graph,
    /// Notes that are kept, and forgotten.
    Recall,
    /// Messages and events.
    Messages,
    /// Runs and their steps.
    Runs,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Graph, Self::Recall, Self::Messages, Self::Runs];

    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Graph => "graph",
            Self::Recall => "recall",
            Self::Messages => "messages",
            Self::Runs => "runs",
        }
    }
}

impl Delta {
    /// What it is about.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Memory(_) => Topic::Memory,
            Self::FactBegan(_) | Self::FactEnded(_) => Topic::Graph,
            Self::NoteKept(_) | Self::NoteForgotten { .. } => Topic::Recall,
            Self::Sent(_)
            | Self::Taken { .. }
            | Self::Processed { .. }
            | Self::Buried { .. }
            | Self::Revived { .. }
            | Self::Released { .. } => Topic::Messages,
            Self::Run(_) => Topic::Runs,
        }
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        256 + match self {
            Self::Memory(change) => change.key.len() + change.value.as_ref().map_or(0, |value| value.bytes.len()),
            Self::FactBegan(fact) => fact.properties.len() + 512,
            Self::NoteKept(note) => note.text.len() + 512,
            Self::Sent(message) => message.event.data.bytes.len() + 512,
            Self::Taken { messages, .. } => messages.len() * 8,
            _ => 512,
        }
    }

    /// As the record keeps it: MessagePack with field names.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("deltas are plain values, which MessagePack can write")
    }

    /// As read from the record.
    ///
    /// # Errors
    /// Where the bytes are no delta that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

/// A delta in its place in the record's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its place.
    pub position: Position,
    /// The tenant in whose shared context it is.
    pub tenant: TenantId,
    /// The change itself.
    pub delta: Delta,
}

impl Logged {
    /// How far a run has come, where that has no place in the log: its place is how long its journal is.
    pub fn of_run(run: &Run) -> Self {
        let delta = Delta::Run(Box::new(RunMark::of(run, Vec::new())));
        Self { position: Position(run.seq.0), tenant: run.tenant.clone(), delta }
    }

    /// The change of memory that it is, to who watches; none: it is another.
    pub fn changed(&self) -> Option<Changed> {
        let Delta::Memory(change) = &self.delta else { return None };
        Some(Changed {
            position: self.position,
            key: change.key.clone(),
            revision: change.revision,
            value: change.value.as_ref().map(|value| value.bytes.clone()),
            expires_at: change.value.as_ref().and_then(|value| value.expires_at),
        })
    }

    /// The event that a change of memory is, to whom it starts; none: it is another change. Nobody knows when it was any more: `time` is said.
    pub fn remembered(&self, time: Timestamp) -> Option<Published> {
        let Delta::Memory(change) = &self.delta else { return None };
        let data = change.value.as_ref().map(|value| Payload::told(&value.bytes)).unwrap_or_default();
        let kind = if change.value.is_some() { "memory.put" } else { "memory.deleted" };
        let attributes = [(Event::KEY, change.key.clone()), ("revision", change.revision.to_string())];
        let event = Event {
            id: self.position.0.to_string(),
            source: change.drawer.source(),
            kind: kind.to_owned(),
            subject: Some(change.key.clone()),
            time,
            data,
            attributes: attributes.map(|(name, text)| (name.to_owned(), text)).into(),
            trail: change.trail.clone(),
        };
        Some(Published { position: self.position, event })
    }

    /// The event that it is, to who follows its topic; none: it is no message.
    pub fn published(&self) -> Option<Published> {
        let Delta::Sent(message) = &self.delta else { return None };
        Some(Published { position: self.position, event: message.event.clone() })
    }
}
