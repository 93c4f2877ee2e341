//! Why runs are where they are, from their journals.

use ltmc_model::failure::Code;
use ltmc_model::journal::{Decided, Entry, Event, RunStarted, Semantics};
use ltmc_model::run::{TakenUp, Usage};
use ltmc_model::{Digest, Epoch, Payload, Seq};

use super::*;

const AT: Timestamp = Timestamp::from_millis(1_000);

fn why(flow: &str, state: State, events: Vec<Event>) -> Why {
    let source = format!("name: w\nflow: {flow}");
    let document = ltmc_model::workflow::Document::parse(&source, None).unwrap();
    let started = RunStarted {
        target: Target::Workflow("w".parse().unwrap()),
        agents: Default::default(),
        document: Some(document.to_json().into()),
        document_digest: Some(Digest::of(b"")),
        input: Payload::default(),
        session: "s".parse().unwrap(),
        by: "abcdefghijkl".parse().unwrap(),
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
    let mut history = History::new();
    for event in [Event::RunStarted(Box::new(started))].into_iter().chain(events) {
        history.advance(history.seq().next(), &Entry { at: AT, event });
    }
    assert_eq!(history.state(), state);
    let run = Run {
        tenant: "acme".parse().unwrap(),
        id: RunId::ledger(),
        target: Target::Workflow("w".parse().unwrap()),
        state,
        session: "s".parse().unwrap(),
        by: "abcdefghijkl".parse().unwrap(),
        created_at: AT,
        updated_at: AT,
        epoch: Epoch(1),
        seq: Seq(1),
        parent: None,
        wakes_at: None,
        turn: None,
        taken_up: TakenUp::default(),
    };
    Why::new(&run, &history)
}

fn path(path: &str) -> StepPath {
    path.parse().unwrap()
}

fn started(step: &str, attempt: u32) -> Event {
    Event::StepStarted { step: path(step), attempt, agent: None, version: None, needs: Vec::new(), transaction: true }
}

fn failed(step: &str, attempt: u32, message: &str, retry_at: Option<Timestamp>) -> Event {
    let failure = Failure::new(Code::AgentError, message).in_step(&path(step));
    Event::StepFailed { step: path(step), attempt, failure, retry_at, usage: Usage::default() }
}

#[test]
fn a_failure_is_followed_up_through_each_level_to_the_root() {
    let flow = "{parallel: {x: {sequence: [{agent: a, retry: {attempts: 2, backoff: 1ms}, fallback: [{agent: b}], \
                on-error: [{when: {pick: $.error.code, equals: busy}, do: {agent: c}}]}]}, y: {agent: d}}}";
    let no = Failure::new(Code::AgentError, "no").in_step(&path("0/0/0"));
    let joined = Failure { message: "1 of 2 branches failed, and 2 are needed".into(), ..no.clone() };
    let why = why(
        flow,
        State::Failed,
        vec![
            started("0/0/0", 1),
            failed("0/0/0", 1, "first", Some(AT)),
            started("0/0/0", 2),
            failed("0/0/0", 2, "no", None),
            Event::NodeFailed { node: path("0/0/0"), failure: no.clone(), retry_at: None },
            started("0/0/0/11000", 1),
            failed("0/0/0/11000", 1, "neither", None),
            Event::NodeDecided { node: path("0/0/0"), decided: Decided::Handler(None) },
            Event::NodeDecided {
                node: path("0"),
                decided: Decided::Joined { winners: vec![], failure: Some(joined.clone()), lost: vec![] },
            },
            Event::RunFailed { failure: joined },
        ],
    );
    let steps: Vec<&str> = why.chain.iter().map(|link| link.called.step.as_str()).collect();
    assert_eq!(steps, ["0/0/0", "0/0", "0"]);
    let first = &why.chain[0];
    assert_eq!(first.tries.iter().map(|t| t.failure.message.as_str()).collect::<Vec<_>>(), ["first", "no"]);
    let levels: Vec<(&str, &str)> = first.levels.iter().map(|level| (level.level, level.said.as_str())).collect();
    assert_eq!(
        levels,
        [
            ("retry", "it was tried 2 times, which is as often as `retry` says"),
            ("fallback", "it failed at 0/0/0/11000: agent-error: neither"),
            ("on-error", "of its 1 handlers none has a `when` that holds"),
        ]
    );
    assert_eq!(why.chain[2].levels[0].level, "need");
    assert!(why.summary.contains("because `a` (0/0/0) failed, which nothing handled: agent-error"), "{}", why.summary);
    assert!(why.next[1].command.ends_with(" --set a=@output.json"), "{:?}", why.next);
}

#[test]
fn what_is_waited_for_and_what_was_handled_is_told() {
    let until = AT.after(std::time::Duration::from_secs(9));
    let flow = "{sequence: [{agent: a, fallback: [{agent: b}]}, {agent: c, retry: {attempts: 3}, timeout: 1h}]}";
    let no = Failure::new(Code::AgentTrapped, "no");
    let output = Payload::text("b");
    let why = why(
        flow,
        State::Waiting,
        vec![
            started("0/0", 1),
            failed("0/0", 1, "no", None),
            Event::NodeFailed { node: path("0/0"), failure: no, retry_at: None },
            started("0/0/11000", 1),
            Event::StepCompleted { step: path("0/0/11000"), attempt: 1, output, usage: Usage::default() },
            Event::NodeGave { node: path("0/0"), of: path("0/0/11000") },
            Event::NodeStarted { node: path("0/1"), until: until.after(std::time::Duration::from_secs(1)) },
            started("0/1", 1),
            failed("0/1", 1, "no", Some(until)),
        ],
    );
    assert_eq!(why.handled[0].by, "`b` (0/0/11000) gave what it gives");
    let waits: Vec<(&str, Option<Timestamp>)> =
        why.waits.iter().map(|waits| (waits.what.as_str(), waits.until)).collect();
    assert_eq!(waits[0], ("its try number 2 after `agent-error`", Some(until)));
    assert!(waits[1].0.contains("time-out"), "{waits:?}");
    assert!(why.chain.is_empty() && why.summary.starts_with("It waits: `c` (0/1) for its try"), "{}", why.summary);
}

#[test]
fn a_run_that_waits_for_people_says_at_which_step() {
    let no = || Failure::new(Code::AgentError, "no");
    let flow = "{sequence: [{agent: a}, {sequence: [{agent: b}], retry: {attempts: 1, then: pause}}, {agent: c}]}";
    let failed_at = |step: &str| vec![started(step, 1), failed(step, 1, "no", None)];
    let mut events = failed_at("0/1/0");
    events.push(Event::RunPaused { by: None, failure: Some(no().in_step(&path("0/1/0"))) });
    let told = why(flow, State::Paused, events);
    assert!(told.summary.starts_with("It is paused at `b` (0/1/0): "), "{}", told.summary);
    let chain: Vec<&str> = told.chain.iter().map(|link| link.called.step.as_str()).collect();
    assert_eq!(chain, ["0/1/0", "0/1"], "up to what has it wait");
    assert!(told.next.iter().any(|next| next.command.ends_with(" --set b=@output.json")), "{:?}", told.next);
    // Somebody paused it.
    let by = Event::RunPaused { by: Some("abcdefghijkl".parse().unwrap()), failure: None };
    let told = why(flow, State::Paused, vec![started("0/0", 1), by]);
    assert!(told.summary.starts_with("It is paused at `a` (0/0): somebody paused"), "{}", told.summary);
    // What undoes a step's work has failed.
    let flow = "{sequence: [{agent: a, compensate: {agent: u}}, {agent: b}]}";
    let mut events = failed_at("0/0/13000");
    events.push(Event::RunStuck { failure: no().in_step(&path("0/0/13000")) });
    let told = why(flow, State::Stuck, events);
    assert!(told.summary.starts_with("It is stuck at `u` (0/0/13000): "), "{}", told.summary);
    assert_eq!(told.chain.len(), 1);
}

#[test]
fn it_is_bounded_whatever_the_journal_holds() {
    let flow = "{map: $.input, do: {agent: a, retry: {attempts: 3}}, at-once: 1000}";
    let mut events = vec![];
    for item in 0..1_000 {
        let step = format!("0/{item}");
        let message = "é".repeat(100_000);
        events
            .extend([started(&step, 1), failed(&step, 1, &message, Some(AT.after(std::time::Duration::from_secs(9))))]);
    }
    let why = why(flow, State::Waiting, events);
    assert_eq!((why.waits.len(), why.left_out), (TOLD, 1_000 - TOLD));
    assert!(serde_json::to_vec(&why).unwrap().len() < 100_000);
}
