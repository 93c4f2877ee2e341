//! A sequence: one node after the other, each on what the one before gave. One that is skipped passes on what it was given.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::workflow::Node;

use super::{Decision, Input, Pattern, of};

pub(super) struct Sequence {
    children: Vec<Box<dyn Pattern>>,
}

impl Sequence {
    pub(super) fn new(children: &[Node]) -> Self {
        Self { children: children.iter().map(of).collect() }
    }
}

impl Pattern for Sequence {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let mut last = None;
        for (number, child) in self.children.iter().enumerate() {
            let given = last.clone().map(Input::Output);
            match child.next(&at.child(number), history, given.as_ref().unwrap_or(input)) {
                Decision::Done(step) => last = Some(step),
                Decision::Skipped => {}
                undone @ (Decision::Do(_) | Decision::Failed(_)) => return undone,
            }
        }
        last.map_or(Decision::Skipped, Decision::Done)
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Event};

    use super::super::agent::tests::{completed, failed, history, started};
    use super::super::{Todo, of};
    use super::*;

    #[test]
    fn each_works_on_what_the_one_before_gave() {
        let document = "name: s\nflow: {sequence: [{agent: a}, {sequence: [{agent: b}]}, {agent: c}]}";
        let document = ltmc_model::workflow::Document::parse(document, None).unwrap();
        let (sequence, root) = (of(&document.flow), StepPath::root());
        let [a, b, c]: [StepPath; 3] = ["0/0", "0/1/0", "0/2"].map(|path| path.parse().unwrap());
        let steps = [(&a, Input::Run), (&b, Input::Output(a.clone())), (&c, Input::Output(b.clone()))];
        let mut so_far = Vec::new();
        for (step, input) in steps {
            let mut history = history(so_far.clone());
            let wanted = Decision::Do(vec![Todo::Attempt { step: step.clone(), input }]);
            assert_eq!(sequence.next(&root, &mut history, &Input::Run), wanted);
            so_far.extend([started(step, 1), completed(step, 1)]);
        }
        assert_eq!(sequence.next(&root, &mut history(so_far), &Input::Run), Decision::Done(c));
    }

    #[test]
    fn the_first_that_fails_ends_it() {
        let document = "name: s\nflow: {sequence: [{agent: a}, {agent: b}]}";
        let document = ltmc_model::workflow::Document::parse(document, None).unwrap();
        let sequence = of(&document.flow);
        let a: StepPath = "0/0".parse().unwrap();
        let mut history = history([started(&a, 1), failed(&a, 1, None)]);
        let decided = sequence.next(&StepPath::root(), &mut history, &Input::Run);
        assert!(matches!(decided, Decision::Failed(f) if f.step == Some(a)));
    }

    #[test]
    fn one_that_is_skipped_passes_on_what_it_was_given() {
        let document =
            "name: s\nflow: {sequence: [{agent: a}, {agent: b, when: {pick: $.input, equals: 1}}, {agent: c}]}";
        let document = ltmc_model::workflow::Document::parse(document, None).unwrap();
        let sequence = of(&document.flow);
        let [a, b, c]: [StepPath; 3] = ["0/0", "0/1", "0/2"].map(|path| path.parse().unwrap());
        let skipped = Event::NodeDecided { node: b, decided: Decided::When(false) };
        let mut history = history([started(&a, 1), completed(&a, 1), skipped]);
        let wanted = Decision::Do(vec![Todo::Attempt { step: c, input: Input::Output(a) }]);
        assert_eq!(sequence.next(&StepPath::root(), &mut history, &Input::Run), wanted);
    }
}
