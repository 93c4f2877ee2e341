//! The JSON Schema of documents, for editors: made of the tables of words below, of which the reader has its patterns.
//!
//! Invariants: a table names just the words that the reader takes of that object, which a test holds; what is right and wrong by its shape
//! is so for both. What a schema cannot say is the reader's alone: whether a name is there to be picked from, whether two things go together.
//!
//! To add a word: its line in the table of what it belongs to; to add a pattern: a table in [`PATTERNS`].

use serde_json::{Map, Value, json};

use super::Ask;

pub(super) mod forms;
pub(super) mod patterns;
pub(super) mod words;

use forms::FORMS;
use patterns::{PATTERNS, PLANS};
use words::{Is, NAME};

const NODE: Is = Is::Of("node");
const CONDITION: Is = Is::Of("condition");
const SHARE: Is = Is::Of("share");
/// An agent's step.
const STEP: Is = Is::Of("node-agent");
/// Roles that people may have who are asked.
const ROLES: [&str; 3] = [Ask::ROLES[0].0, Ask::ROLES[1].0, Ask::ROLES[2].0];
/// After a pick's source: a dotted path, or a JSON Pointer.
const PATH: &str = r"(?:(?:\.[^./~]+)*|(?:/(?:[^/~]|~[01])*)+)";

/// The whole schema.
pub fn schema() -> Value {
    let mut defs = Map::new();
    for (name, form) in &FORMS {
        defs.insert((*name).to_owned(), form.schema());
    }
    for form in &PATTERNS {
        if let Some((word, _)) = form.pattern {
            defs.insert(format!("node-{word}"), form.schema());
        }
    }
    defs.insert("node".into(), json!({"description": "A node: what it does, and its modifiers", "anyOf": nodes()}));
    let one_of = |words: &[&str]| -> Value { words.iter().map(|word| json!({"required": [word]})).collect() };
    // A time has nothing beside it.
    defs["waited"]["oneOf"] = json!([{"required": ["until"], "maxProperties": 1}, {"required": ["topic"]}]);
    defs["validate"]["oneOf"] = one_of(&["json-schema", "agent"]);
    defs["share"]["properties"]["share"] = json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1});
    let tests = ["equals", "in", "less", "at-least", "prefix", "suffix", "exists", "json-schema"];
    // A pick has one test; what joins conditions has nothing beside it.
    defs["condition"]["oneOf"] = json!([
        {"required": ["all"], "maxProperties": 1},
        {"required": ["any"], "maxProperties": 1},
        {"required": ["not"], "maxProperties": 1},
        {"required": ["exact"], "maxProperties": 1},
        {"required": ["prefix"], "maxProperties": 1, "properties": {"prefix": {"type": "object"}}},
        {"required": ["suffix"], "maxProperties": 1, "properties": {"suffix": {"type": "object"}}},
        {
            "required": ["pick"], "oneOf": one_of(&tests), "not": {"required": ["exact"]},
            "properties": {"prefix": {"type": "string"}, "suffix": {"type": "string"}},
        },
    ]);
    defs.insert("plan".into(), plan());
    defs.insert("pick".into(), json!({"type": "string", "maxLength": super::Pick::MAX_LEN, "pattern": pick()}));
    let pick_or_else = json!({
        "type": "object", "required": ["pick", "else"], "maxProperties": 2,
        "properties": {"pick": {"$ref": "#/$defs/pick"}, "else": true},
    });
    defs.insert("pick-or-else".into(), pick_or_else);
    // A text that begins with `$` is a pick, or written `$$…`.
    defs.insert(
        "template".into(),
        json!({"anyOf": [
            {"type": "string", "pattern": r"^(?:[^$]|\$\$|$)"},
            {"$ref": "#/$defs/pick"},
            {"type": ["number", "boolean", "null"]},
            {"type": "array", "items": {"$ref": "#/$defs/template"}},
            {"$ref": "#/$defs/fields"},
        ]}),
    );
    let fields = json!({"type": "object", "additionalProperties": {"$ref": "#/$defs/template"}});
    defs.insert("fields".into(), json!({"anyOf": [{"$ref": "#/$defs/pick-or-else"}, fields]}));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "LTMC workflow",
        "$ref": "#/$defs/document",
        "$defs": defs,
    })
}

/// An agent's step with what is said of its plan.
fn plan() -> Value {
    let mut plan = PATTERNS[0].schema();
    plan["title"] = "a plan".into();
    plan["description"] = "The step of the agent that writes the document, and what may stand in that".into();
    plan["required"] = json!(["agent", "may"]);
    for word in PLANS {
        plan["properties"][word.name] = word.schema();
    }
    plan
}

fn nodes() -> Vec<Value> {
    PATTERNS.iter().filter_map(|form| Some(json!({"$ref": format!("#/$defs/node-{}", form.pattern?.0)}))).collect()
}

fn pick() -> String {
    let of_items = format!(r"(?:item|index)(?:{PATH}|\.{NAME}(?:/(?:[^/~]|~[01])*)+)");
    let of_steps = format!(r"steps\.{NAME}(?:\.output{PATH}|(?:/(?:[^/~]|~[01])*)+)");
    format!(
        r"^\$\.(?:(?:input|round|last|error|output|given|event|data|run\.scheduled-at){PATH}|{of_items}|{of_steps})$"
    )
}
