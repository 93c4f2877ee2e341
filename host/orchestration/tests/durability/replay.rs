//! What a resumed guest sees, and what ends it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ltmc_model::Timestamp;
use ltmc_model::failure::{Code, Failure};
use ltmc_ports::testing::Fault;

use crate::guest::{Guest, Script, agent};
use crate::host::{Host, Request, World, caller, in_paused_time};
use crate::story::Story;

/// An agent that knows in which of its host's lives it is run: what no real guest is to know.
fn unsteady<F>(program: fn(Guest, usize) -> F) -> (Script, Arc<AtomicUsize>)
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let life = Arc::new(AtomicUsize::new(1));
    let seen = life.clone();
    let script = agent("unsteady", move |guest| {
        let life = seen.load(Ordering::SeqCst);
        async move {
            let input = guest.job.input.clone();
            program(guest, life).await.map(|()| input)
        }
    });
    (script, life)
}

/// Runs a script, which makes a checkpoint after each change, on a host that dies right after append `at`, and takes it up on another. Its run began with the first.
async fn resumed(world: &World, at: u64, life: &AtomicUsize) -> (Host, crate::host::Answer) {
    let request = Request::call("unsteady");
    let host = world.host(&world.record(None).await, [(at, Fault::CrashAfter)]);
    host.ask(&request).await;
    assert!(host.line.is_dead());
    tokio::time::sleep(Duration::from_secs(5)).await;
    life.store(2, Ordering::SeqCst);
    let next = world.host(&host.record.copy(), []);
    assert_eq!(next.runs.recover().await.unwrap().resumed, 1);
    let answer = next.ask(&request).await.unwrap();
    (next, answer)
}

/// In its first life it puts `a` and `b`, and its host dies; in its second it does something else.
async fn differs(how: fn() -> (Script, Arc<AtomicUsize>)) {
    let (script, life) = how();
    let world = World::new([script]).with_checkpoints();
    let (host, answer) = resumed(&world, 3, &life).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.code, Code::ReplayMismatch, "{failure}");
    let run = host.run().await.unwrap();
    let story = Story::of(&host.journal(run).await);
    let calls = story.effects.iter().filter(|(_, _, _, call, _)| call != "attempt.checkpoint");
    let calls: Vec<&str> = calls.map(|(.., about)| about.as_str()).collect();
    assert_eq!(calls, ["session/a (1 bytes)", "session/b (1 bytes)"], "nothing was performed that does not follow");
    let values: Vec<(String, String)> =
        world.memory(&host.record).await.into_iter().map(|((_, key), value)| (key, value)).collect();
    assert_eq!(values, [("a".into(), "1".into()), ("b".into(), "1".into())]);

    // Taken up by somebody, it is called anew.
    host.runs.resume(&caller(), run).await.unwrap();
    let answer = host.ask(&Request::call("unsteady")).await.unwrap();
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(Story::of(&host.journal(run).await).begun.len(), 2);
}

#[test]
fn another_key_is_a_mismatch() {
    in_paused_time(differs(|| {
        unsteady(|guest, life| async move {
            guest.put("a", 1).await?;
            guest.put(if life == 1 { "b" } else { "c" }, 1).await
        })
    }));
}

#[test]
fn another_value_is_a_mismatch() {
    in_paused_time(differs(|| {
        unsteady(|guest, life| async move {
            guest.put("a", life).await?;
            guest.put("b", 1).await
        })
    }));
}

#[test]
fn another_call_is_a_mismatch() {
    in_paused_time(differs(|| {
        unsteady(|guest, life| async move {
            guest.put("a", 1).await?;
            if life == 1 { guest.put("b", 1).await } else { guest.delete("b").await.map(drop) }
        })
    }));
}

#[test]
fn calls_in_another_order_are_a_mismatch() {
    in_paused_time(differs(|| {
        unsteady(|guest, life| async move {
            let keys = if life == 1 { ["a", "b"] } else { ["b", "a"] };
            guest.put(keys[0], 1).await?;
            guest.put(keys[1], 1).await
        })
    }));
}

#[test]
fn a_result_before_all_calls_were_made_again_is_a_mismatch() {
    in_paused_time(differs(|| {
        unsteady(|guest, life| async move {
            guest.put("a", 1).await?;
            if life == 1 { guest.put("b", 1).await } else { Ok(()) }
        })
    }));
}

#[test]
fn a_failure_before_all_calls_were_made_again_is_a_mismatch() {
    in_paused_time(differs(|| {
        unsteady(|guest, life| async move {
            if life == 2 && guest.job.attempt == 1 {
                return Err(Failure::new(Code::AgentError, "it will not"));
            }
            guest.put("a", 1).await?;
            guest.put("b", 1).await
        })
    }));
}

#[test]
fn a_limit_that_a_guest_meets_earlier_on_replay_is_no_mismatch() {
    in_paused_time(async {
        let (script, life) = unsteady(|guest, life| async move {
            guest.put("a", 1).await?;
            if life == 2 {
                return Err(Failure::new(Code::LimitWall, "30 s are over"));
            }
            guest.put("b", 1).await
        });
        let (_, answer) = resumed(&World::new([script]).with_checkpoints(), 3, &life).await;
        assert_eq!(answer.unwrap_err().code, Code::LimitWall);
    });
}

#[test]
fn the_clock_shows_what_it_showed_up_to_the_last_effect() {
    in_paused_time(async {
        let readings = Arc::<Mutex<Vec<Vec<Timestamp>>>>::default();
        let kept = readings.clone();
        let script = agent("unsteady", move |guest| {
            let kept = kept.clone();
            async move {
                let place = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(Vec::new());
                    kept.len() - 1
                };
                let read = |times: usize| (0..times).for_each(|_| kept.lock().unwrap()[place].push(guest.now()));
                for (before, after) in [(3, 0), (0, 2), (1_000, 1)] {
                    read(before);
                    guest.compute(7).await;
                    read(after);
                    guest.get("nothing").await?;
                    guest.put("k", before).await?;
                }
                guest.compute(7).await;
                read(2);
                Ok(guest.job.input.clone())
            }
        });
        let (_, answer) = resumed(&World::new([script]).with_checkpoints(), 4, &AtomicUsize::new(1)).await;
        assert!(answer.is_ok(), "{answer:?}");
        let readings = readings.lock().unwrap().clone();
        let [first, second] = readings.as_slice() else { panic!("it ran {} times", readings.len()) };
        assert_eq!((first.len(), second.len()), (1_006, 1_008));
        assert_eq!(first[..], second[..1_006], "on replay the clock is the recorded one");
        assert!(second[1_006].since(second[1_005]) >= Duration::from_secs(5), "then it is the host's");
        assert!(second.is_sorted());
    });
}

#[test]
fn a_log_line_is_kept_once() {
    in_paused_time(async {
        let (script, life) = unsteady(|guest, _| async move {
            guest.log("one").await?;
            guest.put("a", 1).await?;
            guest.log("two").await?;
            guest.log("three").await?;
            guest.put("b", 1).await?;
            guest.log("four").await
        });
        let (host, answer) = resumed(&World::new([script]).with_checkpoints(), 3, &life).await;
        assert!(answer.is_ok(), "{answer:?}");
        let story = Story::of(&host.journal(host.run().await.unwrap()).await);
        let lines: Vec<(u32, &str)> = story.logs.iter().map(|(_, _, number, line)| (*number, line.as_str())).collect();
        assert_eq!(lines, [(1, "one"), (2, "two"), (3, "three"), (4, "four")]);
    });
}
