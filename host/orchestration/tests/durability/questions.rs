//! Questions: what runs ask people. Each is answered once, by who may, and by nobody else's answer.

use std::time::Duration;

use ltmc_model::Payload;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::Code;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::question::{Asked, Standing, Token};
use ltmc_model::run::State;
use ltmc_orchestration::{Answer as Given, Started};
use ltmc_ports::questions::{QuestionFilter, ReadQuestions as _};
use ltmc_ports::testing::sample;
use ltmc_ports::{ReadJournal as _, WriteCatalog as _};
use ltmc_tenancy::Error;
use serde_json::{Value, json};

use crate::guest::{Script, agent};
use crate::host::{Host, Request, World, caller, in_paused_time, tenant};

fn scripts() -> Vec<Script> {
    let slow = agent("slow", |guest| async move {
        guest.compute(3_600_000).await;
        Ok(Payload::text("late"))
    });
    vec![agent("pass", |guest| async move { Ok(guest.job.input.clone()) }), slow]
}

fn request() -> Request {
    Request { input: Payload::json(&json!({"text": "draft"})), ..Request::workflow("flow") }
}

fn given(answer: Value) -> Given {
    Given { answer, comment: None }
}

fn by(role: Role, key: &str) -> Caller {
    Caller { role, key: key.parse().unwrap(), ..caller() }
}

/// A host, a run of this flow on it, and the questions that are open once it waits.
async fn asked(world: &World, flow: &str) -> (Host, Started, Vec<Asked>) {
    let host = world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, []);
    let started = host.start(&request()).await.unwrap();
    let shortly = Some(Duration::from_millis(100));
    assert_eq!(host.runs.wait(&caller(), &started, shortly).await.unwrap(), None);
    let open = open(&host, &by(Role::Admin, "admin0000000")).await;
    (host, started, open)
}

async fn open(host: &Host, caller: &Caller) -> Vec<Asked> {
    let filter = QuestionFilter { limit: 100, ..QuestionFilter::default() };
    host.runs.questions(caller, filter).await.unwrap()
}

async fn standing(host: &Host, token: &Token) -> Standing {
    host.record.question(&tenant(), token).await.unwrap().unwrap().standing
}

fn refused(answer: &Result<(), Error>) -> &str {
    match answer {
        Err(Error::Conflict { code, .. } | Error::Invalid { code, .. }) => code,
        Err(Error::Denied { .. }) => "denied",
        Err(Error::NotFound { .. }) => "not-found",
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plan_is_done_only_where_people_approve_of_it() {
    in_paused_time(async {
        let planner =
            agent("planner", |_| async { Ok(Payload::json(&json!({"name": "planned", "flow": {"agent": "pass"}}))) });
        let world = World::new(scripts().into_iter().chain([planner]));
        let flow = "{plan: {agent: planner, may: [pass], approve: admin}, id: fixes}";
        let (host, started, open) = asked(&world, flow).await;
        let [asked] = open.as_slice() else { panic!("{open:?}") };
        assert_eq!(asked.question.title, "May the plan that `planner` gave be carried out?");
        assert!(host.children().await.is_empty(), "nothing of it is done");
        let admin = by(Role::Admin, "admin0000000");
        let shown = host.runs.question(&admin, &asked.token).await.unwrap().question.show.unwrap();
        assert_eq!(shown.to_value().unwrap(), json!({"name": "planned", "flow": {"agent": "pass"}}));
        let author = host.runs.answer(&by(Role::Author, "author000000"), asked.token.clone(), given(json!(true))).await;
        assert_eq!(refused(&author), "denied", "it is an admin's to approve");
        let perhaps = host.runs.answer(&admin, asked.token.clone(), given(json!("perhaps"))).await;
        assert_eq!(refused(&perhaps), "bad-answer");
        let no = Given { answer: json!(false), comment: Some("too much at once".into()) };
        host.runs.answer(&admin, asked.token.clone(), no).await.unwrap();
        let failure = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap_err();
        assert_eq!(failure.code, Code::NotApproved);
        assert!(failure.message.contains("too much at once"), "{failure}");
        assert!(host.children().await.is_empty());
        // Who resumes it has it asked anew, about the same plan; the old question is closed.
        host.runs.resume(&caller(), started.run).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let again = self::open(&host, &admin).await;
        let [again] = again.as_slice() else { panic!("{again:?}") };
        assert_ne!(again.token, asked.token);
        host.runs.answer(&admin, again.token.clone(), given(json!(true))).await.unwrap();
        let late = host.runs.answer(&admin, again.token.clone(), given(json!(false))).await;
        assert_eq!(refused(&late), "already-answered");
        let answer = host.ask(&request()).await.unwrap().unwrap();
        assert_eq!(answer.to_value().unwrap(), json!({"text": "draft"}));
        assert_eq!(host.children().await.len(), 1);
        let journal = host.journal(started.run).await;
        let planned = |event: &Event| matches!(event, Event::StepStarted { step, .. } if step.as_str() == "0/0");
        assert_eq!(journal.iter().filter(|placed| planned(&placed.entry.event)).count(), 1, "nobody plans it anew");
    });
}

#[test]
fn what_is_waited_for_is_named() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{parallel: [{ask: {title: Publish?, of: author}, id: ok}, {wait: 2h, id: pause}, {wait: {topic: orders, match: {type: paid}}, \
                    id: paid, timeout: 3h}]}";
        let (host, started, _) = asked(&world, flow).await;
        let why = host.runs.why(&caller(), started.run).await.unwrap();
        let waits = |name: &str| {
            let found = why.waits.iter().find(|waits| waits.called.name.as_deref() == Some(name));
            found.unwrap_or_else(|| panic!("{name} is not in {:?}", why.waits))
        };
        assert!(waits("ok").what.starts_with("an answer of the role author to \"Publish?\""), "{:?}", waits("ok"));
        assert_eq!((waits("pause").what.as_str(), waits("ok").until), ("its time", None));
        assert!(waits("pause").until.is_some() && waits("paid").until.is_some());
        assert_eq!(waits("paid").what, "an event of topic `orders` of type `paid`");
        assert!(why.waits.iter().all(|waits| waits.since.is_some() && waits.in_vain.is_none()), "{:?}", why.waits);
        assert_eq!(why.waits.len(), 3);
        // Nobody is left who could publish it.
        for name in ["pass", "slow"] {
            let change =
                Change::GrantsSet { agent: name.parse().unwrap(), grants: Vec::new(), digest: None, carry: None };
            host.record.act(&tenant(), sample::at(1), Act { by: None, change }).await.unwrap();
        }
        let (host, run) = (world.host(&host.record, []), started.run);
        let why = host.runs.why(&caller(), run).await.unwrap();
        let paid = why.waits.iter().find(|waits| waits.called.name.as_deref() == Some("paid")).unwrap();
        assert!(paid.in_vain.as_ref().is_some_and(|why| why.contains("no agent may publish to `orders`")), "{paid:?}");
    });
}

#[test]
fn a_question_is_answered_and_its_run_goes_on_with_that() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{sequence: [{ask: {title: Publish?, of: author, show: {what: $.input.text}, schema: {type: boolean}}, id: ok}, \
                    {agent: pass, with: {ok: $.steps.ok.output}}]}";
        let (host, started, open) = asked(&world, flow).await;
        assert_eq!(host.runs.alive(), 0, "a run that waits for an answer is a row");
        let [asked] = open.as_slice() else { panic!("{open:?}") };
        assert_eq!((asked.run, asked.node.as_str(), asked.question.title.as_str()), (started.run, "0/0", "Publish?"));
        let whole = host.runs.question(&caller(), &asked.token).await.unwrap();
        assert_eq!(whole.question.show, Some(Payload::json(&json!({"what": "draft"}))));
        assert_eq!(host.runs.answered(&caller(), &asked.token).await.unwrap(), None);
        let view = host.runs.get(&caller(), started.run).await.unwrap();
        assert_eq!(view.state, State::Waiting);
        let shown = serde_json::to_value(&view.nodes[0]).unwrap();
        assert_eq!((&shown["status"], &shown["waits_for"]["answer"]["title"]), (&json!("waiting"), &json!("Publish?")));

        let wrong = host.runs.answer(&caller(), asked.token.clone(), given(json!("yes"))).await;
        assert_eq!(refused(&wrong), "bad-answer");
        let comment = Some("go".to_owned());
        host.runs.answer(&caller(), asked.token.clone(), Given { answer: json!(true), comment }).await.unwrap();
        let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(ended.to_value().unwrap(), json!({"ok": true}));
        let journal = host.journal(started.run).await;
        let told = journal.iter().find_map(|placed| match &placed.entry.event {
            Event::Answered { by, comment, .. } => Some((by.clone(), comment.clone())),
            _ => None,
        });
        assert_eq!(told, Some((caller().key, Some("go".into()))), "who answered stands in the journal");
        let answered = host.runs.answered(&caller(), &asked.token).await.unwrap().unwrap();
        assert_eq!((&answered.by, &answered.answer), (&caller().key, &json!(true)), "and is shown with the question");
        assert_eq!(answered.comment.as_deref(), Some("go"));
        let other = host.runs.answered(&by(Role::Caller, "caller000000"), &asked.token).await;
        assert!(matches!(other, Err(Error::NotFound { .. })), "not to who may not see the run");
        let twice = host.runs.answer(&caller(), asked.token.clone(), given(json!(false))).await;
        assert_eq!(refused(&twice), "already-answered");
        assert_eq!(standing(&host, &asked.token).await, Standing::Answered);
    });
}

#[test]
fn people_are_reminded_of_what_is_open_as_often_as_is_said_and_of_nothing_else() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{ask: {title: Publish?, of: author, remind: {every: 4h, topic: approvals}}, timeout: 2days}";
        let (mut host, started, open) = asked(&world, flow).await;
        assert_eq!(host.runs.alive(), 0, "a run that reminds people is a row");
        let hours = |hours: u64| tokio::time::sleep(Duration::from_secs(hours * 60 * 60));
        hours(9).await;
        let numbers = async |host: &Host| {
            let journal = host.journal(started.run).await;
            let number = |placed: &ltmc_model::journal::Placed| match &placed.entry.event {
                Event::Reminded { number, .. } => Some(*number),
                _ => None,
            };
            journal.iter().filter_map(number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&host).await, [1, 2]);
        // What was due while no host was there is not made up for.
        let record = host.record.crash();
        drop(host);
        hours(12).await;
        host = world.host(&record, []);
        hours(1).await;
        assert_eq!(numbers(&host).await, [1, 2, 5]);
        host.runs.answer(&caller(), open[0].token.clone(), given(json!(true))).await.unwrap();
        host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        hours(9).await;
        assert_eq!(numbers(&host).await, [1, 2, 5]);
    });
}

#[test]
fn two_open_questions_in_branches_never_resolve_each_other() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{parallel: {x: {ask: {title: Same?, of: author}}, y: {ask: {title: Same?, of: author}}, z: {agent: slow}}}";
        let (host, started, open) = asked(&world, flow).await;
        let token = |node: &str| open.iter().find(|asked| asked.node.as_str() == node).unwrap().token.clone();
        assert!(open.len() == 2 && token("0/0") != token("0/1"));
        // While the run is alive: its third branch is at work.
        assert_eq!(host.runs.alive(), 1);
        host.runs.answer(&caller(), token("0/1"), given(json!("y"))).await.unwrap();
        let left = self::open(&host, &caller()).await;
        assert_eq!(left.iter().map(|asked| asked.node.as_str()).collect::<Vec<_>>(), ["0/0"]);
        let once_more = host.runs.answer(&caller(), token("0/1"), given(json!("x"))).await;
        assert_eq!(refused(&once_more), "already-answered");
        // And once it waits for nothing else.
        tokio::time::sleep(Duration::from_secs(4_000)).await;
        assert_eq!(host.runs.alive(), 0);
        host.runs.answer(&caller(), token("0/0"), given(json!("x"))).await.unwrap();
        let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(ended.to_value().unwrap(), json!({"x": "x", "y": "y", "z": "late"}));
        let journal = host.journal(started.run).await;
        let count = |of: fn(&Event) -> bool| journal.iter().filter(|placed| of(&placed.entry.event)).count();
        let (asked, answered) = (
            count(|event| matches!(event, Event::Asked { .. })),
            count(|event| matches!(event, Event::Answered { .. })),
        );
        assert_eq!((asked, answered), (2, 2), "an answer has nobody asked again");
    });
}

#[test]
fn of_two_who_answer_at_once_one_is_told_that_he_did() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, started, open) = asked(&world, "{ask: {title: Well?, of: author}}").await;
        let token = open[0].token.clone();
        let by = caller();
        let one = host.runs.answer(&by, token.clone(), given(json!(1)));
        let other = host.runs.answer(&by, token.clone(), given(json!(2)));
        let answers = tokio::join!(one, other);
        let taken = [&answers.0, &answers.1].iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(taken, 1, "{answers:?}");
        let wanted = if answers.0.is_ok() { 1 } else { 2 };
        let ended = host.runs.wait(&by, &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(ended.to_value().unwrap(), wanted);
    });
}

#[test]
fn who_may_not_answer_does_not() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{parallel: [{ask: {title: Of admins, of: admin}}, {ask: {title: Of anybody, of: caller}}]}";
        let (host, _, open) = asked(&world, flow).await;
        let [admins, anybodys] =
            ["0/0", "0/1"].map(|node| open.iter().find(|a| a.node.as_str() == node).unwrap().token.clone());
        let answer =
            async |caller: Caller, token: &Token| host.runs.answer(&caller, token.clone(), given(json!(1))).await;
        assert_eq!(refused(&answer(caller(), &admins).await), "denied", "an author");
        assert!(matches!(host.runs.question(&caller(), &admins).await, Err(Error::Denied { .. })));
        assert_eq!(refused(&answer(by(Role::Viewer, "viewer000000"), &anybodys).await), "denied", "a viewer");
        assert_eq!(refused(&answer(by(Role::Operator, "operator0000"), &anybodys).await), "denied", "the operator");
        let stranger = by(Role::Caller, "stranger0000");
        assert_eq!(refused(&answer(stranger.clone(), &anybodys).await), "not-found", "another key's run");
        let elsewhere = Caller { tenant: sample::tenant("beta"), ..by(Role::Admin, "admin0000000") };
        assert_eq!(refused(&answer(elsewhere.clone(), &anybodys).await), "not-found", "another tenant");
        assert!(self::open(&host, &stranger).await.is_empty() && self::open(&host, &elsewhere).await.is_empty());
        let nodes = async |caller: &Caller| {
            self::open(&host, caller).await.into_iter().map(|a| a.node.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(nodes(&caller()).await, ["0/1"]);
        // The run is this key's own, which may be one of the role `caller` by now.
        answer(by(Role::Caller, caller().key.as_str()), &anybodys).await.unwrap();
        answer(by(Role::Admin, "admin0000000"), &admins).await.unwrap();
    });
}

#[test]
fn an_answer_that_comes_too_late_is_told_so() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow =
            "{ask: {title: Well?, of: author}, timeout: 1h, on-error: [{do: {agent: pass, with: $.error.code}}]}";
        let (host, started, open) = asked(&world, flow).await;
        assert!(host.runs.question(&caller(), &open[0].token).await.unwrap().question.until.is_some());
        let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(ended.to_value().unwrap(), "timed-out");
        let late = host.runs.answer(&caller(), open[0].token.clone(), given(json!(1))).await;
        assert_eq!((refused(&late), standing(&host, &open[0].token).await), ("question-closed", Standing::Withdrawn));
    });
}

/// Its time is over while no host is there, so nobody has journaled that yet.
#[test]
fn an_answer_that_comes_after_the_time_out_and_before_the_host_saw_that_is_too_late() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{ask: {title: Well?, of: author}, timeout: 1h}";
        let (host, started, open) = asked(&world, flow).await;
        let record = host.record.crash();
        drop(host);
        tokio::time::sleep(Duration::from_secs(4_000)).await;
        let next = world.host(&record, []);
        let late = next.runs.answer(&caller(), open[0].token.clone(), given(json!(1))).await;
        assert_eq!(refused(&late), "question-closed");
        let answer = next.ask(&request()).await.unwrap();
        assert_eq!((answer.unwrap_err().code, next.run().await), (Code::TimedOut, Some(started.run)));
    });
}

#[test]
fn a_question_that_is_not_needed_any_more_is_open_no_more() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{sequence: [{parallel: [{ask: {title: Well?, of: author}}, {agent: slow}], need: any}, {ask: {title: Next?, of: author}}]}";
        let (host, started, open) = asked(&world, flow).await;
        tokio::time::sleep(Duration::from_secs(4_000)).await;
        let late = host.runs.answer(&caller(), open[0].token.clone(), given(json!(1))).await;
        assert_eq!((refused(&late), standing(&host, &open[0].token).await), ("question-closed", Standing::Withdrawn));
        let now = self::open(&host, &caller()).await;
        assert_eq!(now.iter().map(|asked| asked.node.as_str()).collect::<Vec<_>>(), ["0/1"]);
        let view = host.runs.get(&caller(), started.run).await.unwrap();
        let node = view.nodes.iter().find(|node| node.path.as_str() == "0/0/0").unwrap();
        assert_eq!((node.status, &node.waits_for), ("cancelled", &None));
    });
}

#[test]
fn a_run_that_is_over_asks_nobody_and_one_that_is_resumed_asks_anew() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, started, open) = asked(&world, "{ask: {title: Well?, of: author}, id: q}").await;
        let old = open[0].token.clone();
        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert!(self::open(&host, &caller()).await.is_empty());
        let late = host.runs.answer(&caller(), old.clone(), given(json!(1))).await;
        assert_eq!((refused(&late), standing(&host, &old).await), ("question-closed", Standing::Over));
        host.runs.resume(&caller(), started.run).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = self::open(&host, &caller()).await;
        assert!(now.len() == 1 && now[0].token != old, "{now:?}");
        let late = host.runs.answer(&caller(), old, given(json!(1))).await;
        assert_eq!(refused(&late), "question-closed", "what was asked before is another question");
        host.runs.answer(&caller(), now[0].token.clone(), given(json!(2))).await.unwrap();
        let ended = host.ask(&request()).await.unwrap().unwrap();
        assert_eq!(ended.to_value().unwrap(), 2);
    });
}

/// A new try of a node is another question.
#[test]
fn a_node_that_is_tried_again_asks_anew_and_the_old_answer_is_not_taken() {
    in_paused_time(async {
        let world = World::new(scripts());
        let flow = "{ask: {title: Well?, of: author}, validate: {json-schema: {type: boolean}}, retry: {attempts: 2, on: \
                    [validation-failed], backoff: 1ms}}";
        let (host, started, open) = asked(&world, flow).await;
        let old = open[0].token.clone();
        host.runs.answer(&caller(), old.clone(), given(json!("what?"))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = self::open(&host, &caller()).await;
        assert!(now.len() == 1 && now[0].token != old, "{now:?}");
        let late = host.runs.answer(&caller(), old, given(json!(true))).await;
        assert_eq!(refused(&late), "already-answered");
        host.runs.answer(&caller(), now[0].token.clone(), given(json!(true))).await.unwrap();
        let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(ended.to_value().unwrap(), true);
    });
}

#[test]
fn a_question_outlives_its_host() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, started, open) = asked(&world, "{ask: {title: Well?, of: author}}").await;
        let mut record = host.record.crash();
        drop(host);
        for _ in 0..3 {
            let next = world.host(&record, []);
            assert_eq!(next.runs.recover().await.unwrap().resumed, 0, "a start leaves it where it is");
            assert_eq!(self::open(&next, &caller()).await, open, "it is the same question");
            record = next.record.crash();
        }
        let last = world.host(&record, []);
        last.runs.answer(&caller(), open[0].token.clone(), given(json!(7))).await.unwrap();
        let row = last.record.run(&tenant(), started.run).await.unwrap().unwrap();
        assert_ne!(row.state, State::Failed);
        assert_eq!(last.ask(&request()).await.unwrap().unwrap().to_value().unwrap(), 7);
    });
}

#[test]
fn what_is_too_large_is_not_asked_and_not_answered() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, _, open) = asked(&world, "{ask: {title: Well?, of: author}}").await;
        let token = open[0].token.clone();
        let large = host.runs.answer(&caller(), token.clone(), given(json!("x".repeat(65 << 10)))).await;
        assert_eq!(refused(&large), "bad-answer");
        let comment = Some("x".repeat(5_000));
        let long = host.runs.answer(&caller(), token, Given { answer: json!(1), comment }).await;
        assert_eq!(refused(&long), "bad-answer");
        let document = "name: flow\nflow: {ask: {title: Well?, of: author, show: $.input}}";
        let host = world.host(&world.record(Some(document)).await, []);
        let request = Request { input: Payload::text("x".repeat(65 << 10)), ..request() };
        let failure = host.ask(&request).await.unwrap().unwrap_err();
        assert!(failure.code == Code::BadStep && failure.message.contains("at most 65536 bytes"), "{failure}");
    });
}

/// What a workflow is now does not matter to a run: it asks as the document said with which it began.
#[test]
fn a_question_is_answered_though_its_workflow_was_deleted() {
    in_paused_time(async {
        let world = World::new(scripts());
        let (host, started, open) = asked(&world, "{ask: {title: Well?, of: author, schema: {type: integer}}}").await;
        let deleted = Act { by: None, change: Change::WorkflowDeleted { name: "flow".parse().unwrap() } };
        host.record.act(&tenant(), sample::at(0), deleted).await.unwrap();
        host.runs.answer(&caller(), open[0].token.clone(), given(json!(7))).await.unwrap();
        let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(ended.to_value().unwrap(), 7);
    });
}
