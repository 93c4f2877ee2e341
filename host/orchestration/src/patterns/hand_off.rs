//! A conversation that agents hand on to each other. A turn is what one holder does; who has the first is found and journaled, who has the next stands in the
//! entry by which it was handed on. The first who does not hand it on gives what the node gives.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::workflow;

use super::{Decision, Input, Pattern, Question, Todo, of};

pub(super) struct HandOff {
    turn: Box<dyn Pattern>,
}

impl HandOff {
    pub(super) fn new(goes: &workflow::HandOff) -> Self {
        Self { turn: of(&goes.turn) }
    }
}

impl Pattern for HandOff {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let node = history.node(at);
        if node.is_none_or(|node| node.holds.is_none()) {
            return Decision::just(Todo::Decide { node: at.clone(), question: Question::Holder });
        }
        let turn = node.map_or(0, |node| node.hand_offs.len());
        self.turn.next(&at.child(turn), history, input)
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::hand_off::{HandedOff, Holds};
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, history, started};
    use super::*;

    fn handed(to: &str, number: u32) -> Event {
        Event::HandedOff(Box::new(HandedOff {
            node: StepPath::root(),
            from: "a".parse().unwrap(),
            to: to.parse().unwrap(),
            number,
            reason: "so".into(),
            passed: None,
            givers: Vec::new(),
            back: false,
        }))
    }

    #[test]
    fn who_holds_it_has_the_turn_and_who_keeps_it_gives_the_output() {
        let goes = of(&Document::parse("name: d\nflow: {hand-off: {start: b, among: [a, b, c]}}", None).unwrap().flow);
        let next = |events: &[Event]| goes.next(&StepPath::root(), &mut history(events.to_vec()), &Input::Run);
        let path = |path: &str| path.parse::<StepPath>().unwrap();
        let attempt = |step: &str| Decision::just(Todo::Attempt { step: path(step), input: Input::Run });
        assert_eq!(next(&[]), Decision::just(Todo::Decide { node: StepPath::root(), question: Question::Holder }));
        let holds = Holds { number: 1, givers: Vec::new(), since: 0, handed: None };
        let mut so_far = vec![Event::NodeDecided { node: StepPath::root(), decided: Decided::Holds(holds) }];
        assert_eq!(next(&so_far), attempt("0/0/1"));
        so_far.extend([started(&path("0/0/1"), 1), handed("c", 2), completed(&path("0/0/1"), 1)]);
        assert_eq!(next(&so_far), attempt("0/1/2"));
        so_far.extend([started(&path("0/1/2"), 1), handed("b", 1), completed(&path("0/1/2"), 1)]);
        assert_eq!(next(&so_far), attempt("0/2/1"));
        so_far.extend([started(&path("0/2/1"), 1), completed(&path("0/2/1"), 1)]);
        assert_eq!(next(&so_far), Decision::Done(path("0/2/1")));
    }
}
