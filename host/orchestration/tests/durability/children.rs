//! Runs that runs begin: a host dies at every append of either, and there is one child for each call; what becomes of a child
//! when what began it is over, and when that is taken up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ltmc_model::call::coordination::{Begin, Call, Join};
use ltmc_model::child::{Ended, MAX_ABOVE};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::run::{Run, State};
use ltmc_model::{Payload, RunId};
use ltmc_ports::ReadJournal as _;
use ltmc_ports::journal::RunFilter;
use serde_json::{Value, json};

use crate::crash::{Case, crash_at_every_step, work};
use crate::guest::{Guest, Script, agent, may_pass};
use crate::host::{Host, Request, World, caller, in_paused_time, tenant};
use crate::story::Story;

fn call(agent: &str, input: impl Into<String>) -> Call {
    Call { agent: agent.parse().unwrap(), input: Payload::text(input) }
}

async fn begin(guest: &Guest, agent: &str, input: impl Into<String>) -> Result<RunId, Failure> {
    let Call { agent, input } = call(agent, input);
    guest.sure(Begin { agent, input }).await
}

/// What a child came to, as its caller tells it.
fn told(ended: Ended) -> Value {
    match ended.result {
        Ok(output) => output.to_value().unwrap(),
        Err(failure) => json!({"code": failure.code.as_str(), "own": failure.agent_code, "message": failure.message}),
    }
}

/// Computes for so many milliseconds as it is told, and gives what it was given.
fn patient() -> Script {
    agent("patient", |guest| async move {
        let text = String::from_utf8(guest.job.input.bytes.to_vec()).unwrap();
        guest.compute(text.parse().unwrap()).await;
        guest.count(&format!("patient/{text}")).await?;
        Ok(guest.job.input.clone())
    })
}

fn broken() -> Script {
    agent("broken", |_| async {
        let own = Some("no-diff".to_owned());
        Err(Failure { agent_code: own, ..Failure::new(Code::AgentError, "there is nothing to read") })
    })
}

fn lone(scripts: Vec<Script>) -> Case {
    Case { request: Request::call("outer"), document: None, scripts, side_by_side: false }
}

async fn children(host: &Host, of: RunId) -> Vec<Run> {
    let filter = RunFilter { parent: Some(of), limit: 100, ..RunFilter::default() };
    host.record.runs(&tenant(), &filter).await.unwrap()
}

#[test]
fn crash_at_every_step_of_an_agent_that_calls_others() {
    let outer = agent("outer", |guest| async move {
        let before = guest.count("count").await?;
        let first = told(guest.sure(call("inner", "one")).await?);
        let between = guest.count("count").await?;
        let failed = told(guest.sure(call("broken", "two")).await?);
        guest.log(format!("counted {between}")).await?;
        let second = told(guest.sure(call("middle", "three")).await?);
        let after = guest.count("count").await?;
        Ok(Payload::json(&json!([before, first, between, failed, second, after])))
    });
    let middle = agent("middle", |guest| async move {
        guest.count("count").await?;
        Ok(Payload::json(&told(guest.sure(call("inner", "four")).await?)))
    });
    crash_at_every_step(&lone(vec![outer, middle, agent("inner", work), broken()]));
}

#[test]
fn crash_at_every_step_of_a_fork_that_is_joined() {
    let outer = agent("outer", |guest| async move {
        let mut begun = Vec::new();
        for millis in ["5", "1", "3"] {
            begun.push(begin(&guest, "patient", millis).await?);
        }
        begun.push(begin(&guest, "broken", "").await?);
        guest.count("count").await?;
        let joined = guest.sure(Join { children: begun }).await?;
        Ok(Payload::json(&joined.into_iter().map(told).collect()))
    });
    crash_at_every_step(&lone(vec![outer, patient(), broken()]));
}

#[test]
fn crash_at_every_step_of_a_child_that_nobody_waits_for() {
    let outer = agent("outer", |guest| async move {
        begin(&guest, "endless", "").await?;
        guest.count("count").await?;
        Ok(guest.job.input.clone())
    });
    let endless = agent("endless", |guest| async move {
        guest.compute(3_600_000).await;
        Ok(guest.job.input.clone())
    });
    crash_at_every_step(&lone(vec![outer, endless]));
}

#[test]
fn crash_at_every_step_of_a_workflow_whose_steps_call_others() {
    let document = "name: both\nflow: {parallel: [{agent: left}, {agent: right}]}";
    let calls = |name: &'static str| {
        agent(name, move |guest| async move {
            let inner = told(guest.sure(call("patient", if name == "left" { "1" } else { "2" })).await?);
            Ok(Payload::json(&inner))
        })
    };
    crash_at_every_step(&Case {
        request: Request::workflow("both"),
        document: Some(document.into()),
        scripts: vec![calls("left"), calls("right"), patient()],
        side_by_side: true,
    });
}

#[test]
fn a_child_ends_with_its_parent_and_goes_on_with_it() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move { Ok(Payload::json(&told(guest.sure(call("patient", "60000")).await?))) });
        let world = World::new([outer, patient()]);
        let host = world.host(&world.record(None).await, []);
        let request = Request::call("outer");
        let started = host.start(&request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = children(&host, started.run).await;
        assert_eq!(begun.iter().map(|child| child.state).collect::<Vec<_>>(), [State::Running]);
        assert_eq!(begun[0].session, crate::host::session(), "it works in its parent's session");
        let seen = host.runs.get(&caller(), started.run).await.unwrap();
        assert_eq!(seen.children.iter().map(|child| child.id).collect::<Vec<_>>(), [begun[0].id]);
        let seen = host.runs.get(&caller(), begun[0].id).await.unwrap();
        assert_eq!(seen.parent.map(|parent| (parent.run, parent.effect)), Some((started.run, Some(1))));

        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert_eq!(host.runs.alive(), 0);
        assert_eq!(children(&host, started.run).await[0].state, State::Cancelled);
        host.runs.resume(&caller(), started.run).await.unwrap();
        assert_eq!(host.ask(&request).await.unwrap(), Ok(Payload::json(&json!("60000"))));
        let over = children(&host, started.run).await;
        assert_eq!(over.iter().map(|child| (child.id, child.state)).collect::<Vec<_>>(), [(begun[0].id, State::Completed)]);
        let story = Story::of(&host.journal(begun[0].id).await);
        assert_eq!(story.ends, ["run-cancelled", "run-completed"], "it went on, and no other was begun");
    });
}

#[test]
fn a_child_that_somebody_cancels_is_a_failure_that_its_parent_lives_with() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move { Ok(Payload::json(&told(guest.sure(call("patient", "60000")).await?))) });
        let world = World::new([outer, patient()]);
        let host = world.host(&world.record(None).await, []);
        let started = host.start(&Request::call("outer")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.runs.cancel(&caller(), children(&host, started.run).await[0].id).await.unwrap();
        let answer = host.ask(&Request::call("outer")).await.unwrap().unwrap().to_value().unwrap();
        assert_eq!(answer["code"], "cancelled");
    });
}

#[test]
fn a_retry_begins_its_own_children_and_those_of_before_are_cancelled() {
    in_paused_time(async {
        let document = "name: retried\nflow: {agent: outer, retry: {attempts: 2, backoff: 1s}}";
        let outer = agent("outer", |guest| async move {
            let kept = guest.sure(call("patient", "1")).await?;
            let open = begin(&guest, "patient", "600000").await?;
            match guest.job.attempt {
                1 => Err(may_pass("not yet")),
                _ => {
                    assert_eq!(guest.cross(Join { children: vec![kept.run] }).await?, Err(Refusal::NotFound));
                    Ok(Payload::json(&told(guest.sure(Join { children: vec![open] }).await?.remove(0))))
                }
            }
        });
        let world = World::new([outer, patient()]);
        let host = world.host(&world.record(Some(document)).await, []);
        let request = Request::workflow("retried");
        assert_eq!(host.ask(&request).await.unwrap(), Ok(Payload::json(&json!("600000"))));
        let run = host.run().await.unwrap();
        let mut states: Vec<_> = children(&host, run).await.into_iter().map(|child| child.state.as_str()).collect();
        states.sort_unstable();
        assert_eq!(states, ["cancelled", "completed", "completed", "completed"]);
    });
}

#[test]
fn what_was_answered_before_a_checkpoint_is_not_done_again() {
    in_paused_time(async {
        let document = "name: retried\nflow: {agent: outer, retry: {attempts: 2, backoff: 1s}}";
        let tries = Arc::new(AtomicU32::new(0));
        let outer = agent("outer", move |guest| {
            let tries = tries.clone();
            async move {
                let gave = told(guest.sure(call("patient", "1")).await?);
                guest.checkpoint().await?;
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(may_pass("not yet")),
                    _ => Ok(Payload::json(&gave)),
                }
            }
        });
        let world = World::new([outer, patient()]);
        let host = world.host(&world.record(Some(document)).await, []);
        assert_eq!(host.ask(&Request::workflow("retried")).await.unwrap(), Ok(Payload::json(&json!("1"))));
        assert_eq!(children(&host, host.run().await.unwrap()).await.len(), 1);
    });
}

#[test]
fn agents_that_call_each_other_for_ever_are_told_by_whom() {
    in_paused_time(async {
        let calls = |name: &'static str, other: &'static str| {
            agent(name, move |guest| async move {
                match guest.cross(call(other, "")).await? {
                    Ok(ended) => Ok(Payload::json(&told(ended))),
                    Err(Refusal::Quota(why)) => Ok(Payload::json(&json!(why))),
                    Err(refusal) => panic!("{refusal:?}"),
                }
            })
        };
        let world = World::new([calls("ping", "pong"), calls("pong", "ping")]);
        let host = world.host(&world.record(None).await, []);
        let answer = host.ask(&Request::call("ping")).await.unwrap().unwrap().to_value().unwrap();
        assert!(answer.as_str().unwrap().contains("ping → pong → ping"), "{answer}");
        let filter = RunFilter { limit: 100, ..RunFilter::default() };
        assert_eq!(host.record.runs(&tenant(), &filter).await.unwrap().len(), MAX_ABOVE + 1);
    });
}

#[test]
fn what_cannot_be_called_is_refused_as_a_value() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move {
            assert_eq!(guest.cross(call("nobody", "")).await?, Err(Refusal::NotFound));
            let foreign = Join { children: vec![guest.job.run] };
            assert_eq!(guest.cross(foreign).await?, Err(Refusal::NotFound));
            let many = Join { children: vec![guest.job.run; 101] };
            assert!(matches!(guest.cross(many).await?, Err(Refusal::Invalid(_))));
            let large = Call { input: Payload::text("x".repeat((8 << 20) + 1)), ..call("outer", "") };
            assert!(matches!(guest.cross(large).await?, Err(Refusal::Invalid(_))));
            Ok(guest.job.input.clone())
        });
        let world = World::new([outer]);
        let host = world.host(&world.record(None).await, []);
        assert_eq!(host.ask(&Request::call("outer")).await.unwrap(), Ok(Payload::text("in")));
        assert!(host.children().await.is_empty());
    });
}

#[test]
fn a_host_that_stops_parks_parent_and_child_and_both_go_on() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move { Ok(Payload::json(&told(guest.sure(call("patient", "60000")).await?))) });
        let world = World::new([outer, patient()]);
        let host = world.host(&world.record(None).await, []);
        let request = Request::call("outer");
        let started = host.start(&request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.runs.stop(Duration::from_secs(1)).await;
        let next = world.host(&host.record.crash(), []);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 2);
        assert_eq!(next.ask(&request).await.unwrap(), Ok(Payload::json(&json!("60000"))));
        let over = children(&next, started.run).await;
        assert_eq!(over.iter().map(|child| child.state).collect::<Vec<_>>(), [State::Completed]);
    });
}
