//! Nothing, until a time that is journaled once; then on with what it was given.

use ltmc_journal::{History, node};
use ltmc_model::StepPath;

use super::{Decision, Input, Output, Pattern, Question, Todo};

pub(super) struct Wait;

impl Pattern for Wait {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let node = history.node(at);
        if node.is_some_and(node::Node::has_ended) {
            return Decision::Done(at.clone());
        }
        match node.and_then(|node| node.waits_until) {
            None => Decision::just(Todo::Decide { node: at.clone(), question: Question::Until }),
            Some(until) if until > history.now() => Decision::just(Todo::Wait { node: at.clone(), until }),
            Some(_) => Decision::just(Todo::End { node: at.clone(), output: Output::Given(input.clone()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{AT, history};
    use super::super::of;
    use super::*;

    #[test]
    fn when_it_is_over_is_decided_once_and_it_passes_on_what_it_was_given() {
        let wait = of(&Document::parse("name: w\nflow: {wait: 30m}", None).unwrap().flow);
        let root = StepPath::root();
        let decide = Todo::Decide { node: root.clone(), question: Question::Until };
        assert_eq!(wait.next(&root, &mut history([]), &Input::Run), Decision::just(decide));
        let until = AT.after(Duration::from_secs(1_800));
        let decided = Event::NodeDecided { node: root.clone(), decided: Decided::Until(until) };
        let mut so_far = history([decided]);
        let waits = Decision::just(Todo::Wait { node: root.clone(), until });
        assert_eq!(wait.next(&root, &mut so_far, &Input::Run), waits);
        so_far.tick(until);
        let end = Todo::End { node: root.clone(), output: Output::Given(Input::Run) };
        assert_eq!(wait.next(&root, &mut so_far, &Input::Run), Decision::just(end));
    }
}
