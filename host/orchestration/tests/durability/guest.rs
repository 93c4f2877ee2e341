//! Agents as scripts, and the sandbox that runs them.
//!
//! A script is an async function over a [`Guest`]: it reaches the host through the gate alone, and ends at once where the
//! gate says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_model::agent::Export;
use ltmc_model::call::attempt::Checkpoint;
use ltmc_model::call::{Class, HostCall, log, memory};
use ltmc_model::effect::{Level, LogLine, Refusal};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::manifest::Manifest;
use ltmc_model::memory::{Item, Precondition, Scope};
use ltmc_model::run::Usage;
use ltmc_model::state::Kept;
use ltmc_model::{AgentName, Digest, Payload, RunId, StepPath, Timestamp};
use ltmc_ports::runner::{Job, Outcome, Violation};
use ltmc_ports::{Gate, Runner};

/// What a component would do.
type Program = Arc<dyn Fn(Guest) -> BoxFuture<'static, Result<Outcome, Failure>> + Send + Sync>;

/// What a test does after each host call of a run, before its guest goes on.
type AfterCall = Box<dyn Fn(RunId) -> BoxFuture<'static, ()> + Send + Sync>;

/// An agent.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) name: AgentName,
    pub(crate) export: Export,
    pub(crate) manifest: Manifest,
    /// The state that it was left in.
    pub(crate) state: Option<Kept>,
    program: Program,
}

/// An agent that gives a payload.
pub(crate) fn agent<F>(name: &str, program: impl Fn(Guest) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = Result<Payload, Failure>> + Send + 'static,
{
    let program: Program = Arc::new(move |guest| program(guest).map(|end| end.map(Outcome::Output)).boxed());
    Script { name: name.parse().unwrap(), export: Export::Agent, manifest: Manifest::default(), state: None, program }
}

/// An agent that judges.
pub(crate) fn validator<F>(name: &str, program: impl Fn(Guest) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = Result<Vec<Violation>, Failure>> + Send + 'static,
{
    let program: Program = Arc::new(move |guest| program(guest).map(|end| end.map(Outcome::Violations)).boxed());
    Script {
        name: name.parse().unwrap(),
        export: Export::Validator,
        manifest: Manifest::default(),
        state: None,
        program,
    }
}

impl Script {
    /// The same, with states as this declares them.
    pub(crate) fn declaring(mut self, state: serde_json::Value) -> Self {
        self.manifest.state = Some(state);
        self
    }

    /// The same, left in this state.
    pub(crate) fn left_in(mut self, state: Kept) -> Self {
        self.state = Some(state);
        self
    }

    /// The digest of the component that it stands for.
    pub(crate) fn component(&self) -> Digest {
        Digest::of(self.name.as_str().as_bytes())
    }
}

/// Runs scripts.
pub(crate) struct Sandbox {
    scripts: BTreeMap<Digest, Script>,
    ran: Mutex<Vec<(StepPath, u32)>>,
    after_call: Arc<OnceLock<AfterCall>>,
    checkpoints: bool,
}

impl Sandbox {
    /// `checkpoints`: every guest makes one after each change.
    pub(crate) fn new(scripts: &[Script], checkpoints: bool) -> Arc<Self> {
        let scripts = scripts.iter().map(|script| (script.component(), script.clone())).collect();
        Arc::new(Self { scripts, ran: Mutex::default(), after_call: Arc::default(), checkpoints })
    }

    /// Every attempt that was run here, in order, a resumed one again.
    pub(crate) fn ran(&self) -> Vec<(StepPath, u32)> {
        self.ran.lock().unwrap().clone()
    }

    /// From now on done after each host call.
    pub(crate) fn after_call(&self, hook: impl Fn(RunId) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        assert!(self.after_call.set(Box::new(hook)).is_ok(), "there is one thing to do already");
    }
}

#[async_trait]
impl Runner for Sandbox {
    async fn run(&self, job: Job, gate: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
        self.ran.lock().unwrap().push((job.step.clone(), job.attempt));
        let program = self.scripts[&job.component].program.clone();
        (
            program(Guest { job, gate, after_call: self.after_call.clone(), checkpoints: self.checkpoints }).await,
            Usage::default(),
        )
    }
}

/// A script's way to the host. The outer failure of every call ends the attempt.
pub(crate) struct Guest {
    pub(crate) job: Job,
    gate: Arc<dyn Gate>,
    after_call: Arc<OnceLock<AfterCall>>,
    checkpoints: bool,
}

impl Guest {
    pub(crate) async fn cross<C: HostCall>(&self, call: C) -> Result<Result<C::Reply, Refusal>, Failure> {
        let answer = self.asked(call).await;
        // Who has handed its conversation on does nothing after it.
        let is_last = C::NAME.starts_with("coordination.hand-");
        if self.checkpoints && !is_last && C::CHANGES && C::CLASS == Class::Transactional && matches!(answer, Ok(Ok(_)))
        {
            self.checkpoint().await?;
        }
        answer
    }

    async fn asked<C: HostCall>(&self, call: C) -> Result<Result<C::Reply, Refusal>, Failure> {
        let answer = self.gate.call(call).await;
        if let Some(hook) = self.after_call.get() {
            hook(self.job.run).await;
        }
        answer
    }

    pub(crate) async fn checkpoint(&self) -> Result<(), Failure> {
        self.asked(Checkpoint).await?.map_err(|refusal| panic!("{refusal:?}"))
    }

    pub(crate) async fn sure<C: HostCall>(&self, call: C) -> Result<C::Reply, Failure> {
        self.cross(call).await?.map_err(|refusal| Failure::new(Code::AgentError, format!("{refusal:?}")))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.gate.now()
    }

    /// Computes for so many milliseconds.
    pub(crate) async fn compute(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    pub(crate) async fn log(&self, message: impl Into<String>) -> Result<(), Failure> {
        let line = LogLine { level: Level::Info, message: message.into(), fields: Vec::new() };
        self.sure(log::Write(line)).await
    }

    pub(crate) async fn get(&self, key: impl Into<String>) -> Result<Option<Item>, Failure> {
        self.sure(memory::Get { scope: Scope::Session, key: key.into() }).await
    }

    pub(crate) async fn put(&self, key: impl Into<String>, value: impl ToString) -> Result<(), Failure> {
        self.put_if(key, value, Precondition::Any).await?.map_err(|refusal| panic!("{refusal:?}"))
    }

    pub(crate) async fn put_if(
        &self,
        key: impl Into<String>,
        value: impl ToString,
        precondition: Precondition,
    ) -> Result<Result<(), Refusal>, Failure> {
        let (key, value) = (key.into(), value.to_string().into());
        let put = memory::Put { scope: Scope::Session, key, value, precondition, ttl_ms: None };
        Ok(self.cross(put).await?.map(drop))
    }

    pub(crate) async fn delete(&self, key: impl Into<String>) -> Result<bool, Failure> {
        let (key, precondition) = (key.into(), Precondition::Any);
        self.sure(memory::Delete { scope: Scope::Session, key, precondition }).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<String>, Failure> {
        let list = memory::List { scope: Scope::Session, prefix: String::new(), cursor: None, limit: 100 };
        Ok(self.sure(list).await?.items.into_iter().map(|item| item.key).collect())
    }

    /// Adds one to a number, only over the value that was read, until nobody was faster.
    pub(crate) async fn count(&self, key: &str) -> Result<u64, Failure> {
        loop {
            let before = self.get(key).await?;
            if let Ok(number) = self.count_over(key, before).await? {
                return Ok(number);
            }
        }
    }

    /// Adds one to a number that was read; the refusal: somebody was faster.
    pub(crate) async fn count_over(&self, key: &str, before: Option<Item>) -> Result<Result<u64, Refusal>, Failure> {
        let number = before.as_ref().map_or(0, |item| text(&item.value).parse::<u64>().unwrap()) + 1;
        let precondition = before.map_or(Precondition::Absent, |item| Precondition::Revision(item.revision));
        match self.put_if(key, number, precondition).await? {
            Ok(()) => Ok(Ok(number)),
            Err(refusal @ Refusal::Conflict(_)) => Ok(Err(refusal)),
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

/// A failure of the agent's own that may pass.
pub(crate) fn may_pass(message: &str) -> Failure {
    Failure::new(Code::AgentError, message).retryable()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
