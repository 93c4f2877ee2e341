//! What came of a case, held against what was to come of it: every difference, in a line.

use std::collections::BTreeMap;

use ltmc_model::message::{Event, Topic};
use ltmc_model::workflow::cases::{Case, Emitted, End};
use ltmc_model::workflow::places::{ANY, is_at};
use ltmc_model::workflow::{Document, Does, Node, StepName, Wait, is_same};
use ltmc_model::{Payload, StepPath};
use serde_json::{Map, Value};

use super::stage::Played;

/// How many differences of one value are told, and how much of each side.
const MOST: usize = 10;
const LONGEST: usize = 120;

/// Every difference; none: it came out as expected.
pub(super) fn differences(document: &Document, case: &Case, played: &Played) -> Vec<String> {
    // What the case does not play is no outcome.
    if !played.silent.is_empty() {
        return played.silent.clone();
    }
    let places = document.places();
    let place = |name: &StepName| {
        let found = places.iter().find(|(_, node)| node.id.as_ref() == Some(name));
        found.map_or((String::new(), false), |(place, node)| (place.clone(), node.is_step()))
    };
    let is_of_event = |name: &StepName| {
        let is = |node: &Node| node.id.as_ref() == Some(name) && matches!(node.does, Does::Wait(Wait::Event(_)));
        places.iter().any(|(_, node)| is(node))
    };
    let expect = &case.expect;
    let mut told = end(&expect.end, played, &|name| place(name).0);
    let calls_of = |name: &StepName| {
        let (place, is_step) = place(name);
        played.calls.iter().filter(|call| is_of(&call.step, &place, is_step)).count()
    };
    // What asks, waits, publishes or starts another workflow calls no agent of this run.
    let is_done = |name: &StepName| {
        let (place, _) = place(name);
        let done = |node: &ltmc_journal::node::Node| node.has_ended() || node.asks.is_some() || node.child.is_some();
        played.history.nodes().any(|(path, node)| is_at(path.as_str(), &place) && done(node))
    };
    for name in expect.ran.iter().filter(|name| calls_of(name) == 0 && !is_done(name)) {
        told.push(format!("ran: `{name}` was not done"));
    }
    for name in &expect.skipped {
        match calls_of(name) {
            0 if is_done(name) => told.push(format!("skipped: `{name}` was done")),
            0 => {}
            calls => told.push(format!("skipped: `{name}` was done, in {calls} calls")),
        }
    }
    for (name, wanted) in &expect.attempts {
        let made = calls_of(name);
        if made != *wanted as usize {
            told.push(format!("attempts: `{name}` made {made}, expected {wanted}"));
        }
    }
    for (name, wanted) in &expect.inputs {
        let place = place(name).0;
        let last: BTreeMap<Way, &Payload> = played
            .calls
            .iter()
            .filter(|call| is_at(call.step.as_str(), &place))
            .map(|c| (way(&c.step), &c.input))
            .collect();
        compare(&format!("input of `{name}`"), wanted, value(&place, last), &mut told);
    }
    for (name, wanted) in &expect.outputs {
        let place = place(name).0;
        let (steps, nodes) =
            (played.history.steps().map(|(path, _)| path), played.history.nodes().map(|(path, _)| path));
        let all = steps.chain(nodes).filter(|path| is_at(path.as_str(), &place));
        let gave = all.filter_map(|path| Some((way(path), played.history.given(path)?))).collect();
        let gave = value(&place, gave);
        // Of an event that came nobody says when and under which id.
        let gave = if is_of_event(name) { gave.map(|gave| said(wanted, gave)) } else { gave };
        compare(&format!("output of `{name}`"), wanted, gave, &mut told);
    }
    for (topic, wanted) in &expect.emitted {
        emitted(topic, wanted, played.emitted.get(topic).map(Vec::as_slice).unwrap_or_default(), &mut told);
    }
    for (key, wanted) in &expect.memory {
        compare(&format!("memory `{key}`"), wanted, played.memory.get(key).cloned(), &mut told);
    }
    for (name, wanted) in &expect.decided {
        decided(name, &place(name).0, wanted, played, &mut told);
    }
    told
}

/// A path's numbers: in their order items and rounds come.
type Way = Vec<usize>;

fn way(path: &StepPath) -> Way {
    path.way().collect()
}

/// Whether a call was of a step, or of anything below another node.
fn is_of(step: &StepPath, place: &str, is_step: bool) -> bool {
    let depth = place.split('/').count();
    let head: Vec<&str> = step.as_str().split('/').take(depth).collect();
    is_at(&head.join("/"), place) && (!is_step || step.as_str().split('/').count() == depth)
}

fn end(wanted: &End, played: &Played, place: &impl Fn(&StepName) -> String) -> Vec<String> {
    let mut told = Vec::new();
    match (wanted, &played.result) {
        (End::Completed(None), Ok(_)) => {}
        (End::Completed(Some(wanted)), Ok(output)) => compare("result", wanted, to_value(output).into(), &mut told),
        (End::Completed(_), Err(failure)) => {
            let step = failure.step.as_ref().map(|step| format!(" in step {step}")).unwrap_or_default();
            told.push(format!("the run failed{step}: {failure}"));
        }
        (End::Failed { code, .. }, Ok(output)) => {
            told.push(format!("the run was to fail with {}, and gave {}", code.as_str(), short(&to_value(output))));
        }
        (End::Failed { code, step, message }, Err(failure)) => {
            if failure.code != *code {
                told.push(format!("the run was to fail with {}, and failed with {failure}", code.as_str()));
            }
            if let Some(name) = step
                && !failure.step.as_ref().is_some_and(|step| is_at(step.as_str(), &place(name)))
            {
                let at = failure.step.as_ref().map_or("none", StepPath::as_str);
                told.push(format!("the run was to fail in `{name}`, at {}, and failed at {at}", place(name)));
            }
            if let Some(text) = message
                && !failure.message.contains(text)
            {
                told.push(format!("`{text}` is not in the failure's message, which is: {}", failure.message));
            }
        }
    }
    told
}

/// What a node took or gave; of one in a `map` or a `loop` all of it.
fn value(place: &str, found: BTreeMap<Way, &Payload>) -> Option<Value> {
    if place.split('/').any(|part| part == ANY) {
        return Some(found.into_values().map(to_value).collect());
    }
    found.into_values().next_back().map(to_value)
}

/// Of a value the fields that something is said of; of a list, of each. What nothing is said of at all stays whole.
fn said(wanted: &Value, was: Value) -> Value {
    match (wanted, was) {
        (Value::Object(wanted), Value::Object(was)) => {
            was.into_iter().filter(|(name, _)| wanted.contains_key(name)).collect::<Map<_, _>>().into()
        }
        (Value::Array(wanted), Value::Array(was)) => {
            let nothing = Value::Null;
            let both = was.into_iter().enumerate();
            both.map(|(number, was)| said(wanted.get(number).unwrap_or(&nothing), was)).collect()
        }
        (_, was) => was,
    }
}

/// Holds what was published to a topic against what was expected: all of it, in order, and of each event what is said.
fn emitted(topic: &Topic, wanted: &[Emitted], was: &[Event], told: &mut Vec<String>) {
    let whole = |event: &Event| -> Map<String, Value> {
        let data = if event.data.bytes.is_empty() { Value::Null } else { to_value(&event.data) };
        let fields = [("type", event.kind.clone().into()), ("subject", event.subject.clone().into()), ("data", data)];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let expected = |event: &Emitted| -> Map<String, Value> {
        let kind = event.kind.clone().map(Value::from);
        let fields = [("type", kind), ("subject", event.subject.clone()), ("data", event.data.clone())];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    };
    let wanted: Value = wanted.iter().map(expected).map(Value::Object).collect();
    let was: Value = was.iter().map(whole).map(Value::Object).collect();
    compare(&format!("emitted to `{topic}`"), &wanted, Some(said(&wanted, was)), told);
}

fn to_value(payload: &Payload) -> Value {
    payload.to_value().unwrap_or_else(Value::String)
}

/// Holds what a run's `nodes` say of a node against what was expected. What nothing is said of is nothing.
fn decided(name: &StepName, place: &str, wanted: &[(String, Value)], played: &Played, told: &mut Vec<String>) {
    let nodes = played.view.nodes.iter().filter(|node| is_at(node.path.as_str(), place));
    let mut known: Vec<Map<String, Value>> =
        nodes.filter_map(|node| serde_json::to_value(node).ok()?.as_object().cloned()).collect();
    if known.is_empty() {
        known.push(Map::new());
    }
    for (word, wanted) in wanted {
        for node in &known {
            let was = node.get(word).unwrap_or(&Value::Null);
            let fits = is_same(wanted, was) || (is_nothing(wanted) && is_nothing(was));
            if !fits {
                told.push(format!("decided: {word} of `{name}` is {}, expected {}", short(was), short(wanted)));
            }
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Tells where two values differ.
fn compare(what: &str, wanted: &Value, was: Option<Value>, told: &mut Vec<String>) {
    let Some(was) = was else {
        told.push(format!("{what}: there is none, expected {}", short(wanted)));
        return;
    };
    let mut found = Vec::new();
    differ(wanted, &was, &mut String::new(), &mut found);
    let more = found.len().saturating_sub(MOST);
    told.extend(found.into_iter().take(MOST).map(|(at, difference)| {
        let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
        format!("{what}{at}: {difference}")
    }));
    if more > 0 {
        told.push(format!("{what}: and {more} more differences"));
    }
}

/// Each place (a JSON Pointer) where two values differ, and how.
fn differ(wanted: &Value, was: &Value, at: &mut String, found: &mut Vec<(String, String)>) {
    let length = at.len();
    let mut below = |part: &str, wanted: Option<&Value>, was: Option<&Value>| {
        at.push('/');
        at.push_str(&part.replace('~', "~0").replace('/', "~1"));
        match (wanted, was) {
            (Some(wanted), Some(was)) => differ(wanted, was, at, found),
            (Some(wanted), None) => found.push((at.clone(), format!("nothing there, expected {}", short(wanted)))),
            (None, Some(was)) => found.push((at.clone(), format!("{}, expected nothing", short(was)))),
            (None, None) => {}
        }
        at.truncate(length);
    };
    match (wanted, was) {
        (Value::Object(wanted), Value::Object(was)) => {
            wanted.iter().for_each(|(name, value)| below(name, Some(value), was.get(name)));
            let more = was.iter().filter(|(name, _)| !wanted.contains_key(*name));
            more.for_each(|(name, value)| below(name, None, Some(value)));
        }
        (Value::Array(wanted), Value::Array(was)) => {
            (0..wanted.len().max(was.len())).for_each(|n| below(&n.to_string(), wanted.get(n), was.get(n)));
        }
        _ if is_same(wanted, was) => {}
        _ => found.push((at.clone(), format!("{}, expected {}", short(was), short(wanted)))),
    }
}

fn short(value: &Value) -> String {
    crate::ui::short(&value.to_string(), LONGEST)
}
