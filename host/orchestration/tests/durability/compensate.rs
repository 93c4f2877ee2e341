//! What was in vain is undone, once and last first, wherever it was in vain and wherever the host dies; and runs that wait for people.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Event, Placed};
use ltmc_model::run::State;
use ltmc_model::{Payload, RunId};
use ltmc_orchestration::Cancelled;
use ltmc_ports::ReadJournal as _;
use ltmc_ports::testing::{Fault, MemoryRecord};
use serde_json::{Value, json};

use crate::crash::{MODES, PLAIN, crash_at_every_step_in};
use crate::guest::{Guest, Script, agent};
use crate::host::{Answer, Host, World, caller, in_paused_time, tenant};
use crate::patterns::{case, request, scripts};

/// The agents of all patterns, and one that can be kept from undoing.
fn with_undo(can: &Arc<AtomicBool>) -> Vec<Script> {
    let can = can.clone();
    let undo = agent("undo", move |guest: Guest| {
        let can = can.load(Ordering::SeqCst);
        async move {
            guest.count(&format!("undone/{}", guest.job.step.to_string().replace('/', "-"))).await?;
            guest.compute(100).await;
            if can { Ok(guest.job.input.clone()) } else { Err(Failure::new(Code::AgentError, "it cannot be undone")) }
        }
    });
    scripts().into_iter().chain([undo]).collect()
}

/// A host with a workflow, of which what undoes something can.
async fn house(flow: &str) -> (World, Host, Arc<AtomicBool>) {
    let can = Arc::new(AtomicBool::new(true));
    let world = World::new(with_undo(&can));
    let host = world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, []);
    (world, host, can)
}

/// Nodes whose work was undone, in that order.
fn undone(journal: &[Placed]) -> Vec<String> {
    let node = |placed: &Placed| match &placed.entry.event {
        Event::Compensated { node } => Some(node.to_string()),
        _ => None,
    };
    journal.iter().filter_map(node).collect()
}

/// What a run comes to, and whose work was undone in it.
fn played(flow: &str, input: Value) -> (Answer, Vec<String>) {
    in_paused_time(async {
        let (_, host, _) = house(flow).await;
        let answer = host.ask(&request(input)).await.unwrap();
        let journal = host.journal(host.run().await.unwrap()).await;
        (answer, undone(&journal))
    })
}

/// Begins a run, and gives it a second.
async fn begun(host: &Host, input: Value) -> RunId {
    let started = host.start(&request(input)).await.unwrap();
    assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(1))).await.unwrap(), None);
    started.run
}

async fn state(host: &Host, run: RunId) -> State {
    host.record.run(&tenant(), run).await.unwrap().unwrap().state
}

/// Waits until it is over, or is set aside.
async fn ended(host: &Host, run: RunId) -> State {
    for _ in 0..600 {
        let state = state(host, run).await;
        if state.is_over() && host.runs.alive() == 0 {
            return state;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("the run does not end");
}

#[test]
fn a_run_that_fails_is_undone_last_first() {
    let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {sequence: [{agent: b, compensate: {agent: undo, id: u2}}], compensate: \
                {agent: undo, id: u3}}, {agent: bad}]}";
    let (answer, undone) = played(flow, json!(7));
    assert_eq!(answer.unwrap_err().message, "bad");
    assert_eq!(undone, ["0/1/0", "0/1", "0/0"]);
    let (answer, undone) = played(&flow.replace("{agent: bad}", "{agent: pass}"), json!(7));
    assert!(answer.is_ok() && undone.is_empty(), "nothing was in vain: {undone:?}");
}

#[test]
fn a_compensation_is_not_skipped_because_the_step_failed_after_acting() {
    in_paused_time(async {
        let (_, host, _) = house("{agent: bad, compensate: {agent: undo}}").await;
        host.ask(&request(json!({"order": 7}))).await.unwrap().unwrap_err();
        let journal = host.journal(host.run().await.unwrap()).await;
        assert_eq!(undone(&journal), ["0"]);
        let place = |kind: &str| journal.iter().position(|placed| placed.entry.event.kind() == kind).unwrap();
        assert!(place("compensation-registered") < place("step-started"), "it stands ready before anything is done");
        assert!(place("compensated") < place("run-failed"), "the run is over once it is undone");
    });
}

#[test]
fn what_undoes_something_works_on_what_that_gave_or_was_given() {
    let seen = |flow: &str| {
        in_paused_time(async {
            let (_, host, _) = house(flow).await;
            host.ask(&request(json!({"order": 7}))).await.unwrap().unwrap_err();
            let journal = host.journal(host.run().await.unwrap()).await;
            let output = journal.iter().find_map(|placed| match &placed.entry.event {
                Event::StepCompleted { step, output, .. } if step.as_str().contains("13000") => Some(output.clone()),
                _ => None,
            });
            output.unwrap().to_value().unwrap()
        })
    };
    let acted = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: bad}]}";
    assert_eq!(seen(acted)["step"], "0-0", "what it gave");
    let gave_nothing = "{sequence: [{agent: bad, with: {x: 1}, compensate: {agent: undo}}]}";
    assert_eq!(seen(gave_nothing), json!({"order": 7, "x": 1}), "what it worked on");
    let picks = "{sequence: [{agent: pass, with: {n: 1}, compensate: {agent: undo, with: {gave: {pick: $.output.n, else: 0}, given: \
                 $.given.order, why: $.error.code, where: $.error.step, run: $.input.order}}}, {agent: bad}]}";
    let (seen, given) = (seen(picks), json!(7));
    assert_eq!((&seen["gave"], &seen["given"], &seen["run"]), (&json!(1), &given, &given));
    assert_eq!((&seen["why"], &seen["where"]), (&json!("agent-error"), &json!("0/1")));
}

#[test]
fn what_was_done_is_undone_before_it_is_done_otherwise() {
    let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {sequence: [{agent: b, compensate: {agent: undo, id: u2}}, {agent: bad}], \
                fallback: [{agent: bad, id: bad2, compensate: {agent: undo, id: u3}}, {agent: pass}]}]}";
    let (answer, undone) = played(flow, json!(7));
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(undone, ["0/1/0", "0/1/11000"], "what came before it stays");
    let handled = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: slow}], timeout: 10s, on-error: [{do: {agent: pass}}]}";
    assert_eq!(played(handled, json!(7)).1, ["0/0"]);
    let not_handled = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: bad}], on-error: [{when: {pick: $.error.code, equals: \
                       x}, do: {agent: pass}}]}";
    assert_eq!(played(not_handled, json!(7)).1, ["0/0"], "once, by the run");
}

#[test]
fn what_is_begun_anew_is_undone_each_time() {
    let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: flaky}], retry: {attempts: 3, on: [agent-error], backoff: 10ms}}";
    let (answer, undone) = played(flow, json!(7));
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(undone, ["0/0", "0/0"], "for each of the tries that failed");
    let step = "{agent: flaky, retry: {attempts: 3, on: [agent-error]}, compensate: {agent: undo}}";
    assert!(played(step, json!(7)).1.is_empty(), "a step that is tried again does the same");
}

#[test]
fn a_branch_that_does_not_count_is_undone() {
    let lost = "{parallel: [{agent: slow, compensate: {agent: undo}}, {agent: a, compensate: {agent: undo, id: u2}}], need: any}";
    assert_eq!(played(lost, json!(7)).1, ["0/0"]);
    let failed = "{parallel: [{sequence: [{agent: b, compensate: {agent: undo}}, {agent: bad}]}, {agent: a, compensate: {agent: undo, id: \
                  u2}}], need: 1, on-loss: finish}";
    assert_eq!(played(failed, json!(7)).1, ["0/0/0"]);
    let came_to_its_end =
        "{parallel: [{agent: b, compensate: {agent: undo}}, {agent: pass}], need: 1, on-loss: finish}";
    assert!(played(came_to_its_end, json!(7)).1.is_empty(), "the document wants its end");
    let tolerated = "{map: $.input, do: {sequence: [{agent: a, compensate: {agent: undo}}, {agent: odd, with: $.item}]}, tolerate: 1}";
    let (answer, undone) = played(tolerated, json!([1, 2, 3]));
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(undone, ["0/1/0"]);
}

#[test]
fn every_item_and_every_round_is_undone() {
    let items = "{sequence: [{map: $.input, do: {agent: a, compensate: {agent: undo}}, at-once: 1}, {agent: bad}]}";
    assert_eq!(played(items, json!([1, 2, 3])).1, ["0/0/2", "0/0/1", "0/0/0"]);
    let rounds = "{sequence: [{loop: {agent: plus-one, compensate: {agent: undo}}, at-most: 3}, {agent: bad}]}";
    assert_eq!(played(rounds, json!(0)).1, ["0/0/2", "0/0/1", "0/0/0"]);
}

#[test]
fn crash_at_every_step_of_what_is_undone() {
    for (flow, input) in [
        (
            "{sequence: [{agent: a, compensate: {agent: c, id: u1}}, {agent: b, compensate: {agent: c, id: u2}}, {agent: bad}]}",
            json!(0),
        ),
        (
            "{sequence: [{parallel: [{agent: slow, compensate: {agent: c}}, {agent: a, compensate: {agent: c, id: u2}}], need: any}, {agent: b}]}",
            json!(0),
        ),
        (
            "{sequence: [{agent: a, compensate: {sequence: [{agent: c}, {agent: d}]}}, {agent: flaky}], retry: {attempts: 3, on: \
              [agent-error], backoff: 10ms}}",
            json!(0),
        ),
        (
            "{sequence: [{map: $.input, do: {agent: a, compensate: {agent: c}}, at-once: 2}, {agent: bad}]}",
            json!([1, 2]),
        ),
        (
            "{sequence: [{loop: {agent: plus-one, compensate: {agent: c}}, at-most: 2}, {agent: bad}], fallback: [{agent: a}]}",
            json!(0),
        ),
        ("{agent: bad, compensate: {agent: flaky, retry: {attempts: 3, on: [agent-error], backoff: 5ms}}}", json!(0)),
    ] {
        eprintln!("{flow}");
        // Its guests change little: the modes that differ most.
        crash_at_every_step_in(&case(flow, input), &[PLAIN, MODES[3]]);
    }
    let stuck =
        "{sequence: [{agent: a, compensate: {agent: c}}, {agent: b, compensate: {agent: bad, id: u2}}, {agent: bad}]}";
    crash_at_every_step_in(&case(stuck, json!(0)), &[PLAIN]);
}

#[test]
fn a_cancelled_run_is_undone_and_to_cancel_it_again_changes_nothing() {
    in_paused_time(async {
        let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: b, compensate: {agent: undo, id: u2}}, {agent: slow, compensate: \
                    {agent: undo, id: u3}}]}";
        let (world, host, _) = house(flow).await;
        let run = begun(&host, json!(7)).await;
        for _ in 0..2 {
            assert_eq!(host.runs.cancel(&caller(), run).await.unwrap(), Cancelled::BeingUndone);
        }
        let view = host.runs.get(&caller(), run).await.unwrap();
        assert_eq!((view.state, view.ending), (State::Running, Some("cancelling")));
        assert_eq!(ended(&host, run).await, State::Cancelled);
        let journal = host.journal(run).await;
        assert_eq!(undone(&journal), ["0/2", "0/1", "0/0"]);
        let kinds = |kind: &str| journal.iter().filter(|placed| placed.entry.event.kind() == kind).count();
        assert_eq!((kinds("run-cancelling"), kinds("run-cancelled")), (1, 1));
        assert!(host.runs.cancel(&caller(), run).await.is_err(), "it is over");
        let memory = world.memory(&host.record).await;
        assert!(memory.keys().all(|(_, key)| !key.starts_with("slow/")), "what was open never was: {memory:?}");
        let once = memory.iter().filter(|((_, key), _)| key.starts_with("undone/"));
        assert!(once.clone().count() == 3 && once.clone().all(|(_, count)| count == "1"), "{memory:?}");
        // What was undone is done again.
        host.runs.resume(&caller(), run).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(host.runs.cancel(&caller(), run).await.unwrap(), Cancelled::BeingUndone);
        assert_eq!(ended(&host, run).await, State::Cancelled);
        assert_eq!(undone(&host.journal(run).await).len(), 6, "each once more");
    });
}

#[test]
fn a_suspended_run_is_undone_where_it_is_cancelled() {
    in_paused_time(async {
        let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: bad, retry: {attempts: 9, on: [agent-error], backoff: 24h, max: \
                    24h}}]}";
        let (_, host, _) = house(flow).await;
        let run = begun(&host, json!(7)).await;
        assert_eq!((state(&host, run).await, host.runs.alive()), (State::Waiting, 0));
        assert_eq!(host.runs.cancel(&caller(), run).await.unwrap(), Cancelled::BeingUndone);
        assert_eq!(ended(&host, run).await, State::Cancelled);
        assert_eq!(undone(&host.journal(run).await), ["0/0"]);
    });
}

/// Wherever the host dies between the cancelling and the end, each is undone once.
#[test]
fn a_host_that_dies_while_it_undoes_goes_on_with_that() {
    let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {parallel: [{agent: b, compensate: {agent: undo, id: u2}}, {agent: slow}]}]}";
    for at in 1.. {
        let mut died = false;
        for how in [Fault::CrashBefore, Fault::CrashAfter] {
            died |= in_paused_time(async {
                let can = Arc::new(AtomicBool::new(true));
                let world = World::new(with_undo(&can));
                let record = world.record(Some(&format!("name: flow\nflow: {flow}"))).await;
                let host = world.host(&record, [(at, how)]);
                let _ = host.start(&request(json!(7))).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                if let Some(run) = host.run().await {
                    let _ = host.runs.cancel(&caller(), run).await;
                }
                tokio::time::sleep(Duration::from_secs(60)).await;
                let died = host.line.is_dead();
                ends_undone(&world, &host.record.crash(), &format!("{how:?} at {at}")).await;
                died
            });
        }
        if !died {
            assert!(at > 6, "{at} appends");
            return;
        }
    }
}

/// A client that was not answered cancels it again on the next host: it ends with each undone once.
async fn ends_undone(world: &World, record: &Arc<MemoryRecord>, when: &str) {
    let host = world.host(record, []);
    host.runs.recover().await.unwrap();
    let Some(run) = host.run().await else { return };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = host.runs.cancel(&caller(), run).await;
    assert_eq!(ended(&host, run).await, State::Cancelled, "{when}");
    let journal = host.journal(run).await;
    let registered = journal.iter().filter(|placed| placed.entry.event.kind() == "compensation-registered").count();
    let undone = undone(&journal);
    assert_eq!(undone.len(), registered, "{when}: {undone:?}");
    let memory = world.memory(record).await;
    let counts = memory.iter().filter(|((_, key), _)| key.starts_with("undone/")).map(|(_, count)| count.as_str());
    assert_eq!(counts.collect::<Vec<_>>(), vec!["1"; registered], "{when}: {memory:?}");
}

#[test]
fn what_cannot_be_undone_waits_for_people() {
    in_paused_time(async {
        let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: b, compensate: {agent: c, id: u2}}, {agent: bad}]}";
        let (_, host, can) = house(flow).await;
        can.store(false, Ordering::SeqCst);
        let told = host.ask(&request(json!(7))).await.unwrap().unwrap_err();
        assert_eq!(told.code, Code::Stuck);
        assert!(told.message.contains("it cannot be undone"), "{told}");
        let run = host.run().await.unwrap();
        assert_eq!(state(&host, run).await, State::Stuck);
        // It is tried again, and again it cannot.
        host.runs.resume(&caller(), run).await.unwrap();
        assert_eq!(ended(&host, run).await, State::Stuck);
        can.store(true, Ordering::SeqCst);
        host.runs.resume(&caller(), run).await.unwrap();
        assert_eq!(ended(&host, run).await, State::Failed, "it is undone, and ends as it did");
        let journal = host.journal(run).await;
        assert_eq!(undone(&journal), ["0/1", "0/0"], "what was undone before is not undone again");
        assert_eq!(host.ask(&request(json!(7))).await.unwrap().unwrap_err().message, "bad");
    });
}

#[test]
fn whoever_cancels_a_stuck_run_gives_up_what_is_not_undone() {
    in_paused_time(async {
        let (_, host, can) = house("{sequence: [{agent: a, compensate: {agent: undo}}, {agent: bad}]}").await;
        can.store(false, Ordering::SeqCst);
        host.ask(&request(json!(7))).await.unwrap().unwrap_err();
        let run = host.run().await.unwrap();
        assert_eq!(host.runs.cancel(&caller(), run).await.unwrap(), Cancelled::Over);
        assert_eq!(state(&host, run).await, State::Cancelled);
        can.store(true, Ordering::SeqCst);
        host.runs.resume(&caller(), run).await.unwrap();
        assert_eq!(ended(&host, run).await, State::Failed);
        let begun = host.sandbox.ran().iter().filter(|(step, _)| step.as_str() == "0/0").count();
        assert_eq!(begun, 2, "all of it was done anew");
    });
}

#[test]
fn a_part_that_is_stuck_keeps_what_comes_in_its_place_waiting() {
    in_paused_time(async {
        let flow = "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: bad}], fallback: [{agent: pass}]}";
        let (_, host, can) = house(flow).await;
        can.store(false, Ordering::SeqCst);
        assert_eq!(host.ask(&request(json!(7))).await.unwrap().unwrap_err().code, Code::Stuck);
        can.store(true, Ordering::SeqCst);
        host.runs.resume(&caller(), host.run().await.unwrap()).await.unwrap();
        assert_eq!(host.ask(&request(json!(7))).await.unwrap().unwrap(), Payload::json(&json!(7)));
        let bad = host.sandbox.ran().iter().filter(|(step, _)| step.as_str() == "0/1").count();
        assert_eq!(bad, 1, "what failed is not tried again, only what undoes it");
    });
}

#[test]
fn what_failed_waits_for_people_where_the_document_says_so_and_others_go_on() {
    in_paused_time(async {
        let is_well = Arc::new(AtomicBool::new(false));
        let well = is_well.clone();
        let sick = agent("sick", move |guest: Guest| {
            let is_well = well.load(Ordering::SeqCst);
            async move { if is_well { Ok(guest.job.input.clone()) } else { Err(Failure::new(Code::AgentError, "sick")) } }
        });
        let flow = "name: flow\nflow: {parallel: [{agent: sick, retry: {attempts: 2, on: [agent-error], backoff: 5ms, then: pause}}, {sequence: \
                    [{agent: a, compensate: {agent: c}}, {agent: b}]}], timeout: 1h}";
        let world = World::new(scripts().into_iter().chain([sick]));
        let host = world.host(&world.record(Some(flow)).await, []);
        let told = host.ask(&request(json!(7))).await.unwrap().unwrap_err();
        assert!(told.code == Code::Paused && told.message.contains("agent-error: sick"), "{told}");
        let run = host.run().await.unwrap();
        assert_eq!((state(&host, run).await, host.runs.alive()), (State::Paused, 0));
        let ran: Vec<String> = host.sandbox.ran().iter().map(|(step, _)| step.to_string()).collect();
        assert!(ran.contains(&"0/1/1".to_owned()), "the other branch came to its end: {ran:?}");
        // Nobody takes it up, however long it takes, and its time stands still.
        let next = world.host(&host.record.crash(), []);
        drop(host);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 0);
        tokio::time::sleep(Duration::from_secs(7_200)).await;
        next.runs.resume(&caller(), run).await.unwrap();
        assert_eq!(ended(&next, run).await, State::Paused, "it has fresh tries, and used them up");
        assert_eq!(next.sandbox.ran().len(), 2);
        is_well.store(true, Ordering::SeqCst);
        next.runs.go_on_with(&caller(), run).await.unwrap();
        let answer = next.ask(&request(json!(7))).await.unwrap().unwrap().to_value().unwrap();
        assert_eq!((&answer[0], &answer[1]["step"]), (&json!(7), &json!("0-1-1")));
    });
}

#[test]
fn whoever_cancels_a_run_that_waits_for_people_has_it_undone() {
    in_paused_time(async {
        let flow =
            "{sequence: [{agent: a, compensate: {agent: undo}}, {agent: bad, retry: {attempts: 1, then: pause}}]}";
        let (_, host, _) = house(flow).await;
        assert_eq!(host.ask(&request(json!(7))).await.unwrap().unwrap_err().code, Code::Paused);
        let run = host.run().await.unwrap();
        assert_eq!(host.runs.cancel(&caller(), run).await.unwrap(), Cancelled::BeingUndone);
        assert_eq!(ended(&host, run).await, State::Cancelled);
        assert_eq!(undone(&host.journal(run).await), ["0/0"]);
    });
}

/// What a resumed run does anew as a whole is undone before.
#[test]
fn a_run_that_waits_for_people_undoes_what_it_does_anew() {
    in_paused_time(async {
        let flow = "{loop: {agent: plus-one, compensate: {agent: undo}}, until: {pick: $.last, at-least: 9}, at-most: 2, retry: {attempts: \
                    1, then: pause}}";
        let (world, host, _) = house(flow).await;
        assert_eq!(host.ask(&request(json!(0))).await.unwrap().unwrap_err().code, Code::Paused);
        let run = host.run().await.unwrap();
        host.runs.resume(&caller(), run).await.unwrap();
        assert_eq!(ended(&host, run).await, State::Paused);
        assert_eq!(undone(&host.journal(run).await), ["0/1"], "the last round, which is made again");
        assert_eq!(host.runs.cancel(&caller(), run).await.unwrap(), Cancelled::BeingUndone);
        assert_eq!(ended(&host, run).await, State::Cancelled);
        let memory = world.memory(&host.record).await;
        let count = |key: &str| memory.iter().find(|((_, known), _)| known == key).map(|(_, count)| count.clone());
        assert_eq!(count("undone/0-1-13000"), Some("2".into()), "each of both times that it was done");
        assert_eq!(count("undone/0-0-13000"), Some("1".into()));
    });
}

#[test]
fn a_paused_run_stays_so_over_restarts_and_goes_on_where_it_was() {
    in_paused_time(async {
        let (world, host, _) = house("{sequence: [{agent: a}, {agent: slow, timeout: 2h}]}").await;
        let run = begun(&host, json!(7)).await;
        for _ in 0..2 {
            host.runs.pause(&caller(), run).await.unwrap();
        }
        assert_eq!((state(&host, run).await, host.runs.alive()), (State::Paused, 0));
        assert_eq!(host.ask(&request(json!(7))).await.unwrap().unwrap_err().code, Code::Paused, "who waits is told");
        let next = world.host(&host.record.crash(), []);
        drop(host);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 0);
        tokio::time::sleep(Duration::from_secs(20 * 3_600)).await;
        assert_eq!((state(&next, run).await, next.sandbox.ran().len()), (State::Paused, 0));
        next.runs.go_on_with(&caller(), run).await.unwrap();
        assert!(next.runs.go_on_with(&caller(), run).await.is_err(), "it is not paused any more");
        let answer = next.ask(&request(json!(7))).await.unwrap();
        assert_eq!(answer.unwrap(), Payload::text("late"), "its time stood still meanwhile");
        let ran: Vec<_> = next.sandbox.ran().iter().map(|(step, attempt)| (step.to_string(), *attempt)).collect();
        assert_eq!(ran, [("0/1".to_owned(), 1)], "its open attempt is gone on with");
        assert!(next.runs.pause(&caller(), run).await.is_err(), "it is over");
    });
}

#[test]
fn a_suspended_run_is_paused_too() {
    in_paused_time(async {
        let flow = "{agent: flaky, retry: {attempts: 3, on: [agent-error], backoff: 24h, max: 24h}}";
        let (_, host, _) = house(flow).await;
        let run = begun(&host, json!(7)).await;
        host.runs.pause(&caller(), run).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100 * 3_600)).await;
        assert_eq!((state(&host, run).await, host.sandbox.ran().len()), (State::Paused, 1));
        host.runs.go_on_with(&caller(), run).await.unwrap();
        assert!(host.ask(&request(json!(7))).await.unwrap().is_ok());
    });
}
