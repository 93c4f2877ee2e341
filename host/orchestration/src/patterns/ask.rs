//! A question to people: asked once, and given is what was answered.

use ltmc_journal::{History, node};
use ltmc_model::StepPath;

use super::{Decision, Input, Pattern, Todo};

pub(super) struct Ask;

impl Pattern for Ask {
    fn next(&self, at: &StepPath, history: &mut History, _input: &Input) -> Decision {
        let node = history.node(at);
        if node.is_some_and(node::Node::has_ended) {
            return Decision::Done(at.clone());
        }
        let is_asked = node.is_some_and(|node| node.asks.is_some());
        let node = at.clone();
        Decision::just(if is_asked { Todo::Await { node } } else { Todo::Ask { node } })
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
}
