//! What each entry of a journal makes of a history.
//!
//! To add one: its arm in [`History::advance`], and what takes more than a line in a method below.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::child::{Ended, MAX_CHILDREN};
use ltmc_model::effect::Reply;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::hand_off::HandedOff;
use ltmc_model::journal::{Amended, Decided, Effect, Entry, Event, RunStarted};
use ltmc_model::message::Trail;
use ltmc_model::{Payload, RunId, Seq, StepPath, Timestamp};

use super::rounds::Keeps;
use super::{Effects, History, Phase, Step};
use crate::node::{Approval, Asks, Child, Joined, Listens, Round, Voted};
use crate::undoing::Ending;

impl History {
    /// Takes in the next entry, which stands at `seq`.
    #[expect(clippy::too_many_lines, reason = "a table: an arm for each kind of entry")]
    pub fn advance(&mut self, seq: Seq, entry: &Entry) {
        let at = entry.at;
        self.seq = seq;
        let order = Seq(self.behind + seq.0);
        self.updated_at = at;
        self.tick(at);
        self.tail.grow(&entry.event);
        if !matches!(entry.event, Event::Act(_) | Event::Sealed { .. }) {
            self.suspended = None;
        }
        match &entry.event {
            Event::RunStarted(started) => self.run_started(started, at),
            Event::RunClaimed { .. } => self.steps.values_mut().for_each(Step::go_back),
            Event::Act(_) | Event::Sealed { .. } => {}
            Event::StepStarted { step, attempt, transaction, .. } => {
                (self.phase, self.is_retrying) = (Phase::UnderWay, false);
                self.change(step, |step| step.begin(*attempt, at, *transaction, order));
            }
            Event::Effect(effect) => self.effect(effect),
            Event::Checkpoint { step, attempt, .. } => {
                self.progress += 1;
                self.step_mut(step).keep(*attempt);
            }
            Event::Log { step, attempt, number, .. } => {
                if let Some(open) = self.step_mut(step).attempt_mut(*attempt) {
                    open.logs = open.logs.max(*number);
                }
            }
            Event::StepCompleted { step, attempt, output, usage } => {
                self.progress += 1;
                self.change(step, |step| step.complete(*attempt, at, output, *usage, order));
            }
            Event::StepFailed { step, attempt, failure, retry_at, usage } => {
                self.change(step, |step| step.fail(*attempt, at, failure, *retry_at, *usage));
            }
            Event::StepJudged { step, rejection } => {
                let verdict = Some(rejection.clone().map_or(Ok(()), Err));
                match self.steps.get_mut(step) {
                    Some(step) => (step.verdict, step.rejected) = (verdict, rejection.clone()),
                    None => self.node_mut(step).verdict = verdict,
                }
            }
            Event::StepCancelled { step, attempt } => self.change(step, |step| step.cancel(*attempt, at)),
            Event::NodeStarted { node, until } => self.node_mut(node).until = Some(*until),
            Event::NodeDecided { node, decided } => {
                self.decided(node, decided);
                if matches!(decided, Decided::Until(_)) {
                    self.node_mut(node).waits_since = Some(at);
                }
            }
            Event::NodeEnded { node, output } => self.node_ended(node, output, order),
            Event::NodeGave { node, of } => self.node_gave(node, of, order),
            Event::NodeFailed { node, failure, retry_at: None } => self.node_mut(node).failure = Some(failure.clone()),
            Event::NodeFailed { node, retry_at, .. } => self.node_is_retried(node, *retry_at),
            Event::ChildStarted { node, run, .. } => self.child_started(node, *run, at),
            Event::ChildEnded { node, run, result } => self.child_ended(node, *run, result.as_ref(), order),
            Event::NodeTimedOut { node, after } => self.node_timed_out(node, Duration::from_millis(*after)),
            Event::Asked { node, token, question } => {
                let (token, title) = (token.clone(), question.title.clone());
                let asks = Asks { token, title, of: question.of, at, reminded: 0 };
                let node = self.node_mut(node);
                (node.asks, node.waits_since) = (Some(asks), Some(at));
            }
            Event::Reminded { node, number, .. } => {
                if let Some(asks) = &mut self.node_mut(node).asks {
                    asks.reminded = *number;
                }
            }
            Event::Answered { node, answer, comment, .. } => self.answered(node, answer, comment.as_deref(), order),
            Event::Emitted { node, .. } => {
                self.progress += 1;
                self.node_mut(node).is_emitted = true;
            }
            Event::Subscribed { node, topic, subject, kind, after } => {
                let (topic, subject, kind) = (topic.clone(), subject.clone(), kind.clone());
                let (after, heard) = (*after, *after);
                let listens = Listens { topic, subject, kind, after, heard, is_heard: false, is_open: true };
                let node = self.node_mut(node);
                (node.listens, node.waits_since) = (Some(listens), Some(at));
            }
            Event::EventTaken { node, event, trail, .. } => {
                self.trail = Trail::deeper(self.trail.take(), trail.as_deref().cloned());
                self.node_ended(node, event, order);
            }
            Event::WaitCancelled { node } => self.node_mut(node).is_cancelled = true,
            Event::RunSuspended { until, heard } => {
                self.suspended = Some(*until);
                if let Some(heard) = heard {
                    self.heard_up_to(*heard);
                }
            }
            Event::BasePinned { fork, key, base } => self.forked.pinned(fork, key, base.as_ref()),
            Event::BranchChanged(done) => self.forked.done(done),
            Event::ContextMerged(merged) => {
                self.progress += 1;
                self.forked.merged(merged);
            }
            Event::ContextConflicted { node, conflicts, count } => self.forked.conflicted(node, conflicts, *count),
            Event::HandedOff(handed) => self.handed_off(handed),
            Event::ConflictRaised(raised) => self.forked.raised(raised),
            Event::MergeAnswered { node, key, answer, .. } => self.forked.answered(node, key, answer),
            Event::CompensationRegistered { node, given } => self.registered(node, given),
            Event::CompensationStarted { node, within, failure } => self.in_vain(node, within, failure),
            Event::Compensated { node } => {
                self.progress += 1;
                self.compensated(node);
            }
            Event::RunFailing { failure } => self.unwind(at, Ending::Failing(failure.clone())),
            Event::RunCancelling { by, reason } => {
                self.unwind(at, Ending::Cancelling { by: by.clone(), reason: reason.clone() });
            }
            Event::RunPaused { failure, .. } => self.phase = Phase::Paused(at, failure.clone()),
            Event::RunContinued { .. } => {
                self.was_resumed = true;
                self.go_on(at);
            }
            Event::RunStuck { failure } => self.phase = Phase::Stuck(failure.clone()),
            Event::RunCompleted { step } => self.end(at, Phase::Completed(step.clone())),
            Event::RunFailed { failure } => self.end(at, Phase::Failed(failure.clone())),
            Event::RunCancelled { by, reason } => {
                self.end(at, Phase::Cancelled { by: by.clone(), reason: reason.clone() });
            }
            // What is open stays so, with what it has in hand: whoever resumes it goes on there.
            Event::RunQuarantined { taken_up } => self.phase = Phase::Quarantined(*taken_up),
            Event::AgentReplaced { agent, to, .. } => {
                if let Some(started) = &mut self.started {
                    Arc::make_mut(started).agents.insert(agent.clone(), *to);
                }
            }
            Event::Amended(amended) => self.amended.push(Amended::clone(amended)),
            Event::RunResumed { .. } => self.resumed(order, at),
        }
    }

    fn run_started(&mut self, started: &RunStarted, at: Timestamp) {
        if started.forked.is_some() {
            self.cut_off(at);
        }
        let follows = started.follows.as_ref().map(|follows| follows.trail.clone());
        self.trail = Trail::deeper(self.trail.take(), follows);
        self.started = Some(Arc::new(started.clone()));
        self.created_at = at;
    }

    fn effect(&mut self, effect: &Effect) {
        if let Ok(Reply::Begun(run) | Reply::Ended(Ended { run, .. })) = &effect.reply
            && self.children.len() < MAX_CHILDREN
        {
            self.children.insert(*run);
        }
        let keep = self.effects == Effects::Keep;
        self.step_mut(&effect.step).effect(effect, keep);
    }

    fn node_ended(&mut self, node: &StepPath, output: &Payload, order: Seq) {
        self.progress += 1;
        let node = self.node_mut(node);
        (node.output, node.ended_at) = (Some(output.clone()), order);
    }

    fn node_gave(&mut self, node: &StepPath, of: &StepPath, order: Seq) {
        // Of what came from before it nobody need look through all that passed it on.
        let passed_on = self.keeps == Keeps::Recent && !of.is_within(node);
        let of = if passed_on { self.giver(of).clone() } else { of.clone() };
        let node = self.node_mut(node);
        (node.gave, node.ended_at) = (Some(of), order);
    }

    fn node_is_retried(&mut self, node: &StepPath, retry_at: Option<Timestamp>) {
        let failed = self.node_mut(node);
        failed.failures += 1;
        failed.retry_at = retry_at;
        self.begin_anew(node);
        self.is_retrying = true;
    }

    fn node_timed_out(&mut self, node: &StepPath, after: Duration) {
        let failure = Failure::new(Code::TimedOut, format!("it took longer than its time-out of {after:?}"));
        let timed_out = self.node_mut(node);
        timed_out.failure = Some(failure.in_step(node));
        timed_out.is_timed_out = true;
    }

    fn child_started(&mut self, node: &StepPath, run: RunId, at: Timestamp) {
        (self.phase, self.is_retrying) = (Phase::UnderWay, false);
        let (begun, forks) = (self.begun(node).saturating_add(1), self.forks);
        self.begun.insert(node.clone(), begun);
        let node = self.node_mut(node);
        node.child = Some(Child { run, ended: None, again: false, forks });
        node.waits_since = Some(at);
    }

    fn child_ended(&mut self, node: &StepPath, run: RunId, result: Result<&Payload, &Failure>, order: Seq) {
        self.progress += 1;
        let forks = self.forks;
        let node = self.node_mut(node);
        let ended = Some(result.map(|_| ()).map_err(Failure::clone));
        node.child = Some(Child { run, ended, again: false, forks });
        if let Ok(output) = result {
            (node.output, node.ended_at) = (Some(output.clone()), order);
        }
    }

    fn answered(&mut self, node: &StepPath, answer: &Payload, comment: Option<&str>, order: Seq) {
        self.progress += 1;
        let node = self.node_mut(node);
        if node.planned.is_some() {
            // It is about what was planned, and no output.
            let is_given = answer.to_value().is_ok_and(|answer| answer == true);
            node.approval = Some(Approval { is_given, comment: comment.map(str::to_owned) });
            node.asks = None;
        } else {
            (node.output, node.ended_at) = (Some(answer.clone()), order);
        }
    }

    fn handed_off(&mut self, handed: &HandedOff) {
        let node = self.node_mut(&handed.node);
        node.hand_offs.push(handed.clone());
        let turn = node.hand_offs.len();
        self.node_mut(&handed.node.child(turn)).option = Some(Some(handed.number));
    }

    fn resumed(&mut self, order: Seq, at: Timestamp) {
        self.was_resumed = true;
        self.resume();
        for amended in std::mem::take(&mut self.amended) {
            self.amend(&amended, order, at);
        }
        if self.keeps == Keeps::UntilResumed {
            self.keeps = Keeps::Recent;
        }
    }

    fn decided(&mut self, path: &StepPath, decided: &Decided) {
        if let Decided::Round { gave, next, .. } = decided {
            let in_a_row = self.in_a_row(path, gave.as_ref());
            self.node_mut(path).rounds.push(Round { gave: gave.clone(), next: *next, in_a_row });
            return self.forget_rounds(path);
        }
        let node = self.node_mut(path);
        match decided {
            Decided::When(holds) => node.when = Some(*holds),
            Decided::Option(option) => node.option = Some(*option),
            Decided::Handler(handler) => node.handler = Some(*handler),
            Decided::Agent { agent, candidates } => {
                (node.agent, node.candidates) = (Some(agent.clone()), candidates.as_slice().into());
            }
            Decided::Planned(document) => node.planned = Some(document.clone()),
            Decided::Items(items) => node.items = Some(items.as_slice().into()),
            Decided::Round { .. } => {}
            // Whoever speaks later is told of it: none is forgotten.
            Decided::Turn { gave, next, .. } => {
                node.rounds.push(Round { gave: gave.clone(), next: *next, in_a_row: 0 });
            }
            Decided::Until(until) => node.waits_until = Some(*until),
            Decided::Holds(holds) => {
                node.holds = Some(holds.clone());
                self.node_mut(&path.child(0)).option = Some(Some(holds.number));
            }
            Decided::Joined { winners, failure, lost } => {
                let (winners, lost) = (winners.as_slice().into(), lost.as_slice().into());
                node.joined = Some(Joined { winners, failure: failure.clone(), lost });
            }
            Decided::Voted { counts, of, is_won } => {
                node.voted = Some(Voted { counts: counts.as_slice().into(), of: *of, is_won: *is_won });
            }
        }
    }

    /// The run is another one from here on: whatever is open is cut off, and goes on with it from its checkpoint.
    fn cut_off(&mut self, at: Timestamp) {
        let seed = self.started.as_ref().map(|started| started.seed);
        for step in self.steps.values_mut() {
            step.cut_off(at);
            step.took.clear();
            if step.checkpoint.part > 0 && step.seed.is_none() {
                step.seed = seed;
            }
        }
        (self.running, self.waiting, self.is_retrying) = (0, 0, false);
        self.end(at, Phase::Cancelled { by: None, reason: "another run was forked from it".into() });
    }
}
