//! The same again and again, each round on what the one before gave. What comes after a round is journaled.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Next;
use ltmc_model::workflow;

use super::{Decision, Input, Pattern, Question, Todo, of};

pub(super) struct Loop {
    body: Box<dyn Pattern>,
}

impl Loop {
    pub(super) fn new(again: &workflow::Loop) -> Self {
        Self { body: of(&again.body) }
    }
}

impl Pattern for Loop {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let rounds = history.node(at).map(|node| &node.rounds);
        let given = rounds.and_then(|rounds| rounds.given().cloned());
        let (round, last) = rounds.map_or((0, None), |rounds| (rounds.len(), rounds.last().map(|round| round.next)));
        let failed = |code, why: String| Decision::Failed(Failure::new(code, why).in_step(at));
        match last {
            None | Some(Next::Again) => {}
            Some(Next::Done) => return given.map_or(Decision::Skipped, Decision::Done),
            Some(Next::Exhausted) => {
                let why = format!("all of its {round} rounds were made, and `until` does not hold");
                return failed(Code::LoopExhausted, why);
            }
            Some(Next::Stalled) => {
                return failed(Code::LoopStalled, format!("after {round} rounds its output does not change any more"));
            }
        }
        let given = given.map(Input::Output);
        let gave =
            match self.body.next(&at.child(workflow::Loop::number(round)), history, given.as_ref().unwrap_or(input)) {
                Decision::Done(gave) => Some(gave),
                Decision::Skipped => None,
                undone => return undone,
            };
        Decision::just(Todo::Decide { node: at.clone(), question: Question::Round { round, gave } })
    }
}
