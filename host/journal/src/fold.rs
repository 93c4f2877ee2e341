//! The fold: a run's journal, entry by entry, into where the run stands.
//!
//! Invariants: total (any journal folds, a damaged one too) and deterministic: the same entries give the same history.
//! Bounded: of effects only those of attempts still open, or up to a checkpoint from which another may go on, are kept, and
//! only where they are to be replayed. What an attempt did after its last checkpoint is forgotten where the attempt fails, and
//! where the run is taken over: it had not become true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ltmc_model::effect::Reply;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Effect, Entry, Event, Placed, RunStarted};
use ltmc_model::run::{State, Usage};
use ltmc_model::{KeyId, Payload, Seq, StepPath, Timestamp};

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

/// Where a run stands.
#[derive(Debug, Clone, Default)]
pub struct History {
    effects: Effects,
    started: Option<Arc<RunStarted>>,
    phase: Phase,
    seq: Seq,
    created_at: Timestamp,
    updated_at: Timestamp,
    ended_at: Option<Timestamp>,
    now: Timestamp,
    progress: u64,
    steps: BTreeMap<StepPath, Step>,
}

/// How far a run is, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing has begun.
    #[default]
    Queued,
    /// At work.
    Running,
    /// Between two attempts.
    Waiting,
    /// Done: the result is this step's output.
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
}

/// One step, so far as it has begun.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Where it stands.
    pub status: Status,
    /// Every try of it, in order.
    pub attempts: Vec<Attempt>,
    /// What it gave.
    pub output: Option<Payload>,
    /// Whether its output has been found good; a memo of this process, not in the journal.
    pub judged: bool,
    /// From where its next attempt, or the open one where that is taken up, goes on.
    pub checkpoint: Checkpoint,
    /// Whether the open attempt, or the last one, is a transaction; where it is not, each of its effects is a checkpoint.
    pub transaction: bool,
    /// How many effects there were at each checkpoint, the last one included.
    pub checkpoints: Vec<u32>,
    /// Attempts made before the run was last resumed: they do not count against its retries.
    forgiven: u32,
    /// The parts of its work in which it was handed messages that may be in its hands still.
    pub took: BTreeSet<u32>,
    replay: Vec<Effect>,
}

/// The last point up to which what a step did is true: the beginning, or a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
}

/// One try of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// Takes in the next entry.
    pub fn apply(&mut self, placed: &Placed) {
        self.advance(placed.seq, &placed.entry);
    }

    /// Takes in the next entry, which stands at `seq`.
    pub fn advance(&mut self, seq: Seq, entry: &Entry) {
        let at = entry.at;
        self.seq = seq;
        self.updated_at = at;
        self.tick(at);
        match &entry.event {
            Event::RunStarted(started) => {
                self.started = Some(Arc::new(RunStarted::clone(started)));
                self.created_at = at;
            }
            Event::RunClaimed { .. } => self.steps.values_mut().for_each(Step::go_back),
            Event::Act(_) => {}
            Event::StepStarted { step, attempt, transaction, .. } => {
                self.phase = Phase::Running;
                self.step_mut(step).begin(*attempt, at, *transaction);
            }
            Event::Effect(effect) => {
                let keep = self.effects == Effects::Keep;
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
                let step = self.step_mut(step);
                step.end(*attempt, at, None, *usage);
                step.replay = Vec::new();
                step.status = Status::Completed;
                step.output = Some(output.clone());
                step.judged = false;
            }
            Event::StepFailed { step, attempt, failure, retry_at, usage } => {
                let step = self.step_mut(step);
                step.end(*attempt, at, Some(failure), *usage);
                if retry_at.is_none() {
                    step.took.clear();
                }
                step.status = retry_at.map_or(Status::Failed, Status::Waiting);
                if retry_at.is_some() {
                    self.phase = Phase::Waiting;
                }
            }
            Event::RunCompleted { step } => self.end(at, Phase::Completed(step.clone())),
            Event::RunFailed { failure } => self.end(at, Phase::Failed(failure.clone())),
            Event::RunCancelled { by, reason } => {
                self.end(at, Phase::Cancelled { by: by.clone(), reason: reason.clone() });
            }
            Event::RunResumed { .. } => self.reopen(),
        }
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

    /// How far the run is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The same, as rows show it.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Queued => State::Queued,
            Phase::Running => State::Running,
            Phase::Waiting => State::Waiting,
            Phase::Completed(_) => State::Completed,
            Phase::Failed(_) => State::Failed,
            Phase::Cancelled { .. } => State::Cancelled,
        }
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

    /// A step, if it has begun.
    pub fn step(&self, path: &StepPath) -> Option<&Step> {
        self.steps.get(path)
    }

    /// What a step gave.
    pub fn output(&self, path: &StepPath) -> Option<&Payload> {
        self.steps.get(path).and_then(|step| step.output.as_ref())
    }

    /// The run's result: once it is over, and not cancelled.
    pub fn result(&self) -> Option<Result<Payload, Failure>> {
        match &self.phase {
            Phase::Completed(step) => Some(self.output(step).cloned().ok_or_else(|| {
                Failure::new(Code::Internal, format!("the journal has no output of step {step}, the run's result"))
            })),
            Phase::Failed(failure) => Some(Err(failure.clone())),
            Phase::Cancelled { reason, .. } => Some(Err(Failure::new(Code::Cancelled, reason.clone()))),
            Phase::Queued | Phase::Running | Phase::Waiting => None,
        }
    }

    /// Remembers that a step's output was found good.
    pub fn judge(&mut self, path: &StepPath) {
        self.step_mut(path).judged = true;
    }

    /// The effects of a step's open attempt that a replay answers from; they are handed out once. From then on effects
    /// are only counted.
    pub fn take_replay(&mut self, path: &StepPath) -> Vec<Effect> {
        self.effects = Effects::Count;
        self.steps.get_mut(path).map(|step| std::mem::take(&mut step.replay)).unwrap_or_default()
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
            Event::StepCompleted { step, .. } | Event::StepFailed { step, retry_at: None, .. } => {
                of(step).map(|(path, step)| all(path, step)).unwrap_or_default()
            }
            Event::StepFailed { step, .. } => of(step).map(|(path, step)| since(path, step)).unwrap_or_default(),
            Event::RunFailed { .. } | Event::RunCancelled { .. } => {
                self.steps.iter().flat_map(|(path, step)| all(path, step)).collect()
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

    fn end(&mut self, at: Timestamp, phase: Phase) {
        // Whoever resumes it has nothing in hand.
        self.steps.values_mut().for_each(|step| step.took.clear());
        self.phase = phase;
        self.ended_at = Some(at);
    }

    /// Completed steps keep their output, except the one whose output the run failed over; failed ones may try again.
    fn reopen(&mut self) {
        let rejected = match &self.phase {
            Phase::Failed(failure) if failure.code == Code::ValidationFailed => failure.step.clone(),
            _ => None,
        };
        self.phase = Phase::Running;
        self.ended_at = None;
        for (path, step) in &mut self.steps {
            let within_rejected = rejected.as_ref().is_some_and(|rejected| is_within(path, rejected));
            if within_rejected || step.status == Status::Failed {
                step.status = Status::Pending;
                step.output = None;
                step.judged = false;
            }
            let mismatch = |last: &Attempt| last.failure.as_ref().is_some_and(|f| f.code == Code::ReplayMismatch);
            if within_rejected || step.last().is_some_and(mismatch) {
                // What it did up to its checkpoint stays done, and somebody has it begin at the beginning all the same: from
                // the checkpoint it would come to the same end.
                step.checkpoint = Checkpoint::default();
                step.checkpoints.clear();
            }
            step.forgiven = u32::try_from(step.attempts.len()).unwrap_or(u32::MAX);
        }
    }
}

impl Step {
    /// The last attempt.
    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The number that the next attempt has, or that the open one has.
    pub fn attempt(&self) -> u32 {
        let last = self.last().map_or(0, |attempt| attempt.number);
        if self.status == Status::Running { last } else { last + 1 }
    }

    /// How many attempts were made since the run began or was last resumed.
    pub fn tries(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX).saturating_sub(self.forgiven)
    }

    fn begin(&mut self, number: u32, at: Timestamp, transaction: bool) {
        self.status = Status::Running;
        // An attempt of before left its effects behind, each true by itself; the one after it began at the beginning.
        let before_was_one = std::mem::replace(&mut self.transaction, transaction);
        if !before_was_one || self.checkpoint.part == 0 {
            self.replay.clear();
            self.checkpoints.clear();
            self.checkpoint = Checkpoint { origin: number, ..Checkpoint::default() };
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
        if keep {
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

fn is_within(path: &StepPath, of: &StepPath) -> bool {
    path.as_str().strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
