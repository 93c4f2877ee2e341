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
