//! The judging itself, wherever it takes place.

use std::time::Duration;

use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// CPU time for one request.
pub(crate) const CPU: Duration = Duration::from_secs(2);
/// Memory of a child, in bytes of its addresses.
pub(crate) const MEMORY: u64 = 768 << 20;
/// The largest schema, in bytes.
const MAX_SCHEMA: usize = 256 << 10;
/// How large one pattern may become once it is compiled, and what matching it may keep, in bytes.
const MAX_PATTERN: usize = 1 << 20;
/// How many of the things that are wrong are told, and how much of each.
const TOLD: usize = 10;
const MAX_TOLD: usize = 500;
/// The longest place that is told whole.
const MAX_PLACE: usize = 4_000;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whether each of the parts, a schema, can be judged by.
    Check = 1,
    /// What is wrong with the second part by the first, a schema.
    Judge = 2,
}

impl Kind {
    pub(crate) fn of(byte: u8) -> Option<Self> {
        [Self::Check, Self::Judge].into_iter().find(|kind| *kind as u8 == byte)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The first that cannot be used, by its number, and why.
    Unusable(Option<(usize, String)>),
    /// Places and what is wrong there.
    Violations(Vec<(String, String)>),
}

pub(crate) fn answer<P: AsRef<[u8]>>(kind: Kind, parts: &[P]) -> Answer {
    match (kind, parts) {
        (Kind::Check, schemas) => {
            let unusable = |schema: &P| check(schema.as_ref()).err();
            Answer::Unusable(schemas.iter().enumerate().find_map(|(number, schema)| Some((number, unusable(schema)?))))
        }
        (Kind::Judge, [schema, output]) => Answer::Violations(judge(schema.as_ref(), output.as_ref())),
        (Kind::Judge, _) => Answer::Violations(vec![(String::new(), "there is nothing to judge".into())]),
    }
}

/// One that is judged by once, on the smallest values there are: what ends no judge shows on them already.
fn check(schema: &[u8]) -> Result<(), String> {
    if schema.len() > MAX_SCHEMA {
        return Err(format!("a JSON Schema has at most {MAX_SCHEMA} bytes, this one has {}", schema.len()));
    }
    let validator = compiled(schema)?;
    for value in [json!(null), json!(0), json!(""), json!([]), json!({}), json!([null]), json!({"a": null})] {
        let _ = validator.is_valid(&value);
    }
    Ok(())
}

fn judge(schema: &[u8], output: &[u8]) -> Vec<(String, String)> {
    let whole = |message: String| vec![(String::new(), message)];
    let value: Value = match serde_json::from_slice(output) {
        Ok(value) => value,
        Err(e) => return whole(format!("not JSON: {e}")),
    };
    let validator = match compiled(schema) {
        Ok(validator) => validator,
        Err(why) => return whole(format!("its JSON Schema cannot be used: {why}")),
    };
    let errors = validator.iter_errors(&value).take(TOLD);
    errors.map(|e| (cut(&e.instance_path().to_string(), MAX_PLACE), cut(&e.to_string(), MAX_TOLD))).collect()
}

fn compiled(schema: &[u8]) -> Result<Validator, String> {
    let schema: Value = serde_json::from_slice(schema).map_err(|e| e.to_string())?;
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
    let options = jsonschema::options().offline().with_pattern_options(patterns);
    options.build(&schema).map_err(|e| {
        let place = e.instance_path().to_string();
        let place = if place.is_empty() { "the schema".to_owned() } else { format!("at {place}") };
        let hint = match place.to_ascii_lowercase().contains("pattern") {
            true => {
                " (patterns are matched without backtracking: no look-around and no back references, and not too large)"
            }
            false => "",
        };
        format!("{}: {}{hint}", cut(&place, MAX_TOLD), cut(&e.to_string(), MAX_TOLD))
    })
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(schema: &Value, output: &str) -> Vec<(String, String)> {
        judge(schema.to_string().as_bytes(), output.as_bytes())
    }

    #[test]
    fn a_schema_tells_the_place_of_what_is_wrong() {
        let schema = json!({"properties": {"n": {"type": "integer"}}, "required": ["m"]});
        let found = judged(&schema, r#"{"n": "one"}"#);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|(at, _)| at == "/n"), "{found:?}");
        assert!(judged(&schema, r#"{"n": 1, "m": 2}"#).is_empty());
        assert!(judged(&schema, "{")[0].1.contains("not JSON"));
    }

    #[test]
    fn what_cannot_be_judged_by_says_why() {
        let wrong = |schema: Value| check(schema.to_string().as_bytes()).unwrap_err();
        assert!(wrong(json!({"type": "numbr"})).contains("/type"));
        assert!(wrong(json!({"properties": {"a": {"pattern": "(a)\\1"}}})).contains("without backtracking"));
        assert!(wrong(json!({"pattern": "(?=a)b"})).contains("without backtracking"));
        assert!(wrong(json!({"pattern": "((a{100}){100}){100}"})).contains("not too large"));
        assert!(!wrong(json!({"$ref": "https://example.com/schema.json"})).is_empty(), "nothing is fetched");
        assert!(wrong(json!({"description": "x".repeat(MAX_SCHEMA)})).contains("262144 bytes"));
        check(
            json!({"$defs": {"t": {"properties": {"t": {"$ref": "#/$defs/t"}}}}, "$ref": "#/$defs/t"})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
    }

    /// With a backtracking engine this would take longer than anybody waits.
    #[test]
    fn patterns_do_not_backtrack() {
        let schema = json!({"pattern": "^(a+)+$"});
        let text = json!("a".repeat(100_000) + "!").to_string();
        assert_eq!(judged(&schema, &text).len(), 1);
    }
}
