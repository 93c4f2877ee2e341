//! The host, put together: the only place that names every adapter.
//!
//! Order: the record (which takes the data directory for itself), the sandbox, the use cases, the door. What is opened
//! last is closed first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ltmc_api::{App, HttpLimits};
use ltmc_context::{Clients, Handed, clients};
use ltmc_model::{AgentName, Timestamp};
use ltmc_orchestration::{
    Lapses, Runs, Schedules, Sealing, Sessions, Triggers, Workflows, runs, schedules, triggers, workflows,
};
use ltmc_ports::{Clock, Entropy, Record};
use ltmc_projections::Repairs;
use ltmc_sandbox::{CompileLimits, Compiler, Sandbox, SandboxConfig};
use ltmc_schemas::Schemas;
use ltmc_tenancy::access::{self, FirstKeys};
use ltmc_tenancy::{Access, Agents, Authority, Deletions, Holds, Pins, Tasks, agents, deletions};

use crate::config::Config;
use crate::context::Shared;
use crate::credentials::{Credentials, Secret};
use crate::databases::Databases;
use crate::exit::Problem;
use crate::health::{Anchored, Healthy, Looked};
use crate::metrics::Metrics;

/// What this program is told to be to judge by schemas.
pub(crate) const SCHEMA_WORKER: &str = "schema-worker";

/// A host that is ready to serve.
pub(crate) struct Host {
    pub(crate) app: App,
    pub(crate) runs: Runs,
    pub(crate) schedules: Arc<Schedules>,
    pub(crate) triggers: Arc<Triggers>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) lapses: Arc<Lapses>,
    /// What clients asked for and may not wait for any more.
    pub(crate) tasks: Tasks,
    pub(crate) authority: Arc<Authority>,
    pub(crate) record: Arc<dyn Record>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) deletions: Arc<Deletions>,
    /// What the start finds of the heads that were kept elsewhere.
    pub(crate) anchors: Arc<Anchored>,
    /// Whether this is the data directory's first start.
    pub(crate) first_start: bool,
}

/// The machine's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The kernel's randomness.
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel gives random bytes");
    }
}

impl Host {
    /// Opens everything in the data directory, and makes it where it is not there.
    pub(crate) async fn open(config: &Config, metrics: Option<Metrics>) -> anyhow::Result<Self> {
        let base = Base::open(config).await?;
        let access = base.access();
        let agents = base.agents();
        let runs = base.runs(config)?;
        let deletions = base.deletions(&runs);
        let record = &base.record;
        let (read, write) = (record.clone(), record.clone());
        let schedules = Arc::new(Schedules::new(schedules::Ports { read, write, runs: runs.clone() }));
        let (read, write, bus, cascades) = (record.clone(), record.clone(), record.clone(), record.clone());
        let triggers = Arc::new(Triggers::new(triggers::Ports { read, write, bus, cascades, runs: runs.clone() }));
        let sessions = Arc::new(Sessions::new(record.clone(), runs.clone()));
        let lapses = Arc::new(Lapses::new(record.clone(), runs.clone()));
        let workflows = Arc::new(Workflows::new(workflows::Ports {
            read: record.clone(),
            authority: base.authority.clone(),
            schemas: base.schemas.clone(),
            schedules: schedules.clone(),
            triggers: triggers.clone(),
        }));
        let first_start = access
            .bootstrap(|keys| keep(&config.data, keys).map_err(|e| format!("{e:#}")))
            .await
            .context("making the first keys")?;
        let anchors = Arc::new(Anchored::default());
        let app = App {
            access,
            deletions: deletions.clone(),
            agents,
            runs: Arc::new(runs.clone()),
            workflows,
            schedules: schedules.clone(),
            triggers: triggers.clone(),
            sessions: sessions.clone(),
            clients: base.clients(),
            repairs: Arc::new(Repairs::new(base.authority.clone(), base.shared.followers.clone())),
            health: Arc::new(Healthy::new(Looked {
                record: record.clone(),
                sandbox: base.sandbox.clone(),
                shared: base.shared.clone(),
                anchors: anchors.clone(),
                backlog: config.context.backlog,
            })),
            metrics: base.figures(&runs, metrics),
            metrics_public: config.metrics_public,
            clock: base.clock.clone(),
            limits: http_limits(config),
        };
        let Base { authority, record, shared, sandbox, pins, .. } = base;
        shared.start();
        Ok(Self {
            app,
            runs,
            schedules,
            triggers,
            sessions,
            lapses,
            tasks: authority.tasks().clone(),
            authority,
            record,
            shared,
            sandbox,
            pins,
            deletions,
            anchors,
            first_start,
        })
    }
}

/// What the use cases stand on.
struct Base {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    record: Arc<dyn Record>,
    /// Every run's journal is written through it.
    handed: Arc<Handed>,
    sandbox: Arc<Sandbox>,
    authority: Arc<Authority>,
    pins: Arc<Pins>,
    schemas: Arc<Schemas>,
    shared: Arc<Shared>,
}

impl Base {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        make_private(&config.data)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // Before anything is opened: what is wrongly configured is said at once.
        let databases = Databases::open(config)?;
        let record = crate::record::open(config, databases.follow_runs()).await?;
        let sandbox = Sandbox::new(sandbox_config(config, config.data.join("sandbox"))?).map_err(|e| {
            Problem::failed(e.to_string()).help("lower sandbox.slots or sandbox.max_memory; see docs/run-a-host.md")
        })?;
        let authority = Arc::new(Authority::new(record.clone(), record.clone(), clock.clone()));
        let pins = Pins::new(record.clone(), sandbox.clone());
        let schemas = Arc::new(schemas()?);
        let handed = Handed::new(record.clone());
        let (followed, judges) = ((record.clone(), handed.clone()), schemas.clone());
        let opened = Shared::open(config, databases, followed, authority.clone(), judges, clock.clone());
        let shared = Arc::new(opened.await?);
        let entropy = Arc::new(SystemEntropy);
        Ok(Self { clock, entropy, record, handed, sandbox, authority, pins, schemas, shared })
    }

    fn access(&self) -> Arc<Access> {
        Arc::new(Access::new(access::Ports {
            catalog: self.record.clone(),
            journal: self.record.clone(),
            authority: self.authority.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            max_memory: self.sandbox.max_memory(),
        }))
    }

    fn agents(&self) -> Arc<Agents> {
        Arc::new(Agents::new(agents::Ports {
            catalog: self.record.clone(),
            authority: self.authority.clone(),
            components: self.sandbox.clone(),
            pins: self.pins.clone(),
            schemas: self.schemas.clone(),
            clock: self.clock.clone(),
        }))
    }

    fn runs(&self, config: &Config) -> anyhow::Result<Runs> {
        let (record, shared) = (&self.record, &self.shared);
        let crossing = Arc::new(ltmc_crossing::Shared {
            authority: self.authority.clone(),
            context: shared.context.clone(),
            clock: self.clock.clone(),
        });
        Ok(Runs::new(runs::Ports {
            read: record.clone(),
            write: self.handed.clone(),
            bus: record.clone(),
            questions: record.clone(),
            sessions: record.clone(),
            take_ups: record.clone(),
            subscriptions: shared.subscriptions.clone(),
            authority: self.authority.clone(),
            crossing,
            runner: self.sandbox.clone(),
            pins: self.pins.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            directories: directories(config)?,
            schemas: self.schemas.clone(),
            embedder: shared.embedder(),
            sealing: Sealing::default(),
            graph: shared.graph(),
            lessons: Some(shared.lessons()),
        }))
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::new(Clients::new(clients::Ports {
            context: self.shared.context.clone(),
            authority: self.authority.clone(),
            journal: self.record.clone(),
            mail: self.record.clone(),
            sessions: self.record.clone(),
            subscriptions: self.shared.subscriptions.clone(),
            clock: self.clock.clone(),
        }))
    }

    fn deletions(&self, runs: &Runs) -> Arc<Deletions> {
        Deletions::new(deletions::Ports {
            catalog: self.record.clone(),
            purge: self.record.clone(),
            chains: self.record.clone(),
            authority: self.authority.clone(),
            pins: self.pins.clone(),
            alive: Arc::new(runs.clone()),
            followers: self.shared.followers.iter().map(|follower| follower.clone() as Arc<dyn Holds>).collect(),
        })
    }

    /// What is measured, whenever somebody looks.
    fn figures(&self, runs: &Runs, metrics: Option<Metrics>) -> Arc<dyn Fn() -> String + Send + Sync> {
        let (sandbox, runs) = (self.sandbox.clone(), runs.clone());
        let (shared, record, tasks) = (self.shared.clone(), self.record.clone(), self.authority.tasks().clone());
        Arc::new(move || {
            measure(&sandbox, &runs);
            metrics::gauge!("ltmc_changes_under_way").set(tasks.under_way() as f64);
            metrics::gauge!("ltmc_disk_full").set(f64::from(u8::from(!record.has_room())));
            measure_databases(&shared);
            metrics.as_ref().map(Metrics::render).unwrap_or_default()
        })
    }
}

/// Who judges by JSON Schema: this program, in child processes.
pub(crate) fn schemas() -> anyhow::Result<Schemas> {
    let exe = std::env::current_exe().context("finding this program, which judges by schemas in child processes")?;
    Ok(Schemas::in_children(exe, vec![SCHEMA_WORKER.into()]))
}

/// Directories that can be granted, each there and named well.
fn directories(config: &Config) -> anyhow::Result<BTreeMap<AgentName, PathBuf>> {
    let one = |(name, path): (&String, &PathBuf)| {
        let key = format!("directories.{name}");
        let name: AgentName = name.parse().map_err(|e| Problem::usage(format!("{key}: {e}")))?;
        let path = path.canonicalize().map_err(|e| Problem::usage(format!("{key}: {}: {e}", path.display())))?;
        if !path.is_dir() {
            return Err(Problem::usage(format!("{key}: {} is no directory", path.display())).into());
        }
        Ok((name, path))
    };
    config.directories.iter().map(one).collect()
}

/// The sandbox's settings; its compiler is this same program.
pub(crate) fn sandbox_config(config: &Config, dir: PathBuf) -> anyhow::Result<SandboxConfig> {
    let exe = std::env::current_exe().context("finding this program, which compiles components in a child process")?;
    let mut sandbox = SandboxConfig::new(dir, Compiler::Child { exe, args: vec!["compile-worker".into()] });
    let wanted = &config.sandbox;
    sandbox.slots = wanted.slots;
    sandbox.waiting = wanted.waiting;
    sandbox.waiting_memory = wanted.waiting_memory.as_u64();
    sandbox.memory = wanted.memory.as_u64();
    sandbox.cache_bytes = wanted.cache.as_u64();
    sandbox.max_memory = wanted.max_memory.as_u64();
    sandbox.queue_deadline = wanted.queue_deadline.0;
    sandbox.queue_length = wanted.queue_length;
    sandbox.file_threads = wanted.file_threads;
    sandbox.max_component = usize::try_from(config.limits.upload.as_u64()).unwrap_or(usize::MAX);
    sandbox.compile = CompileLimits {
        memory: wanted.compile_memory.as_u64(),
        cpu: wanted.compile_time.0,
        wall: wanted.compile_time.0,
    };
    Ok(sandbox)
}

fn http_limits(config: &Config) -> HttpLimits {
    let limits = &config.limits;
    HttpLimits {
        connections: limits.connections,
        head_time: limits.head_time.0,
        idle: limits.idle.0,
        body_stall: limits.body_stall.0,
        write_stall: limits.write_stall.0,
        payload: limits.body.as_u64(),
        upload: limits.upload.as_u64(),
        document: limits.document.as_u64(),
        bodies: limits.bodies.as_u64(),
        watchers: limits.watchers,
        drain: config.shutdown_deadline.0 + Duration::from_secs(2),
        ..HttpLimits::default()
    }
}

pub(crate) fn make_private(data: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|e| {
        Problem::failed(format!("the data directory {} cannot be made: {e}", data.display()))
            .help("name another with --data, or make it for this user")
            .into()
    })
}

fn keep(data: &Path, keys: &FirstKeys) -> anyhow::Result<()> {
    let secret = |text: &str| Secret::parse(text).map_err(anyhow::Error::msg);
    let credentials =
        Credentials::default().with("operator", secret(&keys.operator)?).with("default", secret(&keys.default)?);
    credentials.write(data)
}

fn measure_databases(shared: &Shared) {
    for status in shared.statuses() {
        let gauge = |name: &'static str, value: f64| metrics::gauge!(name, "database" => status.name).set(value);
        gauge("ltmc_projection_up", f64::from(u8::from(status.up)));
        gauge("ltmc_projection_backlog", status.backlog as f64);
        gauge("ltmc_projection_lag_seconds", status.lag_ms as f64 / 1_000.0);
    }
    metrics::gauge!("ltmc_subscribed_places").set(shared.subscriptions.places() as f64);
    metrics::gauge!("ltmc_changes_staged_bytes").set(shared.context.overlays.out() as f64);
}

/// Figures that are read when somebody looks.
fn measure(sandbox: &Sandbox, runs: &Runs) {
    let stats = sandbox.stats();
    let gauge = |name: &'static str, value: f64| metrics::gauge!(name).set(value);
    gauge("ltmc_sandbox_running", stats.running as f64);
    gauge("ltmc_sandbox_queued", stats.queued as f64);
    gauge("ltmc_sandbox_waiting", stats.waiting as f64);
    gauge("ltmc_sandbox_compiling_queued", stats.compiling_queued as f64);
    gauge("ltmc_sandbox_slots", stats.slots as f64);
    gauge("ltmc_sandbox_components_loaded", stats.loaded as f64);
    gauge("ltmc_sandbox_components_loaded_bytes", stats.loaded_bytes as f64);
    gauge("ltmc_file_threads", stats.file_threads as f64);
    gauge("ltmc_file_threads_working", stats.file_threads_working as f64);
    gauge("ltmc_blocked_threads", stats.file_threads_blocked as f64);
    gauge("ltmc_runs_alive", runs.alive() as f64);
    gauge("ltmc_runs_input_bytes", runs.input_bytes() as f64);
}
