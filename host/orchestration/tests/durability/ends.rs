//! Runs that are cancelled, resumed, tried again, parked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Event;
use ltmc_model::run::State;
use ltmc_model::{Payload, Timestamp};
use ltmc_ports::ReadJournal as _;
use ltmc_ports::journal::RunFilter;

use crate::crash::work;
use crate::guest::{agent, may_pass, validator};
use crate::host::{Request, World, caller, in_paused_time, tenant};
use crate::story::Story;

/// Says when it is dropped.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_cancelled_run_frees_its_place_and_can_be_taken_up() {
    in_paused_time(async {
        let (gone, patient) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (told, waits) = (gone.clone(), patient.clone());
        let world = World::new([agent("endless", move |guest| {
            let (gone, waits) = (Gone(told.clone()), !waits.load(Ordering::SeqCst));
            async move {
                let _gone = gone;
                let count = guest.count("count").await?;
                if waits {
                    guest.compute(3_600_000).await;
                }
                guest.put("after", count).await?;
                Ok(Payload::text(count.to_string()))
            }
        })]);
        let host = world.host(&world.record(None).await, []);
        let started = host.start(&Request::call("endless")).await.unwrap();
        assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(1))).await.unwrap(), None);
        assert_eq!(host.runs.alive(), 1);
        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert_eq!((host.runs.alive(), gone.load(Ordering::SeqCst)), (0, true));
        assert_eq!(host.runs.get(&caller(), started.run).await.unwrap().state, State::Cancelled);
        assert_eq!(host.ask(&Request::call("endless")).await.unwrap().unwrap_err().code, Code::Cancelled);
        assert!(host.runs.cancel(&caller(), started.run).await.is_err(), "it is over");
        assert!(world.memory(&host.record).await.is_empty(), "what it did was its own");

        patient.store(true, Ordering::SeqCst);
        host.runs.resume(&caller(), started.run).await.unwrap();
        assert_eq!(host.ask(&Request::call("endless")).await.unwrap(), Ok(Payload::text("1")), "it counted once");
        let story = Story::of(&host.journal(started.run).await);
        assert_eq!((story.begun.len(), story.ends), (1, vec!["run-cancelled", "run-completed"]));
    });
}

#[test]
fn a_call_that_nobody_can_ask_for_again_ends_with_its_client() {
    in_paused_time(async {
        let endless = agent("endless", |guest| async move {
            guest.compute(3_600_000).await;
            Ok(guest.job.input.clone())
        });
        let world = World::new([endless]);
        let host = world.host(&world.record(None).await, []);
        let request = Request { key: None, ..Request::call("endless") };
        let gone = tokio::time::timeout(Duration::from_secs(1), host.ask(&request)).await;
        assert!(gone.is_err(), "{gone:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(host.runs.alive(), 0);
        assert_eq!(Story::of(&host.journal(host.run().await.unwrap()).await).ends, ["run-cancelled"]);
    });
}

#[test]
fn a_run_is_cancelled_between_two_attempts() {
    in_paused_time(async {
        let never = agent("never", |_| async { Err(may_pass("no")) });
        let world = World::new([never]);
        let document = "name: never\nflow: {agent: never, retry: {attempts: 100, backoff: 24h, max: 24h}}";
        let host = world.host(&world.record(Some(document)).await, []);
        let started = host.start(&Request::workflow("never")).await.unwrap();
        assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(1))).await.unwrap(), None);
        assert_eq!(host.runs.get(&caller(), started.run).await.unwrap().state, State::Waiting);
        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert_eq!(host.runs.alive(), 0);
    });
}

#[test]
fn a_resumed_run_forgives_earlier_attempts_and_keeps_completed_steps() {
    in_paused_time(async {
        let flaky = agent("flaky", |guest| async move {
            // What it counts is gone with the attempts that fail.
            assert_eq!(guest.count("tries").await?, 1);
            if guest.job.attempt < 6 { Err(may_pass("not yet")) } else { work(guest).await }
        });
        let world = World::new([agent("one", work), flaky, agent("three", work)]);
        let document = "name: flaky\nflow:\n  sequence:\n  - agent: one\n  - agent: flaky\n    retry: {attempts: 2, backoff: \
                        10ms}\n  - agent: three";
        let host = world.host(&world.record(Some(document)).await, []);
        let request = Request::workflow("flaky");
        let failed = host.ask(&request).await.unwrap().unwrap_err();
        assert_eq!((failed.code, failed.step.unwrap().as_str()), (Code::AgentError, "0/1"));
        let run = host.run().await.unwrap();
        for tries in [4, 6] {
            host.runs.resume(&caller(), run).await.unwrap();
            let answer = host.ask(&request).await.unwrap();
            assert_eq!(answer.is_ok(), tries == 6, "after {tries} tries: {answer:?}");
        }
        let attempts: Vec<(String, u32)> =
            host.sandbox.ran().into_iter().map(|(step, n)| (step.to_string(), n)).collect();
        let flaky = (1..=6).map(|n| ("0/1".to_owned(), n));
        let wanted: Vec<_> = [("0/0".to_owned(), 1)].into_iter().chain(flaky).chain([("0/2".to_owned(), 1)]).collect();
        assert_eq!(attempts, wanted, "each step in its turn, and none that was done again");
        assert!(host.runs.resume(&caller(), run).await.is_err(), "a run that is completed is not resumed");
        let story = Story::of(&host.journal(run).await);
        assert_eq!(story.ends, ["run-failed", "run-failed", "run-completed"]);
    });
}

#[test]
fn a_resumed_run_does_the_step_again_whose_output_was_rejected() {
    in_paused_time(async {
        let third_time = agent("judged", |guest| async move { Ok(Payload::json(&guest.count("tries").await?.into())) });
        let world = World::new([agent("one", work), third_time]);
        let document = "name: judged\nflow:\n  sequence:\n  - agent: one\n  - agent: judged\n    validate: {json-schema: \
                        {minimum: 3}}";
        let host = world.host(&world.record(Some(document)).await, []);
        let request = Request::workflow("judged");
        let mut answer = host.ask(&request).await.unwrap();
        for _ in 0..2 {
            assert_eq!(answer.unwrap_err().code, Code::ValidationFailed);
            host.runs.resume(&caller(), host.run().await.unwrap()).await.unwrap();
            answer = host.ask(&request).await.unwrap();
        }
        assert_eq!(answer, Ok(Payload::json(&3.into())));
        assert_eq!(host.sandbox.ran().len(), 4, "the step before is not done again");
    });
}

#[test]
fn retries_back_off_with_full_jitter_within_bounds() {
    in_paused_time(async {
        let never = agent("never", |_| async { Err(may_pass("no")) });
        let world = World::new([never]);
        let document = "name: never\nflow: {agent: never, retry: {attempts: 6, backoff: 100ms, factor: 2, max: 1s}}";
        let host = world.host(&world.record(Some(document)).await, []);
        let mut shares = Vec::new();
        for _ in 0..40 {
            let request = Request { key: None, ..Request::workflow("never") };
            let started = host.start(&request).await.unwrap();
            host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap_err();
            shares.extend(waits(&host.journal(started.run).await));
        }
        assert_eq!(shares.len(), 40 * 5);
        let below = |bound: f64| shares.iter().filter(|share| **share < bound).count();
        // Evenly spread: of 200 a quarter each is 50, give or take what chance allows with these seeds.
        for (quarter, count) in
            [below(0.25), below(0.5) - below(0.25), below(0.75) - below(0.5), 200 - below(0.75)].into_iter().enumerate()
        {
            assert!((25..=80).contains(&count), "{count} of 200 waits lie in quarter {quarter}");
        }
    });
}

/// The waits between a run's attempts, each as a share of the longest that its number allows.
fn waits(journal: &[ltmc_model::journal::Placed]) -> Vec<f64> {
    let mut shares = Vec::new();
    let mut due: Option<Timestamp> = None;
    for placed in journal {
        match &placed.entry.event {
            Event::StepFailed { attempt, retry_at: Some(at), .. } => {
                let longest = Duration::from_millis(100 * 2_u64.pow(attempt - 1)).min(Duration::from_secs(1));
                let wait = at.since(placed.entry.at);
                assert!(wait <= longest, "after attempt {attempt} it waits {wait:?}");
                shares.push(wait.as_secs_f64() / longest.as_secs_f64());
                due = Some(*at);
            }
            Event::StepStarted { attempt, .. } => {
                let since = due.take().map(|due| (placed.entry.at >= due, placed.entry.at.since(due)));
                let in_time = since.is_none_or(|(late, by)| late && by <= Duration::from_millis(5));
                assert!(in_time, "attempt {attempt} began {since:?} after it was due");
            }
            _ => {}
        }
    }
    shares
}

#[test]
fn a_validator_that_finds_the_host_busy_is_tried_again() {
    in_paused_time(async {
        let times = Arc::new(AtomicU64::new(0));
        let seen = times.clone();
        let busy = validator("approve", move |_| {
            let time = seen.fetch_add(1, Ordering::SeqCst);
            async move { if time < 2 { Err(Failure::new(Code::Busy, "no room").retryable()) } else { Ok(Vec::new()) } }
        });
        let world = World::new([agent("one", work), busy]);
        let document = "name: judged\nflow: {agent: one, validate: {agent: approve}}";
        let host = world.host(&world.record(Some(document)).await, []);
        let answer = host.ask(&Request::workflow("judged")).await.unwrap();
        assert!(answer.is_ok(), "{answer:?}");
        let story = Story::of(&host.journal(host.run().await.unwrap()).await);
        let validator: Vec<_> = story.ended.iter().filter(|(step, ..)| step.as_str() == "0/0").map(|e| e.2).collect();
        assert_eq!(validator, [Some(Code::Busy), Some(Code::Busy), None]);
    });
}

#[test]
fn a_stopped_host_parks_its_runs_and_the_next_takes_up_every_one() {
    in_paused_time(async {
        const RUNS: usize = 250;
        let slow = agent("slow", |guest| async move {
            let key = text(&guest.job.input);
            guest.count(&key).await?;
            guest.compute(60_000).await;
            Ok(Payload::text(guest.count(&key).await?.to_string()))
        });
        let world = World::new([slow]);
        let host = world.host(&world.record(None).await, []);
        let request = |number: usize| Request {
            input: Payload::text(format!("run-{number}")),
            key: Some(format!("key-{number}")),
            ..Request::call("slow")
        };
        for number in 0..RUNS {
            host.start(&request(number)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.runs.stop(Duration::from_secs(1)).await;
        assert_eq!(host.runs.alive(), 0);
        assert!(host.start(&request(RUNS)).await.is_err(), "a host that stops takes nothing new");

        let next = world.host(&host.record.crash(), []);
        assert_eq!(next.runs.recover().await.unwrap().resumed, RUNS);
        for number in 0..RUNS {
            assert_eq!(next.ask(&request(number)).await.unwrap(), Ok(Payload::text("2")), "run {number}");
        }
        assert!(world.memory(&next.record).await.values().all(|count| count == "2"));
        let filter = RunFilter { state: Some(State::Completed), limit: 1_000, ..RunFilter::default() };
        assert_eq!(next.record.runs(&tenant(), &filter).await.unwrap().len(), RUNS);
    });
}

fn text(payload: &Payload) -> String {
    crate::guest::text(&payload.bytes).to_owned()
}
