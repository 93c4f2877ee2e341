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
