//! An event, published once; then on with what the node was given.

use ltmc_journal::{History, node};
use ltmc_model::StepPath;

use super::{Decision, Input, Output, Pattern, Todo};

pub(super) struct Emit;

impl Pattern for Emit {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let (node, known, input) = (at.clone(), history.node(at), input.clone());
        if known.is_some_and(node::Node::has_ended) {
            return Decision::Done(node);
        }
        let is_emitted = known.is_some_and(|known| known.is_emitted);
        Decision::just(if is_emitted {
            Todo::End { node, output: Output::Given(input) }
        } else {
            Todo::Emit { node, input }
        })
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::Event;
    use ltmc_model::workflow::Document;
    use ltmc_model::{Payload, Revision};

    use super::super::agent::tests::history;
    use super::super::of;
    use super::*;

    #[test]
    fn it_publishes_once_and_passes_on_what_it_was_given() {
        let emit = of(&Document::parse("name: e\nflow: {emit: {topic: t, type: done}}", None).unwrap().flow);
        let node = StepPath::root();
        let next = |events: &[Event]| emit.next(&node, &mut history(events.to_vec()), &Input::Run);
        assert_eq!(next(&[]), Decision::just(Todo::Emit { node: node.clone(), input: Input::Run }));
        let mut so_far = vec![Event::Emitted { node: node.clone(), topic: "t".parse().unwrap(), id: Revision(1) }];
        let end = Todo::End { node: node.clone(), output: Output::Given(Input::Run) };
        assert_eq!(next(&so_far), Decision::just(end));
        so_far.push(Event::NodeEnded { node: node.clone(), output: Payload::text("in") });
        assert_eq!(next(&so_far), Decision::Done(node.clone()));
    }
}
