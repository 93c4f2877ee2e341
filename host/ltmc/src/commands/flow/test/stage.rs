//! A run of one case: the host's own engine and patterns, over a record in memory, with agents whose parts are played.
//!
//! Invariants: time is the run's own. It stands while anything is done, and passes at once where everything waits, so that the same
//! case comes to the same each time. Nothing outside of this process is read or written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ltmc_journal::History;
use ltmc_model::agent::{Agent, AgentRef, Export};
use ltmc_model::call::coordination::HandOff;
use ltmc_model::call::memory::{Delete, Put};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::manifest::Manifest;
use ltmc_model::memory::{Drawer, Precondition, Scope};
use ltmc_model::message::{self, Topic};
use ltmc_model::run::Usage;
use ltmc_model::workflow::cases::{Answer, Case, Gives};
use ltmc_model::workflow::{Document, Does, Node, Part, Place};
use ltmc_model::{AgentName, Capability, Digest, Payload, RunId, Seq, StepPath, TenantId, Timestamp, WorkflowName};
use ltmc_orchestration::{InMemory, RunView, Runs, StartRequest, Started};
use ltmc_ports::runner::{Job, Outcome, Violation};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{Clock, Gate, ReadJournal as _, ReadMemory as _, Runner, WriteCatalog as _};
use ltmc_schemas::Schemas;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::events::{self, Others};
use super::people::{Overheard, People};

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
    /// Agents that were called and had nothing to say; questions that nobody answered, and events that did not come, where the run does not
    /// end by itself.
    pub(super) silent: Vec<String>,
    /// What keys of the session's memory hold in the end, of those that the case looks at; null: nothing.
    pub(super) memory: BTreeMap<String, Value>,
    /// What it published, to the topics that the case looks at.
    pub(super) emitted: BTreeMap<Topic, Vec<message::Event>>,
    /// In the run's time.
    pub(super) took: Duration,
}

/// An agent's attempt.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) run: RunId,
    pub(super) step: StepPath,
    pub(super) input: Payload,
}

/// Runs a case to its end.
pub(super) fn play(document: &Document, case: &Case) -> anyhow::Result<Played> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(run(document, case))
}

/// The document with those in it who are found for what is needed.
fn cast(document: &Document, case: &Case) -> Document {
    fn find(node: &mut Node, case: &Case) {
        let found = node.id.as_ref().and_then(|id| case.needs.get(id));
        if let (Does::Need(needed), Some(agent)) = (&mut node.does, found) {
            needed.among = vec![(AgentRef { name: agent.clone(), digest: None }, Place::default())];
            needed.at_least = 0.0;
        }
        node.each_mut(&mut |below| find(below, case));
    }
    let mut document = document.clone();
    find(&mut document.flow, case);
    document
}

async fn run(document: &Document, case: &Case) -> anyhow::Result<Played> {
    let document = &cast(document, case);
    let clock = Arc::new(Passing(tokio::time::Instant::now()));
    let caller = Caller { tenant: "default".parse()?, key: "localauthor0".parse()?, role: Role::Admin, cause: None };
    let stubs = stubs(document);
    let record = record(&caller.tenant, document, &stubs).await?;
    let mut actors = Actors { parts: case.agents.clone(), ..Actors::default() };
    for (workflow, stub) in &stubs {
        actors.parts.extend(case.workflows.get(workflow).map(|answers| (stub.clone(), answers.clone())));
    }
    actors.stubs = stubs.into_iter().map(|(workflow, stub)| (stub, workflow)).collect();
    let (actors, asked) = (Arc::new(actors), Arc::new(Notify::new()));
    let runs = host(&record, &clock, &actors, &asked);
    let people = People::of(document, &case.questions);
    let _answering = AbortOnDropHandle::new(tokio::spawn(people.clone().answer(
        runs.clone(),
        record.clone(),
        caller.clone(),
        asked,
    )));
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
    let others = Others::of(case);
    let publishing = others.clone().publish(record.clone(), caller.clone(), clock.clone());
    let publishing = AbortOnDropHandle::new(tokio::spawn(publishing));
    let around = Around { people: &people, others: &others };
    let ending = end(&runs, &record, &caller, &started, clock.as_ref(), around);
    let failing = async {
        match publishing.await {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        }
    };
    let result = tokio::select! {
        result = ending => result?,
        error = failing => return Err(error.context("an event of the case could not be published")),
    };
    let history = fold(&record, &caller.tenant, started.run).await?;
    let took = history.ended_at().unwrap_or_else(|| clock.now()).since(began);
    let view = runs.get(&caller, started.run).await?;
    let memory = memory(&record, &caller.tenant, &history, case, clock.now()).await?;
    let emitted = events::emitted(&record, &caller.tenant, document, case).await?;
    let (mut calls, mut silent) = actors.heard();
    calls.retain(|call| call.run == started.run);
    let has_ended = result.is_some();
    if !has_ended {
        silent.extend(people.silent());
        silent.extend(unheard(&history));
    }
    let result = result.unwrap_or_else(|| Err(Failure::new(Code::TimedOut, "the run does not come to an end")));
    Ok(Played { view, history, result, calls, silent, memory, emitted, took })
}

/// Events that are waited for still.
fn unheard(history: &History) -> Vec<String> {
    let waiting = history.nodes().filter(|(_, node)| node.is_waiting());
    let listening = waiting.filter_map(|(path, node)| Some((path, node.listens.as_ref()?)));
    let told = listening.map(|(path, listens)| {
        let subject =
            listens.subject.as_ref().map_or_else(String::new, |subject| format!(", of the subject `{subject}`"));
        let kind = listens.kind.as_ref().map_or_else(String::new, |kind| format!(", of the type `{kind}`"));
        format!("an event of `{}`{kind}{subject} is waited for at {path}, and none came that fits", listens.topic)
    });
    told.collect()
}

async fn memory(
    record: &MemoryRecord,
    tenant: &TenantId,
    history: &History,
    case: &Case,
    now: Timestamp,
) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut memory = BTreeMap::new();
    let Some(started) = history.started() else { return Ok(memory) };
    let drawer = Drawer::Session(started.session.clone());
    for (key, _) in &case.expect.memory {
        let found = record.get(tenant, &drawer, key, now).await?;
        let value = found.map_or(Value::Null, |item| {
            serde_json::from_slice(&item.value).unwrap_or_else(|_| String::from_utf8_lossy(&item.value).into())
        });
        memory.insert(key.clone(), value);
    }
    Ok(memory)
}

/// A host's runs, with no more around them than they need.
fn host(record: &Arc<MemoryRecord>, clock: &Arc<Passing>, actors: &Arc<Actors>, asked: &Arc<Notify>) -> Runs {
    let host = InMemory {
        record: record.clone(),
        write: Arc::new(Overheard { record: record.clone(), asked: asked.clone() }),
        clock: clock.clone(),
        runner: actors.clone(),
        // Whose document it is waits for its own schema alone. A process apart would have a time of its own.
        schemas: Arc::new(Schemas::in_process()),
        embedder: ltmc_embedders::hashed(),
    };
    Runs::new(host.into())
}

/// Who plays the workflows that are started: each an agent that no other has the name of.
fn stubs(document: &Document) -> BTreeMap<WorkflowName, AgentName> {
    let taken: BTreeSet<&AgentName> = document.agents().map(|(agent, ..)| &agent.name).collect();
    let mut names = (0..).filter_map(|number| format!("played-{number}").parse::<AgentName>().ok());
    let mut stubs = BTreeMap::new();
    for (workflow, _) in document.workflows() {
        if !stubs.contains_key(workflow)
            && let Some(name) = names.find(|name| !taken.contains(name))
        {
            stubs.insert(workflow.clone(), name);
        }
    }
    stubs
}

/// A record that knows the workflow, its agents, and a workflow of one step for each that it starts.
async fn record(
    tenant: &TenantId,
    document: &Document,
    stubs: &BTreeMap<WorkflowName, AgentName>,
) -> anyhow::Result<Arc<MemoryRecord>> {
    let record = MemoryRecord::new();
    let mut agents: BTreeMap<AgentName, Agent> = BTreeMap::new();
    for (agent, _, part) in document.agents() {
        let export = if part == Part::Judge { Export::Validator } else { Export::Agent };
        let of =
            agents.entry(agent.name.clone()).or_insert_with(|| actor(agent.name.clone(), agent.digest, Vec::new()));
        if !of.exports.contains(&export) {
            of.exports.push(export);
        }
    }
    // Of what may stand in a plan each may have any part.
    for node in document.nodes() {
        let Does::Plan(planning) = &node.does else { continue };
        for (agent, _) in &planning.may {
            if let Some(of) = agents.get_mut(&agent.name) {
                of.exports = vec![Export::Agent, Export::Validator, Export::Aggregator];
            }
        }
    }
    for stub in stubs.values() {
        agents.insert(stub.clone(), actor(stub.clone(), None, vec![Export::Agent]));
    }
    let put = |name: &WorkflowName, source: String| Change::WorkflowPut {
        name: name.clone(),
        digest: Digest::of(source.as_bytes()),
        source,
        // Nothing is started by itself here.
        schedules: Vec::new(),
        triggers: Vec::new(),
    };
    let own = put(&document.name, document.to_json());
    let started = stubs.iter().map(|(name, stub)| put(name, format!("{{name: {name}, flow: {{agent: {stub}}}}}")));
    let grants = ["memory:read:session", "memory:write:session", "hand-off:*"].map(str::parse::<Capability>);
    let grants = grants.into_iter().collect::<Result<Vec<_>, _>>()?;
    let granted = |agent: &Agent| Change::GrantsSet {
        agent: agent.name.clone(),
        grants: grants.clone(),
        digest: Some(agent.digest),
        carry: None,
    };
    let pushed = agents.into_values().flat_map(|agent| [Change::AgentPushed(agent.clone()), granted(&agent)]);
    for change in pushed.chain([own]).chain(started) {
        record.act(tenant, START, Act { by: None, change }).await?;
    }
    Ok(record)
}

fn actor(name: AgentName, digest: Option<Digest>, exports: Vec<Export>) -> Agent {
    let digest = digest.unwrap_or_else(|| Digest::of(name.as_str().as_bytes()));
    Agent { name, digest, manifest: Manifest::default(), exports, size: 1, pushed_at: START }
}

/// Who does something from outside while a run goes on.
#[derive(Clone, Copy)]
struct Around<'a> {
    people: &'a People,
    others: &'a Others,
}

/// Whether nothing has a run go on any more: none is alive, none goes on as time passes, and nobody does anything from outside.
async fn is_left(runs: &Runs, record: &MemoryRecord, around: Around<'_>) -> anyhow::Result<bool> {
    let sleeps = record.sleepers(None, 1).await?.into_iter().any(|(_, wakes_at)| wakes_at != Timestamp::NEVER);
    Ok(runs.alive() == 0 && !sleeps && around.people.left() == 0 && around.others.left() == 0)
}

/// How the run ends; none: it does not.
async fn end(
    runs: &Runs,
    record: &MemoryRecord,
    caller: &Caller,
    started: &Started,
    clock: &Passing,
    around: Around<'_>,
) -> anyhow::Result<Option<Result<Payload, Failure>>> {
    let (begun, mut was_left) = (Instant::now(), false);
    loop {
        // It may not be in the record yet.
        let row = record.run(&caller.tenant, started.run).await?;
        match row.filter(|row| !row.state.is_over()).and_then(|row| row.wakes_at) {
            Some(Timestamp::NEVER) if was_left && is_left(runs, record, around).await? => return Ok(None),
            // Waited for here: whoever waits for its end looks at it each second.
            Some(at) => {
                was_left = at == Timestamp::NEVER;
                let longest = if was_left { LOOK } else { LONGEST };
                let until = at.since(clock.now()).clamp(Duration::from_millis(1), longest);
                tokio::select! {
                    () = tokio::time::sleep(until) => {}
                    () = around.people.answered.notified() => was_left = false,
                    () = around.others.came.notified() => was_left = false,
                }
            }
            None => {
                if let Some(result) = runs.wait(caller, started, Some(LOOK)).await? {
                    return Ok(Some(result));
                }
            }
        }
        if begun.elapsed() > PATIENCE || clock.0.elapsed() > LONGEST {
            return Ok(None);
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
pub(super) struct Passing(tokio::time::Instant);

impl Clock for Passing {
    fn now(&self) -> Timestamp {
        START.after(self.0.elapsed())
    }
}

/// Plays the agents' parts.
#[derive(Default)]
struct Actors {
    parts: BTreeMap<AgentName, Vec<Answer>>,
    /// Which workflow each of these plays.
    stubs: BTreeMap<AgentName, WorkflowName>,
    /// How often each of them was called.
    times: Mutex<BTreeMap<AgentName, u32>>,
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
        let (called, attempt) = match self.stubs.get(agent) {
            None => (format!("agent `{agent}` was called"), job.attempt),
            Some(workflow) => {
                let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                let times = times.entry(agent.clone()).or_default();
                *times += 1;
                (format!("workflow `{workflow}` was started"), *times)
            }
        };
        let answers = self.parts.get(agent).ok_or_else(|| format!("{called}, and has no answer"))?;
        let input = job.input.to_value().unwrap_or_default();
        Answer::choose(answers, &input, attempt).ok_or_else(|| {
            let given: String = input.to_string().chars().take(200).collect();
            format!("{called}, and none of its answers is for {given}")
        })
    }
}

#[async_trait]
impl Runner for Actors {
    async fn run(&self, job: Job, gate: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
        let call = Call { run: job.run, step: job.step.clone(), input: job.input.clone() };
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
        if let Err(failure) = put(gate.as_ref(), &answer.puts).await {
            return (Err(failure), Usage::default());
        }
        let ended = match (&answer.gives, job.export) {
            (Gives::Output(output), Export::Agent | Export::Aggregator | Export::Command) => {
                Ok(Outcome::Output(output.clone()))
            }
            (Gives::Violations(found), Export::Validator) => {
                let violation =
                    |(at, message): &(String, String)| Violation { at: at.clone(), message: message.clone() };
                Ok(Outcome::Violations(found.iter().map(violation).collect()))
            }
            (Gives::Fail(failure), _) => Err(failure.clone()),
            (Gives::HandsOff { to, reason, passed }, Export::Agent) => {
                let call = HandOff { to: to.clone(), reason: reason.clone(), passed: passed.clone() };
                hand_off(gate.as_ref(), call).await.map(|()| Outcome::Output(job.input.clone()))
            }
            (Gives::Output(_) | Gives::Violations(_) | Gives::HandsOff { .. }, _) => {
                let why = format!("agent `{}` was called in another part than its answer is for", job.agent);
                self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(why.clone());
                Err(Failure::new(Code::BadStep, why))
            }
        };
        (ended, Usage::default())
    }
}

/// Hands on what an agent holds; where that is refused, the agent fails with why.
async fn hand_off(gate: &(dyn Gate + 'static), call: HandOff) -> Result<(), Failure> {
    let to = call.to.clone();
    gate.call(call).await?.map_err(|refusal| {
        let why = match refusal {
            Refusal::Invalid(why) | Refusal::Quota(why) => why,
            Refusal::NotFound => "there is no such agent".to_owned(),
            other => format!("{other:?}"),
        };
        Failure::new(Code::AgentError, format!("it is not handed to `{to}`: {why}"))
    })
}

/// Does what an agent does to the session's memory.
async fn put(gate: &(dyn Gate + 'static), puts: &[(String, Value)]) -> Result<(), Failure> {
    let (scope, precondition) = (Scope::Session, Precondition::Any);
    for (key, value) in puts {
        let key = key.clone();
        let done = match value {
            Value::Null => gate.call(Delete { scope, key, precondition }).await?.map(drop),
            value => {
                let value = value.to_string().into();
                gate.call(Put { scope, key, value, precondition, ttl_ms: None }).await?.map(drop)
            }
        };
        done.map_err(|refusal| Failure::new(Code::AgentError, format!("{refusal:?}")))?;
    }
    Ok(())
}
