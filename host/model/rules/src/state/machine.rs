//! What events, and time, make of a state.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Declaration, MAX_DATA, Transition, Unhandled};
use crate::condition::Condition;
use crate::merge::{parsed, patched};
use crate::state::Pick;

/// A state that an agent is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its name.
    pub state: String,
    /// What is known in it: an object.
    pub data: Value,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// What an agent asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The event's name: what happened.
    pub event: &'a str,
    /// What changes by it: a JSON merge patch of the data.
    pub patch: &'a Value,
    /// The revision that the state has to be at; none: at any.
    pub expected: Option<u64>,
}

/// What an event comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// To this state.
    To(Current),
    /// To nothing.
    Ignored,
    /// It is to be given again after the next transition.
    Deferred,
}

/// The rule by which something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The state has no transition of this event.
    NoTransition,
    /// It has some, and not exactly one of them holds.
    Guard,
    /// The data would not be what the schema says.
    Schema,
    /// An invariant would not hold.
    Invariant,
    /// The state is at another revision than expected.
    Revision,
    /// The state is final.
    Final,
    /// The data, or the patch, is too large.
    Size,
    /// As many events are deferred as may be.
    Deferred,
    /// The state is not one that the declaration knows.
    State,
    /// The state is of a newer version than the agent that asks.
    Version,
    /// The state is set aside until somebody looks at it.
    Quarantined,
}

impl Rule {
    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTransition => "no-transition",
            Self::Guard => "guard",
            Self::Schema => "schema",
            Self::Invariant => "invariant",
            Self::Revision => "revision",
            Self::Final => "final",
            Self::Size => "size",
            Self::Deferred => "deferred",
            Self::State => "state",
            Self::Version => "version",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The rule that was broken.
    pub rule: Rule,
    /// For people: what was wrong, and what would be right.
    pub message: String,
}

impl Refused {
    /// By this rule.
    pub fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }
}

/// Reads a patch. The inner error: it is too large.
///
/// # Errors
/// Where it is no JSON object.
pub fn patch(text: &str) -> Result<Result<Value, Refused>, String> {
    if text.len() > MAX_DATA {
        let message = format!("a patch has at most {MAX_DATA} bytes, this one has {}", text.len());
        return Ok(Err(Refused::new(Rule::Size, message)));
    }
    match parsed("the patch", text.as_bytes())? {
        patch @ Value::Object(_) => Ok(Ok(patch)),
        _ => Err("the patch is a JSON object: a merge patch of the state's data, `{}` where nothing changes".into()),
    }
}

impl Declaration {
    /// Where an agent begins.
    pub fn first(&self, now_ms: u64) -> Current {
        Current { state: self.initial.clone(), data: self.data.clone(), since_ms: now_ms }
    }

    /// When the state ends by itself, and what comes then.
    pub fn due(&self, current: &Current) -> Option<(u64, &str)> {
        let (lasts, to) = self.states.get(&current.state)?.timeout.as_ref()?;
        Some((current.since_ms.saturating_add(*lasts), to))
    }

    /// What comes next by time alone, where it has come by now.
    pub fn ended(&self, current: &Current, now_ms: u64) -> Option<Current> {
        let (at, to) = self.due(current).filter(|(at, _)| *at <= now_ms)?;
        Some(Current { state: to.to_owned(), data: current.data.clone(), since_ms: at })
    }

    /// What has become of it by now, with time alone.
    pub fn lapsed(&self, mut current: Current, now_ms: u64) -> Current {
        // No ring of them is declared.
        for _ in 0..=self.states.len() {
            match self.ended(&current, now_ms) {
                Some(next) => current = next,
                None => break,
            }
        }
        current
    }

    /// Whether a state is one of these: all but what a schema says.
    ///
    /// # Errors
    /// The rule that it is against.
    pub fn fits(&self, current: &Current) -> Result<(), Refused> {
        let Current { state, data, .. } = current;
        if !self.states.contains_key(state) {
            let message = format!("there is no state `{state}` in version {} of the declaration", self.version);
            return Err(Refused::new(Rule::State, message));
        }
        if !data.is_object() {
            return Err(Refused::new(Rule::State, "the data of a state is a JSON object"));
        }
        let size = data.to_string().len();
        if size > MAX_DATA {
            let message = format!("the data of a state has at most {MAX_DATA} bytes as JSON, this has {size}");
            return Err(Refused::new(Rule::Size, message));
        }
        let broken = self.invariants.iter().position(|invariant| !holds(invariant, data, &Value::Null));
        broken.map_or(Ok(()), |number| {
            Err(Refused::new(Rule::Invariant, format!("invariant {} does not hold of the data", number + 1)))
        })
    }

    /// What an event makes of a state at this revision.
    ///
    /// # Errors
    /// The rule by which it is refused.
    pub fn transition(
        &self,
        current: &Current,
        revision: u64,
        asked: &Asked<'_>,
        now_ms: u64,
    ) -> Result<Came, Refused> {
        if let Some(expected) = asked.expected.filter(|expected| *expected != revision) {
            let message = format!("the state is at revision {revision}, not {expected}");
            return Err(Refused::new(Rule::Revision, message));
        }
        Ok(match (self.moved(current, asked, now_ms)?, self.unhandled) {
            (Some(next), _) => Came::To(next),
            (None, Unhandled::Defer) => Came::Deferred,
            (None, Unhandled::Reject | Unhandled::Ignore) => Came::Ignored,
        })
    }

    /// The state that an event leads to; none: the state does nothing with it, and that is well.
    pub(super) fn moved(&self, current: &Current, asked: &Asked<'_>, now_ms: u64) -> Result<Option<Current>, Refused> {
        let Some(to) = self.taken(current, asked)? else { return Ok(None) };
        let data = patched(current.data.clone(), asked.patch.clone());
        let next = Current { state: to.to_owned(), data, since_ms: now_ms };
        self.fits(&next)?;
        Ok(Some(next))
    }

    /// Where an event leads; none: nowhere, and that is well.
    fn taken(&self, current: &Current, asked: &Asked<'_>) -> Result<Option<&str>, Refused> {
        let (state, event) = (current.state.as_str(), shown(asked.event));
        let of: Vec<&Transition> =
            self.transitions.iter().filter(|one| one.from == state && one.on == asked.event).collect();
        if of.is_empty() {
            if self.unhandled == Unhandled::Ignore {
                return Ok(None);
            }
            if self.states.get(state).is_some_and(|lasts| lasts.is_final) {
                return Err(Refused::new(Rule::Final, format!("`{state}` is final: `{event}` leads nowhere")));
            }
            // What no state has a transition for would wait for ever.
            if self.unhandled == Unhandled::Defer && self.transitions.iter().any(|way| way.on == asked.event) {
                return Ok(None);
            }
            let message = match self.events(state) {
                events if events.is_empty() => {
                    format!("`{state}` has no transition on `{event}`, nor on anything else")
                }
                events => format!("`{state}` has no transition on `{event}`; it has on {events}"),
            };
            return Err(Refused::new(Rule::NoTransition, message));
        }
        let guarded: Vec<&&Transition> = of
            .iter()
            .filter(|one| one.when.as_ref().is_some_and(|when| holds(when, &current.data, asked.patch)))
            .collect();
        match guarded.as_slice() {
            [one] => Ok(Some(&one.to)),
            [] => match of.iter().find(|one| one.when.is_none()) {
                Some(otherwise) => Ok(Some(&otherwise.to)),
                None => {
                    let message = format!("no `when` of the transitions of `{event}` in `{state}` holds");
                    Err(Refused::new(Rule::Guard, message))
                }
            },
            several => {
                let count = several.len();
                let message = format!(
                    "{count} transitions of `{event}` in `{state}` hold at once: which is meant is not guessed"
                );
                Err(Refused::new(Rule::Guard, message))
            }
        }
    }

    /// The events that a state has transitions for, for people.
    fn events(&self, state: &str) -> String {
        let mut events: Vec<&str> =
            self.transitions.iter().filter(|one| one.from == state).map(|one| one.on.as_str()).collect();
        events.sort_unstable();
        events.dedup();
        events.iter().take(20).map(|event| format!("`{event}`")).collect::<Vec<_>>().join(", ")
    }
}

fn holds(condition: &Condition<Pick>, data: &Value, event: &Value) -> bool {
    condition.holds(&|pick: &Pick| pick.find(data, event).map(Cow::Borrowed))
}

/// An event as it was given may be anything.
fn shown(event: &str) -> String {
    event.chars().filter(|c| !c.is_control()).take(80).collect()
}

impl Default for Current {
    fn default() -> Self {
        Self { state: String::new(), data: Value::Object(Map::new()), since_ms: 0 }
    }
}
