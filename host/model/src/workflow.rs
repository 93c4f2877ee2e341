//! Workflow documents: a name, a tree of patterns, and when it is started by itself.
//!
//! Invariants: a [`Document`] has been checked whole, so nothing that stands in one has to be checked again: names parse,
//! step names are unique, picks are of steps that come before, numbers are within their bounds. [`Document::to_json`] writes
//! one form only, and reading it gives the same document: that is what a run is pinned to.
//!
//! To add a pattern: a variant of [`Does`], its words in `schema.rs`, its form in `read/patterns.rs` and `write.rs`, and a file in orchestration's `patterns/`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ltmc_rules::Name;
use serde_json::Value;

use crate::agent::AgentRef;
use crate::caller::Role;
use crate::child::OnParentEnd;
use crate::failure::{Code, Failure};
use crate::filter::Filter;
use crate::fork::Raised;
use crate::gather::{Gather, Rate};
use crate::ids::InvalidId;
use crate::schedule::Timing;
use crate::trigger::Trigger;
use crate::{Digest, StepPath, WorkflowName};

mod acts;
mod ask;
pub mod cases;
mod collect;
mod condition;
mod context;
mod debate;
mod emit;
mod gist;
mod hand_off;
mod pick;
pub mod places;
mod read;
pub mod schema;
mod tree;
mod wait;
mod write;

pub use acts::Acts;
pub use ask::{Ask, Remind};
pub use collect::{Collect, Rule, Vote};
pub use condition::{Condition, Test, is_same};
pub use context::{Context, Settle};
pub use debate::{Debate, Turn};
pub use emit::Emit;
pub use gist::words;
pub use hand_off::{HandOff, Pass};
pub use pick::{Pick, Source};
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

/// One node of the tree of patterns: what it does, and the modifiers that every node may have.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it does.
    pub does: Does,
    /// What others call it. Unique in the document; an agent's step has the agent's name unless said otherwise.
    pub id: Option<StepName>,
    /// Where this does not hold the node is skipped.
    pub when: Option<Condition>,
    /// What its input is made of besides what comes before it.
    pub with: Option<With>,
    /// How its output is judged.
    pub validate: Option<Validate>,
    /// How often it is tried.
    pub retry: Retry,
    /// How long it may take, all its tries and pauses together.
    pub timeout: Option<Duration>,
    /// What is done in its place where it fails, one after the other until one does not.
    pub fallback: Vec<Node>,
    /// What is done where it fails and no fallback helped: the first whose condition holds.
    pub on_error: Vec<Handler>,
    /// What undoes its own work, where that turns out to have been in vain.
    pub compensate: Option<Box<Node>>,
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

/// A workflow that another one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubWorkflow {
    /// Which, as it is when it is started.
    pub workflow: WorkflowName,
    /// What becomes of its run where the node, or the run that started it, is over before it.
    pub on_parent_end: OnParentEnd,
}

/// Work that an agent takes apart into a document, which is then done.
#[derive(Debug, Clone, PartialEq)]
pub struct Planning {
    /// The agent's step, which gives the document.
    pub planner: Node,
    /// The agents that may stand in it.
    pub may: Vec<(AgentRef, Place)>,
    /// How deep its patterns may nest.
    pub depth: u32,
    /// How many steps it may have.
    pub at_most: u32,
    /// The smallest role that has to approve of it before it is done; none: nobody is asked.
    pub approve: Option<Role>,
}

impl Planning {
    /// How many agents can be named.
    pub const MAX_MAY: usize = 100;
    /// How deep a plan may nest where nothing is said.
    pub const DEPTH: u32 = 4;
    /// How many steps it may have where nothing is said.
    pub const AT_MOST: u32 = 20;
    /// The longest plan, in bytes.
    pub const MAX_LEN: usize = 64 << 10;
    /// Who is asked where it is only said that somebody is.
    pub const APPROVES: Role = Role::Author;
}

/// Work for which an agent is looked for when it is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Needed {
    /// What is to be done, in words: agents' descriptions are compared with it.
    pub text: String,
    /// Among which agents; empty: all of the tenant's.
    pub among: Vec<(AgentRef, Place)>,
    /// How well one has to fit at least, from 0 to 1.
    pub at_least: f64,
}

impl Needed {
    /// The longest text, in bytes.
    pub const MAX_TEXT: usize = 2_000;
    /// How many agents can be named.
    pub const MAX_AMONG: usize = 100;
    /// How well one has to fit where nothing is said.
    pub const AT_LEAST: f64 = 0.2;
}

/// Nodes side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Parallel {
    /// At least one; either all of them have names or none.
    pub branches: Vec<(Option<StepName>, Node)>,
    /// How many of them have to succeed.
    pub need: Need,
    /// What becomes of the others once the need cannot be met any more.
    pub on_failure: OnFailure,
    /// What becomes of those that are not needed any more.
    pub on_loss: OnLoss,
    /// How many are under way at once; none: all of them.
    pub at_once: Option<u32>,
    /// What it gives.
    pub collect: Collect,
    /// What its branches have to themselves; none: nothing.
    pub context: Option<Context>,
}

impl Parallel {
    /// What a branch is called, where it has a name.
    pub fn name(&self, number: usize) -> Option<&StepName> {
        let (name, node) = self.branches.get(number)?;
        name.as_ref().or(node.id.as_ref())
    }

    /// What a branch is called: by its name, its node's, or its number.
    pub fn called(&self, number: usize) -> String {
        self.name(number).map_or_else(|| number.to_string(), ToString::to_string)
    }
}

/// How many branches have to succeed. Those that are skipped do not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Need {
    /// All of them.
    All,
    /// At least one.
    Any,
    /// So many.
    Count(u32),
    /// So large a share of them, rounded up.
    Share(f64),
}

/// What becomes of the other branches once the need cannot be met any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They are cancelled.
    Stop,
    /// They go on to their end.
    Continue,
}

/// What becomes of branches that are not needed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// They are cancelled.
    Cancel,
    /// They go on to their end, for which the node waits.
    Finish,
}

/// Nodes of which one is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// In the order in which their conditions are looked at.
    pub options: Vec<Handler>,
    /// What is done where none holds.
    pub otherwise: Option<Box<Node>>,
}

/// What is done where a condition holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Handler {
    /// None: always.
    pub when: Option<Condition>,
    /// What is done.
    pub node: Node,
}

/// A node for every item of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct MapItems {
    /// The list.
    pub over: Pick,
    /// What an item is called: `$.item.NAME`.
    pub name: Option<StepName>,
    /// What is done with each.
    pub body: Node,
    /// How many are under way at once.
    pub at_once: u32,
    /// How many may fail.
    pub tolerate: Tolerate,
    /// What what is done with each has to itself; none: nothing.
    pub context: Option<Context>,
    /// What it gives.
    pub collect: Collect,
}

impl MapItems {
    /// The most items.
    pub const MAX_ITEMS: usize = 10_000;
    /// How many are under way at once where nothing is said.
    pub const AT_ONCE: u32 = 16;
    /// The most that can be under way at once.
    pub const MAX_AT_ONCE: u32 = 1_000;
}

/// How many items may fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerate {
    /// So many.
    Count(u32),
    /// So large a share of them, rounded down.
    Share(f64),
}

/// A node that is done again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// What is done in each round.
    pub body: Node,
    /// Where this holds after a round, that was the last; none: all rounds are made.
    pub until: Option<Condition>,
    /// The most rounds.
    pub at_most: u32,
    /// So many rounds in a row with the same output are one too many.
    pub stall: Option<u32>,
}

impl Loop {
    /// The most rounds that can be asked for.
    pub const MAX_ROUNDS: u32 = 100_000;

    /// The number under which a round stands below its loop. Those for which there is no place before what else may stand there stand
    /// behind it.
    pub fn number(round: usize) -> usize {
        if round < Node::VALIDATOR { round } else { round + (Node::BEHIND - Node::VALIDATOR) }
    }

    /// The round that stands under a number; none: none does.
    pub fn round(number: usize) -> Option<usize> {
        let behind = number.checked_sub(Node::BEHIND).map(|round| round + Node::VALIDATOR);
        let round = if number < Node::VALIDATOR { Some(number) } else { behind };
        round.filter(|round| *round < Self::MAX_ROUNDS as usize)
    }
}

/// What stands below a node under a number of its path.
#[derive(Debug, Clone, Copy)]
pub enum Below<'a> {
    /// The agent that judges the node's output.
    Validator(&'a AgentRef),
    /// A node of its pattern.
    Child(&'a Node),
    /// The node for an item, or of a round: one for every number.
    Template(&'a Node),
    /// A node that is done where the node has failed.
    Rescue(&'a Node),
    /// The node that undoes the node's work.
    Compensation(&'a Node),
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
        /// The agent.
        agent: AgentRef,
        /// Where it stands in the source.
        place: Place,
    },
}

/// How often a step is tried, and how long it waits between: exponential back-off with full jitter.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries in all, 1 to [`Retry::MAX_ATTEMPTS`].
    pub attempts: u32,
    /// The longest wait after the first try.
    pub backoff: Duration,
    /// What each further wait is multiplied by, 1 to [`Retry::MAX_FACTOR`].
    pub factor: f64,
    /// No wait is longer.
    pub max: Duration,
    /// After which failures it is tried again; empty: after those that may pass.
    pub on: Vec<Code>,
    /// What comes where it is not tried again.
    pub then: Then,
}

/// What comes where something has failed and is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// It fails.
    #[default]
    Fail,
    /// The run waits for people, who put right what is wrong.
    Pause,
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
    /// Where in the source it shows.
    pub place: Place,
    /// What, and what would be right.
    pub message: String,
}

/// Everything that is wrong with a document, in the order of its lines; at most [`MAX_FAULTS`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.text())]
pub struct Faults(pub Vec<Fault>);

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

impl Node {
    /// Where a step's validator stands below it, which has nothing else there but what is done where it fails.
    const STEP_VALIDATOR: usize = 0;
    /// Where another node's validator stands below it, behind everything of its pattern.
    pub const VALIDATOR: usize = 10_000;
    /// Where what makes one of all that its pattern gave does.
    pub const CLOSING: usize = 10_001;
    /// Where the first of those does that settle conflicts of its branches: before what makes one of all they gave.
    pub const SETTLING: usize = 10_100;
    /// Where the first of its fallbacks does.
    pub const FALLBACK: usize = 11_000;
    /// Where the first of its handlers of errors does.
    pub const HANDLER: usize = 12_000;
    /// Where what undoes its work does.
    pub const COMPENSATION: usize = 13_000;
    /// Behind all that: where the rounds of a loop go on.
    pub const BEHIND: usize = 20_000;
    /// How many fallbacks it may have, and how many handlers.
    pub const MAX_RESCUES: usize = 100;
    /// The longest time-out that can be asked for: a year.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(31_557_600);

    /// A node without modifiers.
    pub fn new(does: Does, place: Place) -> Self {
        let (id, when, with, validate, timeout) = (None, None, None, None, None);
        let (fallback, on_error, compensate) = (Vec::new(), Vec::new(), None);
        Self { does, id, when, with, validate, retry: Retry::none(), timeout, fallback, on_error, compensate, place }
    }

    /// A step of an agent under its name.
    pub fn step(agent: AgentRef, id: StepName, place: Place) -> Self {
        Self { id: Some(id), ..Self::new(Does::Agent(agent), place) }
    }

    /// Whether it is a step: an agent does its work.
    pub fn is_step(&self) -> bool {
        matches!(self.does, Does::Agent(_) | Does::Need(_))
    }

    /// The number under which its validator stands.
    pub fn validator(&self) -> usize {
        if self.is_step() { Self::STEP_VALIDATOR } else { Self::VALIDATOR }
    }

    /// What stands under a number is something else than a part of its node's pattern: what judges it, is done in its place, or undoes
    /// it.
    pub fn is_beside(number: usize) -> bool {
        (Self::VALIDATOR..Self::BEHIND).contains(&number)
    }

    /// Whether what settles conflicts of branches stands under a number.
    pub fn is_settling(number: usize) -> bool {
        (Self::SETTLING..Self::FALLBACK).contains(&number)
    }

    /// When what stands under a number beside its node's pattern comes, among what else stands there.
    pub fn turn_of(number: usize) -> usize {
        match number {
            // Conflicts are settled before one is made of what branches gave, and that is judged.
            number if Self::is_settling(number) => 0,
            Self::CLOSING => 1,
            Self::VALIDATOR => 2,
            number => number,
        }
    }

    /// What stands below it under a number.
    pub fn below(&self, number: usize) -> Option<Below<'_>> {
        if let (Some(Validate::Agent { agent, .. }), true) = (&self.validate, number == self.validator()) {
            return Some(Below::Validator(agent));
        }
        if number == Self::CLOSING {
            return self.closing().map(|(_, node)| Below::Child(node));
        }
        if Self::is_settling(number) {
            return self.context()?.settle.get(number - Self::SETTLING).map(Below::Child);
        }
        if let Does::Loop(again) = &self.does
            && Loop::round(number).is_some()
        {
            return Some(Below::Template(&again.body));
        }
        if number == Self::COMPENSATION {
            return self.compensate.as_deref().map(Below::Compensation);
        }
        if let Some(number) = number.checked_sub(Self::HANDLER) {
            return self.on_error.get(number).map(|handler| Below::Rescue(&handler.node));
        }
        if let Some(number) = number.checked_sub(Self::FALLBACK) {
            return self.fallback.get(number).map(Below::Rescue);
        }
        match &self.does {
            Does::Agent(_) | Does::Need(_) | Does::Workflow(_) => None,
            Does::Wait(_) | Does::Ask(_) | Does::Emit(_) => None,
            Does::Plan(planning) => (number == 0).then_some(Below::Child(&planning.planner)),
            Does::Sequence(children) => children.get(number).map(Below::Child),
            Does::Parallel(parallel) => parallel.branches.get(number).map(|(_, node)| Below::Child(node)),
            Does::Choice(choice) => choice.option(number).map(Below::Child),
            Does::Map(map) => (number < MapItems::MAX_ITEMS).then_some(Below::Template(&map.body)),
            Does::Loop(_) => None,
            Does::Debate(debate) => (number < debate.turns()).then_some(Below::Template(&debate.turn)),
            Does::HandOff(goes) => (number < goes.turns()).then_some(Below::Template(&goes.turn)),
            Does::Turn(turn) => turn.speaker(number).map(Below::Child),
            Does::Settle(settle) => (number < Raised::MOST * Raised::TIMES).then_some(Below::Template(&settle.by)),
        }
    }

    /// The nodes of its pattern, by their numbers; none for those that have one for every number.
    pub fn children(&self) -> Vec<&Self> {
        match &self.does {
            Does::Agent(_) | Does::Need(_) | Does::Workflow(_) => Vec::new(),
            Does::Map(_) | Does::Loop(_) | Does::Debate(_) | Does::HandOff(_) | Does::Settle(_) => Vec::new(),
            Does::Wait(_) | Does::Ask(_) | Does::Emit(_) => Vec::new(),
            Does::Turn(turn) => turn.chair.iter().chain(&turn.among).collect(),
            Does::Plan(planning) => vec![&planning.planner],
            Does::Sequence(children) => children.iter().collect(),
            Does::Parallel(parallel) => parallel.branches.iter().map(|(_, node)| node).collect(),
            Does::Choice(choice) => (0..).map_while(|number| choice.option(number)).collect(),
        }
    }

    /// The number under which an item stands, or a round.
    pub fn place(&self, item_or_round: usize) -> usize {
        if matches!(self.does, Does::Loop(_)) { Loop::number(item_or_round) } else { item_or_round }
    }

    /// What its branches have to themselves until they come together; none: nothing.
    pub fn context(&self) -> Option<&Context> {
        match &self.does {
            Does::Parallel(parallel) => parallel.context.as_ref(),
            Does::Map(map) => map.context.as_ref(),
            _ => None,
        }
    }

    /// What one of its branches is called, or which item's it is.
    pub fn called(&self, number: u32) -> String {
        match &self.does {
            Does::Parallel(parallel) => parallel.called(number as usize),
            _ => number.to_string(),
        }
    }

    /// What is done for every item or in every round, where there is such a thing.
    pub fn template(&self) -> Option<&Self> {
        match &self.does {
            Does::Map(map) => Some(&map.body),
            Does::Loop(again) => Some(&again.body),
            Does::Debate(debate) => Some(&debate.turn),
            Does::HandOff(goes) => Some(&goes.turn),
            Does::Settle(settle) => Some(&settle.by),
            _ => None,
        }
    }

    /// What settles conflicts of its branches, with its numbers.
    pub fn settling(&self) -> impl Iterator<Item = (usize, &Self)> {
        (Self::SETTLING..).zip(self.context().into_iter().flat_map(|context| &context.settle))
    }

    /// What comes once all of its pattern is over, with its numbers: what settles conflicts, what makes one of all, and what is done
    /// where it fails.
    pub fn behind(&self) -> impl Iterator<Item = (usize, &Self)> {
        self.settling().chain(self.closing()).chain(self.rescues())
    }

    /// What makes one of all that its pattern gave, with its number.
    pub fn closing(&self) -> Option<(usize, &Self)> {
        let node = match &self.does {
            Does::Parallel(parallel) => parallel.collect.agent(),
            Does::Map(map) => map.collect.agent(),
            Does::Debate(debate) => debate.close.as_ref(),
            _ => None,
        };
        node.map(|node| (Self::CLOSING, node))
    }

    /// What is done where it fails, with its numbers.
    pub fn rescues(&self) -> impl Iterator<Item = (usize, &Self)> {
        let fallbacks = (Self::FALLBACK..).zip(&self.fallback);
        fallbacks.chain((Self::HANDLER..).zip(self.on_error.iter().map(|handler| &handler.node)))
    }

    /// What undoes its work, with its number.
    pub fn compensation(&self) -> Option<(usize, &Self)> {
        self.compensate.as_deref().map(|node| (Self::COMPENSATION, node))
    }

    /// Whether `step` is a part of what undoes something below `node`: it is nothing of the node's own work.
    pub fn is_undoing(step: &StepPath, node: &StepPath) -> bool {
        step.way().skip(node.way().count()).any(|number| number == Self::COMPENSATION)
    }

    /// The pattern's word in documents.
    pub fn word(&self) -> &'static str {
        match &self.does {
            Does::Agent(_) => "agent",
            Does::Need(_) => "need",
            Does::Sequence(_) => "sequence",
            Does::Parallel(_) => "parallel",
            Does::Choice(_) => "choice",
            Does::Map(_) => "map",
            Does::Loop(_) => "loop",
            Does::Debate(_) => "debate",
            Does::HandOff(_) => "hand-off",
            Does::Turn(_) => "turn",
            Does::Settle(_) => "settle",
            Does::Wait(_) => "wait",
            Does::Ask(_) => "ask",
            Does::Emit(_) => "emit",
            Does::Workflow(_) => "workflow",
            Does::Plan(_) => "plan",
        }
    }

    /// Every node right below it, to be changed.
    pub fn each_mut(&mut self, change: &mut dyn FnMut(&mut Self)) {
        match &mut self.does {
            Does::Agent(_) | Does::Need(_) | Does::Workflow(_) | Does::Wait(_) | Does::Ask(_) | Does::Emit(_) => {}
            Does::Plan(planning) => change(&mut planning.planner),
            Does::Sequence(children) => children.iter_mut().for_each(&mut *change),
            Does::Parallel(parallel) => {
                parallel.branches.iter_mut().for_each(|(_, node)| change(node));
                parallel.context.iter_mut().flat_map(|context| &mut context.settle).for_each(&mut *change);
                parallel.collect.agent_mut().map(&mut *change);
            }
            Does::Choice(choice) => {
                choice.options.iter_mut().for_each(|option| change(&mut option.node));
                choice.otherwise.iter_mut().for_each(|node| change(node));
            }
            Does::Map(map) => {
                change(&mut map.body);
                map.context.iter_mut().flat_map(|context| &mut context.settle).for_each(&mut *change);
                map.collect.agent_mut().map(&mut *change);
            }
            Does::Loop(again) => change(&mut again.body),
            Does::Debate(debate) => {
                change(&mut debate.turn);
                debate.close.iter_mut().for_each(&mut *change);
            }
            Does::HandOff(goes) => change(&mut goes.turn),
            Does::Turn(turn) => turn.chair.iter_mut().chain(&mut turn.among).for_each(&mut *change),
            Does::Settle(settle) => change(&mut settle.by),
        }
        self.fallback.iter_mut().for_each(&mut *change);
        self.on_error.iter_mut().for_each(|handler| change(&mut handler.node));
        self.compensate.iter_mut().for_each(|node| change(node));
    }

    /// How deep patterns nest in it: 1 for one that has no other in it.
    pub fn depth(&self) -> usize {
        let settle = self.settling().filter_map(|(_, node)| node.template());
        let numbered = self.closing().into_iter().chain(self.rescues()).chain(self.compensation());
        let numbered = numbered.map(|(_, node)| node);
        let below = self.children().into_iter().chain(self.template()).chain(settle).chain(numbered);
        1 + below.map(Self::depth).max().unwrap_or(0)
    }

    fn collect<'a>(&'a self, into: &mut Vec<&'a Self>) {
        into.push(self);
        self.children().into_iter().chain(self.template()).for_each(|node| node.collect(into));
        self.behind().chain(self.compensation()).for_each(|(_, node)| node.collect(into));
    }
}

impl Choice {
    /// What is done under a number: an option, or behind them what is done where none holds.
    pub fn option(&self, number: usize) -> Option<&Node> {
        if number == self.options.len() {
            return self.otherwise.as_deref();
        }
        self.options.get(number).map(|option| &option.node)
    }
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

    /// Whether another try makes sense after a failure.
    pub fn covers(&self, failure: &Failure) -> bool {
        if self.on.is_empty() { failure.may_pass() } else { self.on.contains(&failure.code) }
    }
}

/// What `retry: {}` means.
impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            on: Vec::new(),
            then: Then::Fail,
        }
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
