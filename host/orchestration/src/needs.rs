//! Whose outputs a step works on, or was decided by: what its `with` picks, what comes before it, and what the conditions, choices and
//! maps around it look at.
//!
//! Invariants: found when the step begins, from the plan and what has happened so far, and journaled with its beginning. So many are
//! kept and no more. Whose output a node passes on stands in its place.

use std::collections::BTreeSet;

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::provenance::MAX_NEEDS;
use ltmc_model::workflow::{Condition, Does, Node, Pick, Source, With};

use crate::input;
use crate::patterns::Input;
use crate::plan::{Plan, Scope, Work};

/// How often an input is made of another one, at most.
const MAX_NESTED: usize = 16;

/// What the step, or another node that begins something, at `at` needs, where `input` is what comes before it.
pub(crate) fn of(plan: &Plan, history: &History, at: &StepPath, input: &Input) -> Vec<StepPath> {
    let mut needs = Needs { plan, history, found: BTreeSet::new() };
    for above in ltmc_model::provenance::covers(at) {
        // A validator is no node: what it judges is its input.
        if let Ok((node, scope)) = plan.node(&above) {
            needs.decided_by(node, &scope, above == *at);
            needs.held_before(node, &above, at);
        }
    }
    // What somebody wants it done on comes from nowhere else.
    let is_given = history.step(at).is_some_and(|step| step.given.is_some());
    match plan.find(at).map(|found| found.work) {
        Ok(Work::Node(_)) if !is_given => needs.built(at, input, 0),
        Ok(Work::Validator(_)) => needs.input(input, 0),
        Ok(Work::Node(_)) | Err(_) => {}
    }
    needs.found.remove(at);
    needs.found.into_iter().take(MAX_NEEDS).collect()
}

struct Needs<'a> {
    plan: &'a Plan,
    history: &'a History,
    found: BTreeSet<StepPath>,
}

impl Needs<'_> {
    /// What decided that a node, or what is below it, is done.
    fn decided_by(&mut self, node: &Node, scope: &Scope, is_itself: bool) {
        self.condition(node.when.as_ref(), scope);
        match &node.does {
            Does::Choice(choice) if !is_itself => {
                choice.options.iter().for_each(|option| self.condition(option.when.as_ref(), scope));
            }
            Does::Map(map) if !is_itself => self.pick(&map.over, scope),
            _ => {}
        }
    }

    /// Who held a conversation before the holder that stands at `at`.
    fn held_before(&mut self, node: &Node, above: &StepPath, at: &StepPath) {
        let (Does::HandOff(_), Some(turn)) = (&node.does, at.way().nth(above.way().count())) else { return };
        for before in 0..turn {
            let at = above.child(before);
            let holder = self.history.node(&at).and_then(|turn| turn.option.flatten());
            self.found.extend(holder.map(|holder| at.child(holder as usize)));
        }
    }

    fn condition(&mut self, condition: Option<&Condition>, scope: &Scope) {
        condition.into_iter().flat_map(Condition::picks).for_each(|pick| self.pick(pick, scope));
    }

    /// What a node works on.
    fn built(&mut self, at: &StepPath, input: &Input, nested: usize) {
        let Ok((node, scope)) = self.plan.node(at) else { return };
        let with = node.with.as_ref();
        with.into_iter().flat_map(input::picks).for_each(|pick| self.pick(pick, &scope));
        if !matches!(with, Some(With::Pick(_))) {
            self.input(input, nested);
        }
    }

    fn input(&mut self, input: &Input, nested: usize) {
        if nested > MAX_NESTED {
            return;
        }
        match input {
            // Items are what the map around it works on.
            Input::Run | Input::Item { .. } => {}
            Input::Output(of) => self.gave(of),
            Input::Branches { gave, .. } => gave.iter().flatten().for_each(|of| self.gave(of)),
            // What it works on is what each branch did, and so what they were.
            Input::Conflict { node, by, number } => {
                let fork = self.history.forked().of(node);
                let raised = fork.and_then(|fork| {
                    fork.ever_raised().iter().find(|raised| (raised.by, raised.number) == (*by, *number))
                });
                if let (Some(fork), Some(raised)) = (fork, raised) {
                    self.found.extend(fork.sides(raised).into_iter().map(|side| side.step.clone()));
                }
            }
            Input::Turns { debate, before, input } => {
                let history = self.history;
                let turns = history.node(debate).into_iter().flat_map(|node| node.rounds.iter());
                turns.take(*before as usize).filter_map(|turn| turn.gave.as_ref()).for_each(|of| self.gave(of));
                self.input(input, nested + 1);
            }
            Input::With { node, input } => self.built(node, input, nested + 1),
            Input::Undone(node) if self.history.output(node).is_some() => self.gave(node),
            Input::Undone(node) => self.given(node, nested),
        }
    }

    /// What a node was given whose work is undone.
    fn given(&mut self, node: &StepPath, nested: usize) {
        let registered = self.history.node(node).and_then(|node| node.compensation.as_ref());
        if let Some(input) = registered.map(|compensation| compensation.given.clone()) {
            self.input(&input, nested + 1);
        }
    }

    fn pick(&mut self, pick: &Pick, scope: &Scope) {
        match &pick.source {
            Source::Step(name) => {
                if let Ok(path) = self.plan.path(name, scope)
                    && self.history.given(&path).is_some()
                {
                    self.gave(&path);
                }
            }
            Source::Last => {
                let before = || scope.round.as_ref().and_then(|(path, round)| input::last(self.history, path, *round));
                if let Some(path) = scope.last.clone().or_else(before) {
                    self.gave(&path);
                }
            }
            Source::Output => {
                if let Some(node) = &scope.undone {
                    self.gave(node);
                }
            }
            Source::Given => {
                if let Some(node) = &scope.undone {
                    self.given(node, 0);
                }
            }
            Source::Error => self.found.extend(scope.failed.clone().or_else(|| scope.undone.clone())),
            Source::Input
            | Source::Item(_)
            | Source::Index(_)
            | Source::Round
            | Source::ScheduledAt
            | Source::Rejected
            | Source::Event => {}
        }
    }

    fn gave(&mut self, path: &StepPath) {
        self.found.insert(self.history.giver(path).clone());
    }
}
