//! Where things come from: what steps work on is journaled when they begin, the same over every crash; and what depends on a step is
//! found by it.

use std::time::Duration;

use ltmc_model::journal::Event;
use ltmc_model::run::State;
use ltmc_model::{RunId, StepPath};
use ltmc_orchestration::{Changes, ForkFrom, ForkRequest};
use serde_json::json;

use crate::crash::crash_at_every_step;
use crate::host::{Host, World, caller, in_paused_time};
use crate::patterns::{case, request, scripts};

/// Two steps side by side, a map over what one of them gave, a choice by the other, and a child that works on all.
const FLOW: &str = "{sequence: [\
    {parallel: [{agent: a}, {agent: b}], id: both},\
    {map: $.steps.a.output.on.list, as: n, do: {agent: c}, id: each},\
    {choice: [{when: {pick: $.steps.b.output.count, at-least: 1}, do: {agent: d, with: {from: $.steps.each.output}}}]},\
    {workflow: child, with: {of: $.steps.both.output}}]}";

async fn host(flow: &str) -> (World, Host) {
    let world = World::new(scripts());
    let documents = format!("name: child\nflow: {{agent: pass}}\n---\nname: flow\nflow: {flow}");
    let host = world.host(&world.record(Some(&documents)).await, []);
    (world, host)
}

/// What each step, and each node that begins a run, was journaled to need.
async fn needs(host: &Host, run: RunId) -> Vec<(String, String)> {
    let text = |needs: &[StepPath]| needs.iter().map(StepPath::to_string).collect::<Vec<_>>().join(" ");
    let told = |event: &Event| match event {
        Event::StepStarted { step, needs, version, .. } => {
            assert!(version.is_some(), "{step} is done by a version that is not told");
            Some((step.to_string(), text(needs)))
        }
        Event::ChildStarted { node, needs, .. } => Some((node.to_string(), text(needs))),
        _ => None,
    };
    let mut told: Vec<_> = host.journal(run).await.iter().filter_map(|placed| told(&placed.entry.event)).collect();
    told.sort();
    told
}

/// Steps that depend on one, each with its distance.
async fn dependents(host: &Host, run: RunId, step: &str) -> String {
    let page = host.runs.dependents(&caller(), run, step, 32, (0, 100)).await.unwrap();
    let told: Vec<String> = page.items.iter().map(|one| format!("{}:{}", one.step, one.distance)).collect();
    assert!(!page.cut && !page.degraded && page.count == told.len());
    told.join(" ")
}

#[test]
fn what_a_step_works_on_and_was_decided_by_is_journaled() {
    in_paused_time(async {
        let (_, host) = host(FLOW).await;
        let started = host.start(&request(json!({"list": [1, 2]}))).await.unwrap();
        host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        let expected = [
            ("0/0/0", ""),
            ("0/0/1", ""),
            ("0/1/0", "0/0/0"),
            ("0/1/1", "0/0/0"),
            ("0/2/0", "0/0/1 0/1"),
            ("0/3", "0/0 0/2/0"),
        ];
        let expected: Vec<_> = expected.iter().map(|(step, needs)| (step.to_string(), needs.to_string())).collect();
        assert_eq!(needs(&host, started.run).await, expected);
        let run = started.run;
        assert_eq!(dependents(&host, run, "a").await, "0/1/0:1 0/1/1:1 0/3:1 0/2/0:2");
        assert_eq!(dependents(&host, run, "b").await, "0/2/0:1 0/3:1");
        assert_eq!(dependents(&host, run, "0/1/1").await, "0/2/0:1 0/3:2");
        assert_eq!(dependents(&host, run, "d").await, "0/3:1");
        let page = host.runs.dependents(&caller(), run, "a", 1, (2, 1)).await.unwrap();
        assert_eq!((page.count, page.items.len(), page.items[0].step.to_string()), (3, 1, "0/3".to_owned()));
        let child = page.items[0].began.unwrap();
        let row = host.runs.get(&caller(), child).await.unwrap();
        assert_eq!((row.state, row.parent.map(|parent| parent.run)), (State::Completed, Some(run)));
        let c = host.runs.runs_of(&caller(), &"c".parse().unwrap(), None, 10).await.unwrap();
        assert_eq!(c.runs.iter().map(|(run, _)| run.id).collect::<Vec<_>>(), [run]);
        let of_child = host.runs.runs_of(&caller(), &"pass".parse().unwrap(), None, 10).await.unwrap();
        assert_eq!(of_child.runs[0].0.id, child);
    });
}

#[test]
fn what_is_asked_wrongly_is_said() {
    in_paused_time(async {
        let (_, host) = host("{map: $.input, as: n, do: {agent: a}}").await;
        let started = host.start(&request(json!([1, 2]))).await.unwrap();
        host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        let wrong = async |step: &str, depth| {
            host.runs.dependents(&caller(), started.run, step, depth, (0, 10)).await.unwrap_err().to_string()
        };
        assert!(wrong("nobody", 32).await.contains("there is no step `nobody`"));
        assert!(wrong("a", 32).await.contains("more than one item or round"));
        assert!(wrong("0/7/7/7", 32).await.contains("nothing at 0/7/7/7"));
        assert!(wrong("0/0", 0).await.contains("`depth` is 1 to 32"));
    });
}

#[test]
fn a_loop_s_round_needs_the_one_before_and_a_fork_what_it_was_forked_from() {
    in_paused_time(async {
        let flow = "{sequence: [{loop: {agent: plus-one}, at-most: 3, id: again}, \
                    {agent: a, with: {n: $.steps.again.output}}, {agent: b}]}";
        let (_, host) = host(flow).await;
        let started = host.start(&request(json!(1))).await.unwrap();
        host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(dependents(&host, started.run, "0/0/0").await, "0/0/1:1 0/0/2:2 0/1:3 0/2:4");
        let from = ForkFrom::Step { step: "b".into(), cancel: false };
        let request_digest = ltmc_model::Digest::of(b"fork");
        let fork = ForkRequest { from, changes: Changes::default(), idempotency: None, request_digest };
        let forked = host.runs.fork(&caller(), started.run, fork).await.unwrap();
        host.runs.wait(&caller(), &forked, Some(Duration::from_secs(60))).await.unwrap().unwrap().unwrap();
        assert_eq!(dependents(&host, forked.run, "0/0/2").await, "0/1:1 0/2:2");
        assert_eq!(needs(&host, forked.run).await, [("0/2".to_owned(), "0/1".to_owned())]);
    });
}

#[test]
fn a_crash_anywhere_changes_nothing_of_it() {
    crash_at_every_step(&case("{sequence: [{agent: a}, {agent: b, with: {x: $.steps.a.output.count}}]}", json!(1)));
}
