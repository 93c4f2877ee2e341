//! Workflow documents: a name and a tree of patterns.
//!
//! Invariants: a [`Document`] has been checked whole, so nothing that stands in one has to be checked again: names parse,
//! step names are unique, picks are of steps that come before, numbers are within their bounds. [`Document::to_json`] writes
//! one form only, and reading it gives the same document: that is what a run is pinned to.
//!
//! To add a pattern: a variant of [`Node`], its word in `read.rs`, and a file in orchestration's `patterns/`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ltmc_rules::Name;
use serde_json::{Map, Value, json};

use crate::agent::AgentRef;
use crate::ids::InvalidId;
use crate::{Digest, WorkflowName};

mod pick;
mod read;
mod tree;

pub use pick::{Pick, Source};

/// The largest document, in bytes.
pub const MAX_LEN: usize = 1 << 20;
/// How many steps one may have.
pub const MAX_STEPS: usize = 1_000;
/// How deep its patterns may nest.
pub const MAX_DEPTH: usize = 32;
/// How many faults are told at once.
pub const MAX_FAULTS: usize = 100;

/// A workflow's document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name, which is also the one it is put under.
    pub name: WorkflowName,
    /// What it does.
    pub flow: Node,
}

/// One node of the tree of patterns.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// One agent's work.
    Agent(Box<AgentStep>),
    /// One after the other; at least one.
    Sequence(Vec<Node>),
}

/// A step that an agent does.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentStep {
    /// Who does it.
    pub agent: AgentRef,
    /// What others call it; the agent's name unless said otherwise. Unique in the document.
    pub id: StepName,
    /// What its input is made of besides the output of the step before.
    pub with: Option<With>,
    /// How its output is judged.
    pub validate: Option<Validate>,
    /// How often it is tried.
    pub retry: Retry,
    /// Where it stands in the source.
    pub place: Place,
}

/// A step's name within its document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepName(Arc<str>);

/// What a step's input is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum With {
    /// Just this, whatever the step before gave.
    Pick(Pick),
    /// These fields, over those of the step before where it gave an object.
    Fields(Vec<(String, Template)>),
}

/// A value with picks in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// A value without any.
    Constant(Value),
    /// What stands at a place.
    Pick(Pick),
    /// An object with picks in it.
    Object(Vec<(String, Template)>),
    /// A list with picks in it.
    Array(Vec<Template>),
}

/// How a step's output is judged.
#[derive(Debug, Clone, PartialEq)]
pub enum Validate {
    /// By a JSON Schema.
    Schema {
        /// The schema.
        schema: Value,
        /// Where it stands in the source.
        place: Place,
    },
    /// By an agent that exports `validator`.
    Agent {
        /// Which.
        agent: AgentRef,
        /// Where it stands in the source.
        place: Place,
    },
}

/// How often a step is tried, and how long it waits between: exponential back-off with full jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Tries in all, 1 to [`Retry::MAX_ATTEMPTS`].
    pub attempts: u32,
    /// The longest wait after the first try.
    pub backoff: Duration,
    /// What each further wait is multiplied by, 1 to [`Retry::MAX_FACTOR`].
    pub factor: f64,
    /// No wait is longer.
    pub max: Duration,
}

/// A place in a document's source; line and column from 1 on, 0 where it has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// Where a thing stands is no part of what it is: a document and its canonical form are equal.
impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// One thing wrong with a document.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, and what would be right.
    pub message: String,
}

/// Everything that is wrong with a document, in the order of its lines; at most [`MAX_FAULTS`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.text())]
pub struct Faults(pub Vec<Fault>);

impl Document {
    /// Reads YAML or JSON. `name`: what the document must be called.
    ///
    /// # Errors
    /// Everything that is wrong with it at once; where it is not even YAML, only where that shows.
    pub fn parse(source: &str, name: Option<&WorkflowName>) -> Result<Self, Faults> {
        read::document(&tree::parse(source).map_err(|fault| Faults(vec![fault]))?, name)
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn from_json(json: &str) -> Result<Self, Faults> {
        let value: Value = serde_json::from_str(json)
            .map_err(|e| Faults(vec![Fault { place: Place::default(), message: e.to_string() }]))?;
        read::document(&tree::Tree::from(value), None)
    }

    /// The one form that a run is pinned to: what is as by default is left out.
    pub fn to_json(&self) -> String {
        json!({ "name": self.name, "flow": self.flow.to_value() }).to_string()
    }

    /// The digest of [`Self::to_json`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }

    /// Every step, in the order of the document.
    pub fn steps(&self) -> Vec<&AgentStep> {
        let mut steps = Vec::new();
        self.flow.collect(&mut steps);
        steps
    }

    /// Every agent that it names, with the export it must have there: `true` for a validator.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentRef, Place, bool)> {
        self.steps().into_iter().flat_map(|step| {
            let validator = match &step.validate {
                Some(Validate::Agent { agent, place }) => Some((agent, *place, true)),
                Some(Validate::Schema { .. }) | None => None,
            };
            std::iter::once((&step.agent, step.place, false)).chain(validator)
        })
    }
}

impl Node {
    fn collect<'a>(&'a self, steps: &mut Vec<&'a AgentStep>) {
        match self {
            Self::Agent(step) => steps.push(step),
            Self::Sequence(children) => children.iter().for_each(|child| child.collect(steps)),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Agent(step) => step.to_value(),
            Self::Sequence(children) => json!({ "sequence": children.iter().map(Self::to_value).collect::<Vec<_>>() }),
        }
    }
}

impl AgentStep {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        out.insert("agent".into(), self.agent.to_string().into());
        if self.id.as_str() != self.agent.name.as_str() {
            out.insert("id".into(), self.id.as_str().into());
        }
        match &self.with {
            Some(With::Pick(pick)) => drop(out.insert("with".into(), pick.to_string().into())),
            Some(With::Fields(fields)) => drop(out.insert("with".into(), fields_to_value(fields))),
            None => {}
        }
        match &self.validate {
            Some(Validate::Schema { schema, .. }) => {
                out.insert("validate".into(), json!({ "json-schema": schema }));
            }
            Some(Validate::Agent { agent, .. }) => {
                out.insert("validate".into(), json!({ "agent": agent.to_string() }));
            }
            None => {}
        }
        if self.retry != Retry::none() {
            out.insert("retry".into(), self.retry.to_value());
        }
        Value::Object(out)
    }
}

impl Template {
    fn to_value(&self) -> Value {
        match self {
            Self::Constant(Value::String(text)) if text.starts_with('$') => format!("${text}").into(),
            Self::Constant(value) => value.clone(),
            Self::Pick(pick) => pick.to_string().into(),
            Self::Object(fields) => fields_to_value(fields),
            Self::Array(items) => Value::Array(items.iter().map(Self::to_value).collect()),
        }
    }
}

fn fields_to_value(fields: &[(String, Template)]) -> Value {
    Value::Object(fields.iter().map(|(name, value)| (name.clone(), value.to_value())).collect())
}

impl Retry {
    /// Most tries of a step.
    pub const MAX_ATTEMPTS: u32 = 100;
    /// The largest factor.
    pub const MAX_FACTOR: f64 = 10.0;
    /// The longest wait that can be asked for.
    pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

    /// One try.
    pub fn none() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// The longest wait after try number `tries`, from 1 on; the jitter draws from nothing up to this.
    pub fn longest_wait(&self, tries: u32) -> Duration {
        let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait = self.backoff.as_secs_f64() * self.factor.powi(exponent);
        // Not a number and infinity come out as the longest.
        if wait < self.max.as_secs_f64() { Duration::from_secs_f64(wait) } else { self.max }
    }

    fn to_value(self) -> Value {
        json!({
            "attempts": self.attempts,
            "backoff": humantime::format_duration(self.backoff).to_string(),
            "factor": self.factor,
            "max": humantime::format_duration(self.max).to_string(),
        })
    }
}

/// What `retry: {}` means.
impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, backoff: Duration::from_millis(200), factor: 2.0, max: Duration::from_secs(30) }
    }
}

impl StepName {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StepName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if (Name::AGENT.fits)(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::new(text, "a step's name", Name::AGENT.rule))
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Faults {
    fn text(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests;
