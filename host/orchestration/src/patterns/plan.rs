//! A document that an agent writes: planned by a step of its own, looked at, approved by people where it is so said, and done as a run
//! of its own. What was planned is journaled, so that nobody plans it anew.

use ltmc_journal::History;
use ltmc_journal::node::Approval;
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::Planning;

use super::workflow::Workflow;
use super::{Decision, Input, Pattern, Question, Todo, of};

pub(super) struct Plan {
    planner: Box<dyn Pattern>,
    is_approved: bool,
}

impl Plan {
    pub(super) fn new(planning: &Planning) -> Self {
        Self { planner: of(&planning.planner), is_approved: planning.approve.is_some() }
    }
}

impl Pattern for Plan {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        if history.node(at).is_some_and(|node| node.output.is_some()) {
            return Decision::Done(at.clone());
        }
        if let Some(node) = history.node(at).filter(|node| node.planned.is_some()) {
            return match &node.approval {
                None if self.is_approved => {
                    let is_asked = node.asks.is_some();
                    let node = at.clone();
                    Decision::just(if is_asked { Todo::Await { node } } else { Todo::Ask { node } })
                }
                Some(Approval { is_given: false, comment }) => {
                    let comment = comment.as_ref().map_or_else(String::new, |comment| format!(": {comment}"));
                    let message = format!("what was planned is not approved of{comment}");
                    Decision::Failed(Failure::new(Code::NotApproved, message).in_step(at))
                }
                _ => Workflow.next(at, history, input),
            };
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
    fn what_is_planned_is_done_once_people_approve_of_it() {
        let document = "name: p\nflow: {plan: {agent: planner, may: [a], approve: admin}}";
        let plan = of(&Document::parse(document, None).unwrap().flow);
        let node = StepPath::root();
        let next = |events: &[Event]| plan.next(&node, &mut history(events.to_vec()), &Input::Run);
        let planned = Event::NodeDecided { node: node.clone(), decided: Decided::Planned("{}".into()) };
        let mut so_far = vec![planned];
        assert_eq!(next(&so_far), Decision::just(Todo::Ask { node: node.clone() }));
        let token = "0".repeat(32).parse::<ltmc_model::question::Token>().unwrap();
        let question = ltmc_model::question::Question {
            title: "May it?".into(),
            of: ltmc_model::caller::Role::Admin,
            show: None,
            schema: None,
            until: None,
        };
        so_far.push(Event::Asked { node: node.clone(), token: token.clone(), question: Box::new(question) });
        assert_eq!(next(&so_far), Decision::just(Todo::Await { node: node.clone() }));
        let answered = |yes: bool| {
            let (by, answer) = ("abcdefghijkl".parse().unwrap(), ltmc_model::Payload::json(&yes.into()));
            let comment = Some("not today".to_owned());
            [so_far.clone(), vec![Event::Answered { node: node.clone(), token: token.clone(), by, answer, comment }]]
                .concat()
        };
        assert_eq!(next(&answered(true)), Decision::just(Todo::Begin { node: node.clone(), input: Input::Run }));
        let Decision::Failed(failure) = next(&answered(false)) else { panic!("it is not done") };
        assert_eq!(failure.code, Code::NotApproved);
        assert!(failure.message.ends_with("not today"), "{failure}");
        let failed = Event::RunFailed { failure };
        let resumed = Event::RunResumed { by: "abcdefghijkl".parse().unwrap() };
        let again = [answered(false), vec![failed, resumed]].concat();
        assert_eq!(next(&again), Decision::just(Todo::Ask { node: node.clone() }), "it is asked anew");
    }

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
