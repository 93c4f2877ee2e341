//! Hosts over a record, and a client.
//!
//! A [`World`] is what outlives a host: its agents, its clock. A [`Host`] reaches its record over a [`Line`], which fails
//! when it is told to, and keeps what it could not deliver. The record is one in memory, or any other ([`crate::records`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ltmc_context::{Context, Handed, Recall, Subscriptions, recall};
use ltmc_model::agent::{Agent, Carry};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change, Placed};
use ltmc_model::memory::Drawer;
use ltmc_model::message::Event;
use ltmc_model::run::State;
use ltmc_model::state::Kept;
use ltmc_model::tenancy::Tenant;
use ltmc_model::workflow::Document;
use ltmc_model::{Digest, Payload, Position, Revision, RunId, Seq, SessionId, TenantId, Timestamp};
use ltmc_orchestration::runs::Ports;
use ltmc_orchestration::{
    CallRequest, Extent, Lapses, Runs, Schedules, Sealing, Sessions, Shown, Sight, StartRequest, Started, Triggers,
    schedules, triggers,
};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::runner::{AdmitError, Components, Inspection};
use ltmc_ports::testing::{Fault, Faulty, MemoryRecord, MemoryVectors, SeededEntropy, sample};
use ltmc_ports::{Append, Changes, Clock, Durability, Receipt, WriteCatalog as _, WriteJournal};
use ltmc_projections::Follower;
use ltmc_tenancy::{Authority, Error, Pins};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::guest::{Sandbox, Script, text};
use crate::records::{AnyRecord, Of, On};
use crate::story::Story;

/// Runs a test whose time passes only where it waits.
pub(crate) fn in_paused_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

/// What every agent is granted.
const GRANTS: [&str; 16] = [
    "log",
    "memory:read:*",
    "memory:write:*",
    "graph:read",
    "graph:write",
    "recall:read",
    "recall:write",
    "message:send:*",
    "message:receive",
    "message:publish:*",
    "message:subscribe:*",
    "call:*",
    "hand-off:*",
    "ask:*",
    "session:history",
    "state",
];

/// What outlives a host.
pub(crate) struct World {
    scripts: Vec<Script>,
    clock: Arc<PassingClock>,
    hosts: Mutex<u64>,
    checkpoints: bool,
    room: Option<u64>,
    is_sealed: bool,
    recalls: bool,
    /// So many events follow from one.
    cascade: u32,
}

/// Goes with tokio's time, from a moment on.
struct PassingClock(Timestamp, tokio::time::Instant);

impl Clock for PassingClock {
    fn now(&self) -> Timestamp {
        self.0.after(self.1.elapsed())
    }
}

impl World {
    pub(crate) fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        let clock = Arc::new(PassingClock(sample::at(0), tokio::time::Instant::now()));
        Self {
            scripts: scripts.into_iter().collect(),
            clock,
            hosts: Mutex::new(0),
            checkpoints: false,
            room: None,
            is_sealed: false,
            recalls: false,
            cascade: ltmc_model::trigger::MAX_CASCADE,
        }
    }

    /// Every host has an index of notes, which follows the record.
    pub(crate) fn recalling(self) -> Self {
        Self { recalls: true, ..self }
    }

    /// In every host so many events may follow from one.
    pub(crate) fn with_cascade(self, most: u32) -> Self {
        Self { cascade: most, ..self }
    }

    /// Every host has room for so many runs alive.
    pub(crate) fn with_room(self, most: u64) -> Self {
        Self { room: Some(most), ..self }
    }

    /// Runs are sealed all the time: with the first host at every turn, with the next one at every second, and so on.
    pub(crate) fn sealing_often(self) -> Self {
        Self { is_sealed: true, ..self }
    }

    /// When the host of this number seals runs.
    fn sealing(&self, host: u64) -> Sealing {
        match self.is_sealed {
            true => Sealing { entries: host % 3, bytes: u64::MAX, is_sparing: false },
            false => Sealing::default(),
        }
    }

    /// Every guest makes a checkpoint after each change.
    pub(crate) fn with_checkpoints(self) -> Self {
        Self { checkpoints: true, ..self }
    }

    /// It is this time now.
    pub(crate) fn beginning(self, at: Timestamp) -> Self {
        Self { clock: Arc::new(PassingClock(at, tokio::time::Instant::now())), ..self }
    }

    /// What time it is there.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// A record that knows the agents, each granted everything there is, and this workflow; several stand between `---`.
    pub(crate) async fn record(&self, document: Option<&str>) -> Arc<MemoryRecord> {
        let record = MemoryRecord::new();
        self.furnish(&record, &tenant(), document).await;
        record
    }

    /// The same on another kind of record, which knows the tenant, too: one on disk asks for no rows of tenants that it does not know.
    pub(crate) async fn record_on<F: On>(&self, on: &F, document: Option<&str>) -> Arc<Of<F>> {
        let record = on.fresh().await;
        let change = Change::TenantCreated(Tenant { name: tenant(), created_at: self.clock.now() });
        record.act(&tenant(), self.clock.now(), Act { by: None, change }).await.unwrap();
        self.furnish(&record, &tenant(), document).await;
        record
    }

    /// The same for another tenant.
    pub(crate) async fn furnish<R: AnyRecord>(&self, record: &Arc<R>, tenant: &TenantId, document: Option<&str>) {
        let act = async |change| record.act(tenant, self.clock.now(), Act { by: None, change }).await.unwrap();
        for script in &self.scripts {
            let pushed = Agent {
                name: script.name.clone(),
                digest: script.component(),
                manifest: script.manifest.clone(),
                exports: vec![script.export],
                size: 1,
                pushed_at: self.clock.now(),
            };
            act(Change::AgentPushed(pushed)).await;
            let grants = GRANTS.map(|grant| grant.parse().unwrap()).to_vec();
            act(Change::GrantsSet { agent: script.name.clone(), grants, digest: None, carry: Some(Carry::Never) })
                .await;
            if let Some(state) = &script.state {
                let value = Some(MemoryValue { bytes: state.to_bytes(), expires_at: None });
                let (drawer, key, revision) =
                    (Drawer::State(script.name.clone()), "state".into(), record.next_revision(tenant));
                let deltas = vec![Delta::Memory(MemoryChange { drawer, key, revision, value, trail: None })];
                let change = Change::Context { call: "left".into(), about: String::new(), request: Digest([0; 32]) };
                let changes = Changes { deltas, expects: Vec::new() };
                record.act_with(tenant, self.clock.now(), Act { by: None, change }, changes).await.unwrap();
            }
        }
        for source in document.into_iter().flat_map(|documents| documents.split("\n---\n")) {
            let name = Document::parse(source, None).unwrap().name;
            let digest = Digest::of(source.as_bytes());
            act(Change::WorkflowPut {
                name,
                source: source.to_owned(),
                digest,
                schedules: Vec::new(),
                triggers: Vec::new(),
            })
            .await;
        }
    }

    /// A new host on a record, whose appends meet these faults.
    pub(crate) fn host<R: AnyRecord>(
        &self,
        record: &Arc<R>,
        faults: impl IntoIterator<Item = (u64, Fault)>,
    ) -> Host<R> {
        self.host_over(Line::to(record, faults))
    }

    /// A new host over a line.
    pub(crate) fn host_over<R: AnyRecord>(&self, line: Line<R>) -> Host<R> {
        let seed = {
            let mut hosts = self.hosts.lock().unwrap();
            *hosts += 1;
            *hosts
        };
        let (record, line) = (line.record.clone(), Arc::new(line));
        let sandbox = Sandbox::new(&self.scripts, self.checkpoints);
        let authority = Arc::new(Authority::new(record.clone(), record.clone(), self.clock.clone()));
        let handed = Handed::new(line.clone());
        let subscriptions = Subscriptions::start(record.clone());
        let context = Context::of_record(&record, &handed, &subscriptions, authority.clone());
        let (recall, index) = self.recalls.then(|| recall_over(&record)).unzip();
        let (index, following) = index.unzip();
        let schemas = Arc::new(ltmc_schemas::Schemas::in_process());
        let context = Arc::new(Context { schemas: Some(schemas), recall, ..context });
        let ports = Ports {
            read: record.clone(),
            write: handed,
            bus: record.clone(),
            questions: record.clone(),
            sessions: record.clone(),
            take_ups: record.clone(),
            subscriptions,
            authority: authority.clone(),
            crossing: Arc::new(ltmc_crossing::Shared {
                authority: authority.clone(),
                context,
                clock: self.clock.clone(),
            }),
            runner: sandbox.clone(),
            pins: Pins::new(record.clone(), Arc::new(Shelf)),
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            directories: BTreeMap::new(),
            schemas: Arc::new(ltmc_schemas::Schemas::in_process()),
            embedder: ltmc_embedders::hashed(),
            sealing: self.sealing(seed),
            graph: None,
            lessons: Some(MemoryVectors::new()),
        };
        let runs = match self.room {
            Some(most) => Runs::with_room(ports, most),
            None => Runs::new(ports),
        };
        let waking = tokio::spawn({
            let runs = runs.clone();
            async move { runs.wake().await }
        });
        let (read, write) = (record.clone(), record.clone());
        let schedules = Arc::new(Schedules::new(schedules::Ports { read, write, runs: runs.clone() }));
        let ticking = tokio::spawn({
            let schedules = schedules.clone();
            async move { schedules.tick().await }
        });
        let (read, write, bus, cascades) = (record.clone(), record.clone(), record.clone(), record.clone());
        let triggers = Arc::new(
            Triggers::new(triggers::Ports { read, write, bus, cascades, runs: runs.clone() })
                .with_cascade(self.cascade),
        );
        let listening = tokio::spawn({
            let triggers = triggers.clone();
            async move { triggers.listen().await }
        });
        let sessions = Arc::new(Sessions::new(record.clone(), runs.clone()));
        let lapses = Arc::new(Lapses::new(record.clone(), runs.clone()));
        let attending = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.attend().await }
        });
        let going = [waking, ticking, listening, attending].map(AbortOnDropHandle::new);
        let going = going.into_iter().chain(following).collect();
        Host { record, authority, line, sandbox, runs, schedules, triggers, sessions, lapses, index, _going: going }
    }

    /// Everything in memory that the scripts can reach, but what they keep under `clock/`; and what the topic `news` has.
    pub(crate) async fn memory<R: AnyRecord>(&self, record: &Arc<R>) -> Contents {
        let agents = self.scripts.iter().map(|script| Drawer::Agent(script.name.clone()));
        let mut found = BTreeMap::new();
        for drawer in agents.chain([Drawer::Global, Drawer::Session(session())]) {
            let page = record.list(&tenant(), &drawer, "", None, 10_000, self.clock.now()).await.unwrap();
            for item in page.items.into_iter().filter(|item| !item.key.starts_with("clock/")) {
                found.insert((drawer.clone(), item.key), text(&item.value).to_owned());
            }
        }
        for script in &self.scripts {
            let drawer = Drawer::State(script.name.clone());
            for item in record.list(&tenant(), &drawer, "", None, 100, self.clock.now()).await.unwrap().items {
                let Kept { state, data, version, quarantined, .. } = Kept::from_bytes(&item.value).unwrap();
                let quarantined = quarantined.map_or("", |_| ", quarantined");
                found.insert((drawer.clone(), item.key), format!("{state} {data} of version {version}{quarantined}"));
            }
        }
        let news = record.events(&tenant(), &"news".parse().unwrap(), Position(0), 10_000).await.unwrap();
        for (number, published) in (1..).zip(news.events) {
            let Event { source, kind, subject, data, .. } = published.event;
            let what = format!("{source} {kind} {subject:?} {}", text(&data.bytes));
            found.insert((Drawer::Global, format!("news/{number}")), what);
        }
        found
    }
}

/// An index of the notes of a record, and what leads it.
fn recall_over<R: AnyRecord>(record: &Arc<R>) -> (Recall, (Arc<Follower>, AbortOnDropHandle<()>)) {
    let index = recall::Index::new(recall::Ports {
        notes: record.clone(),
        write: record.clone(),
        vectors: MemoryVectors::new(),
        embedders: vec![ltmc_embedders::hashed()],
        split: ltmc_embedders::split,
    });
    let follower = Follower::new(index.clone(), record.clone(), record.clone());
    let following = tokio::spawn(follower.clone().run(CancellationToken::new()));
    (Recall::new(index, follower.clone()), (follower, AbortOnDropHandle::new(following)))
}

/// What memory holds, by drawer and key.
pub(crate) type Contents = BTreeMap<(Drawer, String), String>;

/// One host.
pub(crate) struct Host<R = MemoryRecord> {
    pub(crate) record: Arc<R>,
    /// Who changes the catalog by it has the host know at once.
    pub(crate) authority: Arc<Authority>,
    pub(crate) line: Arc<Line<R>>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) runs: Runs,
    pub(crate) schedules: Arc<Schedules>,
    pub(crate) triggers: Arc<Triggers>,
    pub(crate) sessions: Arc<Sessions>,
    /// They look every second: whoever wants states to end by themselves has them do so.
    pub(crate) lapses: Arc<Lapses>,
    /// What leads the index of notes, where there is one.
    index: Option<Arc<Follower>>,
    _going: Vec<AbortOnDropHandle<()>>,
}

impl<R: AnyRecord> Host<R> {
    /// Waits until notes are found: before that a search says that it may have missed some.
    pub(crate) async fn recalls(&self) {
        let index = self.index.as_ref().expect("there is an index");
        while !index.caught_up().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The only run there is that no other run began, if there is one.
    pub(crate) async fn run(&self) -> Option<RunId> {
        let filter = RunFilter { limit: 100, ..RunFilter::default() };
        let mut runs = self.record.runs(&tenant(), &filter).await.unwrap();
        runs.retain(|run| run.parent.is_none());
        assert!(runs.len() <= 1, "one request started {} runs", runs.len());
        runs.first().map(|run| run.id)
    }

    /// Runs that other runs began: what runs, where it stands, and what its journal tells, the same each time.
    pub(crate) async fn children(&self) -> Vec<(String, State, Story)> {
        let filter = RunFilter { limit: 1_000, ..RunFilter::default() };
        let mut children = Vec::new();
        for run in self.record.runs(&tenant(), &filter).await.unwrap() {
            if run.parent.is_some() {
                // How far it was when it was cancelled is as it comes.
                let story = Story::of(&self.journal(run.id).await);
                let story = if run.state == State::Cancelled { Story::default() } else { story };
                children.push((run.target.to_string(), run.state, story));
            }
        }
        children.sort_by_key(|child| format!("{child:?}"));
        children
    }

    /// A run's journal as the record has it.
    pub(crate) async fn journal(&self, run: RunId) -> Vec<Placed> {
        self.record.entries(&tenant(), run, Seq(0), 100_000).await.unwrap()
    }

    /// Starts what is asked for, or finds it by its key.
    pub(crate) async fn start(&self, request: &Request) -> Result<Started, Error> {
        self.start_as(&caller(), request).await
    }

    /// The same for another caller.
    pub(crate) async fn start_as(&self, caller: &Caller, request: &Request) -> Result<Started, Error> {
        let (session, idempotency) = (Some(session()), request.key.clone());
        let (input, request_digest) = (request.input.clone(), Digest::of(&request.input.bytes));
        if let Some(workflow) = request.workflow {
            let workflow = workflow.parse().unwrap();
            let start = StartRequest { workflow, input, session, idempotency, request_digest, traceparent: None };
            self.runs.start(caller, start).await
        } else {
            let agent = request.agent.parse().unwrap();
            let cancel_on_disconnect = true;
            let call = CallRequest {
                agent,
                input,
                session,
                idempotency,
                request_digest,
                traceparent: None,
                cancel_on_disconnect,
            };
            self.runs.call(caller, call).await
        }
    }

    /// Asks, and waits to the end; none: no end was told.
    pub(crate) async fn ask(&self, request: &Request) -> Option<Answer> {
        let started = self.start(request).await.ok()?;
        self.runs.wait(&caller(), &started, None).await.ok()?
    }

    /// Asks again each second until an end is told that is not "ask again"; gives up after a while.
    pub(crate) async fn ask_until_told(&self, request: &Request) -> Answer {
        for _ in 0..60 {
            match self.ask(request).await {
                Some(Err(failure)) if is_ask_again(&failure) => {}
                Some(answer) => return answer,
                None => {}
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("no end was told within a minute");
    }
}

/// How a run ended, as a client is told.
pub(crate) type Answer = Result<Payload, Failure>;

/// Whether a client is to ask again: the run goes on from the record.
pub(crate) fn is_ask_again(failure: &Failure) -> bool {
    failure.retryable && matches!(failure.code, Code::Unavailable | Code::Fenced | Code::StorageFull)
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) workflow: Option<&'static str>,
    pub(crate) agent: &'static str,
    pub(crate) input: Payload,
    pub(crate) key: Option<String>,
}

impl Request {
    /// A lone call of an agent, with an idempotency key.
    pub(crate) fn call(agent: &'static str) -> Self {
        Self { workflow: None, agent, input: Payload::text("in"), key: Some("once".into()) }
    }

    /// A run of a workflow, with an idempotency key.
    pub(crate) fn workflow(name: &'static str) -> Self {
        Self { workflow: Some(name), ..Self::call("") }
    }
}

/// A host's line to the record: fails when it is told to, and keeps what it could not deliver.
pub(crate) struct Line<R = MemoryRecord> {
    record: Arc<R>,
    faulty: Faulty<Arc<R>>,
    loses_at: Option<Loss<R>>,
    lag: Option<Duration>,
    undelivered: Mutex<Vec<Append>>,
}

/// Just before which append a record loses something, and how.
struct Loss<R> {
    at: u64,
    lose: fn(&R),
}

impl Line {
    /// With these faults. `loses_at`: just before this append the record loses what is not on disk, and the host lives on.
    pub(crate) fn new(
        record: &Arc<MemoryRecord>,
        faults: impl IntoIterator<Item = (u64, Fault)>,
        loses_at: Option<u64>,
    ) -> Self {
        let loses_at = loses_at.map(|at| Loss { at, lose: MemoryRecord::lose });
        Self { loses_at, ..Self::to(record, faults) }
    }
}

impl<R: AnyRecord> Line<R> {
    /// To a record that loses nothing, with these faults.
    pub(crate) fn to(record: &Arc<R>, faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        let faulty = Faulty::new(record.clone(), faults);
        Self { record: record.clone(), faulty, loses_at: None, lag: None, undelivered: Mutex::default() }
    }

    /// One without faults, on which an append takes so long from when it was handed over until it is recorded.
    pub(crate) fn with_lag(self, lag: Duration) -> Self {
        Self { lag: Some(lag), ..self }
    }

    /// How many appends were asked for so far.
    pub(crate) fn appends(&self) -> u64 {
        self.faulty.appends()
    }

    /// Whether the host is dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.faulty.is_dead()
    }

    /// Every append whose caller got an error, some of them recorded.
    pub(crate) fn undelivered(&self) -> Vec<Append> {
        self.undelivered.lock().unwrap().clone()
    }
}

#[async_trait]
impl<R: AnyRecord> WriteJournal for Line<R> {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        if let Some(loss) = self.loses_at.as_ref().filter(|loss| loss.at == self.appends() + 1) {
            (loss.lose)(&self.record);
        }
        if let Some(lag) = self.lag {
            let record = self.record.clone();
            let written = tokio::spawn(async move {
                tokio::time::sleep(lag).await;
                record.append(append, durability).await
            });
            return Box::pin(async move { written.await.expect("a write does not panic") });
        }
        let copy = append.clone();
        let done = self.faulty.append(append, durability).await;
        if done.is_err() {
            self.undelivered.lock().unwrap().push(copy);
        }
        Box::pin(std::future::ready(done))
    }

    fn next_revision(&self, tenant: &TenantId) -> Revision {
        self.faulty.next_revision(tenant)
    }
}

/// A shelf on which every component stands.
pub(crate) struct Shelf;

#[async_trait]
impl Components for Shelf {
    async fn admit(&self, _: &TenantId, _: Bytes) -> Result<Inspection, AdmitError> {
        Err(AdmitError::Failed { message: "nothing is pushed here".into() })
    }

    async fn remove(&self, digest: &Digest) {
        panic!("{digest} was thrown away");
    }

    async fn kept(&self) -> Vec<Digest> {
        Vec::new()
    }
}

pub(crate) fn tenant() -> TenantId {
    sample::tenant("acme")
}

pub(crate) fn session() -> SessionId {
    "s1".parse().unwrap()
}

pub(crate) fn caller() -> Caller {
    Caller { tenant: tenant(), key: "abcdefghijkl".parse().unwrap(), role: Role::Author, cause: None }
}

/// A journal as whoever may read everything is shown it.
pub(crate) fn shown(journal: &[Placed]) -> Vec<Shown> {
    let all = Sight { context: true, definitions: true };
    journal.iter().map(|placed| Shown::of(placed.clone(), all, Extent::Short)).collect()
}
