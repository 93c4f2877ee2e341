//! Who settles conflicts of branches: a step, or a question, for each that the journal says was raised. What came of each is told to
//! whoever brings the branches together.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Context, Node};

use super::{Decision, Input, Pattern, Settled, Todo, of};

/// How many conflicts of a fork are settled at once.
const AT_ONCE: usize = 16;

/// Those who settle conflicts of a fork's branches.
pub(super) struct Settlers(Vec<Box<dyn Pattern>>);

impl Settlers {
    pub(super) fn new(context: &Context) -> Self {
        Self(context.settle.iter().filter_map(Node::template).map(of).collect())
    }

    /// What came of every conflict that was raised.
    ///
    /// # Errors
    /// What is to be done first.
    pub(super) fn next(&self, at: &StepPath, history: &mut History) -> Result<Vec<Settled>, Vec<Todo>> {
        let (mut settled, mut todos, mut open) = (Vec::new(), Vec::new(), 0);
        for (by, number) in raised(at, history) {
            let Some(settler) = self.0.get(by as usize) else { continue };
            let place = at.child(Node::SETTLING + by as usize).child(number as usize);
            // They begin in the order in which they were raised.
            if open >= AT_ONCE {
                break;
            }
            let input = Input::Conflict { node: at.clone(), by, number };
            let came = match settler.next(&place, history, &input) {
                Decision::Do(more) => {
                    open += 1;
                    todos.extend(more);
                    continue;
                }
                Decision::Done(given) => Ok(given),
                Decision::Failed(failure) => Err(failure),
                Decision::Skipped => {
                    Err(Failure::new(Code::MergeConflict, "it is not done: its `when` does not hold").in_step(&place))
                }
            };
            settled.push(Settled { by, number, came });
        }
        if todos.is_empty() { Ok(settled) } else { Err(todos) }
    }
}

/// Who settles what was raised, and their numbers: of each key the last one, and none where people said what is taken.
fn raised(at: &StepPath, history: &History) -> Vec<(u32, u32)> {
    let Some(fork) = history.forked().of(at) else { return Vec::new() };
    let all = fork.raised();
    let counts = |index: usize, key: &str| {
        let is_last = all.iter().skip(index + 1).all(|later| later.conflict.key != key);
        is_last && fork.answer(key).is_none()
    };
    let raised = all.iter().enumerate().filter(|(index, raised)| counts(*index, &raised.conflict.key));
    raised.map(|(_, raised)| (raised.by, raised.number)).collect()
}

/// What settles conflicts is no pattern by itself: what stands below it is.
pub(super) struct Nothing;

impl Pattern for Nothing {
    fn next(&self, _: &StepPath, _: &mut History, _: &Input) -> Decision {
        Decision::Skipped
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::fork::{Conflict, Raised};
    use ltmc_model::journal::{Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, failed, history, started};
    use super::super::of;
    use super::*;

    fn raised(key: &str, by: u32, number: u32) -> Event {
        let (key, why) = (key.to_owned(), String::new());
        let conflict = Conflict { key, why, base: None, current: None, sides: Vec::new(), resolved: None };
        let (node, branches) = (StepPath::root(), vec![0, 1]);
        Event::ConflictRaised(Box::new(Raised { node, by, number, branches, current: None, conflict }))
    }

    #[test]
    fn conflicts_are_settled_before_branches_come_together() {
        let document = "name: p\nflow: {parallel: [{agent: a}, {agent: b}], context: {fork: [session], merge: {x: {agent: r}, y: ask}}}";
        let parallel = of(&Document::parse(document, None).unwrap().flow);
        let root = StepPath::root();
        let [a, b] = [0, 1].map(|number| root.child(number));
        let next = |events: &[Event]| parallel.next(&root, &mut history(events.to_vec()), &Input::Run);
        let mut so_far = vec![started(&a, 1), started(&b, 1), completed(&b, 1), completed(&a, 1)];
        let decided = Decided::Joined { winners: vec![1, 0], failure: None, lost: vec![] };
        so_far.push(Event::NodeDecided { node: root.clone(), decided });
        let merge = |settled| Decision::just(Todo::Merge { node: root.clone(), done: vec![1, 0], settled });
        assert_eq!(next(&so_far), merge(vec![]));
        so_far.extend([raised("x/1", 0, 0), raised("y", 1, 0)]);
        let [agent, question]: [StepPath; 2] = ["0/10100/0", "0/10101/0"].map(|path| path.parse().unwrap());
        let input = Input::Conflict { node: root.clone(), by: 0, number: 0 };
        let [attempt, ask] = [Todo::Attempt { step: agent.clone(), input }, Todo::Ask { node: question.clone() }];
        assert_eq!(next(&so_far), Decision::Do(vec![attempt, ask.clone()]));
        so_far.extend([started(&agent, 1), failed(&agent, 1, None)]);
        assert_eq!(next(&so_far), Decision::just(ask), "people may answer all the same");
        so_far.push(Event::NodeEnded { node: question.clone(), output: ltmc_model::Payload::text("") });
        let Decision::Do(todos) = next(&so_far) else { panic!("they come together") };
        let [Todo::Merge { settled, .. }] = todos.as_slice() else { panic!("{todos:?}") };
        let came: Vec<_> = settled.iter().map(|settled| (settled.by, settled.number, settled.came.is_ok())).collect();
        assert_eq!(came, [(0, 0, false), (1, 0, true)]);
    }
}
