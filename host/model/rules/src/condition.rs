//! Conditions: one small grammar that always comes to an answer.
//!
//! Invariant: total. What is not there, or is of another kind than it is compared with, does not hold: nothing fails. What is picked, and
//! from what, says whoever asks: `P` is its pick. Of workflows' documents they are read with lines and columns, elsewhere by [`read`].

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// What holds or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition<P> {
    /// Every one of these holds.
    All(Vec<Condition<P>>),
    /// At least one of these holds.
    Any(Vec<Condition<P>>),
    /// This does not hold.
    Not(Box<Condition<P>>),
    /// What is picked passes a test.
    Test {
        /// What is looked at.
        pick: P,
        /// What is asked of it.
        test: Test,
    },
}

/// What is asked of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// It fits this JSON Schema. Somebody else judges that, and settles it ([`Condition::settled`]) before the condition is looked at: as
    /// long as it is not settled it does not hold.
    Fits(Value),
}

/// How deep `all`, `any` and `not` nest at most.
pub const MAX_DEPTH: usize = 16;
/// How many tests one has at most.
pub const MAX_TESTS: usize = 256;

impl<P> Condition<P> {
    /// How deep `all`, `any` and `not` nest at most.
    pub const MAX_DEPTH: usize = MAX_DEPTH;
    /// How many tests one has at most.
    pub const MAX_TESTS: usize = MAX_TESTS;

    /// Everything that is picked.
    pub fn picks(&self) -> Vec<&P> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::picks).collect(),
            Self::Not(part) => part.picks(),
            Self::Test { pick, .. } => vec![pick],
        }
    }

    /// The JSON Schemas that it asks for, in the order of [`Self::settled`], each with what is picked.
    pub fn schemas(&self) -> Vec<(&P, &Value)> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::schemas).collect(),
            Self::Not(part) => part.schemas(),
            Self::Test { pick, test: Test::Fits(schema) } => vec![(pick, schema)],
            Self::Test { .. } => Vec::new(),
        }
    }

    /// The same, with each of [`Self::schemas`] in the place of its answer.
    #[must_use]
    pub fn settled(self, answers: &mut impl Iterator<Item = bool>) -> Self {
        let mut parts =
            |parts: Vec<Self>| -> Vec<Self> { parts.into_iter().map(|part| part.settled(answers)).collect() };
        match self {
            Self::All(all) => Self::All(parts(all)),
            Self::Any(any) => Self::Any(parts(any)),
            Self::Not(part) => Self::Not(Box::new(part.settled(answers))),
            // Of nothing all hold, and none does.
            Self::Test { test: Test::Fits(_), .. } if answers.next() == Some(true) => Self::All(Vec::new()),
            Self::Test { test: Test::Fits(_), .. } => Self::Any(Vec::new()),
            other @ Self::Test { .. } => other,
        }
    }

    /// Whether it holds. `find`: what stands at a pick; none: nothing does.
    pub fn holds<'v>(&self, find: &impl Fn(&P) -> Option<Cow<'v, Value>>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(find)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(find)),
            Self::Not(part) => !part.holds(find),
            Self::Test { pick, test } => test.passes(find(pick).as_deref()),
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
            Self::Fits(_) => false,
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

/// Reads a condition from JSON. `at`: how its place is called; `pick`: reads what is picked. What is wrong is added to `faults`.
pub fn read<P>(
    value: &Value,
    at: &str,
    pick: &impl Fn(&str) -> Result<P, String>,
    faults: &mut Vec<String>,
) -> Option<Condition<P>> {
    let mut reading = Reading { at, pick, faults, tests: 0 };
    let read = reading.part(value, 1);
    let tests = reading.tests;
    if tests > MAX_TESTS {
        faults.push(format!("{at}: a condition has at most {MAX_TESTS} tests, this one has {tests}"));
    }
    read
}

struct Reading<'a, F> {
    at: &'a str,
    pick: &'a F,
    faults: &'a mut Vec<String>,
    tests: usize,
}

const TESTS: [&str; 7] = ["equals", "in", "less", "at-least", "prefix", "suffix", "exists"];

impl<P, F: Fn(&str) -> Result<P, String>> Reading<'_, F> {
    fn fault<T>(&mut self, why: impl std::fmt::Display) -> Option<T> {
        self.faults.push(format!("{}: {why}", self.at));
        None
    }

    fn part(&mut self, value: &Value, depth: usize) -> Option<Condition<P>> {
        if depth > MAX_DEPTH {
            return self.fault(format_args!("conditions nest at most {MAX_DEPTH} deep"));
        }
        let Value::Object(fields) = value else {
            return self.fault("a condition is an object such as `{pick: $.state.total, at-least: 0}`");
        };
        match (fields.len(), fields.iter().next()) {
            (1, Some((word, Value::Array(parts)))) if word == "all" || word == "any" => {
                if parts.is_empty() {
                    return self.fault(format_args!("`{word}` is empty: it has at least one condition"));
                }
                let read: Vec<_> = parts.iter().filter_map(|part| self.part(part, depth + 1)).collect();
                Some(if word == "all" { Condition::All(read) } else { Condition::Any(read) })
            }
            (1, Some((word, part))) if word == "not" => {
                self.part(part, depth + 1).map(|part| Condition::Not(Box::new(part)))
            }
            (2, _) if fields.contains_key("pick") => self.test(fields),
            _ => self.fault("a condition has one of `all`, `any`, `not`, or a `pick` and one test"),
        }
    }

    fn test(&mut self, fields: &Map<String, Value>) -> Option<Condition<P>> {
        self.tests += 1;
        let pick = match fields.get("pick").and_then(Value::as_str).map(self.pick) {
            Some(Ok(pick)) => Some(pick),
            Some(Err(why)) => self.fault(why),
            None => self.fault("`pick` is a text such as `$.state.total`"),
        };
        let (word, wanted) = fields.iter().find(|(word, _)| *word != "pick")?;
        let test = match (word.as_str(), wanted) {
            ("equals", wanted) => Some(Test::Equals(wanted.clone())),
            ("in", Value::Array(wanted)) => Some(Test::In(wanted.clone())),
            ("less", Value::Number(number)) => Some(Test::Less(number.clone())),
            ("at-least", Value::Number(number)) => Some(Test::AtLeast(number.clone())),
            ("prefix", Value::String(text)) => Some(Test::Prefix(text.clone())),
            ("suffix", Value::String(text)) => Some(Test::Suffix(text.clone())),
            ("exists", Value::Bool(wanted)) => Some(Test::Exists(*wanted)),
            (word, _) if TESTS.contains(&word) => {
                self.fault(format_args!("`{word}` is given something of the wrong kind: `{wanted}`"))
            }
            (word, _) => self.fault(format_args!("`{word}` is no test; there are {}", TESTS.join(", "))),
        };
        pick.zip(test).map(|(pick, test)| Condition::Test { pick, test })
    }
}
