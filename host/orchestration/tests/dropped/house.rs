//! The use cases over a record that takes its time, what a test begins with, and what must agree afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as Waker, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ltmc_context::recall::{self, Index, Recall};
use ltmc_context::{Clients, Context, Handed, Subscriptions, clients};
use ltmc_model::agent::{AgentRef, Carry, Export};
use ltmc_model::call::coordination;
use ltmc_model::call::messages::{Draft, Publish};
use ltmc_model::call::recall::{Forget, Remember};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::manifest::Manifest;
use ltmc_model::question::Token;
use ltmc_model::run::{Run, State, Target, Usage};
use ltmc_model::schedule::ScheduleId;
use ltmc_model::session::{IfBusy, Session, Settings, Turn};
use ltmc_model::tenancy::{Ceiling, Key, Tenant};
use ltmc_model::trigger::{Feed, OnPoison, Trigger, TriggerId};
use ltmc_model::{
    AgentName, Capability, Digest, KeyId, Payload, Position, Revision, RunId, Seq, SessionId, TenantId, Timestamp,
    WorkflowName,
};
use ltmc_orchestration::runs::{self, Runs};
use ltmc_orchestration::{
    CallRequest, Said, SayRequest, Schedules, Sealing, Sessions, StartRequest, Started, Triggers, Workflows, schedules,
    triggers, workflows,
};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::runner::{AdmitError, Components, Inspection, Job, Outcome};
use ltmc_ports::schedules::StoredSchedule;
use ltmc_ports::sessions::SessionFilter;
use ltmc_ports::testing::{MemoryRecord, MemoryVectors, SeededEntropy, Slow, sample};
use ltmc_ports::triggers::{Arrival, ArrivalFilter, StoredTrigger};
use ltmc_ports::{
    Clock, Durability, Gate, ReadCatalog as _, ReadJournal as _, ReadMail as _, ReadSchedules as _, ReadSessions as _,
    ReadTriggers as _, Runner, WriteCatalog as _, WriteJournal as _,
};
use ltmc_projections::Follower;
use ltmc_projections::repair::Repairs;
use ltmc_tenancy::access::{self, NewKey};
use ltmc_tenancy::deletions::{self, Deletions};
use ltmc_tenancy::{Access, Agents, Authority, Error, Pins, agents};
use tokio::task::yield_now;
use tokio_util::task::AbortOnDropHandle;

use crate::notes::Notes;

/// What a step of a run is given to do badly.
pub(crate) const FAIL: &str = "fail";
/// How long a step works that was given this to do.
pub(crate) const LONG: &str = "long";
/// What never ends where it is given this, but for the first time that it is; then it is given back.
pub(crate) const HANG: &str = "hang";
/// Has the agent `echo` called, on [`LONG`].
pub(crate) const CALL: &str = "call";
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
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) triggers: Arc<Triggers>,
    pub(crate) deletions: Arc<Deletions>,
    pub(crate) repairs: Arc<Repairs>,
    pub(crate) notes: Arc<Notes>,
    pub(crate) index: Arc<Index>,
    pub(crate) vectors: Arc<MemoryVectors>,
    pub(crate) context: Arc<Context>,
    pub(crate) shelf: Arc<Shelf>,
    /// The texts of keys that a test has.
    pub(crate) texts: Mutex<BTreeMap<KeyId, String>>,
    /// A key that is there to be taken back.
    pub(crate) key: KeyId,
    /// What a question is answered by that a test has seen.
    pub(crate) token: Mutex<Option<Token>>,
    /// Where the dead letter of the subscription stands.
    pub(crate) dead: Mutex<Option<Position>>,
    /// What goes on by itself.
    going: Vec<AbortOnDropHandle<()>>,
}

impl House {
    /// With a tenant, its keys, an agent with grants, a workflow and a dead letter.
    pub(crate) async fn new() -> Arc<Self> {
        let mut house = Self::over(MemoryRecord::new());
        let tenant = Tenant { name: tenant(), created_at: house.clock().now() };
        let change = Change::TenantCreated(tenant);
        house.record.act(&TenantId::host(), sample::at(0), Act { by: None, change }).await.unwrap();
        // What starts runs by itself does so in its name.
        let Caller { tenant: of, key: id, role, .. } = admin();
        let (hash, created_at) = ([1; 32], sample::at(0));
        let key = Key { id, tenant: of, role, hash, created_at, expires_at: None, revoked_at: None };
        let act = Act { by: None, change: Change::KeyCreated(key) };
        house.record.act(&TenantId::host(), sample::at(0), act).await.unwrap();
        let new = NewKey { tenant: None, role: Role::Viewer, expires_at: None };
        let (key, text) = house.access.create_key(&admin(), new).await.unwrap();
        house.texts.lock().unwrap().insert(key.id.clone(), text);
        house.key = key.id;
        house.agents.push(&admin(), echo(), Bytes::from_static(b"first"), None).await.unwrap();
        house.agents.set_grants(&admin(), &newest(), caps(&["log", "memory:read:*"]), Carry::SameAsks).await.unwrap();
        house.workflows.put(&admin(), flow(), DOCUMENT.to_owned()).await.unwrap();
        house.bury().await;
        house.go_on();
        Arc::new(house)
    }

    /// A host over this record.
    pub(crate) fn over(record: Arc<MemoryRecord>) -> Self {
        let slow = Arc::new(Slow(record.clone()));
        let clock: Arc<dyn Clock> = Arc::new(PassingClock(tokio::time::Instant::now()));
        let entropy = Arc::new(SeededEntropy::new(record.next_revision(&tenant()).0));
        let authority = Arc::new(Authority::new(slow.clone(), slow.clone(), clock.clone()));
        let shelf = Arc::new(Shelf::default());
        let pins = Pins::new(slow.clone(), shelf.clone());
        let subscriptions = Subscriptions::start(slow.clone());
        let handed = Handed::new(slow.clone());
        let schemas = Arc::new(ltmc_schemas::Schemas::in_process());
        let (notes, vectors) = (Arc::new(Notes(record.clone())), MemoryVectors::new());
        let index = Index::new(recall::Ports {
            notes: notes.clone(),
            write: notes.clone(),
            vectors: vectors.clone(),
            embedders: vec![ltmc_embedders::hashed()],
            split: ltmc_embedders::split,
        });
        let follower = Follower::new(index.clone(), slow.clone(), notes.clone());
        let context = Arc::new(Context {
            recall: Some(Recall::new(index.clone(), follower.clone())),
            schemas: Some(schemas.clone()),
            ..Context::of_record(&slow, &handed, &subscriptions, authority.clone())
        });
        let access = Arc::new(Access::new(access::Ports {
            catalog: slow.clone(),
            journal: slow.clone(),
            authority: authority.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            max_memory: 1 << 30,
        }));
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
            sessions: slow.clone(),
            subscriptions: subscriptions.clone(),
            clock: clock.clone(),
        }));
        let runs = Runs::new(runs::Ports {
            read: slow.clone(),
            write: slow.clone(),
            bus: record.clone(),
            questions: slow.clone(),
            sessions: slow.clone(),
            take_ups: record.clone(),
            subscriptions,
            authority: authority.clone(),
            crossing: Arc::new(ltmc_crossing::Shared {
                authority: authority.clone(),
                context: context.clone(),
                clock: clock.clone(),
            }),
            runner: Arc::new(Echo::default()),
            pins: pins.clone(),
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
        let (read, write, bus, cascades) = (slow.clone(), slow.clone(), slow.clone(), slow.clone());
        let triggers = Arc::new(Triggers::new(triggers::Ports { read, write, bus, cascades, runs: runs.clone() }));
        let workflows = Workflows::new(workflows::Ports {
            read: slow.clone(),
            authority: authority.clone(),
            schemas,
            schedules: schedules.clone(),
            triggers: triggers.clone(),
        });
        let sessions = Arc::new(Sessions::new(slow.clone(), runs.clone()));
        let deletions = Deletions::new(deletions::Ports {
            catalog: slow.clone(),
            purge: slow.clone(),
            chains: slow.clone(),
            authority: authority.clone(),
            pins,
            alive: Arc::new(runs.clone()),
            followers: Vec::new(),
        });
        let repairs = Arc::new(Repairs::new(authority.clone(), vec![follower]));
        let (workflows, key) = (Arc::new(workflows), "nobodyskey00".parse().unwrap());
        Self {
            record,
            authority,
            access,
            agents,
            workflows,
            schedules,
            clients,
            runs,
            sessions,
            triggers,
            deletions,
            repairs,
            notes,
            index,
            vectors,
            context,
            shelf,
            texts: Mutex::default(),
            key,
            token: Mutex::default(),
            dead: Mutex::default(),
            going: Vec::new(),
        }
    }

    /// Has what goes on by itself go on: runs that waited, sessions, subscriptions, and what deleted tenants left. Ticks of
    /// schedules do not: theirs come once a year.
    fn go_on(&mut self) {
        let (runs, sessions, triggers) = (self.runs.clone(), self.sessions.clone(), self.triggers.clone());
        let deletions = self.deletions.clone();
        self.going = [
            tokio::spawn(async move { runs.wake().await }),
            tokio::spawn(async move { sessions.attend().await }),
            tokio::spawn(async move { triggers.listen().await }),
            tokio::spawn(async move { deletions.run().await }),
        ]
        .map(AbortOnDropHandle::new)
        .into();
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
        self.call_by(&admin(), input, key).await
    }

    /// Calls the agent of a caller's tenant.
    pub(crate) async fn call_by(&self, by: &Caller, input: &str, key: Option<&str>) -> Result<Started, Error> {
        self.called(by, echo(), input, key).await
    }

    /// Calls another agent, for whoever waits for it.
    pub(crate) async fn call_of(&self, agent: &str, input: &str) -> Result<Started, Error> {
        self.called(&admin(), agent.parse().unwrap(), input, None).await
    }

    async fn called(&self, by: &Caller, agent: AgentName, input: &str, key: Option<&str>) -> Result<Started, Error> {
        let request = CallRequest {
            agent: AgentRef { name: agent, digest: None },
            input: Payload::text(input),
            session: None,
            idempotency: key.map(str::to_owned),
            request_digest: Digest::of(input.as_bytes()),
            traceparent: None,
            cancel_on_disconnect: true,
        };
        self.runs.call(by, request).await
    }

    /// Starts the workflow.
    pub(crate) async fn start(&self, key: &str) -> Result<Started, Error> {
        self.start_on("in", key).await
    }

    /// Starts the workflow on something else.
    pub(crate) async fn start_on(&self, input: &str, key: &str) -> Result<Started, Error> {
        let request = StartRequest {
            workflow: flow(),
            input: Payload::text(input),
            session: None,
            idempotency: Some(key.to_owned()),
            request_digest: Digest::of(input.as_bytes()),
            traceparent: None,
        };
        self.runs.start(&admin(), request).await
    }

    /// Puts another document in the place of the workflow's: this flow, and nothing that starts it.
    pub(crate) async fn flows(&self, flow: &str) {
        self.workflows.put(&admin(), self::flow(), format!("name: flow\nflow: {flow}")).await.unwrap();
    }

    /// Pushes another agent, which does the same as the first and may call any.
    pub(crate) async fn push(&self, name: &str, manifest: Option<Manifest>) {
        let component = Bytes::from(name.to_owned());
        self.agents.push(&admin(), name.parse().unwrap(), component, manifest).await.unwrap();
        let agent = AgentRef { name: name.parse().unwrap(), digest: None };
        self.agents.set_grants(&admin(), &agent, caps(&["call:*"]), Carry::Never).await.unwrap();
    }

    /// Opens a session that the agent answers in.
    pub(crate) async fn open(&self, if_busy: IfBusy) -> SessionId {
        self.sessions.open(&admin(), settings(Target::Agent(newest()), if_busy), None).await.unwrap().id
    }

    /// Says something in the only session there is that is no fork.
    pub(crate) async fn say(&self, text: &str, key: &str) -> Result<Said, Error> {
        let request = SayRequest {
            input: Payload::text(text),
            idempotency: Some(key.to_owned()),
            request_digest: Digest::of(text.as_bytes()),
            traceparent: None,
        };
        self.sessions.say(&admin(), &self.session().await.id, request).await
    }

    /// The only session there is that is no fork.
    pub(crate) async fn session(&self) -> Session {
        let mut own = self.all_sessions().await;
        own.retain(|session| session.copied == 0);
        assert_eq!(own.len(), 1, "{own:?}");
        own.remove(0)
    }

    /// Every session of the tenant's.
    pub(crate) async fn all_sessions(&self) -> Vec<Session> {
        let filter = SessionFilter { limit: 100, ..SessionFilter::default() };
        self.record.sessions(&tenant(), &filter).await.unwrap()
    }

    /// The turns of a session, each with where its run stands.
    pub(crate) async fn turns(&self, id: &SessionId) -> Vec<(Turn, State)> {
        let mut turns = Vec::new();
        for turn in self.record.turns(&tenant(), id, 0, 100).await.unwrap() {
            let run = self.record.run(&tenant(), turn.run).await.unwrap().unwrap();
            turns.push((turn, run.state));
        }
        turns
    }

    /// Publishes an event of which the data are this text.
    pub(crate) async fn publish(&self, text: &str) {
        let event = Draft { kind: "t".into(), subject: None, data: Payload::text(text), given: None };
        let publish = Publish { topic: "news".parse().unwrap(), event };
        self.clients.call(&admin(), &clients::Owner::default(), publish).await.unwrap().unwrap();
    }

    /// Puts a subscription that has the agent called with each event of the topic.
    pub(crate) async fn subscribe(&self) -> Result<(), Error> {
        self.triggers.put(&admin(), subscription(), trigger(), None).await.map(drop)
    }

    /// The subscription, as the record has it.
    pub(crate) async fn subscribed(&self) -> Option<StoredTrigger> {
        self.record.trigger(&tenant(), &subscription()).await.unwrap()
    }

    /// Events that were taken in and are not dealt with.
    pub(crate) async fn arrivals(&self) -> Vec<Arrival> {
        let filter = ArrivalFilter { limit: 100, ..ArrivalFilter::default() };
        self.record.arrivals(&tenant(), &filter).await.unwrap()
    }

    /// How many entries of this kind a run's journal has.
    pub(crate) async fn entries(&self, run: RunId, kind: &str) -> usize {
        let (view, _) = self.runs.journal(&admin(), run, Seq(0), 1_000).await.unwrap();
        view.iter().filter(|placed| placed.kind == kind).count()
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

    /// The only run that no other run began.
    pub(crate) async fn parent(&self) -> Run {
        let mut runs = self.all_runs().await;
        runs.retain(|run| run.parent.is_none());
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// Keeps a note.
    pub(crate) async fn remember(&self, id: &str, text: &str) {
        let note = Remember { id: id.to_owned(), text: text.to_owned(), metadata: BTreeMap::new() };
        self.clients.call(&admin(), &clients::Owner::default(), note).await.unwrap().unwrap();
    }

    /// Forgets one.
    pub(crate) async fn forget(&self, id: &str) {
        let forget = Forget { id: id.to_owned() };
        self.clients.call(&admin(), &clients::Owner::default(), forget).await.unwrap().unwrap();
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
    Caller { tenant: tenant(), key: "adminadmin00".parse().unwrap(), role: Role::Admin, cause: None }
}

pub(crate) fn operator() -> Caller {
    Caller { tenant: TenantId::host(), key: "operator0000".parse().unwrap(), role: Role::Operator, cause: None }
}

pub(crate) fn caps(texts: &[&str]) -> Vec<Capability> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The subscription that tests put.
pub(crate) fn subscription() -> TriggerId {
    "orders".parse().unwrap()
}

/// What it is: it has the agent called with each event of a topic, and leaves what fails to people.
pub(crate) fn trigger() -> Trigger {
    let (feed, start) = (Feed::Topic("news".parse().unwrap()), Target::Agent(newest()));
    Trigger { feed, filter: None, start, at_once: 4, on_poison: OnPoison::ParkKey, rate: None, gather: None }
}

/// What sessions are opened with, where this answers.
pub(crate) fn settings(with: Target, if_busy: IfBusy) -> Settings {
    let year = 365 * 24 * 60 * 60 * 1_000;
    Settings { if_busy, queue: 8, idle: year, turn: year, ..Settings::new(with) }
}

/// Goes with tokio's time.
struct PassingClock(tokio::time::Instant);

impl Clock for PassingClock {
    fn now(&self) -> Timestamp {
        sample::at(0).after(self.0.elapsed())
    }
}

/// An agent that gives back what it is given, after a while.
#[derive(Default)]
struct Echo {
    /// Whether something hangs, or did.
    has_hung: AtomicBool,
}

#[async_trait]
impl Runner for Echo {
    async fn run(&self, job: Job, gate: Arc<dyn Gate>) -> (Result<Outcome, Failure>, Usage) {
        let text = String::from_utf8_lossy(&job.input.bytes).into_owned();
        let work = if text == LONG { Duration::from_secs(60) } else { Duration::from_millis(2) };
        tokio::time::sleep(work).await;
        if text == HANG && !self.has_hung.swap(true, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if text == CALL {
            let call = coordination::Call { agent: echo(), input: Payload::text(LONG) };
            if let Err(failure) = gate.call(call).await {
                return (Err(failure), Usage::default());
            }
        }
        // Also where it is the data of an event.
        let end = match text.contains(FAIL) {
            true => Err(Failure::new(Code::AgentError, "told to fail")),
            false => Ok(Outcome::Output(job.input)),
        };
        (end, Usage::default())
    }
}

/// A shelf of components.
#[derive(Default)]
pub(crate) struct Shelf(pub(crate) Mutex<BTreeSet<Digest>>);

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
