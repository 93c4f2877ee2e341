//! Waits for an event of a topic: the first that fits, by its place in the log, whether it came before it was looked or after.

use ltmc_journal::{History, node};
use ltmc_model::StepPath;

use super::{Decision, Input, Pattern, Todo};

pub(super) struct Listen;

impl Pattern for Listen {
    fn next(&self, at: &StepPath, history: &mut History, _input: &Input) -> Decision {
        let (node, known) = (at.clone(), history.node(at));
        if known.is_some_and(node::Node::has_ended) {
            return Decision::Done(node);
        }
        let listens = known.and_then(|known| known.listens.as_ref()).filter(|listens| listens.is_open);
        Decision::just(match listens {
            None => Todo::Subscribe { node },
            Some(listens) if !listens.is_heard => Todo::Listen { node },
            Some(_) => Todo::Await { node },
        })
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::Event;
    use ltmc_model::workflow::Document;
    use ltmc_model::{Payload, Position};

    use super::super::agent::tests::history;
    use super::super::of;
    use super::*;

    #[test]
    fn it_listens_from_where_is_journaled_and_gives_the_event_that_came() {
        let wait = of(&Document::parse("name: l\nflow: {wait: {topic: t}}", None).unwrap().flow);
        let node = StepPath::root();
        let next = |events: &[Event]| wait.next(&node, &mut history(events.to_vec()), &Input::Run);
        assert_eq!(next(&[]), Decision::just(Todo::Subscribe { node: node.clone() }));
        let (topic, after) = ("t".parse().unwrap(), Position(41));
        let subscribed = Event::Subscribed { node: node.clone(), topic, subject: None, kind: None, after };
        let mut so_far = vec![subscribed.clone()];
        assert_eq!(next(&so_far), Decision::just(Todo::Listen { node: node.clone() }));
        let (position, event) = (Position(57), Payload::text("it"));
        so_far.push(Event::EventTaken { node: node.clone(), position, event, trail: None });
        assert_eq!(next(&so_far), Decision::Done(node.clone()));
        let cancelled = [subscribed, Event::WaitCancelled { node: node.clone() }];
        assert!(!matches!(next(&cancelled), Decision::Do(todos) if todos == [Todo::Await { node: node.clone() }]));
    }
}
