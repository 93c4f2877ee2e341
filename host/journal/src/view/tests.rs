//! What people are shown of a run, from its journal.

use ltmc_model::journal::{Amended, Amendment, Decided, Entry, Event, Placed, RunStarted, Semantics};
use ltmc_model::run::{TakenUp, Usage};
use ltmc_model::{Epoch, Payload, RunId};

use super::*;

const AT: Timestamp = Timestamp::from_millis(1_000);

fn by() -> KeyId {
    "abcdefghijkl".parse().unwrap()
}

fn path(path: &str) -> StepPath {
    path.parse().unwrap()
}

fn started(step: &str) -> Event {
    let (step, needs) = (path(step), Vec::new());
    Event::StepStarted { step, attempt: 1, agent: None, version: None, needs, transaction: true }
}

fn completed(step: &str) -> Event {
    let (step, output) = (path(step), Payload::text("out"));
    Event::StepCompleted { step, attempt: 1, output, usage: Usage::default() }
}

fn view(flow: &str, events: &[Event]) -> RunView {
    let document = Document::parse(&format!("name: w\nflow: {flow}"), None).unwrap();
    let target = Target::Workflow("w".parse().unwrap());
    let started = RunStarted {
        target: target.clone(),
        agents: BTreeMap::new(),
        document: Some(document.to_json().into()),
        document_digest: Some(Digest::of(b"")),
        input: Payload::default(),
        session: "s".parse().unwrap(),
        by: by(),
        seed: [0; 32],
        traceparent: None,
        position: None,
        scheduled: None,
        follows: None,
        turn: None,
        semantics: Semantics::CURRENT,
        forked: None,
        parent: None,
    };
    let mut outline = Outline::default();
    for event in [Event::RunStarted(Box::new(started))].iter().chain(events) {
        let entry = Entry { at: AT, event: event.clone() };
        outline.apply(RunId::ledger(), Placed { seq: outline.history.seq().next(), entry });
    }
    let run = Run {
        tenant: "acme".parse().unwrap(),
        id: RunId::ledger(),
        target,
        state: outline.history.state(),
        session: "s".parse().unwrap(),
        by: by(),
        created_at: AT,
        updated_at: AT,
        epoch: Epoch(1),
        seq: outline.history.seq(),
        parent: None,
        turn: None,
        wakes_at: None,
        taken_up: TakenUp::default(),
    };
    RunView::new(&run, &outline, &[])
}

/// How its steps stand, and then its other nodes.
fn stands(view: &RunView) -> Vec<(String, &'static str)> {
    let steps = view.steps.iter().map(|step| (step.path.to_string(), step.status));
    steps.chain(view.nodes.iter().map(|node| (node.path.to_string(), node.status))).collect()
}

fn are(stands: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    stands.iter().map(|(path, stands)| ((*path).to_owned(), *stands)).collect()
}

#[test]
fn what_a_choice_did_not_take_is_skipped_and_it_is_over_with_what_it_took() {
    let flow =
        "{sequence: [{choice: [{when: {pick: $.input, equals: 1}, do: {agent: a}}, {else: {agent: b}}]}, {agent: c}]}";
    let taken = Event::NodeDecided { node: path("0/0"), decided: Decided::Option(Some(1)) };
    let mut events = vec![taken, started("0/0/1")];
    let wanted = [("0/0/0", "skipped"), ("0/0/1", "running"), ("0/1", "pending"), ("0/0", "running")];
    assert_eq!(stands(&view(flow, &events)), are(&wanted));
    events.extend([completed("0/0/1"), started("0/1"), completed("0/1")]);
    events.push(Event::RunCompleted { step: path("0/1") });
    let wanted = [("0/0/0", "skipped"), ("0/0/1", "completed"), ("0/1", "completed"), ("0/0", "completed")];
    assert_eq!(stands(&view(flow, &events)), are(&wanted));
}

#[test]
fn nothing_runs_or_is_to_come_in_a_run_that_is_over_and_nothing_runs_in_one_that_is_paused() {
    let flow =
        "{sequence: [{sequence: [{agent: a, validate: {agent: v}}, {wait: 1h, id: w}], timeout: 2h}, {agent: c}]}";
    let until = AT.after(std::time::Duration::from_secs(7_200));
    let mut events = vec![Event::NodeStarted { node: path("0/0"), until }, started("0/0/0")];
    let paused = Event::RunPaused { by: Some(by()), failure: None };
    let view_of = |last: &Event, events: &[Event]| stands(&view(flow, &[events, std::slice::from_ref(last)].concat()));
    let wanted = [("0/0/0", "paused"), ("0/0/0/0", "pending"), ("0/1", "pending"), ("0/0", "paused")];
    assert_eq!(view_of(&paused, &events), are(&wanted));
    let cancelled = Event::RunCancelled { by: None, reason: String::new() };
    let wanted = [("0/0/0", "cancelled"), ("0/0/0/0", "skipped"), ("0/1", "skipped"), ("0/0", "cancelled")];
    assert_eq!(view_of(&cancelled, &events), are(&wanted));
    events.extend([completed("0/0/0"), started("0/0/0/0"), completed("0/0/0/0")]);
    events.push(Event::StepJudged { step: path("0/0/0"), rejection: None });
    events.push(Event::NodeDecided { node: path("0/0/1"), decided: Decided::Until(until) });
    let shown = view(flow, &[&events[..], &[cancelled]].concat());
    let waits = shown.nodes.iter().find(|node| node.path == path("0/0/1")).unwrap();
    assert_eq!((waits.status, waits.due_at), ("cancelled", None));
}

#[test]
fn what_fails_shows_the_nodes_around_it_failed() {
    let flow = "{sequence: [{sequence: [{agent: a}, {agent: b}], timeout: 2h}, {agent: c}]}";
    let failure = Failure::new(ltmc_model::failure::Code::AgentError, "no").in_step(&path("0/0/0"));
    let failed = Event::StepFailed {
        step: path("0/0/0"),
        attempt: 1,
        failure: failure.clone(),
        retry_at: None,
        usage: Usage::default(),
    };
    let until = AT.after(std::time::Duration::from_secs(7_200));
    let begun = Event::NodeStarted { node: path("0/0"), until };
    let shown = view(flow, &[begun, started("0/0/0"), failed, Event::RunFailed { failure }]);
    let wanted = [("0/0/0", "failed"), ("0/0/1", "skipped"), ("0/1", "skipped"), ("0/0", "failed")];
    assert_eq!(stands(&shown), are(&wanted));
}

#[test]
fn who_changed_a_step_and_when_is_told_for_as_long_as_it_is_so() {
    let amended = |step: &str, change: Amendment| {
        let change = Amended { by: by(), step: path(step), change, was: None, after: vec![path(step)] };
        Event::Amended(Box::new(change))
    };
    let (set, given) = (Amendment::Output(Payload::text("mine")), Amendment::Input(Payload::text("in")));
    let (cancelled, resumed) =
        (Event::RunCancelled { by: None, reason: String::new() }, Event::RunResumed { by: by() });
    let changed = |events: &[Event]| {
        let steps = view("{sequence: [{agent: a}, {agent: b}, {agent: c}]}", events).steps;
        steps.into_iter().map(|step| step.changed.iter().map(|one| one.what).collect()).collect::<Vec<Vec<What>>>()
    };
    let mut events = vec![started("0/0"), completed("0/0"), cancelled.clone()];
    events.extend([amended("0/0", set.clone()), amended("0/1", given)]);
    assert_eq!(changed(&events), [vec![], vec![], vec![]], "it is so once the run goes on");
    events.push(resumed.clone());
    assert_eq!(changed(&events), [vec![What::Output], vec![What::Input], vec![]]);
    let shown = view("{sequence: [{agent: a}, {agent: b}, {agent: c}]}", &events).steps[0].changed[0].clone();
    assert_eq!(shown, ChangeView { what: What::Output, by: by(), at: AT });
    // The first is done again: what it gives then is its own.
    events.extend([started("0/1"), completed("0/1"), cancelled, amended("0/0", Amendment::Again), resumed]);
    events.extend([started("0/0"), completed("0/0")]);
    assert_eq!(changed(&events), [vec![], vec![What::Input], vec![]]);
}
