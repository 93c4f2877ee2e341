//! The sandbox as a whole, with real components: what tenants share of it is divided among them, whatever their components
//! are made of.

mod lane;
mod marks;
mod pool;
mod waits;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ltmc_model::agent::Export;
use ltmc_model::call::Call;
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::Failure;
use ltmc_model::limits::Limits;
use ltmc_model::{Digest, Payload, RunId, StepPath, Timestamp};
use ltmc_ports::runner::{AdmitError, Components as _, Directory, Gate, Job, Outcome, Runner as _};
use ltmc_sandbox::{Compiler, Sandbox, SandboxConfig, Stats};
use tokio::task::JoinHandle;

/// A sandbox in a directory of its own.
struct Rig {
    sandbox: Arc<Sandbox>,
    dir: tempfile::TempDir,
}

/// What comes to its end, in far less than this: what would be waited for for ever fails its test.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(180), work).await.expect("it ends")
}

impl Rig {
    /// With so many slots, and what else is to be set.
    fn new(slots: u32, set: impl FnOnce(&mut SandboxConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SandboxConfig::new(dir.path(), Compiler::InProcess);
        config.slots = slots;
        set(&mut config);
        Self { sandbox: Sandbox::new(config).unwrap(), dir }
    }

    /// Takes a component in that is given as text.
    async fn push(&self, text: &str) -> Result<Digest, AdmitError> {
        self.push_as("acme", text).await
    }

    /// The same, for a tenant.
    async fn push_as(&self, tenant: &str, text: &str) -> Result<Digest, AdmitError> {
        let wasm = wat::parse_str(text).unwrap();
        Ok(self.sandbox.admit(&tenant.parse().unwrap(), wasm.into()).await?.digest)
    }

    /// Calls a command on a task of its own.
    fn begin(&self, tenant: &str, component: Digest, limits: Limits) -> JoinHandle<Result<Outcome, Failure>> {
        let (sandbox, job) = (self.sandbox.clone(), job(tenant, component, limits));
        tokio::spawn(async move { sandbox.run(job, Arc::new(NoHost)).await.0 })
    }

    /// Waits until the sandbox is as busy as this says.
    async fn until(&self, wanted: impl Fn(Stats) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !wanted(self.sandbox.stats()) {
            assert!(Instant::now() < deadline, "{:?}", self.sandbox.stats());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Calls a command.
    async fn call(&self, tenant: &str, component: Digest, limits: Limits) -> Result<Outcome, Failure> {
        in_time(self.sandbox.run(job(tenant, component, limits), Arc::new(NoHost))).await.0
    }
}

fn job(tenant: &str, component: Digest, limits: Limits) -> Job {
    Job {
        tenant: tenant.parse().unwrap(),
        concurrency: 1_000,
        component,
        export: Export::Command,
        limits,
        agent: "agent".parse().unwrap(),
        run: RunId::new(Timestamp::from_millis(1), [7; 10]),
        step: StepPath::root(),
        attempt: 1,
        session: "s1".parse().unwrap(),
        input: Payload::text(""),
        seed: [7; 32],
        directories: Vec::new(),
    }
}

/// A command that does what this core WebAssembly says.
fn command(code: &str) -> String {
    format!(
        r#"(component
             (core module $guest (memory 1) (func (export "run") (result i32) {code} (i32.const 0)))
             (core instance $guest (instantiate $guest))
             (func $run (result (result)) (canon lift (core func $guest "run")))
             (instance $exported (export "run" (func $run)))
             (export "wasi:cli/run@0.2.6" (instance $exported)))"#
    )
}

/// The way to a host that has nothing.
struct NoHost;

#[async_trait]
impl Gate for NoHost {
    async fn cross(&self, call: Call) -> Result<Result<Reply, Refusal>, Failure> {
        Ok(Err(Refusal::Invalid(format!("{} is not here", call.name()))))
    }

    async fn grants(&self, _: &Directory) -> bool {
        false
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1)
    }

    fn stderr(&self, _: &str) {}
}
