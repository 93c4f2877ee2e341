//! The journal: what happened, entry by entry. The state of a run is a fold of its entries. What is told by entries of one kind stands in a
//! file of its own, and the kinds here.
//!
//! Invariant: an entry, once written, is read for ever. A new field has a default; a new kind of event is a new variant.

use serde::{Deserialize, Serialize};

use crate::effect::LogLine;
use crate::failure::Failure;
use crate::fork::{Answer, Conflict, Done, Merged, Raised};
use crate::hand_off::HandedOff;
use crate::memory::Item;
use crate::message::{Topic, Trail};
use crate::question::{Question, Token};
use crate::run::Usage;
use crate::{AgentName, Digest, Epoch, KeyId, Payload, Position, Revision, RunId, StepPath, Timestamp};

mod act;
mod amended;
mod decided;
mod effect;
mod entry;
mod started;

pub use act::{Act, Change};
pub use amended::{Amended, Amendment, Replayed};
pub use decided::{Candidate, Count, Decided, Input, Lost, Next};
pub use effect::Effect;
pub use entry::{Commits, Entry, Placed};
pub use started::{Follows, Forked, RunStarted, Semantics};

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
