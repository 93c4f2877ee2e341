//! A question to people: asked once, and given is what was answered. While nobody answers they are reminded, as often as is said.

use std::time::Duration;

use ltmc_journal::node::Asks;
use ltmc_journal::{History, node};
use ltmc_model::workflow::{self, Remind};
use ltmc_model::{StepPath, Timestamp};

use super::{Decision, Input, Pattern, Todo};

pub(super) struct Ask {
    every: Option<Duration>,
}

impl Ask {
    pub(super) fn new(ask: &workflow::Ask) -> Self {
        Self { every: ask.remind.as_ref().map(|remind| remind.every) }
    }

    /// When people are to be reminded next.
    fn due(&self, asks: &Asks) -> Option<Timestamp> {
        let every = self.every.filter(|_| asks.reminded < Remind::MOST)?;
        Some(asks.at.after(every.saturating_mul(asks.reminded + 1)))
    }

    /// How often that was due by now: also while no host was there.
    fn number(&self, asks: &Asks, now: Timestamp) -> u32 {
        let (passed, every) = (now.since(asks.at).as_millis(), self.every.unwrap_or(Duration::MAX).as_millis());
        u32::try_from(passed / every.max(1)).unwrap_or(u32::MAX)
    }
}

impl Pattern for Ask {
    fn next(&self, at: &StepPath, history: &mut History, _input: &Input) -> Decision {
        let node = history.node(at);
        if node.is_some_and(node::Node::has_ended) {
            return Decision::Done(at.clone());
        }
        let Some(asks) = node.and_then(|node| node.asks.as_ref()) else {
            return Decision::just(Todo::Ask { node: at.clone() });
        };
        let mut todos = vec![Todo::Await { node: at.clone() }];
        todos.extend(self.due(asks).map(|due| match due > history.now() {
            true => Todo::Wait { node: at.clone(), until: due },
            false => Todo::Remind { node: at.clone(), number: self.number(asks, history.now()) },
        }));
        Decision::Do(todos)
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::Payload;
    use ltmc_model::caller::Role;
    use ltmc_model::journal::Event;
    use ltmc_model::question::{Question, Token};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::history;
    use super::super::of;
    use super::*;

    #[test]
    fn a_question_is_asked_once_and_its_answer_is_what_the_node_gives() {
        let ask = of(&Document::parse("name: q\nflow: {ask: {title: Well?, of: admin}}", None).unwrap().flow);
        let (root, token) = (StepPath::root(), "0".repeat(32).parse::<Token>().unwrap());
        let next = |events: &[Event]| ask.next(&root, &mut history(events.to_vec()), &Input::Run);
        let node = root.clone();
        assert_eq!(next(&[]), Decision::just(Todo::Ask { node: node.clone() }));
        let question = Question { title: "Well?".into(), of: Role::Admin, show: None, schema: None, until: None };
        let asked = Event::Asked { node: node.clone(), token: token.clone(), question: Box::new(question) };
        assert_eq!(next(std::slice::from_ref(&asked)), Decision::just(Todo::Await { node: node.clone() }));
        let (by, answer) = ("abcdefghijkl".parse().unwrap(), Payload::json(&true.into()));
        let answered = Event::Answered { node: node.clone(), token, by, answer, comment: None };
        assert_eq!(next(&[asked, answered]), Decision::Done(node));
    }

    #[test]
    fn people_are_reminded_so_often_and_no_more() {
        let yaml = "name: q\nflow: {ask: {title: Well?, of: admin, remind: {every: 1m, topic: t}}}";
        let ask = of(&Document::parse(yaml, None).unwrap().flow);
        let node = StepPath::root();
        let question = Question { title: "Well?".into(), of: Role::Admin, show: None, schema: None, until: None };
        let asked =
            Event::Asked { node: node.clone(), token: "0".repeat(32).parse().unwrap(), question: Box::new(question) };
        let awaits = Todo::Await { node: node.clone() };
        for (number, ends) in [(99, false), (100, true), (101, true)] {
            let (topic, id) = ("t".parse().unwrap(), ltmc_model::Revision(1));
            let reminded = Event::Reminded { node: node.clone(), number, topic, id };
            let decided = ask.next(&node, &mut history(vec![asked.clone(), reminded]), &Input::Run);
            assert_eq!(decided == Decision::just(awaits.clone()), ends, "{number}: {decided:?}");
        }
    }
}
