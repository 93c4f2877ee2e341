//! Agents' states that end by themselves, and events that wait for the next transition: once each, whoever dies, and with several hosts on one record.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::call::state::Transition;
use ltmc_model::capability::{Any, Capability};
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::memory::Drawer;
use ltmc_model::message::Topic;
use ltmc_model::state::{Kept, Told};
use ltmc_model::{Payload, Revision, RunId, Seq};
use ltmc_ports::testing::{Fault, MemoryRecord};
use ltmc_ports::{Bus as _, ReadJournal as _, ReadMemory as _, ReadStates as _, WriteCatalog as _};
use serde_json::{Value, json};

use crate::crash::{Left, every_way};
use crate::guest::{Guest, agent, text};
use crate::host::{Host, Line, Request, World, in_paused_time, tenant};

const MINUTE: Duration = Duration::from_secs(60);

/// Working lasts ten minutes, late one more; what comes too early waits.
fn declaration() -> Value {
    json!({
        "version": 1, "initial": "idle", "data": {"total": 0}, "unhandled": "defer",
        "schema": {"properties": {"total": {"maximum": 5}}},
        "states": {
            "idle": {},
            "working": {"timeout": "10m", "to": "late", "emit": {"topic": "jobs", "type": "job.late"}},
            "late": {"timeout": "1m", "to": "failed"}, "failed": {}, "done": {"final": true},
        },
        "transitions": [
            {"from": "idle", "to": "working", "on": "start"},
            {"from": "working", "to": "working", "on": "add"},
            {"from": "working", "to": "done", "on": "finish"},
            {"from": "late", "to": "late", "on": "excuse"},
            {"from": "failed", "to": "idle", "on": "reset"},
        ],
    })
}

/// Does what it is told: events, one a word, with the number that comes with them.
async fn worker(guest: Guest) -> Result<Payload, Failure> {
    let events = text(&guest.job.input.bytes).to_owned();
    let mut told = Vec::new();
    for event in events.split_whitespace() {
        let (event, patch) = match event.split_once('=') {
            Some((event, total)) => (event, json!({"total": total.parse::<i64>().unwrap()})),
            None => (event, json!({})),
        };
        let call = Transition { event: event.into(), patch: patch.to_string(), expected: None };
        let came: Told = guest.sure(call).await?;
        told.push(came.map_or_else(|refused| refused.rule, |now| now.state));
    }
    Ok(Payload::text(told.join(" ")))
}

fn world() -> World {
    World::new([agent("worker", worker).declaring(declaration())])
}

/// What the agent is told of these events, one after the other.
async fn events(host: &Host, events: &str) -> String {
    let request = Request { input: Payload::text(events.to_owned()), key: None, ..Request::call("worker") };
    text(&host.ask_until_told(&request).await.unwrap().bytes).to_owned()
}

async fn kept(record: &MemoryRecord, world: &World) -> (Kept, Revision) {
    let drawer = Drawer::State("worker".parse().unwrap());
    let item = record.get(&tenant(), &drawer, "state", world.clock().now()).await.unwrap().unwrap();
    (Kept::from_bytes(&item.value).unwrap(), item.revision)
}

/// How often a state ended by itself, by the tenant's ledger: from what, in what.
async fn lapses(record: &MemoryRecord) -> Vec<(String, Option<String>)> {
    let ledger = record.entries(&tenant(), RunId::ledger(), Seq(0), 1_000).await.unwrap();
    let lapse = |event| match event {
        Event::Act(act) => match *act {
            Act { change: Change::StateLapsed { from, to, .. }, .. } => Some((from, to)),
            _ => None,
        },
        _ => None,
    };
    ledger.into_iter().filter_map(|placed| lapse(placed.entry.event)).collect()
}

/// What was published of it.
async fn published(record: &MemoryRecord) -> Vec<Value> {
    let topic: Topic = "jobs".parse().unwrap();
    let page = record.events(&tenant(), &topic, ltmc_model::Position(0), 100).await.unwrap();
    page.events.iter().map(|found| found.event.data.to_value().unwrap()).collect()
}

fn ending(host: &Host) -> tokio_util::task::AbortOnDropHandle<()> {
    let lapses = host.lapses.clone();
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move { lapses.attend().await }))
}

async fn may_publish(record: &Arc<MemoryRecord>, world: &World, may: bool) {
    let mut grants = vec![Capability::State];
    grants.extend(may.then(|| Capability::MessagePublish(Any::One("jobs".parse().unwrap()))));
    let change = Change::GrantsSet { agent: "worker".parse().unwrap(), grants, digest: None, carry: None };
    record.act(&tenant(), world.clock().now(), Act { by: None, change }).await.unwrap();
}

#[test]
fn a_state_ends_by_itself_and_says_so_where_it_may() {
    for may in [true, false] {
        in_paused_time(async {
            let world = world();
            let record = world.record(None).await;
            may_publish(&record, &world, may).await;
            let host = world.host(&record, []);
            let _ending = ending(&host);
            assert_eq!(events(&host, "start").await, "working");
            let (before, revision) = kept(&record, &world).await;
            assert!(before.due.is_some());
            tokio::time::sleep(9 * MINUTE + MINUTE / 2).await;
            assert_eq!(kept(&record, &world).await.1, revision, "it is not over");
            tokio::time::sleep(MINUTE).await;
            let (late, _) = kept(&record, &world).await;
            assert_eq!((late.state.as_str(), late.from.as_deref(), late.timed), ("late", Some("working"), true));
            assert_eq!(Some(late.since), before.due, "since it ended, not since that was written");
            tokio::time::sleep(MINUTE).await;
            assert_eq!(kept(&record, &world).await.0.state, "failed");
            let of = |from: &str, to: &str| (from.to_owned(), Some(to.to_owned()));
            assert_eq!(lapses(&record).await, [of("working", "late"), of("late", "failed")]);
            let told = published(&record).await;
            assert_eq!(told.len(), usize::from(may), "{told:?}");
            if may {
                assert_eq!((&told[0]["from"], &told[0]["to"]), (&json!("working"), &json!("late")));
            }
            assert_eq!(record.coming_states(None, 10).await.unwrap(), []);
            assert!(record.verify().await.unwrap().damage.is_empty());
        });
    }
}

#[test]
fn a_transition_sets_the_timer_anew_or_ends_it() {
    in_paused_time(async {
        let world = world();
        let host = world.host(&world.record(None).await, []);
        let _ending = ending(&host);
        events(&host, "start").await;
        for _ in 0..3 {
            tokio::time::sleep(9 * MINUTE).await;
            assert_eq!(events(&host, "add=1").await, "working");
        }
        assert_eq!(events(&host, "finish").await, "done");
        tokio::time::sleep(30 * MINUTE).await;
        assert_eq!((kept(&host.record, &world).await.0.state.as_str(), lapses(&host.record).await.len()), ("done", 0));
    });
}

#[test]
fn what_comes_too_early_is_given_after_the_next_transition() {
    in_paused_time(async {
        let world = world();
        let host = world.host(&world.record(None).await, []);
        let _ending = ending(&host);
        // The data of `add=9` are none by the schema, and `reset` is for a state that comes later.
        assert_eq!(events(&host, "add=9 reset add=3 nothing").await, "idle idle idle no-transition");
        let (waits, _) = kept(&host.record, &world).await;
        assert_eq!(waits.deferred.iter().map(|one| one.event.as_str()).collect::<Vec<_>>(), ["add", "reset", "add"]);
        assert_eq!(events(&host, "start").await, "working");
        let (now, _) = kept(&host.record, &world).await;
        assert_eq!((now.data, now.deferred.len()), (json!({"total": 3}), 1));
        assert_eq!((now.dropped[0].event.as_str(), now.dropped[0].rule.as_str()), ("add", "schema"));
        tokio::time::sleep(12 * MINUTE).await;
        let (now, _) = kept(&host.record, &world).await;
        assert_eq!(
            (now.state.as_str(), now.deferred.len()),
            ("idle", 0),
            "it failed by its time, and then came `reset`"
        );
        let early = "add=1 ".repeat(33);
        assert!(events(&host, &early).await.ends_with("idle deferred"), "so many wait at most");
    });
}

#[test]
fn of_two_hosts_one_ends_a_state() {
    in_paused_time(async {
        let world = world();
        let record = world.record(None).await;
        may_publish(&record, &world, true).await;
        let lag = || Line::new(&record, [], None).with_lag(Duration::from_millis(7));
        let (one, two) = (world.host_over(lag()), world.host_over(lag()));
        let _both = (ending(&one), ending(&two));
        events(&one, "start").await;
        tokio::time::sleep(12 * MINUTE).await;
        assert_eq!((lapses(&record).await.len(), published(&record).await.len()), (2, 1));
    });
}

#[test]
fn a_state_whose_agent_is_gone_or_is_another_by_now_ends_as_that_says() {
    in_paused_time(async {
        let world = world();
        let record = world.record(None).await;
        let host = world.host(&record, []);
        let _ending = ending(&host);
        events(&host, "start").await;
        let change = Change::AgentDeleted { name: "worker".parse().unwrap() };
        host.authority.act(&tenant(), None, change).await.unwrap();
        tokio::time::sleep(12 * MINUTE).await;
        let (left, _) = kept(&record, &world).await;
        assert_eq!((left.state.as_str(), left.due), ("working", None), "nobody says what comes after it");
        assert_eq!(lapses(&record).await, [("working".to_owned(), None)]);
    });
}

/// A host dies at every append of the run that sets the timer, right before or right after it takes effect: what ends by itself, which is one act, ends
/// once, and nothing is lost of what waited.
#[test]
fn a_state_ends_once_wherever_a_host_dies() {
    for at in 1.. {
        let mut crashed = false;
        for (how, left) in every_way() {
            crashed |= in_paused_time(one_life(at, how, left));
        }
        if !crashed {
            assert!(at > 2, "a run is at least two appends");
            break;
        }
    }
}

async fn one_life(at: u64, how: Fault, left: Left) -> bool {
    let world = world();
    let record = world.record(None).await;
    may_publish(&record, &world, true).await;
    let host = world.host(&record, [(at, how)]);
    let first = ending(&host);
    let request = Request {
        input: Payload::text("excuse=2 start".to_owned()),
        key: Some("once".into()),
        ..Request::call("worker")
    };
    drop(tokio::time::timeout(MINUTE / 2, host.ask_until_told(&request)).await);
    tokio::time::sleep(12 * MINUTE).await;
    let crashed = host.line.is_dead();
    let record = match left {
        Left::Synced => record.crash(),
        Left::All => record.copy(),
    };
    drop((first, host));
    let next = world.host(&record, []);
    let _second = ending(&next);
    next.runs.recover().await.unwrap();
    next.ask_until_told(&request).await.unwrap();
    tokio::time::sleep(12 * MINUTE).await;
    let what = format!("{at} {how:?} {left:?}");
    let (now, _) = kept(&record, &world).await;
    assert_eq!((now.state.as_str(), now.data, now.deferred.len()), ("failed", json!({"total": 2}), 0), "{what}");
    assert_eq!((lapses(&record).await.len(), published(&record).await.len()), (2, 1), "{what}");
    let audit = record.verify().await.unwrap();
    assert!(audit.damage.is_empty(), "{what}: {audit:?}");
    crashed
}
