//! Branches side by side, all on the same input. Which of them count is journaled; the others are cancelled, or waited for.

use std::sync::Arc;

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::workflow::{self, Need, OnFailure, OnLoss};

use super::collect::Collect;
use super::settle::Settlers;
use super::side_by_side::{Enough, Next, Terms, next};
use super::{Decision, Input, Pattern, of};

pub(super) struct Parallel {
    branches: Vec<Box<dyn Pattern>>,
    terms: Terms,
    collect: Collect,
}

impl Parallel {
    pub(super) fn new(parallel: &workflow::Parallel) -> Self {
        let names = || {
            let name = |(number, _): (usize, _)| parallel.called(number);
            parallel.branches.iter().enumerate().map(name).collect()
        };
        let is_named =
            parallel.collect == workflow::Collect::Object || parallel.branches.iter().any(|(name, _)| name.is_some());
        let collect = Collect::new(&parallel.collect, is_named.then(names));
        let count = parallel.branches.len();
        let enough = match parallel.need {
            Need::All => Enough::Of(|counted, _| counted, 0.0),
            Need::Any => Enough::Of(|_, _| 1, 0.0),
            Need::Count(needed) => Enough::Of(|_, needed| needed as usize, f64::from(needed)),
            // Never none, and a share that is whole is not rounded up by what a product is off.
            Need::Share(share) => {
                Enough::Of(|counted, share| ((counted as f64 * share - 1e-9).ceil() as usize).max(1), share)
            }
        };
        let terms = Terms {
            count,
            at_once: parallel.at_once.map_or(count, |at_once| at_once as usize),
            enough,
            stops: parallel.on_failure == OnFailure::Stop,
            cancels: parallel.on_loss == OnLoss::Cancel,
            apart: parallel.context.as_ref().map(|context| Arc::new(Settlers::new(context))),
            called: "branches",
            names: (0..count).map(|number| parallel.name(number).map(ToString::to_string)).collect(),
            keeps_lost: collect.tells_of_the_lost(),
        };
        Self { branches: parallel.branches.iter().map(|(_, node)| of(node)).collect(), terms, collect }
    }
}

impl Pattern for Parallel {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        if history.node(at).is_some_and(|node| node.output.is_some()) {
            return Decision::Done(at.clone());
        }
        let branch =
            |number: usize, history: &mut History| self.branches[number].next(&at.child(number), history, input);
        match next(at, history, &self.terms, &branch) {
            Next::Do(todos) => Decision::Do(todos),
            Next::Failed(failure) => Decision::Failed(failure),
            Next::Over(gave) => self.collect.next(at, history, gave),
        }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::fork::Merged;
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{AT, completed, failed, history, started};
    use super::super::{Output, Todo, of};
    use super::*;

    #[test]
    fn who_was_done_first_counts_and_the_others_are_ended_before_the_node_is() {
        let document = "name: p\nflow: {parallel: [{agent: a}, {agent: b}, {agent: c}], need: any}";
        let parallel = of(&Document::parse(document, None).unwrap().flow);
        let root = StepPath::root();
        let [a, b, c] = [0, 1, 2].map(|number| root.child(number));
        let next = |events: &[Event]| parallel.next(&root, &mut history(events.to_vec()), &Input::Run);
        let attempt = |step: &StepPath| Todo::Attempt { step: step.clone(), input: Input::Run };
        assert_eq!(next(&[]), Decision::Do([&a, &b, &c].map(attempt).to_vec()));
        // By the journal, whatever their numbers are.
        let mut so_far = vec![started(&a, 1), started(&b, 1), started(&c, 1), completed(&b, 1), completed(&a, 1)];
        let decided = Decided::Joined { winners: vec![1], failure: None, lost: vec![] };
        let record = Todo::Record { node: root.clone(), decided: decided.clone() };
        assert_eq!(next(&so_far), Decision::Do(vec![attempt(&c), record]));
        so_far.push(Event::NodeDecided { node: root.clone(), decided });
        assert_eq!(next(&so_far), Decision::just(Todo::Cancel { node: root.clone() }));
        so_far.push(Event::StepCancelled { step: c, attempt: 1 });
        let output = Output::List(vec![None, Some(b), None]);
        assert_eq!(next(&so_far), Decision::just(Todo::End { node: root.clone(), output }));
        so_far.push(Event::NodeEnded { node: root.clone(), output: ltmc_model::Payload::text("") });
        assert_eq!(next(&so_far), Decision::Done(root.clone()));
    }

    #[test]
    fn branches_that_are_apart_come_together_before_the_node_gives_anything() {
        let document = "name: p\nflow: {parallel: [{agent: a}, {agent: b}], context: {fork: [session]}}";
        let parallel = of(&Document::parse(document, None).unwrap().flow);
        let root = StepPath::root();
        let [a, b] = [0, 1].map(|number| root.child(number));
        let next = |events: &[Event]| parallel.next(&root, &mut history(events.to_vec()), &Input::Run);
        let joined = Decided::Joined { winners: vec![1, 0], failure: None, lost: vec![] };
        let mut so_far = vec![started(&a, 1), started(&b, 1), completed(&b, 1), completed(&a, 1)];
        so_far.push(Event::NodeDecided { node: root.clone(), decided: joined });
        assert_eq!(
            next(&so_far),
            Decision::just(Todo::Merge { node: root.clone(), done: vec![1, 0], settled: vec![] })
        );
        so_far.push(Event::ContextMerged(Box::new(Merged {
            node: root.clone(),
            branches: vec![0, 1],
            keys: 0,
            messages: 0,
            into: None,
            changed: Vec::new(),
            holds: None,
            conflicts: Vec::new(),
        })));
        let output = Output::List(vec![Some(a), Some(b)]);
        assert_eq!(next(&so_far), Decision::just(Todo::End { node: root.clone(), output }));
    }

    #[test]
    fn who_failed_first_is_called_by_its_name_or_by_where_it_stands() {
        let said = |flow: &str, step: &str| {
            let parallel = of(&Document::parse(&format!("name: p\nflow: {{parallel: {flow}}}"), None).unwrap().flow);
            let step: StepPath = step.parse().unwrap();
            let mut history = history([started(&step, 1), failed(&step, 1, None)]);
            format!("{:?}", parallel.next(&StepPath::root(), &mut history, &Input::Run))
        };
        for (flow, step, wanted) in [
            ("{legal: {agent: a}, cost: {agent: b}}", "0/1", "`cost`"),
            ("[{agent: a}, {agent: b}]", "0/1", "`b`"),
            ("[{agent: a}, {sequence: [{agent: b}]}]", "0/1/0", "the one at 0/1"),
        ] {
            let said = said(flow, step);
            assert!(said.contains(&format!("the first is {wanted}: ")), "{said}");
        }
    }

    /// It was taken for one that gave nothing: of what is resumed the time-out begins anew, though it is done.
    #[test]
    fn one_that_counts_still_does_once_the_run_is_resumed() {
        let document = "name: p\nflow: {parallel: [{sequence: [{agent: a}], timeout: 9h}, {agent: b}]}";
        let parallel = of(&Document::parse(document, None).unwrap().flow);
        let root = StepPath::root();
        let (timed, a, b) = (root.child(0), root.child(0).child(0), root.child(1));
        let next = |events: &[Event]| parallel.next(&root, &mut history(events.to_vec()), &Input::Run);
        let begun = || Event::NodeStarted { node: timed.clone(), until: AT.after(std::time::Duration::from_secs(9)) };
        let joined = Decided::Joined { winners: vec![0, 1], failure: None, lost: vec![] };
        let mut so_far = vec![begun(), started(&a, 1), completed(&a, 1), started(&b, 1), completed(&b, 1)];
        so_far.push(Event::NodeDecided { node: root.clone(), decided: joined });
        so_far.push(Event::RunCancelled { by: None, reason: String::new() });
        so_far.push(Event::RunResumed { by: "abcdefghijkl".parse().unwrap() });
        assert_eq!(next(&so_far), Decision::just(Todo::Start { node: timed.clone() }));
        so_far.push(begun());
        let output = Output::List(vec![Some(a), Some(b)]);
        assert_eq!(next(&so_far), Decision::just(Todo::End { node: root.clone(), output }));
    }
}
