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

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, failed, history, started};
    use super::*;

    fn next(events: &[Event]) -> Decision {
        let flow = "name: l\nflow: {loop: {agent: a}, at-most: 3}";
        of(&Document::parse(flow, None).unwrap().flow).next(
            &StepPath::root(),
            &mut history(events.to_vec()),
            &Input::Run,
        )
    }

    fn round(number: usize, next: Next) -> [Event; 3] {
        let (root, step) = (StepPath::root(), StepPath::root().child(workflow::Loop::number(number)));
        let decided = Decided::Round { round: number as u32, gave: Some(step.clone()), next };
        [started(&step, 1), completed(&step, 1), Event::NodeDecided { node: root, decided }]
    }

    #[test]
    fn each_round_works_on_what_the_one_before_gave_and_what_comes_after_it_is_asked() {
        let (root, first) = (StepPath::root(), StepPath::root().child(workflow::Loop::number(0)));
        assert_eq!(next(&[]), Decision::just(Todo::Attempt { step: first.clone(), input: Input::Run }));
        let mut so_far = round(0, Next::Again).to_vec();
        so_far.pop();
        let question = Question::Round { round: 0, gave: Some(first.clone()) };
        assert_eq!(next(&so_far), Decision::just(Todo::Decide { node: root.clone(), question }));
        let second = root.child(workflow::Loop::number(1));
        let attempt = Todo::Attempt { step: second.clone(), input: Input::Output(first) };
        assert_eq!(next(&round(0, Next::Again)), Decision::just(attempt));
        let both = [round(0, Next::Again), round(1, Next::Done)].concat();
        assert_eq!(next(&both), Decision::Done(second), "it gives what the last round gave");
    }

    #[test]
    fn it_ends_as_was_decided() {
        for (decided, code) in [(Next::Exhausted, Code::LoopExhausted), (Next::Stalled, Code::LoopStalled)] {
            let ended = next(&[round(0, Next::Again), round(1, decided)].concat());
            assert!(matches!(&ended, Decision::Failed(failure) if failure.code == code), "{ended:?}");
        }
        let step = StepPath::root().child(workflow::Loop::number(0));
        let ended = next(&[started(&step, 1), failed(&step, 1, None)]);
        assert!(matches!(&ended, Decision::Failed(failure) if failure.code == Code::AgentError), "{ended:?}");
    }
}
