//! What is begun again: a run that is resumed or goes on, one whose work is undone, and nodes below a failure.

use std::collections::BTreeSet;

use ltmc_model::failure::Code;
use ltmc_model::run::Usage;
use ltmc_model::workflow;
use ltmc_model::{StepPath, Timestamp};

use super::{Attempt, History, Phase, Status, not_needed};
use crate::forked::Forked;
use crate::node::{Branches, Node};
use crate::undoing::{Ending, Undoing};

impl History {
    /// What is open of the run's own work is ended, and then what it did is undone. What undoes something already is not ended: it
    /// begins again at its last checkpoint.
    pub(super) fn unwind(&mut self, at: Timestamp, ending: Ending) {
        (self.phase, self.is_retrying) = (Phase::UnderWay, false);
        let (undoing, own): (Vec<StepPath>, Vec<StepPath>) = self.steps.keys().cloned().partition(is_undoing);
        for path in own {
            self.change(&path, |step| {
                step.took.clear();
                if step.is_open() {
                    step.end(step.last().map_or(0, |last| last.number), at, Some(&not_needed()), Usage::default());
                    step.status = Status::Cancelled;
                }
            });
        }
        undoing.iter().for_each(|path| self.step_mut(path).go_back());
        let own = self.nodes.iter_mut().filter(|(path, _)| !is_undoing(path));
        for child in own.filter_map(|(_, node)| node.child.as_mut()).filter(|child| child.is_open()) {
            child.ended = Some(Err(not_needed()));
        }
        self.undoing.ending = Some(ending);
    }

    /// Whoever paused it goes on: how long that was takes nothing of the time that its nodes may take.
    pub(super) fn go_on(&mut self, at: Timestamp) {
        if let Phase::Paused(since, _) = self.phase {
            let away = at.since(since);
            self.nodes.values_mut().filter_map(|node| node.until.as_mut()).for_each(|until| *until = until.after(away));
        }
        self.phase = Phase::UnderWay;
    }

    /// Somebody goes on with it. What was undone is done again; where it is only what undoes it that failed, that alone is made again.
    pub(super) fn resume(&mut self) {
        let is_over = matches!(self.phase, Phase::Failed(_) | Phase::Cancelled { .. });
        if is_over && (self.undoing.ending.is_some() || self.undoing.is_under_way()) {
            return self.start_over();
        }
        if self.undoing.ending.is_some() || self.undoing.is_under_way() {
            return self.reopen(is_undoing);
        }
        self.redo_what_was_undone();
        self.reopen(|_| true);
    }

    /// All that it did was undone: it is to be done again from the start.
    pub(super) fn start_over(&mut self) {
        (self.phase, self.ended_at, self.is_retrying) = (Phase::UnderWay, None, false);
        for path in self.steps.keys().cloned().collect::<Vec<_>>() {
            self.change(&path, |step| step.begin_anew(true));
        }
        self.nodes.clear();
        self.wear(|_| true);
        self.forked = Forked::default();
        self.undoing = Undoing::default();
    }

    /// What was undone and came to nothing that stays is begun anew, with everything that was in vain with it.
    pub(super) fn redo_what_was_undone(&mut self) {
        let undone = self.nodes.iter().filter(|(_, node)| node.is_undone());
        let within = undone.filter_map(|(_, node)| Some(node.compensation.as_ref()?.begun.as_ref()?.within.clone()));
        let within: BTreeSet<StepPath> = within.filter(|path| !self.is_settled(path, &[])).collect();
        for path in within {
            self.begin_anew(&path);
        }
    }

    /// Everything at a node and below it is to be done again.
    pub(super) fn begin_anew(&mut self, node: &StepPath) {
        let below: Vec<StepPath> = self.steps_within(node).map(|(path, _)| path.clone()).collect();
        for path in below {
            // A step that is a node itself counts its tries on.
            let forgives = path != *node;
            self.change(&path, |step| step.begin_anew(forgives));
        }
        self.nodes.retain(|path, _| path == node || !path.is_within(node));
        self.wear(|path| path.is_within(node));
        self.forked.begin_anew(node);
        self.undoing.forget_below(node);
        self.node_mut(node).begin_anew();
    }

    /// The same, unless something stands ready to undo what was done there: that comes first. Whether it is so at once.
    pub(super) fn redo(&mut self, path: &StepPath) -> bool {
        let is_at_once = self.next_to_undo(|below| below.is_within(path)).is_none();
        if is_at_once {
            self.begin_anew(path);
        } else {
            let node = self.node_mut(path);
            node.is_to_be_redone = true;
            (node.until, node.retry_at, node.failures) = (None, None, 0);
        }
        is_at_once
    }

    /// Of what is meant: what is completed keeps its output, except where that was found wanting; what failed may try again. A
    /// failure that was handled stays so, with everything below it.
    pub(super) fn reopen(&mut self, is_meant: impl Fn(&StepPath) -> bool) {
        // Before verdicts were journaled, a run said over which output it failed.
        let of_the_run = match &self.phase {
            Phase::Failed(failure) if failure.code == Code::ValidationFailed => failure.step.clone(),
            _ => None,
        };
        let is_rescued = |path: &StepPath| self.nodes.get(path).is_some_and(Node::is_rescued);
        let by_verdict =
            self.steps.iter().filter(|(path, step)| matches!(step.verdict, Some(Err(_))) && !is_rescued(path));
        let nodes = self.nodes.iter().filter(|(_, node)| node.is_rejected());
        let rejected = by_verdict.map(|(path, _)| path).chain(nodes.map(|(path, _)| path)).cloned();
        let rejected: Vec<StepPath> = rejected.chain(of_the_run).filter(|path| is_meant(path)).collect();
        self.phase = Phase::UnderWay;
        self.ended_at = None;
        for path in &rejected {
            if !self.is_settled(path, &rejected) {
                self.redo(path);
            }
        }
        self.reopen_nodes(&rejected, &is_meant);
        let settled: BTreeSet<StepPath> = self
            .steps
            .iter()
            .filter(|(_, step)| matches!(step.status, Status::Failed | Status::Cancelled))
            .filter(|(path, _)| self.is_settled(path, &rejected))
            .map(|(path, _)| path.clone())
            .collect();
        let (mut running, mut waiting) = (0, 0);
        for (path, step) in &mut self.steps {
            let has_failed = matches!(step.status, Status::Failed | Status::Cancelled);
            if has_failed && is_meant(path) && !settled.contains(path) {
                let mismatch = |last: &Attempt| last.failure.as_ref().is_some_and(|f| f.code == Code::ReplayMismatch);
                if step.last().is_some_and(mismatch) {
                    // What it did up to its checkpoint stays done, and somebody has it begin at the beginning all the same:
                    // from the checkpoint it would come to the same end.
                    step.forget_checkpoints();
                }
                step.status = Status::Pending;
                step.output = None;
                step.verdict = None;
                // Who failed at it need not be who does it again.
                if let Some(node) = self.nodes.get_mut(path) {
                    node.agent = None;
                }
            }
            step.forgiven = u32::try_from(step.attempts.len()).unwrap_or(u32::MAX);
            running += usize::from(step.status == Status::Running);
            waiting += usize::from(matches!(step.status, Status::Waiting(_)));
        }
        (self.running, self.waiting, self.is_retrying) = (running, waiting, false);
    }

    /// Nodes that gave nothing yet forget how they failed, and what was decided by it.
    pub(super) fn reopen_nodes(&mut self, rejected: &[StepPath], is_meant: &impl Fn(&StepPath) -> bool) {
        let open: Vec<StepPath> = self
            .nodes
            .iter()
            .filter(|(path, node)| is_meant(path) && !node.has_ended() && !self.is_settled(path, rejected))
            .map(|(path, _)| path.clone())
            .collect();
        for path in open {
            let Some(node) = self.nodes.get_mut(&path) else { continue };
            let has_failed = node.failure.take().is_some();
            (node.until, node.retry_at, node.failures, node.is_timed_out) = (None, None, 0, false);
            (node.handler, node.branches) = (None, Branches::default());
            // What was asked is asked anew: whoever has the old question cannot answer it any more.
            (node.asks, node.is_cancelled) = (None, false);
            node.approval.take_if(|approval| !approval.is_given);
            if let Some(listens) = &mut node.listens {
                // It goes on looking from where it began, and the record is to tell it again.
                (listens.heard, listens.is_heard, listens.is_open) = (listens.after, false, false);
            }
            // What it did is not done again. One that another run began, which this was forked from, stays that one's.
            node.child.take_if(|child| child.forks < self.forks);
            if let Some(child) = &mut node.child {
                (child.ended, child.again) = (None, true);
            }
            if node.joined.as_ref().is_some_and(|joined| joined.failure.is_some()) {
                node.joined = None;
            }
            let again = node.rounds.take_end().map(|_| path.child(workflow::Loop::number(node.rounds.len())));
            if has_failed && self.next_to_undo(|below| below.is_within(&path)).is_some() {
                self.redo(&path);
                continue;
            }
            // What was done in its place may be needed no more, and what it was done for is another failure then.
            let rescues = self.steps.keys().chain(self.nodes.keys()).filter(|_| has_failed).filter_map(|below| {
                let rest = below.is_within(&path).then(|| below.way().nth(path.way().count())).flatten()?;
                let is_rescue = rest >= workflow::Node::FALLBACK && workflow::Node::is_beside(rest);
                is_rescue.then(|| path.child(rest))
            });
            let rescues: BTreeSet<StepPath> = rescues.collect();
            for path in rescues {
                self.begin_anew(&path);
                self.nodes.remove(&path);
            }
            if let Some(round) = again
                && self.redo(&round)
            {
                self.nodes.remove(&round);
            }
        }
    }

    /// Whether something at a path, or above it, has ended all the same: what became of it does not matter any more.
    pub(super) fn is_settled(&self, path: &StepPath, rejected: &[StepPath]) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if !rejected.contains(&path) && self.nodes.get(&path).is_some_and(Node::has_ended) {
                return true;
            }
            // What undoes a node's work is not over because that is.
            at = path.parent().filter(|_| path.way().last() != Some(workflow::Node::COMPENSATION));
        }
        false
    }
}

/// Whether a step is a part of what undoes something.
pub(super) fn is_undoing(path: &StepPath) -> bool {
    workflow::Node::is_undoing(path, &StepPath::root())
}
