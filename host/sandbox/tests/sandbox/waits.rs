//! A guest that waits has no slot meanwhile, and a place among those that wait, of which no tenant has all.

use std::time::Duration;

use ltmc_model::failure::Code;
use ltmc_model::limits::Limits;

use super::{Rig, command, in_time};

/// Longer than a test takes.
const LONG: u64 = 600_000;

/// A command that sleeps for so many milliseconds by the clock of WASI.
fn sleeper(millis: u64) -> String {
    let nanos = millis * 1_000_000;
    format!(
        r#"(component
             (import "wasi:io/poll@0.2.6" (instance $poll
               (export "pollable" (type $pollable (sub resource)))
               (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
             (alias export $poll "pollable" (type $pollable))
             (import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock
               (alias outer 1 $pollable (type $outer))
               (export "pollable" (type $pollable (eq $outer)))
               (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
             (core func $block (canon lower (func $poll "[method]pollable.block")))
             (core func $after (canon lower (func $clock "subscribe-duration")))
             (core module $guest
               (import "host" "block" (func $block (param i32)))
               (import "host" "after" (func $after (param i64) (result i32)))
               (memory 1)
               (func (export "run") (result i32) (call $block (call $after (i64.const {nanos}))) (i32.const 0)))
             (core instance $guest (instantiate $guest
               (with "host" (instance (export "block" (func $block)) (export "after" (func $after))))))
             (func $run (result (result)) (canon lift (core func $guest "run")))
             (instance $exported (export "run" (func $run)))
             (export "wasi:cli/run@0.2.6" (instance $exported)))"#
    )
}

fn limits(wall: Duration) -> Limits {
    Limits { cpu: Duration::from_secs(60), wall, ..Limits::default() }
}

const MINUTES: Duration = Duration::from_secs(900);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_wait_leave_their_slots_to_others_and_nothing_when_they_go() {
    let rig = Rig::new(2, |config| config.queue_deadline = Duration::from_secs(20));
    let sleeps = rig.push(&sleeper(LONG)).await.unwrap();
    let quick = rig.push(&command("")).await.unwrap();
    let sleeping: Vec<_> =
        ["a", "a", "a", "b", "b", "c"].map(|tenant| rig.begin(tenant, sleeps, limits(MINUTES))).into();
    rig.until(|stats| stats.waiting == 6 && stats.running == 0).await;
    for tenant in ["a", "d"] {
        rig.call(tenant, quick, limits(MINUTES)).await.unwrap();
    }
    for one in sleeping {
        one.abort();
    }
    rig.until(|stats| (stats.waiting, stats.running, stats.queued) == (0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_waited_goes_on_when_a_slot_is_free() {
    let rig = Rig::new(1, |_| ());
    let sleeps = rig.push(&sleeper(100)).await.unwrap();
    let spins = rig.push(&command("(loop $again (br $again))")).await.unwrap();
    let sleeping = ["a", "a", "b"].map(|tenant| rig.begin(tenant, sleeps, limits(MINUTES)));
    let spinning =
        rig.begin("c", spins, Limits { cpu: Duration::from_millis(500), wall: MINUTES, ..Limits::default() });
    for one in sleeping {
        in_time(one).await.unwrap().unwrap();
    }
    assert_eq!(in_time(spinning).await.unwrap().unwrap_err().code, Code::LimitCpu);
    rig.until(|stats| (stats.waiting, stats.running, stats.queued) == (0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_time_goes_on_while_it_waits_and_while_it_waits_for_a_slot_again() {
    let rig = Rig::new(1, |_| ());
    let sleeps = rig.push(&sleeper(LONG)).await.unwrap();
    let failure = rig.call("a", sleeps, limits(Duration::from_millis(200))).await.unwrap_err();
    assert_eq!(failure.code, Code::LimitWall, "{failure}");

    let (naps, spins) = (sleeper(2_000), command("(loop $again (br $again))"));
    let (naps, spins) = (rig.push(&naps).await.unwrap(), rig.push(&spins).await.unwrap());
    let napping = rig.begin("a", naps, limits(Duration::from_secs(4)));
    rig.until(|stats| stats.waiting == 1).await;
    let spinning = rig.begin("b", spins, limits(MINUTES));
    let failure = in_time(napping).await.unwrap().unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::Busy, true), "{failure}");
    assert!(failure.message.contains("no turn came again"), "{failure}");
    spinning.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_to_wait_are_divided_among_tenants_and_who_has_none_waits_in_its_slot() {
    let rig = Rig::new(4, |config| config.waiting = 8);
    let (sleeps, naps) = (rig.push(&sleeper(LONG)).await.unwrap(), rig.push(&sleeper(50)).await.unwrap());
    let sleeping = [(); 3].map(|()| rig.begin("a", sleeps, limits(MINUTES)));
    rig.until(|stats| stats.waiting == 3 && stats.running == 0).await;
    rig.call("a", naps, limits(MINUTES)).await.unwrap();
    let failure = rig.call("a", sleeps, limits(Duration::from_millis(200))).await.unwrap_err();
    assert_eq!(failure.code, Code::LimitWall, "{failure}");
    let _in_its_slot = rig.begin("a", sleeps, limits(MINUTES));
    rig.until(|stats| stats.running == 1).await;
    // There are places for others, and soon one for the one in its slot.
    let _later = ["b", "c", "d"].map(|tenant| rig.begin(tenant, sleeps, limits(MINUTES)));
    rig.until(|stats| stats.waiting == 6 && stats.running == 1).await;
    for one in sleeping {
        one.abort();
    }
    rig.until(|stats| stats.waiting == 4 && stats.running == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_those_that_wait_is_divided_among_tenants_too() {
    // Four of its pages: a tenant alone has one, as two would not leave two and one.
    let rig = Rig::new(4, |config| config.waiting_memory = 4 * (64 << 10));
    let sleeps = rig.push(&sleeper(LONG)).await.unwrap();
    let _two = [(); 2].map(|()| rig.begin("a", sleeps, limits(MINUTES)));
    rig.until(|stats| stats.waiting == 1 && stats.running == 1).await;
    let _other = rig.begin("b", sleeps, limits(MINUTES));
    rig.until(|stats| stats.waiting == 2 && stats.running == 1).await;
}

/// The case that was found: calls that wait for a moment on a host that has nothing else to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_there_are_places_for_wait_for_a_moment_each() {
    let rig = Rig::new(16, |config| config.waiting_memory = 4 * (64 << 10));
    let naps = rig.push(&sleeper(50)).await.unwrap();
    for one in [(); 16].map(|()| rig.begin("a", naps, limits(MINUTES))) {
        in_time(one).await.unwrap().unwrap();
    }
    rig.until(|stats| (stats.waiting, stats.running, stats.queued) == (0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_divided_among_tenants_and_comes_back() {
    // In pieces of 1 MiB: a tenant has three of eight, and one more is for somebody else.
    let rig = Rig::new(16, |config| config.memory = 8 << 20);
    let sleeps = rig.push(&sleeper(LONG)).await.unwrap();
    let three = [(); 3].map(|()| rig.begin("a", sleeps, limits(MINUTES)));
    rig.until(|stats| stats.waiting == 3).await;
    let refused = rig.call("a", sleeps, limits(MINUTES)).await.unwrap_err();
    assert_eq!(refused.code, Code::Busy, "{refused}");
    assert!(refused.retryable && refused.message.contains("as much memory as one tenant's may"), "{refused}");
    let _other = rig.begin("b", sleeps, limits(MINUTES));
    rig.until(|stats| stats.waiting == 4).await;
    for one in three {
        one.abort();
    }
    rig.until(|stats| stats.waiting == 1).await;
    let _again = rig.begin("a", sleeps, limits(MINUTES));
    rig.until(|stats| stats.waiting == 2).await;
}
