//! The fold: a run's journal, entry by entry, into where the run stands.
//!
//! Invariants: total (any journal folds, a damaged one too) and deterministic: the same entries give the same history.
//! Bounded: of effects only those of attempts still open, or up to a checkpoint from which another may go on, are kept, and
//! only where they are to be replayed. What an attempt did after its last checkpoint is forgotten where the attempt fails, and
//! where the run is taken over: it had not become true. Of a run that goes on rounds of loops that are over are forgotten ([`rounds`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ltmc_model::child::{Ended, MAX_CHILDREN};
use ltmc_model::effect::Reply;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::hand_off::HandedOff;
use ltmc_model::journal::{Amended, Decided, Effect, Entry, Event, Placed, RunStarted};
use ltmc_model::run::{State, Usage};
use ltmc_model::workflow;
use ltmc_model::{KeyId, Payload, Position, RunId, Seq, StepPath, Timestamp};
use serde::{Deserialize, Serialize};

use crate::forked::Forked;
use crate::node::{Approval, Asks, Branches, Child, Joined, Listens, Node, Round, Voted};
use crate::sealed::Tail;
use crate::undoing::{Ending, Undoing};

mod amend;
mod rounds;

use rounds::{Keeps, Worn};

/// How many effects one attempt may have.
pub const MAX_EFFECTS: u32 = 10_000;
/// How many bytes of replies one attempt may have journaled: what a replay must hold in memory.
pub const MAX_EFFECT_BYTES: u64 = 64 << 20;

/// What becomes of the effects that a fold meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Effects {
    /// Counted: for views, and for a run whose attempts are under way in this process.
    #[default]
    Count,
    /// Kept while their attempt is open: for a run that is taken up from its journal.
    Keep,
}

/// Where a run stands. What is written out of it is sealed ([`crate::sealed`]).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct History {
    #[serde(skip)]
    effects: Effects,
    #[serde(skip)]
    keeps: Keeps,
    started: Option<Arc<RunStarted>>,
    pub(crate) phase: Phase,
    suspended: Option<Timestamp>,
    seq: Seq,
    /// How many entries of the run that it was forked from there are before its own.
    behind: u64,
    /// How often one was forked from another.
    forks: usize,
    created_at: Timestamp,
    updated_at: Timestamp,
    ended_at: Option<Timestamp>,
    now: Timestamp,
    progress: u64,
    steps: BTreeMap<StepPath, Step>,
    /// How many of them have an attempt open, and how many wait for their next.
    running: usize,
    waiting: usize,
    /// Whether the last thing that happened was that a node failed, which waits until it is begun anew.
    is_retrying: bool,
    /// What is known of nodes besides their steps.
    nodes: BTreeMap<StepPath, Node>,
    /// What branches did that have a context of their own.
    forked: Forked,
    /// What somebody changed: it is so once the run goes on.
    amended: Vec<Amended>,
    /// What undoes what it did.
    pub(crate) undoing: Undoing,
    /// Whether somebody went on with it.
    was_resumed: bool,
    /// Runs that its guests began; not more than they may.
    children: BTreeSet<RunId>,
    /// How often each node began a run, or had it go on.
    begun: BTreeMap<StepPath, u32>,
    /// What is known of steps below loops that were forgotten.
    worn: BTreeMap<StepPath, Worn>,
    /// Whether something was changed in what was forgotten.
    is_cut: bool,
    /// What of its journal is not sealed.
    pub(crate) tail: Tail,
}

/// How far a run is, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Nothing has begun.
    #[default]
    Queued,
    /// Begun, and not over: where it stands is where its steps do.
    UnderWay,
    /// Done: the result is the output of this step, or of another node.
    Completed(StepPath),
    /// Over, badly.
    Failed(Failure),
    /// Ended by somebody.
    Cancelled {
        /// Whose key.
        by: Option<KeyId>,
        /// For people.
        reason: String,
    },
    /// Set aside, after it was taken up so often.
    Quarantined(u32),
    /// It waits for people: since when, and what failed; none: somebody paused it.
    Paused(Timestamp, Option<Failure>),
    /// What undoes its work has failed.
    Stuck(Failure),
}

/// One step, so far as it has begun.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Step {
    /// Where it stands.
    pub status: Status,
    /// Every try of it, in order.
    pub attempts: Vec<Attempt>,
    /// What it gave.
    pub output: Option<Payload>,
    /// Which entry says so, counted from the first of the run that it was forked from.
    pub ended_at: Seq,
    /// What somebody wants it done on; none: what its document says.
    pub given: Option<Payload>,
    /// What the randomness of its attempts is drawn from, where they go on from a checkpoint of the run that this one was forked
    /// from; none: that of this run.
    pub seed: Option<[u8; 32]>,
    /// What was found about its output; none: it was not judged. The error: what is wrong with it.
    pub verdict: Option<Result<(), Failure>>,
    /// From where its next attempt, or the open one where that is taken up, goes on.
    pub checkpoint: Checkpoint,
    /// The entry with which the journal of its effects begins, counted from the first of the run that it was forked from.
    began: Seq,
    /// Whether the open attempt, or the last one, is a transaction; where it is not, each of its effects is a checkpoint.
    pub transaction: bool,
    /// How many effects there were at each checkpoint, the last one included.
    pub checkpoints: Vec<u32>,
    /// Attempts made before the run was last resumed: they do not count against its retries.
    forgiven: u32,
    /// The parts of its work in which it was handed messages that may be in its hands still.
    pub took: BTreeSet<u32>,
    #[serde(skip)]
    replay: Vec<Effect>,
}

/// The last point up to which what a step did is true: the beginning, or a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The attempt under which the journal of effects begins, from 1 on; 0: no attempt was made.
    pub origin: u32,
    /// How many checkpoints there are.
    pub part: u32,
    /// How many effects there are up to here.
    pub effects: u32,
    /// Bytes of their replies.
    pub bytes: u64,
    /// How many log lines there are up to here.
    pub logs: u32,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    /// To be begun: not yet, or again because its run was resumed.
    #[default]
    Pending,
    /// An attempt is open.
    Running,
    /// The next attempt is due then.
    Waiting(Timestamp),
    /// It gave its output.
    Completed,
    /// There is no further attempt.
    Failed,
    /// It was ended because its outcome is not needed any more.
    Cancelled,
}

/// One try of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1 on.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; none: it is open.
    pub ended_at: Option<Timestamp>,
    /// How it ended badly.
    pub failure: Option<Failure>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Its effects so far, those included up to the checkpoint from which it went on.
    pub effects: u32,
    /// Bytes of their replies.
    pub effect_bytes: u64,
    /// Its log lines so far.
    pub logs: u32,
}

impl History {
    /// An empty one that only counts effects.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that keeps the effects of open attempts, for replay.
    pub fn for_replay() -> Self {
        Self { effects: Effects::Keep, ..Self::default() }
    }

    /// With the settings of `base`: whether effects and old rounds are kept.
    pub(crate) fn used_as(mut self, base: &Self) -> Self {
        (self.effects, self.keeps) = (base.effects, base.keeps);
        self
    }

    /// Takes in the next entry.
    pub fn apply(&mut self, placed: &Placed) {
        self.advance(placed.seq, &placed.entry);
    }

    /// Takes in the next entry, which stands at `seq`.
    pub fn advance(&mut self, seq: Seq, entry: &Entry) {
        let at = entry.at;
        self.seq = seq;
        let order = Seq(self.behind + seq.0);
        self.updated_at = at;
        self.tick(at);
        self.tail.grow(&entry.event);
        if !matches!(entry.event, Event::Act(_) | Event::Sealed { .. }) {
            self.suspended = None;
        }
        match &entry.event {
            Event::RunStarted(started) => {
                if started.forked.is_some() {
                    self.cut_off(at);
                }
                self.started = Some(Arc::new(RunStarted::clone(started)));
                self.created_at = at;
            }
            Event::RunClaimed { .. } => self.steps.values_mut().for_each(Step::go_back),
            Event::Act(_) | Event::Sealed { .. } => {}
            Event::StepStarted { step, attempt, transaction, .. } => {
                (self.phase, self.is_retrying) = (Phase::UnderWay, false);
                self.change(step, |step| step.begin(*attempt, at, *transaction, order));
            }
            Event::Effect(effect) => {
                let keep = self.effects == Effects::Keep;
                if let Ok(Reply::Begun(run) | Reply::Ended(Ended { run, .. })) = &effect.reply
                    && self.children.len() < MAX_CHILDREN
                {
                    self.children.insert(*run);
                }
                self.step_mut(&effect.step).effect(effect, keep);
            }
            Event::Checkpoint { step, attempt, .. } => {
                self.progress += 1;
                self.step_mut(step).keep(*attempt);
            }
            Event::Log { step, attempt, number, .. } => {
                if let Some(open) = self.step_mut(step).attempt_mut(*attempt) {
                    open.logs = open.logs.max(*number);
                }
            }
            Event::StepCompleted { step, attempt, output, usage } => {
                self.progress += 1;
                self.change(step, |step| {
                    step.end(*attempt, at, None, *usage);
                    step.replay = Vec::new();
                    step.status = Status::Completed;
                    step.output = Some(output.clone());
                    step.ended_at = order;
                    step.verdict = None;
                });
            }
            Event::StepFailed { step, attempt, failure, retry_at, usage } => {
                self.change(step, |step| {
                    step.end(*attempt, at, Some(failure), *usage);
                    if retry_at.is_none() {
                        step.took.clear();
                    }
                    step.status = retry_at.map_or(Status::Failed, Status::Waiting);
                });
            }
            Event::StepJudged { step, rejection } => {
                let verdict = Some(rejection.clone().map_or(Ok(()), Err));
                match self.steps.get_mut(step) {
                    Some(step) => step.verdict = verdict,
                    None => self.node_mut(step).verdict = verdict,
                }
            }
            Event::StepCancelled { step, attempt } => {
                self.change(step, |step| {
                    step.end(*attempt, at, Some(&not_needed()), Usage::default());
                    step.took.clear();
                    step.status = Status::Cancelled;
                });
            }
            Event::NodeStarted { node, until } => self.node_mut(node).until = Some(*until),
            Event::NodeDecided { node, decided } => {
                self.decided(node, decided);
                if matches!(decided, Decided::Until(_)) {
                    self.node_mut(node).waits_since = Some(at);
                }
            }
            Event::NodeEnded { node, output } => {
                self.progress += 1;
                let node = self.node_mut(node);
                node.output = Some(output.clone());
                node.ended_at = order;
            }
            Event::NodeGave { node, of } => {
                // Of what came from before it nobody need look through all that passed it on.
                let passed_on = self.keeps == Keeps::Recent && !of.is_within(node);
                let of = if passed_on { self.giver(of).clone() } else { of.clone() };
                let node = self.node_mut(node);
                node.gave = Some(of);
                node.ended_at = order;
            }
            Event::NodeFailed { node, failure, retry_at: None } => self.node_mut(node).failure = Some(failure.clone()),
            Event::NodeFailed { node, retry_at, .. } => {
                let failed = self.node_mut(node);
                failed.failures += 1;
                failed.retry_at = *retry_at;
                self.begin_anew(node);
                self.is_retrying = true;
            }
            Event::ChildStarted { node, run, .. } => {
                (self.phase, self.is_retrying) = (Phase::UnderWay, false);
                let (begun, forks) = (self.begun(node).saturating_add(1), self.forks);
                self.begun.insert(node.clone(), begun);
                let node = self.node_mut(node);
                node.child = Some(Child { run: *run, ended: None, again: false, forks });
                node.waits_since = Some(at);
            }
            Event::ChildEnded { node, run, result } => {
                self.progress += 1;
                let forks = self.forks;
                let node = self.node_mut(node);
                let ended = Some(result.as_ref().map(|_| ()).map_err(Failure::clone));
                node.child = Some(Child { run: *run, ended, again: false, forks });
                if let Ok(output) = result {
                    node.output = Some(output.clone());
                    node.ended_at = order;
                }
            }
            Event::NodeTimedOut { node, after } => {
                let after = std::time::Duration::from_millis(*after);
                let failure = Failure::new(Code::TimedOut, format!("it took longer than its time-out of {after:?}"));
                let timed_out = self.node_mut(node);
                timed_out.failure = Some(failure.in_step(node));
                timed_out.is_timed_out = true;
            }
            Event::Asked { node, token, question } => {
                let (token, title) = (token.clone(), question.title.clone());
                let asks = Asks { token, title, of: question.of, at, reminded: 0 };
                let node = self.node_mut(node);
                (node.asks, node.waits_since) = (Some(asks), Some(at));
            }
            Event::Reminded { node, number, .. } => {
                if let Some(asks) = &mut self.node_mut(node).asks {
                    asks.reminded = *number;
                }
            }
            Event::Answered { node, answer, comment, .. } => {
                self.progress += 1;
                let node = self.node_mut(node);
                if node.planned.is_some() {
                    // It is about what was planned, and no output.
                    let is_given = answer.to_value().is_ok_and(|answer| answer == true);
                    node.approval = Some(Approval { is_given, comment: comment.clone() });
                    node.asks = None;
                } else {
                    node.output = Some(answer.clone());
                    node.ended_at = order;
                }
            }
            Event::Emitted { node, .. } => {
                self.progress += 1;
                self.node_mut(node).is_emitted = true;
            }
            Event::Subscribed { node, topic, subject, kind, after } => {
                let (topic, subject, kind) = (topic.clone(), subject.clone(), kind.clone());
                let (after, heard) = (*after, *after);
                let listens = Listens { topic, subject, kind, after, heard, is_heard: false, is_open: true };
                let node = self.node_mut(node);
                (node.listens, node.waits_since) = (Some(listens), Some(at));
            }
            Event::EventTaken { node, event, .. } => {
                self.progress += 1;
                let node = self.node_mut(node);
                node.output = Some(event.clone());
                node.ended_at = order;
            }
            Event::WaitCancelled { node } => self.node_mut(node).is_cancelled = true,
            Event::RunSuspended { until, heard } => {
                self.suspended = Some(*until);
                if let Some(heard) = heard {
                    self.heard_up_to(*heard);
                }
            }
            Event::BasePinned { fork, key, base } => self.forked.pinned(fork, key, base.as_ref()),
            Event::BranchChanged(done) => self.forked.done(done),
            Event::ContextMerged(merged) => {
                self.progress += 1;
                self.forked.merged(merged);
            }
            Event::ContextConflicted { node, conflicts, count } => self.forked.conflicted(node, conflicts, *count),
            Event::HandedOff(handed) => {
                let node = self.node_mut(&handed.node);
                node.hand_offs.push(HandedOff::clone(handed));
                let turn = node.hand_offs.len();
                self.node_mut(&handed.node.child(turn)).option = Some(Some(handed.number));
            }
            Event::ConflictRaised(raised) => self.forked.raised(raised),
            Event::MergeAnswered { node, key, answer, .. } => self.forked.answered(node, key, answer),
            Event::CompensationRegistered { node, given } => self.registered(node, given),
            Event::CompensationStarted { node, within, failure } => self.in_vain(node, within, failure),
            Event::Compensated { node } => {
                self.progress += 1;
                self.compensated(node);
            }
            Event::RunFailing { failure } => self.unwind(at, Ending::Failing(failure.clone())),
            Event::RunCancelling { by, reason } => {
                self.unwind(at, Ending::Cancelling { by: by.clone(), reason: reason.clone() });
            }
            Event::RunPaused { failure, .. } => self.phase = Phase::Paused(at, failure.clone()),
            Event::RunContinued { .. } => {
                self.was_resumed = true;
                self.go_on(at);
            }
            Event::RunStuck { failure } => self.phase = Phase::Stuck(failure.clone()),
            Event::RunCompleted { step } => self.end(at, Phase::Completed(step.clone())),
            Event::RunFailed { failure } => self.end(at, Phase::Failed(failure.clone())),
            Event::RunCancelled { by, reason } => {
                self.end(at, Phase::Cancelled { by: by.clone(), reason: reason.clone() });
            }
            // What is open stays so, with what it has in hand: whoever resumes it goes on there.
            Event::RunQuarantined { taken_up } => self.phase = Phase::Quarantined(*taken_up),
            Event::AgentReplaced { agent, to, .. } => {
                if let Some(started) = &mut self.started {
                    Arc::make_mut(started).agents.insert(agent.clone(), *to);
                }
            }
            Event::Amended(amended) => self.amended.push(Amended::clone(amended)),
            Event::RunResumed { .. } => {
                self.was_resumed = true;
                self.resume();
                for amended in std::mem::take(&mut self.amended) {
                    self.amend(&amended, order, at);
                }
                if self.keeps == Keeps::UntilResumed {
                    self.keeps = Keeps::Recent;
                }
            }
        }
    }

    /// Another run goes on from here: its entries are counted from 1 on.
    pub fn branch_off(&mut self) {
        self.behind += self.seq.0;
        self.seq = Seq(0);
        self.forks += 1;
    }

    /// How often a run was forked from another one on the way to this.
    pub fn forks(&self) -> usize {
        self.forks
    }

    /// The run is another one from here on: whatever is open is cut off, and goes on with it from its checkpoint.
    fn cut_off(&mut self, at: Timestamp) {
        let seed = self.started.as_ref().map(|started| started.seed);
        for step in self.steps.values_mut() {
            step.cut_off(at);
            step.took.clear();
            if step.checkpoint.part > 0 && step.seed.is_none() {
                step.seed = seed;
            }
        }
        (self.running, self.waiting, self.is_retrying) = (0, 0, false);
        self.end(at, Phase::Cancelled { by: None, reason: "another run was forked from it".into() });
    }

    /// Says that it is `now`, for what is due; never goes back.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The latest moment this history knows of: that of its last entry, or of the last tick.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How the run began; none: its first entry is missing.
    pub fn started(&self) -> Option<&Arc<RunStarted>> {
        self.started.as_ref()
    }

    /// How far the run is, as rows show it.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Queued | Phase::UnderWay if self.suspended.is_some() => State::Waiting,
            Phase::Queued => State::Queued,
            Phase::UnderWay if self.running == 0 && (self.waiting > 0 || self.is_retrying) => State::Waiting,
            Phase::UnderWay => State::Running,
            Phase::Completed(_) => State::Completed,
            Phase::Failed(_) => State::Failed,
            Phase::Cancelled { .. } => State::Cancelled,
            Phase::Quarantined(_) => State::Quarantined,
            Phase::Paused(..) => State::Paused,
            Phase::Stuck(_) => State::Stuck,
        }
    }

    /// Until when it is suspended; none: it is not.
    pub fn suspended(&self) -> Option<Timestamp> {
        self.suspended
    }

    /// Whether somebody went on with it after it was over, or set aside.
    pub fn was_resumed(&self) -> bool {
        self.was_resumed
    }

    /// How many entries it is made of.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// How often anything that a step did became true: grows whenever the run comes further.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// When the run began.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When its journal last grew.
    pub fn updated_at(&self) -> Timestamp {
        self.updated_at
    }

    /// When it was over; none: it is not.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended_at
    }

    /// Runs that its guests began, of which the journal tells.
    pub fn children(&self) -> &BTreeSet<RunId> {
        &self.children
    }

    /// Nodes that began a run which is not known to be over, at a node or below it.
    pub fn open_children<'a>(&'a self, node: &'a StepPath) -> impl Iterator<Item = (&'a StepPath, RunId)> {
        let within = self.nodes.range(node..).take_while(|(path, _)| path.is_within(node));
        within.filter_map(|(path, node)| Some((path, node.child.as_ref().filter(|child| child.is_open())?.run)))
    }

    /// Those of [`Self::open_children`] that are of a node's own work.
    pub fn own_children<'a>(&'a self, node: &'a StepPath) -> impl Iterator<Item = (&'a StepPath, RunId)> {
        self.open_children(node).filter(|(path, _)| !workflow::Node::is_undoing(path, node))
    }

    /// Whether it was cancelled by no client: because its own had gone, or the run that had begun it was over.
    pub fn is_cancelled_by_host(&self) -> bool {
        matches!(self.phase, Phase::Cancelled { by: None, .. })
    }

    /// A step, if it has begun.
    pub fn step(&self, path: &StepPath) -> Option<&Step> {
        self.steps.get(path)
    }

    /// What is known of a node besides its steps.
    pub fn node(&self, path: &StepPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// What branches did that have a context of their own.
    pub fn forked(&self) -> &Forked {
        &self.forked
    }

    /// Nodes of which more is known than their steps.
    pub fn nodes(&self) -> impl Iterator<Item = (&StepPath, &Node)> {
        self.nodes.iter()
    }

    /// Steps that have begun, in the order of their paths.
    pub fn steps(&self) -> impl Iterator<Item = (&StepPath, &Step)> {
        self.steps.iter()
    }

    /// Steps at a node or below it that have begun.
    pub fn steps_within<'a>(&'a self, node: &'a StepPath) -> impl Iterator<Item = (&'a StepPath, &'a Step)> {
        // A node's paths stand together: `/` comes before every digit.
        self.steps.range(node..).take_while(|(path, _)| path.is_within(node))
    }

    /// Notes how far a node has looked for its event. A memo: not journaled.
    pub fn heard(&mut self, node: &StepPath, up_to: Position) {
        if let Some(listens) = self.nodes.get_mut(node).and_then(|node| node.listens.as_mut()) {
            (listens.heard, listens.is_heard) = (listens.heard.max(up_to), true);
        }
    }

    /// Notes that there may be more for a node to look for its event in. A memo: not journaled.
    pub fn may_hear(&mut self, node: &StepPath) {
        if let Some(listens) = self.nodes.get_mut(node).and_then(|node| node.listens.as_mut()) {
            listens.is_heard = false;
        }
    }

    /// Up to where all nodes looked for their events that wait for any; none: none does.
    pub fn all_heard(&self) -> Option<Position> {
        let waiting = self.nodes.values().filter(|node| node.is_waiting());
        waiting.filter_map(|node| node.listens.as_ref().filter(|listens| listens.is_open)).map(|l| l.heard).min()
    }

    fn heard_up_to(&mut self, heard: Position) {
        for listens in self.nodes.values_mut().filter_map(|node| node.listens.as_mut()) {
            listens.heard = listens.heard.max(heard);
        }
    }

    /// Whether anything at a node or below it is under way: an attempt, a child, or what it waits for.
    pub fn is_open_within(&self, node: &StepPath) -> bool {
        let steps = self.open_within(node).next().is_some();
        steps || self.own_children(node).next().is_some() || self.waiting_within(node).next().is_some()
    }

    /// Nodes of a node's own work, at it or below it, that wait for a time, or for what comes from outside.
    pub fn waiting_within<'a>(&'a self, node: &'a StepPath) -> impl Iterator<Item = &'a StepPath> {
        let within = self.nodes.range(node..).take_while(|(path, _)| path.is_within(node));
        let own = within.filter(|(path, _)| !workflow::Node::is_undoing(path, node));
        own.filter(|(_, node)| node.is_waiting()).map(|(path, _)| path)
    }

    /// Steps of a node's own work that are open, at it and below it. What undoes something below it is none of them.
    pub fn open_within<'a>(&'a self, node: &'a StepPath) -> impl Iterator<Item = (&'a StepPath, &'a Step)> {
        let open = self.steps_within(node).filter(|(_, step)| step.is_open());
        open.filter(|(path, _)| !workflow::Node::is_undoing(path, node))
    }

    /// Whether anything at a node or below it has begun.
    pub fn has_begun(&self, node: &StepPath) -> bool {
        let decided = self.nodes.range(node..).next().is_some_and(|(path, _)| path.is_within(node));
        decided || self.steps_within(node).next().is_some()
    }

    /// Whether anything at a node or below it has come further than to be begun anew.
    pub fn has_got_on(&self, node: &StepPath) -> bool {
        let decided = self.nodes.range(node..).next().is_some_and(|(path, _)| path.is_within(node));
        decided || self.steps_within(node).any(|(_, step)| step.status != Status::Pending)
    }

    /// What a node's pattern has found out about its branches.
    pub fn branches(&mut self, node: &StepPath) -> &mut Branches {
        &mut self.node_mut(node).branches
    }

    /// Whose output a node's is: its own, that of another one below it, or that of the one it passes on.
    pub fn giver<'a>(&'a self, path: &'a StepPath) -> &'a StepPath {
        let mut at = path;
        // A node gives what stands below it, or what was given before it, so this ends.
        while let Some(of) = self.nodes.get(at).and_then(|node| node.gave.as_ref()).filter(|of| *of != at) {
            at = of;
        }
        at
    }

    /// What a step gave, or another node.
    pub fn output(&self, path: &StepPath) -> Option<&Payload> {
        let path = self.giver(path);
        let of_node = self.nodes.get(path).and_then(|node| node.output.as_ref());
        of_node.or_else(|| self.steps.get(path).and_then(|step| step.output.as_ref()))
    }

    /// The same, where it was not found wanting: what others may pick from.
    pub fn given(&self, path: &StepPath) -> Option<&Payload> {
        let step = self.steps.get(self.giver(path));
        let is_rejected = step.is_some_and(|step| matches!(step.verdict, Some(Err(_))));
        let is_rejected = is_rejected || self.nodes.get(path).is_some_and(Node::is_rejected);
        if is_rejected { None } else { self.output(path) }
    }

    /// Which entry says what a node gave, counted from the first of the run that it was forked from.
    pub fn gave_at(&self, path: &StepPath) -> Seq {
        let mut path = path;
        while let Some((node, of)) = self.nodes.get(path).and_then(|node| Some((node, node.gave.as_ref()?))) {
            // What it was given it gave only when it passed that on.
            if of == path || !of.is_within(path) {
                return node.ended_at;
            }
            path = of;
        }
        let of_step = self.steps.get(path).map(|step| step.ended_at);
        of_step.or_else(|| self.nodes.get(path).map(|node| node.ended_at)).unwrap_or_default()
    }

    /// The step, or another node, whose output is the run's result; none: it is not completed.
    pub fn completed(&self) -> Option<&StepPath> {
        match &self.phase {
            Phase::Completed(step) => Some(step),
            _ => None,
        }
    }

    /// The run's result: once it is over, and not cancelled.
    pub fn result(&self) -> Option<Result<Payload, Failure>> {
        match &self.phase {
            Phase::Completed(step) => Some(self.output(step).cloned().ok_or_else(|| {
                Failure::new(Code::Internal, format!("the journal has no output of {step}, the run's result"))
            })),
            Phase::Failed(failure) => Some(Err(failure.clone())),
            Phase::Cancelled { reason, .. } => Some(Err(Failure::new(Code::Cancelled, reason.clone()))),
            Phase::Quarantined(taken_up) => Some(Err(Failure::new(Code::Quarantined, quarantined(*taken_up)))),
            Phase::Paused(_, failure) => Some(Err(paused(failure.as_ref()))),
            Phase::Stuck(failure) => Some(Err(stuck(failure))),
            Phase::Queued | Phase::UnderWay => None,
        }
    }

    /// The effects of a step's open attempt that a replay answers from; they are handed out once. From then on effects
    /// are only counted.
    pub fn take_replay(&mut self, path: &StepPath) -> Vec<Effect> {
        self.effects = Effects::Count;
        self.steps.get_mut(path).map(|step| std::mem::take(&mut step.replay)).unwrap_or_default()
    }

    /// The entry of the run's own journal with which that of a step's effects begins; none: it is that of a run that it was forked from.
    pub fn began(&self, step: &StepPath) -> Option<Seq> {
        let began = self.steps.get(step)?.began.0;
        (began > self.behind).then(|| Seq(began - self.behind))
    }

    /// Who has messages in hand that are to be let go with this event. An attempt that another goes on from lets go of what was
    /// taken since its checkpoint; a step that is over lets go of everything. One that is taken over has what it had.
    pub fn let_go(&self, event: &Event) -> Vec<(StepPath, Checkpoint)> {
        let since = |path: &StepPath, step: &Step| {
            let here = step.took.contains(&step.checkpoint.part);
            here.then(|| (path.clone(), step.checkpoint)).into_iter().collect::<Vec<_>>()
        };
        let all = |path: &StepPath, step: &Step| {
            let parts = step.took.iter();
            parts.map(|part| (path.clone(), Checkpoint { part: *part, ..step.checkpoint })).collect::<Vec<_>>()
        };
        let of = |path: &StepPath| self.steps.get_key_value(path);
        match event {
            Event::StepCompleted { step, .. }
            | Event::StepFailed { step, retry_at: None, .. }
            | Event::StepCancelled { step, .. } => of(step).map(|(path, step)| all(path, step)).unwrap_or_default(),
            Event::StepFailed { step, .. } => of(step).map(|(path, step)| since(path, step)).unwrap_or_default(),
            Event::RunFailed { .. } | Event::RunCancelled { .. } => {
                self.steps.iter().flat_map(|(path, step)| all(path, step)).collect()
            }
            Event::RunResumed { .. } if !self.amended.is_empty() => {
                self.to_be_forgotten().into_iter().filter_map(of).flat_map(|(path, step)| all(path, step)).collect()
            }
            Event::RunFailing { .. } | Event::RunCancelling { .. } => {
                let own = self.steps.iter().filter(|(path, _)| !is_undoing(path));
                own.flat_map(|(path, step)| all(path, step)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn step_mut(&mut self, path: &StepPath) -> &mut Step {
        if !self.steps.contains_key(path) {
            self.steps.insert(path.clone(), Step::default());
        }
        self.steps.get_mut(path).expect("it was inserted just now")
    }

    /// What is open of the run's own work is ended, and then what it did is undone. What undoes something already is not ended: it
    /// begins again at its last checkpoint.
    fn unwind(&mut self, at: Timestamp, ending: Ending) {
        (self.phase, self.is_retrying) = (Phase::UnderWay, false);
        let (undoing, own): (Vec<StepPath>, Vec<StepPath>) = self.steps.keys().cloned().partition(is_undoing);
        for path in own {
            self.change(&path, |step| {
                step.took.clear();
                if step.is_open() {
                    step.end(step.last().map_or(0, |last| last.number), at, Some(&not_needed()), Usage::default());
                    step.status = Status::Cancelled;
                }
            });
        }
        undoing.iter().for_each(|path| self.step_mut(path).go_back());
        let own = self.nodes.iter_mut().filter(|(path, _)| !is_undoing(path));
        for child in own.filter_map(|(_, node)| node.child.as_mut()).filter(|child| child.is_open()) {
            child.ended = Some(Err(not_needed()));
        }
        self.undoing.ending = Some(ending);
    }

    /// Whoever paused it goes on: how long that was takes nothing of the time that its nodes may take.
    fn go_on(&mut self, at: Timestamp) {
        if let Phase::Paused(since, _) = self.phase {
            let away = at.since(since);
            self.nodes.values_mut().filter_map(|node| node.until.as_mut()).for_each(|until| *until = until.after(away));
        }
        self.phase = Phase::UnderWay;
    }

    /// Somebody goes on with it. What was undone is done again; where it is only what undoes it that failed, that alone is made again.
    fn resume(&mut self) {
        let is_over = matches!(self.phase, Phase::Failed(_) | Phase::Cancelled { .. });
        if is_over && (self.undoing.ending.is_some() || self.undoing.is_under_way()) {
            return self.start_over();
        }
        if self.undoing.ending.is_some() || self.undoing.is_under_way() {
            return self.reopen(is_undoing);
        }
        self.redo_what_was_undone();
        self.reopen(|_| true);
    }

    /// All that it did was undone: it is to be done again from the start.
    fn start_over(&mut self) {
        (self.phase, self.ended_at, self.is_retrying) = (Phase::UnderWay, None, false);
        for path in self.steps.keys().cloned().collect::<Vec<_>>() {
            self.change(&path, |step| step.begin_anew(true));
        }
        self.nodes.clear();
        self.wear(|_| true);
        self.forked = Forked::default();
        self.undoing = Undoing::default();
    }

    /// What was undone and came to nothing that stays is begun anew, with everything that was in vain with it.
    fn redo_what_was_undone(&mut self) {
        let undone = self.nodes.iter().filter(|(_, node)| node.is_undone());
        let within = undone.filter_map(|(_, node)| Some(node.compensation.as_ref()?.begun.as_ref()?.within.clone()));
        let within: BTreeSet<StepPath> = within.filter(|path| !self.is_settled(path, &[])).collect();
        for path in within {
            self.begin_anew(&path);
        }
    }

    /// Changes a step, and keeps count of where steps stand.
    fn change(&mut self, path: &StepPath, change: impl FnOnce(&mut Step)) {
        let step = self.step_mut(path);
        let before = step.status;
        change(step);
        let after = step.status;
        self.count(before, after);
    }

    fn count(&mut self, before: Status, after: Status) {
        let counted = |history: &mut Self, status: Status, change: fn(usize) -> usize| match status {
            Status::Running => history.running = change(history.running),
            Status::Waiting(_) => history.waiting = change(history.waiting),
            Status::Pending | Status::Completed | Status::Failed | Status::Cancelled => {}
        };
        counted(self, before, |count| count - 1);
        counted(self, after, |count| count + 1);
    }

    fn end(&mut self, at: Timestamp, phase: Phase) {
        // Whoever resumes it has nothing in hand.
        self.steps.values_mut().for_each(|step| step.took.clear());
        self.phase = phase;
        self.ended_at = Some(at);
    }

    pub(crate) fn node_mut(&mut self, path: &StepPath) -> &mut Node {
        if !self.nodes.contains_key(path) {
            self.nodes.insert(path.clone(), Node::default());
        }
        self.nodes.get_mut(path).expect("it was inserted just now")
    }

    fn decided(&mut self, path: &StepPath, decided: &Decided) {
        if let Decided::Round { gave, next, .. } = decided {
            let in_a_row = self.in_a_row(path, gave.as_ref());
            self.node_mut(path).rounds.push(Round { gave: gave.clone(), next: *next, in_a_row });
            return self.forget_rounds(path);
        }
        let node = self.node_mut(path);
        match decided {
            Decided::When(holds) => node.when = Some(*holds),
            Decided::Option(option) => node.option = Some(*option),
            Decided::Handler(handler) => node.handler = Some(*handler),
            Decided::Agent { agent, candidates } => {
                (node.agent, node.candidates) = (Some(agent.clone()), candidates.as_slice().into());
            }
            Decided::Planned(document) => node.planned = Some(document.clone()),
            Decided::Items(items) => node.items = Some(items.as_slice().into()),
            Decided::Round { .. } => {}
            // Whoever speaks later is told of it: none is forgotten.
            Decided::Turn { gave, next, .. } => {
                node.rounds.push(Round { gave: gave.clone(), next: *next, in_a_row: 0 });
            }
            Decided::Until(until) => node.waits_until = Some(*until),
            Decided::Holds(holds) => {
                node.holds = Some(holds.clone());
                self.node_mut(&path.child(0)).option = Some(Some(holds.number));
            }
            Decided::Joined { winners, failure, lost } => {
                let (winners, lost) = (winners.as_slice().into(), lost.as_slice().into());
                node.joined = Some(Joined { winners, failure: failure.clone(), lost });
            }
            Decided::Voted { counts, of, is_won } => {
                node.voted = Some(Voted { counts: counts.as_slice().into(), of: *of, is_won: *is_won });
            }
        }
    }

    /// Everything at a node and below it is to be done again.
    fn begin_anew(&mut self, node: &StepPath) {
        let below: Vec<StepPath> = self.steps_within(node).map(|(path, _)| path.clone()).collect();
        for path in below {
            // A step that is a node itself counts its tries on.
            let forgives = path != *node;
            self.change(&path, |step| step.begin_anew(forgives));
        }
        self.nodes.retain(|path, _| path == node || !path.is_within(node));
        self.wear(|path| path.is_within(node));
        self.forked.begin_anew(node);
        self.undoing.forget_below(node);
        self.node_mut(node).begin_anew();
    }

    /// The same, unless something stands ready to undo what was done there: that comes first. Whether it is so at once.
    fn redo(&mut self, path: &StepPath) -> bool {
        let is_at_once = self.next_to_undo(|below| below.is_within(path)).is_none();
        if is_at_once {
            self.begin_anew(path);
        } else {
            let node = self.node_mut(path);
            node.is_to_be_redone = true;
            (node.until, node.retry_at, node.failures) = (None, None, 0);
        }
        is_at_once
    }

    /// Of what is meant: what is completed keeps its output, except where that was found wanting; what failed may try again. A
    /// failure that was handled stays so, with everything below it.
    fn reopen(&mut self, is_meant: impl Fn(&StepPath) -> bool) {
        // Before verdicts were journaled, a run said over which output it failed.
        let of_the_run = match &self.phase {
            Phase::Failed(failure) if failure.code == Code::ValidationFailed => failure.step.clone(),
            _ => None,
        };
        let is_rescued = |path: &StepPath| self.nodes.get(path).is_some_and(Node::is_rescued);
        let by_verdict =
            self.steps.iter().filter(|(path, step)| matches!(step.verdict, Some(Err(_))) && !is_rescued(path));
        let nodes = self.nodes.iter().filter(|(_, node)| node.is_rejected());
        let rejected = by_verdict.map(|(path, _)| path).chain(nodes.map(|(path, _)| path)).cloned();
        let rejected: Vec<StepPath> = rejected.chain(of_the_run).filter(|path| is_meant(path)).collect();
        self.phase = Phase::UnderWay;
        self.ended_at = None;
        for path in &rejected {
            if !self.is_settled(path, &rejected) {
                self.redo(path);
            }
        }
        self.reopen_nodes(&rejected, &is_meant);
        let settled: BTreeSet<StepPath> = self
            .steps
            .iter()
            .filter(|(_, step)| matches!(step.status, Status::Failed | Status::Cancelled))
            .filter(|(path, _)| self.is_settled(path, &rejected))
            .map(|(path, _)| path.clone())
            .collect();
        let (mut running, mut waiting) = (0, 0);
        for (path, step) in &mut self.steps {
            let has_failed = matches!(step.status, Status::Failed | Status::Cancelled);
            if has_failed && is_meant(path) && !settled.contains(path) {
                let mismatch = |last: &Attempt| last.failure.as_ref().is_some_and(|f| f.code == Code::ReplayMismatch);
                if step.last().is_some_and(mismatch) {
                    // What it did up to its checkpoint stays done, and somebody has it begin at the beginning all the same:
                    // from the checkpoint it would come to the same end.
                    step.forget_checkpoints();
                }
                step.status = Status::Pending;
                step.output = None;
                step.verdict = None;
                // Who failed at it need not be who does it again.
                if let Some(node) = self.nodes.get_mut(path) {
                    node.agent = None;
                }
            }
            step.forgiven = u32::try_from(step.attempts.len()).unwrap_or(u32::MAX);
            running += usize::from(step.status == Status::Running);
            waiting += usize::from(matches!(step.status, Status::Waiting(_)));
        }
        (self.running, self.waiting, self.is_retrying) = (running, waiting, false);
    }

    /// Nodes that gave nothing yet forget how they failed, and what was decided by it.
    fn reopen_nodes(&mut self, rejected: &[StepPath], is_meant: &impl Fn(&StepPath) -> bool) {
        let open: Vec<StepPath> = self
            .nodes
            .iter()
            .filter(|(path, node)| is_meant(path) && !node.has_ended() && !self.is_settled(path, rejected))
            .map(|(path, _)| path.clone())
            .collect();
        for path in open {
            let Some(node) = self.nodes.get_mut(&path) else { continue };
            let has_failed = node.failure.take().is_some();
            (node.until, node.retry_at, node.failures, node.is_timed_out) = (None, None, 0, false);
            (node.handler, node.branches) = (None, Branches::default());
            // What was asked is asked anew: whoever has the old question cannot answer it any more.
            (node.asks, node.is_cancelled) = (None, false);
            node.approval.take_if(|approval| !approval.is_given);
            if let Some(listens) = &mut node.listens {
                // It goes on looking from where it began, and the record is to tell it again.
                (listens.heard, listens.is_heard, listens.is_open) = (listens.after, false, false);
            }
            // What it did is not done again. One that another run began, which this was forked from, stays that one's.
            node.child.take_if(|child| child.forks < self.forks);
            if let Some(child) = &mut node.child {
                (child.ended, child.again) = (None, true);
            }
            if node.joined.as_ref().is_some_and(|joined| joined.failure.is_some()) {
                node.joined = None;
            }
            let again = node.rounds.take_end().map(|_| path.child(workflow::Loop::number(node.rounds.len())));
            if has_failed && self.next_to_undo(|below| below.is_within(&path)).is_some() {
                self.redo(&path);
                continue;
            }
            // What was done in its place may be needed no more, and what it was done for is another failure then.
            let rescues = self.steps.keys().chain(self.nodes.keys()).filter(|_| has_failed).filter_map(|below| {
                let rest = below.is_within(&path).then(|| below.way().nth(path.way().count())).flatten()?;
                let is_rescue = rest >= workflow::Node::FALLBACK && workflow::Node::is_beside(rest);
                is_rescue.then(|| path.child(rest))
            });
            let rescues: BTreeSet<StepPath> = rescues.collect();
            for path in rescues {
                self.begin_anew(&path);
                self.nodes.remove(&path);
            }
            if let Some(round) = again
                && self.redo(&round)
            {
                self.nodes.remove(&round);
            }
        }
    }

    /// Whether something at a path, or above it, has ended all the same: what became of it does not matter any more.
    fn is_settled(&self, path: &StepPath, rejected: &[StepPath]) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if !rejected.contains(&path) && self.nodes.get(&path).is_some_and(Node::has_ended) {
                return true;
            }
            // What undoes a node's work is not over because that is.
            at = path.parent().filter(|_| path.way().last() != Some(workflow::Node::COMPENSATION));
        }
        false
    }
}

impl Step {
    /// The last attempt.
    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Whether an attempt of it is under way, or it waits for its next.
    pub fn is_open(&self) -> bool {
        matches!(self.status, Status::Running | Status::Waiting(_))
    }

    /// The number that the next attempt has, or that the open one has.
    pub fn attempt(&self) -> u32 {
        let last = self.last().map_or(0, |attempt| attempt.number);
        if self.status == Status::Running { last } else { last.saturating_add(1) }
    }

    /// How many attempts were made since the run began or was last resumed.
    pub fn tries(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX).saturating_sub(self.forgiven)
    }

    /// All of it is to be done again.
    fn begin_anew(&mut self, forgives: bool) {
        self.status = Status::Pending;
        (self.output, self.verdict) = (None, None);
        self.forget_checkpoints();
        if forgives {
            self.forgiven = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        }
    }

    fn forget_checkpoints(&mut self) {
        self.checkpoint = Checkpoint::default();
        self.checkpoints.clear();
        self.seed = None;
    }

    fn begin(&mut self, number: u32, at: Timestamp, transaction: bool, order: Seq) {
        self.status = Status::Running;
        // An attempt of before left its effects behind, each true by itself; the one after it began at the beginning.
        let before_was_one = std::mem::replace(&mut self.transaction, transaction);
        if !before_was_one || self.checkpoint.part == 0 {
            self.replay.clear();
            self.forget_checkpoints();
            self.checkpoint = Checkpoint { origin: number, ..Checkpoint::default() };
            self.began = order;
            self.took.clear();
        }
        self.attempts.push(Attempt {
            number,
            started_at: at,
            ended_at: None,
            failure: None,
            usage: None,
            effects: 0,
            effect_bytes: 0,
            logs: 0,
        });
        self.go_back();
    }

    /// What is open begins again at the checkpoint: what came after it was not true yet, and is made anew.
    fn go_back(&mut self) {
        if self.status != Status::Running {
            return;
        }
        let checkpoint = self.checkpoint;
        self.replay.truncate(checkpoint.effects as usize);
        if let Some(open) = self.attempts.last_mut() {
            (open.effects, open.effect_bytes, open.logs) = (checkpoint.effects, checkpoint.bytes, checkpoint.logs);
        }
    }

    /// What the open attempt did so far is true.
    fn keep(&mut self, number: u32) {
        let Some(open) = self.attempt_mut(number) else { return };
        let (effects, bytes, logs) = (open.effects, open.effect_bytes, open.logs);
        // One of before is a transaction from its first checkpoint on.
        self.transaction = true;
        let Checkpoint { origin, part, .. } = self.checkpoint;
        self.checkpoint = Checkpoint { origin, part: part + 1, effects, bytes, logs };
        self.checkpoints.push(effects);
    }

    fn attempt_mut(&mut self, number: u32) -> Option<&mut Attempt> {
        self.attempts.last_mut().filter(|attempt| attempt.number == number)
    }

    fn effect(&mut self, effect: &Effect, keep: bool) {
        let open = self.attempts.last_mut().filter(|attempt| attempt.number == effect.attempt);
        let Some(attempt) = open else { return };
        attempt.effects += 1;
        attempt.effect_bytes += effect.reply.as_ref().map_or(0, Reply::size);
        if matches!(&effect.reply, Ok(Reply::Deliveries(taken)) if !taken.is_empty()) {
            self.took.insert(self.checkpoint.part);
        }
        // Of one that was sealed in the middle of them none are kept: whoever needs them reads all.
        if keep && self.replay.len() + 1 == attempt.effects as usize {
            self.replay.push(effect.clone());
        }
        if !self.transaction {
            self.checkpoint.effects = attempt.effects;
            self.checkpoint.bytes = attempt.effect_bytes;
            self.checkpoint.logs = attempt.logs;
        }
    }

    fn end(&mut self, number: u32, at: Timestamp, failure: Option<&Failure>, usage: Usage) {
        if failure.is_some() {
            self.replay.truncate(self.checkpoint.effects as usize);
            self.took.remove(&self.checkpoint.part);
        } else {
            self.took.clear();
        }
        if let Some(attempt) = self.attempt_mut(number) {
            attempt.ended_at = Some(at);
            attempt.failure = failure.cloned();
            attempt.usage = Some(usage);
        }
    }
}

/// Why a run is set aside, and what can be done about it.
fn quarantined(taken_up: u32) -> String {
    format!(
        "the host died while it took this run up, which it had tried {taken_up} times: the run is set aside, and what it did is \
         kept; look at what its next step is given, then resume it or cancel it"
    )
}

/// Why a run waits for people, and what can be done about it.
fn paused(failure: Option<&Failure>) -> Failure {
    let Some(failure) = failure else {
        return Failure::new(Code::Paused, "somebody paused the run: continue it, or cancel it");
    };
    let Failure { code, message, .. } = failure;
    let why = format!(
        "it is not tried again, and waits for people: {}: {message}; put right what is wrong and resume the run, or cancel it",
        code.as_str()
    );
    Failure { message: why, code: Code::Paused, retryable: false, ..failure.clone() }
}

/// The same of a run of which something was not undone.
fn stuck(failure: &Failure) -> Failure {
    let Failure { code, message, .. } = failure;
    let why = format!(
        "what undoes its work has failed: {}: {message}; put right what is wrong and resume the run, which tries that again, or \
         cancel it, which gives up what is not undone",
        code.as_str()
    );
    Failure { message: why, code: Code::Stuck, retryable: false, ..failure.clone() }
}

/// Whether a step is a part of what undoes something.
fn is_undoing(path: &StepPath) -> bool {
    workflow::Node::is_undoing(path, &StepPath::root())
}

/// How what is ended fails that nobody waits for.
pub fn not_needed() -> Failure {
    Failure::new(Code::Cancelled, "its outcome is not needed any more")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    fn history(events: impl IntoIterator<Item = Event>) -> History {
        let mut history = History::new();
        for event in events {
            history.advance(history.seq().next(), &Entry { at: AT, event });
        }
        history
    }

    fn started(step: &StepPath) -> Event {
        Event::StepStarted {
            step: step.clone(),
            attempt: 1,
            agent: None,
            version: None,
            needs: Vec::new(),
            transaction: true,
        }
    }

    fn failed(step: &StepPath, retry_at: Option<Timestamp>) -> Event {
        let failure = Failure::new(Code::AgentError, "no");
        Event::StepFailed { step: step.clone(), attempt: 1, failure, retry_at, usage: Usage::default() }
    }

    #[test]
    fn a_run_waits_where_one_of_its_steps_does_and_none_is_at_work() {
        let [one, two] = [0, 1].map(|index| StepPath::root().child(index));
        let mut so_far = vec![];
        let mut then = |event, state| {
            so_far.push(event);
            assert_eq!(history(so_far.clone()).state(), state, "after {:?}", so_far.last());
        };
        then(started(&one), State::Running);
        then(started(&two), State::Running);
        then(failed(&one, Some(AT)), State::Running);
        then(failed(&two, Some(AT)), State::Waiting);
        then(started(&two), State::Running);
        then(failed(&two, None), State::Waiting);
        then(Event::RunFailed { failure: Failure::new(Code::AgentError, "no") }, State::Failed);
        then(Event::RunResumed { by: "abcdefghijkl".parse().unwrap() }, State::Waiting);
        then(started(&one), State::Running);
    }

    #[test]
    fn it_is_suspended_until_anything_happens() {
        let until = AT.after(std::time::Duration::from_secs(60));
        let step = StepPath::root();
        let mut so_far = vec![started(&step), failed(&step, Some(until)), Event::RunSuspended { until, heard: None }];
        assert_eq!(history(so_far.clone()).suspended(), Some(until));
        so_far.push(Event::RunClaimed { epoch: ltmc_model::Epoch(2) });
        assert_eq!(history(so_far).suspended(), None);
    }

    #[test]
    fn a_run_that_is_set_aside_goes_on_where_it_was_once_it_is_resumed() {
        let step = StepPath::root();
        let mut so_far = vec![started(&step), Event::RunQuarantined { taken_up: 2 }];
        let aside = history(so_far.clone());
        assert_eq!((aside.state(), aside.ended_at()), (State::Quarantined, None));
        assert_eq!(aside.result().unwrap().unwrap_err().code, Code::Quarantined);
        so_far.push(Event::RunResumed { by: "abcdefghijkl".parse().unwrap() });
        let resumed = history(so_far);
        assert_eq!((resumed.state(), resumed.step(&step).unwrap().attempt()), (State::Running, 1));
        assert_eq!(resumed.result(), None);
    }

    #[test]
    fn a_node_has_an_output_of_its_own() {
        let (node, step) = (StepPath::root(), StepPath::root().child(0));
        let (of_the_node, usage) = (Payload::text("all"), Usage::default());
        let output = Payload::text("one");
        let history = history([
            started(&step),
            Event::StepCompleted { step: step.clone(), attempt: 1, output: output.clone(), usage },
            Event::NodeEnded { node: node.clone(), output: of_the_node.clone() },
            Event::RunCompleted { step: node.clone() },
        ]);
        assert_eq!((history.output(&step), history.output(&node)), (Some(&output), Some(&of_the_node)));
        assert_eq!(history.result(), Some(Ok(of_the_node)));
    }

    #[test]
    fn what_was_found_wanting_is_done_again_once_it_is_resumed() {
        let [good, bad] = [0, 1].map(|index| StepPath::root().child(index));
        let completed = |step: &StepPath| {
            let (step, usage) = (step.clone(), Usage::default());
            Event::StepCompleted { step, attempt: 1, output: Payload::text("out"), usage }
        };
        let rejection = Failure::new(Code::ValidationFailed, "no").in_step(&bad);
        let mut history = history([
            started(&good),
            completed(&good),
            Event::StepJudged { step: good.clone(), rejection: None },
            started(&bad),
            completed(&bad),
            Event::StepJudged { step: bad.clone(), rejection: Some(rejection.clone()) },
            Event::RunFailed { failure: rejection },
        ]);
        let resumed = Entry { at: AT, event: Event::RunResumed { by: "abcdefghijkl".parse().unwrap() } };
        history.advance(history.seq().next(), &resumed);
        let verdict = |path| history.step(path).map(|step| (step.status, step.verdict.clone()));
        assert_eq!(verdict(&good), Some((Status::Completed, Some(Ok(())))));
        assert_eq!(verdict(&bad), Some((Status::Pending, None)));
    }
}
