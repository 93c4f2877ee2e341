//! Runs: started, waited for, looked at, followed. How people end and pause them: `stop`; what they do about those that went wrong:
//! `recovery`.
//!
//! Invariants: a use case takes `&Caller` first and asks policy before anything else. A run of another tenant is not there;
//! for a key of the role `caller` neither is another key's. Nothing about a run is told before it is on disk, except to
//! the client that waits for its end, who is told the end. A run has its place among those alive before anything of it is
//! written, and from then on is on a task of the host's: its client may go away at any moment. One whose client asked for
//! that ends with it ([`CallRequest::cancel_on_disconnect`]): it is driven by who waits for it, and taken to its end by a task of
//! the host's where the client goes away.
//!
//! - `ready`: what runs are begun with; `begin`: how they begin; `enter`: how they take their place, and set out
//! - `wait`: their ends; `tied`: those that end with their client
//! - `look`: looked at; `follow`: followed

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ltmc_context::subscription::Subscriptions;
use ltmc_journal::{Sealing, runlog};
use ltmc_model::agent::AgentRef;
use ltmc_model::message::Trail;
use ltmc_model::run::State;
use ltmc_model::session::Place as Turn;
use ltmc_model::{AgentName, Digest, Payload, RunId, SessionId, TenantId, Timestamp, WorkflowName};
use ltmc_ports::{
    Clock, Embedder, Entropy, Kind, ReadJournal, ReadQuestions, ReadSessions, Runner, Schemas, StoreError, TakeUps,
    Vectors, Waits, WriteJournal,
};
use ltmc_tenancy::{Authority, Compute, Error, Holds, Pins, Turns};
use moka::sync::Cache;
use tokio::sync::Notify;

use crate::coordinator::Coordinator;
use crate::experience::Experience;
use crate::provenance::{Graph, Provenance};
use crate::registry::Registry;
use crate::supervise::{self, Live, Why};
use crate::suspects::Suspects;
use crate::wake;

mod begin;
mod enter;
mod follow;
mod look;
mod ready;
mod tied;
mod wait;

pub(crate) use begin::why_not_begun;
pub use follow::{Followed, Watch};
pub(crate) use look::{may_see, sight};
pub(crate) use ready::Ready;
use tied::Tied;
use wait::within;

/// How long an idempotency key is remembered.
pub const IDEMPOTENCY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long between two looks at a run that is not alive here.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);
/// Entries that whoever follows a run is given at once.
const PAGE: u32 = 256;
/// Bytes of entries that are read at once, where one is not larger by itself.
const PAGE_BYTES: usize = 1 << 20;
/// How much of what documents ask for is computed at once; of one tenant's half.
const COMPUTED_AT_ONCE: usize = 4;
/// How many of a tenant's may wait for it: no more than it has runs alive.
const WAITING: usize = 20_000;
/// How long until it is looked again whether a run that is being taken up, or suspended, has come to rest.
pub(crate) const AT_REST: Duration = Duration::from_millis(50);
/// How long somebody who cancels a run waits for its end.
pub(crate) const CANCEL: Duration = Duration::from_secs(10);

/// What runs need.
pub struct Ports {
    /// To read journals.
    pub read: Arc<dyn ReadJournal>,
    /// To write them.
    pub write: Arc<dyn WriteJournal>,
    /// Topics, and who waits there.
    pub bus: Arc<dyn Waits>,
    /// What they ask people.
    pub questions: Arc<dyn ReadQuestions>,
    /// Whose turns they are.
    pub sessions: Arc<dyn ReadSessions>,
    /// What counts which runs are taken up from them.
    pub take_ups: Arc<dyn TakeUps>,
    /// What runs are followed by.
    pub subscriptions: Arc<Subscriptions>,
    /// Who may, which agents and workflows there are, and what holds.
    pub authority: Arc<Authority>,
    /// The guests' way to the host.
    pub crossing: Arc<ltmc_crossing::Shared>,
    /// The sandbox.
    pub runner: Arc<dyn Runner>,
    /// Keeps components that runs need.
    pub pins: Arc<Pins>,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// For ids and seeds.
    pub entropy: Arc<dyn Entropy>,
    /// Directories that can be granted, by the names the operator gave them.
    pub directories: BTreeMap<AgentName, PathBuf>,
    /// Who judges by JSON Schema.
    pub schemas: Arc<dyn Schemas>,
    /// What needs and agents' descriptions are compared by.
    pub embedder: Arc<dyn Embedder>,
    /// When where a run stands is written beside its journal.
    pub sealing: Sealing,
    /// A database that follows runs, where there is one: what depends on what is asked of it.
    pub graph: Option<Graph>,
    /// An index for what is learned from runs; none: nothing is.
    pub lessons: Option<Arc<dyn Vectors>>,
}

/// The use cases. A handle: clones are the same.
#[derive(Clone)]
pub struct Runs {
    pub(crate) inner: Arc<Inner>,
}

/// A call to be made.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// The agent that is called, in its newest version where none is named.
    pub agent: AgentRef,
    /// What the agent works on.
    pub input: Payload,
    /// In which session; none: one of its own.
    pub session: Option<SessionId>,
    /// The client's idempotency key.
    pub idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub request_digest: Digest,
    /// The client's W3C trace context.
    pub traceparent: Option<String>,
    /// Whether the call ends with its client: it goes on while that waits for its end ([`Runs::wait`]), and is cancelled where
    /// what [`Runs::call`] gives is dropped before. With an idempotency key it never is: somebody else may be waiting for it.
    pub cancel_on_disconnect: bool,
}

/// A workflow to be run.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: WorkflowName,
    /// What the run works on.
    pub input: Payload,
    /// In which session; none: one of its own.
    pub session: Option<SessionId>,
    /// The client's idempotency key.
    pub idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub request_digest: Digest,
    /// The client's W3C trace context.
    pub traceparent: Option<String>,
}

/// A turn to be taken.
#[derive(Debug, Clone)]
pub(crate) struct TurnRequest {
    /// The session whose turn it is.
    pub(crate) session: SessionId,
    /// In which place there.
    pub(crate) place: Turn,
    /// The message.
    pub(crate) input: Payload,
    /// The client's idempotency key.
    pub(crate) idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub(crate) request_digest: Digest,
    /// The client's W3C trace context.
    pub(crate) traceparent: Option<String>,
}

/// The event that starts a run, or several of them.
#[derive(Debug)]
pub(crate) struct Triggering {
    /// What the run is given.
    pub(crate) input: serde_json::Value,
    /// What it follows from.
    pub(crate) trail: Option<Trail>,
    /// The trace that it goes on with.
    pub(crate) traceparent: Option<String>,
    /// Whether it was there before the subscription was put, or is looked at anew.
    pub(crate) is_replay: bool,
}

/// A run that a request started, or found by its idempotency key.
pub struct Started {
    /// The run's id.
    pub run: RunId,
    /// Whether an earlier request with the same key started it.
    pub attached: bool,
    live: Option<Arc<Live>>,
    tied: Option<Tied>,
}

pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) registry: Arc<Registry>,
    /// Told when a run is suspended.
    pub(crate) sleepers: Notify,
    /// Told when a run ended that an event had started.
    pub(crate) triggered: Notify,
    /// Documents made ready to run, by the digest of their source.
    ready: Cache<Digest, Arc<Ready>>,
    /// For what documents have the host compute.
    pub(crate) compute: Compute,
    pub(crate) suspects: Suspects,
    /// Finds agents for needs.
    pub(crate) coordinator: Coordinator,
    pub(crate) provenance: Provenance,
    /// What was learned from runs that are over.
    pub(crate) experience: Option<Arc<Experience>>,
}

impl Runs {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        Self::with(ports, Registry::default())
    }

    /// The same, with room for so many runs alive at once and no more.
    pub fn with_room(ports: Ports, most: u64) -> Self {
        Self::with(ports, Registry::with_room(most))
    }

    fn with(ports: Ports, registry: Registry) -> Self {
        let experience = ports.lessons.clone().map(|vectors| {
            Experience::new(ports.read.clone(), vectors, ports.embedder.clone(), ports.subscriptions.log())
        });
        let inner = Inner {
            coordinator: Coordinator::new(ports.embedder.clone(), experience.clone()),
            experience,
            provenance: Provenance::new(ports.read.clone(), ports.graph.clone()),
            ports,
            registry: Arc::new(registry),
            sleepers: Notify::new(),
            triggered: Notify::new(),
            // bound: what is remembered
            ready: Cache::new(1_000),
            // bound: documents computed
            compute: Compute::new(Turns::new(COMPUTED_AT_ONCE, WAITING)),
            suspects: Suspects::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Goes on with suspended runs as they become due, until the host stops.
    pub async fn wake(&self) {
        wake::wake(self).await;
    }

    /// Takes no new runs, gives those under way `grace` to end, and parks the rest: the next start goes on with them.
    pub async fn stop(&self, grace: Duration) {
        self.inner.registry.stop(grace).await;
        // It came to its end: whatever was taken up has not kept it from that.
        if let Err(error) = self.inner.ports.take_ups.forget_take_ups().await {
            tracing::warn!(%error, "which runs were taken up could not be forgotten: the next start takes them for suspects");
        }
    }

    /// How many runs are alive.
    pub fn alive(&self) -> usize {
        self.inner.registry.len()
    }

    /// Bytes of the inputs of the runs that are alive: what is bounded for each tenant and for all.
    pub fn input_bytes(&self) -> u64 {
        self.inner.registry.input_bytes()
    }

    pub(crate) fn live(&self, tenant: &TenantId, run: RunId) -> Option<Arc<Live>> {
        self.inner.registry.get(tenant, run)
    }
}

/// Nothing of a deleted tenant can be written: what is alive of it ends where it is.
#[async_trait]
impl Holds for Runs {
    async fn let_go(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let alive = self.inner.registry.of(tenant);
        alive.iter().for_each(|live| live.stop(Why::Parked));
        for live in alive {
            if within(Some(CANCEL), live.ended()).await.is_none() {
                let why = format!("run {} does not end", live.run);
                return Err(StoreError::new(Kind::Unavailable, "runs.let-go").because(why));
            }
        }
        match &self.inner.experience {
            Some(experience) => experience.forget(tenant).await,
            None => Ok(()),
        }
    }
}

impl Inner {
    pub(crate) fn log_ports(&self) -> runlog::Ports {
        let Ports { write, clock, sealing, .. } = &self.ports;
        runlog::Ports { journal: write.clone(), clock: clock.clone(), sealing: *sealing }
    }

    /// A new run's id, and its seed.
    pub(crate) fn drawn(&self, now: Timestamp) -> (RunId, [u8; 32]) {
        let mut random = [0; 42];
        self.ports.entropy.fill(&mut random);
        let (mut id, mut seed) = ([0; 10], [0; 32]);
        id.copy_from_slice(&random[..10]);
        seed.copy_from_slice(&random[10..]);
        (RunId::new(now, id), seed)
    }
}

impl Started {
    /// One that a task of the host's drives.
    pub(crate) fn begun(run: RunId, live: Arc<Live>) -> Self {
        Self { run, attached: false, live: Some(live), tied: None }
    }

    /// Waits until it ended.
    async fn ended(&self, live: &Live) -> supervise::End {
        let Some(tied) = &self.tied else { return live.ended().await };
        tokio::select! {
            biased;
            () = tied.drive() => live.ended().await,
            // Nobody is kept waiting where the record does not answer, though the run goes on when it does.
            end = live.ended() => end,
        }
    }
}

pub(crate) fn being_taken_up() -> Error {
    Error::Busy { message: "the run is being taken up again".into(), retry_after: Duration::from_secs(1) }
}

pub(crate) fn is_over(run: RunId, state: State) -> Error {
    let message = match state {
        State::Paused => format!("run {run} is paused: `ltmc runs continue {run}` goes on with it first"),
        State::Stuck => {
            format!("run {run} is stuck: what undoes its work has failed, which somebody is to look at first")
        }
        State::Quarantined => format!("run {run} is quarantined: `ltmc runs resume {run}` takes it up again"),
        state => format!("run {run} is over: it is {}", state.as_str()),
    };
    Error::Conflict { code: "conflict", message }
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs").field("alive", &self.alive()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("run", &self.run).field("attached", &self.attached).finish_non_exhaustive()
    }
}
