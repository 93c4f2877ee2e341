//! Merge rules, as the host applies them.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use crate::memory::Merge;

/// How deep a JSON value may be nested.
const MAX_NESTING: usize = 100;

/// The new value, or what of the value that is there or of the operand does not fit the rule.
pub(super) fn apply(rule: &Merge, current: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let there = || current.map(|bytes| parsed("the value that is there", bytes)).transpose();
    let list = |name: &str| match there()? {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(format!("`{name}` wants a JSON list where there is {}", kind(&other))),
    };
    let new = match rule {
        Merge::Set(value) => return Ok(value.clone()),
        Merge::Increment(by) => match there()? {
            None => Value::from(*by),
            Some(Value::Number(number)) => Value::Number(sum(&number, *by)?),
            Some(other) => return Err(format!("`increment` wants a JSON number where there is {}", kind(&other))),
        },
        Merge::Append(operand) => {
            let mut list = list("append")?;
            list.push(parsed("the value to append", operand.as_bytes())?);
            Value::Array(list)
        }
        Merge::Union(operand) => {
            let mut all = list("union")?;
            let Value::Array(more) = parsed("the list to unite with", operand.as_bytes())? else {
                return Err("`union` takes a JSON list".into());
            };
            let mut known: HashSet<String> = all.iter().map(canonical).collect();
            all.extend(more.into_iter().filter(|value| known.insert(canonical(value))));
            Value::Array(all)
        }
        Merge::MergePatch(operand) => {
            let patch = parsed("the merge patch", operand.as_bytes())?;
            patched(there()?.unwrap_or_else(|| Value::Object(Map::new())), patch)
        }
    };
    Ok(new.to_string().into_bytes())
}

fn parsed(what: &str, bytes: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("{what} is not JSON: {e}"))?;
    if depth(&value) > MAX_NESTING {
        return Err(format!("{what} is nested deeper than {MAX_NESTING} levels"));
    }
    Ok(value)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn sum(number: &Number, by: i64) -> Result<Number, String> {
    let whole = match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) => Some(whole.checked_add(by).map(Number::from)),
        (None, Some(whole)) => Some(whole.checked_add_signed(by).map(Number::from)),
        (None, None) => None,
    };
    if let Some(sum) = whole {
        return sum.ok_or_else(|| format!("{number} and {by} are more than 64 bits hold"));
    }
    let sum = number.as_f64().unwrap_or(f64::NAN) + by as f64;
    Number::from_f64(sum).ok_or_else(|| "the sum is no number that JSON can write".into())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The same text for equal values: the members of objects in the order of their names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members =
                members.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// RFC 7396, section 2.
fn patched(target: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.retain(|member, _| *member != name);
        } else {
            let before = target.get_mut(&name).map_or(Value::Null, Value::take);
            target.insert(name, patched(before, value));
        }
    }
    Value::Object(target)
}
