//! Another workflow, as a run of its own: begun once, and waited for.

use ltmc_journal::History;
use ltmc_journal::node::Child;
use ltmc_model::StepPath;
use ltmc_model::failure::Failure;

use super::{Decision, Input, Pattern, Todo};

pub(super) struct Workflow;

impl Pattern for Workflow {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let node = history.node(at);
        // Also where people said so.
        if node.is_some_and(|node| node.output.is_some()) {
            return Decision::Done(at.clone());
        }
        let child = node.and_then(|node| node.child.as_ref());
        match child {
            Some(Child { ended: Some(Ok(())), .. }) => Decision::Done(at.clone()),
            // It failed in a step of its own run's; here it is this node.
            Some(Child { ended: Some(Err(failure)), .. }) => {
                Decision::Failed(Failure { step: Some(at.clone()), ..failure.clone() })
            }
            Some(Child { again: false, .. }) => Decision::just(Todo::Join { node: at.clone() }),
            Some(_) | None => Decision::just(Todo::Begin { node: at.clone(), input: input.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::failure::Code;
    use ltmc_model::journal::Event;
    use ltmc_model::{Payload, RunId};

    use super::super::agent::tests::history;
    use super::*;

    #[test]
    fn a_run_is_begun_once_joined_and_gone_on_with_where_its_parent_is_resumed() {
        let (at, run) = (StepPath::root(), RunId::ledger());
        let next = |events: &[Event]| Workflow.next(&at, &mut history(events.to_vec()), &Input::Run);
        let begin = Decision::just(Todo::Begin { node: at.clone(), input: Input::Run });
        let join = Decision::just(Todo::Join { node: at.clone() });
        let started = Event::ChildStarted { node: at.clone(), run, needs: Vec::new(), planned: false };
        let ended = |result| Event::ChildEnded { node: at.clone(), run, result };
        assert_eq!(next(&[]), begin);
        let mut so_far = vec![started.clone()];
        assert_eq!(next(&so_far), join);
        let gave = [started.clone(), ended(Ok(Payload::text("out")))];
        assert_eq!(next(&gave), Decision::Done(at.clone()));
        assert_eq!(history(gave).output(&at), Some(&Payload::text("out")));
        let failure = Failure::new(Code::AgentError, "no");
        so_far.push(ended(Err(Failure { step: Some(at.child(7)), ..failure.clone() })));
        assert_eq!(next(&so_far), Decision::Failed(failure.clone().in_step(&at)));
        so_far.push(Event::RunFailed { failure });
        so_far.push(Event::RunResumed { by: "abcdefghijkl".parse().unwrap() });
        assert_eq!(next(&so_far), begin, "it goes on");
        so_far.push(started);
        assert_eq!(next(&so_far), join);
    }
}
