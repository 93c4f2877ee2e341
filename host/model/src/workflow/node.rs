//! A node of the tree of patterns, and what stands below it under which number.
//!
//! Invariant: a number below a node never comes to mean another thing: journals are full of paths.

use std::time::Duration;

use super::choice::Handler;
use super::fault::Place;
use super::given::With;
use super::loops::Loop;
use super::map::MapItems;
use super::name::StepName;
use super::retry::Retry;
use super::{Condition, Context, Does, Validate};
use crate::StepPath;
use crate::agent::AgentRef;
use crate::fork::Raised;

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

impl Node {
    /// Every condition that stands at it.
    pub fn conditions(&self) -> Vec<&Condition> {
        fn whens(handlers: &[Handler]) -> Vec<&Condition> {
            handlers.iter().filter_map(|handler| handler.when.as_ref()).collect()
        }
        let own: Vec<&Condition> = match &self.does {
            Does::Choice(choice) => whens(&choice.options),
            Does::Loop(again) => again.until.iter().collect(),
            Does::Debate(debate) => debate.until.iter().collect(),
            _ => Vec::new(),
        };
        self.when.iter().chain(whens(&self.on_error)).chain(own).collect()
    }

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

    pub(super) fn collect<'a>(&'a self, into: &mut Vec<&'a Self>) {
        into.push(self);
        self.children().into_iter().chain(self.template()).for_each(|node| node.collect(into));
        self.behind().chain(self.compensation()).for_each(|(_, node)| node.collect(into));
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
