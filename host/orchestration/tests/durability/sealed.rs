//! What a long run costs whoever takes it up: what is sealed of it, and the entries since.

use std::time::{Duration, Instant};

use ltmc_model::failure::Code;
use ltmc_model::journal::{Amendment, Event};
use ltmc_model::run::State;
use ltmc_model::{Payload, RunId, Seq};
use ltmc_orchestration::Sealing;
use ltmc_ports::ReadJournal as _;
use serde_json::json;

use crate::guest::{Script, agent};
use crate::host::{Host, Request, World, caller, in_paused_time, tenant};
use crate::story::Story;

/// Counts on, and takes a moment for it.
fn tick() -> Script {
    agent("tick", |guest| async move {
        guest.compute(1).await;
        Ok(Payload::json(&json!(guest.job.input.to_value().unwrap_or_default().as_u64().unwrap_or(0) + 1)))
    })
}

fn request() -> Request {
    Request { input: Payload::json(&json!(0)), ..Request::workflow("flow") }
}

/// A host that was stopped in the middle of a run of so many rounds, once it had made so many.
async fn stopped(world: &World, rounds: u64, made: u64) -> (Host, RunId) {
    let document = format!("name: flow\nflow: {{loop: {{agent: tick}}, at-most: {rounds}}}");
    let host = world.host(&world.record(Some(&document)).await, []);
    let run = host.start(&request()).await.unwrap().run;
    // Of a round: it begins, it ends, and what comes next.
    while host.record.last(&tenant(), run).await.unwrap().0 < 3 * made {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.runs.stop(Duration::ZERO).await;
    (host, run)
}

/// The next host takes up what there is; how many entries it reads for that.
async fn taken_up(world: &World, host: &Host) -> (Host, u64) {
    let next = world.host(&host.record, []);
    let before = host.record.entries_read();
    assert_eq!(next.runs.recover().await.unwrap().resumed, 1);
    let read = host.record.entries_read() - before;
    (next, read)
}

#[test]
fn what_is_damaged_is_left_aside_and_the_run_goes_on_from_its_journal() {
    /// As a disk may do it.
    type Damage = fn(&mut Vec<u8>);
    let flip: Damage = |bytes| bytes[100] ^= 1;
    let cut: Damage = |bytes| bytes.truncate(50);
    let empty: Damage = Vec::clear;
    for damage in [None, Some(flip), Some(cut), Some(empty)] {
        in_paused_time(async {
            let world = World::new([tick()]).sealing_often();
            let (host, run) = stopped(&world, 400, 100).await;
            if let Some(damage) = damage {
                host.record.damage_snapshots(&tenant(), run, damage);
            }
            let length = host.record.last(&tenant(), run).await.unwrap().0;
            let (next, read) = taken_up(&world, &host).await;
            match damage {
                None => assert!(read < 12, "{read} of {length} entries were read"),
                Some(_) => assert!(read >= length, "{read} of {length} entries were read"),
            }
            let answer = next.ask(&request()).await.unwrap().unwrap();
            assert_eq!(answer.to_value().unwrap(), json!(400));
            assert_eq!(host.record.run(&tenant(), run).await.unwrap().unwrap().state, State::Completed);
        });
    }
}

/// `LTMC_TEST_ROUNDS=100000` says what runs of 1,000, of 10,000 and of 100,000 rounds cost; otherwise few are made.
#[expect(clippy::disallowed_methods, reason = "the proof by hand makes more rounds than CI")]
#[test]
fn what_a_long_run_costs_who_takes_it_up_does_not_grow_with_its_rounds() {
    let most: u64 = std::env::var("LTMC_TEST_ROUNDS").ok().and_then(|most| most.parse().ok()).unwrap_or(3_000);
    let (mut read_of, mut rounds, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    for made in [1_000, 10_000, 100_000].into_iter().filter(|made| *made < most).chain([most]) {
        in_paused_time(async {
            let world = World::new([tick()]);
            let begun = Instant::now();
            // What is left is more than what is made before anybody can look.
            let (host, run) = stopped(&world, made, made - 500).await;
            let a_round = begun.elapsed() / u32::try_from(made - 500).unwrap();
            let begun = Instant::now();
            let (next, read) = taken_up(&world, &host).await;
            let took = begun.elapsed();
            let journal = host.record.entries(&tenant(), run, Seq(0), u32::MAX).await.unwrap();
            let bytes: usize = journal.iter().map(|placed| placed.entry.to_bytes().len()).sum();
            let snapshot = host.record.snapshot(&tenant(), run, Seq(u64::MAX)).await.unwrap().unwrap();
            eprintln!(
                "{made} rounds: {} entries of {bytes} bytes, {} of what is sealed; {read} entries read in {took:?}; {a_round:?} a round",
                journal.len(),
                snapshot.bytes.len()
            );
            assert!(snapshot.bytes.len() < 10_000, "what is sealed does not grow: {} bytes", snapshot.bytes.len());
            let answer = next.ask(&request()).await.unwrap().unwrap();
            assert_eq!(answer.to_value().unwrap(), json!(made));
            read_of.push(read);
            stored.push(bytes as u64 / (made - 500));
            rounds.push(a_round);
        });
    }
    // The goal is that it costs the same; on a machine that has other work no closer bound holds each time.
    assert!(rounds.iter().all(|a_round| *a_round < rounds[0] * 3), "a round costs more the more there are: {rounds:?}");
    let (least, most) = (stored.iter().min().unwrap(), stored.iter().max().unwrap());
    assert!(most * 10 <= least * 12, "what a round takes in the journal grows with their number: {stored:?} bytes");
    let sealed_every = Sealing::default().entries;
    assert!(read_of.iter().all(|read| *read < sealed_every + 200), "of so many as were not sealed: {read_of:?}");
}

#[test]
fn a_round_that_was_forgotten_is_changed_and_all_after_it_is_made_again() {
    in_paused_time(async {
        let world = World::new([tick()]).sealing_often();
        let never = "{pick: $.last, less: 0}";
        let document = format!("name: flow\nflow: {{loop: {{agent: tick}}, until: {never}, at-most: 20}}");
        let host = world.host(&world.record(Some(&document)).await, []);
        let failure = host.ask(&request()).await.unwrap().unwrap_err();
        assert_eq!(failure.code, Code::LoopExhausted);
        let run = host.run().await.unwrap();
        let set = vec![("0/3".to_owned(), Amendment::Output(Payload::json(&json!(100))))];
        host.runs.resume_with(&caller(), run, set.into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        host.runs.stop(Duration::ZERO).await;
        // The next host finds the change in the journal, and what it changed is in no state that was sealed.
        let (next, _) = taken_up(&world, &host).await;
        let failure = next.ask(&request()).await.unwrap().unwrap_err();
        assert_eq!(failure.code, Code::LoopExhausted);
        let journal = next.journal(run).await;
        let story = Story::of(&journal);
        let again = |round: usize| story.begun.iter().filter(|(step, _)| step.as_str() == format!("0/{round}")).count();
        assert_eq!([2, 3, 4, 19].map(again), [1, 1, 2, 2], "what came before it stays, and so does what it gave");
        let last = journal.iter().rev().find_map(|placed| match &placed.entry.event {
            Event::StepCompleted { output, .. } => output.to_value().ok(),
            _ => None,
        });
        assert_eq!(last, Some(json!(116)));
    });
}

#[test]
fn a_loop_that_is_begun_anew_repeats_no_attempt_of_what_was_forgotten() {
    in_paused_time(async {
        let world = World::new([tick()]).sealing_often();
        let flow = "{loop: {agent: tick}, until: {pick: $.last, less: 0}, at-most: 9, retry: {attempts: 3, on: [loop-exhausted]}}";
        let host = world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, []);
        let failure = host.ask(&request()).await.unwrap().unwrap_err();
        assert_eq!(failure.code, Code::LoopExhausted);
        let story = Story::of(&host.journal(host.run().await.unwrap()).await);
        let attempts = |step: &str| story.begun.iter().filter(|(at, _)| at.as_str() == step).map(|(_, n)| *n).collect();
        let attempts: [Vec<u32>; 2] = ["0/0", "0/8"].map(attempts);
        assert_eq!(attempts, [vec![1, 2, 3], vec![1, 2, 3]]);
    });
}
