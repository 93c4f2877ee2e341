//! What an attempt needs: whose work it is, on what, in which version, within which limits.
//!
//! Invariant: it follows from the run's history and what is in force. An attempt that is made again, or only rehearsed, is given what it was
//! given before.

use std::sync::Arc;

use ltmc_crossing::broken;
use ltmc_journal::RunLog;
use ltmc_model::agent::{Agent, AgentRef, Export};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::limits::Limits;
use ltmc_model::manifest::Isolation;
use ltmc_model::workflow::{Does, Retry};
use ltmc_model::{Digest, Payload, StepPath};
use ltmc_ports::runner::{Directory, Job};
use ltmc_tenancy::Compute;

use crate::engine::derived;
use crate::input;
use crate::patterns::Input;
use crate::plan::{self, Plan};
use crate::runs::Ports;

/// Prepares the attempts of one run.
#[derive(Clone, Copy)]
pub(crate) struct Preparer<'a> {
    pub(crate) ports: &'a Ports,
    pub(crate) log: &'a RunLog,
}

/// Whose work a step is, and on what.
pub(crate) struct Assigned {
    pub(crate) agent: AgentRef,
    pub(crate) work: Work,
    pub(crate) input: Result<Payload, Failure>,
    pub(crate) retry: Retry,
}

/// What an agent is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Agent,
    Validator,
    Collector,
}

impl Preparer<'_> {
    /// Whose work the step is; `input` is what comes before it.
    pub(crate) async fn assigned(
        self,
        compute: &Compute,
        plan: &Arc<Plan>,
        step: &StepPath,
        input: &Input,
    ) -> Result<Assigned, Failure> {
        match plan.find(step)?.work {
            plan::Work::Node(node) => {
                let agent = match &node.does {
                    Does::Agent(agent) => Some(agent.clone()),
                    _ => self.log.read(|history| history.node(step).and_then(|node| node.agent.clone())),
                };
                let agent = agent.ok_or_else(|| Failure::new(Code::Internal, format!("{step} is no agent's step")))?;
                let given = self.log.read(|history| history.step(step).and_then(|step| step.given.clone()));
                let input = match given {
                    Some(given) => Ok(given),
                    None => input::build(compute, plan, self.log, step, input).await,
                };
                let work = if plan.collects(step) { Work::Collector } else { Work::Agent };
                Ok(Assigned { agent, work, input, retry: node.retry.clone() })
            }
            plan::Work::Validator(agent) => {
                let input = input::resolve(compute, plan, self.log, input).await;
                Ok(Assigned { agent: agent.clone(), work: Work::Validator, input, retry: Retry::none() })
            }
        }
    }

    /// What the sandbox is told of an attempt whose journal begins under the number `attempt`, and what it relies on of what it reads.
    pub(crate) async fn job(
        self,
        step: &StepPath,
        attempt: u32,
        agent: &AgentRef,
        work: Work,
        input: Result<Payload, Failure>,
    ) -> Result<(Job, Isolation), Failure> {
        let input = input?;
        let (tenant, started) = (self.log.tenant(), self.log.started());
        let seed = self.log.read(|history| history.step(step).and_then(|step| step.seed)).unwrap_or(started.seed);
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
            seed: derived(&seed, "guest", step, attempt),
            directories: self.directories(&agent).await?,
        };
        Ok((job, agent.manifest.isolation))
    }

    /// Whether an agent's attempt sees any directory.
    pub(crate) async fn sees_directories(self, agent: &AgentRef) -> Result<bool, Failure> {
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
    async fn directories(self, agent: &Agent) -> Result<Vec<Directory>, Failure> {
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

    /// The version of an agent that the run is pinned to; none: whichever is the newest.
    pub(crate) fn version(self, agent: &AgentRef) -> Option<Digest> {
        self.log.read(|history| history.started()?.agents.get(&agent.name).copied()).or(agent.digest)
    }

    /// An agent in the version that the run is pinned to.
    async fn pinned(self, agent: &AgentRef) -> Result<Arc<Agent>, Failure> {
        let pinned = AgentRef { name: agent.name.clone(), digest: self.version(agent) };
        let found = self.ports.authority.agent(self.log.tenant(), &pinned).await.map_err(|e| broken(&e))?;
        found.ok_or_else(|| Failure::new(Code::AgentMissing, format!("agent `{pinned}` is not there any more")))
    }
}

impl Work {
    /// The export that does it.
    fn export(self, agent: &Agent) -> Result<Export, Failure> {
        let (wanted, called): (&[Export], _) = match self {
            Self::Agent => (&[Export::Agent, Export::Command], "be called"),
            Self::Validator => (&[Export::Validator], "judge a result"),
            Self::Collector => {
                (&[Export::Aggregator, Export::Agent, Export::Command], "make one of what branches gave")
            }
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
