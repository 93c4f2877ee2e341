//! From JSON to a declaration: each part by itself. What is wrong is said of every part, and then of the whole.

use serde_json::{Map, Value};

use super::{
    Declaration, Emits, Lasts, MAX_INVARIANTS, MAX_NAME, MAX_STATES, MAX_TRANSITIONS, Migrate, Per, Pick, TIMEOUTS,
    Transition, Unhandled, is_name,
};
use crate::condition::{self, Condition};
use crate::merge::kind;
use crate::message::MAX_ATTRIBUTE;
use crate::{Name, is_printable};

/// Of so many faults each is said.
const MAX_FAULTS: usize = 50;

impl Declaration {
    /// Reads one, and checks it whole.
    ///
    /// # Errors
    /// All that is wrong with it, and what would be right.
    pub fn read(value: &Value) -> Result<Self, Vec<String>> {
        let mut reader = Reader::default();
        let read = reader.whole(value);
        let mut faults = reader.faults;
        if let Some(declaration) = &read {
            faults.extend(declaration.faults());
        }
        let more = faults.len().saturating_sub(MAX_FAULTS);
        faults.truncate(MAX_FAULTS);
        if more > 0 {
            faults.push(format!("and {more} more"));
        }
        match read {
            Some(declaration) if faults.is_empty() => Ok(declaration),
            _ => Err(faults),
        }
    }
}

#[derive(Default)]
struct Reader {
    faults: Vec<String>,
}

impl Reader {
    fn fault<T>(&mut self, why: impl Into<String>) -> Option<T> {
        self.faults.push(why.into());
        None
    }

    /// An object with no other fields than these.
    fn fields<'v>(&mut self, value: &'v Value, at: &str, known: &[&str]) -> Option<&'v Map<String, Value>> {
        let Value::Object(fields) = value else {
            return self.fault(format!("{at} is a table, this is {}", kind(value)));
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let name: String = name.chars().take(80).collect();
            self.faults.push(format!("{at} has an unknown field `{name}`; known are {}", known.join(", ")));
        }
        Some(fields)
    }

    fn list<'v>(&mut self, fields: &'v Map<String, Value>, name: &str, most: usize) -> &'v [Value] {
        match fields.get(name) {
            None => &[],
            Some(Value::Array(items)) if items.len() <= most => items,
            Some(Value::Array(items)) => {
                self.faults.push(format!("`{name}` has {} entries, at most {most} are taken", items.len()));
                &[]
            }
            Some(other) => {
                self.faults.push(format!("`{name}` is a list, this is {}", kind(other)));
                &[]
            }
        }
    }

    /// A field that names a state or an event.
    fn name(&mut self, fields: &Map<String, Value>, at: &str, field: &str) -> Option<String> {
        match fields.get(field) {
            None => self.fault(format!("{at}: `{field}` is missing")),
            Some(Value::String(text)) if is_name(text) => Some(text.clone()),
            Some(_) => self.fault(format!("{at}: `{field}` is 1 to {MAX_NAME} of a-z, 0-9, `-`, `_` and `.`")),
        }
    }

    fn word<T: Copy>(&mut self, fields: &Map<String, Value>, field: &str, words: &[(&str, T)]) -> Option<T> {
        let given = fields.get(field)?;
        let found = words.iter().find(|(word, _)| given.as_str() == Some(word)).map(|(_, means)| *means);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.faults.push(format!("`{field}` is one of {}, not `{given}`", known.join(", ")));
        }
        found
    }

    fn number(&mut self, fields: &Map<String, Value>, at: &str, field: &str) -> Option<u32> {
        let number = fields.get(field).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if number > 0 => Some(number),
            _ => self.fault(format!("{at}: `{field}` is a whole number from 1 on")),
        }
    }

    fn whole(&mut self, value: &Value) -> Option<Declaration> {
        let known = [
            "version",
            "initial",
            "data",
            "per",
            "schema",
            "states",
            "transitions",
            "invariants",
            "unhandled",
            "migrate",
        ];
        let fields = self.fields(value, "`state`", &known)?;
        let version = self.number(fields, "`state`", "version");
        let initial = self.name(fields, "`state`", "initial");
        let data = match fields.get("data") {
            None => Value::Object(Map::new()),
            Some(data @ Value::Object(_)) => data.clone(),
            Some(other) => {
                self.faults.push(format!("`data`, which it begins with, is an object, this is {}", kind(other)));
                Value::Object(Map::new())
            }
        };
        let per = self.word(fields, "per", &[("agent", Per::Agent), ("session", Per::Session)]).unwrap_or_default();
        let schema = fields.get("schema").cloned();
        if let Some(other) = schema.as_ref().filter(|schema| !schema.is_object() && !schema.is_boolean()) {
            self.faults.push(format!("`schema` is a JSON Schema: an object, this is {}", kind(other)));
        }
        let states = self.states(fields.get("states"));
        let all = self.list(fields, "transitions", MAX_TRANSITIONS);
        let transitions = all.iter().enumerate().filter_map(|(at, one)| self.transition(at, one)).collect();
        let all = self.list(fields, "invariants", MAX_INVARIANTS);
        let invariants = all.iter().enumerate().filter_map(|(at, one)| self.invariant(at, one)).collect();
        let words = [("reject", Unhandled::Reject), ("ignore", Unhandled::Ignore), ("defer", Unhandled::Defer)];
        let unhandled = self.word(fields, "unhandled", &words).unwrap_or_default();
        let migrate = fields.get("migrate").and_then(|migrate| self.migrate(migrate));
        let (version, initial, states) = (version?, initial?, states?);
        Some(Declaration { version, initial, data, per, schema, states, transitions, invariants, unhandled, migrate })
    }

    fn states(&mut self, value: Option<&Value>) -> Option<std::collections::BTreeMap<String, Lasts>> {
        let Some(Value::Object(all)) = value else {
            return self
                .fault("`states` is missing: a table of states by name, such as `{idle: {}, done: {final: true}}`");
        };
        if !(1..=MAX_STATES).contains(&all.len()) {
            return self.fault(format!("there are 1 to {MAX_STATES} states, not {}", all.len()));
        }
        let mut states = std::collections::BTreeMap::new();
        for (name, value) in all {
            if !is_name(name) {
                let name: String = name.chars().take(80).collect();
                let what = format!("a state's name is 1 to {MAX_NAME} of a-z, 0-9, `-`, `_` and `.`, not `{name}`");
                self.faults.push(what);
                continue;
            }
            let lasts = self.lasts(name, value).unwrap_or_default();
            states.insert(name.clone(), lasts);
        }
        Some(states)
    }

    fn lasts(&mut self, name: &str, value: &Value) -> Option<Lasts> {
        let at = format!("state `{name}`");
        let fields = self.fields(value, &at, &["timeout", "to", "emit", "final"])?;
        let is_final = match fields.get("final") {
            None => false,
            Some(Value::Bool(is_final)) => *is_final,
            Some(_) => self.fault(format!("{at}: `final` is true or false"))?,
        };
        let timeout = match (fields.get("timeout"), fields.contains_key("to")) {
            (None, false) => None,
            (None, true) => self.fault(format!("{at}: `to` says what comes after a `timeout`, which is missing")),
            (Some(_), false) => self.fault(format!("{at}: `to` is missing: what comes after its `timeout`")),
            (Some(timeout), true) => {
                let span = timeout.as_str().and_then(span).filter(|span| (TIMEOUTS.0..=TIMEOUTS.1).contains(span));
                if span.is_none() {
                    self.faults.push(format!("{at}: `timeout` is a duration from 1s to 366d, such as `10m`"));
                }
                span.zip(self.name(fields, &at, "to"))
            }
        };
        let emits = fields.get("emit").and_then(|emit| self.emits(&at, emit));
        if timeout.is_none() && fields.contains_key("emit") {
            self.faults
                .push(format!("{at}: `emit` says what is published at the end of its `timeout`, which is missing"));
        }
        Some(Lasts { timeout, emits, is_final })
    }

    fn emits(&mut self, at: &str, value: &Value) -> Option<Emits> {
        let at = format!("{at}: `emit`");
        let fields = self.fields(value, &at, &["topic", "type"])?;
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        let topic = text("topic").filter(|topic| (Name::TOPIC.fits)(topic));
        if topic.is_none() {
            self.faults.push(format!("{at}: `topic` is {}", Name::TOPIC.rule));
        }
        let kind = text("type").filter(|kind| is_printable(kind, MAX_ATTRIBUTE));
        if kind.is_none() {
            self.faults.push(format!("{at}: `type` is 1 to {MAX_ATTRIBUTE} bytes without control characters"));
        }
        Some(Emits { topic: topic?.to_owned(), kind: kind?.to_owned() })
    }

    fn transition(&mut self, number: usize, value: &Value) -> Option<Transition> {
        let at = format!("transition {}", number + 1);
        let fields = self.fields(value, &at, &["from", "to", "on", "when"])?;
        let (from, to) = (self.name(fields, &at, "from"), self.name(fields, &at, "to"));
        let on = self.name(fields, &at, "on");
        let before = self.faults.len();
        let when = fields
            .get("when")
            .and_then(|when| condition::read(when, &format!("{at}: `when`"), &Pick::read, &mut self.faults));
        if self.faults.len() > before {
            return None;
        }
        Some(Transition { from: from?, to: to?, on: on?, when })
    }

    fn invariant(&mut self, number: usize, value: &Value) -> Option<Condition<Pick>> {
        let at = format!("invariant {}", number + 1);
        let of_state = |text: &str| {
            let pick = Pick::read(text)?;
            let is_state = pick.source == super::Source::State;
            is_state.then_some(pick).ok_or_else(|| "it holds of the data alone: it picks `$.state…`".to_owned())
        };
        condition::read(value, &at, &of_state, &mut self.faults)
    }

    fn migrate(&mut self, value: &Value) -> Option<Migrate> {
        let fields = self.fields(value, "`migrate`", &["from", "agent"])?;
        let from = self.number(fields, "`migrate`", "from");
        let agent = fields.get("agent").and_then(Value::as_str).filter(|name| (Name::AGENT.fits)(name));
        if agent.is_none() {
            self.faults
                .push("`migrate`: `agent` is the name of the agent that makes the new state of the old one".into());
        }
        Some(Migrate { from: from?, agent: agent?.to_owned() })
    }
}

/// A duration such as `10m`, in milliseconds.
fn span(text: &str) -> Option<u64> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    units.into_iter().find_map(|(unit, millis)| {
        let digits = text.strip_suffix(unit)?;
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()?.checked_mul(millis)).flatten()
    })
}
