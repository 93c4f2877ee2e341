//! The engine: does what patterns decide, and journals it.
//!
//! Invariants: everything that is done is in the run's log before the pattern is asked again. Dropping [`Engine::drive`]
//! anywhere ends its attempts and leaves a log that can be gone on with. An error of the record's ends it: what is true is
//! then known only by reading the record.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ltmc_crossing::{Attempt, BegunAt, Crossing, MAX_STAGED_TIME, broken};
use ltmc_journal::fold::Status;
use ltmc_journal::runlog::Commit;
use ltmc_journal::{History, RunLog};
use ltmc_model::agent::{Agent, AgentRef, Export};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Event;
use ltmc_model::limits::Limits;
use ltmc_model::workflow::{Retry, Validate};
use ltmc_model::{AgentName, Payload, StepPath, Timestamp};
use ltmc_ports::runner::{Directory, Job, Outcome};
use ltmc_ports::{Durability, StoreError};
use ltmc_tenancy::Compute;
use sha2::{Digest as _, Sha256};

use crate::patterns::{Decision, Input, Todo};
use crate::plan::{self, Plan, validator_path};
use crate::resumed::Resumed;
use crate::runs::Ports;
use crate::{input, judge, metered, supervise};

/// How often a step of a workflow is tried in all when all that is wrong is that the host is busy.
const TRIES_WHEN_BUSY: u32 = 8;
/// A run that has nothing to do for so long is suspended: to be taken up from the record costs less than its place does.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// What drives one run.
pub(crate) struct Engine<'a> {
    pub(crate) ports: &'a Ports,
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) compute: &'a Compute,
    /// Whose turn it is to have an output judged by a schema.
    pub(crate) judges: &'a Compute,
    pub(crate) log: &'a Arc<RunLog>,
    /// How often, one time after the other, others changed what it had decided on.
    pub(crate) overtaken: u32,
    pub(crate) beginnings: &'a Beginnings,
    /// Set once a guest begins, or somebody judges in a process of its own.
    pub(crate) bounded: &'a AtomicBool,
}

/// When each step's attempt first began in this process: one that begins again because others were faster has its wall time
/// once, over all its beginnings.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(Mutex<BTreeMap<StepPath, (u32, tokio::time::Instant)>>);

impl Beginnings {
    /// For how long an attempt has been under way.
    fn since(&self, step: &StepPath, attempt: u32) -> Duration {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (attempt, tokio::time::Instant::now());
        let first = begun.entry(step.clone()).or_insert(now);
        if first.0 != attempt {
            *first = now;
        }
        first.1.elapsed()
    }
}

/// Why a thing that was to be done was not.
enum Stop {
    /// The record failed: this owner of the run knows nothing any more.
    Lost(StoreError),
    /// The run is over.
    Failed(Failure),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Lost(error)
    }
}

/// How far a run was driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    /// It is over.
    Over,
    /// It waits for long, and goes on from the record.
    Suspended,
}

impl Engine<'_> {
    /// Drives the run until it is over or suspended, and that is on disk.
    ///
    /// # Errors
    /// The record's.
    pub(crate) async fn drive(&self) -> Result<Driven, StoreError> {
        // What is being done, and until when it merely waits.
        let mut open: BTreeMap<StepPath, Option<Timestamp>> = BTreeMap::new();
        let mut work = FuturesUnordered::new();
        loop {
            let decision = self.log.read_mut(|history| {
                history.tick(self.log.now());
                self.plan.flow.next(history, &Input::Run)
            });
            let todos = match decision {
                Decision::Do(todos) => todos,
                Decision::Done(step) => return self.end(Event::RunCompleted { step }).await,
                Decision::Failed(failure) => return self.end(Event::RunFailed { failure }).await,
            };
            for todo in todos {
                if let Entry::Vacant(place) = open.entry(todo.node().clone()) {
                    place.insert(todo.waits_until());
                    work.push(async { (todo.node().clone(), self.carry_out(todo).await) });
                }
            }
            if let Some(until) = only_waits(&open)
                && until.since(self.log.now()) >= LONG_WAIT
            {
                self.log.append(vec![Event::RunSuspended { until }], Durability::Barrier).await?;
                return Ok(Driven::Suspended);
            }
            let Some((step, done)) = work.next().await else {
                let failure = Failure::new(Code::Internal, "the workflow decided to do nothing");
                return self.end(Event::RunFailed { failure }).await;
            };
            open.remove(&step);
            match done {
                Ok(()) => {}
                Err(Stop::Lost(error)) => return Err(error),
                Err(Stop::Failed(failure)) => {
                    return self.end(Event::RunFailed { failure: failure.in_step(&step) }).await;
                }
            }
        }
    }

    async fn end(&self, event: Event) -> Result<Driven, StoreError> {
        self.log.append(vec![event], Durability::Barrier).await.map(|()| Driven::Over)
    }

    async fn carry_out(&self, todo: Todo) -> Result<(), Stop> {
        match todo {
            Todo::Attempt { step, input } => match self.plan.work(&step).map_err(Stop::Failed)? {
                plan::Work::Step(planned) => {
                    let built = input::build(self.compute, self.plan, self.log, &step, &input).await;
                    self.attempt(&step, &planned.step.agent, Work::Agent, built, planned.step.retry).await
                }
                plan::Work::Validator(agent) => {
                    let judged = input::before(self.log, &input);
                    self.attempt(&step, agent, Work::Validator, judged, Retry::none()).await
                }
            },
            Todo::Judge { step } => {
                let rejection = self.rejection(&step).await.map_err(Stop::Failed)?;
                self.log.stage(Event::StepJudged { step, rejection });
                Ok(())
            }
            Todo::Wait { step: _, until } => self.wait(until).await,
            Todo::End { node, output } => {
                self.log.stage(Event::NodeEnded { node, output });
                Ok(())
            }
        }
    }

    /// What is wrong with a step's output; none: it is good.
    async fn rejection(&self, step: &StepPath) -> Result<Option<Failure>, Failure> {
        let given = |path: &StepPath| {
            let output = self.log.read(|history| history.output(path).cloned());
            output.ok_or_else(|| Failure::new(Code::Internal, format!("{path} gave nothing that could be judged")))
        };
        let planned = self.plan.step(step)?;
        let found = match (&planned.step.validate, &planned.schema) {
            (Some(Validate::Schema { .. }), Some(schema)) => {
                let output = given(step)?;
                self.bounded.store(true, Ordering::Relaxed);
                let _turn = self.judges.turn(self.log.tenant()).await.map_err(input::not_computed)?;
                self.ports.schemas.judge(schema, &output).await?
            }
            (Some(Validate::Agent { .. }), _) => judge::of_payload(&given(&validator_path(step))?)?,
            (Some(Validate::Schema { .. }), None) | (None, _) => {
                return Err(Failure::new(Code::Internal, format!("the plan has nothing that judges {step}")));
            }
        };
        Ok(judge::rejection(&found).map(|failure| failure.in_step(step)))
    }

    async fn wait(&self, until: Timestamp) -> Result<(), Stop> {
        self.log.flush(Durability::Lazy).await?;
        let left = until.since(self.log.now()).max(Duration::from_millis(1));
        tokio::time::sleep(left).await;
        Ok(())
    }

    /// Makes a step's next attempt, or goes on with the one that is open. How it ends is in the log.
    async fn attempt(
        &self,
        step: &StepPath,
        agent: &AgentRef,
        work: Work,
        input: Result<Payload, Failure>,
        retry: Retry,
    ) -> Result<(), Stop> {
        let begun = Instant::now();
        if self.log.staged_for() > MAX_STAGED_TIME {
            self.log.flush(Durability::Lazy).await?;
        }
        let (mut attempt, mut is_open, is_of_before, effects) = self.log.read(|history| {
            let found = history.step(step);
            let is_open = found.is_some_and(|found| found.status == Status::Running);
            let is_of_before = is_open && found.is_some_and(|found| !found.transaction);
            let effects = found.map_or(0, |found| found.checkpoint.effects);
            (found.map_or(1, |found| found.attempt()), is_open, is_of_before, effects)
        });
        if is_open && self.sees_directories(agent).await.map_err(Stop::Failed)? {
            // What it read of a directory is in no journal: it is another attempt that may read something else.
            let message = "it read a granted directory when the host stopped: it is made again";
            let failure = Failure::new(Code::Unavailable, message).retryable().in_step(step);
            let (retry_at, usage) = (Some(self.log.now()), ltmc_model::run::Usage::default());
            self.log.stage(Event::StepFailed { step: step.clone(), attempt, failure, retry_at, usage });
            (attempt, is_open) = (attempt + 1, false);
        }
        if is_open && is_of_before {
            // Each of its effects is true by itself; what it does from here on is a transaction.
            self.log.stage(Event::Checkpoint { step: step.clone(), attempt, effects });
        }
        if !is_open {
            let agent = Some(agent.name.clone());
            self.log.stage(Event::StepStarted { step: step.clone(), attempt, agent, transaction: true });
        }
        let begun_at = self.begun_at(step).await?;
        let mut usage = ltmc_model::run::Usage::default();
        let mut commit = Commit::default();
        let spent = self.beginnings.since(step, attempt);
        let prepared = self.prepare(step, begun_at.checkpoint.origin, agent, work, input).await;
        let ended = match prepared.and_then(|prepared| in_time(prepared, spent)) {
            Err(failure) => Err(failure),
            Ok((job, name)) => {
                let left = begun_at.replay.len();
                let (log, step) = (self.log.clone(), step.clone());
                let attempt = Attempt {
                    log,
                    agent: name,
                    component: job.component,
                    step,
                    number: attempt,
                    begun_at,
                    overtaken: self.overtaken,
                };
                let gate = Arc::new(Resumed::new(Crossing::new(self.ports.crossing.clone(), attempt), left));
                self.bounded.store(true, Ordering::Relaxed);
                let mut run = self.ports.runner.run(job, gate.clone());
                let show = async {
                    tokio::time::sleep(MAX_STAGED_TIME).await;
                    self.log.flush(Durability::Lazy).await
                };
                // Side by side to the end: the guest may be in the middle of an append that this one waits for.
                let (ended, used) = tokio::select! {
                    biased;
                    ended = &mut run => ended,
                    shown = show => {
                        shown?;
                        run.await
                    }
                };
                usage = used;
                let ended = gate.check(ended);
                // One that ends badly leaves nothing of what it did.
                if ended.is_ok() {
                    commit = gate.commit().await;
                }
                ended
            }
        };
        let (step, outcome) = (step.clone(), ended.as_ref().map_or_else(|failure| failure.code.as_str(), |_| "ok"));
        metered::CALLS.of([outcome]).increment(1);
        metered::CALL_SECONDS.record(begun.elapsed());
        match ended {
            Ok(outcome) => {
                let output = match outcome {
                    Outcome::Output(output) => output,
                    Outcome::Violations(found) => judge::to_payload(&found),
                };
                self.log.stage_with(Event::StepCompleted { step, attempt, output, usage }, commit).await?;
            }
            Err(failure) => {
                let failure = failure.in_step(&step);
                let retry_at = self.retry_at(&step, attempt, &failure, retry);
                // What it says is its tenant's: that is in the journal, and here only for who looks closely.
                tracing::info!(%step, attempt, code = failure.code.as_str(), "an attempt failed");
                tracing::debug!(%step, attempt, message = %failure.message, "an attempt failed");
                self.log.stage(Event::StepFailed { step, attempt, failure, retry_at, usage });
            }
        }
        Ok(())
    }

    /// From where the attempt that is open goes on: its beginning, or the last checkpoint of its step, with the effects up to
    /// there. Those of an attempt of this process's own are read from the record, for nobody kept them.
    async fn begun_at(&self, step: &StepPath) -> Result<BegunAt, Stop> {
        let (mut begun_at, log) = (self.log.read_mut(|history| BegunAt::of(history, step)), self.log);
        if begun_at.replay.len() < begun_at.checkpoint.effects as usize {
            log.flush(Durability::Lazy).await?;
            let read = self.ports.read.as_ref();
            let mut kept = supervise::fold(read, log.tenant(), log.run(), History::for_replay()).await?;
            begun_at = BegunAt::of(&mut kept, step);
        }
        Ok(begun_at)
    }

    async fn prepare(
        &self,
        step: &StepPath,
        attempt: u32,
        agent: &AgentRef,
        work: Work,
        input: Result<Payload, Failure>,
    ) -> Result<(Job, ltmc_model::AgentName), Failure> {
        let input = input?;
        let (tenant, started) = (self.log.tenant(), self.log.started());
        let agent = self.pinned(agent).await?;
        let export = work.export(&agent)?;
        let ceiling = self.ports.authority.ceiling(tenant).await.map_err(|e| broken(&e))?;
        let job = Job {
            tenant: tenant.clone(),
            concurrency: ceiling.concurrency,
            component: agent.digest,
            export,
            limits: Limits::in_force(&agent.manifest.limits, &ceiling.limits),
            agent: agent.name.clone(),
            run: self.log.run(),
            step: step.clone(),
            attempt,
            session: started.session.clone(),
            input,
            seed: derived(&started.seed, "guest", step, attempt),
            directories: self.directories(&agent).await?,
        };
        Ok((job, agent.name.clone()))
    }

    /// Whether an agent's attempt sees any directory.
    async fn sees_directories(&self, agent: &AgentRef) -> Result<bool, Failure> {
        if self.ports.directories.is_empty() {
            return Ok(false);
        }
        match self.pinned(agent).await {
            Ok(agent) => Ok(!self.directories(&agent).await?.is_empty()),
            // It is not there any more: nothing of it sees anything, and its step says so.
            Err(failure) if failure.code == Code::AgentMissing => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// The directories that a version of an agent may see.
    async fn directories(&self, agent: &Agent) -> Result<Vec<Directory>, Failure> {
        if self.ports.directories.is_empty() {
            return Ok(Vec::new());
        }
        let in_force = self.ports.authority.in_force(self.log.tenant(), &agent.name, &agent.digest).await;
        let in_force = in_force.map_err(|e| broken(&e))?;
        let granted = self.ports.directories.iter().filter_map(|(name, path)| {
            let write = in_force.may_write(name)?;
            Some(Directory { name: name.clone(), path: path.clone(), write })
        });
        Ok(granted.collect())
    }

    /// The version of an agent that the run began with.
    async fn pinned(&self, agent: &AgentRef) -> Result<Arc<Agent>, Failure> {
        let digest = self.log.started().agents.get(&agent.name).copied();
        let pinned = AgentRef { name: agent.name.clone(), digest: digest.or(agent.digest) };
        let found = self.ports.authority.agent(self.log.tenant(), &pinned).await.map_err(|e| broken(&e))?;
        found.ok_or_else(|| Failure::new(Code::AgentMissing, format!("agent `{pinned}` is not there any more")))
    }

    /// When the next attempt is due; none: there is no other.
    fn retry_at(&self, step: &StepPath, attempt: u32, failure: &Failure, retry: Retry) -> Option<Timestamp> {
        let tries = self.log.read(|history| history.step(step).map_or(1, |step| step.tries()));
        let (attempts, retry) = match failure.code {
            Code::Busy if self.log.started().document.is_some() => {
                (retry.attempts.max(TRIES_WHEN_BUSY), Retry { backoff: Duration::from_secs(1), ..retry })
            }
            _ => (retry.attempts, retry),
        };
        if tries >= attempts || !may_do_better(failure) {
            return None;
        }
        let seed = derived(&self.log.started().seed, "back-off", step, attempt);
        let mut eight = [0; 8];
        eight.copy_from_slice(&seed[..8]);
        // Full jitter: anything from nothing to the longest wait.
        let share = u64::from_le_bytes(eight) as f64 / u64::MAX as f64;
        Some(self.log.now().after(retry.longest_wait(tries).mul_f64(share)))
    }
}

/// What is left of a job's wall time after what was spent of it in vain.
fn in_time((job, agent): (Job, AgentName), spent: Duration) -> Result<(Job, AgentName), Failure> {
    let wall = job.limits.wall;
    let left = wall.checked_sub(spent).filter(|left| !left.is_zero()).ok_or_else(|| {
        let message = format!("what it decided on was changed by others until its wall time of {wall:?} was used up");
        Failure::new(Code::LimitWall, message)
    })?;
    Ok((Job { limits: Limits { wall: left, ..job.limits }, ..job }, agent))
}

/// Until when nothing is to be done, if all that is open waits.
fn only_waits(open: &BTreeMap<StepPath, Option<Timestamp>>) -> Option<Timestamp> {
    open.values().copied().collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// What an agent is to do.
#[derive(Debug, Clone, Copy)]
enum Work {
    Agent,
    Validator,
}

impl Work {
    /// The export that does it.
    fn export(self, agent: &Agent) -> Result<Export, Failure> {
        let (wanted, called): (&[Export], _) = match self {
            Self::Agent => (&[Export::Agent, Export::Command], "be called"),
            Self::Validator => (&[Export::Validator], "judge a result"),
        };
        wanted.iter().copied().find(|export| agent.exports.contains(export)).ok_or_else(|| {
            let has: Vec<String> = agent.exports.iter().map(|export| format!("{export:?}").to_lowercase()).collect();
            Failure::new(
                Code::BadStep,
                format!("agent `{}` cannot {called}: it exports {}", agent.name, has.join(", ")),
            )
        })
    }
}

/// Whether another attempt makes sense.
fn may_do_better(failure: &Failure) -> bool {
    match failure.code {
        Code::AgentError => failure.retryable,
        Code::AgentTrapped
        | Code::LimitCpu
        | Code::LimitWall
        | Code::LimitMemory
        | Code::LimitOutput
        | Code::LimitResources
        | Code::Busy
        | Code::Unavailable
        | Code::StorageFull
        | Code::Internal => true,
        Code::ValidationFailed
        | Code::BadStep
        | Code::AgentMissing
        | Code::ReplayMismatch
        | Code::DiskQuotaExceeded
        | Code::Conflict
        | Code::Fenced
        | Code::Cancelled
        | Code::Quarantined => false,
    }
}

/// 32 bytes that are the same for the same attempt of the same run, and for nothing else.
fn derived(seed: &[u8; 32], purpose: &str, step: &StepPath, attempt: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(format!("{purpose}\n{step}\n{attempt}"));
    hash.finalize().into()
}
