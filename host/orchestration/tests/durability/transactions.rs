//! An attempt is a transaction: wherever and however it fails, what is true in the end is what the attempt that succeeded did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ltmc_model::call::messages::{Ack, Draft, Publish, Receive, Reject, Send};
use ltmc_model::call::{graph, memory};
use ltmc_model::delta::Delta;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::graph::{AsOf, Direction, FactFilter, Walk};
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Scope;
use ltmc_model::merge::Merge;
use ltmc_model::message::Channel;
use ltmc_model::run::State;
use ltmc_model::{AgentName, Payload, Revision};
use ltmc_ports::testing::{Fault, MemoryRecord, sample};
use ltmc_ports::{Changes, WriteCatalog as _};
use serde_json::json;

use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, Request, World, caller, in_paused_time, is_ask_again, tenant};

/// How a try ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The agent says that it cannot, and that it may pass.
    Error,
    /// It breaks.
    Trap,
    /// It is out of wall time.
    Limit,
}

const ENDS: [End; 3] = [End::Error, End::Trap, End::Limit];

/// After which of its calls the worker makes a checkpoint.
type Checkpoints = &'static [u32];

const LAYOUTS: [Checkpoints; 4] = [&[], &[9], &[4, 13], &[1, 2, 5, 10, 15, 19]];

/// A worker of twenty calls; its try number `n` (from 1 on) ends at the call that stands at `n - 1`.
#[derive(Clone)]
struct Worker {
    ends_at: Arc<Vec<(u32, End)>>,
    checkpoints: Checkpoints,
    tries: Arc<AtomicU32>,
}

/// One try: counts its calls, and ends where it is told.
struct Try<'a> {
    guest: &'a Guest,
    ends: Option<(u32, End)>,
    checkpoints: Checkpoints,
    calls: u32,
}

impl Try<'_> {
    async fn call<C: ltmc_model::call::HostCall>(&mut self, call: C) -> Result<C::Reply, Failure> {
        self.calls += 1;
        if let Some((at, end)) = self.ends
            && at == self.calls
        {
            return Err(match end {
                End::Error => Failure::new(Code::AgentError, "not yet").retryable(),
                End::Trap => Failure::new(Code::AgentTrapped, "unreachable"),
                End::Limit => Failure::new(Code::LimitWall, "30 s are over"),
            });
        }
        let reply = self.guest.sure(call).await?;
        if self.checkpoints.contains(&self.calls) {
            self.guest.checkpoint().await?;
        }
        Ok(reply)
    }
}

pub(crate) fn draft(kind: &str) -> Draft {
    Draft { kind: kind.to_owned(), subject: None, data: Payload::text(kind), given: None }
}

pub(crate) fn add(key: &str, by: i64) -> memory::Update {
    memory::Update { scope: Scope::Session, key: key.into(), merge: Merge::Increment(by), ttl_ms: None }
}

pub(crate) fn relate(subject: &str, object: &str) -> graph::Relate {
    let (subject, relation, object) = (subject.parse().unwrap(), "needs".parse().unwrap(), object.parse().unwrap());
    graph::Relate { subject, relation, object, properties: String::new(), valid_from: None }
}

pub(crate) fn unrelate(subject: &str, object: &str) -> graph::Unrelate {
    let (subject, relation, object) = (subject.parse().unwrap(), "needs".parse().unwrap(), object.parse().unwrap());
    graph::Unrelate { subject, relation, object, valid_to: None }
}

fn walk() -> Walk {
    Walk { from: "a".parse().unwrap(), direction: Direction::Out, relation: None, depth: 4, as_of: AsOf::default() }
}

/// Some of everything, twenty calls in all, with reads that must see what was done before them.
async fn twenty(worker: Worker, guest: Guest) -> Result<Payload, Failure> {
    let number = worker.tries.fetch_add(1, Ordering::SeqCst) as usize;
    let ends = worker.ends_at.get(number).copied();
    let mut it = Try { guest: &guest, ends, checkpoints: worker.checkpoints, calls: 0 };
    let other: AgentName = "other".parse().unwrap();
    let put = |key: &str, value: &str| memory::Put {
        scope: Scope::Session,
        key: key.into(),
        value: value.to_owned().into(),
        precondition: ltmc_model::memory::Precondition::Any,
        ttl_ms: None,
    };
    let get = |key: &str| memory::Get { scope: Scope::Session, key: key.into() };
    assert_eq!(it.call(add("count", 5)).await?.value, "5");
    it.call(put("a", "1")).await?;
    let taken = it.call(Receive { limit: 1, wait_ms: 0 }).await?;
    assert_eq!(taken.len(), 1);
    it.call(Send { to: other.clone(), event: draft("first") }).await?;
    assert_eq!(it.call(add("count", 5)).await?.value, "10");
    it.call(Ack { id: taken[0].id }).await?;
    it.call(relate("a", "b")).await?;
    it.call(relate("b", "c")).await?;
    let list = memory::List { scope: Scope::Session, prefix: String::new(), cursor: None, limit: 10 };
    let keys: Vec<String> = it.call(list).await?.items.into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["a", "count"]);
    it.call(Publish { topic: "news".parse().unwrap(), event: draft("published") }).await?;
    let next = it.call(Receive { limit: 1, wait_ms: 0 }).await?;
    assert_eq!(next.len(), 1, "the one before is as good as gone");
    it.call(Reject { id: next[0].id, reason: "not mine".into() }).await?;
    assert_eq!(it.call(graph::Reach(walk())).await?.facts.len(), 2);
    assert!(it.call(unrelate("a", "b")).await?);
    let filter = FactFilter {
        entity: Some("a".parse().unwrap()),
        direction: Direction::Both,
        relation: None,
        as_of: AsOf::default(),
        history: false,
        after: None,
        limit: 10,
    };
    assert_eq!(it.call(graph::Facts(filter)).await?.facts.len(), 0);
    let deleted =
        memory::Delete { scope: Scope::Session, key: "a".into(), precondition: ltmc_model::memory::Precondition::Any };
    assert!(it.call(deleted).await?);
    assert_eq!(it.call(get("a")).await?, None);
    it.call(Send { to: other, event: draft("second") }).await?;
    let count = it.call(add("count", 1)).await?;
    it.call(put("done", text(&count.value))).await?;
    assert_eq!(it.calls, 20);
    Ok(Payload::json(&json!(text(&count.value))))
}

/// What is true of everything that the worker touches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    memory: BTreeMap<String, String>,
    /// Facts that were ever told: subject, object, whether it holds.
    facts: Vec<(String, String, bool)>,
    /// Messages: whose mailbox, kind, whether in anybody's hands, whether dead.
    mail: Vec<(String, String, bool, bool)>,
    published: Vec<String>,
}

pub(crate) fn truth(record: &MemoryRecord) -> Truth {
    record.context(|context| {
        let memory = context.memory.iter();
        let memory = memory.map(|((_, _, key), item)| (key.clone(), text(&item.value).to_owned())).collect();
        let facts = context.facts.values();
        let facts =
            facts.map(|fact| (fact.subject.to_string(), fact.object.to_string(), fact.valid_to.is_none())).collect();
        let mail = context.mail.iter().map(|((_, agent, _), kept)| {
            let kind = kept.message.event.kind.clone();
            (agent.to_string(), kind, kept.taken.is_some(), kept.dead.is_some())
        });
        let published = context.topics.values().map(|event| event.kind.clone()).collect();
        Truth { memory, facts, mail: mail.collect(), published }
    })
}

fn worker(ends_at: &[(u32, End)], checkpoints: Checkpoints) -> Worker {
    Worker { ends_at: Arc::new(ends_at.to_vec()), checkpoints, tries: Arc::default() }
}

fn scripts(worker: &Worker) -> Vec<Script> {
    let worker = worker.clone();
    let twenty = agent("worker", move |guest| twenty(worker.clone(), guest));
    vec![twenty, agent("other", |guest| async move { Ok(guest.job.input.clone()) })]
}

const DOCUMENT: &str = "name: tried\nflow: {sequence: [{agent: worker, retry: {attempts: 4, backoff: 1ms}}]}";

/// A record in which three messages wait for the worker.
async fn record(world: &World) -> Arc<MemoryRecord> {
    let record = world.record(Some(DOCUMENT)).await;
    send(&record, (1..=3).map(|id| letter(id, "alice")).collect()).await;
    // Drawn by nobody else again.
    while ltmc_ports::WriteJournal::next_revision(&*record) < Revision(100) {}
    record
}

/// A message to the worker.
fn letter(id: u64, sender: &str) -> Delta {
    let delta = sample::sent(Channel::Mailbox("worker".parse().unwrap()), id, "work");
    let Delta::Sent(mut message) = delta else { unreachable!("a message is sent") };
    message.event.source = format!("/agents/{sender}");
    Delta::Sent(message)
}

async fn send(record: &MemoryRecord, deltas: Vec<Delta>) {
    let change = Change::Context {
        call: "messages.send".into(),
        about: String::new(),
        request: ltmc_model::Digest::of(b"seed"),
    };
    let act = Act { by: None, change };
    record.act_with(&tenant(), sample::at(0), act, Changes::blind(deltas)).await.unwrap();
}

async fn play(worker: &Worker, faults: Option<(u64, Fault)>) -> (Truth, u64) {
    let world = World::new(scripts(worker));
    let record = record(&world).await;
    let mut host = world.host(&record, faults);
    let request = Request::workflow("tried");
    let mut answer = host.ask(&request).await;
    if host.line.is_dead() {
        let left = host.record.crash();
        let next = world.host(&left, []);
        next.runs.recover().await.unwrap();
        answer = Some(next.ask_until_told(&request).await);
        host = next;
    } else if answer.as_ref().is_some_and(|answer| answer.as_ref().is_err_and(is_ask_again)) {
        answer = Some(host.ask_until_told(&request).await);
    }
    let answer = answer.expect("the end is told");
    assert_eq!(answer, Ok(Payload::json(&json!("11"))), "{:?}", worker.ends_at);
    assert_eq!(host.runs.alive(), 0);
    (truth(&host.record), host.line.appends())
}

#[test]
fn what_is_true_is_what_the_attempt_did_that_succeeded() {
    let undisturbed = in_paused_time(play(&worker(&[], &[]), None)).0;
    assert_eq!(undisturbed.memory, BTreeMap::from([("count".into(), "11".into()), ("done".into(), "11".into())]));
    assert_eq!(undisturbed.facts, [("a".into(), "b".into(), false), ("b".into(), "c".into(), true)]);
    let told = |agent: &str, kind: &str, dead| (agent.to_owned(), kind.to_owned(), false, dead);
    let mail = [
        told("other", "first", false),
        told("other", "second", false),
        told("worker", "sample.sent", true),
        told("worker", "sample.sent", false),
    ];
    assert_eq!(undisturbed.mail, mail);
    assert_eq!(undisturbed.published, ["published"]);
    let mut plays = 0_u32;
    for checkpoints in LAYOUTS {
        for first in 1..=20 {
            // What a try before made true is answered from the journal, up to its last checkpoint.
            let kept = checkpoints.iter().filter(|at| **at < first).max().copied().unwrap_or(0);
            for second in (kept + 1)..=20 {
                let end = ENDS[plays as usize % ENDS.len()];
                let worker = worker(&[(first, end), (second, ENDS[(plays / 3) as usize % ENDS.len()])], checkpoints);
                let (disturbed, _) = in_paused_time(play(&worker, None));
                assert_eq!(disturbed, undisturbed, "{end:?} at {first} and {second}, checkpoints {checkpoints:?}");
                assert_eq!(worker.tries.load(Ordering::SeqCst), 3);
                plays += 1;
            }
        }
    }
}

#[test]
fn the_same_with_a_host_that_dies_in_between() {
    let undisturbed = in_paused_time(play(&worker(&[], &[]), None)).0;
    for checkpoints in LAYOUTS {
        for first in [None, Some(7), Some(16)] {
            for at in 1.. {
                let mut crashed = false;
                for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                    let ends: Vec<_> = first.map(|at| (at, End::Error)).into_iter().collect();
                    let worker = worker(&ends, checkpoints);
                    let (disturbed, appends) = in_paused_time(play(&worker, Some((at, fault))));
                    crashed |=
                        worker.tries.load(Ordering::SeqCst) > 1 + u32::try_from(ends.len()).unwrap() || appends >= at;
                    assert_eq!(disturbed, undisturbed, "{fault:?} at append {at}, {first:?}, {checkpoints:?}");
                }
                if !crashed || at > 40 {
                    break;
                }
            }
        }
    }
}

#[test]
fn the_same_where_the_record_refuses_what_it_was_decided_on() {
    let undisturbed = in_paused_time(play(&worker(&[], &[]), None)).0;
    for checkpoints in LAYOUTS {
        for at in 2..=12 {
            let stale = Fault::Refuse(ltmc_ports::Kind::Stale);
            let (disturbed, _) = in_paused_time(play(&worker(&[], checkpoints), Some((at, stale))));
            assert_eq!(disturbed, undisturbed, "at append {at}, {checkpoints:?}");
        }
    }
}

/// A host whose run has ended badly.
async fn ended_badly(world: &World, record: &Arc<MemoryRecord>, request: &Request) -> Host {
    let host = world.host(record, []);
    let answer = host.ask(request).await.expect("the end is told");
    assert!(answer.is_err(), "{answer:?}");
    host
}

#[test]
fn an_attempt_that_fails_for_good_leaves_nothing_and_gives_back_what_it_took() {
    for end in ENDS {
        for at in 1..=20 {
            in_paused_time(async {
                let world = World::new(scripts(&worker(&[(at, end)], &[])));
                let record = record(&world).await;
                let before = truth(&record);
                ended_badly(&world, &record, &Request { key: None, ..Request::call("worker") }).await;
                assert_eq!(truth(&record), before, "{end:?} at {at}");
            });
        }
    }
}

#[test]
fn a_cancelled_attempt_leaves_nothing_and_gives_back_what_it_took() {
    in_paused_time(async {
        let slow = agent("worker", |guest| async move {
            guest.sure(add("count", 5)).await?;
            let taken = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
            guest.sure(Ack { id: taken[0].id }).await?;
            guest.compute(3_600_000).await;
            Ok(guest.job.input.clone())
        });
        let world = World::new([slow]);
        let record = record(&world).await;
        let before = truth(&record);
        let host = world.host(&record, []);
        let started = host.start(&Request::call("worker")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_ne!(truth(&record), before, "the message is in its hands");
        assert!(truth(&record).memory.is_empty(), "what it counted is its own");
        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert_eq!(truth(&record), before);
        let run = host.runs.get(&caller(), started.run).await.unwrap();
        assert_eq!(run.state, State::Cancelled);
    });
}

/// The next try, which goes on from a checkpoint, is to the guest the one before: it has the same number and seed, and in its
/// hands what was in its hands.
#[test]
fn the_next_try_is_to_the_guest_the_one_before() {
    in_paused_time(async {
        let tries = Arc::new(AtomicU32::new(0));
        let count = tries.clone();
        let worker = agent("worker", move |guest| {
            let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                guest.put("seen", format!("{} {:?}", guest.job.attempt, guest.job.seed)).await?;
                let taken = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
                guest.sure(Ack { id: taken[0].id }).await?;
                assert_eq!(
                    guest.cross(Ack { id: taken[0].id }).await?,
                    Err(Refusal::NotFound),
                    "it is as good as gone"
                );
                let kept = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
                guest.checkpoint().await?;
                if is_first {
                    return Err(Failure::new(Code::AgentTrapped, "unreachable"));
                }
                let again = guest.cross(Ack { id: taken[0].id }).await?;
                assert_eq!(again, Err(Refusal::NotFound), "it is gone");
                guest.sure(Ack { id: kept[0].id }).await?;
                Ok(guest.job.input.clone())
            }
        });
        let world = World::new([worker]);
        let record = record(&world).await;
        let answer = world.host(&record, []).ask(&Request::workflow("tried")).await;
        assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
        assert_eq!(tries.load(Ordering::SeqCst), 2);
        assert_eq!(truth(&record).mail.len(), 1);
    });
}

/// Others see what an attempt did as soon as it has made a checkpoint, or waits for them.
#[test]
fn a_checkpoint_shows_what_was_done_at_once() {
    in_paused_time(async {
        let worker = agent("worker", |guest| async move {
            guest.put("one", 1).await?;
            guest.checkpoint().await?;
            guest.compute(10).await;
            guest.put("two", 2).await?;
            guest.sure(Receive { limit: 1, wait_ms: 10_000 }).await?;
            Ok(guest.job.input.clone())
        });
        let world = World::new([worker]);
        let record = world.record(None).await;
        let host = world.host(&record, []);
        host.start(&Request::call("worker")).await.unwrap();
        let keys = || truth(&record).memory.into_keys().collect::<Vec<_>>();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(keys(), ["one"]);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(keys(), ["one", "two"]);
        send(&record, vec![letter(1_000, "alice")]).await;
    });
}

/// More than an attempt may change at once is refused, and a checkpoint in between makes room.
#[test]
fn what_an_attempt_changes_between_two_checkpoints_is_bounded() {
    for checkpoints in [false, true] {
        in_paused_time(async {
            let worker = agent("worker", move |guest| async move {
                for number in 0..70 {
                    guest.put(format!("{number}"), "x".repeat(1 << 20)).await?;
                    if checkpoints && number == 35 {
                        guest.checkpoint().await?;
                    }
                }
                Ok(guest.job.input.clone())
            });
            let world = World::new([worker]);
            let record = world.record(None).await;
            let answer = world.host(&record, []).ask(&Request::call("worker")).await.expect("the end is told");
            match answer {
                Ok(_) => assert!(checkpoints),
                Err(failure) => assert_eq!((failure.code, checkpoints), (Code::LimitResources, false), "{failure:?}"),
            }
            assert_eq!(truth(&record).memory.len(), if checkpoints { 70 } else { 0 });
        });
    }
}

/// Whatever it took, before a checkpoint or after it, and did not acknowledge, waits again once its step is over.
#[test]
fn what_is_in_hands_at_the_end_goes_back_however_that_comes() {
    for end in ["completed", "failed", "cancelled"] {
        in_paused_time(async {
            let taker = agent("worker", |guest| async move {
                for _ in 0..2 {
                    assert_eq!(guest.sure(Receive { limit: 1, wait_ms: 0 }).await?.len(), 1);
                    guest.checkpoint().await?;
                }
                assert_eq!(guest.sure(Receive { limit: 1, wait_ms: 0 }).await?.len(), 1);
                match text(&guest.job.input.bytes) {
                    "completed" => Ok(guest.job.input.clone()),
                    "failed" => Err(Failure::new(Code::AgentTrapped, "unreachable")),
                    _ => {
                        guest.compute(3_600_000).await;
                        Ok(guest.job.input.clone())
                    }
                }
            });
            let world = World::new([taker]);
            let record = record(&world).await;
            // Of one sender a message is handed out after the other.
            send(&record, [(4, "bob"), (5, "carol")].map(|(id, sender)| letter(id, sender)).to_vec()).await;
            let before = truth(&record);
            let host = world.host(&record, []);
            let started = host.start(&Request { input: Payload::text(end), ..Request::call("worker") }).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            if end == "cancelled" {
                assert_eq!(truth(&record).mail.iter().filter(|(_, _, is_taken, _)| *is_taken).count(), 3);
                host.runs.cancel(&caller(), started.run).await.unwrap();
            }
            let run = host.runs.get(&caller(), started.run).await.unwrap();
            assert_eq!(run.state.as_str(), end);
            assert_eq!(truth(&record), before, "{end}");
        });
    }
}

#[test]
fn many_who_count_the_same_thing_at_once_count_each_once() {
    const RUNS: usize = 24;
    in_paused_time(async {
        let counter = agent("worker", |guest| async move {
            let before = guest.get("shared").await?;
            guest.compute(2).await;
            let number = before.map_or(0, |item| text(&item.value).parse::<u64>().unwrap()) + 1;
            // Whatever stands there by now: what was read is expected to.
            guest.put("shared", number).await?;
            guest.sure(add("added", 1)).await?;
            Ok(Payload::text(number.to_string()))
        });
        let world = World::new([counter]);
        // Two hosts over one record, without locks in common.
        let record = record(&world).await;
        let hosts = [world.host(&record, []), world.host(&record, [])];
        let requests: Vec<_> =
            (0..RUNS).map(|number| Request { key: Some(format!("key-{number}")), ..Request::call("worker") }).collect();
        let asked = requests.iter().enumerate().map(|(number, request)| hosts[number % 2].ask_until_told(request));
        let mut numbers: Vec<usize> = futures::future::join_all(asked)
            .await
            .into_iter()
            .map(|answer| text(&answer.unwrap().bytes).parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=RUNS).collect::<Vec<_>>());
        assert_eq!(truth(&record).memory["added"], RUNS.to_string());
    });
}
