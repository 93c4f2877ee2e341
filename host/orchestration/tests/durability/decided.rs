//! Decided on what is so: what an attempt decided on is changed by somebody else before it becomes true. It begins again, and all
//! comes out as if the other had come first.
//!
//! The other's change was drawn before the attempt's and lands after its decision: that it is the older one tells nobody anything,
//! only what the attempt expects does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_journal::{RunLog, runlog};
use ltmc_model::call::messages::{Ack, Receive, Reject, Send};
use ltmc_model::call::{graph, memory};
use ltmc_model::delta::{Delta, FactEnd};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::graph::Fact;
use ltmc_model::journal::Event;
use ltmc_model::memory::{Drawer, Precondition, Scope};
use ltmc_model::message::{MAX_MAILBOX, Taker};
use ltmc_model::{AgentName, Payload, Revision, StepPath};
use ltmc_ports::journal::IdempotencyKey;
use ltmc_ports::testing::{Fault, ManualClock, MemoryRecord, sample};
use ltmc_ports::{Changes, Durability, Expect, Kind, ReadJournal as _, ReadMemory as _, WriteJournal as _};

use crate::guest::{Guest, agent, text};
use crate::host::{Answer, Line, Request, World, caller, in_paused_time, session, tenant};
use crate::truth::{Truth, change, drawn_up_to, truth};
use crate::twenty::{add, draft, relate, unrelate};

/// Nobody draws a revision again up to this one.
const DRAWN: u64 = 40_000;

/// What an attempt does, for its answer.
type Work = fn(Guest) -> BoxFuture<'static, Result<String, Failure>>;

/// Somebody else's change of what an attempt decides on.
struct Case {
    name: &'static str,
    before: Vec<Delta>,
    work: Work,
    /// After so many of its calls the other's change lands.
    after: u32,
    other: Vec<Delta>,
}

fn value(key: &str, revision: u64, value: &'static str) -> Delta {
    Delta::Memory(sample::put(&Drawer::Session(session()), key, Revision(revision), value))
}

fn gone(key: &str, revision: u64) -> Delta {
    Delta::Memory(sample::delete(&Drawer::Session(session()), key, Revision(revision)))
}

fn fact(id: u64) -> Fact {
    let graph::Relate { subject, relation, object, .. } = relate("a", "b");
    let (properties, id, at) = (format!("{{\"number\":{id}}}"), Revision(id), sample::at(0));
    Fact { id, subject, relation, object, properties, valid_from: at, valid_to: None, recorded_at: at, ended_at: None }
}

fn ended(id: u64) -> Delta {
    let Fact { id, subject, relation, object, .. } = fact(id);
    Delta::FactEnded(FactEnd { id, subject, relation, object, valid_to: sample::at(0), ended_at: sample::at(0) })
}

fn letter(id: u64) -> Delta {
    sample::sent(sample::mailbox("worker"), id, "work")
}

fn worker_name() -> AgentName {
    "worker".parse().unwrap()
}

fn touch() -> memory::Touch {
    memory::Touch { scope: Scope::Session, key: "key".into(), ttl_ms: Some(1_000_000) }
}

fn delete(precondition: Precondition) -> memory::Delete {
    memory::Delete { scope: Scope::Session, key: "key".into(), precondition }
}

async fn put_if(guest: &Guest, precondition: Precondition) -> Result<String, Failure> {
    Ok(format!("{:?}", guest.put_if("key", "own", precondition).await?.is_ok()))
}

async fn put_after_list(guest: &Guest, after: Option<&str>) -> Result<String, Failure> {
    let (prefix, cursor) = ("ke".to_owned(), after.map(str::to_owned));
    let page = guest.sure(memory::List { scope: Scope::Session, prefix, cursor, limit: 100 }).await?;
    let seen =
        page.items.iter().map(|item| format!("{}={}", item.key, text(&item.value))).collect::<Vec<_>>().join(" ");
    guest.put("key", format!("{seen} and more")).await?;
    Ok(seen)
}

fn cases() -> Vec<Case> {
    let case = |name, before, work: Work, after, other| Case { name, before, work, after, other };
    let by_another = Taker { run: sample::run_id(9), step: StepPath::root(), attempt: 1, part: 0 };
    let taken = Delta::Taken { agent: worker_name(), messages: vec![Revision(20)], places: vec![], by: by_another };
    let processed = Delta::Processed { agent: worker_name(), message: Revision(20) };
    let full = (1..MAX_MAILBOX).map(|n| sample::sent(sample::mailbox("other"), 20_000 + u64::from(n), "")).collect();
    vec![
        case(
            "an update",
            vec![value("key", 20, "1")],
            |guest| async move { Ok(text(&guest.sure(add("key", 1)).await?.value).to_owned()) }.boxed(),
            1,
            vec![value("key", 50, "10")],
        ),
        case(
            "a put where nothing stands",
            vec![],
            |guest| async move { put_if(&guest, Precondition::Absent).await }.boxed(),
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a put over what was seen",
            vec![value("key", 20, "1")],
            |guest| async move { put_if(&guest, Precondition::Revision(Revision(20))).await }.boxed(),
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a put after a read",
            vec![value("key", 20, "1")],
            |guest| {
                async move {
                    let seen = guest.get("key").await?.map(|item| text(&item.value).to_owned()).unwrap_or_default();
                    guest.put("key", format!("{seen} and more")).await?;
                    Ok(seen)
                }
                .boxed()
            },
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a put after a read that found nothing",
            vec![],
            |guest| {
                async move {
                    let seen = guest.get("key").await?.map(|item| text(&item.value).to_owned()).unwrap_or_default();
                    guest.put("key", format!("{seen} and more")).await?;
                    Ok(seen)
                }
                .boxed()
            },
            2,
            vec![value("key", 50, "other")],
        ),
        case(
            "a put after a list that it stood in",
            vec![value("key", 20, "1")],
            |guest| async move { put_after_list(&guest, None).await }.boxed(),
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a put after a list that it did not stand in",
            vec![value("keel", 20, "1"), value("keys", 21, "1")],
            |guest| async move { put_after_list(&guest, None).await }.boxed(),
            2,
            vec![value("key", 50, "other")],
        ),
        case(
            "a put after the second page of a list that it did not stand in",
            vec![value("keel", 20, "1"), value("keys", 21, "1")],
            |guest| async move { put_after_list(&guest, Some("keel")).await }.boxed(),
            2,
            vec![value("key", 50, "other")],
        ),
        case(
            "a deletion of what was seen",
            vec![value("key", 20, "1")],
            |guest| {
                async move {
                    Ok(format!("{:?}", guest.cross(delete(Precondition::Revision(Revision(20)))).await?.is_ok()))
                }
                .boxed()
            },
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a deletion that says whether anything was there",
            vec![value("key", 20, "1")],
            |guest| async move { Ok(format!("{}", guest.sure(delete(Precondition::Any)).await?)) }.boxed(),
            1,
            vec![gone("key", 50)],
        ),
        case(
            "a deletion that finds nothing",
            vec![],
            |guest| async move { Ok(format!("{}", guest.sure(delete(Precondition::Any)).await?)) }.boxed(),
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a longer life of what stands there",
            vec![value("key", 20, "1")],
            |guest| async move { Ok(guest.sure(touch()).await?.to_string()) }.boxed(),
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a longer life of what is not there",
            vec![],
            |guest| async move { Ok(guest.sure(touch()).await?.to_string()) }.boxed(),
            1,
            vec![value("key", 50, "other")],
        ),
        case(
            "a fact that is told",
            vec![],
            |guest| async move { guest.sure(relate("a", "b")).await.map(|_| String::new()) }.boxed(),
            1,
            vec![Delta::FactBegan(fact(50))],
        ),
        case(
            "a fact that is ended",
            vec![Delta::FactBegan(fact(20))],
            |guest| async move { Ok(guest.sure(unrelate("a", "b")).await?.to_string()) }.boxed(),
            1,
            vec![ended(20)],
        ),
        case(
            "a fact that is ended and does not hold",
            vec![],
            |guest| async move { Ok(guest.sure(unrelate("a", "b")).await?.to_string()) }.boxed(),
            1,
            vec![Delta::FactBegan(fact(50))],
        ),
        case(
            "a message that waits",
            vec![letter(20), letter(21)],
            |guest| {
                async move {
                    let taken = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
                    Ok(format!("{:?}", taken.iter().map(|taken| taken.id).collect::<Vec<_>>()))
                }
                .boxed()
            },
            1,
            vec![taken],
        ),
        case(
            "a message that is acknowledged",
            vec![letter(20), letter(21)],
            |guest| {
                async move {
                    let taken = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
                    // Meanwhile it is recorded that it has the message.
                    guest.compute(200).await;
                    guest.sure(Ack { id: taken[0].id }).await?;
                    Ok(taken[0].id.to_string())
                }
                .boxed()
            },
            2,
            vec![processed.clone()],
        ),
        case(
            "a message that is rejected",
            vec![letter(20), letter(21)],
            |guest| {
                async move {
                    let taken = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
                    guest.compute(200).await;
                    guest.sure(Reject { id: taken[0].id, reason: "not mine".into() }).await?;
                    Ok(taken[0].id.to_string())
                }
                .boxed()
            },
            2,
            vec![processed],
        ),
        case(
            "room in a mailbox",
            full,
            |guest| {
                async move {
                    let sent = guest.cross(Send { to: "other".parse().unwrap(), event: draft("mine") }).await?;
                    Ok(sent.is_ok().to_string())
                }
                .boxed()
            },
            1,
            vec![sample::sent(sample::mailbox("other"), 39_000, "")],
        ),
    ]
}

/// A world with this worker, and a record in which this is so.
async fn begun(work: Work, before: Vec<Delta>) -> (World, Arc<MemoryRecord>) {
    let worker = agent("worker", move |guest| async move { work(guest).await.map(Payload::text) });
    let world = World::new([worker, agent("other", |guest| async move { Ok(guest.job.input.clone()) })]);
    let record = world.record(None).await;
    drawn_up_to(&record, DRAWN);
    change(&record, before).await;
    (world, record)
}

/// What comes of it, with the other's change before the worker begins.
async fn one_after_the_other(case: &Case) -> (Answer, Truth) {
    let (world, record) = begun(case.work, case.before.clone()).await;
    change(&record, case.other.clone()).await;
    let host = world.host(&record, []);
    let answer = host.ask(&Request::call("worker")).await.expect("the end is told");
    assert_eq!(host.sandbox.ran().len(), 1, "{}", case.name);
    (answer, truth(&record).await)
}

/// The same, with the other's change while it is at work.
async fn side_by_side(case: &Case, key: Option<&str>) -> (Answer, Truth) {
    let (world, record) = begun(case.work, case.before.clone()).await;
    let host = world.host(&record, []);
    let (calls, other) = (AtomicU32::new(0), (record.clone(), case.other.clone(), case.after));
    host.sandbox.after_call(move |_| {
        let (is_now, (record, deltas, _)) = (calls.fetch_add(1, Ordering::SeqCst) + 1 == other.2, other.clone());
        async move {
            if is_now {
                change(&record, deltas).await;
            }
        }
        .boxed()
    });
    let request = Request { key: key.map(str::to_owned), ..Request::call("worker") };
    let answer = host.ask(&request).await.expect("the end is told");
    assert_eq!(host.sandbox.ran().len(), 2, "{}: it begins again, once", case.name);
    if key.is_some() {
        assert_eq!(host.ask(&request).await.as_ref(), Some(&answer), "{}", case.name);
    }
    // What begins again is the run that was asked for.
    assert!(host.run().await.is_some());
    assert_eq!(host.sandbox.ran().len(), 2, "{}: it is over", case.name);
    (answer, truth(&record).await)
}

#[test]
fn what_was_decided_on_something_else_is_decided_anew() {
    for case in cases() {
        let expected = in_paused_time(one_after_the_other(&case));
        // Without a key nothing of the run was recorded when it is refused.
        for key in [Some("once"), None] {
            let found = in_paused_time(side_by_side(&case, key));
            assert_eq!(found.0, expected.0, "{}", case.name);
            assert!(found.1 == expected.1, "{}: what is true differs", case.name);
        }
    }
}

/// A run whose first append was refused is begun again under the key that it was asked for with.
#[test]
fn a_run_that_is_begun_again_keeps_its_idempotency_key() {
    in_paused_time(async {
        let record = MemoryRecord::new();
        let (run, request, expires_at) = (sample::run_id(1), ltmc_model::Digest::of(b"in"), sample::at(60_000));
        let key = IdempotencyKey { key: "once".into(), request, run, expires_at };
        let ports = runlog::Ports {
            journal: record.clone(),
            clock: Arc::new(ManualClock::at(sample::at(0))),
            sealing: Default::default(),
        };
        let started = sample::started(&tenant());
        let log = RunLog::fresh(ports, tenant(), run, started, Some(key));
        log.anew().flush(Durability::Barrier).await.unwrap();
        let found = record.idempotent(&tenant(), "once", sample::at(1)).await.unwrap();
        assert_eq!(found.map(|found| found.run), Some(run));
    });
}

/// What an attempt sent takes room that it is not given again.
#[test]
fn a_mailbox_that_an_attempt_fills_itself_is_full_to_it() {
    in_paused_time(async {
        let work: Work = |guest| {
            async move {
                let mut sent = Vec::new();
                for _ in 0..2 {
                    let answer = guest.cross(Send { to: "other".parse().unwrap(), event: draft("mine") }).await?;
                    sent.push(answer.is_ok());
                }
                Ok(format!("{sent:?}"))
            }
            .boxed()
        };
        let full = (1..MAX_MAILBOX).map(|n| sample::sent(sample::mailbox("other"), 20_000 + u64::from(n), ""));
        let (world, record) = begun(work, full.collect()).await;
        let host = world.host(&record, []);
        let answer = host.ask(&Request::call("worker")).await;
        assert_eq!(answer, Some(Ok(Payload::text("[true, false]"))));
        assert_eq!(host.sandbox.ran().len(), 1);
    });
}

/// What is staged in a run and contradicts what another change of it was decided on is found by the record, not overlooked.
#[test]
fn a_run_that_contradicts_itself_is_refused() {
    in_paused_time(async {
        let record = MemoryRecord::new();
        let ports = runlog::Ports {
            journal: record.clone(),
            clock: Arc::new(ManualClock::at(sample::at(0))),
            sealing: Default::default(),
        };
        let started = sample::started(&tenant());
        let log = RunLog::fresh(ports, tenant(), sample::run_id(1), started, None);
        let step = |effects| Event::Checkpoint { step: StepPath::root(), attempt: 1, effects };
        let over = |before: Option<u64>, revision| {
            let (drawer, key) = (Drawer::Session(session()), "key".to_owned());
            let expects = vec![Expect::Key { drawer, key, revision: before.map(Revision) }];
            let changes = Changes { deltas: vec![value("key", revision, "own")], expects };
            runlog::Commit { changes, ..runlog::Commit::default() }
        };
        log.stage_with(step(1), over(None, 1)).await.unwrap();
        log.stage_with(step(2), over(Some(1), 2)).await.unwrap();
        assert!(
            record.run(&tenant(), log.run()).await.unwrap().is_none(),
            "it agrees with itself: nothing is written yet"
        );
        log.stage_with(step(3), over(Some(1), 3)).await.unwrap();
        let refused = log.flush(Durability::Lazy).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Stale);
        let found = record.get(&tenant(), &Drawer::Session(session()), "key", sample::at(0)).await.unwrap();
        assert_eq!(found.map(|item| item.revision), Some(Revision(2)));
    });
}

#[test]
fn who_is_overtaken_every_time_gives_up_and_can_be_resumed() {
    in_paused_time(async {
        let work: Work = |guest| async move { Ok(text(&guest.sure(add("key", 1)).await?.value).to_owned()) }.boxed();
        let (world, record) = begun(work, Vec::new()).await;
        let host = world.host(&record, []);
        let (is_busy, other) = (Arc::new(AtomicBool::new(true)), record.clone());
        let busy = is_busy.clone();
        host.sandbox.after_call(move |_| {
            let (busy, record) = (busy.load(Ordering::SeqCst), other.clone());
            async move {
                if busy {
                    let revision = record.next_revision(&tenant());
                    change(&record, vec![value("key", revision.0, "100")]).await;
                }
            }
            .boxed()
        });
        let request = Request::call("worker");
        let answer = tokio::time::timeout(Duration::from_secs(600), host.ask(&request)).await;
        let failure = answer.expect("it gives up").expect("the end is told").unwrap_err();
        assert_eq!(failure.code, Code::Conflict, "{failure:?}");
        assert_eq!(host.sandbox.ran().len(), 65);
        is_busy.store(false, Ordering::SeqCst);
        let run = host.run().await.unwrap();
        host.runs.resume(&caller(), run).await.unwrap();
        assert_eq!(host.ask(&request).await, Some(Ok(Payload::text("101"))));
        assert_eq!(host.sandbox.ran().len(), 66);
    });
}

/// Whoever calls is answered by the end of the wall time, however often the attempt begins again.
#[test]
fn who_is_overtaken_has_its_wall_time_once() {
    in_paused_time(async {
        let work: Work = |guest| {
            async move {
                let counted = guest.sure(add("key", 1)).await?;
                guest.compute(4_000).await;
                Ok(text(&counted.value).to_owned())
            }
            .boxed()
        };
        let (world, record) = begun(work, Vec::new()).await;
        let (host, other) = (world.host(&record, []), record.clone());
        host.sandbox.after_call(move |_| {
            let record = other.clone();
            async move { change(&record, vec![value("key", record.next_revision(&tenant()).0, "100")]).await }.boxed()
        });
        let begun = tokio::time::Instant::now();
        let failure = host.ask(&Request::call("worker")).await.expect("the end is told").unwrap_err();
        assert_eq!(failure.code, Code::LimitWall, "{failure:?}");
        let (beginnings, took) = (host.sandbox.ran().len(), begun.elapsed());
        assert!((7..=8).contains(&beginnings) && took < Duration::from_secs(35), "{beginnings} in {took:?}");
    });
}

/// For how long the record does not answer is not the attempt's time.
#[test]
fn a_record_that_is_away_takes_nothing_of_an_attempts_wall_time() {
    in_paused_time(async {
        let work: Work = |guest| {
            async move {
                let counted = guest.sure(add("key", 1)).await?;
                guest.checkpoint().await?;
                guest.compute(1_000).await;
                Ok(text(&counted.value).to_owned())
            }
            .boxed()
        };
        let (world, record) = begun(work, Vec::new()).await;
        let host = world.host(&record, (2..60).map(|append| (append, Fault::Refuse(Kind::Unavailable))));
        assert_eq!(host.ask_until_told(&Request::call("worker")).await, Ok(Payload::text("1")));
    });
}

/// Whoever comes next waits for the key's lock, decides on what was handed over, and is written behind it; once that is in the
/// record, on the record.
#[test]
fn who_comes_next_decides_on_what_was_handed_over() {
    const LAG: Duration = Duration::from_millis(40);
    const RUNS: usize = 5;
    in_paused_time(async {
        let work: Work = |guest| {
            async move {
                let counted = guest.sure(add("key", 1)).await?;
                guest.compute(5).await;
                Ok(text(&counted.value).to_owned())
            }
            .boxed()
        };
        let (world, record) = begun(work, Vec::new()).await;
        let host = world.host_over(Line::new(&record, [], None).with_lag(LAG));
        let requests: Vec<Request> =
            (0..=RUNS).map(|n| Request { key: Some(format!("key-{n}")), ..Request::call("worker") }).collect();
        let begun = tokio::time::Instant::now();
        let answers = futures::future::join_all(requests[..RUNS].iter().map(|request| host.ask(request))).await;
        assert!(
            begun.elapsed() < 3 * LAG,
            "nobody waits until another's change is in the record: {:?}",
            begun.elapsed()
        );
        let mut counted: Vec<String> =
            answers.into_iter().map(|answer| text(&answer.unwrap().unwrap().bytes).to_owned()).collect();
        counted.sort_unstable();
        assert_eq!(counted, ["1", "2", "3", "4", "5"]);
        assert_eq!(host.sandbox.ran().len(), RUNS, "nobody worked in vain");
        change(&record, vec![value("key", record.next_revision(&tenant()).0, "100")]).await;
        assert_eq!(host.ask(&requests[RUNS]).await, Some(Ok(Payload::text("101"))));
        assert_eq!(host.sandbox.ran().len(), RUNS + 1);
    });
}
