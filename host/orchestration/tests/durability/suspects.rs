//! Suspects: a run of which the host dies is found and set aside, and no other.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Event;
use ltmc_model::run::{State, TakenUp, Trial};
use ltmc_model::{Payload, RunId};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{ReadJournal as _, TakeUps as _};

use crate::guest::{Guest, Script, agent};
use crate::host::{Host, Request, World, caller, in_paused_time, tenant};

const DOCUMENT: &str = "name: two\nflow: {sequence: [{agent: quick}, {agent: long}]}";
/// Longer than any trial.
const HOUR: u64 = 60 * 60 * 1_000;

async fn quick(_: Guest) -> Result<Payload, Failure> {
    Ok(Payload::text("done"))
}

async fn long(guest: Guest) -> Result<Payload, Failure> {
    guest.compute(HOUR).await;
    Ok(Payload::text("done"))
}

fn scripts() -> [Script; 2] {
    [agent("quick", quick), agent("long", long)]
}

/// A host with so many runs at work, each on disk.
async fn at_work(world: &World, runs: usize) -> (Host, Vec<RunId>) {
    let host = world.host(&world.record(Some(DOCUMENT)).await, []);
    let mut ids = Vec::new();
    for number in 0..runs {
        let request = Request { key: Some(number.to_string()), ..Request::workflow("two") };
        ids.push(host.start(&request).await.unwrap().run);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.record.sync();
    (host, ids)
}

async fn taken_up(record: &MemoryRecord, run: RunId) -> TakenUp {
    record.run(&tenant(), run).await.unwrap().unwrap().taken_up
}

/// The next host on what a death leaves.
fn died(world: &World, record: &Arc<MemoryRecord>) -> Host {
    world.host(&record.crash(), [])
}

/// Waits until a run is on trial, and how far it is there.
async fn on_trial(host: &Host, trial: Trial) -> RunId {
    loop {
        let filter = ltmc_ports::journal::RunFilter { limit: 100, ..Default::default() };
        let runs = host.record.runs(&tenant(), &filter).await.unwrap();
        let of: Vec<RunId> = runs.iter().filter(|run| run.taken_up.trial != Trial::None).map(|run| run.id).collect();
        assert!(of.len() <= 1, "one at a time");
        if let Some(run) = runs.iter().find(|run| run.taken_up.trial == trial) {
            return run.id;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_run_that_kills_the_host_twice_is_set_aside_and_the_others_go_on() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, runs) = at_work(&world, 3).await;
        let next = died(&world, &host.record);
        let recovered = next.runs.recover().await.unwrap();
        assert_eq!((recovered.resumed, recovered.suspects), (3, 0), "the first time all are taken up at once");
        // It dies of one of them: of which is not known.
        let next = died(&world, &next.record);
        let recovered = next.runs.recover().await.unwrap();
        assert_eq!((recovered.resumed, recovered.suspects, recovered.quarantined), (0, 3, 0));
        let guilty = on_trial(&next, Trial::Alone).await;
        // And again, of the one that is alone.
        let next = died(&world, &next.record);
        let recovered = next.runs.recover().await.unwrap();
        assert_eq!((recovered.suspects, recovered.quarantined), (2, 1));
        let view = next.runs.get(&caller(), guilty).await.unwrap();
        assert_eq!((view.state, view.ended_at), (State::Quarantined, None));
        assert_eq!(view.error.unwrap().code, Code::Quarantined);
        let journal = next.journal(guilty).await;
        assert!(matches!(journal.last().unwrap().entry.event, Event::RunQuarantined { taken_up: 2 }));
        tokio::time::sleep(Duration::from_millis(2 * HOUR)).await;
        for run in runs {
            let row = next.record.run(&tenant(), run).await.unwrap().unwrap();
            let wanted = if run == guilty { State::Quarantined } else { State::Completed };
            assert_eq!(row.state, wanted, "the others are none the worse for it");
        }
        // It stays so, and its neighbours' deaths are none of its.
        let next = died(&world, &next.record);
        assert_eq!(next.runs.recover().await.unwrap(), Default::default());
    });
}

/// Who waits for its turn is not alive, and is cancelled all the same.
#[test]
fn a_suspect_that_waits_for_its_turn_can_be_cancelled() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, runs) = at_work(&world, 2).await;
        for run in &runs {
            host.record.take_up(&[(tenant(), *run)], 1, Trial::None).await.unwrap();
        }
        let next = died(&world, &host.record);
        next.runs.recover().await.unwrap();
        let on_trial = on_trial(&next, Trial::Bounded).await;
        let waits = runs.into_iter().find(|run| *run != on_trial).unwrap();
        next.runs.cancel(&caller(), waits).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(next.runs.get(&caller(), waits).await.unwrap().state, State::Cancelled);
        assert_eq!(next.sandbox.ran().len(), 1, "it was not taken up");
    });
}

#[test]
fn what_is_set_aside_can_be_resumed_and_cancelled() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, runs) = at_work(&world, 2).await;
        for run in &runs {
            host.record.take_up(&[(tenant(), *run)], 2, Trial::Alone).await.unwrap();
        }
        let next = died(&world, &host.record);
        assert_eq!(next.runs.recover().await.unwrap().quarantined, 2);
        let told = next.ask(&Request { key: Some("0".into()), ..Request::workflow("two") }).await.unwrap();
        assert_eq!(told.unwrap_err().code, Code::Quarantined, "who waits for it is told");
        next.runs.cancel(&caller(), runs[0]).await.unwrap();
        assert_eq!(next.runs.get(&caller(), runs[0]).await.unwrap().state, State::Cancelled);
        assert!(next.runs.cancel(&caller(), runs[0]).await.is_err(), "it is over");
        next.runs.resume(&caller(), runs[1]).await.unwrap();
        // Who dies of it once more knows at once.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let again = died(&world, &next.record);
        assert_eq!(again.runs.recover().await.unwrap().quarantined, 1);
        drop(again);
        tokio::time::sleep(Duration::from_millis(2 * HOUR)).await;
        let row = next.record.run(&tenant(), runs[1]).await.unwrap().unwrap();
        assert_eq!((row.state, row.taken_up), (State::Completed, TakenUp::default()), "it went on where it was");
        let begun: Vec<_> = next.sandbox.ran().into_iter().map(|(step, _)| step.to_string()).collect();
        assert_eq!(begun, ["0/1"], "what was done is not done again");
    });
}

/// Somebody else may have killed the host while a guest was at work alone, which the sandbox bounds: it takes more than once.
#[test]
fn a_suspect_whose_guest_is_at_work_is_given_more_trials() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, runs) = at_work(&world, 1).await;
        let mut next = died(&world, &host.record);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 1);
        for times in 2..=5 {
            next = died(&world, &next.record);
            assert_eq!(next.runs.recover().await.unwrap().suspects, 1);
            while taken_up(&next.record, runs[0]).await != (TakenUp { times, trial: Trial::Bounded }) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        next = died(&world, &next.record);
        assert_eq!(next.runs.recover().await.unwrap().quarantined, 1);
    });
}

/// However often the host died while it was taken up beside others: that it was of this one nobody knows.
#[test]
fn without_a_trial_nobody_is_set_aside() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, runs) = at_work(&world, 2).await;
        for run in &runs {
            host.record.take_up(&[(tenant(), *run)], 9, Trial::None).await.unwrap();
        }
        let next = died(&world, &host.record);
        let recovered = next.runs.recover().await.unwrap();
        assert_eq!((recovered.suspects, recovered.quarantined), (2, 0));
        tokio::time::sleep(Duration::from_millis(2 * HOUR)).await;
        for run in runs {
            assert_eq!(next.runs.get(&caller(), run).await.unwrap().state, State::Completed);
        }
    });
}

/// A host that lives through the trials of innocents, and comes to its end of itself, suspects nobody.
#[test]
fn trials_end_and_an_orderly_end_forgets_them() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, runs) = at_work(&world, 3).await;
        for run in &runs {
            host.record.take_up(&[(tenant(), *run)], 1, Trial::None).await.unwrap();
        }
        let next = died(&world, &host.record);
        assert_eq!(next.runs.recover().await.unwrap().suspects, 3);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(next.runs.alive(), 3, "each was given its time, and then the next one was taken up beside it");
        for run in &runs {
            assert_eq!(taken_up(&next.record, *run).await, TakenUp { times: 2, trial: Trial::None });
        }
        next.runs.stop(Duration::ZERO).await;
        for run in &runs {
            assert!(taken_up(&next.record, *run).await.is_none());
        }
        let next = died(&world, &next.record);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 3);
    });
}

/// One that merely waits was not being taken up when the host died; one that is woken is counted as others are.
#[test]
fn a_suspended_run_is_no_suspect_and_one_that_is_woken_is() {
    in_paused_time(async {
        let document = "name: two\nflow: {agent: fails, retry: {attempts: 3, backoff: 1h, max: 1h}}";
        let fails = agent("fails", async |guest: Guest| {
            if guest.job.attempt > 1 {
                guest.compute(HOUR).await;
            }
            Err::<Payload, _>(crate::guest::may_pass("not yet"))
        });
        let world = World::new([fails]);
        let host = world.host(&world.record(Some(document)).await, []);
        let run = host.start(&Request::workflow("two")).await.unwrap().run;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut record = host.record.clone();
        drop(host);
        for _ in 0..3 {
            let next = died(&world, &record);
            assert_eq!(next.runs.recover().await.unwrap(), Default::default());
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(taken_up(&next.record, run).await.is_none(), "it waits");
            record = next.record.clone();
        }
        let next = died(&world, &record);
        // The longest it waits.
        tokio::time::sleep(Duration::from_millis(HOUR)).await;
        assert_eq!(taken_up(&next.record, run).await.times, 1, "it was woken, and has not got on");
        let next = died(&world, &next.record);
        assert_eq!(next.runs.recover().await.unwrap().suspects, 1);
        on_trial(&next, Trial::Alone).await;
        let next = died(&world, &next.record);
        assert_eq!(next.runs.recover().await.unwrap().quarantined, 1);
    });
}
