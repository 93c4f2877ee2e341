//! The first of several whose condition holds. Which one that is is journaled, so that nobody decides it anew.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::workflow;

use super::{Decision, Input, Pattern, Question, Todo, of};

pub(super) struct Choice {
    options: Vec<Box<dyn Pattern>>,
}

impl Choice {
    pub(super) fn new(choice: &workflow::Choice) -> Self {
        Self { options: (0..).map_while(|number| choice.option(number)).map(of).collect() }
    }
}

impl Pattern for Choice {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let Some(taken) = history.node(at).and_then(|node| node.option) else {
            return Decision::just(Todo::Decide { node: at.clone(), question: Question::Option });
        };
        let taken = taken.map(|number| number as usize);
        match taken.and_then(|number| Some((number, self.options.get(number)?))) {
            Some((number, option)) => option.next(&at.child(number), history, input),
            None => Decision::Skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, failed, history, started};
    use super::*;

    const FLOW: &str =
        "name: c\nflow: {choice: [{when: {pick: $.input, equals: 1}, do: {agent: a}}, {else: {agent: b}}]}";

    fn next(events: &[Event]) -> Decision {
        let choice = of(&Document::parse(FLOW, None).unwrap().flow);
        choice.next(&StepPath::root(), &mut history(events.to_vec()), &Input::Run)
    }

    fn taken(option: Option<u32>) -> Event {
        Event::NodeDecided { node: StepPath::root(), decided: Decided::Option(option) }
    }

    #[test]
    fn which_option_it_is_is_asked_first_and_then_it_is_what_that_one_comes_to() {
        let root = StepPath::root();
        let question = Todo::Decide { node: root.clone(), question: Question::Option };
        assert_eq!(next(&[]), Decision::just(question));
        for number in [0, 1] {
            let step = root.child(number);
            let mut so_far = vec![taken(Some(number as u32))];
            assert_eq!(next(&so_far), Decision::just(Todo::Attempt { step: step.clone(), input: Input::Run }));
            so_far.extend([started(&step, 1), completed(&step, 1)]);
            assert_eq!(next(&so_far), Decision::Done(step.clone()), "no other one is looked at");
            so_far.pop();
            so_far.push(failed(&step, 1, None));
            assert!(matches!(next(&so_far), Decision::Failed(failure) if failure.step.as_ref() == Some(&step)));
        }
    }

    #[test]
    fn where_none_is_taken_it_is_skipped() {
        assert_eq!(next(&[taken(None)]), Decision::Skipped);
        assert_eq!(next(&[taken(Some(7))]), Decision::Skipped, "what is not there cannot be done");
    }
}
