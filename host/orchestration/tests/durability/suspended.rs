//! Suspended: a run that waits for long is a row and nothing else, and goes on when it is due, whoever is there then.

use std::time::Duration;

use ltmc_model::agent::{Agent, Carry, Export};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::manifest::Manifest;
use ltmc_model::memory::Precondition;
use ltmc_model::run::State;
use ltmc_model::{Digest, Payload, Timestamp};
use ltmc_orchestration::Cancelled;
use ltmc_ports::testing::{Fault, sample};
use ltmc_ports::{Kind, ReadCatalog as _, ReadJournal as _, WriteCatalog as _};
use ltmc_tenancy::Error;

use crate::guest::{Guest, Script, agent, may_pass, text};
use crate::host::{Host, Request, World, caller, in_paused_time, tenant};
use crate::story::{Story, claims};

const DOCUMENT: &str = "name: patient\nflow: {agent: late, retry: {attempts: 3, backoff: 1h, max: 1h}}";
/// Longer than all its waits.
const LONG: Duration = Duration::from_secs(5 * 60 * 60);

/// Succeeds at its third attempt.
async fn late(guest: Guest) -> Result<Payload, Failure> {
    let count = guest.count("tries").await?;
    if guest.job.attempt < 3 { Err(may_pass("not yet")) } else { Ok(Payload::json(&count.into())) }
}

fn scripts() -> [Script; 1] {
    [agent("late", late)]
}

/// A host on which the run is suspended, and until when.
async fn suspended(world: &World) -> (Host, Timestamp) {
    let host = world.host(&world.record(Some(DOCUMENT)).await, []);
    let started = host.start(&Request::workflow("patient")).await.unwrap();
    assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_millis(1))).await.unwrap(), None);
    let row = host.record.run(&tenant(), started.run).await.unwrap().unwrap();
    assert_eq!((row.state, host.runs.alive()), (State::Waiting, 0), "it has neither a place nor a task");
    let until = row.wakes_at.expect("it says when it goes on");
    (host, until)
}

#[test]
fn whoever_waits_for_a_run_that_is_suspended_is_told_its_end() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, until) = suspended(&world).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(host.ask(&Request::workflow("patient")).await.unwrap().unwrap(), Payload::json(&1.into()));
        let waited = sample::at(0).after(begun.elapsed());
        assert!(until <= waited.after(Duration::from_secs(1)), "it went on at {waited}, before it was due at {until}");
        let run = host.run().await.unwrap();
        let row = host.record.run(&tenant(), run).await.unwrap().unwrap();
        assert_eq!((row.state, row.wakes_at, host.runs.alive()), (State::Completed, None, 0));
        let journal = host.journal(run).await;
        assert_eq!(claims(&journal), 2, "once for each wait");
        assert_eq!(Story::of(&journal).ended.len(), 3);
    });
}

#[test]
fn a_run_goes_on_after_a_restart_and_a_start_leaves_it_where_it_is() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, until) = suspended(&world).await;
        let record = host.record.crash();
        drop(host);
        // Nobody is there when it becomes due.
        tokio::time::sleep(LONG).await;
        assert_eq!(record.suspended(&tenant(), None, 10).await.unwrap()[0].wakes_at, Some(until));
        let next = world.host(&record, []);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 0, "that is not what a start takes up");
        assert!(next.ask(&Request::workflow("patient")).await.unwrap().is_ok());
        assert!(record.suspended(&tenant(), None, 10).await.unwrap().is_empty());
    });
}

/// However many runs wait for long, and however large their inputs: they take nothing of the room that there is for those of others,
/// neither on the host that suspended them nor on the next.
#[test]
fn runs_in_long_back_off_take_no_room_for_inputs_also_over_restarts() {
    in_paused_time(async {
        const RUNS: usize = 16;
        let world = World::new(scripts());
        let host = world.host(&world.record(Some(DOCUMENT)).await, []);
        let input = Payload::text("x".repeat(1 << 20));
        for number in 0..RUNS {
            let request =
                Request { key: Some(format!("key {number}")), input: input.clone(), ..Request::workflow("patient") };
            let started = host.start(&request).await.unwrap();
            let shortly = Some(Duration::from_millis(1));
            assert_eq!(host.runs.wait(&caller(), &started, shortly).await.unwrap(), None);
        }
        assert_eq!(host.record.suspended(&tenant(), None, 100).await.unwrap().len(), RUNS);
        assert_eq!((host.runs.alive(), host.runs.input_bytes()), (0, 0));
        let mut record = host.record.crash();
        drop(host);
        for _ in 0..3 {
            let next = world.host(&record, []);
            assert_eq!(next.runs.recover().await.unwrap().resumed, 0);
            assert_eq!((next.runs.alive(), next.runs.input_bytes()), (0, 0), "a start takes none of them up");
            record = next.record.crash();
        }
        let last = world.host(&record, []);
        tokio::time::sleep(LONG).await;
        assert!(record.suspended(&tenant(), None, 10).await.unwrap().is_empty(), "they go on when they are due");
        assert_eq!((last.runs.alive(), last.runs.input_bytes()), (0, 0));
    });
}

#[test]
fn of_two_hosts_one_goes_on_with_it() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (one, _) = suspended(&world).await;
        let other = world.host(&one.record, []);
        tokio::time::sleep(LONG).await;
        let run = one.run().await.unwrap();
        let journal = one.journal(run).await;
        let story = Story::of(&journal);
        assert_eq!((story.begun.len(), story.ends), (3, vec!["run-completed"]), "each attempt was made once");
        assert_eq!((one.runs.alive(), other.runs.alive()), (0, 0));
        assert_eq!(one.sandbox.ran().len() + other.sandbox.ran().len(), 3);
    });
}

#[test]
fn a_suspended_run_is_cancelled_once_and_does_not_go_on() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, _) = suspended(&world).await;
        let run = host.run().await.unwrap();
        let by = caller();
        let (one, other) = tokio::join!(host.runs.cancel(&by, run), host.runs.cancel(&by, run));
        let answers = [one, other];
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        let refused =
            |answer: &Result<Cancelled, Error>| matches!(answer, Err(Error::Busy { .. } | Error::Conflict { .. }));
        assert!(answers.iter().all(|answer| answer.is_ok() || refused(answer)), "{answers:?}");
        tokio::time::sleep(LONG).await;
        assert_eq!(host.runs.get(&caller(), run).await.unwrap().state, State::Cancelled);
        assert_eq!(host.sandbox.ran().len(), 1, "it did not go on");
        let told = host.ask(&Request::workflow("patient")).await.unwrap();
        assert_eq!(told.unwrap_err().code, Code::Cancelled);
        // Whoever resumes it goes on where it waited.
        host.runs.resume(&caller(), run).await.unwrap();
        assert!(host.ask(&Request::workflow("patient")).await.unwrap().is_ok());
    });
}

#[test]
fn a_suspended_run_keeps_no_component_that_it_could_not_use() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, _) = suspended(&world).await;
        let nobodys = ltmc_model::Digest::of(b"nobody's");
        assert!(!host.record.component_in_use(&nobodys).await.unwrap(), "no agent has it");
        for agent in host.record.agents(&tenant(), None, 100).await.unwrap() {
            assert!(host.record.component_in_use(&agent.digest).await.unwrap(), "the run goes on with it");
            let deleted = Act { by: None, change: Change::AgentDeleted { name: agent.name.clone() } };
            host.record.act(&tenant(), sample::at(0), deleted).await.unwrap();
            assert!(!host.record.component_in_use(&agent.digest).await.unwrap());
        }
    });
}

/// Whoever cancels a run at the moment at which it is suspended has cancelled it.
#[test]
fn a_run_that_is_cancelled_as_it_is_suspended_is_cancelled() {
    for millis in 1_996..=2_004 {
        in_paused_time(async {
            let world = World::new(scripts());
            let record = world.record(Some(DOCUMENT)).await;
            // What says that it is suspended takes so long.
            let host = world.host(&record, [(2, Fault::Delay(Duration::from_secs(2)))]);
            let run = host.start(&Request::workflow("patient")).await.unwrap().run;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let cancelled = host.runs.cancel(&caller(), run).await;
            assert!(cancelled.is_ok(), "after {millis} ms: {cancelled:?}");
            tokio::time::sleep(LONG).await;
            assert_eq!(host.runs.get(&caller(), run).await.unwrap().state, State::Cancelled, "after {millis} ms");
            assert_eq!(host.sandbox.ran().len(), 1, "after {millis} ms");
        });
    }
}

/// A record that is full, or away, when a run becomes due delays it and does not leave it behind.
#[test]
fn a_run_that_cannot_be_claimed_when_it_is_due_is_claimed_later() {
    for fault in [Fault::Refuse(Kind::Full), Fault::Refuse(Kind::Unavailable)] {
        in_paused_time(async {
            let world = World::new(scripts());
            let record = world.record(Some(DOCUMENT)).await;
            let host = world.host(&record, (3..9).map(|append| (append, fault)));
            let started = host.start(&Request::workflow("patient")).await.unwrap();
            // Longer than it waits, and than the record is away.
            tokio::time::sleep(LONG).await;
            let row = host.record.run(&tenant(), started.run).await.unwrap().unwrap();
            assert_eq!(row.state, State::Completed, "{fault:?}");
        });
    }
}

/// What becomes of a run whose next step's agent was deleted, replaced, or may do less by now: it says so, or goes on with the version that it
/// began with. It does not hang.
#[test]
fn an_agent_that_is_deleted_replaced_or_loses_its_grants_in_the_middle() {
    let keeper = || {
        agent("keeper", |guest| async move {
            let kept = guest.put_if("kept", "it", Precondition::Any).await?;
            kept.map_err(|refusal| Failure::new(Code::AgentError, format!("{refusal:?}")))?;
            Ok(Payload::text("kept"))
        })
    };
    let name = || "keeper".parse().unwrap();
    let changes: [(&str, Change, Result<&str, Code>); 3] = [
        ("deleted", Change::AgentDeleted { name: name() }, Err(Code::AgentMissing)),
        (
            "replaced",
            Change::AgentPushed(Agent {
                name: name(),
                digest: Digest([9; 32]),
                manifest: Manifest::default(),
                exports: vec![Export::Agent],
                size: 1,
                pushed_at: sample::at(1),
            }),
            Ok("kept"),
        ),
        (
            "less",
            Change::GrantsSet {
                agent: name(),
                grants: Vec::new(),
                digest: Some(keeper().component()),
                carry: Some(Carry::Never),
            },
            Err(Code::AgentError),
        ),
    ];
    for (what, change, wanted) in changes {
        in_paused_time(async move {
            let world = World::new([keeper()]);
            let document = "name: later\nflow: {sequence: [{wait: 1h}, {agent: keeper}]}";
            let host = world.host(&world.record(Some(document)).await, []);
            let started = host.start(&Request::workflow("later")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            host.record.act(&tenant(), world.clock().now(), Act { by: None, change }).await.unwrap();
            let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
            let ended = ended.as_ref().map(|output| text(&output.bytes)).map_err(|failure| failure.code);
            assert_eq!(ended, wanted, "{what}");
        });
    }
}
