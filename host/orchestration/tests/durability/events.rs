//! Events: what runs wait for in topics. Each takes the first that fits, once, whenever it came.

use std::time::Duration;

use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::Delta;
use ltmc_model::failure::Code;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::message::{self, Channel, Message};
use ltmc_model::run::State;
use ltmc_model::{Digest, Payload, RunId};
use ltmc_orchestration::{StartRequest, Started};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{Changes, ReadJournal as _, Waits as _, WriteCatalog as _, WriteJournal as _};
use ltmc_tenancy::Error;
use serde_json::{Value, json};

use crate::guest::{Script, agent};
use crate::host::{Host, Line, Request, World, caller, in_paused_time, tenant};

fn scripts() -> Vec<Script> {
    let slow = agent("slow", |guest| async move {
        guest.compute(3_600_000).await;
        Ok(Payload::text("late"))
    });
    vec![agent("pass", |guest| async move { Ok(guest.job.input.clone()) }), slow]
}

fn document(flow: &str) -> String {
    format!("name: flow\nflow: {flow}")
}

async fn host(world: &World, flow: &str) -> Host {
    world.host(&world.record(Some(&document(flow))).await, [])
}

fn request(input: Value, key: impl Into<String>) -> Request {
    Request { input: Payload::json(&input), key: Some(key.into()), ..Request::workflow("flow") }
}

/// Starts a run, and lets it come to where it waits.
async fn waiting(host: &Host, input: Value, key: impl Into<String>) -> Started {
    let started = host.start(&request(input, key)).await.unwrap();
    let shortly = Some(Duration::from_millis(100));
    assert_eq!(host.runs.wait(&caller(), &started, shortly).await.unwrap(), None);
    started
}

/// A client publishes an event.
async fn publish(record: &MemoryRecord, world: &World, kind: &str, subject: Option<&str>, data: Value) {
    let id = record.next_revision(&tenant());
    let event = message::Event {
        id: id.to_string(),
        source: "/keys/abcdefghijkl".into(),
        kind: kind.into(),
        subject: subject.map(str::to_owned),
        time: world.clock().now(),
        data: Payload::json(&data),
        attributes: std::collections::BTreeMap::new(),
        trail: None,
    };
    let sent = Delta::Sent(Message { id, channel: Channel::Topic("orders".parse().unwrap()), event });
    let change = Change::Context { call: "messages.publish".into(), about: "orders".into(), request: Digest::of(b"") };
    let act = Act { by: Some(caller().key), change };
    record.act_with(&tenant(), world.clock().now(), act, Changes::blind(vec![sent])).await.unwrap();
}

async fn ended(host: &Host, started: &Started) -> Value {
    host.runs.wait(&caller(), started, None).await.unwrap().unwrap().unwrap().to_value().unwrap()
}

async fn state(host: &Host, run: RunId) -> State {
    host.record.run(&tenant(), run).await.unwrap().unwrap().state
}

async fn taken(host: &Host, run: RunId) -> usize {
    let journal = host.journal(run).await;
    journal.iter().filter(|placed| matches!(placed.entry.event, Event::EventTaken { .. })).count()
}

const PAID: &str = "{wait: {topic: orders, match: {type: order.paid, subject: $.input}}}";

#[test]
fn an_event_wakes_the_run_that_waits_for_it_and_no_other() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = host(&world, PAID).await;
        let (one, other) = (waiting(&host, json!("one"), "1").await, waiting(&host, json!("other"), "2").await);
        assert_eq!(host.runs.alive(), 0, "those that wait are rows");
        let view = serde_json::to_value(host.runs.get(&caller(), one.run).await.unwrap()).unwrap();
        let waits_for = &view["nodes"][0]["waits_for"]["event"];
        assert_eq!((&waits_for["topic"], &waits_for["subject"]), (&json!("orders"), &json!("one")), "{view}");
        let before = host.journal(other.run).await.len();
        for (kind, subject) in [("order.sent", Some("one")), ("order.paid", None), ("order.paid", Some("third"))] {
            publish(&host.record, &world, kind, subject, json!(0)).await;
        }
        publish(&host.record, &world, "order.paid", Some("one"), json!({"sum": 7})).await;
        let event = ended(&host, &one).await;
        assert_eq!(
            (&event["type"], &event["subject"], &event["data"]["sum"]),
            (&json!("order.paid"), &json!("one"), &json!(7))
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((state(&host, other.run).await, host.journal(other.run).await.len()), (State::Waiting, before));
        publish(&host.record, &world, "order.paid", Some("other"), json!(2)).await;
        assert_eq!(ended(&host, &other).await["data"], 2);
        assert_eq!(host.record.waiting(&tenant(), &"orders".parse().unwrap(), Some("one"), 9).await.unwrap(), 0);
    });
}

/// The complaint of other systems' users: it never saw the event.
#[test]
fn a_step_that_reads_an_event_published_just_before_it_began_to_wait_sees_it() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{sequence: [{agent: slow}, {wait: {topic: orders, since: SINCE}, timeout: 1h}]}";
        for (since, data) in [("run", Some(json!("before"))), ("now", None)] {
            let host = host(&world, &flow.replace("SINCE", since)).await;
            publish(&host.record, &world, "t", None, json!("before the run began")).await;
            let started = host.start(&request(json!(0), "1")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            publish(&host.record, &world, "t", None, json!("before")).await;
            let answer = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
            match data {
                Some(data) => assert_eq!(answer.unwrap().to_value().unwrap()["data"], data),
                None => assert_eq!(answer.unwrap_err().code, Code::TimedOut, "it waits for what comes from then on"),
            }
        }
    });
}

/// Whatever the run is at when it comes: looking, on its way to be suspended, suspended.
#[test]
fn an_event_that_comes_at_any_moment_is_taken_once() {
    for millis in 0..60 {
        in_paused_time(async {
            let world = World::new(scripts());
            let flow = "{sequence: [{agent: pass}, {wait: {topic: orders, since: run}}, {agent: pass, id: p}]}";
            let record = world.record(Some(&document(flow))).await;
            let host = world.host_over(Line::new(&record, [], None).with_lag(Duration::from_millis(7)));
            let started = host.start(&request(json!(0), "1")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            publish(&host.record, &world, "t", None, json!(millis)).await;
            assert_eq!(ended(&host, &started).await["data"], millis, "after {millis} ms");
            assert_eq!(taken(&host, started.run).await, 1, "after {millis} ms");
        });
    }
}

#[test]
fn a_run_that_is_alive_takes_its_event_too() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = host(&world, "{parallel: {x: {wait: {topic: orders}}, y: {agent: slow}}}").await;
        let started = waiting(&host, json!(0), "1").await;
        assert_eq!(host.runs.alive(), 1);
        publish(&host.record, &world, "t", None, json!(7)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let view = host.runs.get(&caller(), started.run).await.unwrap();
        let node = view.nodes.iter().find(|node| node.path.as_str() == "0/0").unwrap();
        assert_eq!((node.status, host.runs.alive()), ("completed", 1));
        assert_eq!(ended(&host, &started).await["x"]["data"], 7);
    });
}

#[test]
fn an_event_that_does_not_fit_is_passed_over() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{wait: {topic: orders, where: {all: [{pick: $.event.type, prefix: order.}, {pick: $.event.data.sum, at-least: 10}]}}}";
        let host = host(&world, flow).await;
        let started = waiting(&host, json!(0), "1").await;
        for sum in [1, 9, 10, 11] {
            publish(&host.record, &world, "order.paid", None, json!({ "sum": sum })).await;
            publish(&host.record, &world, "paid", None, json!({"sum": 100})).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(ended(&host, &started).await["data"]["sum"], 10);
        assert_eq!(taken(&host, started.run).await, 1);
    });
}

#[test]
fn a_wait_that_takes_too_long_is_over_and_nothing_wakes_its_run() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = host(&world, "{wait: {topic: orders}, timeout: 1h}").await;
        let started = waiting(&host, json!(0), "1").await;
        let answer = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
        assert_eq!(answer.unwrap_err().code, Code::TimedOut);
        assert_eq!(host.record.waiting(&tenant(), &"orders".parse().unwrap(), None, 9).await.unwrap(), 0);
        publish(&host.record, &world, "t", None, json!(7)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((state(&host, started.run).await, taken(&host, started.run).await), (State::Failed, 0));
    });
}

/// At the edge of its time-out: what comes after it is not taken, what came so early before it that its run could look is, and a run ends in one way.
#[test]
fn an_event_that_comes_at_the_edge_of_the_time_out_is_taken_or_too_late() {
    for (millis, taken_up) in [(-1_000_i64, Some(true)), (-1, None), (0, None), (1, Some(false)), (1_000, Some(false))]
    {
        in_paused_time(async move {
            let world = World::new(scripts());
            let host = host(&world, "{wait: {topic: orders}, timeout: 1h}").await;
            let started = waiting(&host, json!(0), "1").await;
            let journal = host.journal(started.run).await;
            let until = journal.iter().find_map(|placed| match &placed.entry.event {
                Event::NodeStarted { until, .. } => Some(*until),
                _ => None,
            });
            let left = until.unwrap().since(world.clock().now());
            let step = Duration::from_millis(millis.unsigned_abs());
            tokio::time::sleep(if millis < 0 { left - step } else { left + step }).await;
            publish(&host.record, &world, "t", None, json!(7)).await;
            let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
            let is_taken = ended.is_ok();
            assert!(taken_up.is_none_or(|wanted| wanted == is_taken), "{millis} ms: {ended:?}");
            assert_eq!(taken(&host, started.run).await, usize::from(is_taken), "{millis} ms");
            if let Err(failure) = ended {
                assert_eq!(failure.code, Code::TimedOut, "{millis} ms");
            }
        });
    }
}

#[test]
fn a_run_that_is_resumed_takes_what_came_while_it_was_over() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = host(&world, "{wait: {topic: orders}}").await;
        let started = waiting(&host, json!(0), "1").await;
        host.runs.cancel(&caller(), started.run).await.unwrap();
        publish(&host.record, &world, "t", None, json!(7)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(state(&host, started.run).await, State::Cancelled);
        host.runs.resume(&caller(), started.run).await.unwrap();
        let answer = host.ask(&request(json!(0), "1")).await.unwrap().unwrap();
        assert_eq!(answer.to_value().unwrap()["data"], 7);
    });
}

#[test]
fn an_event_that_comes_while_no_host_is_there_is_taken_by_the_next() {
    in_paused_time(async {
        let world = World::new(scripts());
        let first = host(&world, PAID).await;
        let runs: Vec<RunId> = {
            let mut runs = Vec::new();
            for number in 0..20 {
                runs.push(waiting(&first, json!(format!("o{number}")), number.to_string()).await.run);
            }
            runs
        };
        let record = first.record.crash();
        drop(first);
        for number in 0..20 {
            publish(&record, &world, "order.paid", Some(&format!("o{number}")), json!(number)).await;
        }
        let next = world.host(&record, []);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 0);
        tokio::time::sleep(Duration::from_secs(30)).await;
        for run in runs {
            assert_eq!((state(&next, run).await, taken(&next, run).await), (State::Completed, 1));
        }
    });
}

#[test]
fn no_more_runs_wait_for_the_same_event_than_may() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = host(&world, "{wait: {topic: orders, match: {subject: $.input}}}").await;
        for number in 0..1_000 {
            host.start(&request(json!("same"), number.to_string())).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let failure = host.ask(&request(json!("same"), "one more")).await.unwrap().unwrap_err();
        assert_eq!(failure.code, Code::QuotaExceeded, "{failure}");
        waiting(&host, json!("another"), "another").await;
        publish(&host.record, &world, "t", Some("same"), json!(7)).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(host.record.waiting(&tenant(), &"orders".parse().unwrap(), Some("same"), 9_999).await.unwrap(), 0);
    });
}

#[test]
fn who_may_not_read_topics_starts_nobody_who_waits_there() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = host(&world, PAID).await;
        let start = StartRequest {
            workflow: "flow".parse().unwrap(),
            input: Payload::json(&json!("one")),
            session: None,
            idempotency: None,
            request_digest: Digest::of(b""),
            traceparent: None,
        };
        let refused = host.runs.start(&Caller { role: Role::Caller, ..caller() }, start).await;
        assert!(matches!(refused, Err(Error::Denied { .. })));
        let failure = host.ask(&request(json!(7), "1")).await.unwrap().unwrap_err();
        assert!(failure.code == Code::BadStep && failure.message.contains("`$.input` is none"), "{failure}");
    });
}
