//! An attempt is a transaction: what it does is true whole or not at all, whoever ends it and when. That it is what the attempt did that
//! succeeded, wherever and however those before it ended, is in `twenty`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ltmc_model::Payload;
use ltmc_model::call::messages::{Ack, Receive};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::run::State;
use ltmc_ports::testing::MemoryRecord;

use crate::guest::{agent, text};
use crate::host::{Request, World, caller, in_paused_time};
use crate::truth::{change, drawn_up_to, letter, truth};
use crate::twenty::add;

const DOCUMENT: &str = "name: tried\nflow: {sequence: [{agent: worker, retry: {attempts: 4, backoff: 1ms}}]}";

/// A record in which three messages wait for the worker.
async fn record(world: &World) -> Arc<MemoryRecord> {
    let record = world.record(Some(DOCUMENT)).await;
    change(&record, (1..=3).map(|id| letter(id, "alice")).collect()).await;
    drawn_up_to(&record, 100);
    record
}

#[test]
fn a_cancelled_attempt_leaves_nothing_and_gives_back_what_it_took() {
    in_paused_time(async {
        let slow = agent("worker", |guest| async move {
            guest.sure(add("count", 5)).await?;
            let taken = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
            guest.sure(Ack { id: taken[0].id }).await?;
            guest.compute(3_600_000).await;
            Ok(guest.job.input.clone())
        });
        let world = World::new([slow]);
        let record = record(&world).await;
        let before = truth(&record).await;
        let host = world.host(&record, []);
        let started = host.start(&Request::call("worker")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_ne!(truth(&record).await, before, "the message is in its hands");
        assert!(truth(&record).await.memory.is_empty(), "what it counted is its own");
        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert_eq!(truth(&record).await, before);
        let run = host.runs.get(&caller(), started.run).await.unwrap();
        assert_eq!(run.state, State::Cancelled);
    });
}

/// The next try, which goes on from a checkpoint, is to the guest the one before: it has the same number and seed, and in its
/// hands what was in its hands.
#[test]
fn the_next_try_is_to_the_guest_the_one_before() {
    in_paused_time(async {
        let tries = Arc::new(AtomicU32::new(0));
        let count = tries.clone();
        let worker = agent("worker", move |guest| {
            let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                guest.put("seen", format!("{} {:?}", guest.job.attempt, guest.job.seed)).await?;
                let taken = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
                guest.sure(Ack { id: taken[0].id }).await?;
                assert_eq!(
                    guest.cross(Ack { id: taken[0].id }).await?,
                    Err(Refusal::NotFound),
                    "it is as good as gone"
                );
                let kept = guest.sure(Receive { limit: 1, wait_ms: 0 }).await?;
                guest.checkpoint().await?;
                if is_first {
                    return Err(Failure::new(Code::AgentTrapped, "unreachable"));
                }
                let again = guest.cross(Ack { id: taken[0].id }).await?;
                assert_eq!(again, Err(Refusal::NotFound), "it is gone");
                guest.sure(Ack { id: kept[0].id }).await?;
                Ok(guest.job.input.clone())
            }
        });
        let world = World::new([worker]);
        let record = record(&world).await;
        let answer = world.host(&record, []).ask(&Request::workflow("tried")).await;
        assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
        assert_eq!(tries.load(Ordering::SeqCst), 2);
        assert_eq!(truth(&record).await.mail.len(), 1);
    });
}

/// Others see what an attempt did as soon as it has made a checkpoint, or waits for them.
#[test]
fn a_checkpoint_shows_what_was_done_at_once() {
    in_paused_time(async {
        let worker = agent("worker", |guest| async move {
            guest.put("one", 1).await?;
            guest.checkpoint().await?;
            guest.compute(10).await;
            guest.put("two", 2).await?;
            guest.sure(Receive { limit: 1, wait_ms: 10_000 }).await?;
            Ok(guest.job.input.clone())
        });
        let world = World::new([worker]);
        let record = world.record(None).await;
        let host = world.host(&record, []);
        host.start(&Request::call("worker")).await.unwrap();
        let keys = async || truth(&record).await.memory.into_keys().collect::<Vec<_>>();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(keys().await, ["one"]);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(keys().await, ["one", "two"]);
        change(&record, vec![letter(1_000, "alice")]).await;
    });
}

/// More than an attempt may change at once is refused, and a checkpoint in between makes room.
#[test]
fn what_an_attempt_changes_between_two_checkpoints_is_bounded() {
    for checkpoints in [false, true] {
        in_paused_time(async {
            let worker = agent("worker", move |guest| async move {
                for number in 0..70 {
                    guest.put(format!("{number}"), "x".repeat(1 << 20)).await?;
                    if checkpoints && number == 35 {
                        guest.checkpoint().await?;
                    }
                }
                Ok(guest.job.input.clone())
            });
            let world = World::new([worker]);
            let record = world.record(None).await;
            let answer = world.host(&record, []).ask(&Request::call("worker")).await.expect("the end is told");
            match answer {
                Ok(_) => assert!(checkpoints),
                Err(failure) => assert_eq!((failure.code, checkpoints), (Code::LimitResources, false), "{failure:?}"),
            }
            assert_eq!(truth(&record).await.memory.len(), if checkpoints { 70 } else { 0 });
        });
    }
}

/// Whatever it took, before a checkpoint or after it, and did not acknowledge, waits again once its step is over.
#[test]
fn what_is_in_hands_at_the_end_goes_back_however_that_comes() {
    for end in ["completed", "failed", "cancelled"] {
        in_paused_time(async {
            let taker = agent("worker", |guest| async move {
                for _ in 0..2 {
                    assert_eq!(guest.sure(Receive { limit: 1, wait_ms: 0 }).await?.len(), 1);
                    guest.checkpoint().await?;
                }
                assert_eq!(guest.sure(Receive { limit: 1, wait_ms: 0 }).await?.len(), 1);
                match text(&guest.job.input.bytes) {
                    "completed" => Ok(guest.job.input.clone()),
                    "failed" => Err(Failure::new(Code::AgentTrapped, "unreachable")),
                    _ => {
                        guest.compute(3_600_000).await;
                        Ok(guest.job.input.clone())
                    }
                }
            });
            let world = World::new([taker]);
            let record = record(&world).await;
            // Of one sender a message is handed out after the other.
            change(&record, [(4, "bob"), (5, "carol")].map(|(id, sender)| letter(id, sender)).to_vec()).await;
            let before = truth(&record).await;
            let host = world.host(&record, []);
            let started = host.start(&Request { input: Payload::text(end), ..Request::call("worker") }).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            if end == "cancelled" {
                assert_eq!(truth(&record).await.mail.iter().filter(|(_, _, is_taken, _)| *is_taken).count(), 3);
                host.runs.cancel(&caller(), started.run).await.unwrap();
            }
            let run = host.runs.get(&caller(), started.run).await.unwrap();
            assert_eq!(run.state.as_str(), end);
            assert_eq!(truth(&record).await, before, "{end}");
        });
    }
}
