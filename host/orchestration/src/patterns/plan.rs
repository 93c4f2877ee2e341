//! A document that an agent writes: planned by a step of its own, looked at, and done as a run of its own. What was planned is journaled,
//! so that nobody plans it anew.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::workflow::Planning;

use super::workflow::Workflow;
use super::{Decision, Input, Pattern, Question, Todo, of};

pub(super) struct Plan {
    planner: Box<dyn Pattern>,
}

impl Plan {
    pub(super) fn new(planning: &Planning) -> Self {
        Self { planner: of(&planning.planner) }
    }
}

impl Pattern for Plan {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        if history.node(at).is_some_and(|node| node.planned.is_some()) {
            return Workflow.next(at, history, input);
        }
        match self.planner.next(&at.child(0), history, input) {
            Decision::Done(of) => Decision::just(Todo::Decide { node: at.clone(), question: Question::Plan { of } }),
            undone => undone,
        }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, history, started};
    use super::*;

    #[test]
    fn what_is_planned_is_looked_at_before_it_is_done() {
        let plan = of(&Document::parse("name: p\nflow: {plan: {agent: planner, may: [a]}}", None).unwrap().flow);
        let (root, planner) = (StepPath::root(), StepPath::root().child(0));
        let next = |events: &[Event]| plan.next(&root, &mut history(events.to_vec()), &Input::Run);
        assert_eq!(next(&[]), Decision::just(Todo::Attempt { step: planner.clone(), input: Input::Run }));
        let mut so_far = vec![started(&planner, 1), completed(&planner, 1)];
        let question = Question::Plan { of: planner };
        assert_eq!(next(&so_far), Decision::just(Todo::Decide { node: root.clone(), question }));
        so_far.push(Event::NodeDecided { node: root.clone(), decided: Decided::Planned("{}".into()) });
        assert_eq!(next(&so_far), Decision::just(Todo::Begin { node: root.clone(), input: Input::Run }));
    }
}
