//! The adapter against a real Neo4j: one server for all that only read and write, and one of its own for who stops it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged, Topic};
use ltmc_model::graph::{AsOf, Direction, Fact, FactFilter, Walk};
use ltmc_model::run::Run;
use ltmc_model::{Position, Revision, RunId, Seq, TenantId, Timestamp};
use ltmc_neo4j::{Neo4j, Options};
use ltmc_ports::log::Item;
use ltmc_ports::marks::Marks;
use ltmc_ports::testing::suite::graph::GraphFixture;
use ltmc_ports::testing::suite::projection::ProjectionFixture;
use ltmc_ports::testing::suite::provenance::ProvenanceFixture;
use ltmc_ports::{Append, Kind, Projection, ReadGraph, ReadProvenance, Retry, StoreError};
use ltmc_test_servers as servers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The server that all share. It ends with this process.
fn server() -> &'static servers::Neo4j {
    static SERVER: OnceLock<servers::Neo4j> = OnceLock::new();
    SERVER.get_or_init(|| servers::Neo4j::start(&home()).unwrap())
}

/// Where its data is. Statics are never dropped: what earlier runs have left is removed here.
fn home() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if let Some(pid) = name.strip_prefix("neo4j-").filter(|pid| pid.parse::<u32>().is_ok())
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    dir.join(format!("neo4j-{}", std::process::id()))
}

fn options(server: &servers::Neo4j) -> Options {
    Options { timeout: Duration::from_secs(20), ..Options::new(server.url(), server.user(), server.password()) }
}

fn open() -> Arc<Neo4j> {
    Neo4j::open(options(server())).unwrap()
}

/// The driver itself, to look round the adapter.
async fn bare(server: &servers::Neo4j) -> neo4rs::Graph {
    neo4rs::Graph::new(server.url(), server.user(), server.password()).await.unwrap()
}

async fn count(graph: &neo4rs::Graph, text: &str) -> i64 {
    let mut rows = graph.execute(neo4rs::query(text)).await.unwrap();
    rows.next().await.unwrap().unwrap().get("n").unwrap()
}

/// The schema is made once, before anybody else works: Neo4j ends the deadlocks of several who make it by refusing one, and a
/// follower tries again, which these tests do not.
async fn schema() {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let make = async || {
        for _ in 0..50 {
            match open().applied(&tenant("schema")).await {
                Err(error) if error.retry == Retry::Later => tokio::time::sleep(Duration::from_millis(100)).await,
                made => {
                    made.unwrap();
                    return;
                }
            }
        }
        panic!("the schema cannot be made");
    };
    MADE.get_or_init(make).await;
}

/// Follows as a projector would.
#[derive(Default)]
struct Following {
    told: AtomicU64,
}

#[async_trait]
impl GraphFixture for Following {
    async fn apply(&self, tenant: &TenantId, deltas: Vec<Delta>) -> Arc<dyn ReadGraph> {
        schema().await;
        let neo4j = open();
        if neo4j.applied(tenant).await.unwrap().is_none() {
            neo4j.set_applied(tenant, Position(0)).await.unwrap();
        }
        let rows: Vec<Logged> = deltas
            .into_iter()
            .map(|delta| {
                let position = Position(self.told.fetch_add(1, Ordering::Relaxed) + 1);
                Logged { position, tenant: tenant.clone(), delta }
            })
            .collect();
        neo4j.apply(tenant, &rows, rows.last().unwrap().position).await.unwrap();
        neo4j
    }
}

#[async_trait]
impl ProjectionFixture for Following {
    async fn fresh(&self) -> Arc<dyn Projection> {
        schema().await;
        open()
    }
}

/// Told as it happens.
#[async_trait]
impl ProvenanceFixture for Following {
    async fn told(&self, tenant: &TenantId, appends: Vec<Append>) -> Arc<dyn ReadProvenance> {
        schema().await;
        let neo4j = open();
        if neo4j.applied(tenant).await.unwrap().is_none() {
            neo4j.set_applied(tenant, Position(0)).await.unwrap();
        }
        let marks = appends.iter().filter_map(ltmc_ports::marks::of);
        let rows: Vec<Logged> = marks
            .map(|mark| {
                let position = Position(self.told.fetch_add(1, Ordering::Relaxed) + 1);
                Logged { position, tenant: tenant.clone(), delta: Delta::Run(Box::new(mark)) }
            })
            .collect();
        // A few at once, so that a run's first marks and its later ones are told apart.
        for some in rows.chunks(3) {
            neo4j.apply(tenant, some, some.last().unwrap().position).await.unwrap();
        }
        neo4j
    }
}

/// Built from the record, the newest runs first, so that what they come from is not there yet.
#[derive(Default)]
struct Built;

#[async_trait]
impl ProvenanceFixture for Built {
    fn tenant(&self, case: &str) -> TenantId {
        tenant(&format!("built-{case}"))
    }

    async fn told(&self, tenant: &TenantId, appends: Vec<Append>) -> Arc<dyn ReadProvenance> {
        schema().await;
        let neo4j = open();
        let mut runs: BTreeMap<RunId, (Marks, Run)> = BTreeMap::new();
        for append in appends {
            let (marks, run) = runs.entry(append.run.id).or_insert_with(|| (Marks::default(), append.run.clone()));
            for (number, entry) in (1..).zip(&append.entries) {
                marks.take(Seq(append.expected.0 + number), entry);
            }
            *run = append.run;
        }
        for (id, (marks, run)) in runs.into_iter().rev() {
            let deltas = vec![Delta::Run(Box::new(marks.mark(&run)))];
            let item = Item { key: id.to_string(), version: run.seq.0, position: Position(0), deltas };
            // Put right twice, as a repair may.
            neo4j.put(tenant, std::slice::from_ref(&item)).await.unwrap();
            neo4j.put(tenant, &[item]).await.unwrap();
        }
        neo4j
    }
}

mod told {
    use super::*;
    ltmc_ports::provenance_contract!(Following::default());
}

mod built {
    use super::*;
    ltmc_ports::provenance_contract!(Built);
}

ltmc_ports::graph_contract!(Following::default());
ltmc_ports::projection_contract!(Following::default());

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn fact(id: u64, subject: &str, object: &str) -> Fact {
    Fact {
        id: Revision(id),
        subject: subject.parse().unwrap(),
        relation: "to".parse().unwrap(),
        object: object.parse().unwrap(),
        properties: String::new(),
        valid_from: at(1),
        valid_to: None,
        recorded_at: at(2),
        ended_at: None,
    }
}

fn row(tenant: &TenantId, position: u64, fact: Fact) -> Logged {
    Logged { position: Position(position), tenant: tenant.clone(), delta: Delta::FactBegan(fact) }
}

fn facts_of(name: &str) -> FactFilter {
    FactFilter {
        entity: Some(name.parse().unwrap()),
        direction: Direction::Both,
        relation: None,
        as_of: AsOf::default(),
        history: false,
        after: None,
        limit: 100,
    }
}

/// What an operator reads, down to the last cause.
fn words(error: &StoreError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words
}

async fn refused(options: Options) -> String {
    let password = options.password.clone();
    let error = Neo4j::open(options).unwrap().check().await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Unavailable, Retry::Later), "{error:?}");
    assert!(!format!("{error:?} {}", words(&error)).contains(&password), "{error:?}");
    words(&error)
}

#[tokio::test]
async fn what_keeps_it_from_working_is_said() {
    let right = options(server());
    let said = refused(Options { password: "hunter2".into(), ..right.clone() }).await;
    assert!(said.contains("refuses the user `neo4j` or its password"), "{said}");
    let said = refused(Options { user: "nobody".into(), password: "hunter2".into(), ..right.clone() }).await;
    assert!(said.contains("refuses the user `nobody`"), "{said}");
    let said = refused(Options { database: Some("graph".into()), ..right.clone() }).await;
    assert!(said.contains("no database `graph`"), "{said}");
    let said = refused(Options { url: right.url.replace("bolt", "bolt+s"), ..right.clone() }).await;
    assert!(said.contains("bolt://"), "{said}");
    let port = servers::free_port().unwrap();
    let said = refused(Options { url: format!("bolt://127.0.0.1:{port}"), ..right.clone() }).await;
    assert!(said.contains("nothing answers at 127.0.0.1") && said.contains("is Neo4j running"), "{said}");
    let said = refused(Options { url: "bolt://no-such-host.invalid".into(), ..right.clone() }).await;
    assert!(said.contains("nothing answers at no-such-host.invalid:7687"), "{said}");
    Neo4j::open(Options { url: right.url.replace("bolt", "neo4j"), ..right }).unwrap().check().await.unwrap();
}

#[tokio::test]
async fn others_at_its_port_are_told_apart() {
    /// Somebody who answers whoever comes with this, or says nothing and stays.
    async fn somebody(answer: Option<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("bolt://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                match answer {
                    Some(answer) => {
                        let _ = stream.read(&mut [0; 64]).await;
                        let _ = stream.write_all(answer).await;
                    }
                    None => open.push(stream),
                }
            }
        });
        url
    }
    let of = |url: String| Options { timeout: Duration::from_millis(500), ..Options::new(url, "neo4j", "hunter2") };
    for (answer, expected) in [
        (Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), "speaks HTTP"),
        (Some(&b"-ERR unknown command\r\n"[..]), "does not speak Bolt"),
        (Some(&b"\0\0\0\0"[..]), "use Neo4j 5"),
        (Some(&b""[..]), "ended the connection"),
        (None, "did not answer in time"),
    ] {
        let begun = Instant::now();
        let said = refused(of(somebody(answer).await)).await;
        assert!(said.contains(expected), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn the_schema_is_made_once_by_whoever_comes_first() {
    let all: Vec<_> = (0..4).map(|_| open()).collect();
    let checks = all.iter().map(|neo4j| neo4j.check());
    for checked in together(checks).await {
        checked.unwrap();
    }
    open().check().await.unwrap();
    let graph = bare(server()).await;
    assert_eq!(
        count(&graph, "SHOW CONSTRAINTS YIELD name WHERE name STARTS WITH 'ltmc_' RETURN count(*) AS n").await,
        10
    );
    let text =
        "SHOW INDEXES YIELD name, state WHERE name STARTS WITH 'ltmc_' AND state = 'ONLINE' RETURN count(*) AS n";
    assert_eq!(count(&graph, text).await, 16);
    assert_eq!(count(&graph, "MATCH (s:LtmcSchema) RETURN count(DISTINCT s.version) AS n").await, 1);
}

/// All of them at once, each to its end.
async fn together<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |context| {
        all.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(std::mem::take(&mut done)) } else { std::task::Poll::Pending }
    })
    .await
}

/// Whichever is told first, and however often: what runs come from is there once, and goes with them.
#[tokio::test]
async fn where_runs_come_from_is_kept_and_goes_with_them() {
    use ltmc_model::child::{OnParentEnd, Parent};
    use ltmc_model::journal::{Entry, Event, Forked, RunStarted};
    use ltmc_ports::testing::sample::{self, Owner, run_id};
    let path = |text: &str| text.parse::<ltmc_model::StepPath>().unwrap();
    let entry = |event| Entry { at: at(1), event };
    let begins = |step: &str, needs: &[&str]| {
        entry(Event::StepStarted {
            step: path(step),
            attempt: 1,
            agent: Some("worker".parse().unwrap()),
            version: Some(ltmc_model::Digest::of(b"worker")),
            needs: needs.iter().map(|need| path(need)).collect(),
            transaction: true,
        })
    };
    let parent = Parent {
        run: run_id(1),
        step: path("0/1"),
        attempt: 0,
        effect: 0,
        chain: Vec::new(),
        on_end: OnParentEnd::Cancel,
    };
    let appends = |of: &TenantId| {
        let started = |parent: Option<Parent>, forked| {
            let parent = parent.map(Box::new);
            entry(Event::RunStarted(Box::new(RunStarted { parent, forked, ..sample::started(of) })))
        };
        let (mut one, mut child) = (Owner::new(of.as_str(), 1), Owner::new(of.as_str(), 2));
        let began = Event::ChildStarted { node: path("0/1"), run: run_id(2), needs: vec![path("0/0")], planned: true };
        let mut fork = Owner::new(of.as_str(), 3);
        vec![
            one.write(vec![started(None, None), begins("0/0", &[])]),
            child.write(vec![started(Some(parent.clone()), None), begins("0", &[])]),
            one.write(vec![entry(began)]),
            fork.write(vec![started(None, Some(Forked { of: run_id(1), at: Seq(3) })), begins("0/2/0", &["0/1"])]),
        ]
    };
    let graph = bare(server()).await;
    for (of, fixture) in [("t-told", &Following::default() as &dyn ProvenanceFixture), ("t-built", &Built)] {
        let acme = tenant(of);
        fixture.told(&acme, appends(&acme)).await;
        let n = async |text: &str| count(&graph, &format!("{} RETURN count(*) AS n", text.replace("$t", of))).await;
        let (one, two, three) = (run_id(1), run_id(2), run_id(3));
        let began = format!(
            "MATCH (:Run {{tenant: '$t', id: '{one}'}})-[:BEGAN {{step: '0/1', planned: true}}]->(:Run {{id: '{two}'}})"
        );
        assert_eq!(n(&began).await, 1, "{of}");
        let forked =
            format!("MATCH (:Run {{tenant: '$t', id: '{three}'}})-[:FORKED_FROM {{at: 3}}]->(:Run {{id: '{one}'}})");
        assert_eq!(n(&forked).await, 1, "{of}");
        assert_eq!(n("MATCH (:Run {tenant: '$t'})-[:BEGAN|FORKED_FROM]->()").await, 2, "{of}");
        let tree =
            format!("MATCH (:Step {{tenant: '$t', run: '{three}', path: '0/2/0'}})-[:BELOW*2]->(:Step {{path: '0'}})");
        assert_eq!(n(&tree).await, 1, "{of}");
        let needs = "MATCH (:Step {tenant: '$t', path: '0/1'})-[:NEEDS]->(:Step {tenant: '$t', path: '0/0'})";
        assert_eq!(n(needs).await, 1, "{of}");
        let used = "MATCH (:Run)-[:USED {tenant: '$t'}]->(:Version {tenant: '$t'})-[:OF]->(:Agent {tenant: '$t', name: 'worker'})";
        assert_eq!(n(used).await, 3, "{of}");
        let keys = [one, two, three].map(|run| run.to_string());
        open().discard(&acme, Topic::Runs, &keys[..1]).await.unwrap();
        assert_eq!((n(used).await, n("MATCH ()-[b:BEGAN]->(:Run {tenant: '$t'})").await), (2, 0), "{of}");
        open().discard(&acme, Topic::Runs, &keys).await.unwrap();
        assert_eq!(n("MATCH (n {tenant: '$t'}) WHERE NOT n:Applied AND NOT n:Build").await, 0, "{of}");
    }
}

#[tokio::test]
async fn what_is_kept_can_be_looked_at() {
    use ltmc_model::delta::{RunMark, StepMark};
    use ltmc_model::message::{Channel, Event, Message};
    use ltmc_model::run::State;
    let (neo4j, acme) = (open(), tenant("t-look"));
    let step = |path: &str, agent: Option<&str>, state| StepMark {
        step: path.parse().unwrap(),
        attempt: 1,
        agent: agent.map(|agent| agent.parse().unwrap()),
        state,
        at: at(5),
        seq: ltmc_model::Seq(1),
        version: None,
        needs: Vec::new(),
        began: None,
    };
    let mark = |seq, steps| {
        Delta::Run(Box::new(RunMark {
            run: "0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a".parse().unwrap(),
            target: ltmc_model::run::Target::Workflow("review".parse().unwrap()),
            session: "s1".parse().unwrap(),
            by: "abcdefghijkl".parse().unwrap(),
            created_at: at(1),
            updated_at: at(seq),
            state: State::Running,
            seq: ltmc_model::Seq(seq),
            steps,
            origin: None,
        }))
    };
    let running = State::Running;
    let message = Message {
        id: Revision(7),
        channel: Channel::Mailbox("writer".parse().unwrap()),
        event: Event {
            id: "1".into(),
            source: "/agents/reader".into(),
            kind: "page.read".into(),
            subject: None,
            time: at(9),
            data: ltmc_model::Payload::text("read"),
            attributes: std::collections::BTreeMap::new(),
            trail: None,
        },
    };
    let waiting = Message { id: Revision(9), ..message.clone() };
    let from_outside = Message {
        id: Revision(8),
        event: Event { source: "/keys/abc".into(), ..message.event.clone() },
        ..message.clone()
    };
    let deltas = vec![
        mark(
            2,
            vec![step("0", None, running), step("0/0", Some("reader"), running), step("0/1", Some("writer"), running)],
        ),
        mark(4, vec![step("0/0", None, State::Completed), step("0/1", None, State::Completed)]),
        mark(6, vec![step("0/2", Some("writer"), running)]),
        Delta::Sent(message),
        Delta::Sent(from_outside),
        Delta::Processed { agent: "writer".parse().unwrap(), message: Revision(7) },
        Delta::Sent(waiting),
    ];
    let rows: Vec<Logged> =
        (1..).zip(deltas).map(|(n, delta)| Logged { position: Position(n), tenant: acme.clone(), delta }).collect();
    neo4j.apply(&acme, &rows, Position(7)).await.unwrap();
    let graph = bare(server()).await;
    let n = async |text: &str| count(&graph, &format!("{text} RETURN count(*) AS n")).await;
    assert_eq!(n("MATCH (:Run {tenant: 't-look'})-[:OF]->(:Workflow {tenant: 't-look', name: 'review'})").await, 1);
    assert_eq!(n("MATCH (:Run {tenant: 't-look'})-[:HAS_STEP]->(:Step {tenant: 't-look'})").await, 4);
    assert_eq!(n("MATCH (:Step {tenant: 't-look'})-[:BY]->(:Agent {tenant: 't-look', name: 'writer'})").await, 2);
    // Two that ran side by side did not follow each other.
    assert_eq!(n("MATCH (:Step {tenant: 't-look'})-[:AFTER]->(:Step)").await, 1);
    assert_eq!(n("MATCH (:Step {tenant: 't-look', path: '0/2'})-[:AFTER]->(:Step {path: '0/1'})").await, 1);
    let sent = "MATCH (:Agent {name: 'reader'})-[m:SENT {tenant: 't-look'}]->(:Agent {name: 'writer'})";
    assert_eq!(n(&format!("{sent} WHERE m.type = 'page.read' AND m.id = 7")).await, 1, "history stays");
    assert_eq!(n("MATCH ()-[m:SENT {tenant: 't-look'}]->()").await, 2);
    let open = vec![(format!("mailbox/writer/{:020}", 9), 1)];
    assert_eq!(neo4j.inventory(&acme, Topic::Messages, None, 10).await.unwrap(), open);
    // History ends some time; what is not processed does not.
    assert_eq!(neo4j.trim(&acme, at(9)).await.unwrap(), 0);
    assert_eq!(neo4j.trim(&acme, at(10)).await.unwrap(), 1);
    assert_eq!(n("MATCH ()-[m:SENT {tenant: 't-look'}]->()").await, 1);
    assert_eq!(neo4j.inventory(&acme, Topic::Messages, None, 10).await.unwrap(), open);
}

#[tokio::test]
async fn whoever_stops_waiting_disturbs_nobody() {
    let (neo4j, acme) = (open(), tenant("t-cancel"));
    let rows: Vec<Logged> =
        (1..=300).map(|n| row(&acme, n, fact(n, &format!("e{}", n % 10), &format!("o{n}")))).collect();
    neo4j.apply(&acme, &rows, Position(300)).await.unwrap();
    let mut given_up = 0;
    for number in 0..300_u64 {
        let walk = Walk {
            from: format!("e{}", number % 10).parse().unwrap(),
            direction: Direction::Both,
            relation: None,
            depth: 3,
            as_of: AsOf::default(),
        };
        let patience = Duration::from_micros(number * 20);
        given_up += u32::from(tokio::time::timeout(patience, neo4j.reach(&acme, &walk)).await.is_err());
        let name = format!("o{}", number + 1);
        let page = neo4j.facts(&acme, &facts_of(&name)).await.unwrap();
        assert_eq!(page.facts.iter().map(|fact| fact.id.0).collect::<Vec<_>>(), [number + 1], "of {name}");
    }
    assert!(given_up > 20, "only {given_up} were given up");
}

/// On this the bound on a query's time rests: the driver cannot tell the server of one.
#[tokio::test]
async fn a_connection_that_is_dropped_ends_its_query() {
    let slow = "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b WITH a, b WHERE a = -b RETURN count(*) AS n";
    let graph = bare(server()).await;
    let asked = tokio::time::timeout(Duration::from_secs(1), graph.execute(neo4rs::query(slow))).await;
    // Whether the stream came or not: its first row never does.
    if let Ok(Ok(mut rows)) = asked {
        assert!(tokio::time::timeout(Duration::from_secs(1), rows.next()).await.is_err());
    }
    drop(graph);
    let other = bare(server()).await;
    let running = "SHOW TRANSACTIONS YIELD currentQuery WHERE currentQuery CONTAINS 'a = -' + 'b' RETURN count(*) AS n";
    let begun = Instant::now();
    while count(&other, running).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it still runs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_stopped_killed_and_wiped_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut server = servers::Neo4j::start(home.path()).unwrap();
    let acme = tenant("t-faults");
    let neo4j = Neo4j::open(Options { timeout: Duration::from_millis(1_500), ..options(&server) }).unwrap();
    let patient = Neo4j::open(options(&server)).unwrap();
    patient.check().await.unwrap();
    let tell = async |neo4j: &Neo4j, n: u64| {
        neo4j.apply(&acme, &[row(&acme, n, fact(n, "a", &format!("b{n}")))], Position(n)).await
    };
    tell(&patient, 1).await.unwrap();
    tell(&patient, 2).await.unwrap();
    assert_eq!(neo4j.applied(&acme).await.unwrap(), Some(Position(2)));

    server.pause().unwrap();
    let begun = Instant::now();
    for error in [
        neo4j.facts(&acme, &facts_of("a")).await.unwrap_err(),
        tell(&neo4j, 3).await.unwrap_err(),
        neo4j.check().await.unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(words(&error).contains("did not answer in time"), "{}", words(&error));
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    server.resume().unwrap();
    patient.check().await.unwrap();
    tell(&patient, 3).await.unwrap();
    assert_eq!(patient.facts(&acme, &facts_of("a")).await.unwrap().facts.len(), 3);

    server.stop_now();
    for error in [neo4j.facts(&acme, &facts_of("a")).await.unwrap_err(), tell(&neo4j, 4).await.unwrap_err()] {
        assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    }
    let error = neo4j.check().await.unwrap_err();
    assert!(words(&error).contains("is Neo4j running"), "{}", words(&error));
    server.launch().unwrap();
    let error = neo4j.check().await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error:?}");
    server.wait().unwrap();
    patient.check().await.unwrap();
    assert_eq!(patient.applied(&acme).await.unwrap(), Some(Position(3)), "what was acknowledged is there");
    tell(&patient, 4).await.unwrap();

    server.wipe().unwrap();
    patient.check().await.unwrap();
    let error = tell(&patient, 5).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict, "{error:?}");
    assert!(words(&error).contains("built again"), "{}", words(&error));
    assert_eq!(patient.applied(&acme).await.unwrap(), None);
    let item = |n: u64| ltmc_ports::log::Item {
        key: format!("{n:020}"),
        version: 1,
        position: Position(0),
        deltas: vec![Delta::FactBegan(fact(n, "a", &format!("b{n}")))],
    };
    patient.put(&acme, &[item(1), item(2)]).await.unwrap();
    // Emptied while it is built, by a person this time: nothing tells the connections.
    let graph = bare(&server).await;
    graph.run(neo4rs::query("MATCH (n) DETACH DELETE n")).await.unwrap();
    patient.put(&acme, &[item(3), item(4)]).await.unwrap();
    let error = patient.set_applied(&acme, Position(4)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict, "{error:?}");
    assert_eq!(patient.applied(&acme).await.unwrap(), None);
    patient.put(&acme, &[item(1), item(2), item(3), item(4)]).await.unwrap();
    patient.set_applied(&acme, Position(4)).await.unwrap();
    tell(&patient, 5).await.unwrap();
    assert_eq!(patient.facts(&acme, &facts_of("a")).await.unwrap().facts.len(), 5);

    graph.run(neo4rs::query("MATCH (s:LtmcSchema) SET s.version = 99")).await.unwrap();
    let error = patient.check().await.unwrap_err();
    assert!(words(&error).contains("update the host"), "{}", words(&error));
    assert_eq!(tell(&patient, 6).await.unwrap_err().kind, Kind::Unavailable);
}
