//! Who is chosen for a need, and who is not: by what an agent takes, where it stands, what it has to do, and how it did.

use std::time::Duration;

use ltmc_model::Payload;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Candidate, Decided, Event};
use ltmc_model::state::{Declared, Kept};
use ltmc_ports::testing::sample;
use serde_json::{Value, json};

use crate::guest::{Guest, Script, agent};
use crate::host::{Answer, Host, Request, World, caller, in_paused_time};

async fn pass(guest: Guest) -> Result<Payload, Failure> {
    Ok(guest.job.input.clone())
}

fn taking(name: &str, schema: Value) -> Script {
    let mut script = agent(name, pass);
    script.manifest.input = Some(schema);
    script
}

fn request(key: impl Into<String>, input: Value) -> Request {
    Request { key: Some(key.into()), input: Payload::json(&input), ..Request::workflow("flow") }
}

async fn host(scripts: Vec<Script>, flow: &str) -> Host {
    let world = World::new(scripts);
    let record = world.record(Some(&format!("name: flow\nflow: {flow}"))).await;
    world.host(&record, [])
}

/// What came of a run, and of its needs: who was chosen, and who was looked at.
async fn ran(host: &Host, request: Request) -> (Answer, Vec<(String, Vec<Candidate>)>) {
    let started = host.start(&request).await.unwrap();
    let answer = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
    let chosen = host.journal(started.run).await.into_iter().filter_map(|placed| match placed.entry.event {
        Event::NodeDecided { decided: Decided::Agent { agent, candidates }, .. } => {
            Some((agent.name.to_string(), candidates))
        }
        _ => None,
    });
    (answer, chosen.collect())
}

fn refused<'a>(candidates: &'a [Candidate], agent: &str) -> &'a str {
    let found = candidates.iter().find(|one| one.agent.as_str() == agent);
    found.and_then(|one| one.refused.as_deref()).unwrap_or_default()
}

#[test]
fn who_does_not_take_such_an_input_is_passed_over() {
    in_paused_time(async {
        let texts = json!({"type": "object", "required": ["text"]});
        let scripts = vec![taking("sum-up-texts", texts), agent("sum-up", pass), taking("sum-up-none", json!(false))];
        let host = host(scripts, "{need: sum up texts}").await;
        let (_, chosen) = ran(&host, request("one", json!({"text": "a"}))).await;
        assert_eq!(chosen[0].0, "sum-up-texts");
        let (_, chosen) = ran(&host, request("other", json!({"number": 1}))).await;
        assert_eq!(chosen[0].0, "sum-up", "{chosen:?}");
        assert!(refused(&chosen[0].1, "sum-up-texts").contains("not as it takes it"), "{chosen:?}");
    });
}

#[test]
fn where_nobody_takes_such_an_input_that_is_said() {
    in_paused_time(async {
        let host = host(vec![taking("sum-up", json!({"type": "string"}))], "{need: sum up}").await;
        let (answer, _) = ran(&host, request("one", json!(1))).await;
        let failure = answer.unwrap_err();
        assert_eq!(failure.code, Code::NoCandidate);
        assert!(failure.message.contains("`sum-up`: the input is not as it takes it"), "{failure}");
    });
}

#[test]
fn whose_state_is_quarantined_is_passed_over() {
    in_paused_time(async {
        let declaration = json!({"version": 1, "initial": "idle", "states": {"idle": {}, "done": {"final": true}},
            "transitions": [{"from": "idle", "to": "done", "on": "go"}]});
        let sum_up = agent("sum-up", pass).declaring(declaration);
        let declared = Declared::of(&sum_up.manifest).unwrap().unwrap();
        let at = sample::at(0);
        let kept = declared.kept(declared.declaration.first(at.millis()), None, at);
        let sound = sum_up.clone().left_in(kept.clone());
        let set_aside = sum_up.left_in(Kept { quarantined: Some("it read back as nothing".into()), ..kept });
        for (script, expected) in [(sound, "sum-up"), (set_aside, "sum-up-slowly")] {
            let host = host(vec![script, agent("sum-up-slowly", pass)], "{need: sum up}").await;
            let (_, chosen) = ran(&host, request("one", json!(1))).await;
            assert_eq!(chosen[0].0, expected, "{chosen:?}");
            let why = refused(&chosen[0].1, "sum-up");
            assert_eq!(why.contains("quarantined: it read back as nothing"), expected != "sum-up", "{why}");
        }
    });
}

#[test]
fn of_two_that_fit_alike_the_one_is_chosen_that_has_less_to_do() {
    in_paused_time(async {
        let slow = |name: &str| {
            agent(name, |guest| async move {
                guest.compute(60_000).await;
                Ok(guest.job.input.clone())
            })
        };
        let host = host(vec![slow("alpha"), slow("gamma")], "{need: sum up, at-least: 0}").await;
        let first = host.start(&request("one", json!(1))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (_, chosen) = ran(&host, request("two", json!(2))).await;
        let loads: Vec<_> = chosen[0].1.iter().map(|one| (one.agent.as_str(), one.load)).collect();
        assert_eq!((chosen[0].0.as_str(), loads), ("gamma", vec![("gamma", 0), ("alpha", 1)]));
        host.runs.wait(&caller(), &first, None).await.unwrap();
    });
}

#[test]
fn who_fails_again_and_again_is_left_out_for_a_while_and_then_tried_again() {
    in_paused_time(async {
        // It is there again after some time.
        let mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let fails = {
            let mended = mended.clone();
            agent("sum-up", move |guest| {
                let is_mended = mended.load(std::sync::atomic::Ordering::SeqCst);
                async move {
                    if is_mended { Ok(guest.job.input.clone()) } else { Err(Failure::new(Code::AgentError, "no")) }
                }
            })
        };
        let host = host(vec![fails], "{need: sum up, at-least: 0, id: n}").await;
        for number in 0..5 {
            let (answer, chosen) = ran(&host, request(number.to_string(), json!(1))).await;
            assert_eq!((answer.unwrap_err().code, chosen.len()), (Code::AgentError, 1), "{number}");
        }
        let (answer, _) = ran(&host, request("left-out", json!(1))).await;
        let failure = answer.unwrap_err();
        assert_eq!(failure.code, Code::NoCandidate);
        assert!(failure.message.contains("failed 5 times, one after the other, and is left out until"), "{failure}");
        // It is tried again, fails again, and is left out for twice as long.
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(ran(&host, request("again", json!(1))).await.0.unwrap_err().code, Code::AgentError);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(ran(&host, request("still", json!(1))).await.0.unwrap_err().code, Code::NoCandidate);
        mended.store(true, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(30)).await;
        for number in 0..3 {
            assert!(ran(&host, request(format!("mended-{number}"), json!(1))).await.0.is_ok(), "{number}");
        }
    });
}

#[test]
fn who_was_left_out_is_told_with_the_reason() {
    in_paused_time(async {
        let fails = |_: Guest| async { Err(Failure::new(Code::AgentError, "no")) };
        let flow =
            "{need: sum up texts, among: [sum-up-texts], at-least: 0}\n---\nname: any\nflow: {need: sum up texts}";
        let host = host(vec![agent("sum-up-texts", fails), agent("sum-up", pass)], flow).await;
        for number in 0..5 {
            assert!(ran(&host, request(number.to_string(), json!(1))).await.0.is_err());
        }
        let asked = Request { input: Payload::json(&json!(1)), ..Request::workflow("any") };
        let run = host.start(&asked).await.unwrap().run;
        assert!(ran(&host, asked).await.0.is_ok());
        let why = host.runs.why(&caller(), run).await.unwrap();
        let found = &why.found[0];
        assert!(found.called.agent.as_ref().unwrap().starts_with("sum-up@"), "{found:?}");
        assert!(refused(&found.candidates, "sum-up-texts").contains("left out until"), "{found:?}");
    });
}

#[test]
fn what_is_not_an_agents_own_fault_leaves_nobody_out() {
    in_paused_time(async {
        let busy = |_: Guest| async { Err(Failure::new(Code::Busy, "no room").retryable()) };
        let host = host(vec![agent("sum-up", busy)], "{need: sum up, at-least: 0, retry: {attempts: 1}}").await;
        for number in 0..8 {
            let (answer, _) = ran(&host, request(number.to_string(), json!(1))).await;
            assert_eq!(answer.unwrap_err().code, Code::Busy, "{number}");
        }
    });
}
