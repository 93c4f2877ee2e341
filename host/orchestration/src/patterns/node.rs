//! A node with its modifiers: whether it is done at all, how long it may take, how its output is judged, how often it is tried, and
//! what is done in its place.
//!
//! In this order: `when`; `timeout` over what follows; the pattern's own work, judged by `validate`, begun anew by `retry`; then
//! `fallback`, one after the other; then `on-error`. A node for which nothing is done in its place fails as its work did, or waits for
//! people. What undoes its work stands ready before that begins; before the work is begun anew, or something else done in its place,
//! what was done of it is undone.

use std::time::Duration;

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Node, Retry, Then};

use super::agent::JudgedBy;
use super::compensation::undo;
use super::{Decision, Input, Output, Pattern, Question, Todo, of, pattern};

pub(super) struct Modified {
    work: Box<dyn Pattern>,
    /// Whether it is a step: its pattern judges it and tries it by itself.
    is_step: bool,
    has_when: bool,
    has_with: bool,
    has_compensation: bool,
    /// Whether it has an output under its own path, whoever gave that.
    owns_output: bool,
    judged_by: Option<JudgedBy>,
    retry: Retry,
    timeout: Option<Duration>,
    fallback: Vec<Box<dyn Pattern>>,
    handlers: Vec<Box<dyn Pattern>>,
}

impl Modified {
    pub(super) fn new(node: &Node) -> Self {
        let is_step = node.is_step();
        Self {
            work: pattern(node),
            is_step,
            has_when: node.when.is_some(),
            has_with: node.with.is_some(),
            has_compensation: node.compensate.is_some(),
            owns_output: !is_step && has_to_say(node),
            judged_by: JudgedBy::of(node).filter(|_| !is_step),
            retry: node.retry.clone(),
            timeout: node.timeout,
            fallback: node.fallback.iter().map(of).collect(),
            handlers: node.on_error.iter().map(|handler| of(&handler.node)).collect(),
        }
    }

    /// What it works on.
    fn with(at: &StepPath, input: &Input) -> Input {
        Input::With { node: at.clone(), input: Box::new(input.clone()) }
    }

    /// What is next for its own work.
    fn work(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        // A step's is made with its attempt.
        let with = (self.has_with && !self.is_step).then(|| Self::with(at, input));
        let given = match self.work.next(at, history, with.as_ref().unwrap_or(input)) {
            Decision::Done(given) => given,
            undone => return undone,
        };
        if !self.owns_output {
            return Decision::Done(given);
        }
        let node = history.node(at);
        if given != *at && node.and_then(|node| node.gave.as_ref()) != Some(&given) {
            return Decision::just(Todo::End { node: at.clone(), output: Output::Of(given) });
        }
        match &self.judged_by {
            Some(by) => by.next(at, history, node.and_then(|node| node.verdict.as_ref())),
            None => Decision::Done(at.clone()),
        }
    }

    /// What is next now that its own work failed, which is not in the journal yet.
    fn failed(&self, at: &StepPath, history: &History, failure: Failure) -> Decision {
        let tries = match self.is_step {
            // All but a rejection its pattern has looked at already.
            true if failure.code != Code::ValidationFailed => u32::MAX,
            true => history.step(at).map_or(1, |step| step.tries()),
            false => history.node(at).map_or(0, |node| node.failures) + 1,
        };
        let again = tries < self.retry.attempts && self.retry.covers(&failure);
        let is_below = |path: &StepPath| path != at && path.is_within(at);
        if again && let Some(undone) = undo(history, at, &failure, is_below) {
            return undone;
        }
        if again || !self.fallback.is_empty() || !self.handlers.is_empty() {
            return Decision::just(Todo::Fail { node: at.clone(), failure, again });
        }
        Decision::Failed(failure)
    }

    /// What is next now that its own work has failed for good: what is done in its place.
    fn rescued(&self, at: &StepPath, history: &mut History, input: &Input, failure: Failure) -> Decision {
        if history.node(at).is_some_and(|node| node.is_rescued()) {
            return Decision::Done(at.clone());
        }
        let give = |of| Decision::just(Todo::End { node: at.clone(), output: Output::Of(of) });
        // Before something is done in its place all that was done until then is undone.
        let undone = |history: &History, number: usize| {
            let place = at.child(number);
            let is_meant = |path: &StepPath| path.is_within(at) && !path.is_within(&place);
            if history.has_begun(&place) { None } else { undo(history, at, &failure, is_meant) }
        };
        for (number, fallback) in (Node::FALLBACK..).zip(&self.fallback) {
            if let Some(undone) = undone(history, number) {
                return undone;
            }
            match fallback.next(&at.child(number), history, input) {
                Decision::Done(given) => return give(given),
                Decision::Do(todos) => return Decision::Do(todos),
                Decision::Skipped | Decision::Failed(_) => {}
            }
        }
        if self.handlers.is_empty() {
            return Decision::Failed(failure);
        }
        let Some(taken) = history.node(at).and_then(|node| node.handler) else {
            return Decision::just(Todo::Decide { node: at.clone(), question: Question::Handler });
        };
        let Some(number) = taken.map(|number| number as usize) else { return Decision::Failed(failure) };
        let Some(handler) = self.handlers.get(number) else { return Decision::Failed(failure) };
        if let Some(undone) = undone(history, Node::HANDLER + number) {
            return undone;
        }
        match handler.next(&at.child(Node::HANDLER + number), history, input) {
            Decision::Done(given) => give(given),
            Decision::Skipped => Decision::Failed(failure),
            undone => undone,
        }
    }
}

impl Pattern for Modified {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        match self.decide(at, history, input) {
            Decision::Failed(failure) if self.retry.then == Then::Pause => {
                Decision::just(Todo::Halt { node: at.clone(), failure: failure.in_step(at), is_stuck: false })
            }
            decision => decision,
        }
    }
}

impl Modified {
    fn decide(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let node = history.node(at);
        if self.has_when {
            match node.and_then(|node| node.when) {
                None => return Decision::just(Todo::Decide { node: at.clone(), question: Question::When }),
                Some(false) => return Decision::Skipped,
                Some(true) => {}
            }
        }
        if node.is_some_and(|node| node.is_to_be_redone) {
            return redo(at, history);
        }
        let is_ready = node.is_some_and(|node| node.compensation.is_some());
        let until = node.and_then(|node| node.until);
        let (failure, retry_at) = node.map_or((None, None), |node| (node.failure.clone(), node.retry_at));
        if let Some(failure) = failure {
            return self.rescued(at, history, input, failure);
        }
        if self.has_compensation && !is_ready {
            let given = if self.has_with { Self::with(at, input) } else { input.clone() };
            return Decision::just(Todo::Register { node: at.clone(), given });
        }
        if self.timeout.is_some() && until.is_none() {
            return Decision::just(Todo::Start { node: at.clone() });
        }
        let retry_at = retry_at.filter(|due| *due > history.now());
        let decision = match retry_at {
            Some(until) => Decision::just(Todo::Wait { node: at.clone(), until }),
            None => self.work(at, history, input),
        };
        match decision {
            Decision::Failed(failure) => self.failed(at, history, failure),
            Decision::Do(mut todos) => {
                let Some(until) = until else { return Decision::Do(todos) };
                // While all of it waits for people its time stands still.
                if todos.iter().all(|todo| matches!(todo, Todo::Halt { .. })) {
                    return Decision::Do(todos);
                }
                if until <= history.now() {
                    return Decision::just(Todo::TimeOut { node: at.clone() });
                }
                // It is waited for one thing at a time, for what comes first.
                match todos.iter_mut().find(|todo| matches!(todo, Todo::Wait { node, .. } if node == at)) {
                    Some(Todo::Wait { until: other, .. }) => *other = until.min(*other),
                    _ => todos.push(Todo::Wait { node: at.clone(), until }),
                }
                Decision::Do(todos)
            }
            over => over,
        }
    }
}

/// Whether somebody asks for a node's output under its own path, or whether it came to one.
fn has_to_say(node: &Node) -> bool {
    node.id.is_some() || node.validate.is_some() || node.compensate.is_some() || node.retry.attempts > 1
}

/// It is begun anew, for somebody resumed the run: what was done of it is undone first.
fn redo(at: &StepPath, history: &History) -> Decision {
    let failure = Failure::new(Code::Cancelled, "somebody resumed the run: it is done anew").in_step(at);
    undo(history, at, &failure, |path| path.is_within(at))
        .unwrap_or_else(|| Decision::just(Todo::Fail { node: at.clone(), failure, again: true }))
}
