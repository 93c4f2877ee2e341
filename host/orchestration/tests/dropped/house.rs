//! The use cases over a record that takes its time, what a test begins with, and what must agree afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Waker, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ltmc_context::{Clients, Context, Handed, Subscriptions, clients};
use ltmc_model::agent::{AgentRef, Carry, Export};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::run::{Run, State, Usage};
use ltmc_model::schedule::ScheduleId;
use ltmc_model::tenancy::{Ceiling, Tenant};
use ltmc_model::{AgentName, Capability, Digest, KeyId, Payload, Revision, TenantId, Timestamp, WorkflowName};
use ltmc_orchestration::runs::{self, Runs};
use ltmc_orchestration::{
    CallRequest, Schedules, Sealing, StartRequest, Started, Triggers, Workflows, schedules, triggers, workflows,
};
use ltmc_policy::InForce;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::runner::{AdmitError, Components, Inspection, Job, Outcome};
use ltmc_ports::schedules::StoredSchedule;
use ltmc_ports::testing::{MemoryRecord, SeededEntropy, Slow, sample};
use ltmc_ports::{
    Clock, Durability, Gate, ReadCatalog as _, ReadJournal as _, ReadMail as _, ReadSchedules as _, Runner,
    WriteCatalog as _, WriteJournal as _,
};
use ltmc_tenancy::access::{self, NewKey};
use ltmc_tenancy::{Access, Agents, Authority, Error, Pins, agents};
use tokio::task::yield_now;

/// What a step of a run is given to do badly.
pub(crate) const FAIL: &str = "fail";
/// How long a step works that was given this to do.
pub(crate) const LONG: &str = "long";
/// The dead letter that there is.
pub(crate) const LETTER: Revision = Revision(1_000);
const DOCUMENT: &str =
    "name: flow\non: [{schedule: 0 0 1 1 *, input: in}]\nflow: {sequence: [{agent: echo}, {agent: echo, id: again}]}";

/// A host.
pub(crate) struct House {
    pub(crate) record: Arc<MemoryRecord>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) access: Arc<Access>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) workflows: Arc<Workflows>,
    pub(crate) schedules: Arc<Schedules>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) runs: Runs,
    shelf: Arc<Shelf>,
    /// The texts of keys that a test has.
    pub(crate) texts: Mutex<BTreeMap<KeyId, String>>,
    /// A key that is there to be taken back.
    pub(crate) key: KeyId,
}

impl House {
    /// With a tenant, its keys, an agent with grants, a workflow and a dead letter.
    pub(crate) async fn new() -> Arc<Self> {
        let mut house = Self::over(MemoryRecord::new());
        let tenant = Tenant { name: tenant(), created_at: house.clock().now() };
        let change = Change::TenantCreated(tenant);
        house.record.act(&TenantId::host(), sample::at(0), Act { by: None, change }).await.unwrap();
        let new = NewKey { tenant: None, role: Role::Viewer, expires_at: None };
        let (key, text) = house.access.create_key(&admin(), new).await.unwrap();
        house.texts.lock().unwrap().insert(key.id.clone(), text);
        house.key = key.id;
        house.agents.push(&admin(), echo(), Bytes::from_static(b"first"), None).await.unwrap();
        house.agents.set_grants(&admin(), &newest(), caps(&["log", "memory:read:*"]), Carry::SameAsks).await.unwrap();
        house.workflows.put(&admin(), flow(), DOCUMENT.to_owned()).await.unwrap();
        house.bury().await;
        Arc::new(house)
    }

    /// A host over this record.
    pub(crate) fn over(record: Arc<MemoryRecord>) -> Self {
        let slow = Arc::new(Slow(record.clone()));
        let clock: Arc<dyn Clock> = Arc::new(PassingClock(tokio::time::Instant::now()));
        let entropy = Arc::new(SeededEntropy::new(record.next_revision().0));
        let authority = Arc::new(Authority::new(slow.clone(), slow.clone(), clock.clone()));
        let shelf = Arc::new(Shelf::default());
        let pins = Pins::new(slow.clone(), shelf.clone());
        let subscriptions = Subscriptions::start(slow.clone());
        let handed = Handed::new(slow.clone());
        let context = Arc::new(Context::of_record(&slow, &handed, &subscriptions, authority.clone()));
        let access = Arc::new(Access::new(access::Ports {
            catalog: slow.clone(),
            journal: slow.clone(),
            authority: authority.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            max_memory: 1 << 30,
        }));
        let schemas = Arc::new(ltmc_schemas::Schemas::in_process());
        let agents = Arc::new(Agents::new(agents::Ports {
            catalog: slow.clone(),
            authority: authority.clone(),
            components: shelf.clone(),
            pins: pins.clone(),
            schemas: schemas.clone(),
            clock: clock.clone(),
        }));
        let clients = Arc::new(Clients::new(clients::Ports {
            context: context.clone(),
            authority: authority.clone(),
            journal: slow.clone(),
            mail: slow.clone(),
            subscriptions: subscriptions.clone(),
            clock: clock.clone(),
        }));
        let runs = Runs::new(runs::Ports {
            read: slow.clone(),
            write: slow.clone(),
            bus: record.clone(),
            questions: record.clone(),
            sessions: record.clone(),
            take_ups: record.clone(),
            subscriptions,
            authority: authority.clone(),
            crossing: Arc::new(ltmc_crossing::Shared { authority: authority.clone(), context, clock: clock.clone() }),
            runner: Arc::new(Echo),
            pins,
            clock,
            entropy,
            directories: BTreeMap::new(),
            schemas: schemas.clone(),
            embedder: ltmc_embedders::hashed(),
            sealing: Sealing::default(),
            graph: None,
            lessons: None,
        });
        let (read, write) = (slow.clone(), slow.clone());
        let schedules = Arc::new(Schedules::new(schedules::Ports { read, write, runs: runs.clone() }));
        let (read, write, bus) = (record.clone(), record.clone(), record.clone());
        let triggers = Arc::new(Triggers::new(triggers::Ports { read, write, bus, runs: runs.clone() }));
        let workflows = Workflows::new(workflows::Ports {
            read: slow.clone(),
            authority: authority.clone(),
            schemas,
            schedules: schedules.clone(),
            triggers,
        });
        let (workflows, key) = (Arc::new(workflows), "nobodyskey00".parse().unwrap());
        let texts = Mutex::default();
        Self { record, authority, access, agents, workflows, schedules, clients, runs, shelf, texts, key }
    }

    fn clock(&self) -> PassingClock {
        PassingClock(tokio::time::Instant::now())
    }

    /// Puts a message among the dead letters.
    async fn bury(&self) {
        let mut owner = sample::Owner::new("acme", 1);
        owner.row.state = State::Completed;
        let (agent, message) = (echo(), LETTER);
        let deltas = vec![
            sample::sent(sample::mailbox("echo"), LETTER.0, "x"),
            Delta::Buried { agent, message, reason: "a test".into(), at: sample::at(0) },
        ];
        self.record.append(owner.change(deltas), Durability::Barrier).await.unwrap();
    }

    /// Calls the agent.
    pub(crate) async fn call(&self, input: &str, key: Option<&str>) -> Result<Started, Error> {
        let request = CallRequest {
            agent: AgentRef { name: echo(), digest: None },
            input: Payload::text(input),
            session: None,
            idempotency: key.map(str::to_owned),
            request_digest: Digest::of(input.as_bytes()),
            traceparent: None,
            cancel_on_disconnect: true,
        };
        self.runs.call(&admin(), request).await
    }

    /// Starts the workflow.
    pub(crate) async fn start(&self, key: &str) -> Result<Started, Error> {
        let request = StartRequest {
            workflow: flow(),
            input: Payload::text("in"),
            session: None,
            idempotency: Some(key.to_owned()),
            request_digest: Digest::of(b"in"),
            traceparent: None,
        };
        self.runs.start(&admin(), request).await
    }

    /// Waits to the end of what was started.
    pub(crate) async fn wait(&self, started: &Started) -> Result<Payload, Failure> {
        let end = self.runs.wait(&admin(), started, None).await.unwrap();
        end.expect("whoever waits without a bound is told an end")
    }

    /// Every run of the tenant's.
    pub(crate) async fn all_runs(&self) -> Vec<Run> {
        let filter = RunFilter { limit: 100, ..RunFilter::default() };
        let mut runs = self.record.runs(&tenant(), &filter).await.unwrap();
        runs.retain(|run| run.id != sample::run_id(1));
        runs
    }

    /// Reads what is remembered of the catalog, again and again.
    pub(crate) async fn read_on(&self) {
        loop {
            self.look().await;
            yield_now().await;
        }
    }

    async fn look(&self) {
        let texts: Vec<String> = self.texts.lock().unwrap().values().cloned().collect();
        for text in texts {
            let _ = self.access.authenticate(&text).await;
        }
        let found = self.authority.agent(&tenant(), &newest()).await.unwrap();
        let version = found.map_or_else(first, |agent| agent.digest);
        self.authority.in_force(&tenant(), &echo(), &version).await.unwrap();
        self.authority.workflow(&tenant(), &flow()).await.unwrap();
        self.authority.ceiling(&tenant()).await.unwrap();
    }

    /// The workflow's schedule, as the record has it.
    pub(crate) async fn scheduled(&self) -> Option<StoredSchedule> {
        self.record.schedule(&tenant(), &schedule()).await.unwrap()
    }

    /// Lets everything that is under way come to its end.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }

    /// Panics where record, caches, registry and tasks do not agree, or anything is counted as alive.
    pub(crate) async fn agrees(&self, when: &str) {
        assert_eq!(self.runs.alive(), 0, "{when}: runs are counted as alive");
        assert_eq!(self.authority.tasks().under_way(), 0, "{when}: tasks are counted as under way");
        for run in self.all_runs().await {
            assert!(run.state.is_over(), "{when}: run {} is {} without a task", run.id, run.state.as_str());
        }
        let (record, acme, agent) = (&self.record, tenant(), newest());
        let texts = self.texts.lock().unwrap().clone();
        for (id, text) in texts {
            let good = record.key(&id).await.unwrap().is_some_and(|key| key.revoked_at.is_none());
            assert_eq!(self.access.authenticate(&text).await.is_ok(), good, "{when}: a key");
        }
        let ceiling = record.ceiling(&acme).await.unwrap();
        for version in [first(), second()] {
            let granted = record.grants(&acme, &echo(), &version).await.unwrap();
            let in_force = InForce::new(granted.capabilities, ceiling.capabilities.clone());
            let believed = self.authority.in_force(&acme, &echo(), &version).await.unwrap();
            assert_eq!(*believed, in_force, "{when}: what is in force");
        }
        assert_eq!(*self.authority.ceiling(&acme).await.unwrap(), ceiling, "{when}: the ceiling");
        let there = record.agent(&acme, &echo(), None).await.unwrap();
        let known = self.authority.agent(&acme, &agent).await.unwrap();
        assert_eq!(known.as_deref(), there.as_ref(), "{when}: the agent");
        let there = record.workflow(&acme, &flow()).await.unwrap();
        let known = self.authority.workflow(&acme, &flow()).await.unwrap();
        assert_eq!(known.as_deref(), there.as_ref(), "{when}: the workflow");
        let shelf = self.shelf.0.lock().unwrap().clone();
        for digest in shelf {
            let older = Digest::of(b"first");
            let needed = digest == older || record.component_in_use(&digest).await.unwrap();
            assert!(needed, "{when}: a component stands on the shelf that nobody has");
        }
    }

    /// The dead letters there are.
    pub(crate) async fn letters(&self) -> usize {
        self.record.dead_letters(&tenant(), None, None, 10).await.unwrap().len()
    }

    /// The tenant's ceiling as the record has it.
    pub(crate) async fn recorded_ceiling(&self) -> Ceiling {
        self.record.ceiling(&tenant()).await.unwrap()
    }
}

/// A future that is dropped after it was polled so many times: what it gave, if it was done by then.
pub(crate) async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    struct Cut<F>(Pin<Box<F>>, usize);
    impl<F: Future> Future for Cut<F> {
        type Output = Option<F::Output>;
        fn poll(mut self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<Self::Output> {
            if self.1 == 0 {
                return Poll::Ready(None);
            }
            self.1 -= 1;
            match self.0.as_mut().poll(waker) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if self.1 == 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        }
    }
    Cut(Box::pin(future), polls).await
}

/// Runs a test whose time passes only where it waits.
pub(crate) fn in_paused_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

pub(crate) fn tenant() -> TenantId {
    sample::tenant("acme")
}

pub(crate) fn echo() -> AgentName {
    "echo".parse().unwrap()
}

/// The newest version of it.
pub(crate) fn newest() -> AgentRef {
    AgentRef { name: echo(), digest: None }
}

/// The component that is there from the beginning.
pub(crate) fn first() -> Digest {
    Digest::of(b"first")
}

/// The one that is pushed.
pub(crate) fn second() -> Digest {
    Digest::of(b"second")
}

pub(crate) fn flow() -> WorkflowName {
    "flow".parse().unwrap()
}

/// The schedule of its document.
pub(crate) fn schedule() -> ScheduleId {
    ScheduleId { workflow: flow(), number: 1 }
}

pub(crate) fn admin() -> Caller {
    Caller { tenant: tenant(), key: "adminadmin00".parse().unwrap(), role: Role::Admin }
}

pub(crate) fn operator() -> Caller {
    Caller { tenant: TenantId::host(), key: "operator0000".parse().unwrap(), role: Role::Operator }
}

pub(crate) fn caps(texts: &[&str]) -> Vec<Capability> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Goes with tokio's time.
struct PassingClock(tokio::time::Instant);

impl Clock for PassingClock {
    fn now(&self) -> Timestamp {
        sample::at(0).after(self.0.elapsed())
    }
}

/// An agent that gives back what it is given, after a while.
struct Echo;

#[async_trait]
impl Runner for Echo {
    async fn run(&self, job: Job, _: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
        let text = String::from_utf8_lossy(&job.input.bytes).into_owned();
        let work = if text == LONG { Duration::from_secs(60) } else { Duration::from_millis(2) };
        tokio::time::sleep(work).await;
        let end = match text.as_str() {
            FAIL => Err(Failure::new(Code::AgentError, "told to fail")),
            _ => Ok(Outcome::Output(job.input)),
        };
        (end, Usage::default())
    }
}

/// A shelf of components.
#[derive(Default)]
struct Shelf(Mutex<BTreeSet<Digest>>);

#[async_trait]
impl Components for Shelf {
    async fn admit(&self, _: &TenantId, wasm: Bytes) -> Result<Inspection, AdmitError> {
        yield_now().await;
        let digest = Digest::of(&wasm);
        self.0.lock().unwrap().insert(digest);
        yield_now().await;
        Ok(Inspection { digest, exports: vec![Export::Agent], imports: Vec::new(), manifest: None })
    }

    async fn remove(&self, digest: &Digest) {
        yield_now().await;
        self.0.lock().unwrap().remove(digest);
    }

    async fn kept(&self) -> Vec<Digest> {
        self.0.lock().unwrap().iter().copied().collect()
    }
}
