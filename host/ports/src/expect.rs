//! Expectations: what a change was decided on. The record looks at them in the transaction that makes the change true, so that
//! whoever decided beside it, in this process or in another, cannot have been overlooked.
//!
//! To add one: a variant here, what it means to the in-memory record (`testing/context.rs`) and to each record on disk, and its
//! case in `testing/suite/expect.rs`.

use ltmc_model::agent::Grants;
use ltmc_model::delta::Delta;
use ltmc_model::graph::{Entity, Relation};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Taker, Topic};
use ltmc_model::schedule::ScheduleId;
use ltmc_model::trigger::TriggerId;
use ltmc_model::{AgentName, Digest, Epoch, KeyId, Position, Revision, RunId, SessionId, Timestamp, WorkflowName};

/// What must be so, in the tenant whose change it is, before the change. What has expired by the change's own time is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// A key of memory stands at this revision; none: nothing stands there.
    Key {
        /// The drawer that the key is in.
        drawer: Drawer,
        /// The key of memory.
        key: String,
        /// The revision that the key stands at; none: nothing stands there.
        revision: Option<Revision>,
    },
    /// This fact holds between two entities by a relation; none: no fact does.
    Fact {
        /// The fact's subject.
        subject: Entity,
        /// The fact's relation.
        relation: Relation,
        /// The fact's object.
        object: Entity,
        /// The fact's id.
        id: Option<Revision>,
    },
    /// A note stands at this revision; none: there is none.
    Note {
        /// The note's id.
        id: String,
        /// The revision that the note stands at; none: there is none.
        revision: Option<Revision>,
    },
    /// These messages wait in a mailbox and are in nobody's hands.
    Waiting {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// The ids of the messages.
        messages: Vec<Revision>,
    },
    /// A message is in these hands.
    InHands {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// The message's id.
        message: Revision,
        /// The attempt that the message was handed to.
        by: Taker,
    },
    /// A message is among the dead letters.
    DeadLetter {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// The message's id.
        message: Revision,
    },
    /// A mailbox has room for so many messages more: with them it has at most [`ltmc_model::message::MAX_MAILBOX`].
    Room {
        /// The agent whose mailbox it is.
        agent: AgentName,
        /// How many come.
        more: u32,
    },
    /// Fewer runs than this wait for events of this subject of a topic; none: of any.
    Waiters {
        /// The topic that they listen to.
        topic: Topic,
        /// The subject that they listen to; none: any.
        subject: Option<String>,
        /// The bound.
        most: u32,
    },
    /// The tenant's keys and values, with so many bytes more, are at most this many.
    Storage {
        /// Bytes that come.
        more: u64,
        /// The quota, in bytes.
        quota: u64,
    },
    /// The tenant's schedules of other workflows, with so many more, are at most [`ltmc_model::schedule::MAX_OF_A_TENANT`].
    Schedules {
        /// The workflow whose document is put.
        of: WorkflowName,
        /// How many it has.
        more: u32,
    },
    /// A schedule is this one, and is paused or not.
    Schedule {
        /// The schedule, by its workflow and number.
        id: ScheduleId,
        /// What it is.
        digest: Digest,
        /// Whether it is paused.
        is_paused: bool,
    },
    /// The tenant's subscriptions, without those of a workflow's document, with so many more, are at most
    /// [`ltmc_model::trigger::MAX_OF_A_TENANT`].
    Subscriptions {
        /// The workflow whose document is put.
        of: Option<WorkflowName>,
        /// How many come.
        more: u32,
    },
    /// A subscription is paused or not; none: there is none of the name.
    Subscription {
        /// The subscription's name.
        id: TriggerId,
        /// Whether it is paused.
        is_paused: Option<bool>,
    },
    /// An event that a subscription took in is a dead letter.
    DeadEvent {
        /// The subscription that took it in.
        id: TriggerId,
        /// Where the event stands.
        position: Position,
    },
    /// A session takes turns; and, where a time is said, expires by then.
    OpenSession {
        /// The session that is to be open.
        id: SessionId,
        /// The latest time at which it may expire; none: any.
        expires: Option<Timestamp>,
    },
    /// A session is not over, or is none that was opened: its memory may be written.
    Unfinished {
        /// The session whose memory is written.
        session: SessionId,
    },
    /// A session has room for one more key that takes part, or this one does.
    RoomInSession {
        /// The session that the key takes part in.
        session: SessionId,
        /// The key that takes part.
        key: KeyId,
    },
    /// There is no session of this id.
    NoSession {
        /// The id.
        session: SessionId,
    },
    /// A session is over, and nothing became of its memory yet.
    Unsettled {
        /// The session whose memory it is.
        session: SessionId,
    },
    /// A session is being closed, and nothing but its summary is left to be done.
    ToBeSummedUp {
        /// The session that is being closed.
        session: SessionId,
    },
    /// A session takes turns and has none, and nobody began one or handed its conversation on since.
    Idle {
        /// The session that is to be idle.
        session: SessionId,
        /// How often its lease was taken, and its conversation handed on.
        epoch: Epoch,
    },
    /// Of a session no turn began, none was undone, and its conversation was not handed on since.
    SessionEpoch {
        /// The session that is to have no new turn.
        session: SessionId,
        /// How often its lease was taken, and its conversation handed on.
        epoch: Epoch,
    },
    /// A turn is the one at work in its session.
    AtWork {
        /// The session that the turn is of.
        session: SessionId,
        /// The turn's run.
        run: RunId,
    },
    /// A workflow's document is this one; none: there is no such workflow.
    Workflow {
        /// The workflow's name.
        name: WorkflowName,
        /// The document.
        digest: Option<Digest>,
    },
    /// A run is not over.
    UnderWay {
        /// The run that is to be under way.
        run: RunId,
    },
    /// Nothing of a part of the record changed after a place in the log: nothing came, went, or became another. Where the log is not
    /// kept so far back, or has very many rows since, something may have.
    Unchanged {
        /// The part that is to be unchanged.
        part: Part,
        /// The last place of the log that whoever decided has seen.
        since: Position,
    },
    /// A version of an agent was granted just these, in any order, by this rule.
    Grants {
        /// The agent whose grants they are.
        agent: AgentName,
        /// Its component.
        version: Digest,
        /// The whole set, and its rule.
        grants: Grants,
    },
}

/// A part of a tenant's record that is read as a whole, so that what is not in it counts as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Keys of a drawer that begin with this.
    Keys(Drawer, String),
    /// All facts.
    Facts,
    /// All notes.
    Notes,
}

impl Part {
    /// Whether this delta changes anything of the part.
    pub fn concerns(&self, delta: &Delta) -> bool {
        match (self, delta) {
            (Self::Keys(drawer, prefix), Delta::Memory(change)) => {
                change.drawer == *drawer && change.key.starts_with(prefix)
            }
            (Self::Facts, Delta::FactBegan(_) | Delta::FactEnded(_))
            | (Self::Notes, Delta::NoteKept(_) | Delta::NoteForgotten { .. }) => true,
            _ => false,
        }
    }
}

impl Expect {
    /// Whether it is so once these deltas are true; none: they have nothing to do with it.
    pub fn after(&self, deltas: &[Delta]) -> Option<bool> {
        if let Self::Unchanged { part, .. } = self {
            return deltas.iter().any(|delta| part.concerns(delta)).then_some(false);
        }
        deltas.iter().rev().find_map(|delta| match (delta, self) {
            (Delta::Memory(change), Self::Key { drawer, key, revision }) => {
                let same = change.key == *key && change.drawer == *drawer;
                same.then(|| change.value.as_ref().map(|_| change.revision) == *revision)
            }
            (Delta::FactBegan(fact), Self::Fact { subject, relation, object, id }) => {
                let same = fact.subject == *subject && fact.relation == *relation && fact.object == *object;
                same.then_some(*id == Some(fact.id))
            }
            (Delta::FactEnded(end), Self::Fact { subject, relation, object, id }) => {
                let same = end.subject == *subject && end.relation == *relation && end.object == *object;
                same.then_some(id.is_none())
            }
            (Delta::NoteKept(note), Self::Note { id, revision }) => {
                (note.id == *id).then(|| *revision == Some(note.revision))
            }
            (Delta::NoteForgotten { id: gone, .. }, Self::Note { id, revision }) => {
                (gone == id).then_some(revision.is_none())
            }
            (Delta::Taken { messages: taken, .. }, Self::Waiting { messages, .. }) => {
                messages.iter().any(|message| taken.contains(message)).then_some(false)
            }
            (Delta::Taken { messages, by: taker, .. }, Self::InHands { message, by, .. }) => {
                messages.contains(message).then_some(taker == by)
            }
            _ => None,
        })
    }
}

/// What becomes true together, and what it was decided on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What of the tenant's shared context changes, in order.
    pub deltas: Vec<Delta>,
    /// What must be so before all of them.
    pub expects: Vec<Expect>,
}

impl Changes {
    /// These, whatever the record holds.
    pub fn blind(deltas: Vec<Delta>) -> Self {
        Self { deltas, expects: Vec::new() }
    }
}
