//! The journal: what happened, entry by entry. The state of a run is a fold of its entries.
//!
//! Invariant: an entry, once written, is read for ever. A new field has a default; a new kind of event is a new variant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::agent::{Agent, AgentRef, Carry};
use crate::chain::Head;
use crate::child::Parent;
use crate::commitment::Commitment;
use crate::effect::{ClockReads, LogLine, Refusal, Reply};
use crate::failure::Failure;
use crate::fork::{Answer, Conflict, Done, Merged, Raised};
use crate::hand_off::{HandedOff, Holder, Holds};
use crate::memory::Item;
use crate::message::{Topic, Trail};
use crate::question::{Question, Token};
use crate::run::{Target, Usage};
use crate::schedule::{Planned, Scheduled};
use crate::session;
use crate::tenancy::{Ceiling, Key, Tenant};
use crate::trigger::{Arrived, Planted, TriggerId, Verdict};
use crate::{
    AgentName, Capability, Digest, Epoch, KeyId, Payload, Position, Revision, RunId, Seq, SessionId, StepPath,
    TenantId, Timestamp, WorkflowName,
};

/// One entry: when, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// By the host's clock.
    pub at: Timestamp,
    /// The event itself.
    pub event: Event,
}

impl Entry {
    /// As the record keeps it: MessagePack with field names.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("entries are plain values, which MessagePack can write")
    }

    /// The same, with commitments to what becomes true by it. Whoever reads the entry alone does not see them.
    pub fn to_bytes_committing(&self, to: &[Commitment]) -> Vec<u8> {
        let mut commits = ByteBuf::from(Commitment::to_bytes(to));
        commits.push(WITH_KEYS);
        let written = Committing { at: self.at, event: &self.event, commits: &commits };
        rmp_serde::to_vec_named(&written).expect("entries are plain values, which MessagePack can write")
    }

    /// As read from the record.
    ///
    /// # Errors
    /// Where the bytes are no entry that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    /// What an entry in the record commits to; none: it is of a build that did not, or nothing became true by it.
    ///
    /// # Errors
    /// Where the bytes are no entry.
    pub fn committed(bytes: &[u8]) -> Result<Option<Commits>, rmp_serde::decode::Error> {
        let Committed { commits } = rmp_serde::from_slice(bytes)?;
        Ok(commits.map(|commits| Commits {
            several: Commitment::from_bytes(&commits).collect(),
            with_keys: commits.len() % Commitment::BYTES == 1,
        }))
    }
}

/// Stands behind an entry's commitments where its build committed to idempotency keys, too.
const WITH_KEYS: u8 = 1;

/// What an entry commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    /// What is left where.
    pub several: Vec<Commitment>,
    /// Whether the build that wrote it committed to idempotency keys, too.
    pub with_keys: bool,
}

/// An entry with what it commits to.
#[derive(Serialize)]
struct Committing<'a> {
    at: Timestamp,
    event: &'a Event,
    commits: &'a ByteBuf,
}

/// Of an entry only what it commits to.
#[derive(Deserialize)]
struct Committed {
    #[serde(default)]
    commits: Option<ByteBuf>,
}

/// One thing that happened in a run, or in a tenant's ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A run began.
    RunStarted(Box<RunStarted>),
    /// A host took the run over from its journal.
    RunClaimed {
        /// The new owner's epoch.
        epoch: Epoch,
    },
    /// An attempt of a step began.
    StepStarted {
        /// The step that is attempted.
        step: StepPath,
        /// From 1 on.
        attempt: u32,
        /// Who does it; not in journals of before it was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentName>,
        /// The version of the agent; not in journals of before it was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Digest>,
        /// Whose outputs it works on, or was decided by; not in journals of before it was kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        needs: Vec<StepPath>,
        /// Whether what it does becomes true at its end, or at a checkpoint. In journals of before, each effect was true by
        /// itself.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        transaction: bool,
    },
    /// A host call of an attempt.
    Effect(Effect),
    /// What an attempt did so far became true, with this entry. Who goes on with the step, an attempt after this one
    /// included, begins here.
    Checkpoint {
        /// The step whose attempt reached it.
        step: StepPath,
        /// The number of the attempt that reached it.
        attempt: u32,
        /// How many effects there are up to here, counted from where the attempt's journal began.
        effects: u32,
    },
    /// A log line of an attempt.
    Log {
        /// The step whose attempt wrote it.
        step: StepPath,
        /// The number of the attempt that wrote it.
        attempt: u32,
        /// Its number in the attempt, from 1 on: a line is kept once.
        number: u32,
        /// The line.
        line: LogLine,
    },
    /// An attempt ended well.
    StepCompleted {
        /// The step that is done.
        step: StepPath,
        /// The number of the attempt that ended.
        attempt: u32,
        /// What it gave.
        output: Payload,
        /// What it used.
        usage: Usage,
    },
    /// An attempt ended badly.
    StepFailed {
        /// The step whose attempt failed.
        step: StepPath,
        /// The number of the attempt that failed.
        attempt: u32,
        /// How it failed.
        failure: Failure,
        /// When the next attempt is due; none: there is no other.
        retry_at: Option<Timestamp>,
        /// What it used.
        usage: Usage,
    },
    /// What judges a step's output found it good, or not.
    StepJudged {
        /// The step whose output is judged.
        step: StepPath,
        /// What is wrong with it; none: it is good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rejection: Option<Failure>,
    },
    /// A node that is no step came to an output of its own, such as what its branches gave.
    NodeEnded {
        /// Its place in the tree of patterns.
        node: StepPath,
        /// What it gave.
        output: Payload,
    },
    /// A node that may take so long only began.
    NodeStarted {
        /// Its place.
        node: StepPath,
        /// Until when it may take.
        until: Timestamp,
    },
    /// Something was decided about a node: it is so from then on, whoever goes on with the run.
    NodeDecided {
        /// Its place.
        node: StepPath,
        /// What was decided.
        decided: Decided,
    },
    /// A node gives what another one below it gave.
    NodeGave {
        /// Its place.
        node: StepPath,
        /// Whose output it is.
        of: StepPath,
    },
    /// A node's own work failed: it is done anew, or what is done in its place comes next.
    NodeFailed {
        /// Its place.
        node: StepPath,
        /// How it failed.
        failure: Failure,
        /// When everything below it is done anew; none: it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
    },
    /// A node began a run of a workflow; or that one goes on, after its own run was resumed.
    ChildStarted {
        /// Its place.
        node: StepPath,
        /// The id of the run that it began, or that goes on.
        run: RunId,
        /// Whose outputs it works on, or was decided by; not in journals of before it was kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        needs: Vec<StepPath>,
        /// Whether an agent wrote its document.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        planned: bool,
    },
    /// The run that a node had begun is over, or is not needed any more.
    ChildEnded {
        /// The node's place.
        node: StepPath,
        /// The id of the run that was begun.
        run: RunId,
        /// What it gave, or how it ended badly.
        result: Result<Payload, Failure>,
    },
    /// A node took longer than it may; what was open below it is cancelled.
    NodeTimedOut {
        /// Its place.
        node: StepPath,
        /// How long it may take, in milliseconds.
        after: u64,
    },
    /// A step's attempt was ended, or what it waited for, because its outcome is not needed any more. What it did since its last
    /// checkpoint never was.
    StepCancelled {
        /// The step that is cancelled.
        step: StepPath,
        /// Its last attempt.
        attempt: u32,
    },
    /// People were asked.
    Asked {
        /// Which node asks.
        node: StepPath,
        /// What the question is answered by.
        token: Token,
        /// What is asked.
        question: Box<Question>,
    },
    /// Somebody answered: that is what the node gives.
    Answered {
        /// Which node asked.
        node: StepPath,
        /// Which of its questions.
        token: Token,
        /// The key that answered.
        by: KeyId,
        /// In JSON.
        answer: Payload,
        /// What they said besides.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// People were reminded of a question, by an event that is there with this entry.
    Reminded {
        /// Which node asks.
        node: StepPath,
        /// How often that was due so far; what was due while no host was there is not made up for.
        number: u32,
        /// The topic that the event was published on.
        topic: Topic,
        /// The message's id.
        id: Revision,
    },
    /// A node published an event, which is there with this entry.
    Emitted {
        /// The place of the node that published it.
        node: StepPath,
        /// The topic that it was published on.
        topic: Topic,
        /// The message's id.
        id: Revision,
    },
    /// A node waits for an event of a topic.
    Subscribed {
        /// The place of the node that waits.
        node: StepPath,
        /// The topic that is listened to.
        topic: Topic,
        /// Of this subject; none: of any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// Of this type; none: of any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// After which place of the log.
        after: Position,
    },
    /// An event came that a node waits for: that is what the node gives.
    EventTaken {
        /// The place of the node that waited.
        node: StepPath,
        /// Where in the log the event stands.
        position: Position,
        /// The event, in JSON.
        event: Payload,
        /// What follows from it: so does what the run does from then on, where that is further than what it follows from already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trail: Option<Box<Trail>>,
    },
    /// What a node waited for is waited for no more, for its outcome is not needed: a question is open no more.
    WaitCancelled {
        /// The place of the node that waited.
        node: StepPath,
    },
    /// The run waits for so long that nothing of it is kept but its row. Whoever goes on with it claims it.
    RunSuspended {
        /// When it goes on.
        until: Timestamp,
        /// Up to which place of the log it looked for the events that it waits for; none: it waits for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heard: Option<Position>,
    },
    /// A branch of a fork looked at a key for the first time: what all branches of the fork start from, whatever becomes of it elsewhere.
    BasePinned {
        /// The node that forks.
        fork: StepPath,
        /// Which key of memory.
        key: String,
        /// What it held; none: nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<Item>,
    },
    /// What a step did in a branch of a fork, up to the entry after this one, which says that it is so.
    BranchChanged(Box<Done>),
    /// Branches came together: what they did is true from here on, or a part of what another branch did.
    ContextMerged(Box<Merged>),
    /// Branches did not go together.
    ContextConflicted {
        /// The node that forks.
        node: StepPath,
        /// Where; of many the first.
        conflicts: Vec<Conflict>,
        /// How many there are.
        count: u64,
    },
    /// An agent handed on the conversation that it held. It is so with the entry after this one, which says that the attempt ended well.
    HandedOff(Box<HandedOff>),
    /// Branches did not go together about a key, which is put to an agent, or to people.
    ConflictRaised(Box<Raised>),
    /// Somebody said what is taken of a key whose branches conflict. It is so once the run goes on.
    MergeAnswered {
        /// The key of who said so.
        by: KeyId,
        /// The node that forks.
        node: StepPath,
        /// Which key of memory.
        key: String,
        /// What is taken.
        answer: Answer,
    },
    /// What undoes a node's work stands ready, from before the node's first step begins: it may act and then fail.
    CompensationRegistered {
        /// The node whose work can be undone from here on.
        node: StepPath,
        /// What the node works on.
        given: Input,
    },
    /// A node's work was in vain: what undoes it begins.
    CompensationStarted {
        /// The node whose work is undone.
        node: StepPath,
        /// In vain were this node's work and everything below it.
        within: StepPath,
        /// Why it was in vain.
        failure: Failure,
    },
    /// A node's work is undone.
    Compensated {
        /// The node whose work is undone.
        node: StepPath,
    },
    /// The run has failed for good: what it did is undone first. What was open is ended.
    RunFailing {
        /// How it failed.
        failure: Failure,
    },
    /// Somebody ended the run: what it did is undone first. What was open is ended.
    RunCancelling {
        /// Whose key; none: the client went away, or the host.
        by: Option<KeyId>,
        /// For people.
        reason: String,
    },
    /// The run waits for people. What is open stays so, and what it did since its last checkpoint is made anew.
    RunPaused {
        /// Whose key; none: something of it failed that is to wait for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<KeyId>,
        /// The failure that waits for people; none: somebody paused the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// A run that somebody had paused goes on.
    RunContinued {
        /// The key that continued it.
        by: KeyId,
    },
    /// What undoes a node's work has failed: the run waits for people.
    RunStuck {
        /// How it failed.
        failure: Failure,
    },
    /// The run is done; its result is the output of this step, or of another node.
    RunCompleted {
        /// Whose output is the result.
        step: StepPath,
    },
    /// The run is over, badly.
    RunFailed {
        /// How it failed.
        failure: Failure,
    },
    /// Somebody ended the run.
    RunCancelled {
        /// Whose key; none: the client went away, or the host.
        by: Option<KeyId>,
        /// For people.
        reason: String,
    },
    /// The run was set aside: the host died of taking it up.
    RunQuarantined {
        /// How often it was taken up since it last got on.
        taken_up: u32,
    },
    /// Somebody changed what a step gave, or what it works on, before the run went on. With the next [`Self::RunResumed`] it is so, and
    /// what came after the step is done again.
    Amended(Box<Amended>),
    /// Somebody had an agent's steps done by another version from here on.
    AgentReplaced {
        /// The key that replaced it.
        by: KeyId,
        /// The agent's name.
        agent: AgentName,
        /// The version that it was.
        from: Digest,
        /// The version that it is.
        to: Digest,
        /// Steps in the middle of their work whose host calls it made again before, without anything being done.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replayed: Vec<Replayed>,
    },
    /// A run that failed, was cancelled or was set aside was taken up again by somebody; or one that was forked goes on by itself.
    RunResumed {
        /// The key in whose name it goes on.
        by: KeyId,
    },
    /// Where the run stands up to here was put beside its journal: whoever takes the run up may begin there. It says nothing new.
    Sealed {
        /// The form in which it was written: another one is not read.
        form: u32,
        /// Of what was written.
        digest: Digest,
        /// How many bytes that is.
        bytes: u64,
    },
    /// An act on the tenant's own things, in its ledger (run zero).
    Act(Box<Act>),
}

impl Event {
    /// Its kind, as it stands in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted(_) => "run-started",
            Self::RunClaimed { .. } => "run-claimed",
            Self::StepStarted { .. } => "step-started",
            Self::Effect(_) => "effect",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Log { .. } => "log",
            Self::StepCompleted { .. } => "step-completed",
            Self::StepFailed { .. } => "step-failed",
            Self::StepJudged { .. } => "step-judged",
            Self::NodeEnded { .. } => "node-ended",
            Self::NodeStarted { .. } => "node-started",
            Self::NodeDecided { .. } => "node-decided",
            Self::NodeGave { .. } => "node-gave",
            Self::NodeFailed { .. } => "node-failed",
            Self::ChildStarted { .. } => "child-started",
            Self::ChildEnded { .. } => "child-ended",
            Self::NodeTimedOut { .. } => "node-timed-out",
            Self::StepCancelled { .. } => "step-cancelled",
            Self::Asked { .. } => "asked",
            Self::Answered { .. } => "answered",
            Self::Reminded { .. } => "reminded",
            Self::Emitted { .. } => "emitted",
            Self::Subscribed { .. } => "subscribed",
            Self::EventTaken { .. } => "event-taken",
            Self::WaitCancelled { .. } => "wait-cancelled",
            Self::RunSuspended { .. } => "run-suspended",
            Self::BasePinned { .. } => "base-pinned",
            Self::BranchChanged(_) => "branch-changed",
            Self::ContextMerged(_) => "context-merged",
            Self::ContextConflicted { .. } => "context-conflicted",
            Self::HandedOff(_) => "handed-off",
            Self::ConflictRaised(_) => "conflict-raised",
            Self::MergeAnswered { .. } => "merge-answered",
            Self::CompensationRegistered { .. } => "compensation-registered",
            Self::CompensationStarted { .. } => "compensation-started",
            Self::Compensated { .. } => "compensated",
            Self::RunFailing { .. } => "run-failing",
            Self::RunCancelling { .. } => "run-cancelling",
            Self::RunPaused { .. } => "run-paused",
            Self::RunContinued { .. } => "run-continued",
            Self::RunStuck { .. } => "run-stuck",
            Self::RunCompleted { .. } => "run-completed",
            Self::RunFailed { .. } => "run-failed",
            Self::RunCancelled { .. } => "run-cancelled",
            Self::RunQuarantined { .. } => "run-quarantined",
            Self::Amended(_) => "amended",
            Self::AgentReplaced { .. } => "agent-replaced",
            Self::RunResumed { .. } => "run-resumed",
            Self::Sealed { .. } => "sealed",
            Self::Act(_) => "act",
        }
    }
}

/// What a node works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// The run's input.
    Run,
    /// What a step gave, or another node.
    Output(StepPath),
    /// An item of a map.
    Item {
        /// The place of the map.
        map: StepPath,
        /// From 0 on.
        index: usize,
    },
    /// What a node's `with` makes of its input.
    With {
        /// The place of the node that has the `with`.
        node: StepPath,
        /// Its input.
        input: Box<Input>,
    },
    /// What a node gave whose work is undone, or, where it gave nothing, what it was given.
    Undone(StepPath),
    /// What each branch of a node came to.
    Branches {
        /// The place of the node whose branches they are.
        node: StepPath,
        /// Whose output each gave; none: it gave nothing.
        gave: Vec<Option<StepPath>>,
    },
    /// A conflict of branches that was raised.
    Conflict {
        /// The node that forks.
        node: StepPath,
        /// Who settles it.
        by: u32,
        /// Which of those that were put to them.
        number: u32,
    },
    /// What was said in a debate so far.
    Turns {
        /// The debate's place.
        debate: StepPath,
        /// Before this turn, from 0 on.
        before: u32,
        /// What the debate works on.
        input: Box<Input>,
    },
}

/// What was decided about a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decided {
    /// Whether its `when` holds; where it does not the node is skipped.
    When(bool),
    /// Which option of a choice is taken; none: no condition holds, and there is nothing else.
    Option(Option<u32>),
    /// Which handler of errors is taken; none: no condition holds.
    Handler(Option<u32>),
    /// Which agent does a step, and how it was found.
    Agent {
        /// The version.
        agent: AgentRef,
        /// Those that were looked at, the best first; of many the first.
        candidates: Vec<Candidate>,
    },
    /// The document that an agent wrote, in its one form.
    Planned(std::sync::Arc<str>),
    /// The items of a map, each in JSON.
    Items(Vec<Payload>),
    /// What comes after a round of a loop.
    Round {
        /// Which, from 0 on.
        round: u32,
        /// Whose output the round gave; none: all of it was skipped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gave: Option<StepPath>,
        /// What comes next.
        next: Next,
    },
    /// What comes after a turn of a debate.
    Turn {
        /// Which, from 0 on.
        turn: u32,
        /// Whose output the turn gave; none: nobody spoke.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gave: Option<StepPath>,
        /// What comes next.
        next: Next,
    },
    /// Which branches count, in the order in which they were done; or how it failed.
    Joined {
        /// Their numbers.
        winners: Vec<u32>,
        /// Why too few of them succeeded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// Those that had failed by then, where who makes one of them is told.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lost: Vec<Lost>,
    },
    /// What branches voted for.
    Voted {
        /// Every value, the one with the most votes first.
        counts: Vec<Count>,
        /// How many branches gave anything.
        of: u32,
        /// Whether the first has won.
        is_won: bool,
    },
    /// When a wait is over.
    Until(Timestamp),
    /// Who holds a conversation first.
    Holds(Holds),
}

/// A branch that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lost {
    /// Its number.
    pub branch: u32,
    /// How; of a long message the beginning.
    pub failure: Failure,
}

/// How many branches voted for a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    /// The value.
    pub value: serde_json::Value,
    /// How many branches voted for it.
    pub votes: u32,
}

/// An agent that was looked at for a need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// The agent's name.
    pub agent: AgentName,
    /// How well it fits in all, from 0 to 1.
    pub score: f64,
    /// How near its description is to the need, from 0 to 1.
    pub likeness: f64,
    /// How near the nearest need is that it met before, from 0 to 1; none: none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar_tasks: Option<f64>,
    /// Which share of its work succeeded, as far as the host knew.
    pub success: f64,
    /// Why it could not be taken; none: it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What comes after a round of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// Another round.
    Again,
    /// Nothing: what it works towards is there.
    Done,
    /// Nothing: there may be no more rounds.
    Exhausted,
    /// Nothing: the last rounds all gave the same.
    Stalled,
}

/// How a run began: all it needs to be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The agent or the workflow that it is a run of.
    pub target: Target,
    /// The digest of every agent in it.
    pub agents: BTreeMap<AgentName, Digest>,
    /// The workflow's document as pinned, in JSON; none for a lone call.
    pub document: Option<std::sync::Arc<str>>,
    /// The document's digest.
    pub document_digest: Option<Digest>,
    /// The run's input.
    pub input: Payload,
    /// The session it works in.
    pub session: SessionId,
    /// Whose key started it.
    pub by: KeyId,
    /// What the randomness of its guests, and its back-off, is drawn from.
    #[serde(with = "serde_bytes")]
    pub seed: [u8; 32],
    /// The caller's W3C trace context, passed on.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// How far the log of changes went, where that matters: to runs that wait for events from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The run that it was forked from: what happened there up to an entry has happened in this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked: Option<Forked>,
    /// The run that began it; none: a client did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<Parent>>,
    /// Which tick of a schedule started it; none: somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// What it follows from, where it follows from an event: what it publishes and begins follows from it likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Box<Follows>>,
    /// Which turn of its session it is; none: it only works in the session, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<session::Place>,
}

/// From which event a run follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// The event that all of it began with, the last one, and how many there were before.
    pub trail: Trail,
    /// The event that started it; none: a run did that follows from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Arrived>,
}

impl Follows {
    /// What begins or goes on elsewhere follows from the same, and no event started it.
    pub fn passed_on(of: Option<Trail>) -> Option<Box<Self>> {
        of.map(|trail| Box::new(Self { trail, arrived: None }))
    }
}

/// Where a run was forked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// The id of the run that it was forked from.
    pub of: RunId,
    /// Its last entry that counts.
    pub at: Seq,
}

impl Forked {
    /// How often a run may have been forked from one that was forked.
    pub const MOST: usize = 32;
}

/// What a version of an agent that took over from another one made again of a step before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The step.
    pub step: StepPath,
    /// How many host calls: all up to its last checkpoint.
    pub calls: u32,
}

/// What somebody changed in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// The key that changed it.
    pub by: KeyId,
    /// The step.
    pub step: StepPath,
    /// What of it.
    pub change: Amendment,
    /// Digest of what it had given; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Digest>,
    /// The step, and nodes above it, after which others come in a sequence or a loop: those are done again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StepPath>,
}

impl Amended {
    /// What the step gave by it; none: it is done again.
    pub fn output(self) -> Option<Payload> {
        match self.change {
            Amendment::Output(output) | Amendment::Gave(output) => Some(output),
            Amendment::Input(_) | Amendment::Again => None,
        }
    }
}

/// What was changed about a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amendment {
    /// It is done, and has given this.
    Output(Payload),
    /// The same of what is no step: a question, or what a run of its own does.
    Gave(Payload),
    /// It is done again, on this.
    Input(Payload),
    /// It is done again.
    Again,
}

/// A host call of a guest, as it was decided and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The step whose attempt made the call.
    pub step: StepPath,
    /// The number of the attempt.
    pub attempt: u32,
    /// Its number in the attempt, from 1 on, in call order.
    pub number: u32,
    /// The call's name, such as `memory.put`.
    pub call: String,
    /// What it is about, for people.
    pub about: String,
    /// The form in which the request was written to be digested ([`crate::call::form`]); 1 is not written down.
    #[serde(default = "first_form", skip_serializing_if = "is_first_form")]
    pub form: u32,
    /// Digest of the whole request: a replay must ask the same.
    pub request: Digest,
    /// The capability that let it pass, or whose lack refused it; none: the call needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Whether it was refused though that was granted: the tenant's ceiling withheld it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
    /// What the guest read of the clock since its last effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock: ClockReads,
    /// What it was answered.
    pub reply: Result<Reply, Refusal>,
}

fn first_form() -> u32 {
    1
}

fn is_first_form(form: &u32) -> bool {
    *form == 1
}

/// An act on a tenant's own things. Each is its own record: the ledger is the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Whose key; none: the host itself, at its first start.
    pub by: Option<KeyId>,
    /// What was done.
    pub change: Change,
}

/// What an act changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A new tenant.
    TenantCreated(Tenant),
    /// A tenant is deleted: its keys, agents, grants, workflows and its ceiling are gone with this, and whatever else it has goes piece
    /// by piece.
    TenantDeleted {
        /// The tenant's name.
        tenant: TenantId,
    },
    /// Nothing is left of a tenant that was deleted: its name is free.
    TenantGone {
        /// How its chain ended.
        head: Head,
    },
    /// A tenant's ceiling, whole.
    CeilingSet {
        /// The tenant whose ceiling it is.
        tenant: TenantId,
        /// The new one.
        ceiling: Ceiling,
    },
    /// A new key.
    KeyCreated(Key),
    /// A key taken back.
    KeyRevoked {
        /// The key's id.
        key: KeyId,
        /// When it was taken back.
        at: Timestamp,
    },
    /// A version of an agent.
    AgentPushed(Agent),
    /// A version of an agent that takes over what another one was granted, by the rule this was granted with.
    AgentUpgraded {
        /// The version.
        agent: Agent,
        /// The component whose grants it takes over.
        grants_of: Digest,
    },
    /// An agent with all its versions and grants.
    AgentDeleted {
        /// The agent's name.
        name: AgentName,
    },
    /// An agent's grants, whole.
    GrantsSet {
        /// The agent whose grants they are.
        agent: AgentName,
        /// The new set.
        grants: Vec<Capability>,
        /// The version they are for; none: for the newest, and older ones keep of theirs what the new set covers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// Whether the next version takes them over; none: of a build whose grants were a name's, whatever was pushed under it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carry: Option<Carry>,
    },
    /// One capability taken back from every version of an agent.
    GrantRevoked {
        /// The agent that had it.
        agent: AgentName,
        /// As it was granted.
        grant: Capability,
    },
    /// A workflow's document.
    WorkflowPut {
        /// Its name.
        name: WorkflowName,
        /// As it was sent.
        source: String,
        /// Of the source.
        digest: Digest,
        /// When it is started by itself, in the order of the document.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        schedules: Vec<Planned>,
        /// Which events start it, in the order of the document.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        triggers: Vec<Planted>,
    },
    /// A workflow removed.
    WorkflowDeleted {
        /// The workflow's name.
        name: WorkflowName,
    },
    /// A schedule starts nothing until it is continued.
    SchedulePaused {
        /// The workflow whose document has the schedule.
        workflow: WorkflowName,
        /// Its number there.
        number: u32,
        /// What it is: another one that has the number by now stays as it is.
        digest: Digest,
        /// Why, where the host did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A schedule that was paused starts runs again, in the name of who continued it.
    ScheduleContinued {
        /// The workflow whose document has the schedule.
        workflow: WorkflowName,
        /// Its number there.
        number: u32,
        /// What it is.
        digest: Digest,
        /// When it comes next.
        next: Timestamp,
    },
    /// A subscription is this from now on.
    SubscriptionPut {
        /// Its name.
        id: TriggerId,
        /// What it is, and where it begins if there was none of the name.
        planted: Box<Planted>,
    },
    /// A subscription is gone, with the events that it took in.
    SubscriptionDeleted {
        /// Its name.
        id: TriggerId,
    },
    /// A subscription starts nothing until it is continued.
    SubscriptionPaused {
        /// Its name.
        id: TriggerId,
        /// Why, where the host did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A subscription that was paused starts runs again, in the name of who continued it.
    SubscriptionContinued {
        /// Its name.
        id: TriggerId,
    },
    /// A subscription looks through its topic anew.
    SubscriptionReplayed {
        /// Its name.
        id: TriggerId,
        /// The place of the log after which it looks.
        after: Position,
        /// Whether events that it has seen start runs again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Somebody said what becomes of an event that came to nothing.
    DeadEventSettled {
        /// The subscription that took the event in.
        id: TriggerId,
        /// Where it stands.
        position: Position,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// A session was opened.
    SessionOpened {
        /// The session's id.
        id: SessionId,
        /// What it was opened with.
        settings: Box<session::Settings>,
        /// Which one it is a fork of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fork: Option<Box<session::Fork>>,
    },
    /// A session takes no more turns; those that it has come to their end first, or are ended.
    SessionClosed {
        /// The session's id.
        id: SessionId,
        /// Whether it had no turn for too long.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        expired: bool,
        /// Whether its turns are to be ended.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        now: bool,
    },
    /// A session was taken back to before its last turns: what they did to its memory is undone with this.
    SessionRewound {
        /// The session's id.
        id: SessionId,
        /// Its last turn that counts; 0: none.
        to: u32,
        /// That one's place among those that began: what began later is undone.
        began: Epoch,
        /// Who held the conversation then; none: whoever holds it first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holder: Option<Box<Holder>>,
        /// How many keys of its memory are as they were.
        keys: u32,
    },
    /// A person handed a session's conversation to another agent, between two turns.
    SessionHandedOver {
        /// The session whose conversation it is.
        session: SessionId,
        /// Who held it; none: whoever holds it first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<AgentName>,
        /// Who holds it from here on.
        to: AgentName,
        /// The reason that the person gave.
        reason: String,
    },
    /// A turn lost its session, for its run did not end when it was to: the next one begins, and whatever the run does comes too late.
    TurnLost {
        /// The session that the turn is of.
        session: SessionId,
        /// The turn's number.
        number: u32,
        /// The id of the turn's run.
        run: RunId,
        /// Why the turn lost the session, for people.
        why: String,
    },
    /// A change of shared context by a client: what was asked, as a guest's call would be.
    Context {
        /// The call's name, such as `memory.put`.
        call: String,
        /// What it is about, for people.
        about: String,
        /// Digest of the whole request.
        request: Digest,
    },
    /// A use case that policy refused.
    Refused {
        /// What was asked.
        action: String,
        /// Why it was refused, for people.
        why: String,
    },
    /// Reads of what is not the key's own, counted: the first of an hour is written at once, the others together.
    Accessed {
        /// What was read.
        what: String,
        /// How many reads these were.
        times: u64,
    },
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Its number in the run, from 1 on.
    pub seq: Seq,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}
