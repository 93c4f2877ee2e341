//! `call`: one call of an agent in this process, through the sandbox and with the crossing as its gate, each in a fresh
//! instance; against bare wasmtime.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use ltmc_context::{Context, Handed, Subscriptions};
use ltmc_crossing::{Attempt, BegunAt, Crossing, Shared};
use ltmc_journal::{RunLog, runlog};
use ltmc_model::agent::Export;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::limits::Limits;
use ltmc_model::{Payload, RunId, StepPath, TenantId};
use ltmc_ports::children::Child;
use ltmc_ports::runner::{Job, Outcome};
use ltmc_ports::{Components as _, Runner as _};
use ltmc_sandbox::{Compiler, Sandbox, SandboxConfig};
use ltmc_sqlite::Record;
use serde_json::json;

use crate::Plan;
use crate::inside::{Inside, started};
use crate::reference::{self, Bare, Task};
use crate::report::{Goal, Line, Series, round};
use crate::rig;

/// Calls of one side before the other has its turn.
const TURN: usize = 50;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("call")?;
    let bare = Bare::echo()?;
    let host = runtime.block_on(InProcess::start(scratch.path()))?;
    let (mut typical, mut mean) = <(Both, Both)>::default();
    // Round 0 warms both up.
    for number in 0..=plan.rounds {
        let (mut measured, mut reference) = (Times::default(), Times::default());
        runtime.block_on(async {
            for _ in 0..plan.calls.div_ceil(TURN) {
                for _ in 0..TURN {
                    measured.time(host.call()).await?;
                }
                for _ in 0..TURN {
                    reference.time(bare.call(host.task())).await?;
                }
            }
            Ok::<(), anyhow::Error>(())
        })?;
        if let Some(number) = number.checked_sub(1) {
            typical.add(measured.median(), reference.median());
            mean.add(measured.mean(), reference.mean());
            round(number, plan.rounds, &[("host", measured.median(), "us"), ("wasmtime", reference.median(), "us")]);
        }
    }
    runtime.block_on(ltmc_ports::Record::close(&*host.record));
    let line = |case: &str, both: Both| Line {
        bench: "call",
        case: case.to_owned(),
        unit: "us",
        measured: both.measured,
        reference: Some(("bare wasmtime", both.reference)),
        goal: Goal::AtMostTimes(1.25),
    };
    Ok(vec![line("echo, median", typical), line("echo, mean", mean)])
}

#[derive(Default)]
struct Both {
    measured: Series,
    reference: Series,
}

impl Both {
    fn add(&mut self, measured: f64, reference: f64) {
        self.measured.add(measured);
        self.reference.add(reference);
    }
}

/// Times of single calls.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    async fn time<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<()> {
        let begun = Instant::now();
        call.await?;
        self.0.push(begun.elapsed());
        Ok(())
    }

    fn median(&mut self) -> f64 {
        self.0.sort_unstable();
        self.0.get(self.0.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<Duration>().as_secs_f64() * 1e6 / self.0.len() as f64
    }
}

/// Begins no runs: a call without effects does not ask for any.
struct Nobody;

#[async_trait::async_trait]
impl ltmc_ports::Conversation for Nobody {
    async fn held(&self) -> std::result::Result<Option<ltmc_ports::Held>, ltmc_ports::StoreError> {
        Ok(None)
    }

    async fn history(
        &self,
        _: u32,
        _: u32,
    ) -> std::result::Result<Vec<ltmc_model::session::Exchange>, ltmc_ports::StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl ltmc_ports::Children for Nobody {
    async fn begin(&self, _: Child) -> std::result::Result<std::result::Result<RunId, Refusal>, Failure> {
        Err(Failure::new(Code::Internal, "nothing is begun here"))
    }

    async fn ended(&self, _: RunId) -> std::result::Result<std::result::Result<Payload, Failure>, Failure> {
        Err(Failure::new(Code::Internal, "nothing was begun here"))
    }
}

/// The host's inside, as far as a call without effects needs it.
pub(crate) struct InProcess {
    sandbox: Arc<Sandbox>,
    pub(crate) record: Arc<Record>,
    shared: Arc<Shared>,
    log: Arc<RunLog>,
    job: Job,
}

impl InProcess {
    pub(crate) async fn start(dir: &std::path::Path) -> Result<Self> {
        let Inside { record, authority, clock } = Inside::open(dir).await?;
        let sandbox = Sandbox::new(SandboxConfig::new(dir.join("sandbox"), Compiler::InProcess))?;
        let component = sandbox.admit(&"bench".parse()?, ltmc_tests::guest_bytes("echo")?.into()).await?.digest;
        let subscriptions = Subscriptions::start(record.clone());
        let handed = Handed::new(record.clone());
        let context = Arc::new(Context::of_record(&record, &handed, &subscriptions, authority.clone()));
        let shared = Arc::new(Shared { authority, context, clock: clock.clone() });
        let tenant: TenantId = "default".parse()?;
        let run = RunId::new(clock.now(), [7; 10]);
        let input = Payload::json(&json!({"say": "hello", "to": ["one", "two", "three"], "times": 12}));
        let started = started(component, input.clone(), run)?;
        let job = Job {
            tenant: tenant.clone(),
            concurrency: 64,
            component,
            export: Export::Agent,
            limits: Limits::default(),
            agent: "echo".parse()?,
            run,
            step: StepPath::root(),
            attempt: 1,
            session: started.session.clone(),
            input,
            seed: started.seed,
            directories: Vec::new(),
        };
        let ports = runlog::Ports { journal: record.clone(), clock, sealing: Default::default() };
        let log = Arc::new(RunLog::fresh(ports, tenant, run, started, None));
        Ok(Self { sandbox, record, shared, log, job })
    }

    /// As the engine makes an attempt.
    pub(crate) async fn call(&self) -> Result<Outcome> {
        let attempt = Attempt {
            log: self.log.clone(),
            children: Arc::new(Nobody),
            conversation: Arc::new(Nobody),
            holding: None,
            agent: self.job.agent.clone(),
            component: self.job.component,
            step: self.job.step.clone(),
            number: 1,
            begun_at: BegunAt::default(),
            overtaken: 0,
            levels: Vec::new(),
            isolation: ltmc_model::manifest::Isolation::default(),
        };
        let crossing = Arc::new(Crossing::new(self.shared.clone(), attempt));
        let (ended, _usage) = self.sandbox.run(self.job.clone(), crossing).await;
        let outcome = ended.map_err(|failure| anyhow!("{}", failure.message)).context("the call failed")?;
        ensure!(matches!(&outcome, Outcome::Output(output) if *output == self.job.input), "that is no echo");
        Ok(outcome)
    }

    /// The same call for the reference.
    fn task(&self) -> Task {
        let input = &self.job.input;
        Task::echo(reference::Payload { content_type: input.content_type.clone(), bytes: input.bytes.to_vec() })
    }
}
