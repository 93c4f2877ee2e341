//! The sandbox's ports: it runs attempts, it takes components in, and it reaches the host through one [`Gate`].

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ltmc_model::agent::Export;
use ltmc_model::call::{Call, HostCall};
use ltmc_model::effect::{Mismatch, Refusal, Reply};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::limits::Limits;
use ltmc_model::run::Usage;
use ltmc_model::{AgentName, Digest, Payload, RunId, SessionId, StepPath, TenantId, Timestamp};

/// One attempt to be run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Whose: admission is fair between tenants.
    pub tenant: TenantId,
    /// How many of the tenant's jobs may run at once.
    pub concurrency: u32,
    /// The component.
    pub component: Digest,
    /// Which of its exports.
    pub export: Export,
    /// What it may use.
    pub limits: Limits,
    /// The name it is called under.
    pub agent: AgentName,
    /// The run that the step is of.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// Which attempt, from 1 on.
    pub attempt: u32,
    /// The session.
    pub session: SessionId,
    /// What to work on.
    pub input: Payload,
    /// What the guest's randomness is drawn from: the same for the same attempt of the same step.
    pub seed: [u8; 32],
    /// Directories it is granted. What is read there is in no journal: such an attempt cannot be resumed.
    pub directories: Vec<Directory>,
}

/// A directory that a guest is granted; it sees it as `/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// As the operator named it.
    pub name: AgentName,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it may be written to.
    pub write: bool,
}

/// How an attempt ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An agent's or a command's result.
    Output(Payload),
    /// A validator's findings; none: good.
    Violations(Vec<Violation>),
}

/// What a validator found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer into the judged value; empty: the whole.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

/// The sandbox's only way to the host: every effect of a guest is one `cross`. The implementation (the crate
/// `crossing`) authorizes, replays or performs, journals and meters.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Performs a host call, or says why not.
    ///
    /// # Errors
    /// The outer error ends the attempt at once (the record lost the thread, a replay that does not match); the inner
    /// one is a value for the guest.
    async fn cross(&self, call: Call) -> Result<Result<Reply, Refusal>, Failure>;

    /// Whether a directory that the attempt was given is still granted to its agent, as it was. Asked each time that something
    /// is done there; like what is read there it is in no journal.
    async fn grants(&self, directory: &Directory) -> bool;

    /// What a guest's clock shows now. Read inputs are remembered with the next effect; on a replay they are the
    /// recorded ones.
    fn now(&self) -> Timestamp;

    /// A line (or part of one) that a command wrote to standard error, bounded by the sandbox; kept as a log line.
    fn stderr(&self, text: &str);
}

impl dyn Gate {
    /// Makes a host call, and gives the answer that the call has.
    ///
    /// # Errors
    /// As [`cross`](Gate::cross); and where the journal has an answer of another kind, the replay does not match.
    pub async fn call<C: HostCall>(&self, call: C) -> Result<Result<C::Reply, Refusal>, Failure> {
        match self.cross(call.into()).await? {
            Ok(reply) => C::Reply::try_from(reply).map(Ok).map_err(|Mismatch { wanted }| {
                let message = format!(
                    "the journal has a reply to `{}` that is not of its kind (`{wanted}`): it was written by another version \
                     of the host, and the attempt cannot be resumed; call it anew",
                    C::NAME
                );
                Failure::new(Code::ReplayMismatch, message)
            }),
            Err(refusal) => Ok(Err(refusal)),
        }
    }
}

/// Runs attempts.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs one, in a fresh instance. Dropping the future ends the attempt and frees all it had.
    ///
    /// # Errors
    /// How it ended badly; what it used comes either way.
    async fn run(&self, job: Job, gate: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage);
}

/// What a component is, as found by looking into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Of its bytes.
    pub digest: Digest,
    /// What of its exports the host can run; at least one.
    pub exports: Vec<Export>,
    /// Every import, by name.
    pub imports: Vec<String>,
    /// Its manifest section, as found.
    pub manifest: Option<Bytes>,
}

/// Why a component was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It is wrong: what, and what would be right. The code is stable, such as `not-a-component`.
    #[error("{message}")]
    Refused {
        /// One of `empty`, `too-large`, `not-wasm`, `core-module`, `malformed`, `unknown-import`, `no-export`,
        /// `too-costly` (compiling it took too much time or memory), `needs-too-much` (more core instances, memories or tables
        /// than a call may have).
        code: &'static str,
        /// For people.
        message: String,
    },
    /// Too many are waiting to be compiled, this tenant's or all.
    #[error("{message}")]
    Busy {
        /// For people.
        message: String,
    },
    /// There is no room for it on disk.
    #[error("there is no room on disk for the component")]
    Full,
    /// The host could not: the compiler did not start.
    #[error("{message}")]
    Failed {
        /// For the operator.
        message: String,
    },
}

/// Takes components in, and lets them go.
#[async_trait]
pub trait Components: Send + Sync {
    /// Looks into a component, compiles it (apart from this process), links it for a try, and keeps it. The same bytes
    /// again are answered from what is kept. Tenants take turns at having theirs compiled.
    ///
    /// # Errors
    /// See [`AdmitError`]; nothing is kept then.
    async fn admit(&self, tenant: &TenantId, wasm: Bytes) -> Result<Inspection, AdmitError>;

    /// Lets a component go that no agent has any more. Runs under way keep it in memory until they end.
    async fn remove(&self, digest: &Digest);

    /// Which components are kept.
    async fn kept(&self) -> Vec<Digest>;
}
