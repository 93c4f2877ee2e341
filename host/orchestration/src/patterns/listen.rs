//! Waits for an event of a topic: the first that fits, by its place in the log, whether it came before it was looked or after.

use ltmc_journal::{History, node};
use ltmc_model::StepPath;

use super::{Decision, Input, Pattern, Todo};

pub(super) struct Listen;

impl Pattern for Listen {
    fn next(&self, at: &StepPath, history: &mut History, _input: &Input) -> Decision {
        let (node, known) = (at.clone(), history.node(at));
        if known.is_some_and(node::Node::has_ended) {
            return Decision::Done(node);
        }
        let listens = known.and_then(|known| known.listens.as_ref()).filter(|listens| listens.is_open);
        Decision::just(match listens {
            None => Todo::Subscribe { node },
            Some(listens) if !listens.is_heard => Todo::Listen { node },
            Some(_) => Todo::Await { node },
        })
    }
}
