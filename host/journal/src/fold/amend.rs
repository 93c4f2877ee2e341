//! What people changed in a run: a step is done and gave this, or is done again; what came of it is forgotten.
//!
//! Invariants: what came before a step, and what stands beside it in other branches, stays as it is. What came after it, in its
//! sequences and loops from the inside out, is done again; so is what was done because something around it failed.

use std::collections::BTreeSet;

use ltmc_model::journal::{Amended, Amendment};
use ltmc_model::workflow::{Loop, Node as Planned};
use ltmc_model::{Seq, StepPath, Timestamp};

use super::{History, Status, Step, not_needed};
use crate::node::Branches;

impl History {
    /// What somebody changed becomes so. Entry `order` says it.
    pub(super) fn amend(&mut self, amended: &Amended, order: Seq, at: Timestamp) {
        let gone: Vec<StepPath> = self.steps.keys().filter(|path| comes_of(amended, path)).cloned().collect();
        for path in gone {
            self.change(&path, |step| step.cut_off(at));
            self.change(&path, |step| step.begin_anew(true));
        }
        self.forget_nodes(amended);
        self.wear(|path| comes_of(amended, path));
        let mut below = amended.step.clone();
        while let (Some(above), Some(number)) = (below.parent(), below.way().last()) {
            if number == Planned::COMPENSATION {
                // What undoes a node's work is nothing of that work.
                break;
            }
            if let Some(node) = self.nodes.get_mut(&above) {
                self.is_cut |= Loop::round(number).is_some_and(|round| round < node.rounds.forgotten());
                node.goes_on_at(number, amended.after.contains(&below));
            }
            let is_behind = Planned::is_beside(number) && number >= Planned::FALLBACK;
            // What settles a conflict says something else of the same one.
            if !is_behind && !Planned::is_settling(number) {
                self.forked.reopen(&above);
            }
            below = above;
        }
        match &amended.change {
            Amendment::Again => {}
            Amendment::Input(input) => self.step_mut(&amended.step).given = Some(input.clone()),
            Amendment::Gave(output) => {
                self.progress += 1;
                let node = self.node_mut(&amended.step);
                (node.output, node.ended_at) = (Some(output.clone()), order);
            }
            Amendment::Output(output) => {
                self.progress += 1;
                self.change(&amended.step, |step| {
                    step.status = Status::Completed;
                    step.output = Some(output.clone());
                    step.ended_at = order;
                });
            }
        }
    }

    /// What was decided about nodes that come of the change. What stands ready to undo their work still does: what was done there is not
    /// undone by it, and is done again.
    fn forget_nodes(&mut self, amended: &Amended) {
        self.forked.forget(|path| comes_of(amended, path));
        let gone: Vec<StepPath> = self.nodes.keys().filter(|path| comes_of(amended, path)).cloned().collect();
        for path in gone {
            let compensation = self.nodes.remove(&path).and_then(|node| node.compensation);
            match compensation.filter(|ready| ready.begun.is_none() && !ready.is_done) {
                Some(ready) => self.node_mut(&path).compensation = Some(ready),
                None => self.undoing.forget(&path),
            }
        }
    }

    /// Steps that are forgotten once the run goes on, for somebody changed what they came of.
    pub(super) fn to_be_forgotten(&self) -> BTreeSet<&StepPath> {
        let comes_of = |path: &StepPath| self.amended.iter().any(|amended| comes_of(amended, path));
        self.steps.keys().filter(|path| comes_of(path)).collect()
    }
}

impl crate::node::Node {
    /// Its child of this number is done again, or gave something else. `then`: what comes after it is done again.
    fn goes_on_at(&mut self, number: usize, then: bool) {
        (self.output, self.gave, self.verdict, self.ended_at) = (None, None, None, Seq(0));
        let is_beside = Planned::is_beside(number);
        if is_beside && number >= Planned::HANDLER {
            return;
        }
        self.handler = None;
        if is_beside && number >= Planned::FALLBACK {
            return;
        }
        (self.failure, self.is_timed_out, self.failures, self.retry_at) = (None, false, 0, None);
        self.until = None;
        // Behind its branches, or its turns, nothing of these changes.
        if is_beside {
            return;
        }
        (self.joined, self.voted, self.branches) = (None, None, Branches::default());
        // To whom this holder hands it on is said anew.
        self.hand_offs.truncate(number);
        if self.planned.take().is_some() {
            (self.approval, self.asks, self.child) = (None, None, None);
        }
        if then {
            // Of a loop: that of this round is decided anew. Of a turn: who speaks, for the chair says something else.
            self.rounds.truncate(Loop::round(number).unwrap_or(0));
            self.option = None;
        }
    }
}

impl Step {
    /// Its open attempt is ended: what it did since its checkpoint never was.
    pub(super) fn cut_off(&mut self, at: Timestamp) {
        if !self.is_open() {
            return;
        }
        if self.status == Status::Running
            && let Some(number) = self.last().map(|last| last.number)
        {
            self.end(number, at, Some(&not_needed()), ltmc_model::run::Usage::default());
        }
        self.took.clear();
        self.status = Status::Cancelled;
    }
}

/// Whether what stands at `path` is the step that was changed, stands below it, or came of what it gave.
fn comes_of(amended: &Amended, path: &StepPath) -> bool {
    if path.is_within(&amended.step) {
        return true;
    }
    let mut at = amended.step.clone();
    while let (Some(above), Some(number)) = (at.parent(), at.way().last()) {
        if path.is_within(&above) {
            // Here their ways part.
            return match path.way().nth(above.way().count()) {
                None => false,
                // What undoes something comes to its end by itself.
                Some(other) if number == Planned::COMPENSATION || other == Planned::COMPENSATION => false,
                Some(other) if Planned::is_beside(number) => {
                    Planned::is_beside(other) && Planned::turn_of(other) > Planned::turn_of(number)
                }
                Some(other) => Planned::is_beside(other) || other > number && amended.after.contains(&at),
            };
        }
        at = above;
    }
    false
}

#[cfg(test)]
mod tests {
    use ltmc_model::Payload;
    use ltmc_model::failure::{Code, Failure};
    use ltmc_model::journal::{Decided, Entry, Event};
    use ltmc_model::run::{State, Usage};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    fn path(path: &str) -> StepPath {
        path.parse().unwrap()
    }

    fn started(step: &str) -> Event {
        Event::StepStarted {
            step: path(step),
            attempt: 1,
            agent: None,
            version: None,
            needs: Vec::new(),
            transaction: true,
        }
    }

    fn completed(step: &str) -> Event {
        let (step, output) = (path(step), Payload::text("out"));
        Event::StepCompleted { step, attempt: 1, output, usage: Usage::default() }
    }

    fn failed(step: &str) -> Event {
        let failure = Failure::new(Code::AgentError, "no");
        Event::StepFailed { step: path(step), attempt: 1, failure, retry_at: None, usage: Usage::default() }
    }

    fn amended(step: &str, change: Amendment, after: &[&str]) -> Event {
        let after = after.iter().map(|after| path(after)).collect();
        let by = "abcdefghijkl".parse().unwrap();
        Event::Amended(Box::new(Amended { by, step: path(step), change, was: None, after }))
    }

    fn resumed() -> Event {
        Event::RunResumed { by: "abcdefghijkl".parse().unwrap() }
    }

    fn history(events: Vec<Event>) -> History {
        let mut history = History::new();
        for event in events {
            history.advance(history.seq().next(), &Entry { at: AT, event });
        }
        history
    }

    fn status(history: &History, step: &str) -> Status {
        history.step(&path(step)).map(|step| step.status).unwrap_or_default()
    }

    /// `{sequence: [a, {parallel: [{sequence: [b, c]}, {sequence: [d, e]}]}, f]}`, of which `f` failed.
    fn branches() -> Vec<Event> {
        let mut events = Vec::new();
        for step in ["0/0", "0/1/0/0", "0/1/0/1", "0/1/1/0", "0/1/1/1"] {
            events.extend([started(step), completed(step)]);
        }
        let joined = Decided::Joined { winners: vec![0, 1], failure: None, lost: vec![] };
        events.push(Event::NodeDecided { node: path("0/1"), decided: joined });
        events.push(Event::NodeEnded { node: path("0/1"), output: Payload::text("both") });
        events.extend([started("0/2"), failed("0/2")]);
        events.push(Event::RunFailed { failure: Failure::new(Code::AgentError, "no") });
        events
    }

    #[test]
    fn what_came_after_is_done_again_and_other_branches_stay() {
        let mut events = branches();
        let output = Payload::text("other");
        events.push(amended("0/1/0/0", Amendment::Output(output.clone()), &["0/1/0/0", "0/1"]));
        let before = history(events.clone());
        assert_eq!(
            (before.state(), status(&before, "0/1/0/1")),
            (State::Failed, Status::Completed),
            "not before it goes on"
        );
        events.push(resumed());
        let after = history(events);
        let step = after.step(&path("0/1/0/0")).unwrap();
        assert_eq!((step.status, step.output.as_ref(), step.attempts.len()), (Status::Completed, Some(&output), 1));
        for (step, wanted) in [
            ("0/0", Status::Completed),
            ("0/1/0/1", Status::Pending),
            ("0/1/1/0", Status::Completed),
            ("0/1/1/1", Status::Completed),
            ("0/2", Status::Pending),
        ] {
            assert_eq!(status(&after, step), wanted, "{step}");
        }
        let parallel = after.node(&path("0/1")).unwrap();
        assert!(parallel.joined.is_none() && parallel.output.is_none(), "who counts is decided anew");
    }

    #[test]
    fn a_step_that_was_handled_takes_the_place_of_what_was_done_for_it() {
        let mut events = vec![started("0/0"), failed("0/0")];
        let failure = Failure::new(Code::AgentError, "no");
        events.push(Event::NodeFailed { node: path("0/0"), failure: failure.clone(), retry_at: None });
        events.extend([started("0/0/11000"), completed("0/0/11000")]);
        events.push(Event::NodeGave { node: path("0/0"), of: path("0/0/11000") });
        events.extend([started("0/1"), failed("0/1"), Event::RunFailed { failure }]);
        let change = Amendment::Output(Payload::text("mine"));
        events.extend([amended("0/0", change, &["0/0"]), resumed()]);
        let after = history(events);
        assert_eq!(after.output(&path("0/0")), Some(&Payload::text("mine")));
        assert_eq!(status(&after, "0/0/11000"), Status::Pending);
        assert!(after.node(&path("0/0")).is_none(), "nothing failed there any more");
    }

    #[test]
    fn what_is_done_in_its_place_is_changed_and_the_failure_stays() {
        let mut events = vec![started("0/0"), failed("0/0")];
        let failure = Failure::new(Code::AgentError, "no");
        events.push(Event::NodeFailed { node: path("0"), failure: failure.clone(), retry_at: None });
        events.extend([started("0/11000/0"), completed("0/11000/0"), started("0/11000/1"), failed("0/11000/1")]);
        events.extend([started("0/11001"), completed("0/11001")]);
        events.push(Event::NodeGave { node: path("0"), of: path("0/11001") });
        events.push(Event::RunCancelled { by: None, reason: String::new() });
        events.extend([amended("0/11000/0", Amendment::Again, &["0/11000/0"]), resumed()]);
        let after = history(events);
        assert_eq!(after.node(&path("0")).unwrap().failure.as_ref(), Some(&failure));
        for step in ["0/11000/0", "0/11000/1", "0/11001"] {
            assert_eq!(status(&after, step), Status::Pending, "{step}");
        }
        assert_eq!(status(&after, "0/0"), Status::Failed, "that was handled");
    }

    #[test]
    fn rounds_after_the_one_that_is_changed_are_made_again() {
        let mut events = Vec::new();
        for round in 0..3 {
            let step = format!("0/{round}");
            events.extend([started(&step), completed(&step)]);
            let next = if round == 2 { ltmc_model::journal::Next::Done } else { ltmc_model::journal::Next::Again };
            let decided = Decided::Round { round, gave: Some(path(&step)), next };
            events.push(Event::NodeDecided { node: path("0"), decided });
        }
        events.push(Event::RunCancelled { by: None, reason: String::new() });
        events.extend([amended("0/1", Amendment::Input(Payload::text("in")), &["0/1"]), resumed()]);
        let after = history(events);
        assert_eq!(after.node(&path("0")).unwrap().rounds.len(), 1);
        let steps = ["0/0", "0/1", "0/2"].map(|step| status(&after, step));
        assert_eq!(steps, [Status::Completed, Status::Pending, Status::Pending]);
        assert_eq!(after.step(&path("0/1")).unwrap().given, Some(Payload::text("in")));
    }

    #[test]
    fn an_attempt_that_is_open_where_the_run_was_set_aside_is_ended() {
        let mut events = vec![started("0/0"), completed("0/0"), started("0/1"), Event::RunQuarantined { taken_up: 2 }];
        events.push(amended("0/0", Amendment::Output(Payload::text("mine")), &["0/0"]));
        assert_eq!(history(events.clone()).to_be_forgotten().len(), 2);
        events.push(resumed());
        let after = history(events);
        assert_eq!((status(&after, "0/1"), after.state()), (Status::Pending, State::Running));
        let cut = after.step(&path("0/1")).unwrap().last().unwrap();
        assert_eq!(cut.failure.as_ref().map(|failure| failure.code), Some(Code::Cancelled));
    }
}
