//! The schema of workflow documents and the reader of them judge alike what is right and wrong by its shape.

use std::cell::Cell;

use ltmc_model::workflow::Document;
use ltmc_model::workflow::schema::schema;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// Documents in which nothing is wrong but perhaps the shape: names are counted up, and only the run's input is picked from.
fn documents() -> impl Strategy<Value = Value> {
    nodes().prop_map(|mut flow| {
        count_up(&mut flow, &mut 0);
        json!({"name": "drawn", "flow": flow})
    })
}

fn count_up(value: &mut Value, next: &mut usize) {
    match value {
        Value::String(text) if text == "@" => {
            *value = format!("a{next}").into();
            *next += 1;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| count_up(item, next)),
        Value::Object(fields) => fields.values_mut().for_each(|field| count_up(field, next)),
        _ => {}
    }
}

fn conditions() -> impl Strategy<Value = Value> {
    let test = prop_oneof![
        Just(json!({"equals": {"any": ["thing", null]}})),
        Just(json!({"in": [1, "x", null]})),
        Just(json!({"less": 3.5})),
        Just(json!({"at-least": -2})),
        Just(json!({"prefix": "$x"})),
        Just(json!({"suffix": ""})),
        Just(json!({"exists": false, "else": 1})),
    ];
    let picked = test.prop_map(|mut test| {
        test["pick"] = "$.input.a.0".into();
        test
    });
    picked.prop_recursive(2, 8, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            several.clone().prop_map(|parts| json!({"all": parts})),
            several.prop_map(|parts| json!({"any": parts})),
            inner.prop_map(|part| json!({"not": part})),
        ]
    })
}

fn modifiers() -> impl Strategy<Value = Value> {
    let with = prop_oneof![
        Just(json!("$.input/a~1b/0")),
        Just(json!({"x": "$$y", "y": ["$.input", 1, {"z": null}], "w": {"pick": "$.input.n", "else": "$x"}})),
        Just(json!({})),
    ];
    let validate = prop_oneof![Just(json!({"json-schema": {"type": "object"}})), Just(json!({"agent": "judge"}))];
    let retry = prop_oneof![
        Just(json!({})),
        Just(
            json!({"attempts": 4, "backoff": "1s", "factor": 1.5, "max": "1m", "on": ["agent-error"], "then": "fail"})
        ),
    ];
    (
        prop::option::weighted(0.3, conditions()),
        prop::option::weighted(0.3, with),
        prop::option::weighted(0.3, validate),
        prop::option::weighted(0.3, retry),
        prop::option::weighted(0.2, Just(json!("1h 30m"))),
    )
        .prop_map(|(when, with, validate, retry, timeout)| {
            let all = [("when", when), ("with", with), ("validate", validate), ("retry", retry), ("timeout", timeout)];
            all.into_iter().filter_map(|(word, value)| Some((word.to_owned(), value?))).collect()
        })
}

fn nodes() -> impl Strategy<Value = Value> {
    let with = |node: Value, modifiers: Value, of_map: bool| {
        let (mut node, mut modifiers) = (node, modifiers);
        if of_map {
            modifiers.as_object_mut().unwrap().remove("with");
        }
        node.as_object_mut().unwrap().append(modifiers.as_object_mut().unwrap());
        node
    };
    let step = prop_oneof![
        4 => Just(json!({"agent": "@"})),
        1 => Just(json!({"workflow": "audit", "on-parent-end": "abandon"})),
        1 => Just(json!({"plan": {"agent": "@", "may": ["one"], "depth": 3, "approve": "admin", "retry": {}}, "compensate": {"agent": "@"}})),
        1 => Just(json!({"parallel": [{"agent": "@"}, {"agent": "@"}], "collect": {"agent": "@", "retry": {}}})),
        1 => Just(json!({"parallel": {"one": {"agent": "@"}}, "collect": {"vote": "/x~1/0", "rule": "plurality", "tie": {"agent": "@"}}})),
        1 => Just(json!({"debate": {"among": ["@", {"agent": "@"}], "next": {"agent": "@"}, "rounds": 3, "until": {"pick": "$.last", "exists": true}, "close": {"agent": "@"}}})),
        1 => Just(json!({"need": "sum it up", "among": ["one", "other"], "at-least": 0.5})),
    ];
    let leaf = (step, modifiers()).prop_map(move |(step, modifiers)| with(step, modifiers, false));
    leaf.prop_recursive(3, 16, 3, move |inner| {
        let several = prop::collection::vec(inner.clone(), 1..3);
        let patterns = prop_oneof![
            several.clone().prop_map(|nodes| json!({"sequence": nodes})),
            several.clone().prop_map(|nodes| json!({"parallel": nodes, "need": "any", "at-once": 2, "collect": "list"})),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| {
                json!({"parallel": {"one": one, "other": other}, "need": {"share": 0.5}, "on-failure": "continue", "on-loss": "finish"})
            }),
            (conditions(), inner.clone(), inner.clone()).prop_map(|(when, one, other)| {
                json!({"choice": [{"when": when, "do": one}, {"else": other}]})
            }),
            inner.clone().prop_map(|node| json!({"map": "$.input.list", "as": "item", "do": node, "at-once": 3, "tolerate": 1, "collect": "merge"})),
            inner.clone().prop_map(|node| json!({"map": {"pick": "$.input", "else": []}, "do": node, "tolerate": {"share": 1}})),
            (inner.clone(), conditions()).prop_map(|(node, until)| json!({"loop": node, "until": until, "at-most": 3, "stall": 2})),
            (several, conditions(), inner).prop_map(|(nodes, when, node)| {
                json!({"agent": "@", "fallback": nodes, "on-error": [{"when": when, "do": node.clone()}, {"do": node}]})
            }),
        ];
        (patterns, modifiers()).prop_map(move |(node, modifiers)| {
            let of_map = node.get("map").is_some();
            with(node, modifiers, of_map)
        })
    })
}

/// One thing that is put, taken away or added somewhere.
#[derive(Debug, Clone)]
enum Change {
    Put(Value),
    Remove(Index),
    Add(&'static str, Value),
}

fn changes() -> impl Strategy<Value = Change> {
    let values = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(100_000_000_000_u64),
        json!("text"),
        json!("Not A Name"),
        json!("$.input.x"),
        json!("$.inputs"),
        json!("$bad"),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({"agent": 7}),
    ]);
    prop_oneof![
        4 => values.prop_map(Change::Put),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => Just(Change::Add("extra", json!(7))),
        1 => Just(Change::Add("with", json!({}))),
        1 => Just(Change::Add("sequence", json!([]))),
        1 => Just(Change::Add("timeout", json!("2s"))),
    ]
}

/// Every value of a document, from the outside in.
fn places(value: &Value, at: String, into: &mut Vec<String>) {
    into.push(at.clone());
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| places(item, format!("{at}/{n}"), into)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            places(field, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), into);
        }),
        _ => {}
    }
}

fn changed(mut document: Value, at: Index, change: &Change) -> Value {
    let mut all = Vec::new();
    places(&document, String::new(), &mut all);
    let place = document.pointer_mut(at.get::<String>(&all)).unwrap();
    match (change, place) {
        (Change::Put(value), place) => *place = value.clone(),
        (Change::Remove(which), Value::Object(fields)) if !fields.is_empty() => {
            let name = which.get(&fields.keys().cloned().collect::<Vec<_>>()).clone();
            fields.shift_remove(&name);
        }
        (Change::Add(name, value), Value::Object(fields)) => drop(fields.insert((*name).into(), value.clone())),
        _ => {}
    }
    document
}

/// What each says of a document: the reader's faults, the schema's.
fn judged(validator: &jsonschema::Validator, document: &Value) -> (Result<(), String>, bool) {
    let read = Document::parse(&document.to_string(), None).map(drop).map_err(|faults| faults.to_string());
    (read, validator.is_valid(document))
}

#[test]
fn what_is_drawn_is_judged_alike() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let (good, bad) = (Cell::new(0), Cell::new(0));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 1_500, ..ProptestConfig::default() });
    let drawn = (documents(), prop::option::weighted(0.8, (any::<Index>(), changes())));
    runner
        .run(&drawn, |(document, change)| {
            let document = match &change {
                Some((at, change)) => changed(document, *at, change),
                None => document,
            };
            let (read, is_valid) = judged(&validator, &document);
            // One name twice is no matter of shape.
            prop_assume!(!read.as_ref().is_err_and(|faults| faults.contains("the step's name")));
            prop_assert_eq!(read.is_ok(), is_valid, "{} of {}", read.err().unwrap_or_default(), document);
            prop_assert!(change.is_some() || is_valid, "{}", document);
            Ok(())
        })
        .unwrap();
    // What was drawn was both, which a run of its own shows.
    let mut count = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
    count
        .run(&(documents(), any::<Index>(), changes()), |(document, at, change)| {
            match judged(&validator, &changed(document, at, &change)).1 {
                true => good.set(good.get() + 1),
                false => bad.set(bad.get() + 1),
            }
            Ok(())
        })
        .unwrap();
    assert!(good.get() > 30 && bad.get() > 30, "{} good, {} bad", good.get(), bad.get());
}

#[test]
fn the_documents_in_the_docs_are_valid() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let page = include_str!("../../../docs/workflows.md");
    let samples = [
        include_str!("../../../sample-agents/review.yaml"),
        include_str!("../../../sample-agents/review-in-sequence.yaml"),
        include_str!("../../../sample-agents/ask-docs.yaml"),
        include_str!("../../../sample-agents/fix-issues.yaml"),
    ];
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut seen = 0;
    for source in blocks.filter(|block| block.contains("\nflow:")).chain(samples) {
        let document = Document::parse(source, None).unwrap_or_else(|faults| panic!("{faults}\n{source}"));
        // As it was written, and in its canonical form.
        let written: Value = serde_saphyr::from_str(source).unwrap();
        for value in [written, serde_json::from_str(&document.to_json()).unwrap()] {
            let wrong: Vec<String> =
                validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(wrong.is_empty(), "{wrong:#?}\n{source}");
            seen += 1;
        }
    }
    assert!(seen >= 16, "only {seen}");
}
