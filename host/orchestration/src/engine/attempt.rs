//! An attempt of a step: prepared, run in the sandbox, and journaled as it ends.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_crossing::{Attempt, BegunAt, Crossing, MAX_STAGED_TIME};
use ltmc_journal::fold::Status;
use ltmc_journal::runlog::Commit;
use ltmc_model::agent::AgentRef;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Event;
use ltmc_model::limits::Limits;
use ltmc_model::manifest::Isolation;
use ltmc_model::run::Usage;
use ltmc_model::workflow::Retry;
use ltmc_model::{StepPath, Timestamp};
use ltmc_ports::Durability;
use ltmc_ports::runner::{Job, Outcome};
use ltmc_processor::Account;
use tokio_util::task::AbortOnDropHandle;

use super::{Engine, Stop, TRIES_WHEN_BUSY};
use crate::prepared::Assigned;
use crate::resumed::Resumed;
use crate::{holding, judge, metered, take_up};

/// When each step's attempt first began in this process: one that begins again because others were faster has its wall time
/// once, over all its beginnings.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(Mutex<BTreeMap<StepPath, (u32, tokio::time::Instant)>>);

impl Beginnings {
    /// So many of the last ones are kept: what began before them is over, and in the record, long since.
    const KEPT: usize = 20_000;

    /// For how long an attempt has been under way.
    pub(super) fn since(&self, step: &StepPath, attempt: u32) -> Duration {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (attempt, tokio::time::Instant::now());
        let first = begun.entry(step.clone()).or_insert(now);
        if first.0 != attempt {
            *first = now;
        }
        let since = first.1;
        if begun.len() >= 2 * Self::KEPT {
            let mut times: Vec<_> = begun.values().map(|(_, at)| *at).collect();
            let (_, oldest, _) = times.select_nth_unstable(Self::KEPT);
            let oldest = *oldest;
            begun.retain(|_, (_, at)| *at >= oldest);
        }
        since.elapsed()
    }
}

impl Engine<'_> {
    /// Makes a step's next attempt, or goes on with the one that is open. How it ends is in the log.
    pub(super) async fn attempt(&self, step: &StepPath, assigned: Assigned, needs: Vec<StepPath>) -> Result<(), Stop> {
        let begun = Instant::now();
        let (Assigned { agent, work, input, retry }, preparer) = (assigned, self.preparer());
        let attempt = self.open_attempt(step, &agent, needs).await?;
        let _at_work = self.coordinator.at_work(self.log.tenant(), &agent.name);
        let begun_at = self.begun_at(step).await?;
        let spent = self.beginnings.since(step, attempt);
        let prepared = preparer.job(step, begun_at.checkpoint.origin, &agent, work, input).await;
        let (ended, usage, commit) = match prepared.and_then(|(job, isolation)| Ok((in_time(job, spent)?, isolation))) {
            Err(failure) => (Err(failure), Usage::default(), Commit::default()),
            Ok((job, isolation)) => self.run_attempt(step, attempt, begun_at, job, isolation).await?,
        };
        // What it began and did not wait for is not needed any more.
        self.children.end(step);
        let (step, outcome) = (step.clone(), ended.as_ref().map_or_else(|failure| failure.code.as_str(), |_| "ok"));
        metered::CALLS.of([outcome]).increment(1);
        metered::CALL_SECONDS.record(begun.elapsed());
        let (failed, now) = (ended.as_ref().err().map(|failure| failure.code), self.log.now());
        self.coordinator.note(self.log.tenant(), &agent.name, failed, begun.elapsed(), now);
        match ended {
            Ok(outcome) => {
                let output = match outcome {
                    Outcome::Output(output) => output,
                    Outcome::Violations(found) => judge::to_payload(&found),
                };
                let completed = Event::StepCompleted { step, attempt, output, usage };
                self.count(&completed);
                self.log.stage_with(completed, commit).await?;
            }
            Err(failure) => {
                let failure = failure.in_step(&step);
                let retry_at = self.retry_at(&step, attempt, &failure, &retry);
                // What it says is its tenant's: that is in the journal, and here only for who looks closely.
                tracing::info!(%step, attempt, code = failure.code.as_str(), "an attempt failed");
                tracing::debug!(%step, attempt, message = %failure.message, "an attempt failed");
                self.journal(Event::StepFailed { step, attempt, failure, retry_at, usage });
            }
        }
        Ok(())
    }

    /// Journals that a step's next attempt begins, unless one is open that can be gone on with; its number.
    async fn open_attempt(&self, step: &StepPath, agent: &AgentRef, needs: Vec<StepPath>) -> Result<u32, Stop> {
        let preparer = self.preparer();
        if self.log.staged_for() > MAX_STAGED_TIME {
            self.log.flush(Durability::Lazy).await?;
        }
        let (mut attempt, mut is_open, is_of_before, effects) = self.log.read(|history| {
            let found = history.step(step);
            let is_open = found.is_some_and(|found| found.status == Status::Running);
            let is_of_before = is_open && found.is_some_and(|found| !found.transaction);
            let effects = found.map_or(0, |found| found.checkpoint.effects);
            (history.attempt(step), is_open, is_of_before, effects)
        });
        if is_open && preparer.sees_directories(agent).await.map_err(Stop::Failed)? {
            // What it read of a directory is in no journal: it is another attempt that may read something else.
            let message = "it read a granted directory when the host stopped: it is made again";
            let failure = Failure::new(Code::Unavailable, message).retryable().in_step(step);
            let (retry_at, usage) = (Some(self.log.now()), Usage::default());
            self.journal(Event::StepFailed { step: step.clone(), attempt, failure, retry_at, usage });
            (attempt, is_open) = (attempt + 1, false);
        }
        if is_open && is_of_before {
            // Each of its effects is true by itself; what it does from here on is a transaction.
            self.journal(Event::Checkpoint { step: step.clone(), attempt, effects });
        }
        if !is_open {
            let version = preparer.version(agent);
            let agent = Some(agent.name.clone());
            self.journal(Event::StepStarted { step: step.clone(), attempt, agent, version, needs, transaction: true });
        }
        Ok(attempt)
    }

    /// Has a guest do an attempt's work: how it ended, what it used, and what becomes true where it ended well.
    async fn run_attempt(
        &self,
        step: &StepPath,
        number: u32,
        begun_at: BegunAt,
        job: Job,
        isolation: Isolation,
    ) -> Result<(Result<Outcome, Failure>, Usage, Commit), Stop> {
        let (left, levels) = (begun_at.replay.len(), self.levels(step));
        let (log, step) = (self.log.clone(), step.clone());
        let attempt = Attempt {
            holding: holding::of(self.plan, &log, &step),
            log,
            children: self.children.clone(),
            conversation: self.conversation.clone(),
            agent: job.agent.clone(),
            component: job.component,
            step,
            number,
            begun_at,
            overtaken: self.overtaken,
            levels,
            isolation,
        };
        let gate = Arc::new(Resumed::new(Crossing::new(self.ports.crossing.clone(), attempt), left));
        self.bounded.store(true, Ordering::Relaxed);
        let mut run = self.guest(job, gate.clone());
        let show = async {
            tokio::time::sleep(MAX_STAGED_TIME).await;
            self.log.flush(Durability::Lazy).await
        };
        // Side by side to the end: the guest may be in the middle of an append that this one waits for.
        let (ended, usage) = tokio::select! {
            biased;
            ended = &mut run => ended,
            shown = show => {
                shown?;
                run.await
            }
        };
        let ended = gate.check(ended);
        // One that ends badly leaves nothing of what it did.
        let commit = if ended.is_ok() { gate.commit().await } else { Commit::default() };
        Ok((ended, usage, commit))
    }

    /// Runs a guest; on a task of its own where others may be at work beside it.
    fn guest(&self, job: Job, gate: Arc<Resumed>) -> BoxFuture<'static, (Result<Outcome, Failure>, Usage)> {
        let (runner, at_work) = (self.ports.runner.clone(), self.guests.begin(&job.step));
        let guest = async move {
            let _at_work = at_work;
            runner.run(job, gate).await
        };
        if !self.plan.is_side_by_side {
            return guest.boxed();
        }
        let account = Account::of(self.log.tenant());
        let task = AbortOnDropHandle::new(tokio::spawn(ltmc_processor::run(account, guest)));
        let broke = |e| (Err(Failure::new(Code::Internal, format!("a guest's task broke off: {e}"))), Usage::default());
        task.map(move |ended| ended.unwrap_or_else(broke)).boxed()
    }

    /// From where the attempt that is open goes on: its beginning, or the last checkpoint of its step, with the effects up to
    /// there. Those of an attempt of this process's own are read from the record, for nobody kept them.
    async fn begun_at(&self, step: &StepPath) -> Result<BegunAt, Stop> {
        let (mut begun_at, log) = (self.log.read_mut(|history| BegunAt::of(history, step)), self.log);
        if begun_at.replay.len() < begun_at.checkpoint.effects as usize {
            log.flush(Durability::Lazy).await?;
            let (read, began) = (self.ports.read.as_ref(), self.log.read(|history| history.began(step)));
            begun_at = take_up::begun_at(read, log.tenant(), log.run(), step, &begun_at, began).await?;
        }
        Ok(begun_at)
    }

    /// When the next attempt is due; none: there is no other.
    fn retry_at(&self, step: &StepPath, attempt: u32, failure: &Failure, retry: &Retry) -> Option<Timestamp> {
        let tries = self.log.read(|history| history.step(step).map_or(1, |step| step.tries()));
        let is_busy = failure.code == Code::Busy && self.log.started().document.is_some();
        let (attempts, retry) = match is_busy {
            true => (retry.attempts.max(TRIES_WHEN_BUSY), Retry { backoff: Duration::from_secs(1), ..retry.clone() }),
            false => (retry.attempts, retry.clone()),
        };
        let is_worth_it = is_busy || retry.covers(failure);
        (tries < attempts && is_worth_it).then(|| self.due(step, attempt, tries, &retry))
    }
}

/// What is left of a job's wall time after what was spent of it in vain.
fn in_time(job: Job, spent: Duration) -> Result<Job, Failure> {
    let wall = job.limits.wall;
    let left = wall.checked_sub(spent).filter(|left| !left.is_zero()).ok_or_else(|| {
        let message = format!("what it decided on was changed by others until its wall time of {wall:?} was used up");
        Failure::new(Code::LimitWall, message)
    })?;
    Ok(Job { limits: Limits { wall: left, ..job.limits }, ..job })
}
