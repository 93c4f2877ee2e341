//! A run of one case: the host's own engine and patterns, over a record in memory, with agents whose parts are played.
//!
//! Invariants: time is the run's own. It stands while anything is done, and passes at once where everything waits, so that the same
//! case comes to the same each time. Nothing outside of this process is read or written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use ltmc_context::{Context, Handed, Subscriptions};
use ltmc_journal::History;
use ltmc_model::agent::{Agent, Export};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::manifest::Manifest;
use ltmc_model::run::Usage;
use ltmc_model::workflow::Document;
use ltmc_model::workflow::cases::{Answer, Case, Gives};
use ltmc_model::{AgentName, Digest, Payload, RunId, Seq, StepPath, TenantId, Timestamp};
use ltmc_orchestration::runs::Ports;
use ltmc_orchestration::{RunView, Runs, Sealing, StartRequest, Started};
use ltmc_ports::runner::{AdmitError, Components, Inspection, Job, Outcome, Violation};
use ltmc_ports::testing::{MemoryRecord, SeededEntropy};
use ltmc_ports::{Clock, Gate, ReadJournal as _, Runner, WriteCatalog as _};
use ltmc_schemas::Schemas;
use ltmc_tenancy::{Authority, Pins};
use tokio_util::task::AbortOnDropHandle;

/// Every case begins at the same moment: on 2026-01-01 in UTC.
const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// A run that is not over then never is: more than the longest time-out.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// How long a case may take here.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often, in the run's time, that is looked at.
const LOOK: Duration = Duration::from_secs(60 * 60);
/// Entries of a journal that are read at once.
const PAGE: u32 = 10_000;

/// What came of a case.
pub(super) struct Played {
    pub(super) view: RunView,
    pub(super) history: History,
    pub(super) result: Result<Payload, Failure>,
    /// In the order in which they began.
    pub(super) calls: Vec<Call>,
    /// Agents that were called and had nothing to say.
    pub(super) silent: Vec<String>,
    /// In the run's time.
    pub(super) took: Duration,
}

/// An agent's attempt.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) step: StepPath,
    pub(super) input: Payload,
}

/// Runs a case to its end.
pub(super) fn play(document: &Document, source: &str, case: &Case) -> anyhow::Result<Played> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(run(document, source, case))
}

async fn run(document: &Document, source: &str, case: &Case) -> anyhow::Result<Played> {
    let clock = Arc::new(Passing(tokio::time::Instant::now()));
    let caller = Caller { tenant: "default".parse()?, key: "localauthor0".parse()?, role: Role::Admin };
    let record = record(&caller.tenant, document, source).await?;
    let actors = Arc::new(Actors { parts: case.agents.clone(), ..Actors::default() });
    let runs = host(&record, &clock, &actors);
    let _waking = AbortOnDropHandle::new(tokio::spawn({
        let runs = runs.clone();
        async move { runs.wake().await }
    }));
    let request = StartRequest {
        workflow: document.name.clone(),
        input: case.input.clone(),
        session: None,
        idempotency: None,
        request_digest: Digest([0; 32]),
        traceparent: None,
    };
    let began = clock.now();
    let started = runs.start(&caller, request).await?;
    let result = end(&runs, &record, &caller, &started, clock.as_ref()).await?;
    let history = fold(&record, &caller.tenant, started.run).await?;
    let took = history.ended_at().unwrap_or_else(|| clock.now()).since(began);
    let view = runs.get(&caller, started.run).await?;
    let (calls, silent) = actors.heard();
    Ok(Played { view, history, result, calls, silent, took })
}

/// A host's runs, with no more around them than they need.
fn host(record: &Arc<MemoryRecord>, clock: &Arc<Passing>, actors: &Arc<Actors>) -> Runs {
    let authority = Arc::new(Authority::new(record.clone(), record.clone(), clock.clone()));
    let handed = Handed::new(record.clone());
    let subscriptions = Subscriptions::start(record.clone());
    let context = Arc::new(Context::of_record(record, &handed, &subscriptions, authority.clone()));
    Runs::new(Ports {
        read: record.clone(),
        write: handed,
        take_ups: record.clone(),
        bus: record.clone(),
        questions: record.clone(),
        subscriptions,
        authority: authority.clone(),
        crossing: Arc::new(ltmc_crossing::Shared { authority, context, clock: clock.clone() }),
        runner: actors.clone(),
        pins: Pins::new(record.clone(), Arc::new(NoShelf)),
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(1)),
        directories: BTreeMap::new(),
        // Whose document it is waits for its own schema alone. A process apart would have a time of its own.
        schemas: Arc::new(Schemas::in_process()),
        embedder: ltmc_embedders::hashed(),
        sealing: Sealing::default(),
        graph: None,
        lessons: None,
    })
}

/// A record that knows the workflow and its agents.
async fn record(tenant: &TenantId, document: &Document, source: &str) -> anyhow::Result<Arc<MemoryRecord>> {
    let record = MemoryRecord::new();
    let mut agents: BTreeMap<AgentName, Agent> = BTreeMap::new();
    for (agent, _, judges) in document.agents() {
        let export = if judges { Export::Validator } else { Export::Agent };
        let of = agents.entry(agent.name.clone()).or_insert_with(|| Agent {
            name: agent.name.clone(),
            digest: agent.digest.unwrap_or_else(|| Digest::of(agent.name.as_str().as_bytes())),
            manifest: Manifest::default(),
            exports: Vec::new(),
            size: 1,
            pushed_at: START,
        });
        if !of.exports.contains(&export) {
            of.exports.push(export);
        }
    }
    let put = Change::WorkflowPut {
        name: document.name.clone(),
        source: source.to_owned(),
        digest: Digest::of(source.as_bytes()),
        // Nothing is started by itself here.
        schedules: Vec::new(),
    };
    for change in agents.into_values().map(Change::AgentPushed).chain([put]) {
        record.act(tenant, START, Act { by: None, change }).await?;
    }
    Ok(record)
}

/// How the run ends.
async fn end(
    runs: &Runs,
    record: &MemoryRecord,
    caller: &Caller,
    started: &Started,
    clock: &Passing,
) -> anyhow::Result<Result<Payload, Failure>> {
    let begun = Instant::now();
    loop {
        // It may not be in the record yet.
        let row = record.run(&caller.tenant, started.run).await?;
        match row.filter(|row| !row.state.is_over()).and_then(|row| row.wakes_at) {
            // Waited for here: whoever waits for its end looks at it each second.
            Some(at) => tokio::time::sleep(at.since(clock.now()).max(Duration::from_millis(1))).await,
            None => {
                if let Some(result) = runs.wait(caller, started, Some(LOOK)).await? {
                    return Ok(result);
                }
            }
        }
        if begun.elapsed() > PATIENCE || clock.0.elapsed() > LONGEST {
            let message = "the run does not come to an end";
            return Ok(Err(Failure::new(Code::TimedOut, message)));
        }
    }
}

async fn fold(record: &MemoryRecord, tenant: &TenantId, run: RunId) -> anyhow::Result<History> {
    let (mut history, mut after) = (History::new(), Seq(0));
    loop {
        let page = record.entries(tenant, run, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(history) };
        after = last.seq;
        page.iter().for_each(|placed| history.apply(placed));
    }
}

/// Goes with the runtime's time, which passes where everything waits.
struct Passing(tokio::time::Instant);

impl Clock for Passing {
    fn now(&self) -> Timestamp {
        START.after(self.0.elapsed())
    }
}

/// Plays the agents' parts.
#[derive(Default)]
struct Actors {
    parts: BTreeMap<AgentName, Vec<Answer>>,
    calls: Mutex<Vec<Call>>,
    silent: Mutex<BTreeSet<String>>,
}

impl Actors {
    fn heard(&self) -> (Vec<Call>, Vec<String>) {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        (calls, silent)
    }

    /// What an agent says to this; none: the case does not say.
    fn answer(&self, job: &Job) -> Result<&Answer, String> {
        let agent = &job.agent;
        let answers = self.parts.get(agent).ok_or_else(|| format!("agent `{agent}` was called, and has no answer"))?;
        let input = job.input.to_value().unwrap_or_default();
        Answer::choose(answers, &input, job.attempt).ok_or_else(|| {
            let given: String = input.to_string().chars().take(200).collect();
            format!("agent `{agent}` was called, and none of its answers is for {given}")
        })
    }
}

#[async_trait]
impl Runner for Actors {
    async fn run(&self, job: Job, _gate: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
        let call = Call { step: job.step.clone(), input: job.input.clone() };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        let answer = match self.answer(&job) {
            Ok(answer) => answer,
            Err(why) => {
                self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(why.clone());
                return (Err(Failure::new(Code::BadStep, why)), Usage::default());
            }
        };
        if !answer.takes.is_zero() {
            tokio::time::sleep(answer.takes).await;
        }
        let ended = match (&answer.gives, job.export) {
            (Gives::Output(output), Export::Agent | Export::Command) => Ok(Outcome::Output(output.clone())),
            (Gives::Violations(found), Export::Validator) => {
                let violation =
                    |(at, message): &(String, String)| Violation { at: at.clone(), message: message.clone() };
                Ok(Outcome::Violations(found.iter().map(violation).collect()))
            }
            (Gives::Fail(failure), _) => Err(failure.clone()),
            (Gives::Output(_) | Gives::Violations(_), _) => {
                let why = format!("agent `{}` was called in another part than its answer is for", job.agent);
                self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(why.clone());
                Err(Failure::new(Code::BadStep, why))
            }
        };
        (ended, Usage::default())
    }
}

/// No component is kept anywhere.
struct NoShelf;

#[async_trait]
impl Components for NoShelf {
    async fn admit(&self, _: &TenantId, _: Bytes) -> Result<Inspection, AdmitError> {
        Err(AdmitError::Failed { message: "nothing is pushed here".into() })
    }

    async fn remove(&self, _: &Digest) {}

    async fn kept(&self) -> Vec<Digest> {
        Vec::new()
    }
}
