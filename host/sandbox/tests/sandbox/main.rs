//! The sandbox as a whole, with real components: what tenants share of it is divided among them, whatever their components
//! are made of.

mod pool;

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::agent::Export;
use ltmc_model::call::Call;
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::Failure;
use ltmc_model::limits::Limits;
use ltmc_model::{Digest, Payload, RunId, StepPath, Timestamp};
use ltmc_ports::runner::{AdmitError, Components as _, Gate, Job, Outcome, Runner as _};
use ltmc_sandbox::{Compiler, Sandbox, SandboxConfig};

/// A sandbox in a directory of its own.
struct Rig {
    sandbox: Arc<Sandbox>,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// With so many slots, and what else is to be set.
    fn new(slots: u32, set: impl FnOnce(&mut SandboxConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SandboxConfig::new(dir.path(), Compiler::InProcess);
        config.slots = slots;
        set(&mut config);
        Self { sandbox: Sandbox::new(config).unwrap(), _dir: dir }
    }

    /// Takes a component in that is given as text.
    async fn push(&self, text: &str) -> Result<Digest, AdmitError> {
        let wasm = wat::parse_str(text).unwrap();
        Ok(self.sandbox.admit(&"acme".parse().unwrap(), wasm.into()).await?.digest)
    }

    /// Calls a command.
    async fn call(&self, tenant: &str, component: Digest, limits: Limits) -> Result<Outcome, Failure> {
        let job = Job {
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
        };
        self.sandbox.run(job, Arc::new(NoHost)).await.0
    }
}

/// The way to a host that has nothing.
struct NoHost;

#[async_trait]
impl Gate for NoHost {
    async fn cross(&self, call: Call) -> Result<Result<Reply, Refusal>, Failure> {
        Ok(Err(Refusal::Invalid(format!("{} is not here", call.name()))))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1)
    }

    fn stderr(&self, _: &str) {}
}
