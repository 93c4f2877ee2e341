//! Branches with a context of their own: what each sees, what comes of them together, and that neither a host that dies nor who is faster
//! changes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ltmc_model::call::coordination::Call;
use ltmc_model::call::memory::Update;
use ltmc_model::call::messages::Publish;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Decided, Event};
use ltmc_model::memory::{Drawer, Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::run::State;
use ltmc_model::{Digest, Payload, RunId};
use ltmc_orchestration::{Changes, ForkFrom, ForkRequest, Taken};
use ltmc_ports::ReadJournal as _;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::questions::QuestionFilter;
use serde_json::{Value, json};

use crate::crash::{Case, Crash, MODES, PLAIN, crash_at_every_step, crash_at_every_step_in, every_way, play};
use crate::guest::{Guest, Script, agent, text};
use crate::host::{Answer, Contents, Host, Line, Request, World, caller, in_paused_time, session, tenant};
use crate::twenty::draft;

/// Draws how long things take.
#[derive(Clone)]
struct Pace(Arc<AtomicU64>);

impl Pace {
    /// Nothing takes any time.
    fn none() -> Self {
        Self(Arc::default())
    }

    fn of(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed.wrapping_mul(2) | 1)))
    }

    fn next(&self) -> u64 {
        let step = |n: u64| (n > 0).then(|| drawn(n));
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).map_or(0, |n| (n >> 33) % 9)
    }
}

fn drawn(n: u64) -> u64 {
    n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

/// Does what its input says, one after the other, and gives what it was answered.
async fn told(guest: Guest, pace: Pace) -> Result<Payload, Failure> {
    let input = guest.job.input.to_value().unwrap_or_default();
    let mut answers = Vec::new();
    for op in input["ops"].as_array().into_iter().flatten() {
        guest.compute(pace.next()).await;
        let key = op[1].as_str().unwrap_or_default().to_owned();
        let json = op[2].to_string();
        let number = op[2].as_i64().unwrap_or_default();
        let merge = match op[0].as_str().unwrap_or_default() {
            "add" => Some(Merge::Increment(number)),
            "append" => Some(Merge::Append(json.clone())),
            "unite" => Some(Merge::Union(json.clone())),
            "patch" => Some(Merge::MergePatch(json.clone())),
            _ => None,
        };
        if let Some(merge) = merge {
            let update = Update { scope: Scope::Session, key, merge, ttl_ms: None };
            answers.push(serde_json::from_slice(&guest.sure(update).await?.value).unwrap());
            continue;
        }
        answers.push(match op[0].as_str().unwrap_or_default() {
            "get" => json!(guest.get(key).await?.map(|item| text(&item.value).to_owned())),
            "put" => json!(guest.put(key, json).await?),
            "delete" => json!(guest.delete(key).await?),
            "list" => json!(guest.list().await?),
            "send" => json!(guest.sure(Publish { topic: "news".parse().unwrap(), event: draft(&key) }).await?.0 > 0),
            "call" => {
                let (agent, input) = ("do".parse().unwrap(), Payload::json(&json!({"ops": op[2]})));
                guest.sure(Call { agent, input }).await?.result.unwrap().to_value().unwrap()
            }
            "wait" => json!(guest.compute(op[1].as_u64().unwrap_or_default()).await),
            "fail" => return Err(Failure::new(Code::AgentError, "it was told to")),
            other => panic!("there is no {other}"),
        });
    }
    Ok(Payload::json(&Value::Array(answers)))
}

fn scripts(pace: &Pace) -> Vec<Script> {
    let [does, settles] = [pace.clone(), pace.clone()];
    let told = agent("do", move |guest| told(guest, does.clone()));
    let plans = agent("plans", |_| async {
        let steps = json!([{"agent": "do", "with": {"ops": CHILD}}]);
        Ok(Payload::json(&json!({"name": "planned", "flow": {"sequence": steps}})))
    });
    vec![told, plans, agent("settle", move |guest| crate::settling::settled(guest, settles.next()))]
}

/// What is done in a run that a branch begins: it sees nothing of the session that the branch sees, and changes nothing in it.
const CHILD: [(&str, &str, u32); 4] = [("get", "n", 0), ("add", "n", 100), ("put", "p", 9), ("append", "log", 7)];
/// A workflow that does so.
const OTHER: &str =
    "\n---\nname: other\nflow: {agent: do, with: {ops: [[get, n], [add, n, 100], [put, p, 9], [append, log, 7]]}}";

/// An agent's call of another one that does so.
fn calls() -> String {
    format!("[call, _, {}]", json!(CHILD))
}

/// A step that does this.
pub(crate) fn does(id: &str, ops: &str) -> String {
    format!("{{agent: do, id: {id}, with: {{ops: [{ops}]}}}}")
}

pub(crate) fn case(flow: &str) -> Case {
    paced(flow, &Pace::none())
}

fn paced(flow: &str, pace: &Pace) -> Case {
    let document = Some(format!("name: flow\nflow: {flow}"));
    let request = Request { input: Payload::json(&json!({})), ..Request::workflow("flow") };
    Case { request, document, scripts: scripts(pace), side_by_side: true }
}

/// What comes of a flow: what it gives, and what memory and the topic hold then.
pub(crate) struct Came {
    pub(crate) world: World,
    pub(crate) host: Host,
    pub(crate) run: RunId,
    answer: Answer,
}

impl Came {
    pub(crate) async fn of(flow: &str) -> Self {
        let Case { request, document, scripts, .. } = case(flow);
        let world = World::new(scripts);
        let host = world.host(&world.record(document.as_deref()).await, []);
        let answer = host.ask(&request).await.unwrap();
        let run = host.run().await.unwrap();
        Self { world, host, run, answer }
    }

    /// Of a run that is not over.
    pub(crate) fn under_way(world: World, host: Host, run: RunId) -> Self {
        Self { world, host, run, answer: Ok(Payload::text("")) }
    }

    pub(crate) fn value(&self) -> Value {
        self.answer.clone().unwrap().to_value().unwrap()
    }

    pub(crate) fn failure(&self) -> Failure {
        self.answer.clone().unwrap_err()
    }

    async fn memory(&self) -> Contents {
        self.world.memory(&self.host.record).await
    }

    /// What a key of the session holds.
    pub(crate) async fn key(&self, key: &str) -> Option<String> {
        self.memory().await.get(&(Drawer::Session(session()), key.to_owned())).cloned()
    }

    /// The types of events in the topic, in order.
    async fn news(&self) -> Vec<String> {
        let kind = |what: &String| what.split(' ').nth(1).unwrap().to_owned();
        let memory = self.memory().await;
        memory.iter().filter(|((drawer, _), _)| *drawer == Drawer::Global).map(|(_, what)| kind(what)).collect()
    }

    /// Resumes it with these keys settled, and waits for what comes.
    pub(crate) async fn settle(&mut self, keys: &[(&str, Taken)]) -> Result<(), ltmc_tenancy::Error> {
        let merge = keys.iter().map(|(key, taken)| ((*key).to_owned(), taken.clone())).collect();
        self.host.runs.resume_with(&caller(), self.run, Changes { merge, ..Changes::default() }).await?;
        for _ in 0..1_000 {
            let row = self.host.record.run(&tenant(), self.run).await.unwrap().unwrap();
            if row.state.is_over() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub(crate) async fn state(&self) -> State {
        self.host.record.run(&tenant(), self.run).await.unwrap().unwrap().state
    }
}

#[test]
fn a_branch_sees_its_own_writes_and_then_the_base_and_no_sibling() {
    in_paused_time(async {
        let flow = format!(
            "{{sequence: [{}, {{parallel: [{}, {}], context: {{fork: [session]}}}}, {}]}}",
            does("first", "[put, k, 0], [put, gone, 1]"),
            does("one", "[put, k, 1], [put, mine, 1], [delete, gone], [get, k], [get, gone], [wait, 20], [list]"),
            does("two", "[wait, 10], [get, k], [get, mine], [get, gone], [list]"),
            does("after", "[get, k], [list]"),
        );
        let came = Came::of(&flow).await;
        assert_eq!(came.value(), json!(["1", ["k", "mine"]]));
        let steps = came.host.runs.journal(&caller(), came.run, ltmc_model::Seq(0), 1_000).await.unwrap().0;
        let given = |step: &str| {
            let mut completed = steps.iter().map(|shown| &shown.event["step-completed"]);
            let found = completed.rfind(|completed| completed["step"] == step).unwrap();
            found["output"]["json"].clone()
        };
        assert_eq!(given("0/1/0"), json!([null, null, true, "1", null, null, ["k", "mine"]]));
        assert_eq!(given("0/1/1"), json!([null, "0", null, "1", ["gone", "k"]]));
    });
}

#[test]
fn what_commutes_comes_together_in_the_order_of_the_branches() {
    in_paused_time(async {
        let flow = format!(
            "{{sequence: [{}, {{parallel: {{b: {}, a: {}}}, context: {{fork: [session, messages]}}}}]}}",
            does("first", r#"[put, n, 5], [put, doc, {x: 1}]"#),
            does(
                "b",
                r#"[wait, 50], [add, n, 2], [append, log, b1], [append, log, b2], [unite, set, [1, 2]], [patch, doc, {b: 1}], [send, of.b]"#
            ),
            does("a", r#"[add, n, 3], [append, log, a], [unite, set, [2, 3]], [patch, doc, {x: null}], [send, of.a]"#),
        );
        let came = Came::of(&flow).await;
        came.value();
        for (key, holds) in [("n", "10"), ("log", r#"["b1","b2","a"]"#), ("set", "[1,2,3]"), ("doc", r#"{"b":1}"#)] {
            assert_eq!(came.key(key).await.as_deref(), Some(holds), "{key}");
        }
        assert_eq!(came.news().await, ["of.b", "of.a"], "the slow one stands first");
    });
}

#[test]
fn messages_are_held_until_branches_come_together() {
    in_paused_time(async {
        let flow = format!(
            "{{parallel: [{{sequence: [{}, {{emit: {{topic: news, type: emitted}}}}, {}]}}, {}], context: {{fork: [messages]}}}}",
            does("one", "[send, sent]"),
            does("fails", "[fail]"),
            does("two", "[send, other]"),
        );
        let came = Came::of(&flow).await;
        assert_eq!((came.failure().code, came.news().await.len()), (Code::AgentError, 0));
        let came = Came::of(&flow.replace("[fail]", "[get, k]")).await;
        assert_eq!(came.news().await, ["sent", "emitted", "other"]);
    });
}

#[test]
fn branches_that_hold_equal_values_do_not_conflict() {
    in_paused_time(async {
        let branch = |id: &str, ops: &str| does(id, ops);
        let flow = format!(
            "{{parallel: [{}, {}, {}], context: {{fork: [session]}}}}",
            branch("one", r#"[put, doc, {a: 1, b: [2]}], [put, n, 7]"#),
            branch("two", r#"[put, doc, {b: [2], a: 1}], [add, n, 7]"#),
            branch("three", "[put, n, 7]"),
        );
        let came = Came::of(&flow).await;
        came.value();
        assert_eq!(came.key("n").await.as_deref(), Some("7"));
        assert_eq!(serde_json::from_str::<Value>(&came.key("doc").await.unwrap()).unwrap(), json!({"a": 1, "b": [2]}));
        assert!(came.host.runs.conflicts(&caller(), came.run).await.unwrap().conflicts.is_empty());
    });
}

/// Two branches that both put a key, and one that is of no matter.
fn conflicting(policy: &str) -> String {
    format!(
        "{{sequence: [{}, {{parallel: {{legal: {}, cost: {}, other: {}}}, context: {{fork: [session], merge: {policy}}}}}]}}",
        does("first", "[put, plan/x, 0]"),
        does("legal", "[wait, 9], [put, plan/x, 1], [add, n, 1]"),
        does("cost", "[put, plan/x, 2], [add, n, 1]"),
        does("other", "[add, n, 1]"),
    )
}

#[test]
fn a_conflict_is_listed_and_answered_and_the_run_goes_on_at_the_merge() {
    in_paused_time(async {
        for (taken, holds) in
            [(Taken::Branch("cost".into()), "2"), (Taken::Branch("0".into()), "1"), (Taken::Value("[1]".into()), "[1]")]
        {
            let mut came = Came::of(&conflicting("{\"*\": fail}")).await;
            let failure = came.failure();
            assert_eq!((failure.code, failure.step.as_ref().unwrap().as_str()), (Code::MergeConflict, "0/1"));
            for word in ["plan/x", "`legal` (put)", "`cost` (put)"] {
                assert!(failure.message.contains(word), "{failure}");
            }
            assert_eq!(
                (came.key("plan/x").await.as_deref(), came.key("n").await),
                (Some("0"), None),
                "nothing is true"
            );
            let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap();
            let [found] = found.conflicts.as_slice() else { panic!("{found:?}") };
            let sides: Vec<(&str, &str)> = found
                .conflict
                .sides
                .iter()
                .map(|side| (side.name.as_str(), side.value.as_ref().unwrap().text.as_str()))
                .collect();
            assert_eq!((found.node.as_str(), found.conflict.key.as_str()), ("0/1", "plan/x"));
            assert_eq!((sides, found.conflict.resolved.as_deref()), (vec![("legal", "1"), ("cost", "2")], None));

            for (key, taken, says) in [
                ("plan/x", Taken::Branch("other".into()), "`legal`, `cost` did"),
                ("plan/y", Taken::Branch("cost".into()), "no branches of this run conflict"),
                ("n", Taken::Branch("cost".into()), "no branches of this run conflict"),
            ] {
                let refused = came.settle(&[(key, taken)]).await.unwrap_err();
                assert!(format!("{refused:?}").contains(says), "{refused:?}");
            }
            came.settle(&[("plan/x", taken)]).await.unwrap();
            assert_eq!(came.state().await, State::Completed);
            assert_eq!((came.key("plan/x").await.as_deref(), came.key("n").await.as_deref()), (Some(holds), Some("3")));
            assert_eq!(came.host.sandbox.ran().len(), 4, "no branch does its work again");
            let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap();
            assert_eq!(found.conflicts[0].conflict.resolved.as_deref(), Some("answer"));
        }
        // Nobody has said anything: it conflicts as before.
        let mut came = Came::of(&conflicting("{}")).await;
        came.settle(&[]).await.unwrap();
        assert_eq!(came.state().await, State::Failed);
    });
}

#[test]
fn of_many_conflicts_the_first_are_told_and_that_there_are_more() {
    in_paused_time(async {
        let puts = |value: u32| (0..60).map(|n| format!("[put, k{n:02}, {value}]")).collect::<Vec<_>>().join(", ");
        let branches: Vec<String> = (0..10).map(|n| does(&format!("b{n}"), &puts(n))).collect();
        let flow = format!("{{parallel: [{}], context: {{fork: [session]}}}}", branches.join(", "));
        let mut came = Came::of(&flow).await;
        assert!(came.failure().message.contains("59 more keys conflict"), "{}", came.failure());
        let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap();
        assert_eq!((found.conflicts.len(), found.more), (50, true));
        assert!(found.conflicts.iter().all(|found| found.conflict.sides.len() == 8), "of each so many sides");
        // One that is not told can be settled, too; and what was said of one once can be said anew.
        let keys: Vec<String> = (0..59).map(|n| format!("k{n:02}")).collect();
        let taken: Vec<(&str, Taken)> = keys.iter().map(|key| (key.as_str(), Taken::Value("1".into()))).collect();
        came.settle(&taken).await.unwrap();
        let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap();
        assert_eq!((found.conflicts.len(), found.more), (1, false), "{found:?}");
        came.settle(&[("k59", Taken::Branch("b3".into())), ("k00", Taken::Value("2".into()))]).await.unwrap();
        assert_eq!(came.state().await, State::Completed);
        let holds = [came.key("k00").await, came.key("k01").await, came.key("k59").await];
        assert_eq!(holds.map(Option::unwrap), ["2", "1", "3"]);
    });
}

#[test]
fn what_branches_look_at_and_change_together_has_a_bound() {
    in_paused_time(async {
        // Each item's work is 4 MiB; a guest that there is no room for is told so.
        let fill = agent("fill", |guest| async move {
            for number in 0..4 {
                let (key, value) = (format!("{}/{number}", guest.job.step), "x".repeat(1 << 20));
                let refused = |refusal| Failure::new(Code::AgentError, format!("{refusal:?}"));
                guest.put_if(key, value, Precondition::Any).await?.map_err(refused)?;
            }
            Ok(Payload::text("done"))
        });
        let flow = "{map: $.input, do: {agent: fill}, at-once: 1, tolerate: 2, context: {fork: [session]}}";
        let world = World::new([fill]);
        let host = world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, []);
        let items =
            |count: usize| Request { input: Payload::json(&json!(vec![0; count])), ..Request::workflow("flow") };
        let answer = host.ask(&items(17)).await.unwrap().unwrap();
        let done = answer.to_value().unwrap().as_array().unwrap().iter().filter(|gave| !gave.is_null()).count();
        assert_eq!(done, 15, "the sixteenth finds no room for its last MiB, and the next for nothing");
        let failures =
            host.journal(host.run().await.unwrap()).await.into_iter().filter_map(|placed| match placed.entry.event {
                Event::StepFailed { failure, .. } => Some(failure.message),
                _ => None,
            });
        let failures: Vec<String> = failures.collect();
        assert!(failures.iter().all(|why| why.contains("more than 67108864 bytes")), "{failures:?}");
    });
}

/// What was done in a run before it was forked was done before everything that is done in the fork, whatever that is.
#[test]
fn what_was_done_before_a_fork_of_the_run_was_done_first() {
    in_paused_time(async {
        for (waits, shows) in [
            ("{ask: {title: Well?, of: author}}", "asked"),
            ("{wait: {topic: news, match: {type: go}}}", "subscribed"),
            ("{workflow: other}", "child-started"),
        ] {
            let context = ", context: {fork: [session], merge: {\"*\": first}}";
            let flow = format!(
                "name: flow\nflow: {{parallel: {{done: {}, waits: {{sequence: [{}, {waits}]}}}}{context}}}\n---\n\
                 name: other\nflow: {{wait: 1m}}\n---\nname: tells\nflow: {{emit: {{topic: news, type: go}}}}",
                does("one", "[put, k, 1]"),
                does("two", "[put, k, 2]"),
            );
            let world = World::new(scripts(&Pace::none()));
            let host = world.host(&world.record(Some(&flow)).await, []);
            let request = |name| Request { input: Payload::json(&json!({})), key: None, ..Request::workflow(name) };
            let started = host.start(&request("flow")).await.unwrap();
            let shortly = || tokio::time::sleep(std::time::Duration::from_secs(1));
            shortly().await;
            let journal = host.journal(started.run).await;
            assert!(journal.iter().any(|placed| placed.entry.event.kind() == shows), "{waits}");
            let (from, changes) = (ForkFrom::Entry(None), Changes::default());
            let fork = ForkRequest { from, changes, idempotency: None, request_digest: Digest([7; 32]) };
            let forked = host.runs.fork(&caller(), started.run, fork).await.unwrap();
            shortly().await;
            let open = QuestionFilter { limit: 10, ..QuestionFilter::default() };
            for asked in host.runs.questions(&caller(), open).await.unwrap() {
                let given = ltmc_orchestration::Answer { answer: json!(1), comment: None };
                host.runs.answer(&caller(), asked.token, given).await.unwrap();
            }
            host.start(&request("tells")).await.unwrap();
            let shown = host.runs.wait(&caller(), &forked, Some(std::time::Duration::from_secs(600))).await.unwrap();
            let Some(answer) = shown else { panic!("{waits}: it waits for ever") };
            answer.unwrap();
            let memory = world.memory(&host.record).await;
            let key = |drawer: &Drawer| matches!(drawer, Drawer::Session(_));
            assert!(memory.iter().all(|((drawer, _), holds)| !key(drawer) || holds == "1"), "{memory:?}");
            let winners = host.journal(forked.run).await.into_iter().find_map(|placed| match placed.entry.event {
                Event::NodeDecided { decided: Decided::Joined { winners, .. }, .. } => Some(winners),
                _ => None,
            });
            assert_eq!(winners, Some(vec![0, 1]), "{waits}");
        }
    });
}

#[test]
fn a_fork_of_a_run_begins_runs_of_its_own_and_leaves_those_of_the_other_as_they_were() {
    in_paused_time(async {
        let flow =
            format!("name: flow\nflow: {{workflow: other}}\n---\nname: other\nflow: {}", does("fails", "[fail]"));
        let world = World::new(scripts(&Pace::none()));
        let host = world.host(&world.record(Some(&flow)).await, []);
        let request = Request { input: Payload::json(&json!({})), key: None, ..Request::workflow("flow") };
        let started = host.start(&request).await.unwrap();
        host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap_err();
        let before = host.children().await;
        let (from, changes) = (ForkFrom::Entry(None), Changes::default());
        let fork = ForkRequest { from, changes, idempotency: None, request_digest: Digest([7; 32]) };
        let forked = host.runs.fork(&caller(), started.run, fork).await.unwrap();
        host.runs.wait(&caller(), &forked, None).await.unwrap().unwrap().unwrap_err();
        let after = host.children().await;
        assert_eq!((before.len(), after.len()), (1, 2));
        assert!(after.iter().all(|child| *child == before[0]), "neither was resumed: {after:?}");
    });
}

#[test]
fn policies_take_what_they_say_of_keys_that_begin_so() {
    in_paused_time(async {
        let both = r#"[{"branch":"legal","value":1},{"branch":"cost","value":2}]"#;
        for (policy, holds) in [
            ("{\"plan/\": first}", "2"),
            ("{\"plan/\": last, \"*\": fail}", "1"),
            ("{\"plan/\": {prefer: [other, legal]}}", "1"),
            ("{\"*\": {prefer: [cost]}}", "2"),
            ("{\"plan/x\": keep-all, \"*\": first}", both),
        ] {
            let came = Came::of(&conflicting(policy)).await;
            came.value();
            assert_eq!(came.key("plan/x").await.as_deref(), Some(holds), "{policy}");
            let found = came.host.runs.conflicts(&caller(), came.run).await.unwrap();
            assert!(found.conflicts[0].conflict.resolved.is_some(), "{found:?}");
        }
        for policy in ["{\"plan/y\": first}", "{\"plan/\": {prefer: [other]}}"] {
            assert_eq!(Came::of(&conflicting(policy)).await.failure().code, Code::MergeConflict, "{policy}");
        }
        let handled = conflicting("{}")
            .replace("merge: {}}", "merge: {}}, on-error: [{do: {agent: do, id: h, with: $.error.code}}]");
        let came = Came::of(&handled).await;
        assert_eq!((came.value(), came.key("plan/x").await.as_deref()), (json!([]), Some("0")));
    });
}

#[test]
fn a_parent_that_moved_conflicts_unless_what_was_done_commutes() {
    in_paused_time(async {
        // Beside the fork somebody changes what its branches looked at.
        let flow = |outside: &str, inside: &str| {
            format!(
                "{{parallel: [{}, {{parallel: [{}, {}], context: {{fork: [session]}}}}]}}",
                does("outside", &format!("[wait, 10], {outside}")),
                does("one", &format!("[get, n], [wait, 30], {inside}")),
                does("two", "[get, other]"),
            )
        };
        let came = Came::of(&flow("[add, n, 5]", "[get, n], [add, n, 1]")).await;
        assert_eq!(came.value()[1][0][2], json!(null), "it sees what the fork began with");
        assert_eq!(came.key("n").await.as_deref(), Some("6"));
        let came = Came::of(&flow("[put, n, 5]", "[put, n, 6]")).await;
        assert!(came.failure().message.contains("changed outside"), "{}", came.failure());
        assert_eq!(came.key("n").await.as_deref(), Some("5"));
        let came = Came::of(&flow("[put, n, 5]", "[delete, n]")).await;
        came.value();
    });
}

#[test]
fn a_branch_that_fails_or_is_cancelled_leaves_nothing() {
    in_paused_time(async {
        let flow = format!(
            "{{parallel: [{}, {{sequence: [{}, {}]}}, {}], need: 1, context: {{fork: [session, messages]}}}}",
            does("wins", "[wait, 20], [append, log, wins], [send, wins]"),
            does("begins", "[append, log, begins], [put, x, 1], [send, begins]"),
            does("fails", "[fail]"),
            does("slow", "[append, log, slow], [send, slow], [wait, 90000], [get, log]"),
        );
        let came = Came::of(&flow).await;
        came.value();
        assert_eq!((came.key("log").await.as_deref(), came.key("x").await), (Some(r#"["wins"]"#), None));
        assert_eq!(came.news().await, ["wins"]);
        // One that comes to its end though it is not needed any more has done what it did.
        let finish = flow.replace("need: 1", "need: 1, on-loss: finish");
        let came = Came::of(&finish).await;
        assert_eq!(came.key("log").await.as_deref(), Some(r#"["wins","slow"]"#));
    });
}

#[test]
fn a_branch_that_is_begun_anew_leaves_nothing_of_its_first_try() {
    in_paused_time(async {
        let flow = format!(
            "{{parallel: [{{sequence: [{}, {}], retry: {{attempts: 3, on: [agent-error], backoff: 1ms}}}}, {}], context: {{fork: \
             [session]}}}}",
            does("counts", "[add, n, 1]"),
            "{agent: flaky}",
            does("other", "[add, n, 10]"),
        );
        let Case { request, document, mut scripts, .. } = case(&flow);
        scripts.push(agent("flaky", |guest| async move {
            if guest.job.attempt < 3 { Err(Failure::new(Code::AgentError, "not yet")) } else { Ok(Payload::text("")) }
        }));
        let world = World::new(scripts);
        let host = world.host(&world.record(document.as_deref()).await, []);
        host.ask(&request).await.unwrap().unwrap();
        let memory: Vec<String> = world.memory(&host.record).await.into_values().collect();
        assert_eq!(memory, ["11"]);
    });
}

/// A fork within a branch of another, and one for each item.
fn nested() -> String {
    format!(
        "{{sequence: [{}, {{parallel: [{{sequence: [{}, {{parallel: [{}, {}], context: {{fork: [session, messages]}}}}, {}]}}, {}, \
         {{map: [1, 2], do: {}, context: {{fork: [session]}}}}], context: {{fork: [session, messages]}}}}, {}]}}",
        does("first", "[put, n, 1]"),
        does("before", "[append, log, before], [add, n, 1]"),
        does("one", "[get, n], [append, log, one], [put, k, 1], [send, one]"),
        does("two", "[get, n], [append, log, two], [put, k, 1], [send, two]"),
        does("after", "[get, n], [get, log], [get, k], [list], [send, after]"),
        does("beside", "[append, log, beside], [add, n, 5], [get, k], [list], [send, beside]"),
        does("item", "[add, n, 10], [append, log, item]"),
        does("last", "[get, n], [get, log], [list]"),
    )
    .replace("map: [1, 2]", "map: $.input.items")
}

fn with_items(mut case: Case) -> Case {
    case.request.input = Payload::json(&json!({"items": [1, 2]}));
    case
}

#[test]
fn a_fork_within_a_branch_comes_together_into_that_branch() {
    in_paused_time(async {
        let Case { request, document, scripts, .. } = with_items(case(&nested()));
        let world = World::new(scripts);
        let host = world.host(&world.record(document.as_deref()).await, []);
        let given = host.ask(&request).await.unwrap().unwrap().to_value().unwrap();
        let log = r#"["before","one","two","beside","item","item"]"#;
        assert_eq!(given, json!(["27", log, ["k", "log", "n"]]));
        let journal = host.journal(host.run().await.unwrap()).await;
        let after = journal.iter().find_map(|placed| match &placed.entry.event {
            Event::StepCompleted { step, output, .. } if step.as_str() == "0/1/0/2" => Some(output.to_value().unwrap()),
            _ => None,
        });
        assert_eq!(after.unwrap(), json!(["2", r#"["before","one","two"]"#, "1", ["k", "log", "n"], true]));
        let came = Came { run: host.run().await.unwrap(), answer: Ok(Payload::text("")), world, host };
        assert_eq!(came.news().await, ["one", "two", "after", "beside"]);
    });
}

#[test]
fn crash_at_every_step_of_branches_with_a_context_of_their_own() {
    let flow = format!(
        "{{sequence: [{}, {{parallel: [{}, {}], context: {{fork: [session, messages]}}}}, {}]}}",
        does("first", "[put, n, 1], [put, gone, 1]"),
        does("one", "[add, n, 1], [append, log, one], [delete, gone], [send, one]"),
        does("two", "[wait, 3], [get, gone], [add, n, 1], [append, log, two], [list]"),
        does("last", "[get, n], [list]"),
    );
    crash_at_every_step(&case(&flow));
}

#[test]
fn crash_at_every_step_of_forks_within_forks() {
    crash_at_every_step_in(&with_items(case(&nested())), &[PLAIN, MODES[2]]);
}

#[test]
fn crash_at_every_step_of_a_conflict() {
    crash_at_every_step(&case(&conflicting("{\"*\": fail}")));
    crash_at_every_step_in(&case(&conflicting("{\"*\": keep-all}")), &[PLAIN]);
}

#[test]
fn crash_at_every_step_of_a_branch_that_fails() {
    let flow = format!(
        "{{map: $.input.items, do: {{sequence: [{}, {{choice: [{{when: {{pick: $.item, equals: 2}}, do: {}}}]}}]}}, tolerate: 1, context: \
         {{fork: [session, messages]}}}}",
        does("item", "[add, n, 10], [append, log, item], [send, item]"),
        does("fails", "[add, n, 1], [fail]"),
    );
    crash_at_every_step(&with_items(case(&flow)));
}

/// What begins runs in branches: a workflow, a plan, an agent's call.
fn that_begin_runs() -> String {
    format!(
        "{{sequence: [{}, {{parallel: [{{sequence: [{}, {{workflow: other, id: sub}}, {}]}}, {}, {{plan: {{agent: plans, may: [do]}}, id: \
         planned}}], context: {{fork: [session, messages]}}}}, {}]}}{OTHER}",
        does("first", "[put, n, 1]"),
        does("one", "[add, n, 1]"),
        does("after", "[get, n], [get, p], [append, log, 1]"),
        does("two", &format!("[add, n, 1], {}, [get, n], [append, log, 2]", calls())),
        does("last", "[get, n], [get, p], [list]"),
    )
}

#[test]
fn a_run_that_a_branch_begins_works_in_a_session_of_its_own() {
    in_paused_time(async {
        let came = Came::of(&that_begin_runs()).await;
        assert_eq!(came.value(), json!(["3", null, ["log", "n"]]), "nothing of what they did is in the session");
        assert_eq!(came.key("log").await.as_deref(), Some("[1,2]"));
        let given = |step: &str| {
            let (host, run, step) = (&came.host, came.run, step.to_owned());
            async move {
                let journal = host.journal(run).await;
                let found = journal.into_iter().find_map(|placed| match placed.entry.event {
                    Event::StepCompleted { step: of, output, .. } if of.as_str() == step => Some(output),
                    Event::ChildEnded { node, result, .. } if node.as_str() == step => result.ok(),
                    _ => None,
                });
                found.unwrap().to_value().unwrap()
            }
        };
        let child = json!([null, 100, null, [7]]);
        assert_eq!(given("0/1/0/1").await, child, "a workflow has its input alone");
        assert_eq!(given("0/1/0/2").await, json!(["2", null, [1]]), "its branch has what it gives alone");
        assert_eq!(given("0/1/1").await, json!([2, child, "2", [2]]), "an agent that is called");
        assert_eq!(given("0/1/2").await, child, "a plan");

        let of = RunFilter { parent: Some(came.run), limit: 10, ..RunFilter::default() };
        let children = came.host.record.runs(&tenant(), &of).await.unwrap();
        assert_eq!(children.len(), 3);
        for child in children {
            assert_eq!(child.session.to_string(), child.id.to_string());
        }
        // Behind the branches, and in branches that share the session, it is that of the run.
        for flow in [
            format!(
                "{{sequence: [{{parallel: [{}], context: {{fork: [session]}}}}, {{workflow: other}}]}}{OTHER}",
                does("a", "")
            ),
            format!("{{parallel: [{{workflow: other}}], context: {{fork: [messages]}}}}{OTHER}"),
        ] {
            let came = Came::of(&flow).await;
            assert_eq!(came.key("n").await.as_deref(), Some("100"), "{flow}");
        }
    });
}

#[test]
fn crash_at_every_step_of_branches_that_begin_runs() {
    crash_at_every_step_in(&case(&that_begin_runs()), &[PLAIN, MODES[3]]);
}

/// It ends with its branch, or goes on where its node says so; nothing of the branch is left either way.
#[test]
fn a_branch_that_is_cancelled_ends_its_run_as_the_node_says() {
    in_paused_time(async {
        for (on_parent_end, state) in [("cancel", State::Cancelled), ("abandon", State::Completed)] {
            let flow = format!(
                "{{parallel: [{{sequence: [{}, {{workflow: long, on-parent-end: {on_parent_end}}}]}}, {}], need: any, context: {{fork: \
                 [session]}}}}\n---\nname: long\nflow: {{sequence: [{}, {{wait: 1h}}, {}]}}",
                does("slow", "[put, lost, 1]"),
                does("fast", "[wait, 5000], [put, kept, 1]"),
                does("long", "[put, lost, 2]"),
                does("longer", "[put, lost, 3]"),
            );
            let came = Came::of(&flow).await;
            came.value();
            tokio::time::sleep(std::time::Duration::from_secs(7_200)).await;
            let of = RunFilter { parent: Some(came.run), limit: 10, ..RunFilter::default() };
            let [child] = &came.host.record.runs(&tenant(), &of).await.unwrap()[..] else { panic!("there is one") };
            assert_eq!(child.state, state, "{on_parent_end}");
            assert_eq!((came.key("lost").await, came.key("kept").await.as_deref()), (None, Some("1")));
        }
    });
}

/// What runs send that branches begin is theirs, and is sent at once; what the branch sends waits for the others.
#[test]
fn what_a_run_sends_that_a_branch_begins_is_not_held() {
    in_paused_time(async {
        let flow = format!(
            "{{parallel: [{{sequence: [{}, {{workflow: tells}}]}}, {}], context: {{fork: [session, messages]}}}}\n---\nname: \
             tells\nflow: {}",
            does("one", "[send, branch]"),
            does("two", "[wait, 5], [send, other]"),
            does("three", "[send, child]"),
        );
        let came = Came::of(&flow).await;
        came.value();
        assert_eq!(came.news().await, ["child", "branch", "other"]);
    });
}

/// A document of forks within forks, whose branches change a few keys.
fn random(seed: &mut u64, depth: u32, names: &mut u32) -> String {
    let mut draw = |most: u64| {
        *seed = drawn(*seed);
        (*seed >> 33) % most
    };
    if depth == 0 || draw(4) == 0 {
        *names += 1;
        if draw(8) == 0 {
            return format!("{{workflow: other, id: n{names}}}");
        }
        let keys = ["n", "log", "set", "doc", "p", "q"];
        let ops: Vec<String> = (0..1 + draw(4))
            .map(|_| {
                let value = draw(3);
                match draw(12) {
                    11 => calls(),
                    0 | 1 => format!("[add, n, {value}]"),
                    2 | 3 => format!("[append, log, {value}]"),
                    4 => format!("[unite, set, [{value}]]"),
                    5 => format!("[patch, doc, {{x{value}: 1}}]"),
                    6 => format!("[put, p, {value}]"),
                    7 if value == 0 => "[delete, q]".into(),
                    7 => "[put, q, 1]".into(),
                    8 => format!("[send, m{value}]"),
                    9 => "[list]".into(),
                    _ => format!("[get, {}]", keys[value as usize]),
                }
            })
            .collect();
        return does(&format!("n{names}"), &ops.join(", "));
    }
    let (kind, policy) = (draw(3), draw(5));
    let [one, two, three] = [(); 3].map(|()| random(seed, depth - 1, names));
    *names += 1;
    let settle = format!("{{agent: settle, id: s{names}}}");
    let policy = ["fail", "keep-all", "{prefer: [x]}", &settle, &settle][policy as usize];
    match kind {
        0 => format!("{{sequence: [{one}, {two}]}}"),
        _ => format!(
            "{{parallel: {{x: {one}, y: {two}, z: {three}}}, context: {{fork: [session, messages], merge: {{p: keep-all, \"*\": {policy}}}}}, \
             on-failure: continue}}"
        ),
    }
}

/// The same bytes, whoever is faster, and wherever the host dies.
#[expect(clippy::disallowed_methods, reason = "the proof by hand looks at more of them than CI")]
#[test]
fn what_comes_of_forks_does_not_depend_on_who_is_faster() {
    let times: u64 = std::env::var("LTMC_TEST_INTERLEAVINGS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let (documents, mut outcomes, mut settled) = (10, [0, 0], 0);
    for document in 0..documents {
        let mut seed = document * 7_919 + 3;
        let body = random(&mut seed, 3, &mut 0);
        let first = does("first", "[put, n, 1], [put, q, 1], [append, log, 0]");
        let flow = format!("{{sequence: [{first}, {body}]}}{OTHER}");
        let of = |pace: Pace, crashes: &[Crash]| in_paused_time(play(&paced(&flow, &pace), PLAIN, crashes));
        let first = of(Pace::none(), &[]);
        outcomes[usize::from(first.answer.is_ok())] += 1;
        settled += usize::from(first.memory.values().any(|value| value.contains("\"given\"")));
        for time in 0..times.div_ceil(documents) {
            let ways: Vec<_> = every_way().collect();
            let (how, left) = ways[(time % 4) as usize];
            let crash = Crash { at: 1 + time % 9, how, left };
            let crashes: &[Crash] = if time % 3 == 0 { &[crash] } else { &[] };
            let played = of(Pace::of(time * 31 + document), crashes);
            let how = format!("{time}: {crashes:?} of {flow}");
            let without_ids = |answer: &Answer| answer.clone().map_err(|failure| failure.code);
            assert_eq!(without_ids(&played.answer), without_ids(&first.answer), "{how}");
            assert_eq!(played.memory, first.memory, "{how}");
        }
    }
    eprintln!("{} completed, {} conflicted, {settled} settled", outcomes[1], outcomes[0]);
    assert!(outcomes[1] >= 3 && settled >= 1, "{outcomes:?}, {settled}");
}

/// All that branches did is one entry: whoever cancels the run around it finds all of it, or nothing.
#[test]
fn who_cancels_while_branches_come_together_finds_all_of_it_or_nothing() {
    let branches = [does("one", "[add, n, 1], [send, a]"), does("two", "[add, n, 1], [put, p, 7]")];
    let [one, two] = branches;
    let context = "context: {fork: [session, messages]}";
    let document = format!(
        "name: flow\nflow: {{sequence: [{{parallel: [{one}, {two}], {context}}}, {}]}}",
        does("after", "[wait, 30]")
    );
    let mut came = std::collections::BTreeSet::new();
    for millis in (0..300).step_by(7) {
        in_paused_time(async {
            let world = World::new(scripts(&Pace::none()));
            let record = world.record(Some(&document)).await;
            let host = world.host_over(Line::to(&record, []).with_lag(Duration::from_millis(20)));
            let started = host.start(&Request::workflow("flow")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let cancelled = host.runs.cancel(&caller(), started.run).await;
            host.runs.wait(&caller(), &started, None).await.unwrap();
            let state = host.runs.get(&caller(), started.run).await.unwrap().state;
            let journal = host.journal(started.run).await;
            let is_merged = journal.iter().any(|placed| matches!(placed.entry.event, Event::ContextMerged(_)));
            let memory = world.memory(&record).await;
            let holds = |key: &str| memory.get(&(Drawer::Session(session()), key.to_owned())).map(String::as_str);
            let news = memory.keys().filter(|(_, key)| key.starts_with("news/")).count();
            let (n, p) = (holds("n"), holds("p"));
            let whole = if is_merged { (Some("2"), Some("7"), 1) } else { (None, None, 0) };
            assert_eq!((n, p, news), whole, "cancelled after {millis} ms: {cancelled:?}");
            came.insert((is_merged, state.as_str()));
            if state == State::Cancelled {
                host.runs.resume(&caller(), started.run).await.unwrap();
                host.ask(&Request::workflow("flow")).await.unwrap().unwrap();
                let memory = world.memory(&record).await;
                let n = memory.get(&(Drawer::Session(session()), "n".to_owned())).map(String::as_str);
                assert_eq!(n, Some("2"), "it is done once, whoever goes on with it: {millis} ms");
            }
        });
    }
    for wanted in [(false, "cancelled"), (true, "cancelled"), (true, "completed")] {
        assert!(came.contains(&wanted), "{wanted:?} is none of {came:?}");
    }
}
