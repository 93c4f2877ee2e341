//! What attempts rely on: by default what their changes were decided on, and all that they read where their manifest says so.

use std::collections::BTreeMap;

use ltmc_model::Payload;
use ltmc_model::call::{graph, memory};
use ltmc_model::failure::Failure;
use ltmc_model::graph::{AsOf, Direction, FactFilter};
use ltmc_model::manifest::Isolation;
use ltmc_model::memory::{Precondition, Scope};

use crate::guest::{Guest, Script, agent, text};
use crate::host::{Request, World, in_paused_time};

const LEVELS: [Isolation; 2] = [Isolation::ReadCommitted, Isolation::Serializable];

/// An agent's own name for this test: what it was given.
fn name(guest: &Guest) -> String {
    text(&guest.job.input.bytes).trim_matches('"').to_owned()
}

fn relying_on(script: Script, isolation: Isolation) -> Script {
    let mut script = script;
    script.manifest.isolation = isolation;
    script
}

/// Two calls of `decide` at once, by two hosts without locks in common, after one of `prepare`: what each gave.
async fn both(prepare: Script, decide: Script) -> BTreeMap<String, usize> {
    let world = World::new([prepare, decide]);
    let record = world.record(None).await;
    let hosts = [world.host(&record, []), world.host(&record, [])];
    hosts[0].ask_until_told(&Request { key: Some("prepare".into()), ..Request::call("prepare") }).await.unwrap();
    let requests = ["a", "b"].map(asked_as);
    let asked = requests.iter().zip(&hosts).map(|(request, host)| host.ask_until_told(request));
    let mut given = BTreeMap::new();
    for answer in futures::future::join_all(asked).await {
        *given.entry(text(&answer.unwrap().bytes).to_owned()).or_insert(0) += 1;
    }
    given
}

/// The same with each way to rely on what was read.
fn at_each_level(prepare: impl Fn() -> Script, decide: impl Fn() -> Script) -> [BTreeMap<String, usize>; 2] {
    LEVELS.map(|isolation| in_paused_time(async { both(prepare(), relying_on(decide(), isolation)).await }))
}

fn asked_as(name: &'static str) -> Request {
    Request { input: Payload::text(name), key: Some(name.into()), ..Request::call("decide") }
}

fn put(key: &str, value: &str) -> memory::Put {
    let (key, value) = (key.to_owned(), value.to_owned().into());
    memory::Put { scope: Scope::Global, key, value, precondition: Precondition::Any, ttl_ms: None }
}

async fn on_call(guest: &Guest) -> Result<usize, Failure> {
    let list = memory::List { scope: Scope::Global, prefix: "on-call/".into(), cursor: None, limit: 100 };
    Ok(guest.sure(list).await?.items.len())
}

fn prepare() -> Script {
    agent("prepare", async |guest: Guest| {
        for key in ["on-call/a", "on-call/b"] {
            guest.sure(put(key, "yes")).await?;
        }
        Ok(Payload::text(""))
    })
}

/// Of two who both leave where the other one stays, by a list that each of them reads, one stays: as if one had come after the other.
#[test]
fn of_two_who_read_the_same_list_and_change_a_part_each_one_sees_what_the_other_did() {
    let gave = at_each_level(prepare, || {
        agent("decide", async |guest: Guest| {
            if on_call(&guest).await? < 2 {
                return Ok(Payload::text("stays"));
            }
            guest.compute(5).await;
            let (key, precondition) = (format!("on-call/{}", name(&guest)), Precondition::Any);
            guest.sure(memory::Delete { scope: Scope::Global, key, precondition }).await?;
            Ok(Payload::text("leaves"))
        })
    });
    assert_eq!(gave[0], [("leaves".to_owned(), 2)].into(), "each decided on what the other one changed");
    assert_eq!(gave[1], [("leaves".to_owned(), 1), ("stays".to_owned(), 1)].into());
}

/// The same of two steps of one run, side by side: what becomes true with one of them is looked at for the other.
#[test]
fn steps_side_by_side_see_what_the_other_one_did() {
    let gave = LEVELS.map(|isolation| {
        in_paused_time(async move {
            let leave = agent("leave", async |guest: Guest| {
                if on_call(&guest).await? < 2 {
                    return Ok(Payload::text("stays"));
                }
                guest.compute(5).await;
                let (key, precondition) = (format!("on-call/{}", name(&guest)), Precondition::Any);
                guest.sure(memory::Delete { scope: Scope::Global, key, precondition }).await?;
                Ok(Payload::text("leaves"))
            });
            let world = World::new([prepare(), relying_on(leave, isolation)]);
            let step = |name: &str| format!("{{agent: leave, id: {name}, with: $.input.{name}}}");
            let flow = format!("{{sequence: [{{agent: prepare}}, {{parallel: [{}, {}]}}]}}", step("a"), step("b"));
            let host = world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, []);
            let input = Payload::json(&serde_json::json!({"a": "a", "b": "b"}));
            let request = Request { input, ..Request::workflow("flow") };
            let gave = host.ask_until_told(&request).await.unwrap();
            let mut gave: Vec<String> = serde_json::from_slice(&gave.bytes).unwrap();
            gave.sort();
            gave
        })
    });
    assert_eq!(gave, [["leaves", "leaves"], ["leaves", "stays"]]);
}

/// What was read first counts also where it was read again, and changed then.
#[test]
fn what_is_changed_at_last_does_not_hide_what_was_read_at_first() {
    in_paused_time(async {
        let decide = agent("decide", async |guest: Guest| {
            let get = || memory::Get { scope: Scope::Global, key: "on-call/a".to_owned() };
            if name(&guest) == "a" {
                guest.compute(2).await;
                guest.sure(put("on-call/a", "no")).await?;
                return Ok(Payload::text("wrote"));
            }
            let first = guest.sure(get()).await?.unwrap();
            guest.compute(5).await;
            let again = guest.sure(get()).await?.unwrap();
            guest.sure(put("on-call/a", "perhaps")).await?;
            Ok(Payload::text(format!("{} {}", text(&first.value), text(&again.value))))
        });
        let gave = both(prepare(), relying_on(decide, Isolation::Serializable)).await;
        assert_eq!(gave, [("no no".to_owned(), 1), ("wrote".to_owned(), 1)].into());
    });
}

/// A refusal is an answer about what is there, too: a key that had come by then was there in the end.
#[test]
fn who_is_refused_relies_on_what_it_was_refused_for() {
    in_paused_time(async {
        let decide = agent("decide", async |guest: Guest| {
            if name(&guest) == "a" {
                guest.compute(2).await;
                let (key, precondition) = ("on-call/a".to_owned(), Precondition::Any);
                guest.sure(memory::Delete { scope: Scope::Global, key, precondition }).await?;
                return Ok(Payload::text("deleted"));
            }
            let if_absent = memory::Put { precondition: Precondition::Absent, ..put("on-call/a", "mine") };
            let is_refused = guest.cross(if_absent).await?.is_err();
            guest.compute(5).await;
            guest.sure(put("said", &is_refused.to_string())).await?;
            Ok(Payload::text(if is_refused { "is there" } else { "took it" }))
        });
        let gave = both(prepare(), relying_on(decide, Isolation::Serializable)).await;
        assert_eq!(gave, [("deleted".to_owned(), 1), ("took it".to_owned(), 1)].into());
    });
}

/// Much more than can be looked at again is refused, by name; and what was so far can still be made true.
#[test]
fn more_than_is_looked_at_again_is_refused() {
    in_paused_time(async {
        let decide = agent("decide", async |guest: Guest| {
            let list = |n: u32| memory::List { scope: Scope::Global, prefix: format!("{n}/"), cursor: None, limit: 1 };
            for n in 0..32 {
                guest.sure(list(n)).await?;
            }
            let refused = guest.cross(list(32)).await?.unwrap_err();
            guest.sure(list(0)).await?;
            guest.checkpoint().await?;
            guest.sure(list(32)).await?;
            Ok(Payload::text(format!("{refused:?}")))
        });
        let world = World::new([prepare(), relying_on(decide, Isolation::Serializable)]);
        let host = world.host(&world.record(None).await, []);
        let said = host.ask_until_told(&asked_as("a")).await.unwrap();
        assert!(text(&said.bytes).contains("at most 32 lists, walks and searches"), "{}", text(&said.bytes));
    });
}

/// The same of a key that each reads and the other one writes, and of one that is not there.
#[test]
fn what_was_read_of_a_key_still_stands_there_in_the_end() {
    let gave = at_each_level(prepare, || {
        agent("decide", async |guest: Guest| {
            let own = name(&guest);
            let other = if own == "a" { "b" } else { "a" };
            let key = |of: &str| format!("first/{of}");
            let found = guest.sure(memory::Get { scope: Scope::Global, key: key(other) }).await?;
            guest.compute(5).await;
            guest.sure(put(&key(&own), "here")).await?;
            Ok(Payload::text(if found.is_some() { "second" } else { "first" }))
        })
    });
    assert_eq!(gave[0], [("first".to_owned(), 2)].into());
    assert_eq!(gave[1], [("first".to_owned(), 1), ("second".to_owned(), 1)].into());
}

/// The same of facts that are not there.
#[test]
fn what_was_not_found_in_the_graph_is_not_there_in_the_end() {
    let gave = at_each_level(prepare, || {
        agent("decide", async |guest: Guest| {
            let (relation, as_of) = (Some("owns".parse().unwrap()), AsOf::default());
            let (entity, direction, history, after) = (None, Direction::Both, false, None);
            let filter = FactFilter { entity, direction, relation, as_of, history, after, limit: 10 };
            let found = guest.sure(graph::Facts(filter)).await?.facts.len();
            guest.compute(5).await;
            if found > 0 {
                return Ok(Payload::text("is owned"));
            }
            let relate = graph::Relate {
                subject: name(&guest).parse().unwrap(),
                relation: "owns".parse().unwrap(),
                object: "house".parse().unwrap(),
                properties: String::new(),
                valid_from: None,
            };
            guest.sure(relate).await?;
            Ok(Payload::text("owns"))
        })
    });
    assert_eq!(gave[0], [("owns".to_owned(), 2)].into());
    assert_eq!(gave[1], [("is owned".to_owned(), 1), ("owns".to_owned(), 1)].into());
}

/// Who changes nothing relies on what it read, too: what it gives was all true at once.
#[test]
fn who_only_reads_sees_all_of_it_at_one_moment() {
    let gave = at_each_level(
        || {
            agent("prepare", async |guest: Guest| {
                guest.sure(put("left", "1")).await?;
                guest.sure(put("right", "1")).await?;
                Ok(Payload::text(""))
            })
        },
        || {
            agent("decide", async |guest: Guest| {
                if name(&guest) == "a" {
                    guest.compute(2).await;
                    guest.sure(put("left", "2")).await?;
                    guest.sure(put("right", "2")).await?;
                    return Ok(Payload::text("wrote"));
                }
                let get = |key: &str| memory::Get { scope: Scope::Global, key: key.to_owned() };
                let left = guest.sure(get("left")).await?.unwrap();
                guest.compute(5).await;
                let right = guest.sure(get("right")).await?.unwrap();
                Ok(Payload::text(format!("{} {}", text(&left.value), text(&right.value))))
            })
        },
    );
    assert_eq!(gave[0], [("1 2".to_owned(), 1), ("wrote".to_owned(), 1)].into());
    assert_eq!(gave[1], [("2 2".to_owned(), 1), ("wrote".to_owned(), 1)].into());
}

/// The same of one key that is read again after somebody changed it: what counts is what was read first.
#[test]
fn what_is_read_twice_is_the_same_both_times() {
    let gave = at_each_level(prepare, || {
        agent("decide", async |guest: Guest| {
            let get = || memory::Get { scope: Scope::Global, key: "on-call/a".to_owned() };
            if name(&guest) == "a" {
                guest.compute(2).await;
                guest.sure(put("on-call/a", "no")).await?;
                return Ok(Payload::text("wrote"));
            }
            let first = guest.sure(get()).await?.unwrap();
            guest.compute(5).await;
            let again = guest.sure(get()).await?.unwrap();
            Ok(Payload::text(format!("{} {}", text(&first.value), text(&again.value))))
        })
    });
    assert_eq!(gave[0], [("wrote".to_owned(), 1), ("yes no".to_owned(), 1)].into());
    assert_eq!(gave[1], [("no no".to_owned(), 1), ("wrote".to_owned(), 1)].into());
}

/// What an attempt did before its checkpoint is no change by others, and what it relied on up to there counts no more.
#[test]
fn a_checkpoint_ends_what_is_relied_on() {
    in_paused_time(async {
        let decide = agent("decide", async |guest: Guest| {
            let own = format!("on-call/{}", name(&guest));
            let mut seen = Vec::new();
            for round in 0..3 {
                seen.push(on_call(&guest).await?);
                guest.sure(put(&format!("{own}-{round}"), "yes")).await?;
                guest.checkpoint().await?;
            }
            Ok(Payload::text(if seen.is_sorted() { "grew" } else { "shrank" }))
        });
        let world = World::new([prepare(), relying_on(decide, Isolation::Serializable)]);
        let host = world.host(&world.record(None).await, []);
        assert_eq!(text(&host.ask_until_told(&asked_as("a")).await.unwrap().bytes), "grew");
        assert_eq!(host.sandbox.ran().len(), 1, "it was made once");
    });
}
