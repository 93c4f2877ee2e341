//! Agents' states against the in-memory host; and what docs/agent-states.md shows, compiled and run: every block of Rust in it stands in
//! this file.

#![allow(unreachable_pub, reason = "snippets show; they need not use what they show")]

use std::time::Duration;

use ltmc::Failure;
use ltmc::serde_json::{Value, json};
use ltmc::state::{self, Current, StateError};
use ltmc::testing::Host;
use serde::{Deserialize, Serialize};

fn declaration() -> Value {
    json!({
        "version": 1, "initial": "idle", "data": {"total": 0},
        "states": {"idle": {}, "working": {"timeout": "10m", "to": "failed"}, "done": {"final": true}, "failed": {}},
        "transitions": [
            {"from": "idle", "to": "working", "on": "start"},
            {"from": "working", "to": "working", "on": "add"},
            {"from": "working", "to": "done", "on": "finish", "when": {"pick": "$.state.total", "at-least": 1}},
            {"from": "failed", "to": "idle", "on": "reset"},
        ],
        "invariants": [{"pick": "$.state.total", "at-least": 0}],
    })
}

#[rustfmt::skip]
mod shown {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Phase {
        Idle,
        Working,
        Done,
        Failed,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        total: u32,
    }

    fn work() -> Result<Current<Phase, Order>, Failure> {
        let now: Current<Phase, Order> = state::get()?;
        if now.state == Phase::Idle {
            state::transition::<Phase, Order>("start", &json!({}))?;
        }
        state::transition::<Phase, Order>("add", &json!({"total": 3}))?;   // a JSON merge patch of the data
        match state::transition("finish", &json!({})) {
            Err(StateError::Refused(refusal)) if refusal.rule == "guard" => Ok(state::get()?),
            came => Ok(came?),
        }
    }

    #[test]
    fn the_page_is_right() -> Result<(), Failure> {
        let host = ltmc::testing::Host::new().grant("state").states(declaration());
        let done = host.within(work)?;
        assert_eq!((done.state, done.data), (Phase::Done, Order { total: 3 }));
        assert_eq!(host.standing(), ("done".to_owned(), json!({"total": 3})));
        host.within(|| {
            let refused = state::transition::<Phase, Order>("start", &json!({})).unwrap_err();
            assert_eq!(refused.rule(), Some("final"));
        });
        Ok(())
    }
}

type Plain = Current<String, Value>;

fn moved(event: &str, patch: Value) -> Result<Plain, StateError> {
    state::transition(event, &patch)
}

#[test]
fn what_an_attempt_that_fails_did_is_gone_and_a_retry_does_it_again() {
    let host = Host::new().grant("state").states(declaration());
    host.fail_at(2);
    let mut tries = 0;
    let done = host.tries(2, |_| {
        tries += 1;
        let now = moved("start", json!({}))?;
        Ok(moved("add", json!({"total": now.revision}))?.state)
    });
    assert_eq!((done, tries), (Ok("working".to_owned()), 2));
    let failed: Result<(), Failure> = host.within(|| {
        moved("finish", json!({}))?;
        Err(Failure::new("no", "not today"))
    });
    assert_eq!((failed.unwrap_err().code.as_str(), host.standing().0.as_str()), ("no", "working"));
}

#[test]
fn what_is_not_granted_not_declared_or_not_readable_is_an_error() {
    let host = Host::new().states(declaration());
    let code = |result: Result<Plain, StateError>| Failure::from(result.unwrap_err()).code;
    host.within(|| assert_eq!(code(state::get()), "access-denied"));
    let host = host.grant("state");
    host.within(|| assert_eq!(code(moved("nothing", json!({}))), "state-no-transition"));
    host.within(|| assert_eq!(code(moved("start", json!([1]))), "invalid"));
    host.within(|| assert_eq!(code(moved("start", json!({"text": "x".repeat(70_000)}))), "state-size"));
    host.within(|| {
        let wrong: Result<Current<u32, Value>, StateError> = state::get();
        assert!(wrong.unwrap_err().to_string().contains("does not read as expected"));
    });
    host.clone().agent("other").within(|| assert_eq!(code(state::get()), "invalid"));
}

#[test]
fn time_and_revisions_are_the_hosts() {
    let host = Host::new().grant("state").states(declaration());
    let begun = host.within(|| moved("start", json!({}))).unwrap();
    host.within(|| {
        let stale = state::transition_at::<String, Value>(begun.revision + 1, "add", &json!({})).unwrap_err();
        assert_eq!(stale.rule(), Some("revision"));
        let next: Plain = state::transition_at(begun.revision, "add", &json!({}))?;
        assert!(next.revision > begun.revision);
        Ok::<_, StateError>(())
    })
    .unwrap();
    host.advance(Duration::from_secs(601));
    assert_eq!(host.standing().0, "failed");
    assert_eq!(host.within(|| moved("reset", json!({}))).unwrap().state, "idle");
}

#[test]
fn what_comes_too_early_is_given_after_the_next_transition() {
    let mut declared = declaration();
    declared["unhandled"] = json!("defer");
    let host = Host::new().grant("state").states(declared);
    let early = host.within(|| moved("add", json!({"total": 3}))).unwrap();
    assert_eq!((early.state.as_str(), early.revision > 0), ("idle", true));
    assert_eq!(host.within(|| moved("start", json!({}))).unwrap().state, "working");
    assert_eq!(host.standing(), ("working".to_owned(), json!({"total": 3})));
    host.within(|| moved("reset", json!({}))).unwrap();
    host.advance(Duration::from_secs(601));
    assert_eq!(host.standing().0, "idle", "it failed by its time, and then came `reset`");
}

#[test]
#[should_panic(expected = "state `failed` is a dead end")]
fn a_wrong_declaration_is_said_at_once() {
    let mut wrong = declaration();
    wrong["transitions"].as_array_mut().unwrap().pop();
    drop(Host::new().states(wrong));
}

#[test]
fn every_block_of_rust_stands_in_this_file() {
    let page = include_str!("../../docs/agent-states.md");
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let here = dense(include_str!("states.rs"));
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert!(here.contains(&dense(block)), "this block is not compiled anywhere:\n{block}");
    }
}
