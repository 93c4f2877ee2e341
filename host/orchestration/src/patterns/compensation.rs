//! Work that was in vain is undone: by what its nodes have for that, the last that was registered first.
//!
//! What was in vain is said by who goes on without it (a node that is begun anew or has something else done in its place, branches
//! that do not count), and at the run's end by the run: until then it may still turn out to be of use. They name whose work is to
//! be undone ([`undo`]); what is done for that is the same wherever it is, and is put in here.
//!
//! Invariants: what has begun to undo something is done to its end, whatever else is decided meanwhile. A run is over only
//! once everything is undone that was in vain.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_journal::History;
use ltmc_journal::undoing::Ending;
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::Node;

use super::{Decision, Input, Pattern, Todo, of};

/// What undoes next what was done in vain within a node; none: of what is meant nothing is left to be undone.
pub(super) fn undo(
    history: &History,
    within: &StepPath,
    failure: &Failure,
    is_meant: impl Fn(&StepPath) -> bool,
) -> Option<Decision> {
    let node = history.next_to_undo(is_meant)?.clone();
    let (within, failure) = (within.clone(), failure.clone());
    Some(Decision::just(Todo::Compensate { node, within, failure }))
}

/// A document's flow.
pub(super) struct Flow {
    work: Box<dyn Pattern>,
    table: Table,
}

/// What undoes the work of a node, and of those below it.
#[derive(Default)]
struct Table {
    own: Option<Box<dyn Pattern>>,
    below: BTreeMap<usize, Table>,
    /// Below whichever number: an item's, or a round's.
    template: Option<Box<Table>>,
}

impl Flow {
    pub(super) fn new(root: &Node) -> Self {
        Self { work: of(root), table: Table::of(root).unwrap_or_default() }
    }

    /// What is next for a run whose end is known once everything is undone.
    fn unwind(history: &History, ending: &Ending) -> Decision {
        let why = ending.why();
        undo(history, &StepPath::root(), &why, |_| true).unwrap_or(Decision::Failed(why))
    }

    /// Puts in what undoes each node's work whose turn it is, and what goes on undoing.
    fn put_in(&self, history: &mut History, todos: Vec<Todo>) -> Vec<Todo> {
        let (mut all, mut undone) = (Vec::new(), BTreeSet::new());
        for todo in todos {
            match todo {
                Todo::Compensate { node, .. } if is_begun(history, &node) => {
                    undone.insert(node);
                }
                other => all.push(other),
            }
        }
        undone.extend(history.being_undone().cloned());
        for node in undone {
            all.extend(self.go_on(history, node));
        }
        all
    }

    fn go_on(&self, history: &mut History, node: StepPath) -> Vec<Todo> {
        let stuck = |failure: Failure| vec![Todo::Halt { node: node.clone(), failure, is_stuck: true }];
        let Some(pattern) = self.table.find(&node) else {
            return stuck(Failure::new(Code::Internal, format!("the plan has nothing that undoes {node}")));
        };
        match pattern.next(&node.child(Node::COMPENSATION), history, &Input::Undone(node.clone())) {
            Decision::Do(todos) => todos,
            Decision::Done(_) | Decision::Skipped => vec![Todo::Compensated { node }],
            Decision::Failed(failure) => stuck(failure),
        }
    }
}

impl Pattern for Flow {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        let decision = match history.ending() {
            Some(ending) => Self::unwind(history, ending),
            None => match self.work.next(at, history, input) {
                Decision::Failed(failure) if history.has_to_undo() => {
                    Decision::just(Todo::Unwind { node: at.clone(), failure })
                }
                decision => decision,
            },
        };
        let todos = match decision {
            Decision::Do(todos) => self.put_in(history, todos),
            over => match self.put_in(history, Vec::new()) {
                none if none.is_empty() => return over,
                todos => todos,
            },
        };
        Decision::Do(todos)
    }
}

fn is_begun(history: &History, node: &StepPath) -> bool {
    history.being_undone().any(|begun| begun == node)
}

impl Table {
    /// None: there is nothing at the node, and below it, that undoes anything.
    fn of(node: &Node) -> Option<Self> {
        let numbered = node.children().into_iter().enumerate().chain(node.behind());
        let below: BTreeMap<_, _> = numbered.filter_map(|(number, node)| Some((number, Self::of(node)?))).collect();
        let own = node.compensate.as_deref().map(of);
        let template = node.template().and_then(Self::of).map(Box::new);
        (own.is_some() || !below.is_empty() || template.is_some()).then_some(Self { own, below, template })
    }

    fn find(&self, path: &StepPath) -> Option<&dyn Pattern> {
        let mut at = self;
        for number in path.way() {
            at = at.below.get(&number).or(at.template.as_deref())?;
        }
        at.own.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::Event;
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, failed, history, started};
    use super::*;

    /// What is next for a document of this flow, after these events.
    fn next(flow: &str, events: &[Event]) -> Decision {
        let document = Document::parse(&format!("name: c\nflow: {flow}"), None).unwrap();
        let mut history = history(events.to_vec());
        Flow::new(&document.flow).next(&StepPath::root(), &mut history, &Input::Run)
    }

    fn paths<const N: usize>(paths: [&str; N]) -> [StepPath; N] {
        paths.map(|path| path.parse().unwrap())
    }

    fn registered(node: &StepPath) -> Event {
        Event::CompensationRegistered { node: node.clone(), given: Input::Run }
    }

    fn begun(node: &StepPath, within: &StepPath) -> Event {
        let (node, within, failure) = (node.clone(), within.clone(), Failure::new(Code::AgentError, "no"));
        Event::CompensationStarted { node, within, failure }
    }

    /// Which node's work is to be undone next, and within which it was in vain.
    fn undoes(decision: &Decision) -> Option<(&StepPath, &StepPath)> {
        match decision {
            Decision::Do(todos) => match todos.as_slice() {
                [Todo::Compensate { node, within, .. }] => Some((node, within)),
                _ => None,
            },
            _ => None,
        }
    }

    #[test]
    fn it_stands_ready_before_the_work_begins_and_is_done_last_first_once_the_run_has_failed() {
        let flow = "{sequence: [{agent: a, compensate: {agent: x}}, {agent: b, compensate: {agent: y}}]}";
        let (root, [a, b, undo_a, undo_b]) = (StepPath::root(), paths(["0/0", "0/1", "0/0/13000", "0/1/13000"]));
        let ready = |node: &StepPath, given| Decision::just(Todo::Register { node: node.clone(), given });
        assert_eq!(next(flow, &[]), ready(&a, Input::Run));
        let mut so_far = vec![registered(&a), started(&a, 1), completed(&a, 1)];
        assert_eq!(next(flow, &so_far), ready(&b, Input::Output(a.clone())));
        so_far.extend([registered(&b), started(&b, 1), failed(&b, 1, None)]);
        let unwinds = next(flow, &so_far);
        assert!(matches!(&unwinds, Decision::Do(todos) if matches!(&todos[..], [Todo::Unwind { .. }])), "{unwinds:?}");
        so_far.push(Event::RunFailing { failure: Failure::new(Code::AgentError, "no") });
        for (node, step) in [(&b, &undo_b), (&a, &undo_a)] {
            assert_eq!(undoes(&next(flow, &so_far)), Some((node, &root)), "also of what failed: it may have acted");
            so_far.push(begun(node, &root));
            let input = Input::Undone(node.clone());
            assert_eq!(next(flow, &so_far), Decision::just(Todo::Attempt { step: step.clone(), input }));
            so_far.extend([started(step, 1), completed(step, 1)]);
            assert_eq!(next(flow, &so_far), Decision::just(Todo::Compensated { node: node.clone() }));
            so_far.push(Event::Compensated { node: node.clone() });
        }
        assert!(matches!(next(flow, &so_far), Decision::Failed(failure) if failure.message == "no"));
    }

    #[test]
    fn it_is_done_before_something_else_is_done_in_its_place() {
        let flow = "{sequence: [{agent: a, compensate: {agent: x}}, {sequence: [{agent: b, compensate: {agent: y}}, {agent: c}], fallback: \
                    [{agent: d}]}]}";
        let [a, within, b, c, d] = paths(["0/0", "0/1", "0/1/0", "0/1/1", "0/1/11000"]);
        let mut so_far = vec![registered(&a), started(&a, 1), completed(&a, 1), registered(&b)];
        so_far.extend([started(&b, 1), completed(&b, 1), started(&c, 1), failed(&c, 1, None)]);
        let failure = Failure::new(Code::AgentError, "no");
        so_far.push(Event::NodeFailed { node: within.clone(), failure, retry_at: None });
        assert_eq!(undoes(&next(flow, &so_far)), Some((&b, &within)));
        so_far.extend([begun(&b, &within), Event::Compensated { node: b }]);
        let input = Input::Output(a);
        assert_eq!(next(flow, &so_far), Decision::just(Todo::Attempt { step: d, input }), "what came before it stays");
    }

    #[test]
    fn what_has_begun_to_undo_something_goes_on_whatever_else_is_ended() {
        let flow = "{parallel: [{sequence: [{agent: a, compensate: {agent: x}}, {agent: b}], fallback: [{agent: c}]}, {agent: d}], need: any}";
        let (root, [branch, a, b, d, undo]) =
            (StepPath::root(), paths(["0/0", "0/0/0", "0/0/1", "0/1", "0/0/0/13000"]));
        let failure = Failure::new(Code::AgentError, "no");
        let mut so_far = vec![registered(&a), started(&a, 1), completed(&a, 1), started(&b, 1), failed(&b, 1, None)];
        so_far.push(Event::NodeFailed { node: branch.clone(), failure, retry_at: None });
        so_far.extend([begun(&a, &branch), started(&undo, 1), started(&d, 1), completed(&d, 1)]);
        let joined = ltmc_model::journal::Decided::Joined { winners: vec![1], failure: None, lost: vec![] };
        so_far.push(Event::NodeDecided { node: root, decided: joined });
        let goes_on = Todo::Attempt { step: undo, input: Input::Undone(a) };
        assert_eq!(next(flow, &so_far), Decision::just(goes_on), "the branch lost, and is over once that is undone");
    }

    #[test]
    fn what_fails_to_undo_something_waits_for_people() {
        let flow = "{agent: a, compensate: {agent: x}}";
        let (root, [undo]) = (StepPath::root(), paths(["0/13000"]));
        let failure = Failure::new(Code::AgentError, "no");
        let so_far = [
            registered(&root),
            started(&root, 1),
            failed(&root, 1, None),
            Event::RunFailing { failure },
            begun(&root, &root),
            started(&undo, 1),
            failed(&undo, 1, None),
        ];
        let decision = next(flow, &so_far);
        let is_stuck = |todos: &[Todo]| matches!(todos, [Todo::Halt { is_stuck: true, .. }]);
        assert!(matches!(&decision, Decision::Do(todos) if is_stuck(todos)), "{decision:?}");
    }
}
