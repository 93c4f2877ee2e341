//! Runs that runs begin: a host dies at every append of either, and there is one child for each call; what becomes of a child
//! when what began it is over, and when that is taken up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ltmc_model::call::coordination::{Ask, Begin, Call, Join, Need};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::child::{Ended, MAX_ABOVE};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::run::{Run, State};
use ltmc_model::{Payload, RunId, Timestamp};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::sample;
use ltmc_ports::{ReadJournal as _, WriteCatalog as _};
use serde_json::{Value, json};

use crate::crash::{Case, MODES, PLAIN, crash_at_every_step, crash_at_every_step_in, work};
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

fn needed(text: &str, among: &[&str], input: &str) -> Need {
    let among = among.iter().map(|agent| agent.parse().unwrap()).collect();
    Need { text: text.into(), among, at_least: None, input: Payload::text(input) }
}

fn question(title: &str, of: Role) -> Ask {
    Ask { title: title.into(), of, show: None, schema: None, timeout_ms: None }
}

/// What one child came to.
async fn came(guest: &Guest, child: RunId) -> Result<Value, Failure> {
    Ok(told(guest.sure(Join { children: vec![child] }).await?.remove(0)))
}

#[test]
fn crash_at_every_step_of_an_agent_that_publishes_needs() {
    let outer = agent("outer", |guest| async move {
        let before = guest.count("count").await?;
        let found = guest.sure(needed("sum up a text", &[], "one")).await?;
        let nobody = guest.sure(needed("bake a cake", &["sum-up", "broken"], "two")).await?;
        guest.count("count").await?;
        Ok(Payload::json(&json!([before, came(&guest, found).await?, came(&guest, nobody).await?["code"]])))
    });
    crash_at_every_step(&lone(vec![outer, agent("sum-up", work), broken()]));
}

#[test]
fn crash_at_every_step_of_an_agent_that_asks_people() {
    let document = "name: asking\nflow: {sequence: [{agent: outer}, {ask: {title: Well?, of: author}}]}";
    let outer = agent("outer", |guest| async move {
        let before = guest.count("count").await?;
        let asked = guest.sure(question("May it?", Role::Author)).await?;
        let answer = came(&guest, asked).await?;
        Ok(Payload::json(&json!([before, answer, guest.count("count").await?])))
    });
    let case = Case {
        request: Request::workflow("asking"),
        document: Some(document.into()),
        scripts: vec![outer],
        side_by_side: true,
    };
    crash_at_every_step_in(&case, &[PLAIN, MODES[3]]);
}

#[test]
fn an_agents_question_is_answered_by_people_alone_and_by_those_whom_it_asks() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move {
            let schema = Some(r#"{"type": "boolean"}"#.to_owned());
            let show = Some(Payload::json(&json!({"draft": "$.input"})));
            let asked = guest.sure(Ask { show, schema, ..question("Publish?", Role::Admin) }).await?;
            Ok(Payload::json(&came(&guest, asked).await?))
        });
        let world = World::new([outer]);
        let host = world.host(&world.record(None).await, []);
        let started = host.start(&Request::call("outer")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begun = children(&host, started.run).await;
        assert_eq!(begun.iter().map(|child| child.state).collect::<Vec<_>>(), [State::Waiting], "it waits as a row");
        assert_eq!(host.runs.alive(), 1, "and its asker is all that is alive");
        let admin = Caller { role: Role::Admin, key: "admin0000000".parse().unwrap(), ..caller() };
        let filter = || ltmc_ports::questions::QuestionFilter { limit: 100, ..Default::default() };
        assert!(host.runs.questions(&caller(), filter()).await.unwrap().is_empty(), "an author is not asked");
        let open = host.runs.questions(&admin, filter()).await.unwrap();
        let [asked] = open.as_slice() else { panic!("{open:?}") };
        assert_eq!((asked.run, asked.question.title.as_str()), (begun[0].id, "Publish?"));
        let whole = host.runs.question(&admin, &asked.token).await.unwrap();
        assert_eq!(whole.question.show, Some(Payload::json(&json!({"draft": "$.input"}))), "nothing of it is a pick");
        let given = |answer: Value| ltmc_orchestration::Answer { answer, comment: None };
        assert!(host.runs.answer(&caller(), asked.token.clone(), given(json!(true))).await.is_err());
        assert!(host.runs.answer(&admin, asked.token.clone(), given(json!("perhaps"))).await.is_err());
        host.runs.answer(&admin, asked.token.clone(), given(json!(true))).await.unwrap();
        assert_eq!(host.ask(&Request::call("outer")).await.unwrap(), Ok(Payload::json(&json!(true))));
    });
}

#[test]
fn a_question_that_is_late_or_that_nobody_waits_for_is_open_no_more() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move {
            let late = Ask { timeout_ms: Some(60_000), ..question("Quick?", Role::Author) };
            let late = guest.sure(late).await?;
            guest.sure(question("Left?", Role::Author)).await?;
            Ok(Payload::json(&came(&guest, late).await?["code"].clone()))
        });
        let world = World::new([outer]);
        let host = world.host(&world.record(None).await, []);
        let started = host.start(&Request::call("outer")).await.unwrap();
        assert_eq!(
            host.runs.wait(&caller(), &started, None).await.unwrap().unwrap(),
            Ok(Payload::json(&json!("timed-out")))
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut states: Vec<_> = children(&host, started.run).await.iter().map(|child| child.state.as_str()).collect();
        states.sort_unstable();
        assert_eq!(states, ["cancelled", "failed"]);
        let filter = ltmc_ports::questions::QuestionFilter { limit: 100, ..Default::default() };
        assert!(host.runs.questions(&caller(), filter).await.unwrap().is_empty());
    });
}

#[test]
fn a_question_that_was_asked_before_a_checkpoint_is_not_asked_again_by_a_retry() {
    in_paused_time(async {
        let document = "name: retried\nflow: {sequence: [{agent: outer, retry: {attempts: 2, backoff: 1s}}]}";
        let tries = Arc::new(AtomicU32::new(0));
        let outer = agent("outer", move |guest| {
            let tries = tries.clone();
            async move {
                let asked = guest.sure(question("May it?", Role::Author)).await?;
                guest.checkpoint().await?;
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(may_pass("not yet")),
                    _ => Ok(Payload::json(&came(&guest, asked).await?)),
                }
            }
        });
        let world = World::new([outer]);
        let host = world.host(&world.record(Some(document)).await, []);
        let started = host.start(&Request::workflow("retried")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        let filter = ltmc_ports::questions::QuestionFilter { limit: 100, ..Default::default() };
        let open = host.runs.questions(&caller(), filter).await.unwrap();
        let [asked] = open.as_slice() else { panic!("{open:?}") };
        let given = ltmc_orchestration::Answer { answer: json!("yes"), comment: None };
        host.runs.answer(&caller(), asked.token.clone(), given).await.unwrap();
        let answer = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
        assert_eq!(answer, Ok(Payload::json(&json!("yes"))));
        assert_eq!(children(&host, started.run).await.len(), 1);
    });
}

#[test]
fn who_is_found_for_an_agents_need_is_journaled_with_who_was_looked_at() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move {
            let nobody = guest.cross(needed("sum up", &["sum-up", "nobody"], "")).await?;
            assert_eq!(nobody, Err(Refusal::NotFound));
            assert!(matches!(guest.cross(needed(" ", &[], "")).await?, Err(Refusal::Invalid(_))));
            let unusable = Ask { schema: Some(r#"{"type": "no such"}"#.into()), ..question("So?", Role::Author) };
            assert!(matches!(guest.cross(unusable).await?, Err(Refusal::Invalid(_))));
            let found = guest.sure(needed("sum up a text", &["sum-up", "patient"], "5")).await?;
            Ok(Payload::json(&came(&guest, found).await?))
        });
        let sum_up = agent("sum-up", |guest| async move { Ok(guest.job.input.clone()) });
        let world = World::new([outer, sum_up, patient()]);
        let host = world.host(&world.record(None).await, []);
        let started = host.start(&Request::call("outer")).await.unwrap();
        let answer = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
        assert_eq!(answer, Ok(Payload::json(&json!("5"))));
        let begun = children(&host, started.run).await;
        let [child] = begun.as_slice() else { panic!("{begun:?}") };
        let why = host.runs.why(&caller(), child.id).await.unwrap();
        let found = why.found.first().unwrap_or_else(|| panic!("{why:?}"));
        assert!(found.called.agent.as_ref().is_some_and(|agent| agent.starts_with("sum-up")), "{found:?}");
        assert_eq!(found.candidates.len(), 2, "{found:?}");
    });
}

#[test]
fn whom_an_agent_may_not_call_or_ask_it_does_not_reach_by_a_need_or_a_question() {
    in_paused_time(async {
        let outer = agent("outer", |guest| async move {
            let denied = |text: &str| Err(Refusal::Denied(text.parse().unwrap()));
            assert_eq!(guest.cross(needed("sum up", &[], "")).await?, denied("call:*"));
            assert_eq!(guest.cross(needed("sum up", &["sum-up", "patient"], "")).await?, denied("call:patient"));
            assert_eq!(guest.cross(question("So?", Role::Admin)).await?, denied("ask:admin"));
            let found = guest.sure(needed("sum up", &["sum-up"], "x")).await?;
            Ok(Payload::json(&came(&guest, found).await?))
        });
        let sum_up = agent("sum-up", |guest| async move { Ok(guest.job.input.clone()) });
        let world = World::new([outer, sum_up, patient()]);
        let record = world.record(None).await;
        let grants = ["call:sum-up", "ask:author"].map(|grant| grant.parse().unwrap()).to_vec();
        let change = Change::GrantsSet { agent: "outer".parse().unwrap(), grants, digest: None, carry: None };
        record.act(&tenant(), sample::at(1), Act { by: None, change }).await.unwrap();
        let host = world.host(&record, []);
        assert_eq!(host.ask(&Request::call("outer")).await.unwrap(), Ok(Payload::json(&json!("x"))));
        assert_eq!(host.children().await.len(), 1);
    });
}

#[test]
fn a_child_ends_with_its_parent_and_goes_on_with_it() {
    in_paused_time(async {
        let outer =
            agent(
                "outer",
                |guest| async move { Ok(Payload::json(&told(guest.sure(call("patient", "60000")).await?))) },
            );
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
        assert_eq!(
            over.iter().map(|child| (child.id, child.state)).collect::<Vec<_>>(),
            [(begun[0].id, State::Completed)]
        );
        let story = Story::of(&host.journal(begun[0].id).await);
        assert_eq!(story.ends, ["run-cancelled", "run-completed"], "it went on, and no other was begun");
    });
}

#[test]
fn a_child_that_somebody_cancels_is_a_failure_that_its_parent_lives_with() {
    in_paused_time(async {
        let outer =
            agent(
                "outer",
                |guest| async move { Ok(Payload::json(&told(guest.sure(call("patient", "60000")).await?))) },
            );
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
        let outer =
            agent(
                "outer",
                |guest| async move { Ok(Payload::json(&told(guest.sure(call("patient", "60000")).await?))) },
            );
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

/// Runs a workflow that starts others, and compares it over every crash.
fn crash_at_every_step_of(documents: &str, scripts: Vec<Script>) {
    let case =
        Case { request: Request::workflow("outer"), document: Some(documents.into()), scripts, side_by_side: true };
    crash_at_every_step_in(&case, &[PLAIN, MODES[3]]);
}

#[test]
fn crash_at_every_step_of_a_workflow_that_starts_others() {
    let documents = "name: outer\nflow:\n  sequence:\n  - agent: one\n  - {workflow: inner, id: first, with: {said: $.input}}\n  \
                     - {workflow: failing, on-error: [{do: {agent: two, with: $.error}}]}\n  - parallel: {a: {workflow: inner}, b: \
                     {agent: three, with: $.steps.first.output}}\n---\nname: inner\nflow: {sequence: [{agent: four}, {agent: \
                     five}]}\n---\nname: failing\nflow: {agent: broken}";
    let pass = |name: &str| agent(name, |guest| async move { Ok(guest.job.input.clone()) });
    let scripts = vec![agent("one", work), pass("two"), pass("three"), pass("four"), pass("five"), broken()];
    crash_at_every_step_of(documents, scripts);
}

#[test]
fn crash_at_every_step_of_a_workflow_that_is_suspended_until_its_child_is_over() {
    let documents = "name: outer\nflow: {sequence: [{workflow: inner}, {agent: one}]}\n---\nname: inner\nflow: {agent: late, retry: \
                     {attempts: 3, backoff: 1m, max: 1m}}";
    let late = agent("late", |guest| async move {
        if guest.job.attempt < 3 { Err(may_pass("not yet")) } else { Ok(guest.job.input.clone()) }
    });
    crash_at_every_step_of(documents, vec![late, agent("one", work)]);
}

#[test]
fn a_run_that_waits_for_a_child_is_a_row_and_goes_on_with_its_end() {
    in_paused_time(async {
        let documents = "name: outer\nflow: {workflow: inner}\n---\nname: inner\nflow: {agent: patient}";
        let world = World::new([patient()]);
        let host = world.host(&world.record(Some(documents)).await, []);
        let request = Request { input: Payload::text("600000"), ..Request::workflow("outer") };
        let started = host.start(&request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let row = host.record.run(&tenant(), started.run).await.unwrap().unwrap();
        assert_eq!((row.state, row.wakes_at, host.runs.alive()), (State::Waiting, Some(Timestamp::NEVER), 1));
        let next = world.host(&host.record.copy(), []);
        drop(host);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 1, "the child alone is taken up");
        assert_eq!(next.ask(&request).await.unwrap(), Ok(Payload::text("600000")));
        let over = children(&next, started.run).await;
        assert_eq!(over.iter().map(|child| child.state).collect::<Vec<_>>(), [State::Completed]);
    });
}

#[test]
fn what_a_child_did_stays_where_its_parent_is_resumed() {
    in_paused_time(async {
        let documents = "name: outer\nflow: {sequence: [{workflow: inner}, {agent: one}]}\n---\nname: inner\nflow: {sequence: [{agent: \
                         one}, {agent: mends}]}";
        let broken = Arc::new(AtomicU32::new(0));
        let mends = agent("mends", move |guest| {
            let times = broken.fetch_add(1, Ordering::SeqCst);
            async move { if times == 0 { Err(Failure::new(Code::AgentError, "no")) } else { work(guest).await } }
        });
        let world = World::new([agent("one", work), mends]);
        let host = world.host(&world.record(Some(documents)).await, []);
        let request = Request::workflow("outer");
        let failure = host.ask(&request).await.unwrap().unwrap_err();
        assert_eq!(
            (failure.code, failure.step.as_ref().map(ToString::to_string)),
            (Code::AgentError, Some("0/0".into()))
        );
        let run = host.run().await.unwrap();
        host.runs.resume(&caller(), run).await.unwrap();
        let gave = host.ask(&request).await.unwrap().unwrap().to_value().unwrap();
        assert_eq!(gave["count"], 3, "each of three steps counted once: {gave}");
        let over = children(&host, run).await;
        assert_eq!(over.len(), 1, "it went on, and no other was begun");
        assert_eq!(Story::of(&host.journal(over[0].id).await).ends, ["run-failed", "run-completed"]);
    });
}

#[test]
fn a_child_is_cancelled_with_its_parent_unless_it_is_to_be_abandoned() {
    for (on_end, expected) in [("cancel", State::Cancelled), ("abandon", State::Completed)] {
        in_paused_time(async {
            let documents = format!(
                "name: outer\nflow: {{workflow: inner, on-parent-end: {on_end}}}\n---\nname: inner\nflow: {{agent: patient}}"
            );
            let world = World::new([patient()]);
            let host = world.host(&world.record(Some(&documents)).await, []);
            let request = Request { input: Payload::text("60000"), ..Request::workflow("outer") };
            let started = host.start(&request).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            host.runs.cancel(&caller(), started.run).await.unwrap();
            tokio::time::sleep(Duration::from_secs(100)).await;
            let over = children(&host, started.run).await;
            assert_eq!(over.iter().map(|child| child.state).collect::<Vec<_>>(), [expected], "{on_end}");
        });
    }
}

/// What a run gave, by its journal.
async fn its_end(host: &Host, run: RunId) -> Payload {
    let mut history = ltmc_journal::fold::History::new();
    host.journal(run).await.iter().for_each(|placed| history.apply(placed));
    history.result().expect("it is over").expect("it ended well")
}

/// The parent was over when its child, which goes on without it, came to its end: once it is resumed it finds that, and begins no other.
#[test]
fn a_childs_end_is_not_missed_though_its_parent_was_over() {
    in_paused_time(async {
        let documents =
            "name: outer\nflow: {workflow: inner, on-parent-end: abandon}\n---\nname: inner\nflow: {agent: patient}";
        let world = World::new([patient()]);
        let host = world.host(&world.record(Some(documents)).await, []);
        let request = Request { input: Payload::text("60000"), ..Request::workflow("outer") };
        let started = host.start(&request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        host.runs.cancel(&caller(), started.run).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        host.runs.resume(&caller(), started.run).await.unwrap();
        let gave = host.ask(&request).await.unwrap().unwrap();
        let over = children(&host, started.run).await;
        let [child] = over.as_slice() else { panic!("{} children", over.len()) };
        assert_eq!((child.state, gave), (State::Completed, its_end(&host, child.id).await));
    });
}

/// A run of a workflow that starts another, in which an agent calls a third: one below the other, all under way.
async fn tree(world: &World, on_end: &str) -> (Host, Request, [RunId; 3]) {
    let documents = format!(
        "name: outer\nflow: {{workflow: inner, on-parent-end: {on_end}}}\n---\nname: inner\nflow: {{agent: calls}}"
    );
    let host = world.host(&world.record(Some(&documents)).await, []);
    let request = Request::workflow("outer");
    let outer = host.start(&request).await.unwrap().run;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let inner = children(&host, outer).await[0].id;
    let called = children(&host, inner).await[0].id;
    (host, request, [outer, inner, called])
}

fn calls() -> Script {
    agent("calls", |guest| async move { Ok(Payload::json(&told(guest.sure(call("patient", "60000")).await?))) })
}

async fn states(host: &Host, runs: [RunId; 3]) -> [State; 3] {
    let mut states = [State::Queued; 3];
    for (state, run) in states.iter_mut().zip(runs) {
        *state = host.record.run(&tenant(), run).await.unwrap().unwrap().state;
    }
    states
}

#[test]
fn what_a_run_began_is_paused_with_it_and_goes_on_with_it() {
    in_paused_time(async {
        let world = World::new([calls(), patient()]);
        let (host, request, runs) = tree(&world, "cancel").await;
        host.runs.pause(&caller(), runs[0]).await.unwrap();
        assert_eq!((states(&host, runs).await, host.runs.alive()), ([State::Paused; 3], 0));
        let said = async |host: &Host, run, kind: &str| {
            host.journal(run).await.iter().filter(|placed| placed.entry.event.kind() == kind).count()
        };
        for run in runs {
            assert_eq!(said(&host, run, "run-paused").await, 1, "each says so in its own journal");
        }
        // Nothing of it goes on meanwhile, nor by a restart.
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        let next = world.host(&host.record.crash(), []);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 0);
        assert_eq!(states(&next, runs).await, [State::Paused; 3]);
        next.runs.pause(&caller(), runs[0]).await.unwrap();
        next.runs.go_on_with(&caller(), runs[0]).await.unwrap();
        assert_eq!(next.ask(&request).await.unwrap(), Ok(Payload::json(&json!("60000"))));
        assert_eq!(states(&next, runs).await, [State::Completed; 3]);
        for run in runs {
            assert_eq!(said(&next, run, "run-continued").await, 1);
            assert!(children(&next, run).await.len() < 2, "no other was begun");
        }
    });
}

#[test]
fn what_was_paused_with_a_run_ends_with_it() {
    in_paused_time(async {
        let world = World::new([calls(), patient()]);
        let (host, _, runs) = tree(&world, "cancel").await;
        host.runs.pause(&caller(), runs[0]).await.unwrap();
        host.runs.cancel(&caller(), runs[0]).await.unwrap();
        assert_eq!((states(&host, runs).await, host.runs.alive()), ([State::Cancelled; 3], 0));
    });
}

/// Some are at work, some are suspended, and some come to that at the very moment at which all of it is cancelled.
#[test]
fn a_whole_tree_is_cancelled_whatever_its_runs_are_at() {
    let mut most = 0;
    // Those that wait for others are suspended after a second.
    for millis in (0..24).chain(990..1_020) {
        let runs = in_paused_time(async {
            let documents = "name: outer\nflow: {map: $.input, do: {workflow: mid}}\n---\nname: mid\nflow: {map: $.input, do: {workflow: \
                             leaf}}\n---\nname: leaf\nflow: {sequence: [{agent: brief}, {wait: 2h}]}";
            let brief = agent("brief", |guest| async move {
                guest.compute(guest.job.input.to_value().unwrap().as_u64().unwrap()).await;
                Ok(guest.job.input.clone())
            });
            let world = World::new([brief]);
            let host = world.host(&world.record(Some(documents)).await, []);
            let list = |from: u64| (0..6).map(|number| (from + number) * 2).collect::<Vec<_>>();
            let input = Payload::json(&json!([list(0), list(3), list(6)]));
            let request = Request { input, ..Request::workflow("outer") };
            let run = host.start(&request).await.unwrap().run;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            host.runs.cancel(&caller(), run).await.unwrap();
            let all = host.record.runs(&tenant(), &RunFilter { limit: 100, ..RunFilter::default() }).await.unwrap();
            let open: Vec<_> =
                all.iter().filter(|run| run.state != State::Cancelled && run.state != State::Completed).collect();
            assert!(open.is_empty(), "after {millis} ms: {open:?}");
            all.len()
        });
        most = most.max(runs);
    }
    assert_eq!(most, 22, "the whole tree was under way");
}

#[test]
fn one_that_is_abandoned_goes_on_while_its_parent_is_paused() {
    in_paused_time(async {
        let world = World::new([calls(), patient()]);
        let (host, request, runs) = tree(&world, "abandon").await;
        host.runs.pause(&caller(), runs[0]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(states(&host, runs).await, [State::Paused, State::Completed, State::Completed]);
        host.runs.go_on_with(&caller(), runs[0]).await.unwrap();
        assert_eq!(host.ask(&request).await.unwrap(), Ok(Payload::json(&json!("60000"))));
    });
}

#[test]
fn a_branch_that_is_not_needed_ends_its_child_and_a_node_that_takes_too_long_does() {
    in_paused_time(async {
        let documents = "name: outer\nflow:\n  sequence:\n  - {parallel: [{workflow: inner}, {agent: quick}], need: any}\n  - {workflow: \
                         inner, timeout: 5s, fallback: [{agent: quick, id: instead}]}\n---\nname: inner\nflow: {agent: endless}";
        let endless = agent("endless", |guest| async move {
            guest.compute(3_600_000).await;
            Ok(guest.job.input.clone())
        });
        // The other branch has begun its run by then.
        let quick = agent("quick", |guest| async move {
            guest.compute(1_000).await;
            Ok(Payload::text("quick"))
        });
        let world = World::new([endless, quick]);
        let host = world.host(&world.record(Some(documents)).await, []);
        assert_eq!(host.ask(&Request::workflow("outer")).await.unwrap(), Ok(Payload::text("quick")));
        let over = children(&host, host.run().await.unwrap()).await;
        assert_eq!(over.iter().map(|child| child.state).collect::<Vec<_>>(), [State::Cancelled, State::Cancelled]);
    });
}

#[test]
fn workflows_that_came_to_start_each_other_end_at_the_bound() {
    in_paused_time(async {
        // Put one after the other neither would be taken; as documents change both may be there.
        let documents = "name: outer\nflow: {workflow: inner}\n---\nname: inner\nflow: {workflow: outer}";
        let world = World::new([]);
        let host = world.host(&world.record(Some(documents)).await, []);
        let failure = host.ask(&Request::workflow("outer")).await.unwrap().unwrap_err();
        assert_eq!(failure.code, Code::BadStep);
        assert!(failure.message.contains("workflow outer → workflow inner → workflow outer"), "{failure}");
    });
}

/// Gives a document for its input.
fn planner() -> Script {
    agent("planner", |guest| async move {
        guest.count("planned").await?;
        Ok(Payload::json(&json!({"name": "planned", "flow": {"sequence": [{"agent": "one"}]}})))
    })
}

#[test]
fn crash_at_every_step_of_a_plan() {
    let document = "name: outer\nflow: {plan: {agent: planner, may: [one]}, with: $.input}";
    crash_at_every_step_of(document, vec![planner(), agent("one", work)]);
    // Once people approve of it.
    let document = "name: outer\nflow: {plan: {agent: planner, may: [one], approve: true}, with: $.input}";
    crash_at_every_step_of(document, vec![planner(), agent("one", work)]);
}

#[test]
fn a_plan_that_may_not_be_done_is_not_and_its_planner_may_be_asked_again() {
    in_paused_time(async {
        let document = "name: outer\nflow: {plan: {agent: planner, may: [two]}, on-error: [{when: {pick: $.error.code, equals: \
                        bad-plan}, do: {agent: two, with: $.error.message}}]}";
        let pass = agent("two", |guest| async move { Ok(guest.job.input.clone()) });
        let world = World::new([planner(), agent("one", work), pass]);
        let host = world.host(&world.record(Some(document)).await, []);
        let request = Request { input: Payload::json(&json!([1, 2])), ..Request::workflow("outer") };
        let said = host.ask(&request).await.unwrap().unwrap().to_value().unwrap();
        assert!(said.as_str().unwrap().contains("`one` is not among those"), "{said}");
        assert!(children(&host, host.start(&request).await.unwrap().run).await.is_empty());
        assert!(host.sandbox.ran().iter().all(|(step, _)| step.as_str() != "0"), "nothing of it was done");
    });
}

/// A document that a person puts would be refused for each of these.
#[test]
fn a_plan_is_looked_at_as_a_document_is_that_a_person_puts() {
    for (flow, said) in [
        (json!({"agent": "one", "validate": {"json-schema": {"pattern": "(a"}}}), "the JSON Schema of step `one`"),
        (json!({"agent": "one", "validate": {"agent": "one"}}), "agent `one` cannot judge"),
        (
            json!({"agent": format!("one@{}", ltmc_model::Digest([9; 32]))}),
            "not the version that this run is pinned to",
        ),
    ] {
        in_paused_time(async {
            let planner = agent("planner", move |_| {
                let planned = json!({"name": "planned", "flow": flow});
                async move { Ok(Payload::json(&planned)) }
            });
            let world = World::new([planner, agent("one", work)]);
            let document = "name: outer\nflow: {plan: {agent: planner, may: [one]}}";
            let host = world.host(&world.record(Some(document)).await, []);
            let failure = host.ask(&Request::workflow("outer")).await.unwrap().unwrap_err();
            assert_eq!(failure.code, Code::BadPlan);
            assert!(failure.message.contains(said), "{failure}");
            assert!(host.children().await.is_empty(), "nothing of it was done");
        });
    }
}
