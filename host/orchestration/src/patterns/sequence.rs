//! A sequence: one node after the other, each on what the one before gave.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::Node;

use super::{Decision, Input, Pattern, of};

pub(super) struct Sequence {
    children: Vec<Box<dyn Pattern>>,
}

impl Sequence {
    pub(super) fn new(children: &[Node], path: &StepPath) -> Self {
        Self { children: children.iter().enumerate().map(|(index, child)| of(child, path.child(index))).collect() }
    }
}

impl Pattern for Sequence {
    fn next(&self, history: &History, input: &Input) -> Decision {
        let mut input = input.clone();
        for child in &self.children {
            match child.next(history, &input) {
                Decision::Done(step) => input = Input::Output(step),
                undone @ (Decision::Do(_) | Decision::Failed(_)) => return undone,
            }
        }
        match input {
            Input::Output(step) => Decision::Done(step),
            // A document has been checked: its sequences are not empty.
            Input::Run => Decision::Failed(Failure::new(Code::BadStep, "an empty sequence")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::agent::tests::{completed, failed, history, started};
    use super::super::{Todo, of};
    use super::*;

    #[test]
    fn each_works_on_what_the_one_before_gave() {
        let document = "name: s\nflow: {sequence: [{agent: a}, {sequence: [{agent: b}]}, {agent: c}]}";
        let document = ltmc_model::workflow::Document::parse(document, None).unwrap();
        let sequence = of(&document.flow, StepPath::root());
        let [a, b, c]: [StepPath; 3] = ["0/0", "0/1/0", "0/2"].map(|path| path.parse().unwrap());
        let steps = [(&a, Input::Run), (&b, Input::Output(a.clone())), (&c, Input::Output(b.clone()))];
        let mut so_far = Vec::new();
        for (step, input) in steps {
            let history = history(so_far.clone());
            let wanted = Decision::Do(vec![Todo::Attempt { step: step.clone(), input }]);
            assert_eq!(sequence.next(&history, &Input::Run), wanted);
            so_far.extend([started(step, 1), completed(step, 1)]);
        }
        assert_eq!(sequence.next(&history(so_far), &Input::Run), Decision::Done(c));
    }

    #[test]
    fn the_first_that_fails_ends_it() {
        let document = "name: s\nflow: {sequence: [{agent: a}, {agent: b}]}";
        let document = ltmc_model::workflow::Document::parse(document, None).unwrap();
        let sequence = of(&document.flow, StepPath::root());
        let a: StepPath = "0/0".parse().unwrap();
        let history = history([started(&a, 1), failed(&a, 1, None)]);
        assert!(matches!(sequence.next(&history, &Input::Run), Decision::Failed(f) if f.step == Some(a)));
    }
}
