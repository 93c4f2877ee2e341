//! One attempt: admitted, instantiated, called, and judged by how it ended. Dropping it anywhere frees all it had.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ltmc_model::Payload;
use ltmc_model::agent::Export;
use ltmc_model::branch::{Branch, Came};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::run::Usage;
use ltmc_policy::pot::Full;
use ltmc_ports::runner::{Gate, Job, Outcome, Violation};
use wasmtime::component::{ComponentType, Instance, Lift, Lower};
use wasmtime::{Store, UpdateDeadline};

use crate::admission::QueueFull;
use crate::components::{LoadError, Loaded};
use crate::files::{Files, Owner};
use crate::guest::{Guest, Output};
use crate::limits::Breach;
use crate::meter::Meter;
use crate::slot::Slot;
use crate::threads::Whose;
use crate::{Sandbox, ending};

pub(crate) async fn run(sandbox: &Sandbox, job: Job, gate: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
    // Before the slot: a component may have to be compiled again, and until then others can run.
    let loaded = match sandbox.components.load(&job.tenant, &job.component).await {
        Ok(loaded) => loaded,
        Err(LoadError::Missing) => {
            let message = format!("the component {} is not there any more", job.component);
            return (Err(Failure::new(Code::AgentMissing, message)), Usage::default());
        }
        Err(LoadError::Busy(why)) => return (Err(busy(&why)), Usage::default()),
        Err(LoadError::TooMuch(why)) => return (Err(Failure::new(Code::LimitResources, why)), Usage::default()),
        Err(LoadError::Failed(why)) => {
            tracing::error!(component = %job.component, error = %why, "a component could not be loaded");
            return (
                Err(Failure::new(Code::Internal, "the component could not be loaded").retryable()),
                Usage::default(),
            );
        }
    };
    let meter = Arc::new(Meter::default());
    let entering = sandbox.slots.enter(&job.tenant, job.concurrency, &meter);
    let entered = match tokio::time::timeout(sandbox.config.queue_deadline, entering).await {
        Ok(Ok(entered)) => entered,
        Ok(Err(QueueFull(Full::Own))) => {
            let why = "its tenant has as many calls that wait for a slot as one may have: make fewer at once";
            return (Err(busy(why)), Usage::default());
        }
        Ok(Err(QueueFull(Full::All))) => return (Err(busy("the queue is full: try again later")), Usage::default()),
        Err(_) => {
            let within = sandbox.config.queue_deadline;
            let waited = match sandbox.slots.admission.holds_up(&job.tenant) {
                Full::Own => {
                    let most = job.concurrency;
                    format!(
                        "no turn came within {within:?}: its tenant's own ceiling has {most} calls run at once (`concurrency`)"
                    )
                }
                Full::All => format!("no turn came within {within:?}: the host's slots are taken (`sandbox.slots`)"),
            };
            return (Err(busy(&waited)), Usage::default());
        }
    };
    let began = Instant::now();
    let call = std::pin::pin!(call(sandbox, &loaded, &job, gate, &meter, entered.slot()));
    let ended = match tokio::time::timeout(job.limits.wall, meter.around(call)).await {
        Ok(ended) => ended,
        Err(_) if entered.slot().returns() => {
            Err(busy("the call had given its slot back while it waited, and no turn came again within its wall time"))
        }
        Err(_) => Err(ending::wall(job.limits.wall)),
    };
    (ended, meter.usage(began))
}

fn busy(why: &str) -> Failure {
    Failure::new(Code::Busy, format!("the host is busy: {why}")).retryable()
}

async fn call(
    sandbox: &Sandbox,
    loaded: &Loaded,
    job: &Job,
    gate: Arc<dyn Gate>,
    meter: &Arc<Meter>,
    slot: &Arc<Slot>,
) -> Result<Outcome, Failure> {
    let Some(function) = loaded.function(job.export) else {
        return Err(Failure::new(Code::BadStep, format!("`{}` does not export {:?}", job.agent, job.export)));
    };
    let is_command = job.export == Export::Command;
    let stderr = Output::log(gate.clone());
    // What an agent that is no command prints is for its author, like standard error.
    let stdout = if is_command { Output::all(job.limits.output) } else { stderr.clone() };
    let stdin = if is_command { job.input.bytes.clone() } else { Bytes::new() };
    let whose = Whose { tenant: job.tenant.clone(), run: job.run, agent: job.agent.clone() };
    let owner = Owner { gate: &gate, slot, stderr: stderr.clone() };
    let files = Files::open(&sandbox.room, Arc::new(whose), &job.directories, owner).await;
    let files = files.map_err(|why| busy(&why.to_string()))?;
    let guest = Guest::new(job, gate, slot, stdin, &stdout, &stderr, files);
    let mut store = Store::new(sandbox.engine.engine(), guest);
    store.limiter(|guest| &mut guest.limiter);
    let passing = usize::try_from(job.limits.output).unwrap_or(usize::MAX).saturating_add(64 << 10);
    store.set_hostcall_fuel(passing.max(2 << 20));
    store.set_epoch_deadline(1);
    let (limit, watch) = (job.limits.cpu, meter.clone());
    store.epoch_deadline_callback(move |_| {
        if watch.used_in_poll() > limit { Err(Breach::Cpu.into()) } else { Ok(UpdateDeadline::Yield(1)) }
    });

    let called = async {
        let instance = loaded.pre.instantiate_async(&mut store).await?;
        match job.export {
            Export::Agent => execute(&mut store, &instance, function, job).await,
            Export::Validator => validate(&mut store, &instance, function, job).await,
            Export::Aggregator => aggregate(&mut store, &instance, function, job).await,
            Export::Command => command(&mut store, &instance, function).await,
        }
    }
    .await;
    let said = stderr.finish();
    match called {
        Ok(Called::Output(payload)) => bounded(payload, job.limits.output).map(Outcome::Output),
        Ok(Called::Refused(failure)) => Err(agents_own(failure)),
        Ok(Called::Violations(found)) => Ok(Outcome::Violations(found)),
        Ok(Called::Unfit(why)) => Err(Failure::new(Code::BadStep, why)),
        Ok(Called::Exited(0)) => {
            Ok(Outcome::Output(Payload { content_type: command_content_type(job).to_owned(), bytes: stdout.finish() }))
        }
        Ok(Called::Exited(status)) => {
            let said = String::from_utf8_lossy(&said);
            let message = format!("exit status {status}: {}", said.trim());
            Err(Failure { agent_code: Some(format!("exit-{status}")), ..Failure::new(Code::AgentError, message) })
        }
        Err(error) => Err(ending::of(&error, Some(store.data()), &job.limits, &said)),
    }
}

/// A command says nothing of its output's type: text, or what came in where that is known to be passed through.
fn command_content_type(job: &Job) -> &str {
    if job.input.content_type.starts_with("text/") { &job.input.content_type } else { "application/octet-stream" }
}

/// How a call returned.
enum Called {
    Output(WitPayload),
    Refused(WitFailure),
    Violations(Vec<Violation>),
    /// It was not called: its input is none for such an export.
    Unfit(String),
    Exited(i32),
}

async fn execute(
    store: &mut Store<Guest>,
    instance: &Instance,
    function: &wasmtime::component::ComponentExportIndex,
    job: &Job,
) -> wasmtime::Result<Called> {
    let execute = instance.get_typed_func::<(WitTask,), (Result<WitPayload, WitFailure>,)>(&mut *store, function)?;
    let (result,) = execute.call_async(store, (WitTask::of(job),)).await?;
    Ok(match result {
        Ok(payload) => Called::Output(payload),
        Err(failure) => Called::Refused(failure),
    })
}

async fn validate(
    store: &mut Store<Guest>,
    instance: &Instance,
    function: &wasmtime::component::ComponentExportIndex,
    job: &Job,
) -> wasmtime::Result<Called> {
    const MOST: usize = 100;
    let validate = instance.get_typed_func::<(WitTask,), (Vec<WitViolation>,)>(&mut *store, function)?;
    let (found,) = validate.call_async(store, (WitTask::of(job),)).await?;
    let found = found.into_iter().take(MOST);
    Ok(Called::Violations(found.map(|v| Violation { at: cut(v.at, 512), message: cut(v.message, 4 << 10) }).collect()))
}

async fn aggregate(
    store: &mut Store<Guest>,
    instance: &Instance,
    function: &wasmtime::component::ComponentExportIndex,
    job: &Job,
) -> wasmtime::Result<Called> {
    let branches = match Branch::listed(&job.input) {
        Ok(branches) => branches.into_iter().map(WitBranch::of).collect::<Vec<_>>(),
        Err(why) => return Ok(Called::Unfit(why)),
    };
    // They are told apart from the task, whose input they are.
    let task = WitTask { input: WitPayload::default(), ..WitTask::of(job) };
    let aggregate = instance
        .get_typed_func::<(WitTask, Vec<WitBranch>), (Result<WitPayload, WitFailure>,)>(&mut *store, function)?;
    let (result,) = aggregate.call_async(store, (task, branches)).await?;
    Ok(match result {
        Ok(payload) => Called::Output(payload),
        Err(failure) => Called::Refused(failure),
    })
}

async fn command(
    store: &mut Store<Guest>,
    instance: &Instance,
    function: &wasmtime::component::ComponentExportIndex,
) -> wasmtime::Result<Called> {
    let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, function)?;
    match run.call_async(store, ()).await {
        Ok((Ok(()),)) => Ok(Called::Exited(0)),
        Ok((Err(()),)) => Ok(Called::Exited(1)),
        Err(error) => match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            Some(exit) => Ok(Called::Exited(exit.0)),
            None => Err(error),
        },
    }
}

fn bounded(payload: WitPayload, limit: u64) -> Result<Payload, Failure> {
    if payload.bytes.len() as u64 > limit {
        let message = format!("its result has {} bytes; its output limit is {limit}", payload.bytes.len());
        return Err(Failure::new(Code::LimitOutput, message));
    }
    let content_type = payload.content_type;
    if content_type.len() > Payload::MAX_CONTENT_TYPE || content_type.chars().any(char::is_control) {
        let message = format!(
            "its result's content type should be a media type of at most {} bytes without control characters",
            Payload::MAX_CONTENT_TYPE
        );
        return Err(Failure::new(Code::AgentTrapped, message));
    }
    Ok(Payload { content_type, bytes: payload.bytes.into() })
}

fn agents_own(failure: WitFailure) -> Failure {
    let fits = (1..=64).contains(&failure.code.len())
        && failure.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    Failure {
        agent_code: Some(if fits { failure.code } else { "unnamed".to_owned() }),
        retryable: failure.retryable,
        ..Failure::new(Code::AgentError, cut(failure.message, 4 << 10))
    }
}

fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

// The words of `types`, `validator` and `aggregator` in wit/, as they cross on the way in and out.

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitTask {
    input: WitPayload,
    run: String,
    step: String,
    attempt: u32,
    agent: String,
    session: String,
}

#[derive(Default, ComponentType, Lower, Lift)]
#[component(record)]
struct WitPayload {
    #[component(name = "content-type")]
    content_type: String,
    bytes: Vec<u8>,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct WitFailure {
    code: String,
    message: String,
    retryable: bool,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitBranch {
    name: String,
    outcome: WitOutcome,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum WitOutcome {
    #[component(name = "output")]
    Output(WitPayload),
    #[component(name = "failed")]
    Failed(WitFailure),
    #[component(name = "skipped")]
    Skipped,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitViolation {
    at: String,
    message: String,
}

impl WitBranch {
    fn of(branch: Branch) -> Self {
        let Branch { name, came } = branch;
        let outcome = match came {
            Came::Output(Payload { content_type, bytes }) => {
                WitOutcome::Output(WitPayload { content_type, bytes: bytes.to_vec() })
            }
            Came::Failed { code, message } => WitOutcome::Failed(WitFailure { code, message, retryable: false }),
            Came::Skipped => WitOutcome::Skipped,
        };
        Self { name, outcome }
    }
}

impl WitTask {
    fn of(job: &Job) -> Self {
        Self {
            input: WitPayload { content_type: job.input.content_type.clone(), bytes: job.input.bytes.to_vec() },
            run: job.run.to_string(),
            step: job.step.to_string(),
            attempt: job.attempt,
            agent: job.agent.to_string(),
            session: job.session.to_string(),
        }
    }
}
