//! A worker of twenty calls that ends badly at every one of them: three tries, on every record, with and without checkpoints, as the
//! step of a workflow, called alone, and as who handles an event, with hosts that die in between. What is true in the end is what
//! the attempt did that succeeded.
//!
//! To add a way in which the worker comes to be at work: a variant of [`Begun`]. `LTMC_TEST_CRASHES=500` plays more crashes on disk; the
//! seed of a play that fails is in what it says, and `LTMC_TEST_SEED` gives it again.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ltmc_model::call::messages::{Ack, Draft, Publish, Receive, Reject, Send};
use ltmc_model::call::{graph, memory, recall};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::graph::{AsOf, Direction, FactFilter};
use ltmc_model::memory::{Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::run::Target;
use ltmc_model::trigger::{Stage, Trigger, Verdict};
use ltmc_model::{AgentName, Payload};
use ltmc_ports::ReadTriggers as _;
use ltmc_ports::testing::Fault;
use ltmc_ports::testing::suite::InMemory;
use ltmc_ports::triggers::ArrivalFilter;
use serde_json::json;
use tokio::time::Instant;

use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, Request, World, caller, in_paused_time, is_ask_again, tenant};
use crate::records::{AnyRecord, Of, On, OnDisk};
use crate::triggers;
use crate::truth::{Truth, change, drawn_up_to, letter, note, truth};

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

const LAYOUTS: [Checkpoints; 5] = [&[], &[9], &[4, 13], &[2, 7, 13, 19], &[1, 2, 5, 10, 15, 19]];

/// How the worker comes to be at work, and who has it tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// As the step of a workflow, which has it tried again.
    Workflow,
    /// Called alone; people resume the call each time that it has failed.
    Call,
    /// An event starts the workflow.
    Event,
    /// An event starts the agent alone; people release the event each time that this has failed.
    EventAlone,
}

const EVERY_WAY: [Begun; 4] = [Begun::Workflow, Begun::Call, Begun::Event, Begun::EventAlone];

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

/// Some of everything, twenty calls in all, with reads that must see what was done before them.
async fn twenty(worker: Worker, guest: Guest) -> Result<Payload, Failure> {
    let number = worker.tries.fetch_add(1, Ordering::SeqCst) as usize;
    let ends = worker.ends_at.get(number).copied();
    let mut it = Try { guest: &guest, ends, checkpoints: worker.checkpoints, calls: 0 };
    let other: AgentName = "other".parse().unwrap();
    // What is its own is the same whichever session its run is of.
    let scope = Scope::Agent;
    let add = |by| memory::Update { scope, key: "count".into(), merge: Merge::Increment(by), ttl_ms: None };
    let put = |key: &str, value: &str| memory::Put {
        scope,
        key: key.into(),
        value: value.to_owned().into(),
        precondition: Precondition::Any,
        ttl_ms: None,
    };
    assert_eq!(it.call(add(5)).await?.value, "5");
    it.call(put("a", "1")).await?;
    let taken = it.call(Receive { limit: 1, wait_ms: 0 }).await?;
    assert_eq!(taken.len(), 1);
    it.call(Send { to: other.clone(), event: draft("first") }).await?;
    it.call(Ack { id: taken[0].id }).await?;
    it.call(relate("a", "b")).await?;
    it.call(recall::Remember { id: "new".into(), text: "The new note.".into(), metadata: Default::default() }).await?;
    let list = memory::List { scope, prefix: String::new(), cursor: None, limit: 10 };
    let keys: Vec<String> = it.call(list).await?.items.into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["a", "count"]);
    it.call(Publish { topic: "news".parse().unwrap(), event: draft("published") }).await?;
    let next = it.call(Receive { limit: 1, wait_ms: 0 }).await?;
    assert_eq!(next.len(), 1, "the one before is as good as gone");
    it.call(Reject { id: next[0].id, reason: "not mine".into() }).await?;
    it.call(relate("b", "c")).await?;
    assert!(it.call(recall::Forget { id: "old".into() }).await?);
    let search = recall::Search { query: "which note is there?".into(), filter: Default::default(), limit: 10 };
    let found = it.call(search).await?;
    let ids: Vec<&str> = found.hits.iter().map(|hit| hit.id.as_str()).collect();
    assert_eq!((ids, found.degraded), (vec!["new"], false));
    assert!(it.call(unrelate("a", "b")).await?);
    let filter = FactFilter {
        entity: Some("b".parse().unwrap()),
        direction: Direction::Both,
        relation: None,
        as_of: AsOf::default(),
        history: false,
        after: None,
        limit: 10,
    };
    assert_eq!(it.call(graph::Facts(filter)).await?.facts.len(), 1);
    assert!(it.call(memory::Delete { scope, key: "a".into(), precondition: Precondition::Any }).await?);
    it.call(Send { to: other, event: draft("second") }).await?;
    let count = it.call(add(6)).await?;
    it.call(put("done", text(&count.value))).await?;
    assert_eq!(it.calls, 20);
    Ok(Payload::json(&json!(text(&count.value))))
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

/// The subscription by which events begin the worker.
const FEED: &str = "feed";

impl Begun {
    /// Whether the worker may make these checkpoints and be whole after a failure: who has failed for good has given back what is in
    /// its hands, and whoever is begun anew begins with what is true.
    fn allows(self, checkpoints: Checkpoints) -> bool {
        match self {
            Self::Workflow | Self::Event => true,
            Self::Call => !checkpoints.iter().any(|at| [3, 4, 10].contains(at)),
            Self::EventAlone => checkpoints.is_empty(),
        }
    }

    /// The layouts that it allows.
    fn layouts(self) -> impl Iterator<Item = Checkpoints> {
        LAYOUTS.into_iter().filter(move |checkpoints| self.allows(checkpoints))
    }

    /// The record before anything is done: three messages wait for the worker, and there is a note.
    async fn record<F: On>(self, on: &F, world: &World) -> Arc<Of<F>> {
        let record = world.record_on(on, Some(DOCUMENT)).await;
        let start = match self {
            Self::Workflow | Self::Call => None,
            Self::Event => Some(Target::Workflow("tried".parse().unwrap())),
            Self::EventAlone => Some(Target::Agent("worker".parse().unwrap())),
        };
        if let Some(start) = start {
            triggers::key(&record, &tenant()).await;
            triggers::plant(&record, FEED, Trigger { start, ..triggers::trigger("worker") }).await;
        }
        change(&record, (1..=3).map(|id| letter(id, "alice")).chain([note("old", 4)]).collect()).await;
        drawn_up_to(&record, 100);
        record
    }

    /// What there is to do is told to the record, where it is an event; others are asked for.
    async fn begin<R: AnyRecord>(self, record: &Arc<R>, world: &World) {
        if matches!(self, Self::Event | Self::EventAlone) {
            triggers::publish(record, world, triggers::event(world, 1, "k", json!({}))).await;
        }
    }

    /// Sees to it, as clients and people do, that the worker comes to its end; false: the host is dead before.
    async fn is_brought_about<R: AnyRecord>(self, host: &Host<R>) -> bool {
        let begun_at = Instant::now();
        while !host.line.is_dead() {
            let is_done = match self {
                Self::Workflow => answered(host, &Request::workflow("tried")).await,
                Self::Call => answered(host, &Request::call("worker")).await,
                Self::Event | Self::EventAlone => handled(host).await,
            };
            if is_done {
                return true;
            }
            assert!(begun_at.elapsed() < Duration::from_secs(60), "{self:?} does not come to an end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

/// Asks once; a call that has failed is resumed.
async fn answered<R: AnyRecord>(host: &Host<R>, request: &Request) -> bool {
    match host.ask(request).await {
        Some(Ok(output)) => {
            assert_eq!(output, Payload::json(&json!("11")));
            true
        }
        Some(Err(failure)) if !is_ask_again(&failure) && !host.line.is_dead() => {
            assert_eq!(request.workflow, None, "a workflow's tries are enough: {failure:?}");
            let run = host.run().await.expect("it is there");
            // Where the host dies at that, the next one is asked.
            let resumed = host.runs.resume(&caller(), run).await;
            assert!(resumed.is_ok() || host.line.is_dead(), "{resumed:?}");
            false
        }
        _ => false,
    }
}

/// Whether the event has been dealt with; one that is parked is released.
async fn handled<R: AnyRecord>(host: &Host<R>) -> bool {
    let feed = FEED.parse().unwrap();
    let filter = ArrivalFilter { limit: 10, ..ArrivalFilter::default() };
    let left = host.record.arrivals(&tenant(), &filter).await.unwrap();
    for parked in left.iter().filter(|one| one.stage == Stage::Parked) {
        let released = host.triggers.settle(&caller(), &feed, parked.position, Verdict::Release).await;
        assert!(released.is_ok() || host.line.is_dead(), "{released:?}");
    }
    let row = host.record.trigger(&tenant(), &feed).await.unwrap().unwrap();
    left.is_empty() && row.started > 0 && row.under_way == 0
}

/// What is true in the end, and how many appends the first host made.
async fn play<F: On>(on: &F, begun: Begun, worker: &Worker, fault: Option<(u64, Fault)>) -> (Truth, u64) {
    let world = World::new(scripts(worker)).recalling();
    let record = begun.record(on, &world).await;
    let mut host = world.host(&record, fault);
    host.recalls().await;
    begun.begin(&record, &world).await;
    let mut is_done = begun.is_brought_about(&host).await;
    let appends = host.line.appends();
    if !is_done {
        drop(host);
        let left = on.crash(record).await;
        host = world.host(&left, []);
        host.recalls().await;
        host.runs.recover().await.unwrap();
        is_done = begun.is_brought_about(&host).await;
    }
    assert!(is_done, "the next host lives");
    while host.runs.alive() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (truth(&host.record).await, appends)
}

/// What is true where nothing goes wrong; and that this is what the worker is to do.
fn undisturbed<F: On>(begun: Begun) -> Truth {
    let (truth, _) = F::in_time(play(&F::default(), begun, &worker(&[], &[]), None));
    let text = |text: &str| text.to_owned();
    assert_eq!(truth.memory, BTreeMap::from([(text("count"), text("11")), (text("done"), text("11"))]));
    assert_eq!(truth.facts, [(text("a"), text("b"), false), (text("b"), text("c"), true)]);
    assert_eq!(truth.notes, [(text("new"), text("The new note."))]);
    let told = |agent: &str, kind: &str, dead| (text(agent), text(kind), false, dead);
    let mail = [
        told("other", "first", false),
        told("other", "second", false),
        told("worker", "sample.sent", true),
        told("worker", "sample.sent", false),
    ];
    assert_eq!(truth.mail, mail);
    assert_eq!(truth.published, ["published"]);
    truth
}

/// Whether a try that ends at `second` gets there after one that ended at `first`: what that made true is answered from the journal, up to
/// its last checkpoint.
fn follows(checkpoints: Checkpoints, first: u32, second: u32) -> bool {
    let kept = checkpoints.iter().filter(|at| **at < first).max().copied().unwrap_or(0);
    second > kept
}

/// Plays with two tries that end badly, and a third.
fn three_tries<F: On>(begun: Begun, checkpoints: Checkpoints, ends: [(u32, End); 2], undisturbed: &Truth) {
    let worker = worker(&ends, checkpoints);
    let (disturbed, _) = F::in_time(play(&F::default(), begun, &worker, None));
    assert_eq!(disturbed, *undisturbed, "{begun:?}: {ends:?}, checkpoints {checkpoints:?}");
    assert_eq!(worker.tries.load(Ordering::SeqCst), 3, "{begun:?}: {ends:?}, checkpoints {checkpoints:?}");
}

/// Of a step every two places, one after the other; of the others every place first, and of those that come second each fifth.
#[test]
fn what_is_true_is_what_the_attempt_did_that_succeeded() {
    let mut plays = 0_usize;
    for begun in EVERY_WAY {
        let undisturbed = undisturbed::<InMemory>(begun);
        for checkpoints in begun.layouts() {
            for first in 1..=20 {
                let is_played = |second: &u32| begun == Begun::Workflow || (first + second).is_multiple_of(5);
                let seconds = (1..=20).filter(|second| follows(checkpoints, first, *second));
                for second in seconds.filter(is_played) {
                    let ends = [(first, ENDS[plays % 3]), (second, ENDS[plays / 3 % 3])];
                    three_tries::<InMemory>(begun, checkpoints, ends, &undisturbed);
                    plays += 1;
                }
            }
        }
    }
}

/// On disk every place comes once, however the worker is begun.
#[test]
fn on_disk_too_it_is_what_the_attempt_did_that_succeeded() {
    let mut dice = Dice::new();
    let seed = dice.0;
    eprintln!("LTMC_TEST_SEED={seed}");
    for begun in EVERY_WAY {
        let undisturbed = undisturbed::<OnDisk>(begun);
        for first in 1..=20 {
            let checkpoints = dice.one_of(&begun.layouts().collect::<Vec<_>>());
            let seconds: Vec<u32> = (1..=20).filter(|second| follows(checkpoints, first, *second)).collect();
            let ends = [(first, dice.one_of(&ENDS)), (dice.one_of(&seconds), dice.one_of(&ENDS))];
            three_tries::<OnDisk>(begun, checkpoints, ends, &undisturbed);
        }
    }
}

/// Plays with a host that dies; whether it did.
fn crashed<F: On>(
    begun: Begun,
    checkpoints: Checkpoints,
    ends: &[(u32, End)],
    fault: (u64, Fault),
    undisturbed: &Truth,
) -> bool {
    let worker = worker(ends, checkpoints);
    let (disturbed, appends) = F::in_time(play(&F::default(), begun, &worker, Some(fault)));
    assert_eq!(disturbed, *undisturbed, "{begun:?}: {fault:?}, {ends:?}, checkpoints {checkpoints:?}");
    appends >= fault.0
}

const CRASHES: [Fault; 2] = [Fault::CrashBefore, Fault::CrashAfter];

#[test]
fn the_same_with_a_host_that_dies_in_between() {
    for begun in EVERY_WAY {
        let undisturbed = undisturbed::<InMemory>(begun);
        for checkpoints in begun.layouts() {
            for ends in [&[][..], &[(7, End::Error)], &[(16, End::Trap), (18, End::Error)]] {
                let died = |at: &u64| {
                    let dies = |how| crashed::<InMemory>(begun, checkpoints, ends, (*at, how), &undisturbed);
                    CRASHES.map(dies).contains(&true)
                };
                let appends = (1..).take_while(died).count();
                assert!(appends >= 2 + ends.len(), "{begun:?}: a run is at least two appends, here {appends}");
            }
        }
    }
}

/// On disk as many as there is time for.
#[test]
fn on_disk_too_a_host_that_dies_in_between_changes_nothing() {
    #[expect(clippy::disallowed_methods, reason = "the long proof is asked for by whoever runs it")]
    let plays: u32 = std::env::var("LTMC_TEST_CRASHES").ok().and_then(|plays| plays.parse().ok()).unwrap_or(40);
    let mut dice = Dice::new();
    let seed = dice.0;
    eprintln!("LTMC_TEST_SEED={seed}");
    let undisturbed = EVERY_WAY.map(undisturbed::<OnDisk>);
    let mut died = 0;
    for number in 1..=plays {
        let way = dice.one_of(&[0, 1, 2, 3]);
        let begun = EVERY_WAY[way];
        let checkpoints = dice.one_of(&begun.layouts().collect::<Vec<_>>());
        let first = dice.one_of(&(1..=20).collect::<Vec<_>>());
        let ends: Vec<(u32, End)> = (0..dice.roll(2)).map(|_| (first, dice.one_of(&ENDS))).collect();
        let fault = (1 + dice.roll(8), dice.one_of(&CRASHES));
        eprintln!("{number}: {begun:?}, {ends:?}, {checkpoints:?}, {fault:?}");
        died += u32::from(crashed::<OnDisk>(begun, checkpoints, &ends, fault, &undisturbed[way]));
    }
    assert!(died > 0, "no host died");
}

#[test]
fn the_same_where_the_record_refuses_what_it_was_decided_on() {
    for begun in EVERY_WAY {
        let undisturbed = undisturbed::<InMemory>(begun);
        for checkpoints in begun.layouts() {
            for at in 2..=12 {
                let stale = Fault::Refuse(ltmc_ports::Kind::Stale);
                let worker = worker(&[], checkpoints);
                let (disturbed, _) = in_paused_time(play(&InMemory, begun, &worker, Some((at, stale))));
                assert_eq!(disturbed, undisturbed, "{begun:?} at append {at}, {checkpoints:?}");
            }
        }
    }
}

/// Nothing of an attempt that nobody tries again is true, and what it took is back.
fn leaves_nothing<F: On>(begun: Begun, at: u32, end: End) {
    F::in_time(async {
        let on = F::default();
        let world = World::new(scripts(&worker(&[(at, end)], &[]))).recalling();
        let record = begun.record(&on, &world).await;
        let before = truth(&record).await;
        let host = world.host(&record, []);
        host.recalls().await;
        begun.begin(&record, &world).await;
        match begun {
            Begun::EventAlone => {
                let filter = ArrivalFilter { limit: 10, ..ArrivalFilter::default() };
                let is_parked = async || {
                    let left = record.arrivals(&tenant(), &filter).await.unwrap();
                    left.iter().any(|one| one.stage == Stage::Parked)
                };
                while !is_parked().await {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            _ => {
                let answer =
                    host.ask(&Request { key: None, ..Request::call("worker") }).await.expect("the end is told");
                assert!(answer.is_err(), "{answer:?}");
            }
        }
        assert_eq!(truth(&record).await, before, "{begun:?}: {end:?} at {at}");
    });
}

#[test]
fn an_attempt_that_fails_for_good_leaves_nothing_and_gives_back_what_it_took() {
    for begun in [Begun::Call, Begun::EventAlone] {
        for at in 1..=20 {
            for end in ENDS {
                leaves_nothing::<InMemory>(begun, at, end);
            }
            leaves_nothing::<OnDisk>(begun, at, ENDS[at as usize % 3]);
        }
    }
}

/// What is drawn at random, the same of one seed.
struct Dice(u64);

impl Dice {
    /// Of the seed that is asked for, or of any.
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a failing seed can be given again")]
        let given = std::env::var("LTMC_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        Self(given.unwrap_or_else(|| std::hash::RandomState::new().hash_one(0)))
    }

    /// 0 to `sides - 1`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_of<T: Clone>(&mut self, these: &[T]) -> T {
        these[self.roll(these.len() as u64) as usize].clone()
    }
}
