//! The same for every item of a list, side by side. The items are journaled once; a step below is found by the path without its
//! item's number.

use std::sync::Arc;

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::workflow::{MapItems, Tolerate};

use super::collect::Collect;
use super::settle::Settlers;
use super::side_by_side::{Enough, Next, Terms, next};
use super::{Decision, Input, Pattern, Question, Todo, of};

pub(super) struct Map {
    body: Box<dyn Pattern>,
    at_once: usize,
    tolerate: Tolerate,
    apart: Option<Arc<Settlers>>,
    collect: Collect,
}

impl Map {
    pub(super) fn new(map: &MapItems) -> Self {
        let collect = Collect::new(&map.collect, None);
        let apart = map.context.as_ref().map(|context| Arc::new(Settlers::new(context)));
        Self { body: of(&map.body), at_once: map.at_once as usize, tolerate: map.tolerate, apart, collect }
    }
}

impl Pattern for Map {
    fn next(&self, at: &StepPath, history: &mut History, _input: &Input) -> Decision {
        let node = history.node(at);
        if node.is_some_and(|node| node.output.is_some()) {
            return Decision::Done(at.clone());
        }
        let Some(count) = node.and_then(|node| node.items.as_ref()).map(|items| items.len()) else {
            return Decision::just(Todo::Decide { node: at.clone(), question: Question::Items });
        };
        if count == 0 {
            return self.collect.next(at, history, Vec::new());
        }
        let tolerated = match self.tolerate {
            Tolerate::Count(tolerated) => tolerated as usize,
            // A share that is whole is not rounded down by what a product is off.
            Tolerate::Share(share) => (count as f64 * share + 1e-9).floor() as usize,
        };
        let enough = Enough::AllBut(tolerated);
        let (at_once, apart, keeps_lost) = (self.at_once, self.apart.clone(), self.collect.tells_of_the_lost());
        let terms = Terms {
            count,
            at_once,
            enough,
            stops: true,
            cancels: true,
            apart,
            called: "items",
            names: Arc::default(),
            keeps_lost,
        };
        let item = |index: usize, history: &mut History| {
            self.body.next(&at.child(index), history, &Input::Item { map: at.clone(), index })
        };
        match next(at, history, &terms, &item) {
            Next::Do(todos) => Decision::Do(todos),
            Next::Failed(failure) => Decision::Failed(failure),
            Next::Over(gave) => self.collect.next(at, history, gave),
        }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::Payload;
    use ltmc_model::failure::{Code, Failure};
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{AT, completed, failed, history, started};
    use super::*;

    #[test]
    fn which_item_failed_first_is_said_by_where_it_stands() {
        let (map, root) = (
            of(&Document::parse("name: m\nflow: {map: $.input, do: {agent: a}}", None).unwrap().flow),
            StepPath::root(),
        );
        let items = Decided::Items(vec![Payload::text("item"); 3]);
        let (decided, at) = (Event::NodeDecided { node: root.clone(), decided: items }, root.child(2));
        let events = [decided, started(&at, 1), failed(&at, 1, None)];
        let Decision::Do(todos) = map.next(&root, &mut history(events), &Input::Run) else { panic!("it is decided") };
        let said = format!("{todos:?}");
        assert!(said.contains("the first is the one at 0/2: "), "{said}");
    }

    #[test]
    fn of_one_that_is_begun_anew_no_more_items_begin_at_once_than_may() {
        let document =
            "name: m\nflow: {map: $.input, do: {agent: a}, at-once: 2, retry: {attempts: 2, on: [agent-error]}}";
        let (map, root) = (of(&Document::parse(document, None).unwrap().flow), StepPath::root());
        let steps: Vec<StepPath> = (0..6).map(|number| root.child(number)).collect();
        let items = Decided::Items(vec![Payload::text("item"); steps.len()]);
        let decided = Event::NodeDecided { node: root.clone(), decided: items };
        let mut events = vec![decided.clone()];
        for step in &steps[..4] {
            events.extend([started(step, 1), completed(step, 1)]);
        }
        events.extend([started(&steps[4], 1), failed(&steps[4], 1, None)]);
        let failure = Failure::new(Code::AgentError, "no");
        events.push(Event::NodeFailed { node: root.clone(), failure, retry_at: Some(AT) });
        events.push(decided);
        let Decision::Do(todos) = map.next(&root, &mut history(events), &Input::Run) else {
            panic!("it is begun anew")
        };
        let begun: Vec<&StepPath> = todos.iter().map(|todo| todo.key().0).collect();
        assert_eq!(begun, [&steps[0], &steps[1]]);
    }
}
