//! Agents that speak in turn. A turn is as a round of a loop is: what comes after it is journaled, and so is whose it is where a chair
//! says that. Who closes the debate stands behind all turns.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::journal::Next;
use ltmc_model::workflow::{self, Node};

use super::{Decision, Input, Pattern, Question, Todo, of};

pub(super) struct Debate {
    turn: Box<dyn Pattern>,
    close: Option<Box<dyn Pattern>>,
}

impl Debate {
    pub(super) fn new(debate: &workflow::Debate) -> Self {
        Self { turn: of(&debate.turn), close: debate.close.as_ref().map(of) }
    }
}

impl Pattern for Debate {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let turns = history.node(at).map(|node| &node.rounds);
        let said = turns.and_then(|turns| turns.given().cloned());
        let is_over = turns.and_then(|turns| turns.last()).is_some_and(|last| last.next != Next::Again);
        let turn = turns.map_or(0, |turns| turns.len());
        let told = Input::Turns {
            debate: at.clone(),
            before: u32::try_from(turn).unwrap_or(u32::MAX),
            input: Box::new(input.clone()),
        };
        if is_over {
            return match self.close.as_ref().map(|close| close.next(&at.child(Node::CLOSING), history, &told)) {
                Some(Decision::Skipped) | None => said.map_or(Decision::Skipped, Decision::Done),
                Some(decision) => decision,
            };
        }
        let gave = match self.turn.next(&at.child(turn), history, &told) {
            Decision::Done(gave) => Some(gave),
            Decision::Skipped => None,
            undone => return undone,
        };
        Decision::just(Todo::Decide { node: at.clone(), question: Question::Turn { turn, gave } })
    }
}

/// One turn: whose it is, and what that one says.
pub(super) struct Turn {
    chair: Option<Box<dyn Pattern>>,
    among: Vec<Box<dyn Pattern>>,
    first: usize,
    is_in_order: bool,
}

impl Turn {
    pub(super) fn new(turn: &workflow::Turn) -> Self {
        let among = turn.among.iter().map(of).collect();
        let is_in_order = turn.is_in_order();
        Self { chair: turn.chair.as_ref().map(of), among, first: turn.first(), is_in_order }
    }
}

impl Pattern for Turn {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let taken = match &self.chair {
            // One after the other, by the turn's number.
            None if self.is_in_order => at.way().last().and_then(|turn| turn.checked_rem(self.among.len())),
            // It is journaled who holds a conversation.
            None => history.node(at).and_then(|node| node.option.flatten()).map(|taken| taken as usize),
            Some(chair) => match history.node(at).and_then(|node| node.option) {
                Some(taken) => taken.map(|taken| taken as usize),
                None => match chair.next(&at.child(0), history, input) {
                    Decision::Done(of) => {
                        return Decision::just(Todo::Decide { node: at.clone(), question: Question::Speaker { of } });
                    }
                    // Where the chair is skipped there is nobody whose turn it is.
                    Decision::Skipped => None,
                    undone => return undone,
                },
            },
        };
        // A chair's word is the number under which the one stands.
        let index = taken.and_then(|taken| taken.checked_sub(self.first));
        match index.and_then(|index| Some((index, self.among.get(index)?))) {
            Some((index, speaker)) => speaker.next(&at.child(self.first + index), history, input),
            None => Decision::Skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, history, started};
    use super::*;

    fn debate(flow: &str) -> Box<dyn Pattern> {
        of(&Document::parse(&format!("name: d\nflow: {{debate: {flow}}}"), None).unwrap().flow)
    }

    fn path(path: &str) -> StepPath {
        path.parse().unwrap()
    }

    fn told(before: u32) -> Input {
        Input::Turns { debate: StepPath::root(), before, input: Box::new(Input::Run) }
    }

    fn attempt(step: &str, before: u32) -> Decision {
        Decision::just(Todo::Attempt { step: path(step), input: told(before) })
    }

    fn turn_over(turn: u32, gave: Option<&str>, next: Next) -> Event {
        let gave = gave.map(path);
        Event::NodeDecided { node: StepPath::root(), decided: Decided::Turn { turn, gave, next } }
    }

    #[test]
    fn they_speak_one_after_the_other_and_who_closes_it_comes_last() {
        let debate = debate("{among: [pro, con], rounds: 2, close: {agent: judge}}");
        let next = |events: &[Event]| debate.next(&StepPath::root(), &mut history(events.to_vec()), &Input::Run);
        let mut so_far = Vec::new();
        for (turn, step) in (0..4).zip(["0/0/0", "0/1/1", "0/2/0", "0/3/1"]) {
            assert_eq!(next(&so_far), attempt(step, turn));
            so_far.extend([started(&path(step), 1), completed(&path(step), 1)]);
            let question = Question::Turn { turn: turn as usize, gave: Some(path(step)) };
            assert_eq!(next(&so_far), Decision::just(Todo::Decide { node: StepPath::root(), question }));
            so_far.push(turn_over(turn, Some(step), if turn == 3 { Next::Done } else { Next::Again }));
        }
        assert_eq!(next(&so_far), attempt("0/10001", 4));
        so_far.extend([started(&path("0/10001"), 1), completed(&path("0/10001"), 1)]);
        assert_eq!(next(&so_far), Decision::Done(path("0/10001")));
    }

    #[test]
    fn a_chair_says_whose_turn_it_is_or_that_it_is_over() {
        let debate = debate("{among: [pro, con], next: {agent: chair}, rounds: 9}");
        let next = |events: &[Event]| debate.next(&StepPath::root(), &mut history(events.to_vec()), &Input::Run);
        let said = |turn: u32, taken| {
            let node = StepPath::root().child(turn as usize);
            let decided = Event::NodeDecided { node: node.clone(), decided: Decided::Option(taken) };
            [started(&node.child(0), 1), completed(&node.child(0), 1), decided]
        };
        let mut so_far = Vec::new();
        assert_eq!(next(&so_far), attempt("0/0/0", 0));
        so_far.extend(said(0, Some(2)));
        let speaker = Question::Speaker { of: path("0/0/0") };
        assert_eq!(next(&so_far[..2]), Decision::just(Todo::Decide { node: path("0/0"), question: speaker }));
        assert_eq!(next(&so_far), attempt("0/0/2", 0));
        so_far.extend([started(&path("0/0/2"), 1), completed(&path("0/0/2"), 1)]);
        so_far.push(turn_over(0, Some("0/0/2"), Next::Again));
        so_far.extend(said(1, None));
        let question = Question::Turn { turn: 1, gave: None };
        assert_eq!(next(&so_far), Decision::just(Todo::Decide { node: StepPath::root(), question }));
        so_far.push(turn_over(1, None, Next::Done));
        assert_eq!(next(&so_far), Decision::Done(path("0/0/2")), "what was said last");
    }
}
