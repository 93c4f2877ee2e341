//! The sandbox: runs agents as WebAssembly components, each call in a fresh instance, and nothing of it gets out but
//! through one [`ltmc_ports::Gate`].
//!
//! Invariants: the only crate that knows wasmtime; it knows no store (its manifest has none), so a guest's effect cannot
//! go round the crossing. Compilation happens in a child process. Only artifacts that this host wrote are loaded.
//!
//! To add an interface: `host/<interface>.rs` and its line in the table of [`host`].
//!
//! - [`engine`]: wasmtime's settings, and the ticker that interrupts guests
//! - [`components`]: components taken in, compiled, cached
//! - [`compile`]: the child process that compiles; [`mark`]: what its artifacts bear
//! - [`admission`]: who may run now, fair between tenants
//! - [`slot`]: a call's slot, which it gives back while it waits
//! - [`runner`]: one attempt, from its instance to its ending
//! - [`guest`]: what belongs to one instance: its streams, clocks, randomness, limits
//! - [`files`]: granted directories; [`threads`]: who waits for file systems
//! - [`probe`]: whether calls can be served
//! - [`meter`]: what one call uses

mod admission;
mod bindings;
mod compile;
mod components;
mod ending;
mod engine;
mod files;
mod guest;
mod host;
mod inspect;
mod limits;
mod mark;
mod meter;
mod probe;
mod runner;
mod slot;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ltmc_model::failure::Failure;
use ltmc_model::run::Usage;
use ltmc_model::{Digest, TenantId};
use ltmc_policy::Pot;
use ltmc_ports::runner::{AdmitError, Components, Gate, Inspection, Job, Outcome, Runner};

use crate::admission::Admission;
use crate::files::Room;
use crate::probe::Nothing;
use crate::slot::Slots;
use crate::threads::Threads;

pub use crate::compile::{Compiler, compile_worker};
pub use crate::engine::bare as bare_for_benchmarks;
pub use crate::probe::Tried;

/// What a sandbox may use. The defaults serve two cores and 24 GiB.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Where components and compiled artifacts are kept; only the host may write there.
    pub dir: PathBuf,
    /// The process that compiles components.
    pub compiler: Compiler,
    /// Bytes of compiled artifacts that stay loaded.
    pub cache_bytes: u64,
    /// Calls that run at once, over all tenants.
    pub slots: u32,
    /// Calls that have given their slot back while they wait, over all tenants.
    pub waiting: u32,
    /// Bytes of linear memory in these.
    pub waiting_memory: u64,
    /// Bytes of linear memory in all calls.
    pub memory: u64,
    /// The most linear memory any call can be given, in bytes.
    pub max_memory: u64,
    /// How long a call waits for its turn.
    pub queue_deadline: Duration,
    /// How many calls may wait, over all tenants.
    pub queue_length: usize,
    /// Threads that work on files of granted directories; a tenant has at most a quarter of them.
    pub file_threads: usize,
    /// The largest component, in bytes.
    pub max_component: usize,
    /// What one compilation may use.
    pub compile: CompileLimits,
}

/// What one compilation may use.
#[derive(Debug, Clone, Copy)]
pub struct CompileLimits {
    /// Address space, in bytes.
    pub memory: u64,
    /// CPU time, over all its threads.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
}

impl SandboxConfig {
    /// The defaults, keeping things in `dir`.
    pub fn new(dir: impl Into<PathBuf>, compiler: Compiler) -> Self {
        Self {
            dir: dir.into(),
            compiler,
            cache_bytes: 256 << 20,
            slots: 256,
            waiting: 1_024,
            waiting_memory: 1 << 30,
            memory: 4 << 30,
            max_memory: 64 << 20,
            queue_deadline: Duration::from_secs(5),
            queue_length: 4_096,
            file_threads: 64,
            max_component: 64 << 20,
            compile: CompileLimits { memory: 4 << 30, cpu: Duration::from_secs(120), wall: Duration::from_secs(120) },
        }
    }
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// wasmtime refused its settings, or the machine cannot give what they ask for.
    #[error("the WebAssembly engine did not start with {slots} slots: {reason}")]
    Engine {
        /// As configured.
        slots: u32,
        /// wasmtime's words.
        reason: String,
    },
    /// The directory cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Directory {
        /// The sandbox's directory, or one in it.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The sandbox. One a process: its pool of memories is large.
pub struct Sandbox {
    components: components::Shelf,
    slots: Arc<Slots>,
    room: Room,
    nothing: Nothing,
    engine: engine::Ticking,
    config: SandboxConfig,
}

/// How busy a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Calls that run.
    pub running: usize,
    /// Calls that wait for their turn.
    pub queued: usize,
    /// Calls that have given their slot back while they wait for something else.
    pub waiting: usize,
    /// Components that wait to be compiled.
    pub compiling_queued: usize,
    /// Calls that can run at once.
    pub slots: usize,
    /// Components loaded.
    pub loaded: usize,
    /// Bytes of their artifacts.
    pub loaded_bytes: u64,
    /// Threads for files, at most.
    pub file_threads: usize,
    /// Of these, that work.
    pub file_threads_working: usize,
    /// Of these, that did not come back when their call ended: a file system does not answer.
    pub file_threads_blocked: usize,
}

impl Sandbox {
    /// Starts one.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(config: SandboxConfig) -> Result<Arc<Self>, StartError> {
        let wrong = |reason: String| StartError::Engine { slots: config.slots, reason };
        let engine = engine::Ticking::start(&config).map_err(|e| wrong(format!("{e:#}")))?;
        let nothing = Nothing::new(engine.engine()).map_err(|e| wrong(format!("{e:#}")))?;
        let threads = Threads::new(config.file_threads).map_err(|e| wrong(format!("threads for files: {e}")))?;
        let components = components::Shelf::open(engine.engine().clone(), &config)?;
        let slots = Arc::new(Slots {
            // bound: slots
            admission: Admission::new(config.slots as usize, Pot::divided(config.queue_length as u64)),
            // bound: waiting calls
            waiting: Pot::divided(u64::from(config.waiting)),
            // bound: waiting calls
            waiting_memory: Pot::divided(config.waiting_memory),
            // bound: memory of calls
            memory: Pot::divided(config.memory),
        });
        let room = Room::new(threads);
        Ok(Arc::new(Self { components, slots, room, nothing, engine, config }))
    }

    /// How busy it is now.
    pub fn stats(&self) -> Stats {
        let (running, queued) = self.slots.admission.counts();
        let (loaded, loaded_bytes) = self.components.loaded();
        let files = self.room.threads.busy();
        Stats {
            running,
            queued,
            waiting: usize::try_from(self.slots.waiting.out()).unwrap_or(usize::MAX),
            compiling_queued: self.components.queued(),
            slots: self.config.slots as usize,
            loaded,
            loaded_bytes,
            file_threads: files.threads,
            file_threads_working: files.working,
            file_threads_blocked: files.blocked,
        }
    }

    /// Tries the path of a call: cheap, and over after about `patience`, whatever does not answer.
    pub async fn try_out(&self, patience: Duration) -> Vec<Tried> {
        probe::tried(self, patience).await
    }

    /// The most linear memory any call can be given, in bytes.
    pub fn max_memory(&self) -> u64 {
        self.config.max_memory
    }
}

#[async_trait]
impl Runner for Sandbox {
    async fn run(&self, job: Job, gate: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
        runner::run(self, job, gate).await
    }
}

#[async_trait]
impl Components for Sandbox {
    async fn admit(&self, tenant: &TenantId, wasm: Bytes) -> Result<Inspection, AdmitError> {
        self.components.admit(tenant, wasm).await
    }

    async fn remove(&self, digest: &Digest) {
        self.components.remove(digest).await;
    }

    async fn kept(&self) -> Vec<Digest> {
        self.components.kept().await
    }
}
