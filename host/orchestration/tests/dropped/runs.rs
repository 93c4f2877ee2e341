//! What people do with runs: begin, cancel, pause, go on with, take up again, fork and restart them, and answer what they ask.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::journal::Amendment;
use ltmc_model::question::Standing;
use ltmc_model::run::State;
use ltmc_model::{Digest, Payload, RunId, Seq};
use ltmc_orchestration::{Answer, Cancelled, Changes, ForkFrom, ForkRequest};
use ltmc_ports::ReadQuestions as _;
use ltmc_ports::questions::QuestionFilter;
use ltmc_tenancy::Error;
use serde_json::json;

use crate::case::{MANY, dropped, nothing};
use crate::house::{CALL, FAIL, HANG, House, LONG, admin, cut, in_paused_time, tenant};

dropped! {
    /// It ends with its client, wherever that went away; a second one is a call of its own.
    a_call_is_made:
        of ["orchestration/src/runs/begin.rs: call", "orchestration/src/runs/begin.rs: begin"],
        before nothing,
        ask async |house: Arc<House>| {
            let started = house.call("in", None).await?;
            house.wait(&started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            let runs = house.all_runs().await;
            let ended = |state| runs.iter().filter(|run| run.state == state).count();
            runs.len() <= 2 && ended(State::Completed) >= 1 && ended(State::Completed) + ended(State::Cancelled) == runs.len()
        };
    /// It ends with its client, and what it called with it.
    a_call_is_made_that_calls_another_agent:
        of ["orchestration/src/runs/begin.rs: call", "orchestration/src/runs/enter.rs: set_out_recorded"],
        before |house| async move { house.push("parent", None).await }.boxed(),
        ask async |house: Arc<House>| {
            let started = house.call_of("parent", CALL).await?;
            house.wait(&started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            let runs = house.all_runs().await;
            let (children, parents): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run.parent.is_some());
            let is_completed = |run: &&&ltmc_model::run::Run| run.state == State::Completed;
            let ended = |id| parents.iter().find(|run| Some(run.id) == id).unwrap().state;
            let together = children.iter().all(|child| match ended(child.parent) {
                State::Completed => child.state == State::Completed,
                // It may have come to its end before.
                _ => matches!(child.state, State::Completed | State::Cancelled),
            });
            parents.len() <= 2 && parents.iter().filter(is_completed).count() >= 1 && together
        };
    a_call_is_made_that_can_be_asked_for_again:
        of ["orchestration/src/runs/begin.rs: call", "orchestration/src/runs/begin.rs: begin_recorded"],
        before nothing,
        ask async |house: Arc<House>| {
            let started = house.call("in", Some("once")).await?;
            house.wait(&started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed]
        };
    a_workflow_is_run:
        of ["orchestration/src/runs/begin.rs: start", "orchestration/src/runs/begin.rs: begin_recorded"],
        before nothing,
        ask async |house: Arc<House>| {
            let started = house.start("once").await?;
            house.wait(&started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed]
        };
    a_run_is_cancelled:
        of ["orchestration/src/stop.rs: cancel"],
        during |house| async move { drop(house.call(HANG, Some("once")).await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            house.runs.cancel(&admin(), run).await.map(drop)
        },
        again ["conflict"],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            run.state == State::Cancelled && house.entries(run.id, "run-cancelled").await == 1
        };
    /// Nothing but its row is kept.
    a_run_that_waits_is_cancelled:
        of ["orchestration/src/stop.rs: cancel", "orchestration/src/stop.rs: end"],
        before |house| async move {
            house.flows("{wait: 300d}").await;
            drop(house.start("once").await.unwrap());
        }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            house.runs.cancel(&admin(), run).await.map(drop)
        },
        again ["conflict"],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            run.state == State::Cancelled && house.entries(run.id, "run-cancelled").await == 1
        };
    /// What it did is undone first, which goes on by itself.
    a_run_is_cancelled_that_has_something_to_undo:
        of ["orchestration/src/stop.rs: cancel"],
        during |house| async move {
            house.flows("{sequence: [{agent: echo, compensate: {agent: echo, id: undone}}, {agent: echo, id: again}]}").await;
            drop(house.start_on(HANG, "once").await.unwrap());
            // The first step hangs, and is registered.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            let cancelled = house.runs.cancel(&admin(), run).await?;
            assert_eq!(cancelled, Cancelled::BeingUndone);
            Ok(())
        },
        again ["conflict"],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            let undone = house.entries(run.id, "step-completed").await;
            run.state == State::Cancelled && (house.entries(run.id, "run-cancelling").await, undone) == (1, 1)
        };
    a_run_is_paused:
        of ["orchestration/src/stop.rs: pause"],
        during |house| async move { drop(house.call(HANG, Some("once")).await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            house.runs.pause(&admin(), run).await
        },
        again [],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            run.state == State::Paused && house.entries(run.id, "run-paused").await == 1
        };
    /// What it began is paused with it.
    a_run_is_paused_that_began_another:
        of ["orchestration/src/stop.rs: pause"],
        during |house| async move { begin_two(&house, HANG).await }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.parent().await;
            house.runs.pause(&admin(), run.id).await
        },
        again [],
        whole async |house: Arc<House>| {
            let states = states(&house).await;
            states == [State::Paused; 2] || !states.contains(&State::Paused)
        },
        done async |house: Arc<House>| states(&house).await == [State::Paused; 2];
    a_paused_run_is_continued:
        of ["orchestration/src/stop.rs: go_on_with"],
        before |house| async move {
            let run = house.call(LONG, Some("once")).await.unwrap().run;
            house.runs.pause(&admin(), run).await.unwrap();
        }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            house.runs.go_on_with(&admin(), run).await
        },
        again ["conflict"],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            let (view, _) = house.runs.journal(&admin(), run.id, Seq(0), 1_000).await.unwrap();
            let continued = view.iter().filter(|placed| placed.kind == "run-continued").count();
            run.state == State::Completed && continued == 1
        };
    /// What it began goes on with it.
    a_paused_run_is_continued_that_began_another:
        of ["orchestration/src/stop.rs: go_on_with"],
        before |house| async move {
            begin_two(&house, LONG).await;
            let run = house.parent().await;
            house.runs.pause(&admin(), run.id).await.unwrap();
            assert_eq!(states(&house).await, [State::Paused; 2]);
        }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.parent().await;
            house.runs.go_on_with(&admin(), run.id).await
        },
        again ["conflict"],
        whole async |house: Arc<House>| {
            let states = states(&house).await;
            states == [State::Paused; 2] || !states.contains(&State::Paused)
        },
        done async |house: Arc<House>| states(&house).await == [State::Completed; 2];
    /// It fails again, for it is given the same to do.
    a_run_is_taken_up_again:
        of [
            "orchestration/src/recovery/resume.rs: resume",
            "orchestration/src/recovery/resume.rs: resume_with",
            "orchestration/src/runs/enter.rs: go_on"
        ],
        before |house| async move { drop(house.call(FAIL, Some("once")).await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            house.runs.resume(&admin(), run).await
        },
        again [],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            let (view, _) = house.runs.journal(&admin(), run.id, Seq(0), 1_000).await.unwrap();
            let resumed = view.iter().filter(|placed| placed.kind == "run-resumed").count();
            run.state == State::Failed && (1..=2).contains(&resumed)
        };
    a_run_is_taken_up_again_with_what_a_step_gave:
        of ["orchestration/src/recovery/resume.rs: resume_with"],
        before |house| async move { drop(house.call(FAIL, Some("once")).await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            let gave = Changes::from(vec![("0".to_owned(), Amendment::Output(Payload::text("given")))]);
            house.runs.resume_with(&admin(), run, gave).await.map(drop)
        },
        again ["conflict"],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            let output = house.runs.output(&admin(), run.id).await.unwrap();
            let resumed = house.entries(run.id, "run-resumed").await;
            (run.state, resumed) == (State::Completed, 1) && matches!(output, Some(Ok(given)) if given.bytes == "given")
        };
    /// It fails again, for it is given the same to do.
    a_run_is_restarted:
        of ["orchestration/src/recovery/fork.rs: fork"],
        before |house| async move { drop(house.call(FAIL, Some("once")).await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await.last().unwrap().id;
            let again = ForkRequest {
                from: ForkFrom::Step { step: "0".into(), cancel: false },
                changes: Changes::default(),
                idempotency: Some("again".into()),
                request_digest: Digest([1; 32]),
            };
            let forked = house.runs.fork(&admin(), run, again).await?;
            house.wait(&forked).await.unwrap_err();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Failed, State::Failed]
        };
    a_run_is_forked_at_an_entry:
        of ["orchestration/src/recovery/fork.rs: fork"],
        before |house| async move { drop(house.start("once").await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await.last().unwrap().id;
            let forked = house.runs.fork(&admin(), run, from(ForkFrom::Entry(Some(Seq(2))))).await?;
            house.wait(&forked).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed; 2]
        };
    /// The one under way is cancelled first, in the same request.
    a_run_under_way_is_restarted:
        of ["orchestration/src/recovery/fork.rs: fork"],
        during |house| async move {
            drop(house.call(HANG, Some("once")).await.unwrap());
            // Whatever comes later is newer.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await.last().unwrap().id;
            let again = from(ForkFrom::Step { step: "0".into(), cancel: true });
            let forked = house.runs.fork(&admin(), run, again).await?;
            house.wait(&forked).await.unwrap();
            Ok(())
        },
        again [],
        whole async |house: Arc<House>| {
            let states = house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>();
            states == [State::Running] || states == [State::Completed, State::Cancelled]
        },
        done async |house: Arc<House>| {
            let states = house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>();
            states == [State::Completed, State::Cancelled]
        };
    /// Nothing but the row of the run that asks is kept.
    a_question_is_answered:
        of ["orchestration/src/approvals.rs: answer"],
        before |house| async move {
            house.flows("{sequence: [{ask: {title: Well?, of: admin}}, {agent: echo}]}").await;
            drop(house.start("once").await.unwrap());
        }.boxed(),
        ask answer,
        again ["conflict"],
        done is_answered;
    /// The run that asks has something else under way.
    a_question_of_a_run_under_way_is_answered:
        of ["orchestration/src/approvals.rs: answer"],
        during |house| async move {
            house.flows("{parallel: [{ask: {title: Well?, of: admin}}, {agent: echo}]}").await;
            drop(house.start_on(LONG, "once").await.unwrap());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }.boxed(),
        ask answer,
        again ["conflict"],
        done is_answered;
}

/// Starts a workflow that starts another one, which works on this.
async fn begin_two(house: &House, input: &str) {
    let below = "name: below\nflow: {agent: echo}".to_owned();
    house.workflows.put(&admin(), "below".parse().unwrap(), below).await.unwrap();
    house.flows("{workflow: below}").await;
    drop(house.start_on(input, "once").await.unwrap());
    // Both are under way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(house.all_runs().await.len(), 2);
}

/// Where all runs stand.
async fn states(house: &House) -> Vec<State> {
    house.all_runs().await.iter().map(|run| run.state).collect()
}

/// Once however often it is asked for.
fn from(from: ForkFrom) -> ForkRequest {
    let (changes, idempotency, request_digest) = (Changes::default(), Some("again".into()), Digest([1; 32]));
    ForkRequest { from, changes, idempotency, request_digest }
}

/// Answers the only question that there is or was, by its run's journal.
async fn answer(house: Arc<House>) -> Result<(), Error> {
    let filter = QuestionFilter { limit: 10, ..QuestionFilter::default() };
    let asked = match house.runs.questions(&admin(), filter).await?.pop() {
        Some(asked) => asked.token,
        None => house.token.lock().unwrap().clone().expect("it was asked"),
    };
    *house.token.lock().unwrap() = Some(asked.clone());
    house.runs.answer(&admin(), asked, Answer { answer: json!("yes"), comment: None }).await
}

async fn is_answered(house: Arc<House>) -> bool {
    let run = house.all_runs().await[0].clone();
    let token = house.token.lock().unwrap().clone().unwrap();
    let standing = house.record.question(&tenant(), &token).await.unwrap().unwrap().standing;
    (run.state, standing, house.entries(run.id, "answered").await) == (State::Completed, Standing::Answered, 1)
}

/// A run comes to stand so by what is asked of it, wherever who asks goes away.
fn comes_to_stand(so: State, ask: impl AsyncFn(&House, RunId) -> Result<(), Error>) {
    for polls in 1..MANY {
        let answered = in_paused_time(async {
            let house = House::new().await;
            let run = house.call(LONG, Some("once")).await.unwrap().run;
            let first = cut(ask(&house, run), polls).await;
            house.settle().await;
            house.agrees(&format!("{}, dropped after {polls} polls", so.as_str())).await;
            assert_eq!(house.all_runs().await[0].state, so, "dropped after {polls} polls");
            first.is_some()
        });
        if answered {
            return;
        }
    }
    panic!("it is not done after {MANY} polls");
}

#[test]
fn a_run_is_paused_also_where_who_asked_for_it_does_not_wait() {
    comes_to_stand(State::Paused, async |house, run| house.runs.pause(&admin(), run).await);
}

#[test]
fn a_run_is_cancelled_also_where_who_asked_for_it_does_not_wait() {
    comes_to_stand(State::Cancelled, async |house, run| house.runs.cancel(&admin(), run).await.map(drop));
}

#[test]
fn what_finds_no_place_writes_nothing() {
    in_paused_time(async {
        let house = House::new().await;
        drop(house.call(FAIL, Some("once")).await.unwrap());
        house.settle().await;
        let before = house.all_runs().await;
        house.runs.stop(Duration::ZERO).await;
        let refused = house.runs.resume(&admin(), before[0].id).await;
        assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
        assert!(matches!(house.call("in", Some("twice")).await, Err(Error::Busy { .. })));
        house.settle().await;
        assert_eq!(house.all_runs().await, before);
        house.agrees("after a stop").await;
    });
}
