//! A run that was under way when its host was exchanged: its journal, as the first version wrote it, is resumed by this one.
//!
//! `fixtures/journal-v1.txt` holds entries and nothing else: what the journaled effects changed is not in the records of these
//! tests, and there is no index for recall. So an effect that were performed again would be seen, and could not give what
//! the journal has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ltmc_context::{Context, Handed, Subscriptions};
use ltmc_model::agent::{Agent, Carry};
use ltmc_model::call::messages::Draft;
use ltmc_model::call::{HostCall, graph, memory, messages, recall};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::Code;
use ltmc_model::graph::{AsOf, Direction, FactFilter, Walk};
use ltmc_model::journal::{Act, Change, Entry, Event, RunStarted};
use ltmc_model::manifest::Manifest;
use ltmc_model::memory::{Drawer, Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::run::{Run, State, TakenUp};
use ltmc_model::tenancy::Tenant;
use ltmc_model::{Epoch, Payload, Position, RunId, Seq};
use ltmc_orchestration::runs::Ports;
use ltmc_orchestration::{Runs, Sealing};
use ltmc_ports::testing::suite::Fixture as _;
use ltmc_ports::testing::{ManualClock, MemoryRecord, SeededEntropy, sample};
use ltmc_ports::{Append, Changes, Clock as _, Durability, ReadJournal as _};
use ltmc_tenancy::{Authority, Pins};

use crate::guest::{Guest, Sandbox, Script, agent};
use crate::host::{Shelf, tenant};
use crate::records::{AnyRecord, OnDisk};

/// The effects of the second step that are in the journal.
const JOURNALED: usize = 30;

/// The journal, as it was left.
fn journal() -> Vec<Entry> {
    let text = include_str!("fixtures/journal-v1.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| Entry::from_bytes(&hex::decode(line).unwrap()).unwrap()).collect()
}

fn first() -> Script {
    agent("first", |_| async { panic!("the first step is done: it is not run again") })
}

/// The agent that was in the middle, as it was written then; it goes on where it was, and says what it saw.
fn second() -> Script {
    agent("second", |guest| async move {
        let seen = as_before(&guest).await?;
        guest.put("after", &seen).await?;
        guest.log("went on").await?;
        Ok(Payload::text(seen))
    })
}

/// The calls that are in the journal.
async fn as_before(guest: &Guest) -> Result<String, ltmc_model::failure::Failure> {
    let scope = Scope::Session;
    let put = |key: &str, precondition, ttl_ms| memory::Put {
        scope,
        key: key.into(),
        value: Bytes::from_static(b"1"),
        precondition,
        ttl_ms,
    };
    guest.sure(memory::Open(scope)).await?;
    guest.sure(put("a", Precondition::Any, Some(3_600_000))).await?;
    let a = guest.sure(memory::Get { scope, key: "a".into() }).await?;
    let n = guest.sure(memory::Update { scope, key: "n".into(), merge: Merge::Increment(5), ttl_ms: None }).await?;
    guest.now();
    guest.now();
    let page = guest.sure(memory::List { scope, prefix: String::new(), cursor: None, limit: 10 }).await?;
    let after = Some(Position(0));
    guest.sure(memory::Changes { scope, prefix: String::new(), after, limit: 10, wait_ms: 0 }).await?;
    let gone = guest.sure(memory::Delete { scope, key: "a".into(), precondition: Precondition::Any }).await?;
    guest.log("memory is done").await?;

    let entity = |name: &str| name.parse().unwrap();
    let depends_on = || "depends-on".parse().unwrap();
    let relate = |subject: &str, object: &str, properties: &str| graph::Relate {
        subject: entity(subject),
        relation: depends_on(),
        object: entity(object),
        properties: properties.into(),
        valid_from: None,
    };
    let walk = Walk {
        from: entity("a"),
        direction: Direction::Out,
        relation: Some(depends_on()),
        depth: 5,
        as_of: AsOf::default(),
    };
    guest.sure(relate("a", "b", "{\"w\":1}")).await?;
    guest.sure(relate("b", "c", "")).await?;
    let filter = FactFilter {
        entity: Some(entity("a")),
        direction: Direction::Both,
        relation: None,
        as_of: AsOf::default(),
        history: false,
        after: None,
        limit: 10,
    };
    let facts = guest.sure(graph::Facts(filter)).await?;
    let path = guest.sure(graph::FindPath { walk: walk.clone(), to: entity("c") }).await?;
    guest.sure(graph::Reach(walk.clone())).await?;
    let order = guest.sure(graph::DependencyOrder(walk)).await?;
    let (subject, relation, object) = (entity("a"), depends_on(), entity("b"));
    guest.sure(graph::Unrelate { subject, relation, object, valid_to: None }).await?;

    let metadata: ltmc_model::recall::Metadata = [("lang".into(), "en".into())].into();
    let remember =
        |id: &str, text: &str| recall::Remember { id: id.into(), text: text.into(), metadata: metadata.clone() };
    guest.sure(remember("n1", "Locks are advisory.")).await?;
    guest.sure(remember("n2", "A journal is a chain of entries.")).await?;
    let search = recall::Search { query: "a chain of entries".into(), filter: metadata.clone(), limit: 2 };
    let hits = guest.sure(search).await?;
    guest.sure(recall::Forget { id: "n1".into() }).await?;

    let event =
        |kind: &str| Draft { kind: kind.into(), subject: Some("s".into()), data: Payload::text("data"), given: None };
    let topic = || "builds/main".parse().unwrap();
    guest.sure(messages::Publish { topic: topic(), event: event("build.done") }).await?;
    guest.sure(messages::Send { to: "second".parse().unwrap(), event: event("one") }).await?;
    guest.sure(messages::Send { to: "second".parse().unwrap(), event: event("two") }).await?;
    let taken = guest.sure(messages::Receive { limit: 10, wait_ms: 0 }).await?;
    guest.sure(messages::Ack { id: taken[0].id }).await?;
    guest.sure(messages::Reject { id: taken[1].id, reason: "not for me".into() }).await?;
    let read = guest.sure(messages::Read { topic: topic(), after, limit: 10, wait_ms: 0 }).await?;
    let leak = messages::Publish { topic: "secret".parse().unwrap(), event: event("leak") };
    let denied = guest.cross(leak).await?.unwrap_err();
    let conflict = guest.cross(put("n", Precondition::Absent, None)).await?.unwrap_err();
    let invalid = guest.cross(memory::Get { scope, key: String::new() }).await?.unwrap_err();
    let unknown = guest.cross(messages::Ack { id: taken[0].id }).await?.unwrap_err();
    guest.sure(put("before", Precondition::Any, None)).await?;
    assert!(matches!(
        (denied, conflict, invalid, unknown),
        (Refusal::Denied(_), Refusal::Conflict(Some(_)), Refusal::Invalid(_), Refusal::NotFound)
    ));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let names: Vec<&str> = order.entities.iter().map(|entity| entity.as_str()).collect();
    Ok(format!(
        "a={} n={} keys={} gone={gone} facts={} path={} order={} hit={} taken={} read={}",
        text(&a.unwrap().value),
        text(&n.value),
        page.items.len(),
        facts.facts.len(),
        path.facts.unwrap().len(),
        names.join(","),
        hits.hits[0].id,
        taken.len(),
        read.events[0].event.kind,
    ))
}

/// What the second step saw when it made those calls for the first time.
const SEEN: &str = "a=1 n=5 keys=3 gone=true facts=1 path=2 order=c,b,a hit=n2 taken=2 read=build.done";

/// A record with the agents and this journal, and the host that takes its run up again; how that ended.
async fn resumed<R: AnyRecord>(record: &Arc<R>, journal: Vec<Entry>) -> (Run, Vec<Entry>, Vec<(String, u32)>) {
    let scripts = [first(), second()];
    let clock = Arc::new(ManualClock::at(sample::at(60_000)));
    let act = async |change| record.act(&tenant(), clock.now(), Act { by: None, change }).await.unwrap();
    act(Change::TenantCreated(Tenant { name: tenant(), created_at: clock.now() })).await;
    for script in &scripts {
        act(Change::AgentPushed(Agent {
            name: script.name.clone(),
            digest: script.component(),
            manifest: Manifest::default(),
            exports: vec![script.export],
            size: 1,
            pushed_at: clock.now(),
        }))
        .await;
        let grants = ["log", "memory:write:session"].map(|grant| grant.parse().unwrap()).to_vec();
        act(Change::GrantsSet { agent: script.name.clone(), grants, digest: None, carry: Some(Carry::Never) }).await;
    }
    let run = left(record, journal).await;

    let authority = Arc::new(Authority::new(record.clone(), record.clone(), clock.clone()));
    let subscriptions = Subscriptions::start(record.clone());
    let handed = Handed::new(record.clone());
    let context = Arc::new(Context::of_record(record, &handed, &subscriptions, authority.clone()));
    let sandbox = Sandbox::new(&scripts, false);
    let shared = ltmc_crossing::Shared { authority: authority.clone(), context, clock: clock.clone() };
    let runs = Runs::new(Ports {
        read: record.clone(),
        write: record.clone(),
        bus: record.clone(),
        questions: record.clone(),
        sessions: record.clone(),
        take_ups: record.clone(),
        subscriptions,
        authority,
        crossing: Arc::new(shared),
        runner: sandbox.clone(),
        pins: Pins::new(record.clone(), Arc::new(Shelf)),
        clock,
        entropy: Arc::new(SeededEntropy::new(2)),
        directories: Default::default(),
        schemas: Arc::new(ltmc_schemas::Schemas::in_process()),
        embedder: ltmc_embedders::hashed(),
        sealing: Sealing::default(),
        graph: None,
        lessons: None,
    });
    assert_eq!(runs.recover().await.unwrap().resumed, 1);
    let over = async {
        loop {
            let row = record.run(&tenant(), run).await.unwrap().unwrap();
            if row.state.is_over() {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let row = tokio::time::timeout(Duration::from_secs(60), over).await.expect("the run ends");
    let entries = record.entries(&tenant(), run, Seq(0), 1_000).await.unwrap();
    let ran = sandbox.ran().into_iter().map(|(step, attempt)| (step.to_string(), attempt)).collect();
    (row, entries.into_iter().map(|placed| placed.entry).collect(), ran)
}

/// Puts a run into the record as a host left it.
async fn left<R: AnyRecord>(record: &Arc<R>, journal: Vec<Entry>) -> RunId {
    let Event::RunStarted(started) = journal[0].event.clone() else { panic!("a journal begins with its run's start") };
    let RunStarted { target, session, by, .. } = *started;
    let at = journal[0].at;
    let run = Run {
        tenant: tenant(),
        id: sample::run_id(1),
        target,
        parent: None,
        state: State::Running,
        session,
        turn: None,
        by,
        created_at: at,
        updated_at: at,
        epoch: Epoch(1),
        seq: Seq(journal.len() as u64),
        wakes_at: None,
        taken_up: TakenUp::default(),
    };
    let id = run.id;
    let append = Append {
        run,
        expected: Seq(0),
        previous: None,
        entries: journal,
        changes: Changes::default(),
        idempotency: None,
        scheduled: None,
        triggered: None,
        snapshot: None,
    };
    record.append(append, Durability::Barrier).await.unwrap();
    id
}

/// The run goes on where it was, and nothing that is journaled is done again.
async fn goes_on<R: AnyRecord>(record: &Arc<R>) {
    let before = journal();
    let (run, after, ran) = resumed(record, before.clone()).await;
    assert_eq!(run.state, State::Completed, "{:?}", after.last());
    assert_eq!(ran, [("0/1".to_owned(), 1)], "the attempt that was cut off is taken up, and nothing else is run");
    assert_eq!(after[..before.len()], before[..], "what was journaled stays as it was");
    let Event::RunClaimed { .. } = after[before.len()].event else { panic!("the new host claims the run") };
    let new: Vec<&str> = after[before.len() + 1..]
        .iter()
        .map(|entry| match &entry.event {
            Event::Effect(effect) => effect.about.as_str(),
            Event::Log { line, .. } => line.message.as_str(),
            Event::StepCompleted { output, .. } => {
                assert_eq!(output, &Payload::text(SEEN), "the journal's answers are given");
                "completed"
            }
            other => other.kind(),
        })
        .collect();
    let put = format!("session/after ({} bytes)", SEEN.len());
    assert_eq!(new, ["checkpoint", put.as_str(), "went on", "completed", "run-completed"]);
    let session = Drawer::Session(run.session.clone());
    let page = record.list(&tenant(), &session, "", None, 10, sample::at(60_000)).await.unwrap();
    let keys: Vec<&str> = page.items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["after"], "no journaled change was made a second time");
}

#[tokio::test]
async fn a_journal_of_the_first_version_is_resumed_from_memory() {
    goes_on(&MemoryRecord::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_the_first_version_is_resumed_from_sqlite() {
    let on = OnDisk::default();
    let record = on.fresh().await;
    goes_on(&record).await;
    assert_eq!(record.verify().await.unwrap().damage, []);
    ltmc_ports::Record::close(&*record).await;
}

#[test]
fn a_journal_of_the_first_version_is_written_the_same_by_this_one() {
    let text = include_str!("fixtures/journal-v1.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let again: Vec<String> = journal().iter().map(|entry| hex::encode(entry.to_bytes())).collect();
    assert_eq!(again, lines);
    let journal = journal();
    let effects: Vec<_> = journal
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Effect(effect) if effect.step.as_str() == "0/1" => Some(effect),
            _ => None,
        })
        .collect();
    assert_eq!(effects.len(), JOURNALED);
    assert!(effects.iter().all(|effect| effect.form == 1 && effect.capability.is_some()));
}

/// How the run ends where one effect of its journal is another one.
async fn ends_with(change: impl Fn(&mut ltmc_model::journal::Effect)) -> String {
    let mut entries = journal();
    let effects = entries.iter_mut().filter_map(|entry| match &mut entry.event {
        Event::Effect(effect) if effect.step.as_str() == "0/1" => Some(effect),
        _ => None,
    });
    effects.into_iter().for_each(change);
    let (run, after, _) = resumed(&MemoryRecord::new(), entries).await;
    assert_eq!(run.state, State::Failed);
    let Some(Event::RunFailed { failure }) = after.last().map(|entry| &entry.event) else { panic!("{after:?}") };
    assert_eq!(failure.code, Code::ReplayMismatch);
    failure.message.clone()
}

#[tokio::test]
async fn a_reply_of_another_kind_is_a_mismatch() {
    let message = ends_with(|effect| {
        if effect.call == memory::List::NAME {
            effect.reply = Ok(Reply::Existed(true));
        }
    })
    .await;
    assert!(message.contains("a reply to `memory.list` that is not of its kind (`Page`)"), "{message}");
}

#[tokio::test]
async fn a_form_that_is_not_known_is_a_mismatch_that_says_so() {
    let message = ends_with(|effect| {
        if effect.number == 7 {
            effect.form = 2;
        }
    })
    .await;
    assert!(message.contains("host call 7 (memory.delete) is journaled in form 2, which this version"), "{message}");
}
