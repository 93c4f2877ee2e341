//! Workflow documents: a name, a tree of patterns, and when it is started by itself.
//!
//! Invariants: a [`Document`] has been checked whole, so nothing that stands in one has to be checked again: names parse,
//! step names are unique, picks are of steps that come before, numbers are within their bounds. [`Document::to_json`] writes
//! one form only, and reading it gives the same document: that is what a run is pinned to.
//!
//! To add a pattern: a variant of [`Does`], its words in `schema/patterns.rs`, its form in `read/patterns.rs` and `write.rs`, and a file in orchestration's `patterns/`.

use serde_json::Value;

use crate::agent::AgentRef;
use crate::filter::Filter;
use crate::gather::{Gather, Rate};
use crate::schedule::Timing;
use crate::trigger::Trigger;
use crate::{Digest, WorkflowName};

mod acts;
mod ask;
pub mod cases;
mod choice;
mod collect;
mod condition;
mod context;
mod debate;
mod emit;
mod fault;
mod gist;
mod given;
mod hand_off;
mod loops;
mod map;
mod name;
mod needed;
mod node;
mod parallel;
mod pick;
pub mod places;
mod read;
mod retry;
pub mod schema;
mod sub;
mod tree;
mod wait;
mod write;

pub use acts::Acts;
pub use ask::{Ask, Remind};
pub use choice::{Choice, Handler};
pub use collect::{Collect, Rule, Vote};
pub use condition::{Condition, Test, is_same};
pub use context::{Context, Settle};
pub use debate::{Debate, Turn};
pub use emit::Emit;
pub use fault::{Fault, Faults, Place};
pub use gist::words;
pub use given::{Template, With};
pub use hand_off::{HandOff, Pass};
pub use loops::Loop;
pub use map::{MapItems, Tolerate};
pub use name::StepName;
pub use needed::Needed;
pub use node::{Below, Node};
pub use parallel::{Need, OnFailure, OnLoss, Parallel};
pub use pick::{Pick, Source};
pub use retry::{Retry, Then};
pub use sub::{Planning, SubWorkflow};
pub use wait::{Listen, Moment, Since, Wait};

/// The largest document, in bytes.
pub const MAX_LEN: usize = 1 << 20;
/// How many steps one may have.
pub const MAX_STEPS: usize = 1_000;
/// How many nodes of all kinds: fewer than there are numbers for what stands in a node before what stands beside it.
pub const MAX_NODES: usize = 5_000;
/// How deep its patterns may nest.
pub const MAX_DEPTH: usize = 32;
/// How many faults are told at once.
pub const MAX_FAULTS: usize = 100;

/// A workflow's document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name, which is also the one it is put under.
    pub name: WorkflowName,
    /// When it is started by itself, by their numbers from 1 on; no two are the same.
    pub schedules: Vec<Schedule>,
    /// Which events start it, by their numbers from 1 on; no two are the same.
    pub triggers: Vec<Heard>,
    /// What it does.
    pub flow: Node,
}

/// Events that start a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Which, and what becomes of them.
    pub trigger: Trigger,
    /// Where it stands in the source.
    pub place: Place,
}

/// A time at which a workflow is started by itself, again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The times at which it is started, and what becomes of those that are missed.
    pub timing: Timing,
    /// On what; none: on `null`.
    pub input: Option<Value>,
    /// Where it stands in the source.
    pub place: Place,
}

/// What a node does. A pattern's children are its node's ([`Node::child`]).
#[derive(Debug, Clone, PartialEq)]
pub enum Does {
    /// One agent's work: a step.
    Agent(AgentRef),
    /// The work of whichever agent fits best: a step too.
    Need(Box<Needed>),
    /// One after the other; at least one.
    Sequence(Vec<Node>),
    /// Side by side.
    Parallel(Parallel),
    /// The first whose condition holds.
    Choice(Choice),
    /// The same for every item of a list, side by side.
    Map(Box<MapItems>),
    /// The same again and again.
    Loop(Box<Loop>),
    /// Agents that speak in turn.
    Debate(Box<Debate>),
    /// A conversation that agents hand on to each other.
    HandOff(Box<HandOff>),
    /// One turn of a debate, or of a conversation: in no document by itself.
    Turn(Box<Turn>),
    /// What settles conflicts of branches: in no document by itself.
    Settle(Box<Settle>),
    /// Another workflow, as a run of its own.
    Workflow(SubWorkflow),
    /// A document that an agent writes, as a run of its own.
    Plan(Box<Planning>),
    /// Nothing, for some time; then on with what it was given.
    Wait(Wait),
    /// A question to people.
    Ask(Box<Ask>),
    /// An event, published; then on with what it was given.
    Emit(Box<Emit>),
}

/// What an agent is to do in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A step's work.
    Work,
    /// To judge what a node gave.
    Judge,
    /// To make one of what branches gave.
    Collect,
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
        /// The agent.
        agent: AgentRef,
        /// Where it stands in the source.
        place: Place,
    },
}

/// Reads which events are meant.
pub(crate) fn read_filter(text: &str) -> Result<Filter, Faults> {
    if text.len() > Filter::MAX_LEN {
        let message = format!("a filter has at most {} bytes, this one has {}", Filter::MAX_LEN, text.len());
        return Err(Faults(vec![Fault { place: Place::default(), message }]));
    }
    read::filter(&tree::parse(text).map_err(|fault| Faults(vec![fault]))?)
}

/// Reads which events start something, as an entry of `on` says it; `start`: what they start.
pub(crate) fn read_subscription(entry: &serde_json::Value, start: crate::run::Target) -> Result<Trigger, Faults> {
    read::subscription(&tree::parse(&entry.to_string()).map_err(|fault| Faults(vec![fault]))?, start)
}

/// Which of the known words somebody meant who wrote another, where one is near enough.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    read::nearest(given, known)
}

/// Reads how a subscription starts runs: what of `rate`, `debounce`, `batch` and `join` stands there, as an entry of `on` says it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_flow(entry: &serde_json::Value) -> Result<(Option<Rate>, Option<Gather>), Faults> {
    read::flow(&tree::parse(&entry.to_string()).map_err(|fault| Faults(vec![fault]))?)
}

/// The same, written out.
pub fn flow_value(trigger: &Trigger) -> serde_json::Value {
    write::flow_value(trigger)
}

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
        read::pinned(&tree::Tree::from(value))
    }

    /// The digest of [`Self::to_json`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }

    /// Every agent's step, in the order of the document.
    pub fn steps(&self) -> Vec<&Node> {
        self.nodes().into_iter().filter(|node| node.is_step()).collect()
    }

    /// Every node, in the order of the document.
    pub fn nodes(&self) -> Vec<&Node> {
        let mut nodes = Vec::new();
        self.flow.collect(&mut nodes);
        nodes
    }

    /// Every JSON Schema in it, with the node that has it and its place.
    pub fn schemas(&self) -> Vec<(&Node, Place, &Value)> {
        let mut schemas = Vec::new();
        for node in self.nodes() {
            if let Some(Validate::Schema { schema, place }) = &node.validate {
                schemas.push((node, *place, schema));
            }
            if let Does::Ask(ask) = &node.does
                && let Some((schema, place)) = &ask.schema
            {
                schemas.push((node, *place, schema));
            }
            let asked = node.conditions().into_iter().flat_map(|condition| condition.schemas());
            schemas.extend(asked.map(|(_, schema)| (node, node.place, schema)));
        }
        schemas
    }

    /// Every workflow that it starts, and where.
    pub fn workflows(&self) -> impl Iterator<Item = (&WorkflowName, Place)> {
        self.nodes().into_iter().filter_map(|node| match &node.does {
            Does::Workflow(started) => Some((&started.workflow, node.place)),
            _ => None,
        })
    }

    /// Every agent that it names, and what it is to do there.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentRef, Place, Part)> {
        let nodes = self.nodes();
        let collects = |node: &&Node| matches!(node.does, Does::Parallel(_) | Does::Map(_));
        let of_branches = nodes.iter().copied().filter(collects).filter_map(Node::closing);
        let collectors: Vec<&Node> = of_branches.map(|(_, node)| node).collect();
        nodes.into_iter().flat_map(move |node| {
            let is_collector = collectors.iter().any(|collector| std::ptr::eq(*collector, node));
            let part = if is_collector { Part::Collect } else { Part::Work };
            let (step, among) = match &node.does {
                Does::Agent(agent) => (Some((agent, node.place, part)), &[][..]),
                Does::Need(needed) => (None, needed.among.as_slice()),
                Does::Plan(planning) => (None, planning.may.as_slice()),
                _ => (None, &[][..]),
            };
            let among = among.iter().map(|(agent, place)| (agent, *place, Part::Work));
            let validator = match &node.validate {
                Some(Validate::Agent { agent, place }) => Some((agent, *place, Part::Judge)),
                Some(Validate::Schema { .. }) | None => None,
            };
            step.into_iter().chain(among).chain(validator)
        })
    }
}

impl Schedule {
    /// Of all that it is: two that have the same are the same.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_value().to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests;
