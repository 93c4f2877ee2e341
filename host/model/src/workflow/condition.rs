//! Conditions: one small grammar that always comes to an answer.
//!
//! Invariant: total. What is not there, or is of another kind than it is compared with, does not hold: nothing fails.

use serde_json::{Number, Value};

use super::Pick;

/// What holds or does not.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Every one of these holds.
    All(Vec<Condition>),
    /// At least one of these holds.
    Any(Vec<Condition>),
    /// This does not hold.
    Not(Box<Condition>),
    /// What is picked passes a test.
    Test {
        /// What is looked at.
        pick: Pick,
        /// What is asked of it.
        test: Test,
    },
}

/// What is asked of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It is this. Numbers are compared by their value.
    Equals(Value),
    /// It is one of these.
    In(Vec<Value>),
    /// It is a number less than this.
    Less(Number),
    /// It is a number that is this or more.
    AtLeast(Number),
    /// It is a text that begins so.
    Prefix(String),
    /// It is a text that ends so.
    Suffix(String),
    /// Whether there is anything. Null is something.
    Exists(bool),
}

impl Condition {
    /// How deep `all`, `any` and `not` nest at most.
    pub const MAX_DEPTH: usize = 16;
    /// How many tests one has at most.
    pub const MAX_TESTS: usize = 256;

    /// Everything that is picked.
    pub fn picks(&self) -> Vec<&Pick> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::picks).collect(),
            Self::Not(part) => part.picks(),
            Self::Test { pick, .. } => vec![pick],
        }
    }

    /// Whether it holds. `find`: what stands at a pick; none: nothing does.
    pub fn holds(&self, find: &impl Fn(&Pick) -> Option<Value>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(find)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(find)),
            Self::Not(part) => !part.holds(find),
            Self::Test { pick, test } => test.passes(find(pick).as_ref()),
        }
    }
}

impl Test {
    fn passes(&self, found: Option<&Value>) -> bool {
        let Some(found) = found else { return *self == Self::Exists(false) };
        let text = |fits: &dyn Fn(&str) -> bool| found.as_str().is_some_and(fits);
        let number = |fits: &dyn Fn(f64) -> bool| found.as_f64().is_some_and(fits);
        let bound = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
        match self {
            Self::Equals(wanted) => is_same(found, wanted),
            Self::In(wanted) => wanted.iter().any(|wanted| is_same(found, wanted)),
            Self::Less(most) => number(&|n| n < bound(most)),
            Self::AtLeast(least) => number(&|n| n >= bound(least)),
            Self::Prefix(start) => text(&|t| t.starts_with(start)),
            Self::Suffix(end) => text(&|t| t.ends_with(end)),
            Self::Exists(wanted) => *wanted,
        }
    }
}

/// Numbers are the same where their values are, whole or not; objects whatever their fields' order.
pub fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| is_same(one, other)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_test_comes_to_an_answer_for_every_value() {
        let values =
            [None, Some(json!(null)), Some(json!(3)), Some(json!("abc")), Some(json!([1])), Some(json!({"a": 1}))];
        let number = |n: i64| Number::from(n);
        for (test, wanted) in [
            (Test::Equals(json!(3.0)), [false, false, true, false, false, false]),
            (Test::Equals(json!(null)), [false, true, false, false, false, false]),
            (Test::Equals(json!({"a": 1.0})), [false, false, false, false, false, true]),
            (Test::In(vec![json!("abc"), json!([1])]), [false, false, false, true, true, false]),
            (Test::Less(number(4)), [false, false, true, false, false, false]),
            (Test::Less(number(3)), [false; 6]),
            (Test::AtLeast(number(3)), [false, false, true, false, false, false]),
            (Test::AtLeast(number(4)), [false; 6]),
            (Test::Prefix("ab".into()), [false, false, false, true, false, false]),
            (Test::Suffix("bc".into()), [false, false, false, true, false, false]),
            (Test::Exists(true), [false, true, true, true, true, true]),
            (Test::Exists(false), [true, false, false, false, false, false]),
        ] {
            let pick: Pick = "$.input".parse().unwrap();
            let one = Condition::Test { pick, test };
            let both = Condition::All(vec![one.clone(), Condition::Not(Box::new(one.clone()))]);
            let either = Condition::Any(vec![one.clone(), Condition::Not(Box::new(one.clone()))]);
            for (value, wanted) in values.iter().zip(wanted) {
                let find = |_: &Pick| value.clone();
                assert_eq!(one.holds(&find), wanted, "{one:?} of {value:?}");
                assert!(!both.holds(&find) && either.holds(&find));
            }
        }
    }
}
