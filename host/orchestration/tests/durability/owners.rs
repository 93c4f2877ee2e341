//! Two hosts, one run: whoever takes it over has it, the other lets go, and it comes out once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use ltmc_model::failure::Code;
use ltmc_ports::testing::Fault;

use crate::crash::work;
use crate::guest::{Script, agent};
use crate::host::{Answer, Contents, Host, Request, World, in_paused_time};
use crate::story::{Story, claims};

const DOCUMENT: &str = "name: two\nflow: {sequence: [{agent: one}, {agent: two}]}";

fn scripts() -> [Script; 2] {
    ["one", "two"].map(|name| agent(name, work))
}

fn request() -> Request {
    Request::workflow("two")
}

/// What is left: the end as `host` tells it, the memory, the story, and how often the run was taken over.
async fn outcome(world: &World, host: &Host) -> (Answer, Contents, Story, usize) {
    let answer = host.ask_until_told(&request()).await;
    let journal = host.journal(host.run().await.unwrap()).await;
    (answer, world.memory(&host.record).await, Story::of(&journal), claims(&journal))
}

/// The first host's guest is at its call number `call` when a second host takes the run over. `slow`: the first host's
/// appends take that long.
async fn taken_over(call: u64, slow: Option<Duration>) -> (Answer, Contents, Story, usize) {
    let world = World::new(scripts());
    let record = world.record(Some(DOCUMENT)).await;
    let delays = slow.into_iter().flat_map(|by| (2..100).map(move |at| (at, Fault::Delay(by))));
    let (first, second) = (world.host(&record, delays), world.host(&record, []));
    let (calls, taker) = (Arc::new(AtomicU64::new(0)), second.runs.clone());
    first.sandbox.after_call(move |_| {
        let (now, taker) = (calls.fetch_add(1, Ordering::SeqCst) + 1 == call, taker.clone());
        let take = async move {
            if now {
                taker.recover().await.unwrap();
            }
        };
        take.boxed()
    });
    let told = first.ask(&request()).await.unwrap();
    let found = outcome(&world, &second).await;
    match told {
        Ok(output) => assert_eq!(Ok(output), found.0, "both tell the same end"),
        Err(failure) => assert_eq!(failure.code, Code::Fenced, "{failure:?}"),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((first.runs.alive(), second.runs.alive()), (0, 0));
    found
}

#[test]
fn a_run_that_is_taken_over_comes_out_once() {
    let undisturbed = in_paused_time(taken_over(0, None));
    for slow in [None, Some(Duration::from_millis(2))] {
        for call in 1..=20 {
            let found = in_paused_time(taken_over(call, slow));
            assert_eq!(
                (&found.0, &found.1, &found.2),
                (&undisturbed.0, &undisturbed.1, &undisturbed.2),
                "at call {call}"
            );
            assert!(found.3 <= 1, "at call {call} the hosts took the run from each other {} times", found.3);
        }
    }
}

#[test]
fn of_two_hosts_that_start_at_once_one_has_the_run() {
    in_paused_time(async {
        let world = World::new(scripts()).with_checkpoints();
        let dying = world.host(&world.record(Some(DOCUMENT)).await, [(3, Fault::CrashAfter)]);
        dying.ask(&request()).await;
        let record = dying.record.copy();
        // Both are at it before either claims it; the second one takes it for a suspect, for it is being taken up.
        let claims_late = [(1, Fault::Delay(Duration::from_secs(1)))];
        let hosts = [world.host(&record, claims_late), world.host(&record, claims_late)];
        let (one, two) = tokio::join!(hosts[0].runs.recover(), hosts[1].runs.recover());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((one.resumed + two.resumed, one.suspects + two.suspects, one.left + two.left), (1, 1, 0));
        let (answer, _, story, claims) = outcome(&world, &hosts[0]).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!((story.ends, claims), (vec!["run-completed"], 1));
    });
}

#[test]
fn who_asks_for_a_run_that_another_host_has_is_told_its_end_once_it_is_over() {
    in_paused_time(async {
        let world = World::new(scripts());
        let record = world.record(Some(DOCUMENT)).await;
        let (owner, other) = (world.host(&record, []), world.host(&record, []));
        let there = owner.ask(&request()).await.unwrap();
        assert_eq!(other.ask(&request()).await.unwrap(), there);
        assert!(other.sandbox.ran().is_empty());
    });
}
