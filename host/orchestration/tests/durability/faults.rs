//! The record fails, and the host lives on: the run ends right, or waits in the record until it can.

use std::time::Duration;

use ltmc_model::failure::Code;
use ltmc_ports::testing::Fault;
use ltmc_ports::{Kind, ReadJournal as _};
use tokio::time::Instant;

use crate::crash::{Case, work};
use crate::guest::agent;
use crate::host::{Answer, Contents, Host, Line, Request, World, caller, in_paused_time, is_ask_again};
use crate::story::{Story, claims};

const FAULTS: [Fault; 7] = [
    Fault::TimeOut,
    Fault::Refuse(Kind::Unavailable),
    Fault::Refuse(Kind::Full),
    Fault::Refuse(Kind::Internal),
    Fault::Refuse(Kind::Conflict),
    // What a host is told whose earlier lazy append was lost.
    Fault::Refuse(Kind::Fenced),
    Fault::Delay(Duration::from_millis(250)),
];

fn two_steps() -> Case {
    Case {
        request: Request::workflow("two"),
        document: Some(
            "name: two\nflow: {sequence: [{agent: one}, {agent: two, validate: {json-schema: {type: object}}}]}".into(),
        ),
        scripts: ["one", "two"].map(|name| agent(name, work)).to_vec(),
        side_by_side: false,
    }
}

/// What is left of a case on a host whose client asks until it is told the end.
async fn outcome(case: &Case, world: &World, host: &Host) -> (Answer, Contents, Story) {
    let answer = host.ask_until_told(&case.request).await;
    let journal = host.journal(host.run().await.unwrap()).await;
    let audit = host.record.verify().await.unwrap();
    assert!(audit.damage.is_empty(), "{audit:?}");
    assert_eq!(host.runs.alive(), 0, "a run that is over has left its place");
    (answer, world.memory(&host.record).await, Story::of(&journal))
}

#[test]
fn a_fault_at_any_append_changes_nothing() {
    let case = two_steps();
    let with = |line: fn(&std::sync::Arc<ltmc_ports::testing::MemoryRecord>, u64, Option<Fault>) -> Line, at, fault| {
        in_paused_time(async {
            let world = World::new(case.scripts.clone()).with_checkpoints();
            let record = world.record(case.document.as_deref()).await;
            let host = world.host_over(line(&record, at, fault));
            (outcome(&case, &world, &host).await, host.line.appends() >= at)
        })
    };
    let (undisturbed, _) = with(|record, _, _| Line::new(record, [], None), 0, None);
    for at in 1.. {
        let (lost, mut met) = with(|record, at, _| Line::new(record, [], Some(at)), at, None);
        assert_eq!(lost, undisturbed, "the record loses what is not on disk at append {at}");
        for fault in FAULTS {
            let (faulty, reached) =
                with(|record, at, fault| Line::new(record, fault.map(|fault| (at, fault)), None), at, Some(fault));
            assert_eq!(faulty, undisturbed, "{fault:?} at append {at}");
            met |= reached;
        }
        if !met {
            assert!(at > 5, "there were only {at} appends");
            return;
        }
    }
}

#[test]
fn a_call_without_a_key_is_done_once_or_not_at_all() {
    let case = Case { request: Request { key: None, ..Request::call("one") }, ..two_steps() };
    for at in 1..=4 {
        for fault in FAULTS {
            in_paused_time(async {
                let world = World::new(case.scripts.clone()).with_checkpoints();
                let host = world.host(&world.record(case.document.as_deref()).await, [(at, fault)]);
                let answer = host.ask(&case.request).await.unwrap();
                let memory = world.memory(&host.record).await;
                match (answer, host.run().await) {
                    (Ok(_), Some(run)) => {
                        assert_eq!(memory.values().map(String::as_str).collect::<Vec<_>>(), ["1"], "{fault:?} at {at}");
                        assert_eq!(Story::of(&host.journal(run).await).ends, ["run-completed"]);
                    }
                    (Err(failure), None) => {
                        let fault_of_its_own = failure.code == Code::Internal && fault == Fault::Refuse(Kind::Internal);
                        assert!(is_ask_again(&failure) || fault_of_its_own, "{failure:?}; {fault:?} at {at}");
                        assert!(memory.is_empty(), "{memory:?}; {fault:?} at {at}");
                    }
                    other => panic!("{other:?}; {fault:?} at {at}"),
                }
            });
        }
    }
}

#[test]
fn nobody_is_kept_waiting_for_a_record_that_does_not_answer() {
    in_paused_time(async {
        let case = two_steps();
        let world = World::new(case.scripts.clone()).with_checkpoints();
        let faults = (3..=12).map(|at| (at, Fault::Refuse(Kind::Unavailable)));
        let host = world.host(&world.record(case.document.as_deref()).await, faults);
        let begun = Instant::now();
        let told = host.ask(&case.request).await.unwrap().unwrap_err();
        assert!(is_ask_again(&told), "{told:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "told after {:?}", begun.elapsed());
        assert_eq!(host.runs.alive(), 1, "the run is not given up");
        let answer = host.ask_until_told(&case.request).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert!(begun.elapsed() > Duration::from_secs(5), "the record did answer");
    });
}

#[test]
fn who_asks_after_the_run_was_taken_up_again_waits_for_its_end() {
    in_paused_time(async {
        let slow = agent("slow", |guest| async move {
            guest.put("a", 1).await?;
            guest.compute(30_000).await;
            guest.put("b", 1).await?;
            Ok(guest.job.input.clone())
        });
        let world = World::new([slow]).with_checkpoints();
        // The first put and the first try to take the run up again.
        let faults = [2, 3].map(|at| (at, Fault::Refuse(Kind::Unavailable)));
        let host = world.host(&world.record(None).await, faults);
        let request = Request::call("slow");
        let told = host.ask(&request).await.unwrap().unwrap_err();
        assert!(is_ask_again(&told), "{told:?}");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(host.line.appends() >= 5, "it has been taken up again");
        let answer = host.ask(&request).await.unwrap();
        assert!(answer.is_ok(), "{answer:?}");
    });
}

#[test]
fn a_run_is_cancelled_once_the_record_answers_again() {
    in_paused_time(async {
        let slow = agent("slow", |guest| async move {
            guest.put("a", 1).await?;
            guest.compute(3_600_000).await;
            Ok(guest.job.input.clone())
        });
        let world = World::new([slow]).with_checkpoints();
        let faults = [2, 3].map(|at| (at, Fault::Refuse(Kind::Unavailable)));
        let host = world.host(&world.record(None).await, faults);
        host.ask(&Request::call("slow")).await.unwrap().unwrap_err();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let run = host.run().await.unwrap();
        host.runs.cancel(&caller(), run).await.unwrap();
        assert_eq!(Story::of(&host.journal(run).await).ends, ["run-cancelled"]);
        assert_eq!(host.runs.alive(), 0);
    });
}

#[test]
fn a_full_record_leaves_the_run_to_the_next_start() {
    let case = two_steps();
    let undisturbed = in_paused_time(async {
        let world = World::new(case.scripts.clone()).with_checkpoints();
        let host = world.host(&world.record(case.document.as_deref()).await, []);
        outcome(&case, &world, &host).await
    });
    for from in 2..=6 {
        in_paused_time(async {
            let world = World::new(case.scripts.clone()).with_checkpoints();
            let full = (from..1_000).map(|at| (at, Fault::Refuse(Kind::Full)));
            let host = world.host(&world.record(case.document.as_deref()).await, full);
            let told = host.ask(&case.request).await.unwrap().unwrap_err();
            assert!(
                is_ask_again(&told) && told.code == Code::StorageFull || told.code == Code::Unavailable,
                "{told:?}"
            );
            host.runs.stop(Duration::ZERO).await;
            assert_eq!(host.runs.alive(), 0);
            let next = world.host(&host.record.copy(), []);
            assert_eq!(next.runs.recover().await.unwrap().resumed, 1);
            assert_eq!(outcome(&case, &world, &next).await, undisturbed, "full from append {from} on");
            assert_eq!(claims(&next.journal(next.run().await.unwrap()).await), 1);
        });
    }
}

/// What a run did is more than its tenant may have on disk: it ends with that, and does not begin again.
#[test]
fn a_run_of_a_tenant_that_has_all_it_may_have_ends_with_that() {
    let case = two_steps();
    for at in 2..=5 {
        in_paused_time(async {
            let world = World::new(case.scripts.clone()).with_checkpoints();
            let host =
                world.host(&world.record(case.document.as_deref()).await, [(at, Fault::Refuse(Kind::OverQuota))]);
            let told = host.ask_until_told(&case.request).await.unwrap_err();
            assert_eq!(told.code, Code::DiskQuotaExceeded, "{told:?}; at {at}");
            assert!(!told.retryable, "{told:?}");
            let journal = host.journal(host.run().await.unwrap()).await;
            assert_eq!(Story::of(&journal).ends, ["run-failed"], "at {at}");
            assert_eq!(host.runs.alive(), 0);
        });
    }
}
