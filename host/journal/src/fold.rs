//! The fold: a run's journal, entry by entry, into where the run stands.
//!
//! Invariants: total (any journal folds, a damaged one too) and deterministic: the same entries give the same history.
//! Bounded: of effects only those of attempts still open, or up to a checkpoint from which another may go on, are kept, and
//! only where they are to be replayed. What an attempt did after its last checkpoint is forgotten where the attempt fails, and
//! where the run is taken over: it had not become true. Of a run that goes on rounds of loops that are over are forgotten ([`rounds`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Amended, Effect, Event, Placed, RunStarted};
use ltmc_model::message::Trail;
use ltmc_model::run::State;
use ltmc_model::workflow;
use ltmc_model::{KeyId, Payload, Position, RunId, Seq, StepPath, Timestamp};
use serde::{Deserialize, Serialize};

use crate::forked::Forked;
use crate::node::{Branches, Node};
use crate::sealed::Tail;
use crate::undoing::Undoing;

mod amend;
mod anew;
mod entries;
mod rounds;
mod step;

use anew::is_undoing;
use rounds::{Keeps, Worn};

pub use step::{Attempt, Checkpoint, Status, Step};

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
    /// What follows from it, by what it began with and the events that it waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trail: Option<Trail>,
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
        /// The key that ended it; none: the client went away, or the host ended it.
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

    /// What events that the run publishes now, and runs that it begins, follow from; none: from no event.
    pub fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
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

/// How what is ended fails that nobody waits for.
pub fn not_needed() -> Failure {
    Failure::new(Code::Cancelled, "its outcome is not needed any more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ltmc_model::journal::Entry;
    use ltmc_model::run::Usage;

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
