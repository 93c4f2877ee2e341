//! A step for which an agent is found when it is to be done. Who that is is journaled; from then on it is a step like another.

use ltmc_journal::History;
use ltmc_journal::fold::Status;
use ltmc_model::StepPath;
use ltmc_model::workflow::Node;

use super::agent::Agent;
use super::{Decision, Input, Pattern, Question, Todo};

pub(super) struct Needed {
    step: Agent,
}

impl Needed {
    pub(super) fn new(node: &Node) -> Self {
        Self { step: Agent::new(node) }
    }
}

impl Pattern for Needed {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        // What somebody said it gave needs nobody to do it.
        let is_done = history.step(at).is_some_and(|step| step.status == Status::Completed);
        if !is_done && history.node(at).is_none_or(|node| node.agent.is_none()) {
            let question = Question::Agent { input: input.clone() };
            return Decision::just(Todo::Decide { node: at.clone(), question });
        }
        self.step.next(at, history, input)
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, history, started};
    use super::super::of;
    use super::*;

    #[test]
    fn who_does_it_is_found_once_and_journaled_before_it_is_done() {
        let need = of(&Document::parse("name: n\nflow: {need: sum up}", None).unwrap().flow);
        let root = StepPath::root();
        let next = |events: &[Event]| need.next(&root, &mut history(events.to_vec()), &Input::Run);
        let question = Question::Agent { input: Input::Run };
        assert_eq!(next(&[]), Decision::just(Todo::Decide { node: root.clone(), question }));
        let decided = Decided::Agent { agent: "brief".parse().unwrap(), candidates: Vec::new() };
        let mut so_far = vec![Event::NodeDecided { node: root.clone(), decided }];
        assert_eq!(next(&so_far), Decision::just(Todo::Attempt { step: root.clone(), input: Input::Run }));
        so_far.extend([started(&root, 1), completed(&root, 1)]);
        assert_eq!(next(&so_far), Decision::Done(root.clone()));
    }
}
