//! How fast subscriptions start runs, and which events start one together: also over crashes, each event once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::Payload;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::filter::Filter;
use ltmc_model::gather::{Batch, Gather, Join, Rate};
use ltmc_model::journal::Event;
use ltmc_model::run::State;
use ltmc_model::trigger::{Stage, Trigger, Verdict};
use ltmc_ports::ReadJournal as _;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::{Fault, MemoryRecord};
use serde_json::{Value, json};

use crate::guest::{Guest, Script, agent};
use crate::host::{World, caller, in_paused_time, tenant};
use crate::triggers::{SECOND, arrivals, event, id, publish, record, row, trigger};

/// Gives what it is given; fails where an event of it says so.
fn given() -> Script {
    agent("given", |guest: Guest| async move {
        let input: Value = serde_json::from_slice(&guest.job.input.bytes).unwrap();
        match input.to_string().contains("\"fail\":true") {
            true => Err(Failure::new(Code::AgentError, "a poisonous event".to_owned())),
            false => Ok(Payload::json(&input)),
        }
    })
}

/// What each run was given, in the order of their beginnings, with when that was.
async fn inputs(record: &MemoryRecord) -> Vec<(u64, Value)> {
    let filter = RunFilter { limit: 10_000, ..RunFilter::default() };
    let mut found: Vec<(u64, Value)> = Vec::new();
    for run in record.runs(&tenant(), &filter).await.unwrap() {
        let journal = record.entries(&tenant(), run.id, ltmc_model::Seq(0), 1).await.unwrap();
        let Event::RunStarted(started) = &journal[0].entry.event else { panic!("a run begins with its start") };
        found.push((run.created_at.millis(), serde_json::from_slice(&started.input.bytes).unwrap()));
    }
    found.sort_by_key(|(at, input)| (*at, input.to_string()));
    found
}

fn gathering(gather: Gather) -> Trigger {
    Trigger { gather: Some(gather), ..trigger("given") }
}

#[test]
fn a_debounced_key_starts_one_run_with_its_last_event() {
    in_paused_time(async {
        let world = World::new([given()]);
        let host = world.host(&record(&world, "feed", gathering(Gather::Debounce(3_000))).await, []);
        for n in 0..5 {
            publish(&host.record, &world, event(&world, n, "a", json!({"n": n}))).await;
            publish(&host.record, &world, event(&world, 100 + n, "b", json!({"n": 100 + n}))).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(inputs(&host.record).await.is_empty(), "others may come still");
        tokio::time::sleep(SECOND * 10).await;
        let given: Vec<Value> =
            inputs(&host.record).await.into_iter().map(|(_, input)| input["data"]["n"].clone()).collect();
        assert_eq!(given, [json!(4), json!(104)]);
        let row = row(&host.record, "feed").await;
        assert_eq!((row.started, row.superseded, row.waiting, row.dead), (2, 8, 0, 0));
        // One that never is quiet is not put off for ever.
        for n in 0..50 {
            publish(&host.record, &world, event(&world, 200 + n, "c", json!({"n": 200 + n}))).await;
            tokio::time::sleep(SECOND).await;
        }
        assert!(crate::triggers::row(&host.record, "feed").await.started > 2);
    });
}

#[test]
fn a_batch_is_full_or_what_there_is_after_its_time() {
    in_paused_time(async {
        let world = World::new([given()]);
        let batch = Gather::Batch(Batch { events: 3, within: 10_000 });
        let host = world.host(&record(&world, "feed", gathering(batch)).await, []);
        for n in 0..7 {
            publish(&host.record, &world, event(&world, n, "a", json!({"n": n}))).await;
        }
        tokio::time::sleep(SECOND * 5).await;
        let sizes = async || -> Vec<usize> {
            let given = inputs(&host.record).await;
            given.iter().map(|(_, input)| input["events"].as_array().unwrap().len()).collect()
        };
        assert_eq!(sizes().await, [3, 3]);
        tokio::time::sleep(SECOND * 10).await;
        assert_eq!(sizes().await, [3, 3, 1]);
        let seen: Vec<u64> = inputs(&host.record)
            .await
            .iter()
            .flat_map(|(_, input)| input["events"].as_array().unwrap().clone())
            .map(|event| event["data"]["n"].as_u64().unwrap())
            .collect();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6], "in their order");
        // Of a batch that fails each event is a dead letter, and holds up its key.
        publish(&host.record, &world, event(&world, 10, "a", json!({"n": 10, "fail": true}))).await;
        for n in 11..14 {
            publish(&host.record, &world, event(&world, n, "a", json!({"n": n}))).await;
        }
        tokio::time::sleep(SECOND * 30).await;
        let left = arrivals(&host.record).await;
        let stages: Vec<Stage> = left.iter().map(|one| one.1).collect();
        assert_eq!(stages, [Stage::Parked, Stage::Parked, Stage::Parked, Stage::Waiting]);
        for place in left.iter().take(3).map(|one| ltmc_model::Position(one.0)) {
            host.triggers.settle(&caller(), &id("feed"), place, Verdict::Skip).await.unwrap();
        }
        tokio::time::sleep(SECOND * 30).await;
        assert!(arrivals(&host.record).await.is_empty());
    });
}

fn join(within: u64) -> Gather {
    let part =
        |kind: &str| (kind.to_owned(), Filter::parse(&format!("{{pick: $.data.kind, equals: {kind}}}")).unwrap());
    let by = vec!["data".to_owned(), "order".to_owned()];
    Gather::Join(Join { of: [part("paid"), part("packed")].into(), need: 2, by, within })
}

#[test]
fn events_that_belong_together_start_one_run_and_what_is_missing_is_told() {
    in_paused_time(async {
        let world = World::new([given()]);
        let host = world.host(&record(&world, "feed", gathering(join(60_000))).await, []);
        let of = |number, order: &str, kind: &str| event(&world, number, "k", json!({"order": order, "kind": kind}));
        for one in
            [of(1, "a", "paid"), of(2, "b", "paid"), of(3, "a", "packed"), of(4, "c", "lost"), of(5, "b", "paid")]
        {
            publish(&host.record, &world, one).await;
        }
        publish(&host.record, &world, event(&world, 6, "k", json!({"kind": "paid"}))).await;
        tokio::time::sleep(SECOND * 5).await;
        let given = inputs(&host.record).await;
        assert_eq!(given.len(), 1, "{given:?}");
        let whole = &given[0].1;
        assert_eq!((&whole["events"]["paid"]["id"], &whole["events"]["packed"]["id"]), (&json!("e1"), &json!("e3")));
        assert_eq!((&whole["missing"], row(&host.record, "feed").await.waiting), (&json!([]), 2));
        // It waits no longer than that, and then is what there is.
        tokio::time::sleep(SECOND * 60).await;
        let given = inputs(&host.record).await;
        let missing: Vec<&Value> = given.iter().map(|(_, input)| &input["missing"]).collect();
        // The second that was paid is another one of the same order.
        assert_eq!(missing, [&json!([]), &json!(["packed"]), &json!(["packed"])], "{given:?}");
        assert_eq!(row(&host.record, "feed").await.waiting, 0);
    });
}

#[test]
fn no_more_runs_start_in_a_time_than_may_and_all_do_in_the_end() {
    const EVENTS: u64 = 20;
    in_paused_time(async {
        let world = World::new([given()]);
        let rate = Rate { starts: 3, per: 10_000 };
        let host = world.host(&record(&world, "feed", Trigger { rate: Some(rate), ..trigger("given") }).await, []);
        for n in 0..EVENTS {
            publish(&host.record, &world, event(&world, n, &format!("k{n}"), json!({"n": n}))).await;
        }
        tokio::time::sleep(SECOND * 100).await;
        let begun: Vec<u64> = inputs(&host.record).await.into_iter().map(|(at, _)| at).collect();
        assert_eq!(begun.len() as u64, EVENTS);
        for window in begun.windows(4) {
            assert!(window[3] - window[0] >= rate.per, "four began within {} ms: {begun:?}", window[3] - window[0]);
        }
    });
}

#[test]
fn each_event_is_in_one_run_wherever_a_host_dies() {
    let gathers = || [Gather::Batch(Batch { events: 2, within: 5_000 }), join(20_000), Gather::Debounce(2_000)];
    let going = async |world: &World, record: &Arc<MemoryRecord>| {
        for n in 0..6 {
            let kind = if n % 2 == 0 { "paid" } else { "packed" };
            publish(record, world, event(world, n, "k", json!({"order": "o", "kind": kind, "n": n}))).await;
        }
    };
    for gather in gathers() {
        let undisturbed = in_paused_time(async {
            let world = World::new([given()]);
            let host = world.host(&record(&world, "feed", gathering(gather.clone())).await, []);
            going(&world, &host.record).await;
            tokio::time::sleep(SECOND * 60).await;
            host.line.appends()
        });
        for at in 1..=undisturbed {
            for how in [Fault::CrashBefore, Fault::CrashAfter] {
                in_paused_time(async {
                    let world = World::new([given()]);
                    let first = world.host(&record(&world, "feed", gathering(gather.clone())).await, [(at, how)]);
                    going(&world, &first.record).await;
                    tokio::time::sleep(SECOND * 60).await;
                    let record = if first.line.is_dead() { first.record.crash() } else { first.record.clone() };
                    drop(first);
                    let next = world.host(&record, []);
                    next.runs.recover().await.unwrap();
                    tokio::time::sleep(SECOND * 120).await;
                    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
                    for (_, input) in inputs(&record).await {
                        let events = match &input["events"] {
                            Value::Array(events) => events.clone(),
                            Value::Object(events) => events.values().cloned().collect(),
                            _ => vec![input.clone()],
                        };
                        for event in events {
                            *seen.entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
                        }
                    }
                    assert!(seen.values().all(|times| *times == 1), "append {at}, {how:?}: {seen:?}");
                    let row = row(&record, "feed").await;
                    let all = seen.len() as u64 + row.superseded;
                    assert_eq!((all, row.waiting, row.dead), (6, 0, 0), "append {at}, {how:?}, {gather:?}: {row:?}");
                    let filter = RunFilter { limit: 100, ..RunFilter::default() };
                    let runs = record.runs(&tenant(), &filter).await.unwrap();
                    assert!(runs.iter().all(|run| run.state == State::Completed));
                });
            }
        }
    }
}
