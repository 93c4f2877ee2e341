//! What follows from events says so, by whatever door it comes: waits, mailboxes, reads, children, clients that work in a run. A cascade has a budget, and is
//! shown as a tree.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::call::{memory, messages as call};
use ltmc_model::caller::{Caller, Cause};
use ltmc_model::delta::{Delta, Topic};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::memory::{Drawer, Precondition, Scope};
use ltmc_model::message::{self, Channel, Message, Trail};
use ltmc_model::run::{State, Target};
use ltmc_model::trigger::{Feed, OnPoison, Stage, Trigger, Watched};
use ltmc_model::{Digest, Payload, Position, Revision};
use ltmc_orchestration::cascade::{Extent, Traced};
use ltmc_ports::testing::{Fault, MemoryRecord, sample};
use ltmc_ports::{Bus as _, Changes, ReadCascades as _, ReadLog as _, WriteCatalog as _, WriteJournal as _};
use ltmc_tenancy::Error;
use serde_json::json;

use crate::guest::{Guest, Script, agent};
use crate::host::{Request, World, caller, in_paused_time, tenant};
use crate::triggers::{SECOND, answering, arrivals, event, key, note, plant, publish, record, row, runs, trigger};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn trail(hops: u32) -> Trail {
    Trail { correlation: "/shop e0".into(), causation: "/shop e5".into(), hops, run: None }
}

fn after(world: &World, number: u64, hops: u32) -> message::Event {
    message::Event { trail: Some(Box::new(trail(hops))), ..event(world, number, "k", json!({})) }
}

/// What the events of `out` follow from: how far, from what at once, and the first of all.
async fn out(record: &MemoryRecord) -> Vec<(u32, String, String)> {
    let found = record.events(&tenant(), &"out".parse().unwrap(), Position(0), 100).await.unwrap().events;
    let trail = |one: message::Published| one.event.trail.map(|trail| (trail.hops, trail.causation, trail.correlation));
    found.into_iter().map(|one| trail(one).unwrap_or_default()).collect()
}

fn far(hops: u32, causation: &str) -> (u32, String, String) {
    (hops, causation.to_owned(), "/shop e0".to_owned())
}

fn draft(kind: &str) -> call::Draft {
    call::Draft { kind: kind.into(), subject: None, data: Payload::json(&json!(null)), given: None }
}

fn to_out() -> call::Publish {
    call::Publish { topic: "out".parse().unwrap(), event: draft("told") }
}

#[test]
fn what_a_run_waited_for_is_what_it_follows_from() {
    in_paused_time(async {
        let world = World::new([]);
        let documents = "name: inner\nflow: {emit: {topic: out, type: inner}}\n---\nname: outer\n\
                         flow: {sequence: [{emit: {topic: out, type: before}}, {wait: {topic: orders}}, \
                         {emit: {topic: out, type: after}}, {workflow: inner}]}\n";
        let record = world.record(Some(documents)).await;
        key(&record, &tenant()).await;
        let host = world.host(&record, []);
        let started = host.start(&Request { key: None, ..Request::workflow("outer") }).await.unwrap();
        tokio::time::sleep(SECOND).await;
        publish(&record, &world, after(&world, 6, 4)).await;
        host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        let (none, five) = ((0, String::new(), String::new()), far(5, "/shop e6"));
        assert_eq!(out(&record).await, [none, five.clone(), five]);
        // Also by a client that works in it, long after it is over.
        assert_eq!(host.runs.cause(&caller(), started.run).await.unwrap().map(|trail| trail.hops), Some(5));
    });
}

/// Takes what is in its mailbox, or waits for an event, or only looks at what there was; and then tells.
fn telling(name: &'static str, how: &'static str) -> Script {
    agent(name, move |guest: Guest| async move {
        match how {
            "mail" => {
                let taken = guest.sure(call::Receive { limit: 1, wait_ms: 0 }).await?;
                guest.sure(call::Ack { id: taken[0].id }).await?;
            }
            how => {
                let (after, wait_ms) = if how == "wait" { (Some(Position(0)), 1_000) } else { (Some(Position(0)), 0) };
                let topic = "orders".parse().unwrap();
                guest.sure(call::Read { topic, after, limit: 10, wait_ms }).await?;
            }
        }
        guest.sure(to_out()).await?;
        Ok(Payload::json(&json!(null)))
    })
}

#[test]
fn what_an_agent_took_is_what_it_follows_from_and_what_it_looked_at_is_not() {
    in_paused_time(async {
        let world = World::new([telling("mail", "mail"), telling("wait", "wait"), telling("look", "look")]);
        let record = world.record(None).await;
        let host = world.host(&record, []);
        publish(&record, &world, after(&world, 6, 2)).await;
        let message = Message {
            id: Revision(9_000),
            channel: Channel::Mailbox("mail".parse().unwrap()),
            event: after(&world, 7, 8),
        };
        let change = Change::Context { call: "messages.send".into(), about: "mail".into(), request: Digest::of(b"") };
        let act = Act { by: Some(caller().key), change };
        record.act_with(&tenant(), world.clock().now(), act, Changes::blind(vec![Delta::Sent(message)])).await.unwrap();
        for name in ["mail", "wait", "look"] {
            host.ask(&Request { key: None, ..Request::call(name) }).await.unwrap().unwrap();
        }
        let none = (0, String::new(), String::new());
        assert_eq!(out(&record).await, [far(9, "/shop e7"), far(3, "/shop e6"), none]);
    });
}

/// A client names the run in which it works; how far that is, the record says. So a worker outside that answers each event by a call is stopped, too.
#[test]
fn what_a_client_does_in_a_run_follows_from_what_that_follows_from() {
    in_paused_time(async {
        let world = World::new([agent("tell", |guest: Guest| async move {
            guest.sure(to_out()).await?;
            Ok(Payload::json(&json!(null)))
        })]);
        let record = record(&world, "feed", trigger("tell")).await;
        let host = world.host(&record, []);
        publish(&record, &world, after(&world, 6, 3)).await;
        tokio::time::sleep(SECOND).await;
        let run = host.run().await.unwrap();
        let told = host.runs.cause(&caller(), run).await.unwrap();
        assert_eq!(told.as_ref().map(|trail| (trail.hops, &*trail.causation)), Some((4, "/shop e6")));
        let cause = Cause { run: Some(run), trail: told, traceparent: Some(TRACE.into()) };
        let within = Caller { cause: Some(Box::new(cause)), ..caller() };
        let started = host.start_as(&within, &Request { key: None, ..Request::call("tell") }).await.unwrap();
        host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(out(&record).await, [far(4, "/shop e6"), far(4, "/shop e6")]);
        let journal = host.journal(started.run).await;
        let Event::RunStarted(begun) = &journal[0].entry.event else { panic!("a run begins with its start") };
        assert!(begun.follows.as_ref().unwrap().arrived.is_none());
        let nobody = host.runs.cause(&caller(), sample_run()).await;
        assert!(matches!(nobody, Err(Error::NotFound { .. })), "{nobody:?}");
    });
}

fn sample_run() -> ltmc_model::RunId {
    ltmc_model::RunId::new(ltmc_model::Timestamp::from_millis(1), [9; 10])
}

#[test]
fn a_trace_goes_on_over_events_and_the_runs_that_they_start() {
    in_paused_time(async {
        let world = World::new([answering("first", "second", 1), answering("second", "out", 1)]);
        let record = record(&world, "first", trigger("first")).await;
        plant(&record, "second", Trigger { feed: Feed::Topic("second".parse().unwrap()), ..trigger("second") }).await;
        let host = world.host(&record, []);
        let mut sent = event(&world, 1, "k", json!({}));
        sent.trace(Some(TRACE));
        publish(&record, &world, sent).await;
        tokio::time::sleep(SECOND).await;
        let out = record.events(&tenant(), &"out".parse().unwrap(), Position(0), 10).await.unwrap().events;
        assert_eq!(out[0].event.attributes.get(message::Event::TRACE).map(String::as_str), Some(TRACE));
        assert_eq!((out.len(), host.runs.alive()), (1, 0));
    });
}

/// Each event makes twenty: long before that many hops there would be millions.
#[test]
fn a_cascade_has_a_budget_and_what_is_beyond_it_is_told() {
    in_paused_time(async {
        const MOST: u32 = 200;
        let world = World::new([answering("echo", "orders", 20)]).with_cascade(MOST);
        let wide = Trigger { at_once: 100, on_poison: OnPoison::Skip, ..trigger("echo") };
        let record = record(&world, "feed", wide).await;
        let host = world.host(&record, []);
        publish(&record, &world, event(&world, 1, "k", json!({}))).await;
        for _ in 0..100_000 {
            tokio::time::sleep(SECOND).await;
            let row = row(&record, "feed").await;
            if row.paused.is_some() && row.under_way == 0 {
                break;
            }
        }
        let row = row(&record, "feed").await;
        assert!(
            row.paused.as_ref().and_then(|paused| paused.why.as_ref()).unwrap().contains("dead letters"),
            "{row:?}"
        );
        assert!(row.started <= u64::from(MOST) + 1, "{row:?}");
        let left = arrivals(&record).await;
        let dead: Vec<_> = left.iter().filter(|one| one.1 == Stage::Dead).collect();
        assert!(
            !dead.is_empty() && dead.iter().all(|one| one.2.as_ref().unwrap().starts_with("budget: more than")),
            "{dead:?}"
        );
        assert_eq!(host.runs.alive(), 0);
    });
}

async fn trace(host: &crate::host::Host, id: Revision, depth: u32, events: usize) -> Result<Traced, Error> {
    host.triggers.trace(&caller(), id, Extent { depth, events }).await
}

/// The id of the first message that was sent.
async fn first_sent(record: &MemoryRecord) -> Revision {
    let found = record.log(None, &[Topic::Messages], Position(0), Position(u64::MAX), 1).await.unwrap();
    let Some(Delta::Sent(message)) = found.into_iter().next().map(|row| row.delta) else { panic!("nothing was sent") };
    message.id
}

/// How many events there are in a tree, and how deep it is.
fn size(traced: &Traced) -> (usize, u32) {
    let below = traced.taken.iter().flat_map(|one| &one.events).chain(&traced.led_to);
    below.map(size).fold((1, 1), |(count, depth), (more, deep)| (count + more, depth.max(deep + 1)))
}

#[test]
fn a_cascade_is_shown_as_a_tree_within_bounds() {
    in_paused_time(async {
        let world = World::new([answering("wide", "second", 3), answering("deep", "third", 2), failing()]);
        let record = record(&world, "one", trigger("wide")).await;
        let of = |topic: &str, start| Trigger {
            feed: Feed::Topic(topic.parse().unwrap()),
            on_poison: OnPoison::Skip,
            ..trigger(start)
        };
        plant(&record, "two", of("second", "deep")).await;
        plant(&record, "three", of("third", "fails")).await;
        let filter = Some(ltmc_model::filter::Filter::parse("{exact: {type: other}}").unwrap());
        plant(&record, "not", Trigger { filter, ..trigger("wide") }).await;
        let host = world.host(&record, []);
        publish(&record, &world, event(&world, 1, "k", json!({}))).await;
        tokio::time::sleep(SECOND * 30).await;
        let first = first_sent(&record).await;
        let tree = trace(&host, first, 16, 100).await.unwrap();
        assert_eq!(size(&tree), (1 + 3 + 6, 3));
        let taken = &tree.taken[0];
        assert_eq!((taken.by.as_str(), taken.run.as_ref().map(|run| run.state)), ("one", Some(State::Completed)));
        assert_eq!(taken.starts, Some(Target::Agent("wide".parse().unwrap())));
        let passed: Vec<(&str, &str)> = tree.passed.iter().map(|one| (one.by.as_str(), one.why)).collect();
        assert_eq!(passed, [("not", "its `where` does not fit")]);
        let second = &taken.events[0];
        assert_eq!((second.event.hops(), second.taken[0].events.len()), (1, 2));
        let third = &second.taken[0].events[1];
        let [run, stands] = &third.taken[..] else { panic!("{third:?}") };
        assert_eq!(run.run.as_ref().map(|run| run.state), Some(State::Failed));
        assert_eq!(stands.stands.as_ref().map(|stands| stands.0), Some(Stage::Dead));
        // Less of it is asked for, and what is missing is told.
        let two = trace(&host, first, 2, 100).await.unwrap();
        assert_eq!((size(&two), two.taken[0].events[0].left_out), ((4, 2), 1));
        let few = trace(&host, first, 16, 2).await.unwrap();
        assert_eq!((size(&few), few.left_out), ((2, 2), 1));
        for (depth, events) in [(0, 1), (17, 1), (1, 0), (1, 501)] {
            let refused = trace(&host, first, depth, events).await;
            assert!(matches!(refused, Err(Error::Invalid { code: "bad-query", .. })), "{refused:?}");
        }
        let nothing = trace(&host, Revision(u64::MAX), 1, 1).await;
        assert!(matches!(nothing, Err(Error::NotFound { .. })), "{nothing:?}");
        assert!(record.event(&tenant(), first).await.unwrap().is_some());
    });
}

fn failing() -> Script {
    agent("fails", |_| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err(Failure::new(Code::AgentError, "it never works".to_owned()))
    })
}

/// Each change of a key that is watched starts one run, in the order of its key; what such a run changes itself follows from that, and ends.
#[test]
fn changes_of_memory_start_runs_and_end_where_they_cause_each_other() {
    in_paused_time(async {
        let bump = |guest: Guest| async move {
            let input: serde_json::Value = serde_json::from_slice(&guest.job.input.bytes).unwrap();
            let key = input["subject"].as_str().unwrap().to_owned();
            let value = format!("{}", input["data"].as_u64().unwrap() + 1).into();
            let precondition = Precondition::Any;
            guest.sure(memory::Put { scope: Scope::Global, key, value, precondition, ttl_ms: None }).await?;
            Ok(input["data"].clone()).map(|data| Payload::json(&data))
        };
        let world = World::new([agent("bump", bump), note(Duration::from_millis(1))]);
        let watching = |prefix, start: &str| Trigger {
            feed: Feed::Memory(Watched::of(None, None, prefix).unwrap()),
            on_poison: OnPoison::Skip,
            ..trigger(start)
        };
        let record = record(&world, "loop", watching("loop/", "bump")).await;
        plant(&record, "other", watching("other/", "bump")).await;
        let host = world.host(&record, []);
        let put = async |key: &str| {
            let revision = record.next_revision(&tenant());
            let delta = Delta::Memory(sample::put(&Drawer::Global, key, revision, "0"));
            let change = Change::Context { call: "memory.put".into(), about: key.into(), request: Digest::of(b"") };
            let act = Act { by: Some(caller().key), change };
            record.act_with(&tenant(), world.clock().now(), act, Changes::blind(vec![delta])).await.unwrap();
        };
        put("loop/a").await;
        put("nobody/a").await;
        tokio::time::sleep(SECOND * 60).await;
        let row = row(&record, "loop").await;
        assert_eq!((row.started, row.dead, row.waiting), (11, 1, 0), "{row:?}");
        assert_eq!(crate::triggers::row(&record, "other").await.started, 0);
        let ran = runs(&record, &tenant()).await;
        assert!(ran.values().all(|state| *state == State::Completed), "{ran:?}");
        let left = arrivals(&record).await;
        assert!(left[0].2.as_ref().unwrap().starts_with("loop: 11 events"), "{left:?}");
        assert_eq!(host.runs.alive(), 0);
    });
}

#[test]
fn each_change_of_memory_starts_one_run_wherever_a_host_dies() {
    const KEYS: u64 = 3;
    let world = || {
        World::new([agent("seen", |guest: Guest| async move {
            let input: serde_json::Value = serde_json::from_slice(&guest.job.input.bytes).unwrap();
            let (scope, precondition) = (Scope::Agent, Precondition::Absent);
            let key = format!("seen/{}", input["id"].as_str().unwrap());
            let put = memory::Put { scope, key, value: "1".into(), precondition, ttl_ms: None };
            let seen = guest.cross(put).await?;
            seen.map_err(|refusal| Failure::new(Code::AgentError, format!("seen already: {refusal:?}")))?;
            Ok(Payload::json(&json!(null)))
        })])
    };
    let watching = || Trigger { feed: Feed::Memory(Watched::of(None, None, "k/").unwrap()), ..trigger("seen") };
    let going = async |world: &World, record: &Arc<MemoryRecord>| {
        for n in 0..KEYS {
            let delta = match n {
                2 => sample::delete(&Drawer::Global, "k/0", Revision(9_000 + n)),
                n => sample::put(&Drawer::Global, &format!("k/{n}"), Revision(9_000 + n), "v"),
            };
            let change = Change::Context { call: "memory.put".into(), about: "k".into(), request: Digest::of(b"") };
            let act = Act { by: Some(caller().key), change };
            let changes = Changes::blind(vec![Delta::Memory(delta)]);
            record.act_with(&tenant(), world.clock().now(), act, changes).await.unwrap();
        }
    };
    let undisturbed = in_paused_time(async {
        let world = world();
        let host = world.host(&record(&world, "feed", watching()).await, []);
        going(&world, &host.record).await;
        tokio::time::sleep(SECOND * 30).await;
        host.line.appends()
    });
    assert!(undisturbed >= KEYS * 2, "{undisturbed} appends");
    for at in 1..=undisturbed {
        for how in [Fault::CrashBefore, Fault::CrashAfter] {
            in_paused_time(async {
                let world = world();
                let first = world.host(&record(&world, "feed", watching()).await, [(at, how)]);
                going(&world, &first.record).await;
                tokio::time::sleep(SECOND * 30).await;
                let record = if first.line.is_dead() { first.record.crash() } else { first.record.clone() };
                drop(first);
                let next = world.host(&record, []);
                next.runs.recover().await.unwrap();
                tokio::time::sleep(SECOND * 60).await;
                let ran = runs(&record, &tenant()).await;
                let done = ran.values().all(|state| *state == State::Completed);
                assert_eq!((ran.len() as u64, done), (KEYS, true), "append {at}, {how:?}: {ran:?}");
            });
        }
    }
}

/// Who sends is the host's to say, and a mailbox is its agent's alone: what is addressed to another is neither seen nor let go of.
#[test]
fn nobody_speaks_for_another_or_takes_what_is_anothers() {
    in_paused_time(async {
        let forged = || {
            let (id, source) = ("7".to_owned(), "/agents/victim".to_owned());
            let attributes = [("sender".to_owned(), "/agents/victim".to_owned())].into();
            let given = message::Given { id, source, time: None, attributes };
            call::Draft { given: Some(Box::new(given)), ..draft("told") }
        };
        let world = World::new([
            agent("liar", move |guest: Guest| async move {
                guest.sure(call::Send { to: "victim".parse().unwrap(), event: forged() }).await?;
                guest.sure(call::Publish { topic: "out".parse().unwrap(), event: forged() }).await?;
                Ok(Payload::json(&json!(null)))
            }),
            agent("thief", |guest: Guest| async move {
                let taken = guest.sure(call::Receive { limit: 10, wait_ms: 0 }).await?;
                let acked = guest.cross(call::Ack { id: Revision(1) }).await?;
                Ok(Payload::json(&json!([taken.len(), acked.is_err()])))
            }),
            agent("victim", |guest: Guest| async move {
                let taken = guest.sure(call::Receive { limit: 10, wait_ms: 0 }).await?;
                Ok(Payload::json(&json!(taken.iter().map(|one| &one.event.source).collect::<Vec<_>>())))
            }),
        ]);
        let record = world.record(None).await;
        let host = world.host(&record, []);
        let ask = async |name: &'static str| {
            let given = host.ask(&Request { key: None, ..Request::call(name) }).await.unwrap().unwrap();
            serde_json::from_slice::<serde_json::Value>(&given.bytes).unwrap()
        };
        ask("liar").await;
        assert_eq!(ask("thief").await, json!([0, true]));
        assert_eq!(ask("victim").await, json!(["/agents/liar"]));
        let out = record.events(&tenant(), &"out".parse().unwrap(), Position(0), 10).await.unwrap().events;
        assert_eq!((out[0].event.source.as_str(), out[0].event.attributes.len()), ("/agents/liar", 0));
    });
}
