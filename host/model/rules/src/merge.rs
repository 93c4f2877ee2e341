//! Merge rules: how a key's new value is made of the one before.
//!
//! Invariants: pure and total. All but [`Merge::Set`] work on JSON; a key that holds nothing is the rule's own nothing (0,
//! `[]`, `{}`).

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

/// How deep a JSON value may be nested.
const MAX_NESTING: usize = 100;

/// A merge rule with its operand, borrowed from whoever applies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge<'a> {
    /// The operand, whatever was there.
    Set(&'a [u8]),
    /// A number, more by this much. Whole numbers stay whole.
    Increment(i64),
    /// A list, with this JSON value at its end.
    Append(&'a str),
    /// A list, with those elements of this JSON list that it has not got.
    Union(&'a str),
    /// A JSON merge patch (RFC 7396).
    MergePatch(&'a str),
}

impl Merge<'_> {
    /// In words, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Increment(_) => "increment",
            Self::Append(_) => "append",
            Self::Union(_) => "union",
            Self::MergePatch(_) => "merge-patch",
        }
    }

    /// The new value.
    ///
    /// # Errors
    /// What of the value that is there, or of the operand, does not fit the rule.
    pub fn apply(self, current: Option<&[u8]>) -> Result<Vec<u8>, String> {
        apply_all([self], current)
    }

    /// What becomes of a value; none: there is nothing.
    fn on(self, there: Option<Value>) -> Result<Value, String> {
        let list = |there| match there {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(format!("`{}` wants a JSON list where there is {}", self.as_str(), kind(&other))),
        };
        Ok(match self {
            Self::Set(bytes) => parsed("the value", bytes)?,
            Self::Increment(by) => match there {
                None => Value::from(by),
                Some(Value::Number(number)) => Value::Number(sum(&number, by)?),
                Some(other) => return Err(format!("`increment` wants a JSON number where there is {}", kind(&other))),
            },
            Self::Append(operand) => {
                let mut list = list(there)?;
                list.push(parsed("the value to append", operand.as_bytes())?);
                Value::Array(list)
            }
            Self::Union(operand) => {
                let mut all = list(there)?;
                let Value::Array(more) = parsed("the list to unite with", operand.as_bytes())? else {
                    return Err("`union` takes a JSON list".into());
                };
                let mut known: HashSet<String> = all.iter().map(canonical).collect();
                all.extend(more.into_iter().filter(|value| known.insert(canonical(value))));
                Value::Array(all)
            }
            Self::MergePatch(operand) => {
                let patch = parsed("the merge patch", operand.as_bytes())?;
                patched(there.unwrap_or_else(|| Value::Object(Map::new())), patch)
            }
        })
    }
}

/// What comes of a value by these rules, one after the other: the value is read and written once.
///
/// # Errors
/// As [`Merge::apply`], of the first that does not fit.
pub fn apply_all<'a>(rules: impl IntoIterator<Item = Merge<'a>>, current: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let mut rules = rules.into_iter().peekable();
    let Some(first) = rules.next() else { return Ok(current.unwrap_or_default().to_vec()) };
    if let (Merge::Set(bytes), None) = (first, rules.peek()) {
        return Ok(bytes.to_vec());
    }
    let there = || current.map(|bytes| parsed("the value that is there", bytes)).transpose();
    let there = if matches!(first, Merge::Set(_)) { None } else { there()? };
    let new = rules.try_fold(first.on(there)?, |there, rule| rule.on(Some(there)))?;
    Ok(new.to_string().into_bytes())
}

pub(crate) fn parsed(what: &str, bytes: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("{what} is not JSON: {e}"))?;
    if depth(&value) > MAX_NESTING {
        return Err(format!("{what} is nested deeper than {MAX_NESTING} levels"));
    }
    Ok(value)
}

fn depth(value: &Value) -> usize {
    // serde_json reads at most 128 levels.
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn sum(number: &Number, by: i64) -> Result<Number, String> {
    if let Some(whole) = number.as_i64() {
        return whole
            .checked_add(by)
            .map(Number::from)
            .ok_or_else(|| format!("{whole} and {by} are more than 64 bits hold"));
    }
    if let Some(whole) = number.as_u64() {
        return whole
            .checked_add_signed(by)
            .map(Number::from)
            .ok_or_else(|| format!("{whole} and {by} are more than 64 bits hold"));
    }
    let float = number.as_f64().unwrap_or(f64::NAN) + by as f64;
    Number::from_f64(float).ok_or_else(|| "the sum is no number that JSON can write".into())
}

pub(crate) fn kind(value: &Value) -> &'static str {
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
            members.sort_by(|a, b| a.0.cmp(b.0));
            let members: Vec<String> =
                members.iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// RFC 7396, section 2.
pub(crate) fn patched(target: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else { return patch };
    let mut target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    let mut gone = HashSet::new();
    for (name, value) in patch {
        if value.is_null() {
            gone.insert(name);
        } else {
            let before = target.get_mut(&name).map_or(Value::Null, Value::take);
            target.insert(name, patched(before, value));
        }
    }
    // All at once: to take one member out of its place moves all those behind it.
    if !gone.is_empty() {
        target.retain(|name, _| !gone.contains(name));
    }
    Value::Object(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(rule: Merge<'_>, current: Option<&str>) -> Result<String, String> {
        rule.apply(current.map(str::as_bytes)).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn each_rule_begins_with_its_own_nothing_and_goes_on() {
        for (rule, current, wanted) in [
            (Merge::Set(b"x"), Some("y"), "x"),
            (Merge::Increment(2), None, "2"),
            (Merge::Increment(-3), Some("1"), "-2"),
            (Merge::Increment(1), Some("0.5"), "1.5"),
            (Merge::Increment(1), Some("18446744073709551614"), "18446744073709551615"),
            (Merge::Append("{\"a\":1}"), None, "[{\"a\":1}]"),
            (Merge::Append("2"), Some("[1]"), "[1,2]"),
            (Merge::Union("[1,2,2]"), None, "[1,2]"),
            (Merge::Union("[{\"b\":2,\"a\":1},3]"), Some("[{\"a\":1,\"b\":2}]"), "[{\"a\":1,\"b\":2},3]"),
            (Merge::MergePatch("{\"a\":null,\"c\":{\"d\":1}}"), Some("{\"a\":1,\"b\":2}"), "{\"b\":2,\"c\":{\"d\":1}}"),
        ] {
            assert_eq!(applied(rule, current).as_deref(), Ok(wanted), "{rule:?} on {current:?}");
        }
    }

    /// Member by member this took minutes.
    #[test]
    fn a_patch_takes_many_members_out_at_once() {
        let members = |value: &str| (0..50_000).map(|n| format!("\"m{n}\":{value}")).collect::<Vec<_>>().join(",");
        let (all, nulls) = (format!("{{{},\"rest\":1}}", members("1")), format!("{{{}}}", members("null")));
        assert_eq!(applied(Merge::MergePatch(&nulls), Some(&all)).as_deref(), Ok(r#"{"rest":1}"#));
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn merge_patches_are_those_of_the_rfc() {
        for (original, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r"{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            (r"{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let rule = Merge::MergePatch(patch);
            assert_eq!(applied(rule, Some(original)).as_deref(), Ok(result), "{original} and {patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said_and_nothing_is_guessed() {
        for (rule, current, why) in [
            (Merge::Increment(1), "\"x\"", "a JSON number where there is a string"),
            (Merge::Increment(1), "x", "the value that is there is not JSON"),
            (Merge::Increment(1), "9223372036854775807", "64 bits"),
            (Merge::Append("1"), "{}", "a JSON list where there is an object"),
            (Merge::Append("x"), "[]", "the value to append is not JSON"),
            (Merge::Union("1"), "[]", "takes a JSON list"),
        ] {
            let error = applied(rule, Some(current)).unwrap_err();
            assert!(error.contains(why), "{rule:?} on {current}: {error}");
        }
    }
}
