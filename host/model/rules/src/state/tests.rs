use serde_json::{Value, json};

use super::*;

/// The declaration that the documentation shows.
fn order() -> Value {
    json!({
        "version": 1,
        "initial": "idle",
        "data": {"total": 0},
        "states": {
            "idle": {}, "working": {"timeout": "10m", "to": "failed"}, "done": {"final": true}, "failed": {},
        },
        "transitions": [
            {"from": "idle", "to": "working", "on": "start"},
            {"from": "working", "to": "done", "on": "finish", "when": {"pick": "$.event.total", "at-least": 1}},
            {"from": "working", "to": "failed", "on": "finish"},
            {"from": "failed", "to": "idle", "on": "reset"},
        ],
        "invariants": [{"pick": "$.state.total", "at-least": 0}],
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut value = order();
    change(&mut value);
    Declaration::read(&value).expect_err("it has a fault")
}

#[test]
fn every_fault_of_a_declaration_is_named() {
    Declaration::read(&order()).unwrap();
    type Change = fn(&mut Value);
    let wrong: [(Change, &str); 22] = [
        (|d| d["initial"] = json!("idel"), "`initial`: there is no state `idel`"),
        (|d| d["states"]["lost"] = json!({"final": true}), "state `lost` is never reached from `idle`"),
        (|d| d["transitions"].as_array_mut().unwrap().truncate(3), "state `failed` is a dead end"),
        (|d| d["transitions"][0]["to"] = json!("x"), "transition 1: `to`: there is no state `x`"),
        (|d| d["transitions"][0]["from"] = json!("x"), "transition 1: `from`: there is no state `x`"),
        (|d| d["states"]["working"]["to"] = json!("x"), "state `working`: `to`: there is no state `x`"),
        (|d| drop(d["states"]["working"].as_object_mut().unwrap().remove("to")), "`to` is missing"),
        (|d| d["states"]["working"]["timeout"] = json!("10 parsecs"), "`timeout` is a duration"),
        (|d| d["states"]["working"]["timeout"] = json!("400d"), "`timeout` is a duration from 1s to 366d"),
        (|d| d["transitions"][1]["from"] = json!("done"), "state `done` is final"),
        (|d| drop(d["transitions"][1].as_object_mut().unwrap().remove("when")), "transitions 2 and 3 overlap"),
        (|d| d["transitions"][1]["when"] = json!({"pick": "$.input.x", "exists": true}), "is no pick of a state"),
        (|d| d["transitions"][1]["when"] = json!({"pick": "$.state.x", "is": 1}), "`is` is no test"),
        (|d| d["data"]["total"] = json!(-1), "what it begins with does not hold: invariant 1"),
        (|d| d["unhandled"] = json!("drop"), "`unhandled` is one of reject, ignore, defer"),
        (|d| d["states"]["idle"]["emit"] = json!({"topic": "t", "type": "x"}), "`emit` says what is published"),
        (|d| d["states"]["working"]["emit"] = json!({"topic": "T", "type": "x"}), "`topic` is 1 to 128"),
        (|d| d["states"]["working"]["emit"] = json!({"topic": "t", "type": ""}), "`type` is 1 to"),
        (|d| d["migrate"] = json!({"from": 1, "agent": "m"}), "`migrate` leads from version 1 to 1"),
        (|d| d["version"] = json!(0), "`version` is a whole number from 1 on"),
        (|d| d["colour"] = json!("red"), "an unknown field `colour`"),
        (|d| d["invariants"][0]["pick"] = json!("$.event.total"), "it holds of the data alone"),
    ];
    for (change, said) in wrong {
        let faults = with(change);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{said}: {faults:?}");
    }
    let ring = with(|d| d["states"]["failed"] = json!({"timeout": "1h", "to": "working"}));
    assert!(ring.iter().any(|fault| fault.contains("comes back to itself by `timeout` alone")), "{ring:?}");
    let several = with(|d| {
        d["initial"] = json!("x");
        d["transitions"][0]["to"] = json!("y");
        d["version"] = json!("one");
    });
    assert!(several.len() == 1 && several[0].contains("version"), "without its parts there is no whole: {several:?}");
    let several = with(|d| (d["initial"], d["transitions"][0]["to"]) = (json!("x"), json!("y")));
    assert_eq!(several.len(), 3, "{several:?}");
    let states: serde_json::Map<String, Value> = (0..=MAX_STATES).map(|n| (format!("s{n}"), json!({}))).collect();
    assert!(with(|d| d["states"] = states.into())[0].contains("there are 1 to 64 states, not 65"));
}

fn current(state: &str, total: i64) -> Current {
    Current { state: state.to_owned(), data: json!({"total": total}), since_ms: 5 }
}

fn asked(declaration: &Declaration, from: &Current, event: &str, patch: &Value) -> Result<Came, Rule> {
    declaration.transition(from, 7, &Asked { event, patch, expected: None }, 9).map_err(|refused| refused.rule)
}

#[test]
fn an_event_takes_one_way_or_is_refused_by_the_rule_that_it_is_against() {
    let declaration = Declaration::read(&order()).unwrap();
    let moved = |state: &str, total| Ok(Came::To(Current { since_ms: 9, ..current(state, total) }));
    let (idle, working) = (current("idle", 1), current("working", 1));
    assert_eq!(asked(&declaration, &idle, "start", &json!({})), moved("working", 1));
    assert_eq!(asked(&declaration, &working, "finish", &json!({"total": 2})), moved("done", 2));
    assert_eq!(asked(&declaration, &working, "finish", &json!({"total": 0})), moved("failed", 0));
    assert_eq!(asked(&declaration, &idle, "finish", &json!({})), Err(Rule::NoTransition));
    assert_eq!(asked(&declaration, &current("done", 1), "start", &json!({})), Err(Rule::Final));
    assert_eq!(asked(&declaration, &idle, "start", &json!({"total": -1})), Err(Rule::Invariant));
    assert_eq!(asked(&declaration, &idle, "start", &json!({"total": null})), Err(Rule::Invariant), "it is not there");
    let large = json!({"text": "x".repeat(MAX_DATA)});
    assert_eq!(asked(&declaration, &idle, "start", &large), Err(Rule::Size));
    let expected = Asked { event: "start", patch: &json!({}), expected: Some(6) };
    assert_eq!(declaration.transition(&idle, 7, &expected, 9).unwrap_err().rule, Rule::Revision);

    let mut value = order();
    value["unhandled"] = json!("ignore");
    value["transitions"][2]["when"] = json!({"pick": "$.event.total", "at-least": 5});
    let declaration = Declaration::read(&value).unwrap();
    assert_eq!(asked(&declaration, &idle, "finish", &json!({})), Ok(Came::Ignored));
    assert_eq!(asked(&declaration, &current("done", 1), "start", &json!({})), Ok(Came::Ignored));
    assert_eq!(asked(&declaration, &working, "finish", &json!({})), Err(Rule::Guard), "none holds");
    assert_eq!(asked(&declaration, &working, "finish", &json!({"total": 5})), Err(Rule::Guard), "both hold");
}

#[test]
fn what_comes_too_early_waits_and_is_given_once() {
    let mut value = order();
    value["unhandled"] = json!("defer");
    let declaration = Declaration::read(&value).unwrap();
    let (idle, nothing) = (current("idle", 1), json!({}));
    let wanted = |event: &'static str, patch: &'static str| (event, serde_json::from_str::<Value>(patch).unwrap());
    let mut waiting = Vec::new();
    for (event, patch) in
        [wanted("finish", r#"{"total":-1}"#), wanted("reset", "{}"), wanted("finish", r#"{"total":9}"#)]
    {
        assert_eq!(asked(&declaration, &idle, event, &patch), Ok(Came::Deferred));
        Deferred::push(&mut waiting, &Asked { event, patch: &patch, expected: None }).unwrap();
    }
    assert_eq!(asked(&declaration, &idle, "never", &nothing), Err(Rule::NoTransition), "no state has that");
    assert_eq!(asked(&declaration, &current("done", 1), "start", &nothing), Err(Rule::Final));
    assert_eq!(declaration.recalled(&idle, &mut waiting, 9), None, "it is too early still");
    let working = current("working", 1);
    let (one, came) = declaration.recalled(&working, &mut waiting, 9).unwrap();
    assert_eq!((one.event.as_str(), came.unwrap_err().rule, waiting.len()), ("finish", Rule::Invariant, 2));
    let (_, came) = declaration.recalled(&working, &mut waiting, 9).unwrap();
    let done = came.unwrap();
    assert_eq!(
        (&done, waiting.len()),
        (&Current { since_ms: 9, ..current("done", 9) }, 1),
        "`reset` waits for `failed`"
    );
    let (one, came) = declaration.recalled(&done, &mut waiting, 9).unwrap();
    assert_eq!((one.event.as_str(), came.unwrap_err().rule), ("reset", Rule::Final), "nothing comes after it");
    assert_eq!(declaration.recalled(&done, &mut waiting, 9), None);

    let push = |waiting: &mut Vec<Deferred>, patch: &Value| {
        Deferred::push(waiting, &Asked { event: "finish", patch, expected: None }).map_err(|refused| refused.rule)
    };
    for _ in 0..MAX_DEFERRED {
        push(&mut waiting, &nothing).unwrap();
    }
    assert_eq!(push(&mut waiting, &nothing), Err(Rule::Deferred));
    let half = json!({"text": "x".repeat(MAX_DATA / 2)});
    let mut waiting = Vec::new();
    push(&mut waiting, &half).unwrap();
    assert_eq!(push(&mut waiting, &half), Err(Rule::Deferred), "these are too many bytes");
}

#[test]
fn a_patch_of_ten_megabytes_is_refused_by_its_size_and_what_is_no_object_is_no_patch() {
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(10 << 20));
    assert_eq!(patch(&large).unwrap().unwrap_err().rule, Rule::Size);
    assert!(patch("[1]").unwrap_err().contains("JSON object"));
    assert!(patch("{").unwrap_err().contains("is not JSON"));
    assert!(
        patch(&format!("{{\"a\":{}1{}}}", "[".repeat(101), "]".repeat(101))).unwrap_err().contains("nested deeper")
    );
    assert_eq!(patch("{\"a\":null}").unwrap(), Ok(json!({"a": null})));
}

#[test]
fn time_alone_leads_where_the_declaration_says() {
    let declaration = Declaration::read(&order()).unwrap();
    let working = current("working", 1);
    assert_eq!(declaration.due(&working), Some((600_005, "failed")));
    assert_eq!(declaration.lapsed(working.clone(), 600_004), working);
    assert_eq!(declaration.lapsed(working, 9_000_000), Current { since_ms: 600_005, ..current("failed", 1) });
    assert_eq!(declaration.lapsed(current("idle", 1), u64::MAX), current("idle", 1));
}
