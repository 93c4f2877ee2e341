//! A step, and its attempts, as far as a journal has them.

use std::collections::BTreeSet;

use ltmc_model::effect::Reply;
use ltmc_model::failure::Failure;
use ltmc_model::journal::Effect;
use ltmc_model::run::Usage;
use ltmc_model::{Payload, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::not_needed;

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
    /// What was wrong with what it gave when that was last judged: known still while it is tried again.
    pub rejected: Option<Failure>,
    /// From where its next attempt, or the open one where that is taken up, goes on.
    pub checkpoint: Checkpoint,
    /// The entry with which the journal of its effects begins, counted from the first of the run that it was forked from.
    pub(super) began: Seq,
    /// Whether the open attempt, or the last one, is a transaction; where it is not, each of its effects is a checkpoint.
    pub transaction: bool,
    /// How many effects there were at each checkpoint, the last one included.
    pub checkpoints: Vec<u32>,
    /// Attempts made before the run was last resumed: they do not count against its retries.
    pub(super) forgiven: u32,
    /// The parts of its work in which it was handed messages that may be in its hands still.
    pub took: BTreeSet<u32>,
    #[serde(skip)]
    pub(super) replay: Vec<Effect>,
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
    pub(super) fn begin_anew(&mut self, forgives: bool) {
        self.status = Status::Pending;
        (self.output, self.verdict) = (None, None);
        self.forget_checkpoints();
        if forgives {
            self.forgiven = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn forget_checkpoints(&mut self) {
        self.checkpoint = Checkpoint::default();
        self.checkpoints.clear();
        self.seed = None;
    }

    pub(super) fn begin(&mut self, number: u32, at: Timestamp, transaction: bool, order: Seq) {
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
    pub(super) fn go_back(&mut self) {
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
    pub(super) fn keep(&mut self, number: u32) {
        let Some(open) = self.attempt_mut(number) else { return };
        let (effects, bytes, logs) = (open.effects, open.effect_bytes, open.logs);
        // One of before is a transaction from its first checkpoint on.
        self.transaction = true;
        let Checkpoint { origin, part, .. } = self.checkpoint;
        self.checkpoint = Checkpoint { origin, part: part + 1, effects, bytes, logs };
        self.checkpoints.push(effects);
    }

    pub(super) fn attempt_mut(&mut self, number: u32) -> Option<&mut Attempt> {
        self.attempts.last_mut().filter(|attempt| attempt.number == number)
    }

    pub(super) fn effect(&mut self, effect: &Effect, keep: bool) {
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

    /// An attempt ended well.
    pub(super) fn complete(&mut self, number: u32, at: Timestamp, output: &Payload, usage: Usage, order: Seq) {
        self.end(number, at, None, usage);
        self.replay = Vec::new();
        self.status = Status::Completed;
        self.output = Some(output.clone());
        self.ended_at = order;
        self.verdict = None;
    }

    /// An attempt ended badly. `retry_at`: when the next one is due; none: there is none.
    pub(super) fn fail(
        &mut self,
        number: u32,
        at: Timestamp,
        failure: &Failure,
        retry_at: Option<Timestamp>,
        usage: Usage,
    ) {
        self.end(number, at, Some(failure), usage);
        if retry_at.is_none() {
            self.took.clear();
        }
        self.status = retry_at.map_or(Status::Failed, Status::Waiting);
    }

    /// An attempt was ended, for nobody needs what would come of it.
    pub(super) fn cancel(&mut self, number: u32, at: Timestamp) {
        self.end(number, at, Some(&not_needed()), Usage::default());
        self.took.clear();
        self.status = Status::Cancelled;
    }

    pub(super) fn end(&mut self, number: u32, at: Timestamp, failure: Option<&Failure>, usage: Usage) {
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
