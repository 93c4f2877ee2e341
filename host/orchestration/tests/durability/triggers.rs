//! Events that start runs: each one run, whoever is there and whatever dies; what fails holds up its own key alone; what follows from itself ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::call::messages as call;
use ltmc_model::caller::Role;
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::filter::Filter;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::memory::{Precondition, Scope};
use ltmc_model::message::{self, Channel, Message, Trail};
use ltmc_model::run::{State, Target};
use ltmc_model::tenancy::Key;
use ltmc_model::trigger::{Feed, OnPoison, Planted, Stage, Trigger, TriggerId, Verdict};
use ltmc_model::workflow::Document;
use ltmc_model::{Digest, KeyId, Payload, Position, Seq, TenantId, call as calls};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::{Fault, MemoryRecord, sample};
use ltmc_ports::triggers::{ArrivalFilter, StoredTrigger};
use ltmc_ports::{Bus as _, Changes, Kind, ReadJournal as _, ReadTriggers as _};
use ltmc_tenancy::Error;
use serde_json::{Value, json};

use crate::guest::{Guest, Script, agent};
use crate::host::{World, caller, in_paused_time, tenant};
use crate::records::AnyRecord;
use crate::story::Story;

pub(crate) const TOPIC: &str = "orders";

/// Notes each event once; a second time is a failure. One that says so fails. Takes `work`.
pub(crate) fn note(work: Duration) -> Script {
    agent("note", move |guest: Guest| async move {
        let input: Value = serde_json::from_slice(&guest.job.input.bytes).unwrap();
        if input["data"]["fail"] == true {
            return Err(Failure::new(Code::AgentError, "a poisonous event".to_owned()));
        }
        let key = format!("noted/{}", input["data"]["n"]);
        let (scope, precondition) = (Scope::Agent, Precondition::Absent);
        let noted =
            guest.cross(calls::memory::Put { scope, key, value: "1".into(), precondition, ttl_ms: None }).await?;
        noted.map_err(|refusal| Failure::new(Code::AgentError, format!("noted already: {refusal:?}")))?;
        tokio::time::sleep(work).await;
        Ok(Payload::json(&input["data"]["n"]))
    })
}

pub(crate) fn trigger(start: &str) -> Trigger {
    Trigger {
        feed: Feed::Topic(TOPIC.parse().unwrap()),
        filter: None,
        start: Target::Agent(start.parse().unwrap()),
        at_once: 4,
        on_poison: OnPoison::ParkKey,
        rate: None,
        gather: None,
    }
}

pub(crate) fn id(name: &str) -> TriggerId {
    name.parse().unwrap()
}

async fn act<R: AnyRecord>(record: &Arc<R>, of: &TenantId, by: Option<KeyId>, change: Change) {
    record.act(of, sample::at(0), Act { by, change }).await.unwrap();
}

pub(crate) async fn key<R: AnyRecord>(record: &Arc<R>, of: &TenantId) {
    let key = Key {
        id: caller().key,
        tenant: of.clone(),
        role: Role::Author,
        hash: [1; 32],
        created_at: sample::at(0),
        expires_at: None,
        revoked_at: None,
    };
    act(record, &TenantId::host(), None, Change::KeyCreated(key)).await;
}

/// A record in which this subscription was put by the caller's key.
pub(crate) async fn record(world: &World, name: &str, trigger: Trigger) -> Arc<MemoryRecord> {
    let record = world.record(None).await;
    key(&record, &tenant()).await;
    plant(&record, name, trigger).await;
    record
}

pub(crate) async fn plant<R: AnyRecord>(record: &Arc<R>, name: &str, trigger: Trigger) {
    let planted = Box::new(Planted { trigger, after: Position(0) });
    act(record, &tenant(), Some(caller().key), Change::SubscriptionPut { id: id(name), planted }).await;
}

/// An event as a client sends it.
pub(crate) fn event(world: &World, number: u64, key: &str, data: Value) -> message::Event {
    message::Event {
        id: format!("e{number}"),
        source: "/shop".into(),
        kind: "order.paid".into(),
        subject: None,
        time: world.clock().now(),
        data: Payload::json(&data),
        attributes: [(message::Event::KEY.to_owned(), key.to_owned())].into(),
        trail: None,
    }
}

pub(crate) async fn publish<R: AnyRecord>(record: &Arc<R>, world: &World, event: message::Event) {
    publish_for(record, world, &tenant(), event).await;
}

pub(crate) async fn publish_for<R: AnyRecord>(record: &Arc<R>, world: &World, of: &TenantId, event: message::Event) {
    let id = record.next_revision(of);
    let sent = Delta::Sent(Message { id, channel: Channel::Topic(TOPIC.parse().unwrap()), event });
    let change = Change::Context { call: "messages.publish".into(), about: TOPIC.into(), request: Digest::of(b"") };
    let act = Act { by: Some(caller().key), change };
    record.act_with(of, world.clock().now(), act, Changes::blind(vec![sent])).await.unwrap();
}

pub(crate) async fn row(record: &MemoryRecord, name: &str) -> StoredTrigger {
    record.trigger(&tenant(), &id(name)).await.unwrap().unwrap()
}

/// Every run that an event started: where that stands, and how the run stands; no two have the same event.
pub(crate) async fn runs(record: &MemoryRecord, of: &TenantId) -> BTreeMap<(TriggerId, Position), State> {
    let filter = RunFilter { limit: 10_000, ..RunFilter::default() };
    let mut found = BTreeMap::new();
    for run in record.runs(of, &filter).await.unwrap() {
        let journal = record.entries(of, run.id, Seq(0), 10_000).await.unwrap();
        Story::of(&journal);
        let Event::RunStarted(started) = &journal[0].entry.event else { panic!("a run begins with its start") };
        let Some(arrived) = started.follows.as_ref().and_then(|follows| follows.arrived.clone()) else { continue };
        assert_eq!(started.by, caller().key);
        let place = (arrived.subscription, arrived.position);
        assert_eq!(found.insert(place.clone(), run.state), None, "a second run by {place:?}");
    }
    found
}

/// What is not dealt with, by place.
pub(crate) async fn arrivals(record: &MemoryRecord) -> Vec<(u64, Stage, Option<String>)> {
    let filter = ArrivalFilter { limit: 10_000, ..ArrivalFilter::default() };
    let found = record.arrivals(&tenant(), &filter).await.unwrap();
    found.into_iter().map(|one| (one.position.0, one.stage, one.reason)).collect()
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_event_that_fits_starts_one_run_at_once() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let fits = Trigger {
            filter: Some(Filter::parse("{all: [{prefix: {type: order.}}, {pick: $.data.n, less: 8}]}").unwrap()),
            ..trigger("note")
        };
        let host = world.host(&record(&world, "feed", fits).await, []);
        for n in 0..10 {
            publish(&host.record, &world, event(&world, n, &format!("k{}", n % 3), json!({"n": n}))).await;
        }
        tokio::time::sleep(SECOND).await;
        let ran = runs(&host.record, &tenant()).await;
        assert_eq!((ran.len(), ran.values().all(|state| *state == State::Completed)), (8, true), "{ran:?}");
        let row = row(&host.record, "feed").await;
        assert_eq!((row.started, row.waiting, row.under_way, row.dead, row.trouble), (8, 0, 0, 0, None));
        assert_eq!(row.position, row.newest);
        assert!(arrivals(&host.record).await.is_empty());
    });
}

#[test]
fn each_event_starts_one_run_wherever_a_host_dies() {
    const EVENTS: u64 = 3;
    let going = async |world: &World, record: &Arc<MemoryRecord>| {
        for n in 0..EVENTS {
            publish(record, world, event(world, n, &format!("k{}", n % 2), json!({"n": n}))).await;
        }
    };
    let undisturbed = in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let host = world.host(&record(&world, "feed", trigger("note")).await, []);
        going(&world, &host.record).await;
        tokio::time::sleep(SECOND * 30).await;
        host.line.appends()
    });
    assert!(undisturbed >= EVENTS * 2, "{undisturbed} appends");
    for at in 1..=undisturbed {
        for how in [Fault::CrashBefore, Fault::CrashAfter, Fault::TimeOut, Fault::Refuse(Kind::Unavailable)] {
            for left_all in [false, true] {
                in_paused_time(async {
                    let world = World::new([note(Duration::from_millis(5))]);
                    let first = world.host(&record(&world, "feed", trigger("note")).await, [(at, how)]);
                    going(&world, &first.record).await;
                    for _ in 0..30 {
                        if first.line.is_dead() {
                            break;
                        }
                        tokio::time::sleep(SECOND).await;
                    }
                    let record = match (first.line.is_dead(), left_all) {
                        (true, false) => first.record.crash(),
                        (true, true) => first.record.copy(),
                        (false, _) => first.record.clone(),
                    };
                    drop(first);
                    let next = world.host(&record, []);
                    next.runs.recover().await.unwrap();
                    tokio::time::sleep(SECOND * 60).await;
                    let ran = runs(&record, &tenant()).await;
                    let done = ran.values().all(|state| *state == State::Completed);
                    assert_eq!((ran.len() as u64, done), (EVENTS, true), "append {at}, {how:?}: {ran:?}");
                    assert!(arrivals(&record).await.is_empty());
                });
            }
        }
    }
}

#[test]
fn of_two_hosts_one_starts_each_event() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let record = record(&world, "feed", trigger("note")).await;
        let delays = (1..200).step_by(2).map(|at| (at, Fault::Delay(Duration::from_millis(300))));
        let hosts = [world.host(&record, delays), world.host(&record, [])];
        for n in 0..30 {
            publish(&record, &world, event(&world, n, &format!("k{}", n % 5), json!({"n": n}))).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(SECOND * 120).await;
        let ran = runs(&record, &tenant()).await;
        assert_eq!((ran.len(), ran.values().all(|state| *state == State::Completed)), (30, true), "{ran:?}");
        let times = hosts.iter().map(|host| host.sandbox.ran().len()).sum::<usize>();
        assert_eq!(times, 30, "nothing was begun twice");
    });
}

#[test]
fn a_second_event_of_the_same_source_and_id_starts_nothing() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let host = world.host(&record(&world, "feed", trigger("note")).await, []);
        for _ in 0..3 {
            publish(&host.record, &world, event(&world, 1, "k", json!({"n": 1}))).await;
        }
        let other = message::Event { source: "/other".into(), ..event(&world, 1, "k", json!({"n": 2})) };
        publish(&host.record, &world, other).await;
        tokio::time::sleep(SECOND).await;
        let row = row(&host.record, "feed").await;
        assert_eq!((row.started, row.duplicates), (2, 2));
        assert_eq!(runs(&host.record, &tenant()).await.len(), 2);
    });
}

#[test]
fn only_so_many_runs_are_under_way_and_those_of_a_key_one_after_the_other() {
    in_paused_time(async {
        let world = World::new([note(SECOND)]);
        let two = Trigger { at_once: 2, ..trigger("note") };
        let host = world.host(&record(&world, "feed", two).await, []);
        for n in 0..6 {
            publish(&host.record, &world, event(&world, n, &format!("k{}", n % 3), json!({"n": n}))).await;
        }
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(row(&host.record, "feed").await.under_way <= 2);
        }
        tokio::time::sleep(SECOND * 20).await;
        let filter = RunFilter { limit: 100, ..RunFilter::default() };
        let mut by_key: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for run in host.record.runs(&tenant(), &filter).await.unwrap() {
            let journal = host.journal(run.id).await;
            let Event::RunStarted(started) = &journal[0].entry.event else { panic!() };
            let input: Value = serde_json::from_slice(&started.input.bytes).unwrap();
            let key = input["partitionkey"].as_str().unwrap().to_owned();
            by_key.entry(key).or_default().push((run.created_at.millis(), run.updated_at.millis()));
        }
        assert_eq!(by_key.len(), 3);
        for times in by_key.values_mut() {
            times.sort_unstable();
            assert_eq!(times.len(), 2);
            assert!(times[0].1 <= times[1].0, "two runs of a key at once: {times:?}");
        }
    });
}

#[test]
fn a_poisonous_event_holds_up_its_own_key_alone_until_somebody_decides() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let host = world.host(&record(&world, "feed", trigger("note")).await, []);
        publish(&host.record, &world, event(&world, 0, "bad", json!({"n": 0, "fail": true}))).await;
        for n in 1..20 {
            let key = if n % 2 == 0 { "bad" } else { "good" };
            publish(&host.record, &world, event(&world, n, key, json!({"n": n}))).await;
        }
        tokio::time::sleep(SECOND * 5).await;
        let left = arrivals(&host.record).await;
        assert_eq!((left.len(), left[0].1), (10, Stage::Parked), "{left:?}");
        assert!(left[0].2.as_ref().unwrap().contains("a poisonous event"), "{left:?}");
        assert!(left[1..].iter().all(|one| one.1 == Stage::Waiting));
        let position = Position(left[0].0);
        // It fails again.
        host.triggers.settle(&caller(), &id("feed"), position, Verdict::Release).await.unwrap();
        tokio::time::sleep(SECOND * 5).await;
        assert_eq!(arrivals(&host.record).await[0].1, Stage::Parked);
        host.triggers.settle(&caller(), &id("feed"), position, Verdict::Skip).await.unwrap();
        let again = host.triggers.settle(&caller(), &id("feed"), position, Verdict::Skip).await;
        assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
        tokio::time::sleep(SECOND * 5).await;
        assert!(arrivals(&host.record).await.is_empty());
        assert_eq!(row(&host.record, "feed").await.started, 19 + 2);
    });
}

#[test]
fn where_it_says_so_a_poisonous_event_is_passed_over_and_listed() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let skip = Trigger { on_poison: OnPoison::Skip, ..trigger("note") };
        let host = world.host(&record(&world, "feed", skip).await, []);
        for n in 0..10 {
            publish(&host.record, &world, event(&world, n, "k", json!({"n": n, "fail": n == 3}))).await;
        }
        tokio::time::sleep(SECOND * 5).await;
        let left = arrivals(&host.record).await;
        assert_eq!((left.len(), left[0].1), (1, Stage::Dead), "{left:?}");
        assert_eq!(row(&host.record, "feed").await.started, 10);
    });
}

/// Each answers what it is told, on the other's topic, as often as it is told to.
pub(crate) fn answering(name: &'static str, to: &'static str, times: usize) -> Script {
    agent(name, move |guest: Guest| async move {
        for n in 0..times {
            let data = Payload::json(&json!({ "n": n, "hops": 0, "correlation": "forged" }));
            let draft = call::Draft { kind: "said".into(), subject: None, data, given: None };
            guest.sure(call::Publish { topic: to.parse().unwrap(), event: draft }).await?;
        }
        Ok(Payload::json(&json!(null)))
    })
}

#[test]
fn agents_that_answer_each_others_events_are_stopped_and_told_why() {
    in_paused_time(async {
        let world = World::new([answering("ping", "pong", 1), answering("pong", TOPIC, 1)]);
        let record = record(&world, "ping", trigger("ping")).await;
        plant(&record, "pong", Trigger { feed: Feed::Topic("pong".parse().unwrap()), ..trigger("pong") }).await;
        let host = world.host(&record, []);
        publish(&record, &world, event(&world, 1, "k", json!({}))).await;
        tokio::time::sleep(SECOND * 60).await;
        let ran = runs(&record, &tenant()).await;
        assert_eq!(ran.len(), 11, "one by the first, and ten that follow");
        let left = arrivals(&record).await;
        assert_eq!((left.len(), left[0].1), (1, Stage::Dead), "{left:?}");
        assert!(left[0].2.as_ref().unwrap().starts_with("loop: 11 events"), "{left:?}");
        let pong = record.events(&tenant(), &"pong".parse().unwrap(), Position(0), 100).await.unwrap().events;
        let trails: Vec<&Trail> = pong.iter().map(|one| one.event.trail.as_deref().unwrap()).collect();
        assert!(trails.iter().all(|trail| trail.correlation == "/shop e1"), "{trails:?}");
        assert_eq!(trails.iter().map(|trail| trail.hops).collect::<Vec<_>>(), [1, 3, 5, 7, 9, 11]);
        assert_eq!(trails[0].causation, "/shop e1");
        assert_eq!(host.runs.alive(), 0);
    });
}

#[test]
fn a_storm_of_events_that_each_make_two_ends() {
    in_paused_time(async {
        let world = World::new([answering("echo", TOPIC, 2)]);
        let wide = Trigger { at_once: 100, on_poison: OnPoison::Skip, ..trigger("echo") };
        let record = record(&world, "feed", wide).await;
        let host = world.host(&record, []);
        // One that follows from seven others already.
        let trail = Trail { correlation: "/shop e0".into(), causation: "/shop e0".into(), hops: 7, run: None };
        let first = message::Event { trail: Some(Box::new(trail)), ..event(&world, 1, "k", json!({})) };
        publish(&record, &world, first).await;
        tokio::time::sleep(SECOND * 60).await;
        let row = row(&record, "feed").await;
        // 1 + 2 + 4 + 8 runs; what the last of these publish is dead.
        assert_eq!((row.started, row.dead, row.waiting, row.under_way), (15, 16, 0, 0), "{row:?}");
        assert_eq!(host.runs.alive(), 0);
    });
}

/// What a run begins and publishes follows from the event, by whatever it does so.
#[test]
fn a_child_run_and_a_nodes_event_inherit_from_the_host() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(1))]);
        let documents = "name: inner\nflow: {emit: {topic: out, type: done}}\n---\nname: outer\n\
                         flow: {sequence: [{emit: {topic: out, type: begun}}, {workflow: inner}]}\n";
        let record = world.record(Some(documents)).await;
        key(&record, &tenant()).await;
        let start = Target::Workflow("outer".parse().unwrap());
        plant(&record, "feed", Trigger { start, ..trigger("note") }).await;
        let host = world.host(&record, []);
        publish(&record, &world, event(&world, 7, "k", json!({"n": 1}))).await;
        tokio::time::sleep(SECOND * 5).await;
        let out = record.events(&tenant(), &"out".parse().unwrap(), Position(0), 10).await.unwrap().events;
        assert_eq!(out.len(), 2, "{:?}", runs(&host.record, &tenant()).await);
        for published in out {
            let wanted = Trail { correlation: "/shop e7".into(), causation: "/shop e7".into(), hops: 1, run: None };
            let trail = published.event.trail.map(|trail| *trail).unwrap();
            assert!(trail.run.is_some());
            assert_eq!(Trail { run: None, ..trail }, wanted);
        }
    });
}

#[test]
fn a_documents_subscriptions_follow_it() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let record = world.record(None).await;
        key(&record, &tenant()).await;
        let put = async |source: &str| {
            let document = Document::parse(source, None).unwrap();
            let planted = document.triggers.iter().map(|heard| heard.trigger.clone());
            let triggers = planted.map(|trigger| Planted { trigger, after: Position(0) }).collect();
            let (name, digest) = (document.name.clone(), Digest::of(source.as_bytes()));
            let change =
                Change::WorkflowPut { name, source: source.to_owned(), digest, schedules: Vec::new(), triggers };
            act(&record, &tenant(), Some(caller().key), change).await;
        };
        put("name: intake\non: [{topic: orders, where: {exact: {partitionkey: a}}}]\nflow: {agent: note}\n").await;
        let host = world.host(&record, []);
        publish(&record, &world, event(&world, 0, "a", json!({"n": 0}))).await;
        publish(&record, &world, event(&world, 1, "b", json!({"n": 1}))).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(row(&record, "intake:1").await.started, 1);
        // It goes on from where it is: what it passed over is passed over.
        put("name: intake\non: [{topic: orders}, {topic: others}]\nflow: {agent: note}\n").await;
        publish(&record, &world, event(&world, 2, "b", json!({"n": 2}))).await;
        host.triggers.pause(&caller(), &id("intake:2")).await.unwrap();
        tokio::time::sleep(SECOND * 11).await;
        assert_eq!(row(&record, "intake:1").await.started, 2);
        assert!(row(&record, "intake:2").await.paused.is_some());
        let deleted = host.triggers.delete(&caller(), &id("intake:1")).await;
        assert!(matches!(deleted, Err(Error::Conflict { .. })), "{deleted:?}");
        act(&record, &tenant(), None, Change::WorkflowDeleted { name: "intake".parse().unwrap() }).await;
        assert_eq!(record.trigger(&tenant(), &id("intake:1")).await.unwrap(), None);
    });
}

#[test]
fn a_paused_subscription_makes_up_for_what_came_meanwhile() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let host = world.host(&record(&world, "feed", trigger("note")).await, []);
        host.triggers.pause(&caller(), &id("feed")).await.unwrap();
        let again = host.triggers.pause(&caller(), &id("feed")).await;
        assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
        for n in 0..150 {
            publish(&host.record, &world, event(&world, n, &format!("k{n}"), json!({"n": n}))).await;
        }
        tokio::time::sleep(SECOND * 30).await;
        let (paused, lag) = host.triggers.get(&caller(), &id("feed")).await.unwrap();
        assert_eq!((paused.started, lag), (0, 150));
        host.triggers.go_on(&caller(), &id("feed")).await.unwrap();
        tokio::time::sleep(SECOND * 30).await;
        let (row, lag) = host.triggers.get(&caller(), &id("feed")).await.unwrap();
        assert_eq!((row.started, lag, row.waiting), (150, 0, 0));
    });
}

#[test]
fn a_topic_is_replayed_once_unless_that_is_forced() {
    in_paused_time(async {
        let world = World::new([agent("tell", |guest: Guest| async move {
            let input: Value = serde_json::from_slice(&guest.job.input.bytes).unwrap();
            Ok(Payload::json(&json!(input["replay"] == true)))
        })]);
        let host = world.host(&record(&world, "feed", trigger("tell")).await, []);
        for n in 0..5 {
            publish(&host.record, &world, event(&world, n, "k", json!({"n": n}))).await;
        }
        tokio::time::sleep(SECOND).await;
        let outputs = async || {
            let filter = RunFilter { limit: 100, ..RunFilter::default() };
            let mut replayed = (0, 0);
            for run in host.record.runs(&tenant(), &filter).await.unwrap() {
                assert_eq!(run.state, State::Completed);
                let journal = host.journal(run.id).await;
                let Event::RunStarted(started) = &journal[0].entry.event else { panic!() };
                let is_marked = started.follows.as_ref().unwrap().arrived.as_ref().unwrap().replay;
                let input: Value = serde_json::from_slice(&started.input.bytes).unwrap();
                assert_eq!(input["replay"] == true, is_marked);
                if is_marked { replayed.1 += 1 } else { replayed.0 += 1 }
            }
            replayed
        };
        assert_eq!(outputs().await, (5, 0));
        host.triggers.replay(&caller(), &id("feed"), Position(0), false).await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!((outputs().await, row(&host.record, "feed").await.duplicates), ((5, 0), 5));
        host.triggers.replay(&caller(), &id("feed"), Position(0), true).await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(outputs().await, (5, 5));
        // What comes from then on is new.
        publish(&host.record, &world, event(&world, 9, "k", json!({"n": 9}))).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(outputs().await, (6, 5));
        let nobody = host.triggers.replay(&caller(), &id("nobody"), Position(0), true).await;
        assert!(matches!(nobody, Err(Error::NotFound { .. })), "{nobody:?}");
    });
}

/// A need in an agent's place: who is found, and that nobody is, is in the run's journal.
#[test]
fn a_need_is_met_by_who_fits_or_is_a_dead_letter_with_its_reason() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(1))]);
        let documents = "name: met\nflow: {need: note, at-least: 0.1}\n---\nname: unmet\n\
                         flow: {need: translate poetry into Finnish, at-least: 0.99}\n---\nname: fallen\n\
                         flow: {need: translate poetry into Finnish, at-least: 0.99, fallback: [{agent: note}]}\n";
        let record = world.record(Some(documents)).await;
        key(&record, &tenant()).await;
        for name in ["met", "unmet"] {
            let start = Target::Workflow(name.parse().unwrap());
            plant(&record, name, Trigger { start, ..trigger("note") }).await;
        }
        let host = world.host(&record, []);
        publish(&record, &world, event(&world, 1, "k", json!({"n": 1}))).await;
        tokio::time::sleep(SECOND * 5).await;
        let left = arrivals(&record).await;
        assert_eq!((left.len(), left[0].1), (1, Stage::Parked), "{left:?}");
        assert!(left[0].2.as_ref().unwrap().starts_with("no-candidate: "), "{left:?}");
        assert_eq!(row(&record, "met").await.dead, 0);
        host.triggers.settle(&caller(), &id("unmet"), Position(left[0].0), Verdict::Skip).await.unwrap();
        host.triggers.pause(&caller(), &id("met")).await.unwrap();
        let start = Target::Workflow("fallen".parse().unwrap());
        plant(&record, "unmet", Trigger { start, ..trigger("note") }).await;
        publish(&record, &world, event(&world, 2, "k", json!({"n": 2}))).await;
        tokio::time::sleep(SECOND * 5).await;
        assert!(arrivals(&record).await.is_empty(), "the fallback did it");
    });
}

#[test]
fn a_subscription_whose_key_was_taken_back_is_set_aside() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let record = record(&world, "feed", trigger("note")).await;
        act(&record, &TenantId::host(), None, Change::KeyRevoked { key: caller().key, at: world.clock().now() }).await;
        let _host = world.host(&record, []);
        publish(&record, &world, event(&world, 0, "k", json!({"n": 0}))).await;
        tokio::time::sleep(SECOND).await;
        let paused = row(&record, "feed").await.paused.unwrap();
        assert_eq!((paused.by, paused.why.as_deref()), (None, Some("the key `abcdefghijkl` was taken back")));
        assert!(runs(&record, &tenant()).await.is_empty());
    });
}

#[test]
fn an_event_for_what_is_not_there_any_more_is_a_dead_letter() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let host = world.host(&record(&world, "feed", trigger("gone")).await, []);
        publish(&host.record, &world, event(&world, 0, "k", json!({"n": 0}))).await;
        tokio::time::sleep(SECOND).await;
        let left = arrivals(&host.record).await;
        assert_eq!((left.len(), left[0].1), (1, Stage::Parked), "{left:?}");
        assert!(left[0].2.as_ref().unwrap().contains("gone"), "{left:?}");
    });
}

#[test]
fn what_one_tenant_publishes_starts_nothing_of_another() {
    in_paused_time(async {
        let world = World::new([note(Duration::from_millis(5))]);
        let record = record(&world, "feed", trigger("note")).await;
        let other: TenantId = "beta".parse().unwrap();
        world.furnish(&record, &other, None).await;
        let _host = world.host(&record, []);
        publish_for(&record, &world, &other, event(&world, 0, "k", json!({"n": 0}))).await;
        tokio::time::sleep(SECOND * 11).await;
        assert!(runs(&record, &tenant()).await.is_empty());
        assert!(runs(&record, &other).await.is_empty());
        publish(&record, &world, event(&world, 0, "k", json!({"n": 0}))).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!((runs(&record, &tenant()).await.len(), runs(&record, &other).await.len()), (1, 0));
    });
}
