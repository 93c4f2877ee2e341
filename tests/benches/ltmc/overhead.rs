//! `overhead`: what the engine itself takes for a step: runs of three steps over a record in memory, by agents that answer at once, so
//! that neither guests nor a disk are in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use bytes::Bytes;
use ltmc_context::{Context, Handed, Subscriptions};
use ltmc_model::agent::{Agent, Export};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Act, Change};
use ltmc_model::manifest::Manifest;
use ltmc_model::run::Usage;
use ltmc_model::{Digest, Payload, TenantId};
use ltmc_orchestration::runs::Ports;
use ltmc_orchestration::{Runs, Sealing, StartRequest};
use ltmc_ports::runner::{AdmitError, Components, Inspection, Job, Outcome};
use ltmc_ports::testing::{MemoryRecord, SeededEntropy};
use ltmc_ports::{Gate, Runner, WriteCatalog as _};
use ltmc_schemas::Schemas;
use ltmc_tenancy::{Authority, Pins};
use serde_json::json;

use crate::Plan;
use crate::inside::SystemClock;
use crate::report::{Goal, Line, Series, round};
use crate::rig;

const STEPS: u32 = 3;
const DOCUMENT: &str =
    "name: three\nflow: {sequence: [{id: a, agent: echo}, {id: b, agent: echo}, {id: c, agent: echo}]}";

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::threads()?;
    let runs = plan.calls / 10;
    let mut measured = Series::default();
    runtime.block_on(async {
        // Round 0 warms it up. Each has a record of its own, for one in memory keeps all that was ever written.
        for number in 0..=plan.rounds {
            let host = InMemory::start().await?;
            let begun = Instant::now();
            for _ in 0..runs {
                host.run().await?;
            }
            let step = begun.elapsed().as_secs_f64() * 1e6 / runs as f64 / f64::from(STEPS);
            if let Some(number) = number.checked_sub(1) {
                measured.add(step);
                round(number, plan.rounds, &[("a step", step, "us")]);
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(vec![Line {
        bench: "overhead",
        case: format!("a step of a run of {STEPS}"),
        unit: "us",
        measured,
        reference: None,
        goal: Goal::Under(150.0),
    }])
}

/// A host's runs, with no more around them than they need.
struct InMemory {
    runs: Runs,
    caller: Caller,
}

impl InMemory {
    async fn start() -> Result<Self> {
        let clock = Arc::new(SystemClock);
        let record = MemoryRecord::new();
        let caller = Caller { tenant: "default".parse()?, key: "benchmarking".parse()?, role: Role::Admin };
        let echo = Agent {
            name: "echo".parse()?,
            digest: Digest::of(b"echo"),
            manifest: Manifest::default(),
            exports: vec![Export::Agent],
            size: 1,
            pushed_at: ltmc_ports::Clock::now(&*clock),
        };
        let three = Change::WorkflowPut {
            name: "three".parse()?,
            source: DOCUMENT.to_owned(),
            digest: Digest::of(DOCUMENT.as_bytes()),
            schedules: Vec::new(),
        };
        for change in [Change::AgentPushed(echo), three] {
            record.act(&caller.tenant, ltmc_ports::Clock::now(&*clock), Act { by: None, change }).await?;
        }
        let authority = Arc::new(Authority::new(record.clone(), record.clone(), clock.clone()));
        let handed = Handed::new(record.clone());
        let subscriptions = Subscriptions::start(record.clone());
        let context = Arc::new(Context::of_record(&record, &handed, &subscriptions, authority.clone()));
        let runs = Runs::new(Ports {
            read: record.clone(),
            write: handed,
            take_ups: record.clone(),
            bus: record.clone(),
            questions: record.clone(),
            sessions: record.clone(),
            subscriptions,
            authority: authority.clone(),
            crossing: Arc::new(ltmc_crossing::Shared { authority, context, clock: clock.clone() }),
            runner: Arc::new(Echo),
            pins: Pins::new(record.clone(), Arc::new(NoShelf)),
            clock,
            entropy: Arc::new(SeededEntropy::new(1)),
            directories: BTreeMap::new(),
            schemas: Arc::new(Schemas::in_process()),
            embedder: ltmc_embedders::hashed(),
            sealing: Sealing::default(),
            graph: None,
            lessons: None,
        });
        Ok(Self { runs, caller })
    }

    /// Runs the workflow to its end.
    async fn run(&self) -> Result<()> {
        let request = StartRequest {
            workflow: "three".parse()?,
            input: Payload::json(&json!({"say": "hello"})),
            session: None,
            idempotency: None,
            request_digest: Digest([0; 32]),
            traceparent: None,
        };
        let started = self.runs.start(&self.caller, request).await?;
        let ended = self.runs.wait(&self.caller, &started, None).await?;
        ended.ok_or_else(|| anyhow!("the run is not over"))?.map_err(|failure| anyhow!("{}", failure.message))?;
        Ok(())
    }
}

/// Gives what it is given, at once.
struct Echo;

#[async_trait]
impl Runner for Echo {
    async fn run(&self, job: Job, _: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
        (Ok(Outcome::Output(job.input)), Usage::default())
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
