//! The record decides: hosts that share a record and nothing else, and steps of one run, want the same keys and messages at once. Every
//! count is exact; every message is processed once, and none is lost.
//!
//! Each host has locks of its own, so that nothing but the record keeps those of one host from those of the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ltmc_model::Payload;
use ltmc_model::call::memory;
use ltmc_model::call::messages::{Ack, Receive, Send};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::memory::{Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_ports::testing::suite::InMemory;
use serde_json::json;
use tokio::time::Instant;

use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, Request, World};
use crate::records::{AnyRecord, On, OnDisk};
use crate::truth::{Truth, truth};
use crate::twenty::draft;

/// Agents that write at once, half of them on each host.
const WRITERS: usize = 16;
/// How often each of them does.
const TIMES: usize = 4;
/// How often somebody takes messages, at once.
const READERS: usize = 4;
/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// One more of what is counted by two calls (`read`) and by one (`added`), and a message of this name.
async fn write(guest: &Guest, name: &str) -> Result<(), Failure> {
    let scope = Scope::Global;
    let read = guest.sure(memory::Get { scope, key: "read".into() }).await?;
    guest.compute(2).await;
    let number = read.map_or(0, |item| text(&item.value).parse::<usize>().unwrap()) + 1;
    // Whatever stands there by now: what was read is expected to.
    let (value, precondition) = (number.to_string().into(), Precondition::Any);
    guest.sure(memory::Put { scope, key: "read".into(), value, precondition, ttl_ms: None }).await?;
    count(guest, "added").await?;
    guest.sure(Send { to: "worker".parse().unwrap(), event: draft(name) }).await?;
    Ok(())
}

async fn count(guest: &Guest, key: &str) -> Result<(), Failure> {
    let merge = Merge::Increment(1);
    guest.sure(memory::Update { scope: Scope::Global, key: key.into(), merge, ttl_ms: None }).await.map(drop)
}

/// Takes messages, as many as there are and at most two, and counts each by its name; how many it was.
async fn take(guest: &Guest) -> Result<usize, Failure> {
    let taken = guest.sure(Receive { limit: 2, wait_ms: 0 }).await?;
    guest.compute(1).await;
    for message in &taken {
        count(guest, &format!("seen/{}", message.event.kind)).await?;
        guest.sure(Ack { id: message.id }).await?;
    }
    Ok(taken.len())
}

/// Who writes has a name of its own: of one sender a message is handed out after the other.
fn writers() -> impl Iterator<Item = Script> {
    (0..WRITERS).map(|number| {
        agent(&format!("writer-{number}"), |guest| async move {
            let name = text(&guest.job.input.bytes).to_owned();
            write(&guest, &name).await?;
            Ok(guest.job.input.clone())
        })
    })
}

/// Asks until it is done; others may be faster so often that the host says so, and nothing of it is true then.
async fn done<R: AnyRecord>(host: &Host<R>, agent: &'static str, name: &str) -> Payload {
    for number in 0.. {
        let (input, key) = (Payload::text(name), Some(format!("{agent}-{name}-{number}")));
        match host.ask(&Request { input, key, ..Request::call(agent) }).await {
            Some(Ok(output)) => return output,
            Some(Err(failure)) if failure.code == Code::Conflict => {}
            other => panic!("{other:?}"),
        }
    }
    unreachable!("it asks again and again")
}

/// Everything was written once, and what is in the mailbox or was taken from it is each message once.
fn is_exact(truth: &Truth, written: usize, is_taken: bool) {
    assert_eq!(truth.memory["read"], written.to_string());
    assert_eq!(truth.memory["added"], written.to_string());
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, times) in &truth.memory {
        if let Some(name) = key.strip_prefix("seen/") {
            *seen.entry(name).or_default() += times.parse::<usize>().unwrap();
        }
    }
    let taken = seen.len();
    for (agent, name, in_hands, is_dead) in &truth.mail {
        assert_eq!((agent.as_str(), *in_hands, *is_dead), ("worker", false, false), "{name}");
        *seen.entry(name).or_default() += 1;
    }
    assert_eq!(seen.len(), written, "each message is there: {seen:?}");
    assert!(seen.values().all(|times| *times == 1), "each message once: {seen:?}");
    assert!(taken == written || !is_taken, "{taken} of {written} messages are taken");
}

/// Sixteen agents on two hosts count the same things and write to one mailbox, from which others take meanwhile.
fn sixteen_writers<F: On>() {
    F::in_time(async {
        let reader = agent("worker", |guest| async move { Ok(Payload::text(take(&guest).await?.to_string())) });
        let world = World::new(writers().chain([reader]));
        let on = F::default();
        let record = world.record_on(&on, None).await;
        let hosts = [world.host(&record, []), world.host(&record, [])];
        let names: Vec<&'static str> = (0..WRITERS).map(|number| &*format!("writer-{number}").leak()).collect();
        let writing = names.iter().enumerate().map(|(number, agent)| {
            let host = &hosts[number % 2];
            async move {
                for time in 0..TIMES {
                    done(host, agent, &format!("{number}-{time}")).await;
                }
            }
        });
        let taken = AtomicUsize::new(0);
        let begun = Instant::now();
        let reading = (0..READERS).map(|reader| {
            let (host, taken) = (&hosts[reader % 2], &taken);
            async move {
                for round in 0.. {
                    if taken.load(Ordering::SeqCst) >= WRITERS * TIMES {
                        break;
                    }
                    let output = done(host, "worker", &format!("{reader}-{round}")).await;
                    let number = text(&output.bytes).parse::<usize>().unwrap();
                    taken.fetch_add(number, Ordering::SeqCst);
                    assert!(begun.elapsed() < PATIENCE, "{taken:?} messages are taken");
                    if number == 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        });
        tokio::join!(futures::future::join_all(writing), futures::future::join_all(reading));
        is_exact(&truth(&record).await, WRITERS * TIMES, true);
        assert_eq!(taken.load(Ordering::SeqCst), WRITERS * TIMES);
        assert!(hosts.iter().all(|host| host.sandbox.ran().len() >= WRITERS * TIMES / 2), "both hosts were at work");
    });
}

#[test]
fn sixteen_writers_on_two_hosts_lose_nothing_and_do_nothing_twice() {
    sixteen_writers::<InMemory>();
}

#[test]
fn on_disk_too_sixteen_writers_on_two_hosts_lose_nothing_and_do_nothing_twice() {
    sixteen_writers::<OnDisk>();
}

/// Steps of a run that are at work at once.
const STEPS: usize = 8;
/// Runs of each kind.
const RUNS: usize = 4;

/// Branches and items that share keys and a mailbox; one that was overtaken too often is tried again.
fn documents() -> String {
    let step = "agent: worker, retry: {attempts: 50, on: [conflict], backoff: 1ms}";
    let branches: Vec<String> = (0..STEPS).map(|number| format!("{{{step}, id: s{number}}}")).collect();
    format!(
        "name: branches\nflow: {{sequence: [{{parallel: [{}]}}]}}\n---\nname: items\nflow: {{sequence: [{{map: $.input.list, do: {{{step}}}, \
         at-once: {STEPS}}}]}}",
        branches.join(", ")
    )
}

/// Steps of runs of `parallel` and `map` on two hosts do the same, each of them all of it.
fn steps_at_once<F: On>() {
    F::in_time(async {
        let step = agent("worker", |guest| async move {
            // The same each time that the step is tried, and of this step alone.
            write(&guest, &format!("{}/{}", guest.job.run, guest.job.step)).await?;
            take(&guest).await?;
            Ok(guest.job.input.clone())
        });
        let world = World::new([step]);
        let on = F::default();
        let record = world.record_on(&on, Some(&documents())).await;
        let hosts = [world.host(&record, []), world.host(&record, [])];
        let list: Vec<usize> = (0..STEPS).collect();
        let requests: Vec<Request> = (0..RUNS)
            .flat_map(|number| ["branches", "items"].map(|workflow| (workflow, number)))
            .map(|(workflow, number)| Request {
                input: Payload::json(&json!({ "list": list })),
                key: Some(format!("{workflow}-{number}")),
                ..Request::workflow(workflow)
            })
            .collect();
        let asked = requests.iter().enumerate().map(|(number, request)| hosts[number / 2 % 2].ask(request));
        for answer in futures::future::join_all(asked).await {
            assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
        }
        is_exact(&truth(&record).await, 2 * RUNS * STEPS, false);
        assert!(hosts.iter().all(|host| host.sandbox.ran().len() >= RUNS * STEPS), "both hosts were at work");
    });
}

#[test]
fn steps_of_one_run_that_are_at_work_at_once_lose_nothing_and_do_nothing_twice() {
    steps_at_once::<InMemory>();
}

#[test]
fn on_disk_too_steps_at_work_at_once_lose_nothing_and_do_nothing_twice() {
    steps_at_once::<OnDisk>();
}
