//! `overhead`: what the engine itself takes for a step: runs of three steps over a record in memory, by agents that answer at once, so
//! that neither guests nor a disk are in it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use ltmc_model::agent::{Agent, Export};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Act, Change};
use ltmc_model::manifest::Manifest;
use ltmc_model::run::Usage;
use ltmc_model::{Digest, Payload};
use ltmc_orchestration::{Runs, StartRequest};
use ltmc_ports::runner::{Job, Outcome};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{Gate, Runner, WriteCatalog as _};
use ltmc_schemas::Schemas;
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
        let caller =
            Caller { tenant: "default".parse()?, key: "benchmarking".parse()?, role: Role::Admin, cause: None };
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
            triggers: Vec::new(),
        };
        for change in [Change::AgentPushed(echo), three] {
            record.act(&caller.tenant, ltmc_ports::Clock::now(&*clock), Act { by: None, change }).await?;
        }
        let host = ltmc_orchestration::InMemory {
            write: record.clone(),
            record,
            clock,
            runner: Arc::new(Echo),
            schemas: Arc::new(Schemas::in_process()),
            embedder: ltmc_embedders::hashed(),
        };
        let runs = Runs::new(host.into());
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
