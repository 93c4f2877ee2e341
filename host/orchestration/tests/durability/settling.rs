//! Conflicts of branches that an agent settles, or people: what they are given, what comes of what they say, and that neither a host that
//! dies nor who is faster changes it.

use std::time::Duration;

use ltmc_model::call::coordination::Call;
use ltmc_model::call::memory::Put;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::memory::{Precondition, Scope};
use ltmc_model::question::Asked;
use ltmc_model::run::State;
use ltmc_model::{Payload, StepPath};
use ltmc_orchestration::{Changes, Taken};
use ltmc_ports::ReadJournal as _;
use ltmc_ports::questions::QuestionFilter;
use serde_json::{Value, json};

use crate::crash::{MODES, PLAIN, crash_at_every_step, crash_at_every_step_in};
use crate::forks::{Came, case, does};
use crate::guest::Guest;
use crate::host::{World, caller, in_paused_time, tenant};

/// Gives what it was given, and whether it could touch anything else; or what the key's last part says.
pub(crate) async fn settled(guest: Guest, takes: u64) -> Result<Payload, Failure> {
    guest.compute(takes).await;
    let given = guest.job.input.to_value().unwrap();
    let (scope, key, value) = (Scope::Session, "aside".to_owned(), "1".into());
    let put = Put { scope, key, value, precondition: Precondition::Any, ttl_ms: None };
    let call = Call { agent: guest.job.agent.clone(), input: guest.job.input.clone() };
    let says_why = |why: &Refusal| matches!(why, Refusal::Invalid(why) if why.contains("settles a conflict"));
    let is_refused = guest.cross(put).await?.is_err() && guest.cross(call).await?.is_err_and(|why| says_why(&why));
    let key = given["key"].as_str().unwrap().to_owned();
    match key.rsplit('/').next() {
        Some("nothing") => Ok(Payload::json(&Value::Null)),
        Some("wrong") => Ok(Payload { content_type: Payload::JSON.into(), bytes: "{".into() }),
        Some("fails") => Err(Failure::new(Code::AgentError, "it cannot say")),
        Some("slow") => {
            guest.compute(50).await;
            Ok(Payload::json(&given["current"]))
        }
        _ => Ok(Payload::json(&json!({"given": given, "refused": is_refused}))),
    }
}

/// Two branches that put a key each in their way, and add to another, with this policy of what begins with `k/`.
fn conflicting(key: &str, policy: &str) -> String {
    format!(
        "{{sequence: [{}, {{parallel: {{legal: {{sequence: [{}, {}]}}, cost: {}}}, context: {{fork: [session, messages], merge: {{k/: \
         {policy}}}}}}}, {}]}}",
        does("first", &format!("[put, k/{key}, 0]")),
        does("legal", "[wait, 9], [add, n, 1], [send, legal]"),
        does("again", &format!("[put, k/{key}, 1]")),
        does("cost", &format!("[delete, k/{key}], [add, n, 1]")),
        does("last", &format!("[get, k/{key}], [list]")),
    )
}

#[test]
fn an_agent_is_given_the_conflict_and_its_answer_is_what_the_key_holds() {
    in_paused_time(async {
        let came = Came::of(&conflicting("x", "{agent: settle}")).await;
        came.value();
        let held: Value = serde_json::from_str(&came.key("k/x").await.unwrap()).unwrap();
        let sides = json!([
            {"branch": "legal", "step": "0/1/0/1", "op": "put", "value": 1},
            {"branch": "cost", "step": "0/1/1", "op": "delete", "value": null},
        ]);
        assert_eq!(held["given"], json!({"key": "k/x", "base": 0, "current": 0, "sides": sides}));
        assert_eq!((&held["refused"], came.key("aside").await), (&json!(true), None), "it touches nothing else");
        assert_eq!(came.key("n").await.as_deref(), Some("2"), "what commutes needs nobody");
        let ran = came.host.sandbox.ran();
        let settling: StepPath = "0/1/10100/0".parse().unwrap();
        assert_eq!(ran.iter().filter(|(step, _)| *step == settling).count(), 1);
        let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap().conflicts;
        assert_eq!(found[0].conflict.resolved.as_deref(), Some("agent"));
        let came = Came::of(&conflicting("nothing", "{agent: settle}")).await;
        assert_eq!((came.value(), came.key("k/nothing").await), (json!([null, ["n"]]), None));
    });
}

#[test]
fn a_resolver_that_fails_or_gives_no_value_leaves_the_conflict_to_people() {
    in_paused_time(async {
        for (key, says) in [("wrong", "not JSON"), ("fails", "agent-error: it cannot say")] {
            let mut came =
                Came::of(&conflicting(key, "{agent: settle, retry: {attempts: 2, on: [agent-error]}}")).await;
            let failure = came.failure();
            assert_eq!((failure.code, failure.step.as_ref().unwrap().as_str()), (Code::MergeConflict, "0/1"));
            assert!(failure.message.contains(says), "{failure}");
            let key = format!("k/{key}");
            assert_eq!((came.key(&key).await.as_deref(), came.key("n").await), (Some("0"), None), "nothing is true");
            came.settle(&[(&key, Taken::Branch("legal".into()))]).await.unwrap();
            assert_eq!((came.state().await, came.key(&key).await.as_deref()), (State::Completed, Some("1")));
            let did: Vec<StepPath> = came.host.sandbox.ran().into_iter().map(|(step, _)| step).collect();
            let of_branches = did.iter().filter(|step| step.as_str().starts_with("0/1/0") || step.as_str() == "0/1/1");
            assert_eq!(of_branches.count(), 3, "no branch does its work again");
        }
        // What it should have given can be said in its place.
        let came = Came::of(&conflicting("wrong", "{agent: settle}")).await;
        let steps = |path: &str| Changes {
            steps: vec![(path.into(), ltmc_model::journal::Amendment::Output(Payload::json(&json!("mine"))))],
            ..Changes::default()
        };
        let refused = came.host.runs.resume_with(&caller(), came.run, steps("0/1/10100/1")).await.unwrap_err();
        assert!(format!("{refused:?}").contains("no conflict 1 was put to it"), "{refused:?}");
        came.host.runs.resume_with(&caller(), came.run, steps("0/1/10100/0")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((came.state().await, came.key("k/wrong").await.as_deref()), (State::Completed, Some("\"mine\"")));
    });
}

#[test]
fn a_key_that_changes_while_it_is_settled_is_put_to_it_anew() {
    in_paused_time(async {
        let flow = format!(
            "{{parallel: [{}, {{parallel: [{}, {}], context: {{fork: [session], merge: {{\"*\": {{agent: settle}}}}}}}}]}}",
            does("outside", "[wait, 40], [put, slow, 7]"),
            does("one", "[put, slow, 1]"),
            does("two", "[put, slow, 2]"),
        );
        let came = Came::of(&flow).await;
        came.value();
        assert_eq!(came.key("slow").await.as_deref(), Some("7"), "it has seen what is there now");
        let ran = came.host.sandbox.ran();
        let settling = ran.iter().filter(|(step, _)| step.as_str().starts_with("0/1/10100/"));
        assert_eq!(settling.map(|(step, _)| step.as_str()).collect::<Vec<_>>(), ["0/1/10100/0", "0/1/10100/1"]);
    });
}

/// The questions of a run, once there are any.
async fn questions(came: &Came) -> Vec<Asked> {
    for _ in 0..1_000 {
        let filter = QuestionFilter { limit: 100, ..QuestionFilter::default() };
        let open = came.host.runs.questions(&caller(), filter).await.unwrap();
        if !open.is_empty() {
            return open;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing is asked")
}

/// A run that waits for an answer.
async fn asking(flow: &str) -> Came {
    let case = case(flow);
    let world = World::new(case.scripts);
    let host = world.host(&world.record(case.document.as_deref()).await, []);
    host.start(&case.request).await.unwrap();
    let run = loop {
        match host.run().await {
            Some(run) => break run,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    Came::under_way(world, host, run)
}

async fn end(came: &Came) -> State {
    for _ in 0..1_000 {
        let row = came.host.record.run(&tenant(), came.run).await.unwrap().unwrap();
        if row.state.is_over() {
            return row.state;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come to an end")
}

#[test]
fn people_are_asked_and_take_a_branch_or_give_a_value() {
    in_paused_time(async {
        for (answer, holds) in [
            (json!({"take": "legal"}), Some("1")),
            (json!({"take": "cost"}), None),
            (json!({"value": {"a": 1}}), Some("{\"a\":1}")),
            (json!({"value": null}), None),
        ] {
            let came = asking(&conflicting("x", "{ask: {of: author}}")).await;
            let open = questions(&came).await;
            let [asked] = open.as_slice() else { panic!("{open:?}") };
            assert_eq!(
                (asked.node.as_str(), asked.question.title.as_str()),
                ("0/1/10100/0", "Branches conflict: what is `k/x` to hold?")
            );
            let whole = came.host.runs.question(&caller(), &asked.token).await.unwrap().question;
            let shown = whole.show.unwrap().to_value().unwrap();
            assert_eq!((&shown["key"], &shown["sides"][1]["op"]), (&json!("k/x"), &json!("delete")));
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(came.state().await, State::Waiting, "it is a row meanwhile");
            let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap().conflicts;
            assert_eq!((found.len(), &found[0].conflict.resolved), (1, &None), "people see what is open");
            let give = |answer: Value| {
                let (runs, token) = (came.host.runs.clone(), asked.token.clone());
                async move { runs.answer(&caller(), token, ltmc_orchestration::Answer { answer, comment: None }).await }
            };
            for wrong in [json!({"take": "other"}), json!(7), json!({"take": "legal", "value": 1})] {
                let refused = give(wrong).await.unwrap_err();
                assert!(format!("{refused:?}").contains("bad-answer"), "{refused:?}");
            }
            give(answer).await.unwrap();
            assert_eq!(end(&came).await, State::Completed);
            assert_eq!((came.key("k/x").await.as_deref(), came.key("n").await.as_deref()), (holds, Some("2")));
        }
    });
}

#[test]
fn a_question_that_nobody_answers_in_time_is_a_conflict() {
    in_paused_time(async {
        let mut came = asking(&conflicting("x", "{ask: {}, timeout: 1h}")).await;
        questions(&came).await;
        tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
        assert_eq!(end(&came).await, State::Failed);
        let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap().conflicts;
        assert!(found[0].conflict.why.contains("timed-out"), "{found:?}");
        came.settle(&[("k/x", Taken::Value("[2]".into()))]).await.unwrap();
        assert_eq!((end(&came).await, came.key("k/x").await.as_deref()), (State::Completed, Some("[2]")));
        // Whoever resumes it and says nothing has people asked anew.
        let came = asking(&conflicting("x", "{ask: {}, timeout: 1h}")).await;
        let first = questions(&came).await;
        tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
        assert_eq!(end(&came).await, State::Failed);
        came.host.runs.resume_with(&caller(), came.run, Changes::default()).await.unwrap();
        let second = questions(&came).await;
        assert_ne!(first[0].token, second[0].token);
    });
}

#[test]
fn crash_at_every_step_of_a_conflict_that_an_agent_settles() {
    crash_at_every_step(&case(&conflicting("x", "{agent: settle}")));
    let fails = conflicting("fails", "{agent: settle, retry: {attempts: 2, on: [agent-error], backoff: 1ms}}");
    crash_at_every_step_in(&case(&fails), &[PLAIN, MODES[2]]);
}

#[test]
fn crash_at_every_step_of_a_conflict_that_people_settle() {
    let flow = conflicting("x", "{ask: {of: author}}");
    crash_at_every_step_in(&case(&flow), &[PLAIN, MODES[2]]);
}

/// A fork within a branch, of which an agent settles what its branches do, and of the outer one people.
#[test]
fn crash_at_every_step_of_conflicts_within_conflicts() {
    let flow = format!(
        "{{parallel: {{x: {{parallel: [{}, {}], context: {{fork: [session], merge: {{\"*\": {{agent: settle}}}}}}}}, y: {}}}, context: \
         {{fork: [session], merge: {{\"*\": {{ask: {{}}}}}}}}}}",
        does("one", "[put, k, 1]"),
        does("two", "[put, k, 2], [put, l, 3]"),
        does("three", "[put, k, 3], [put, l, 4]"),
    );
    crash_at_every_step_in(&case(&flow), &[PLAIN]);
}
