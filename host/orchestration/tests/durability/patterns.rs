//! Every pattern and modifier: what it comes to, and that a host which dies anywhere in it changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ltmc_model::call::coordination::HandOff;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Decided, Event};
use ltmc_model::memory::Drawer;
use ltmc_model::run::State;
use ltmc_model::{Payload, Timestamp};
use ltmc_orchestration::StartRequest;
use ltmc_ports::testing::sample;
use serde_json::{Value, json};

use crate::crash::{Case, Crash, PLAIN, Played, compare, crash_at_every_step, every_way, play};
use crate::drawn::{Of, STARTED, drawn};
use crate::guest::{Guest, Script, agent, may_pass, validator};
use crate::host::{Answer, Host, Request, World, caller, in_paused_time};
use crate::story::Story;

/// Keeps to what is its own, so that it gives the same whoever is at work beside it.
pub(crate) async fn own(guest: Guest) -> Result<Payload, Failure> {
    let step = guest.job.step.to_string().replace('/', "-");
    let count = guest.count(&format!("count/{step}")).await?;
    guest.compute(2).await;
    guest.log(format!("counted {count}")).await?;
    guest.put(format!("seen/{step}"), guest.job.attempt).await?;
    let on = guest.job.input.to_value().map_err(|why| Failure::new(Code::AgentError, why))?;
    Ok(Payload::json(&json!({"step": step, "count": count, "on": on})))
}

/// Gives its input.
async fn pass(guest: Guest) -> Result<Payload, Failure> {
    Ok(guest.job.input.clone())
}

fn input(guest: &Guest) -> Value {
    guest.job.input.to_value().unwrap_or_default()
}

/// Every agent that documents here name.
pub(crate) fn scripts() -> Vec<Script> {
    let slow = |guest: Guest| async move {
        guest.put(format!("slow/{}", guest.job.step.to_string().replace('/', "-")), "begun").await?;
        guest.compute(3_600_000).await;
        Ok(Payload::text("late"))
    };
    // Fails at first, and counts its tries on however often its node is begun anew.
    let flaky = |guest: Guest| async move {
        if guest.job.attempt < 3 {
            return Err(Failure::new(Code::AgentError, "not yet"));
        }
        own(guest).await
    };
    let plus_one = |guest: Guest| async move {
        let n = input(&guest).as_u64().unwrap_or(0);
        guest.count(&format!("rounds/{}", guest.job.step.to_string().replace('/', "-"))).await?;
        Ok(Payload::json(&json!(n + 1)))
    };
    let odd = |guest: Guest| async move {
        let n = input(&guest).as_u64().unwrap_or(0);
        if n.is_multiple_of(2) { Err(Failure::new(Code::AgentError, format!("{n} is even"))) } else { own(guest).await }
    };
    let bad = |_: Guest| async move { Err(Failure::new(Code::AgentError, "bad")) };
    // In a debate: how many turns it was told of, and who spoke last.
    let say = |guest: Guest| async move {
        guest.count(&format!("said/{}", guest.job.step.to_string().replace('/', "-"))).await?;
        let given = input(&guest);
        let turns = given["turns"].as_array().cloned().unwrap_or_default();
        let after = turns.last().map(|turn| turn["agent"].clone());
        Ok(Payload::json(&json!({"n": turns.len(), "after": after})))
    };
    // The second, the first, the first, and then the end.
    let chair = |guest: Guest| async move {
        let given = input(&guest);
        let next = [Some(1), Some(0), Some(0)].into_iter().nth(given["turns"].as_array().map_or(0, Vec::len)).flatten();
        Ok(Payload::json(&json!({"next": next.map(|next: usize| given["among"][next].clone())})))
    };
    let text = |_: Guest| async move { Ok(Payload::text("hello")) };
    let planner = |_: Guest| async move {
        Ok(Payload::json(&json!({"name": "planned", "flow": {"sequence": [{"agent": "pass"}]}})))
    };
    // Hands what it holds to `keep`, where it holds anything; who keeps it gives what it was given.
    let hand = |guest: Guest| async move {
        guest.count(&format!("handed/{}", guest.job.step.to_string().replace('/', "-"))).await?;
        let to = HandOff { to: "keep".parse().unwrap(), reason: "it is yours".into(), passed: None };
        let _ = guest.cross(to).await?;
        Ok(guest.job.input.clone())
    };
    let keep = |guest: Guest| async move { Ok(guest.job.input.clone()) };
    let approve = validator("approve", |_| async { Ok(Vec::new()) });
    let mut scripts = vec![agent("pass", pass), agent("slow", slow), agent("flaky", flaky), agent("bad", bad)];
    scripts.extend([agent("plus-one", plus_one), agent("odd", odd), approve]);
    scripts.extend([agent("say", say), agent("chair", chair), agent("text", text), agent("planner", planner)]);
    scripts.extend([agent("hand", hand), agent("keep", keep)]);
    scripts.extend(["a", "b", "c", "d"].map(|name| agent(name, own)));
    scripts
}

pub(crate) fn request(input: Value) -> Request {
    Request { input: Payload::json(&input), ..Request::workflow("flow") }
}

pub(crate) fn case(flow: &str, input: Value) -> Case {
    let document = Some(format!("name: flow\nflow: {flow}"));
    Case { request: request(input), document, scripts: scripts(), side_by_side: true }
}

async fn host(flow: &str) -> (World, Host) {
    let world = World::new(scripts());
    let host = world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, []);
    (world, host)
}

/// What an undisturbed run gives.
fn answer(flow: &str, input: Value) -> Answer {
    in_paused_time(async { host(flow).await.1.ask(&request(input)).await.unwrap() })
}

fn value(flow: &str, input: Value) -> Value {
    answer(flow, input).unwrap().to_value().unwrap()
}

fn failure(flow: &str, input: Value) -> Failure {
    answer(flow, input).unwrap_err()
}

#[test]
fn a_node_whose_when_does_not_hold_is_skipped_and_passes_on_its_input() {
    let flow =
        "{sequence: [{agent: plus-one}, {agent: bad, when: {pick: $.steps.plus-one.output, less: 2}}, {agent: pass}]}";
    assert_eq!(value(flow, json!(1)), 2);
    assert_eq!(failure(flow, json!(0)).code, Code::AgentError);
    let nothing = "{agent: a, when: {pick: $.input.x, exists: true}}";
    assert_eq!(value(nothing, json!({"y": 1})), json!({"y": 1}), "a run of which all is skipped gives its input");
    let or_else = "{sequence: [{agent: a, when: {pick: $.input, equals: 1}}, {agent: pass, with: {got: {pick: \
                   $.steps.a.output.count, else: none}}}]}";
    assert_eq!(value(or_else, json!(1))["got"], 1);
    assert_eq!(value(or_else, json!(2))["got"], "none");
}

#[test]
fn branches_run_side_by_side_and_no_fast_one_waits_for_a_slow_one() {
    in_paused_time(async {
        let flow = "{parallel: [{agent: slow}, {sequence: [{agent: a}, {agent: b}, {agent: c}]}]}";
        let (_, host) = host(flow).await;
        let started = host.start(&request(json!(0))).await.unwrap();
        assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(1))).await.unwrap(), None);
        let ended = Story::of(&host.journal(started.run).await).ended;
        let ended: Vec<&str> = ended.iter().map(|(step, ..)| step.as_str()).collect();
        assert_eq!(ended, ["0/1/0", "0/1/1", "0/1/2"], "while the slow one is at its first step");
        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert_eq!(host.runs.alive(), 0, "nothing hangs");
    });
}

#[test]
fn branches_give_a_list_or_an_object() {
    let steps = |value: Value| value.as_array().unwrap().iter().map(|v| v["step"].clone()).collect::<Vec<_>>();
    assert_eq!(steps(value("{parallel: [{agent: b}, {agent: a}]}", json!(0))), ["0-0", "0-1"]);
    let named = value("{parallel: {x: {agent: b}, y: {agent: a}}}", json!(7));
    assert_eq!((&named["x"]["step"], &named["y"]["on"]), (&json!("0-0"), &json!(7)));
    let skipped = "{parallel: [{agent: pass}, {agent: a, when: {pick: $.input, equals: 1}}], collect: object}";
    assert_eq!(value(skipped, json!(7)), json!({"pass": 7}));
    let listed = "{parallel: {x: {agent: pass}, y: {agent: a, when: {pick: $.input, equals: 1}}}, collect: list}";
    assert_eq!(value(listed, json!(7)), json!([7, null]));
}

#[test]
fn an_agent_makes_one_of_what_branches_gave_and_is_told_what_failed() {
    let flow = "{parallel: {x: {sequence: [{wait: 1h}, {agent: text}]}, y: {agent: bad}, z: {agent: pass, when: {pick: $.input, equals: 1}}}, \
                need: any, collect: {agent: pass, id: editor}}";
    let failure = json!({"code": "agent-error", "message": "bad", "agent-code": null});
    let wanted = json!([
        {"branch": "x", "content-type": Payload::text("").content_type, "output": "hello"},
        {"branch": "y", "failure": failure},
        {"branch": "z", "skipped": true},
    ]);
    assert_eq!(value(flow, json!(7)), wanted);
    let items = value("{map: $.input, do: {agent: odd}, tolerate: 1, collect: {agent: pass}}", json!([1, 2]));
    assert_eq!((&items[0]["branch"], &items[0]["output"]["on"]), (&json!("0"), &json!(1)));
    assert_eq!(items[1]["failure"]["message"], "2 is even");
    assert_eq!(value("{map: $.input, do: {agent: odd}, collect: {agent: pass}}", json!([])), json!([]));
    let judged = "{parallel: [{agent: pass}], collect: {agent: plus-one, retry: {attempts: 2, on: [validation-failed]}, validate: \
                  {json-schema: {type: string}}, fallback: [{agent: pass, id: p, with: $.input}]}, id: one}";
    assert_eq!(value(judged, json!(7)), 7, "it is a step like others");
    let picked = "{sequence: [{parallel: {x: {agent: plus-one}}, id: one, collect: {agent: pass, with: $.steps.plus-one.output}}, \
                  {agent: pass, id: p, with: {one: $.steps.one.output, by: $.steps.pass.output}}]}";
    assert_eq!(value(picked, json!(7)), json!({"one": 8, "by": 8}));
    let skipped = "{parallel: [{agent: pass}], collect: {agent: bad, when: {pick: $.input, equals: 1}}}";
    assert_eq!(value(skipped, json!(7)), json!([7]), "where it is skipped it is as if nothing was said");
    assert_eq!(
        self::failure("{parallel: [{agent: pass}], collect: {agent: bad}}", json!(7)).step.unwrap().as_str(),
        "0/10001"
    );
}

#[test]
fn objects_are_merged_in_the_order_of_their_branches() {
    let flow = "{parallel: {x: {sequence: [{wait: 1h}, {agent: pass, with: {a: 1, b: {c: 1, d: 2}, e: 1}}]}, y: {agent: pass, id: p, with: \
                {b: {c: null, f: 3}, e: {pick: $.input.none, else: null}}}, z: {agent: bad, when: {pick: $.input.x, equals: 1}}}, \
                collect: merge}";
    assert_eq!(value(flow, json!({})), json!({"a": 1, "b": {"d": 2, "f": 3}}));
    let failure = failure("{parallel: {x: {agent: pass, with: {}}, y: {agent: text}}, collect: merge}", json!(7));
    assert_eq!(failure.code, Code::BadStep);
    assert!(
        failure.message.contains("`collect: merge` takes an object") && failure.message.contains("`y`"),
        "{failure}"
    );
    assert_eq!(
        value("{map: $.input, do: {agent: pass}, collect: merge}", json!([{"a": 1}, {"a": 2, "b": 3}])),
        json!({"a": 2, "b": 3})
    );
    assert_eq!(value("{map: $.input, do: {agent: pass}, collect: merge}", json!([])), json!({}));
}

#[test]
fn branches_vote() {
    let flow = |more: &str| format!("{{map: $.input, do: {{agent: pass}}, collect: {{vote: /l{more}}}}}");
    let bug = json!([{"l": "bug"}, {"l": "wish"}, {"l": "bug"}]);
    let counts = json!([{"value": "bug", "votes": 2}, {"value": "wish", "votes": 1}]);
    assert_eq!(value(&flow(""), bug.clone()), json!({"value": "bug", "votes": 2, "of": 3, "counts": counts}));
    let of_four = json!([{"l": 1}, {"l": 1.0}, {"l": 2}, {"x": 1}]);
    assert_eq!(value(&flow(", rule: plurality"), of_four.clone())["value"], 1);
    for (rule, input) in
        [("majority", of_four), ("unanimous", bug), ("plurality", json!([{"l": 1}, {"l": 2}])), ("majority", json!([]))]
    {
        let failure = failure(&flow(&format!(", rule: {rule}")), input.clone());
        assert_eq!(failure.code, Code::NoMajority, "{rule}: {failure}");
        let tie = flow(&format!(", rule: {rule}, tie: {{agent: text}}"));
        let said = value(&tie, input);
        assert_eq!((&said["value"], &said["votes"]), (&json!("hello"), &json!(0)));
    }
    in_paused_time(async {
        let (_, host) = host(&flow(", rule: plurality")).await;
        host.ask(&request(json!([{"l": 1}, {"l": 2}, {"l": 2}]))).await.unwrap().unwrap();
        let run = host.run().await.unwrap();
        let voted = host.journal(run).await.into_iter().find_map(|placed| match placed.entry.event {
            Event::NodeDecided { decided: Decided::Voted { counts, of, is_won }, .. } => Some((counts, of, is_won)),
            _ => None,
        });
        let (counts, of, is_won) = voted.expect("the votes are a fact");
        assert_eq!((counts[0].value.clone(), counts[0].votes, of, is_won), (json!(2), 2, 3, true));
        let view = host.runs.get(&caller(), run).await.unwrap();
        assert_eq!(view.nodes[0].votes, counts);
    });
}

#[test]
fn agents_debate_in_turn_and_one_closes_it() {
    let flow =
        |more: &str| format!("{{debate: {{among: [{{agent: say, id: pro}}, {{agent: say, id: con}}], {more}}}}}");
    assert_eq!(value(&flow("rounds: 2"), json!("x")), json!({"n": 3, "after": "pro"}), "what was said last");
    let closed = value(&flow("rounds: 2, close: {agent: pass}"), json!("x"));
    let said: Vec<&Value> = closed["turns"].as_array().unwrap().iter().map(|turn| &turn["agent"]).collect();
    assert_eq!(said, ["pro", "con", "pro", "con"]);
    assert_eq!((&closed["input"], &closed["among"]), (&json!("x"), &json!(["pro", "con"])));
    let until = flow("rounds: 9, until: {pick: $.last.n, at-least: 2}");
    assert_eq!(value(&until, json!("x"))["n"], 2);
    let of_the_turn = flow("rounds: 9, until: {pick: $.steps.con.output.n, else: 0, at-least: 2}");
    assert_eq!(value(&of_the_turn, json!("x"))["n"], 3, "the other's turn of this number");
    let led = value(&flow("rounds: 9, next: {agent: chair}, close: {agent: pass}"), json!("x"));
    let said: Vec<&Value> = led["turns"].as_array().unwrap().iter().map(|turn| &turn["agent"]).collect();
    assert_eq!(said, ["con", "pro", "pro"], "until the chair ends it");
    let nobody = failure(&flow("rounds: 9, next: {agent: text}"), json!("x"));
    assert!(nobody.code == Code::BadStep && nobody.message.contains("one of `pro`, `con`"), "{nobody}");
    let passes =
        "{debate: {among: [{agent: say, when: {pick: $.input, equals: 1}}, {agent: say, id: con}], rounds: 2}, id: d}";
    assert_eq!(value(passes, json!(7)), json!({"n": 1, "after": "con"}), "one that is skipped passes");
    let silent = "{sequence: [{agent: pass}, {debate: {among: [{agent: say, when: {pick: $.input, equals: 1}}, {agent: say, id: con, when: \
                  {pick: $.input, equals: 1}}], rounds: 2}}]}";
    assert_eq!(value(silent, json!(7)), 7, "where nobody speaks it is skipped");
}

#[test]
fn crash_at_every_step_of_what_makes_one_of_much() {
    for (flow, input) in [
        (
            "{parallel: {x: {agent: a}, y: {agent: bad}, z: {agent: b}}, need: 2, on-failure: continue, collect: {agent: flaky, retry: {attempts: 3, \
             on: [agent-error], backoff: 10ms}, validate: {agent: approve}, compensate: {agent: c}}, id: one}",
            json!(0),
        ),
        ("{map: $.input, do: {agent: odd}, tolerate: 2, collect: {agent: a}, at-once: 1}", json!([1, 2, 3])),
        (
            "{sequence: [{parallel: [{agent: a}, {agent: b}], collect: {agent: bad, fallback: [{agent: c}], compensate: {agent: pass}}}, {agent: bad, \
             id: late}]}",
            json!(0),
        ),
        (
            "{parallel: {x: {agent: a}, y: {agent: b}}, collect: merge, validate: {json-schema: {required: [step]}}}",
            json!(0),
        ),
        ("{parallel: [{agent: a}, {agent: b}], collect: {vote: /step, rule: plurality, tie: {agent: c}}}", json!(0)),
        ("{parallel: [{agent: a}, {agent: b}], collect: {vote: /count}, id: voted, timeout: 9h}", json!(0)),
        (
            "{debate: {among: [{agent: say, id: pro}, {agent: say, id: con, compensate: {agent: c}}], rounds: 2, close: {agent: a}}, id: d}",
            json!(0),
        ),
        (
            "{sequence: [{debate: {among: [{agent: say, id: pro}, {agent: flaky, retry: {attempts: 3, on: [agent-error], backoff: 5ms}}], next: \
             {agent: chair}, rounds: 3, until: {pick: $.last.n, at-least: 7}}}, {agent: bad, fallback: [{agent: b}]}]}",
            json!(0),
        ),
    ] {
        eprintln!("{flow}");
        crash_at_every_step(&case(flow, input));
    }
}

#[test]
fn the_need_decides_and_a_failure_below_it_stays_handled() {
    let of_three =
        |need: &str| format!("{{parallel: [{{agent: bad}}, {{agent: pass}}, {{agent: pass, id: p}}], need: {need}}}");
    for need in ["2", "{share: 0.66}", "{share: 0.5}"] {
        assert_eq!(value(&of_three(need), json!(7)), json!([null, 7, 7]), "{need}");
    }
    for need in ["all", "3", "{share: 0.67}"] {
        let failure = failure(&of_three(need), json!(7));
        assert_eq!((failure.code, failure.step.unwrap().as_str()), (Code::AgentError, "0/0"), "{need}");
    }
}

/// What was decided in one round of a loop says nothing of the next.
#[test]
fn any_in_a_loop_fires_in_each_round() {
    let flow = "{loop: {parallel: [{agent: slow}, {agent: plus-one}], need: any, collect: first}, at-most: 3}";
    assert_eq!(value(flow, json!(4)), 7);
}

#[test]
fn a_failure_that_is_handled_inside_a_branch_fails_nothing_outside_of_it() {
    for handled in [
        "fallback: [{agent: plus-one}]",
        "on-error: [{when: {pick: $.error.code, exists: true}, do: {agent: plus-one, with: $.input}}]",
    ] {
        let flow =
            format!("{{parallel: {{x: {{agent: bad, {handled}}}, y: {{sequence: [{{wait: 1s}}, {{agent: pass}}]}}}}}}");
        assert_eq!(value(&flow, json!(7)), json!({"x": 8, "y": 7}), "{handled}");
    }
}

#[test]
fn who_loses_is_cancelled_and_what_it_did_never_was() {
    in_paused_time(async {
        let (world, host) = host("{parallel: [{agent: slow}, {agent: pass}], need: any}").await;
        let begun = tokio::time::Instant::now();
        let answer = host.ask(&request(json!(7))).await.unwrap().unwrap();
        assert_eq!(answer.to_value().unwrap(), json!([null, 7]));
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(world.memory(&host.record).await.is_empty());
        let story = Story::of(&host.journal(host.run().await.unwrap()).await);
        assert!(story.ended.iter().any(|(step, _, code)| step.as_str() == "0/0" && *code == Some(Code::Cancelled)));
    });
}

#[test]
fn who_loses_comes_to_its_end_where_the_document_says_so() {
    in_paused_time(async {
        let (world, host) = host("{parallel: [{agent: a}, {agent: pass}], need: any, on-loss: finish}").await;
        let answer = host.ask(&request(json!(7))).await.unwrap().unwrap();
        assert_eq!(answer.to_value().unwrap(), json!([null, 7]));
        assert_eq!(world.memory(&host.record).await.len(), 2);
    });
}

#[test]
fn a_failure_cancels_the_others_or_lets_them_end() {
    for (on_failure, kept) in [("stop", 0), ("continue", 2)] {
        in_paused_time(async {
            let flow = format!("{{parallel: [{{agent: bad}}, {{agent: a}}], on-failure: {on_failure}}}");
            let (world, host) = host(&flow).await;
            host.ask(&request(json!(7))).await.unwrap().unwrap_err();
            assert_eq!(world.memory(&host.record).await.len(), kept, "{on_failure}");
        });
    }
}

#[test]
fn an_aggregate_is_judged() {
    let flow = |schema: &str| format!("{{parallel: [{{agent: pass}}], validate: {{json-schema: {schema}}}}}");
    assert_eq!(value(&flow("{maxItems: 1}"), json!(7)), json!([7]));
    let failure = failure(&flow("{maxItems: 0}"), json!(7));
    assert_eq!((failure.code, failure.step.unwrap().as_str()), (Code::ValidationFailed, "0"));
    assert_eq!(value("{parallel: [{agent: pass}], validate: {agent: approve}}", json!(7)), json!([7]));
}

#[test]
fn of_a_choice_the_first_that_holds_is_done() {
    let flow = "{choice: [{when: {pick: $.input, less: 5}, do: {agent: plus-one}}, {when: {pick: $.input, less: 10}, do: \
                {agent: pass}}, {else: {agent: bad}}]}";
    assert_eq!(value(flow, json!(3)), 4);
    assert_eq!(value(flow, json!(7)), 7);
    assert_eq!(failure(flow, json!(12)).step.unwrap().as_str(), "0/2");
    let none = "{sequence: [{agent: pass}, {choice: [{when: {pick: $.input, equals: 1}, do: {agent: bad}}]}]}";
    assert_eq!(value(none, json!(7)), 7, "one of which nothing holds passes on its input");
}

#[test]
fn a_map_does_the_same_for_every_item() {
    assert_eq!(value("{map: $.input, do: {agent: plus-one}}", json!([5, 6, 7])), json!([6, 7, 8]));
    assert_eq!(value("{map: $.input.list, do: {agent: bad}}", json!({"list": []})), json!([]));
    let named = "{map: $.input, as: row, do: {map: $.item.row, as: cell, do: {agent: pass, with: {c: $.item.cell.v, i: \
                 $.index.cell, r: $.index.row}}}}";
    let found = value(named, json!([[{"v": 1}], [{"v": 2}, {"v": 3}]]));
    assert_eq!(found[1][1], json!({"v": 3, "c": 3, "i": 1, "r": 1}));
    let same_item =
        "{map: $.input, do: {sequence: [{agent: plus-one}, {agent: a}, {agent: pass, with: $.steps.plus-one.output}]}}";
    assert_eq!(value(same_item, json!([1, 5])), json!([2, 6]), "a step picks from its own item");
}

#[test]
fn a_map_tolerates_so_many_failures() {
    let flow = |tolerate: &str| format!("{{map: $.input, do: {{agent: odd}}, tolerate: {tolerate}}}");
    for tolerate in ["1", "{share: 0.34}"] {
        let found = value(&flow(tolerate), json!([1, 2, 3]));
        assert_eq!((&found[0]["on"], &found[1]), (&json!(1), &Value::Null));
        let failure = failure(&flow(tolerate), json!([1, 2, 4]));
        assert!(failure.message.contains("2 of 3 items failed") && failure.message.contains("2 is even"), "{failure}");
    }
}

#[test]
fn a_map_over_what_is_no_list_or_too_long_says_so() {
    let wrong = |input| failure("{map: $.input.x, do: {agent: pass}}", input);
    for (input, words) in [
        (json!({"x": {"a": 1}}), "an object with a, and no list"),
        (json!({}), "`$.input.x` is not there"),
        (json!({"x": vec![0; 10_001]}), "a list of more than 10000 items"),
    ] {
        let failure = wrong(input);
        assert!(failure.code == Code::BadStep && failure.message.contains(words), "{failure}");
        assert_eq!(failure.step.unwrap().as_str(), "0");
    }
}

/// Looking at all of them each time one is over took minutes.
#[test]
fn a_map_over_as_many_items_as_there_may_be_is_done() {
    let begun = std::time::Instant::now();
    let found = value("{map: $.input, do: {agent: pass}}", json!((0..10_000).collect::<Vec<_>>()));
    assert_eq!(found.as_array().unwrap().len(), 10_000);
    assert_eq!(found[9_999], 9_999);
    // It took minutes when what was open was looked for among all items.
    assert!(begun.elapsed() < Duration::from_secs(60), "10,000 items took {:?}", begun.elapsed());
}

#[test]
fn a_map_has_so_many_items_under_way_and_no_more() {
    in_paused_time(async {
        let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (n, m) = (now.clone(), most.clone());
        let counted = agent("counted", move |guest| {
            let (now, most) = (n.clone(), m.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                guest.compute(10).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(Payload::text(""))
            }
        });
        let world = World::new([counted]);
        let document = "name: flow\nflow: {map: $.input, do: {agent: counted}, at-once: 3}";
        let host = world.host(&world.record(Some(document)).await, []);
        host.ask(&request(json!(vec![0; 20]))).await.unwrap().unwrap();
        assert_eq!(most.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_loop_ends_where_it_should() {
    let until = "{loop: {agent: plus-one}, until: {pick: $.steps.plus-one.output, at-least: 3}, at-most: 5}";
    assert_eq!(value(until, json!(0)), 3);
    assert_eq!(value("{loop: {agent: plus-one}, at-most: 4}", json!(0)), 4, "without `until` all rounds are made");
    let last = "{loop: {agent: plus-one}, until: {pick: $.last, at-least: 2}, at-most: 5}";
    assert_eq!(value(last, json!(0)), 2);
    let rounds = "{loop: {agent: pass, with: {n: $.round, before: {pick: $.last.n, else: none}}}, at-most: 3}";
    assert_eq!(value(rounds, json!({})), json!({"n": 3, "before": 2}));
    let exhausted = "{loop: {agent: plus-one}, until: {pick: $.last, at-least: 9}, at-most: 2}";
    assert_eq!(failure(exhausted, json!(0)).code, Code::LoopExhausted);
    let stalled = "{loop: {agent: pass}, until: {pick: $.last, at-least: 9}, at-most: 9, stall: 3}";
    let failure = failure(stalled, json!(0));
    assert!(failure.code == Code::LoopStalled && failure.message.contains("after 3 rounds"), "{failure}");
}

#[test]
fn what_takes_too_long_is_cancelled_and_handled() {
    let plain = failure("{agent: slow, timeout: 10s}", json!(0));
    assert_eq!((plain.code, plain.step.unwrap().as_str()), (Code::TimedOut, "0"));
    let handled = "{sequence: [{agent: a}, {agent: slow}], timeout: 10s, on-error: [{when: {pick: $.error.code, in: \
                   [timed-out]}, do: {agent: pass, with: $.error.code}}]}";
    assert_eq!(value(handled, json!(0)), "timed-out");
    let in_a_branch = "{parallel: [{agent: slow, timeout: 10s}, {agent: pass}], need: 1}";
    assert_eq!(value(in_a_branch, json!(7)), json!([null, 7]));
    let rounds = "{loop: {agent: slow}, at-most: 3, timeout: 1m, fallback: [{agent: pass}]}";
    assert_eq!(value(rounds, json!(7)), 7);
}

#[test]
fn what_fails_is_done_by_others_in_order() {
    let flow = "{agent: bad, id: x, fallback: [{agent: bad, id: y}, {agent: plus-one}]}";
    assert_eq!(value(flow, json!(1)), 2);
    let picked =
        "{sequence: [{agent: bad, id: x, fallback: [{agent: plus-one}]}, {agent: pass, with: $.steps.x.output}]}";
    assert_eq!(value(picked, json!(1)), 2, "what stands in for it is picked under its name");
    let handlers = "{agent: bad, on-error: [{when: {pick: $.error.message, equals: good}, do: {agent: slow}}, {when: {pick: \
                    $.error.message, equals: bad}, do: {agent: pass, with: {was: $.error}}}]}";
    let was = value(handlers, json!({}));
    assert_eq!((&was["was"]["code"], &was["was"]["step"]), (&json!("agent-error"), &json!("0")));
    let none = "{agent: bad, on-error: [{when: {pick: $.error.code, equals: x}, do: {agent: slow}}]}";
    assert_eq!(failure(none, json!(0)).message, "bad", "it fails as its own work did");
    let rejected = "{agent: pass, validate: {json-schema: {type: string}}, fallback: [{agent: plus-one}]}";
    assert_eq!(value(rejected, json!(1)), 2);
}

/// On a try after a rejection a step can be told what was wrong.
const TOLD: &str = "{agent: pass, with: {hint: {pick: $.rejected.message, else: none}, code: {pick: $.rejected.code, else: none}}, \
                    validate: {json-schema: {properties: {hint: {minLength: 10}}}}, retry: {attempts: 3, on: [validation-failed], backoff: 1ms}}";

#[test]
fn a_step_is_told_what_was_wrong_with_what_it_gave_before() {
    let gave = value(TOLD, json!({}));
    let hint = gave["hint"].as_str().unwrap();
    assert!(hint.contains("hint") && gave["code"] == "validation-failed", "{gave}");
}

#[test]
fn a_node_is_begun_anew_with_everything_below_it() {
    in_paused_time(async {
        let flow =
            "{sequence: [{agent: a}, {agent: flaky}], retry: {attempts: 3, on: [agent-error], backoff: 1m, max: 1m}}";
        let (_, host) = host(flow).await;
        let begun = tokio::time::Instant::now();
        let answer = host.ask(&request(json!(7))).await.unwrap().unwrap().to_value().unwrap();
        assert_eq!(answer["on"]["count"], 3, "what it did before was done again");
        assert!(begun.elapsed() > Duration::from_secs(1));
        let flow = "{sequence: [{agent: flaky}], retry: {attempts: 3}}";
        assert_eq!(self::host(flow).await.1.ask(&request(json!(7))).await.unwrap().unwrap_err().message, "not yet");
    });
    let rejected = "{agent: flaky, retry: {attempts: 4, on: [agent-error, validation-failed]}, validate: {json-schema: \
                    {properties: {count: {minimum: 2}}}}}";
    assert_eq!(value(rejected, json!(7))["count"], 2, "one that was rejected may be done again");
}

#[test]
fn a_wait_is_over_when_it_was_said_and_passes_on_what_it_was_given() {
    in_paused_time(async {
        let (_, host) = host("{sequence: [{agent: plus-one}, {wait: 2h, id: pause}, {agent: plus-one, id: x}]}").await;
        let begun = tokio::time::Instant::now();
        let started = host.start(&request(json!(1))).await.unwrap();
        assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(1))).await.unwrap(), None);
        assert_eq!(host.runs.alive(), 0, "it is a row");
        let view = host.runs.get(&caller(), started.run).await.unwrap();
        assert_eq!((view.state, view.nodes[0].pattern, view.nodes[0].status), (State::Waiting, "wait", "waiting"));
        assert!(view.nodes[0].due_at.is_some());
        let answer = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
        assert_eq!(answer.unwrap().to_value().unwrap(), 3);
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(7_200) && took < Duration::from_secs(7_220), "{took:?}");
    });
    for flow in [
        "{wait: 0s}",
        "{wait: 0s, with: $.input, id: x}",
        "{wait: {until: {pick: $.input.at, else: 2026-01-01T00:00:00Z}}}",
    ] {
        assert_eq!(value(flow, json!({"y": 1})), json!({"y": 1}), "{flow}");
    }
    let first = "{parallel: [{sequence: [{wait: 10s}, {agent: pass}]}, {wait: 5s}, {agent: slow}], need: any}";
    assert_eq!(value(first, json!(7)), json!([null, 7, null]), "one that is over first");
    let late = "{sequence: [{wait: 1h}, {agent: a}], timeout: 1m, on-error: [{do: {agent: pass, with: $.error.code}}]}";
    assert_eq!(value(late, json!(7)), "timed-out");
}

#[test]
fn what_is_emitted_is_published_once_and_what_was_given_is_passed_on() {
    in_paused_time(async {
        let flow = "{sequence: [{agent: plus-one}, {emit: {topic: news, type: counted, subject: $.input.of, data: {now: \
                    $.steps.plus-one.output}}}, {emit: {topic: news, type: again}}]}";
        let (world, host) = host(flow).await;
        let answer = host.ask(&request(json!({"of": "x"}))).await.unwrap().unwrap();
        assert_eq!(answer.to_value().unwrap(), 1);
        let published: Vec<String> =
            world.memory(&host.record).await.into_values().filter(|v| v.starts_with('/')).collect();
        assert_eq!(published, ["/workflows/flow counted Some(\"x\") {\"now\":1}", "/workflows/flow again None 1"]);
        let by = ltmc_model::caller::Caller { role: ltmc_model::caller::Role::Caller, ..caller() };
        let start = StartRequest {
            workflow: "flow".parse().unwrap(),
            input: Payload::json(&json!({})),
            session: None,
            idempotency: None,
            request_digest: ltmc_model::Digest::of(b""),
            traceparent: None,
        };
        let refused = host.runs.start(&by, start).await;
        assert!(
            matches!(refused, Err(ltmc_tenancy::Error::Denied { .. })),
            "who may not publish starts nobody who does"
        );
    });
    let flow = |subject: &str| format!("{{emit: {{topic: news, type: t, subject: {subject}}}}}");
    for (subject, words) in [("$.input", "`$.input` is none"), ("$.input.x", "is not there")] {
        let failure = failure(&flow(subject), json!(7));
        assert!(failure.code == Code::BadStep && failure.message.contains(words), "{failure}");
    }
    let large = failure("{emit: {topic: news, type: t}}", json!("x".repeat(257 << 10)));
    assert!(large.code == Code::BadStep && large.message.contains("at most 262144 bytes"), "{large}");
}

#[test]
fn a_wait_until_what_is_no_time_or_too_far_away_says_so() {
    let until = |at: Value| answer("{wait: {until: $.input.at}}", json!({"at": at}));
    for (at, words) in [
        (json!("tomorrow"), "`tomorrow` is not a time"),
        (json!(7), "is no text"),
        (json!("2326-01-01T00:00:00Z"), "more than a year away"),
        (json!("1970-01-01T00:00:00Z"), "more than a year away"),
    ] {
        let failure = until(at).unwrap_err();
        assert!(failure.code == Code::BadStep && failure.message.contains(words), "{failure}");
    }
    assert!(answer("{wait: {until: $.input.at}}", json!({})).unwrap_err().message.contains("is not there"));
    let shortly_before = Timestamp::from_millis(sample::at(0).millis() - 1_000).to_string();
    assert_eq!(until(json!(shortly_before)).unwrap().to_value().unwrap()["at"], shortly_before);
}

#[test]
fn a_run_that_is_resumed_waits_until_the_time_it_waited_for() {
    in_paused_time(async {
        let (_, host) = host("{sequence: [{wait: 2h}, {agent: pass}]}").await;
        let begun = tokio::time::Instant::now();
        let started = host.start(&request(json!(1))).await.unwrap();
        assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(3_600))).await.unwrap(), None);
        host.runs.cancel(&caller(), started.run).await.unwrap();
        host.runs.resume(&caller(), started.run).await.unwrap();
        host.ask(&request(json!(1))).await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(7_220), "{:?}", begun.elapsed());
    });
}

#[test]
fn crash_at_every_step_of_every_pattern() {
    for (flow, input) in [
        (
            "{sequence: [{agent: a, when: {pick: $.input, equals: 1}}, {agent: b}, {agent: c, when: {not: {pick: $.input, equals: 1}}}]}",
            json!(1),
        ),
        ("{sequence: [{parallel: {x: {agent: a}, y: {sequence: [{agent: b}, {agent: c}]}}}, {agent: d}]}", json!(0)),
        ("{parallel: [{agent: slow}, {agent: a}], need: any, validate: {json-schema: {type: array}}}", json!(0)),
        ("{parallel: [{agent: bad}, {agent: a}, {agent: b}], need: 2, id: three}", json!(0)),
        ("{parallel: [{agent: a}, {agent: bad}], on-failure: continue}", json!(0)),
        ("{choice: [{when: {pick: $.input, equals: 1}, do: {agent: a}}, {else: {agent: b}}], id: either}", json!(0)),
        ("{map: $.input, do: {sequence: [{agent: odd}, {agent: a}]}, at-once: 2, tolerate: 1}", json!([1, 2, 3])),
        (
            "{loop: {sequence: [{agent: plus-one}, {agent: a, when: {pick: $.round, equals: 2}}, {agent: pass, with: $.steps.plus-one.output}]}, \
          until: {pick: $.last, at-least: 3}, at-most: 5}",
            json!(0),
        ),
        (
            "{sequence: [{agent: a}, {agent: slow}], timeout: 10s, on-error: [{do: {agent: b, with: $.error.code}}]}",
            json!(0),
        ),
        ("{agent: bad, fallback: [{agent: bad, id: other}, {agent: a}]}", json!(0)),
        (TOLD, json!({})),
        ("{sequence: [{need: plus one, among: [plus-one, pass], at-least: 0.1, id: who}, {agent: a}]}", json!(0)),
        ("{sequence: [{agent: a}, {agent: flaky}], retry: {attempts: 3, on: [agent-error], backoff: 10ms}}", json!(0)),
    ] {
        eprintln!("{flow}");
        crash_at_every_step(&case(flow, input));
    }
}

#[test]
fn crash_at_every_step_of_what_waits_asks_and_tells() {
    for (flow, input) in [
        ("{sequence: [{agent: a}, {ask: {title: Well?, of: author, show: $.steps.a.output}}, {agent: b}]}", json!(0)),
        (
            // It is asked once the other branch waits: what of it comes before the answer is not left to who is faster.
            "{parallel: [{sequence: [{wait: 1m}, {ask: {title: Either?, of: author}}]}, {sequence: [{wait: 2h}, {agent: b}]}], need: any, id: \
             first}",
            json!(0),
        ),
        ("{sequence: [{agent: a}, {wait: 1h}, {agent: b}]}", json!(0)),
        (
            // When an event came differs by what the crash took.
            "{parallel: [{sequence: [{wait: {topic: news, match: {type: go, subject: $.input}, where: {pick: $.event.data, at-least: 2}, \
             since: run}, id: second}, {agent: pass, with: $.steps.second.output.data}]}, {sequence: [{agent: a}, {emit: {topic: news, type: \
             go, subject: $.input, data: 1}}, {emit: {topic: news, type: go, subject: $.input, data: 2}}]}, {sequence: [{wait: {topic: news}, \
             id: any, timeout: 1h, fallback: [{agent: b}]}, {agent: pass, id: last, with: $.steps.any.output.data}]}]}",
            json!("x"),
        ),
        (
            "{sequence: [{agent: a}, {emit: {topic: news, type: a.done, data: {on: $.input}}}, {agent: b}], retry: {attempts: 2}}",
            json!(0),
        ),
        (
            "{map: $.input, do: {emit: {topic: news, type: item, subject: $.item}, id: e}, at-once: 1}",
            json!(["x", "y"]),
        ),
        (
            "{parallel: [{wait: 2h, timeout: 1h}, {sequence: [{wait: 0s}, {agent: b}]}], need: any, on-loss: finish}",
            json!(0),
        ),
    ] {
        eprintln!("{flow}");
        crash_at_every_step(&case(flow, input));
    }
}

/// How many documents are drawn.
#[expect(clippy::disallowed_methods, reason = "the proof by hand has more documents than CI")]
pub(crate) fn documents() -> u64 {
    std::env::var("LTMC_TEST_DOCUMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// What was published stands in a topic as it came: branches publish side by side.
fn in_no_order(mut played: Played) -> Played {
    let is_news = |(drawer, key): &(Drawer, String)| *drawer == Drawer::Global && key.starts_with("news/");
    let keys: Vec<(Drawer, String)> = played.memory.keys().filter(|key| is_news(key)).cloned().collect();
    let mut news: Vec<String> = keys.iter().filter_map(|key| played.memory.get(key).cloned()).collect();
    news.sort();
    played.memory.extend(keys.into_iter().zip(news));
    played
}

#[test]
fn nested_documents_come_out_the_same_wherever_the_host_dies() {
    let (documents, mut outcomes) = (documents(), [0, 0]);
    for number in 0..documents {
        let mut seed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 7;
        let flow = drawn(Of::Everything, &mut seed, 5);
        let case = case(&flow, json!({"n": 3, "list": [1, 2, 3]}));
        let case = Case { document: case.document.map(|document| format!("{document}\n---\n{STARTED}")), ..case };
        let undisturbed = in_no_order(in_paused_time(play(&case, PLAIN, &[])));
        outcomes[usize::from(undisturbed.answer.is_ok())] += 1;
        for (round, (how, left)) in every_way().enumerate() {
            let at = 1 + (seed >> (round * 7)) % [7, 20, 40, 20][round];
            let crash = Crash { at, how, left };
            let played = in_no_order(in_paused_time(play(&case, PLAIN, &[crash])));
            compare(&played, &undisturbed, &format!("{number}: {crash:?} of {flow}"));
        }
    }
    eprintln!("{} completed, {} failed", outcomes[1], outcomes[0]);
    assert!(outcomes.iter().all(|count| *count > documents / 10), "{outcomes:?}");
}

#[test]
fn a_resumed_run_makes_the_failed_branch_again_and_no_other() {
    in_paused_time(async {
        let is_well = Arc::new(AtomicBool::new(false));
        let well = is_well.clone();
        let sick = agent("sick", move |guest| {
            let is_well = well.load(Ordering::SeqCst);
            async move { if is_well { own(guest).await } else { Err(may_pass("sick")) } }
        });
        for (flow, again) in [
            ("{parallel: [{agent: a}, {sequence: [{agent: b}, {agent: sick}]}], on-failure: continue}", "0/1/1"),
            (
                "{map: $.input, do: {choice: [{when: {pick: $.item, equals: 2}, do: {agent: sick}}, {else: {agent: a}}]}, at-once: 1}",
                "0/1/0",
            ),
            ("{loop: {sequence: [{agent: a}, {agent: sick, when: {pick: $.round, equals: 2}}]}, at-most: 3}", "0/1/1"),
            ("{sequence: [{agent: bad, fallback: [{agent: a}]}, {agent: sick}]}", "0/1"),
            ("{map: $.input, do: {agent: odd}, tolerate: 1, collect: {agent: sick}, at-once: 1}", "0/10001"),
            ("{debate: {among: [a, {agent: b}], rounds: 1, close: {agent: sick}}}", "0/10001"),
            (
                "{sequence: [{agent: a}, {agent: sick}], on-error: [{when: {pick: $.error.code, equals: x}, do: {agent: b}}]}",
                "0/1",
            ),
        ] {
            is_well.store(false, Ordering::SeqCst);
            let mut all = scripts();
            all.push(sick.clone());
            let world = World::new(all);
            let host = world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, []);
            let request = request(json!([1, 2, 3]));
            assert_eq!(host.ask(&request).await.unwrap().unwrap_err().code, Code::AgentError, "{flow}");
            let before = host.sandbox.ran();
            is_well.store(true, Ordering::SeqCst);
            host.runs.resume(&caller(), host.run().await.unwrap()).await.unwrap();
            host.ask(&request).await.unwrap().unwrap();
            let ran = host.sandbox.ran();
            let attempts: Vec<_> =
                ran.iter().filter(|(step, _)| before.iter().any(|(known, _)| known == step)).collect();
            let twice: Vec<_> =
                attempts.iter().filter(|(_, attempt)| *attempt > 1).map(|(step, _)| step.as_str()).collect();
            assert_eq!(twice, [again], "{flow}: {ran:?}");
        }
    });
}

#[test]
fn a_cancelled_run_of_branches_leaves_nothing_and_goes_on_once_it_is_resumed() {
    in_paused_time(async {
        let flow = "{parallel: [{agent: a}, {agent: slow}, {agent: bad, retry: {attempts: 2, on: [agent-error], backoff: 1h, max: 1h}}]}";
        let (_, host) = host(flow).await;
        let started = host.start(&request(json!(0))).await.unwrap();
        assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(1))).await.unwrap(), None);
        host.runs.cancel(&caller(), started.run).await.unwrap();
        assert_eq!(
            (host.runs.alive(), host.runs.get(&caller(), started.run).await.unwrap().state),
            (0, State::Cancelled)
        );
        host.runs.resume(&caller(), started.run).await.unwrap();
        let answer = host.ask(&request(json!(0))).await.unwrap();
        assert_eq!(answer.unwrap_err().code, Code::AgentError);
        let story = Story::of(&host.journal(started.run).await);
        assert_eq!(
            story.begun.iter().filter(|(step, _)| step.as_str() == "0/0").count(),
            1,
            "what was done stays done"
        );
    });
}

#[test]
fn what_was_decided_is_in_the_journal_and_shown() {
    in_paused_time(async {
        let flow = "{sequence: [{parallel: [{sequence: [{agent: a}, {agent: b}]}, {agent: pass}]}, {choice: [{when: {pick: $.input, \
                    equals: 7}, do: {agent: c}}]}, {agent: d, when: {pick: $.input, less: 7}}]}";
        let (_, host) = host(flow).await;
        host.ask(&request(json!(7))).await.unwrap().unwrap();
        let run = host.run().await.unwrap();
        let journal = host.journal(run).await;
        let joined = journal.iter().find_map(|placed| match &placed.entry.event {
            Event::NodeDecided { decided: Decided::Joined { winners, .. }, .. } => Some(winners.clone()),
            _ => None,
        });
        assert_eq!(joined, Some(vec![1, 0]), "in the order in which they were done");
        let view = host.runs.get(&caller(), run).await.unwrap();
        let shown: Vec<_> = view.steps.iter().map(|step| (step.path.as_str(), step.status)).collect();
        let done = ["0/0/0/0", "0/0/0/1", "0/0/1", "0/1/0"].map(|path| (path, "completed"));
        assert_eq!(shown, [&done[..], &[("0/2", "skipped")]].concat());
        let nodes: Vec<_> = view.nodes.iter().map(|node| (node.path.as_str(), node.pattern, node.status)).collect();
        assert_eq!(nodes[..1], [("0/0", "parallel", "completed")]);
        assert_eq!(view.nodes.iter().find(|node| node.pattern == "choice").unwrap().option, Some(0));
    });
}

#[test]
fn what_fails_is_tried_as_often_as_is_said_and_then_done_otherwise() {
    let retry = "retry: {attempts: 3, backoff: 1ms, on: [agent-error]}";
    for (flow, tried, instead) in [
        (format!("{{agent: bad, {retry}}}"), "0", None),
        (format!("{{sequence: [{{agent: bad}}], {retry}}}"), "0/0", None),
        (format!("{{agent: bad, {retry}, fallback: [{{agent: a}}]}}"), "0", Some("0/11000")),
        (format!("{{sequence: [{{agent: bad}}], {retry}, fallback: [{{agent: a}}]}}"), "0/0", Some("0/11000")),
        (format!("{{sequence: [{{agent: bad}}], {retry}, on-error: [{{do: {{agent: a}}}}]}}"), "0/0", Some("0/12000")),
    ] {
        in_paused_time(async {
            let (_, host) = host(&flow).await;
            let answer = host.ask(&request(json!(7))).await.unwrap();
            assert_eq!(answer.is_ok(), instead.is_some(), "{flow}: {answer:?}");
            let ran: Vec<String> = host.sandbox.ran().into_iter().map(|(step, _)| step.to_string()).collect();
            let wanted: Vec<&str> = std::iter::repeat_n(tried, 3).chain(instead).collect();
            assert_eq!(ran, wanted, "{flow}");
        });
    }
}

const SHAPES: &str = "{sequence: [{agent: pass, id: given}, {choice: [\
    {when: {pick: $.steps.given.output, json-schema: {type: object, required: [text]}}, do: {agent: pass, id: one, with: {is: text}}}, \
    {when: {not: {any: [{pick: $.input, json-schema: {type: object}}, {pick: $.input.no, else: 1, json-schema: {type: string}}]}}, do: {agent: pass, id: two, with: {is: other}}}, \
    {else: {agent: pass, id: three, with: {is: object}}}]}]}";

#[test]
fn what_is_picked_is_held_against_a_schema_by_conditions() {
    for (given, is) in [
        (json!({"text": "a"}), "text"),
        (json!([1]), "other"),
        (json!({"number": 1}), "object"),
        (json!("text"), "other"),
    ] {
        let came = value(SHAPES, given.clone());
        assert_eq!(came["is"], is, "{given}");
    }
    let nothing = "{sequence: [{agent: pass, when: {pick: $.input.no, json-schema: true}, with: {done: true}}, {agent: pass, id: then}]}";
    assert_eq!(value(nothing, json!(7)), json!(7), "what is not there fits nothing");
    let rounds = "{loop: {agent: plus-one}, until: {pick: $.last, json-schema: {minimum: 5}}, at-most: 9}";
    assert_eq!(value(rounds, json!(1)), json!(5));
}

#[test]
fn crash_at_every_step_of_a_choice_by_schemas() {
    crash_at_every_step(&case(SHAPES, json!({"number": 1})));
}

/// Agents are found by what their names say.
fn found(flow: &str) -> (World, String) {
    let fails = |_: Guest| async move { Err(Failure::new(Code::AgentError, "no")) };
    let world = World::new([
        agent("summarise-contracts", own),
        agent("summarise-long-contracts", fails),
        agent("translate-texts", own),
        validator("summarise-validator", |_| async { Ok(Vec::new()) }),
    ]);
    (world, format!("name: flow\nflow: {flow}"))
}

#[test]
fn who_fits_best_does_what_is_needed_and_who_fails_at_it_fits_less() {
    in_paused_time(async {
        let (world, document) = found("{need: summarise long contracts, id: n}");
        let host = world.host(&world.record(Some(&document)).await, []);
        let chosen = async |key: &str| {
            let request = Request { key: Some(key.into()), ..request(json!(0)) };
            let answer = host.ask(&request).await.unwrap();
            let journal = host.journal(host.start(&request).await.unwrap().run).await;
            let found = journal.into_iter().find_map(|placed| match placed.entry.event {
                Event::NodeDecided { decided: Decided::Agent { agent, candidates }, .. } => Some((agent, candidates)),
                _ => None,
            });
            let (agent, candidates) = found.unwrap();
            (agent.name.to_string(), candidates, answer)
        };
        let (first, candidates, answer) = chosen("0").await;
        assert_eq!((first.as_str(), answer.is_err()), ("summarise-long-contracts", true));
        assert_eq!(candidates.len(), 4);
        let validator = candidates.iter().find(|one| one.agent.as_str() == "summarise-validator").unwrap();
        assert!(validator.refused.as_ref().unwrap().contains("nothing that can be called"));
        let mut last = String::new();
        for number in 1..20 {
            last = chosen(&number.to_string()).await.0;
        }
        assert_eq!(last, "summarise-contracts", "after it had failed again and again");
    });
}

#[test]
fn where_nobody_fits_that_is_said_and_handled() {
    in_paused_time(async {
        let among = "{need: summarise contracts, among: [translate-texts], at-least: 0.9, id: n}";
        let (world, document) = found(among);
        let host = world.host(&world.record(Some(&document)).await, []);
        let failure = host.ask(&request(json!(0))).await.unwrap().unwrap_err();
        assert_eq!(failure.code, Code::NoCandidate);
        assert!(failure.message.contains("`translate-texts` fits by 0."), "{failure}");
        let (world, document) = found(&among.replace("id: n", "fallback: [{agent: translate-texts}]"));
        let host = world.host(&world.record(Some(&document)).await, []);
        host.ask(&request(json!(0))).await.unwrap().unwrap();
    });
}
