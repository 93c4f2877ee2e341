//! What becomes of what branches gave: a value made of it, an agent's step, or a vote. What was voted is journaled.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{self, Node, Rule, Vote};

use super::{Decision, Input, Output, Pattern, Question, Todo, of};

/// How branches are made one.
pub(super) enum Collect {
    List,
    Object(Vec<String>),
    Merge,
    First,
    Agent { step: Box<dyn Pattern>, otherwise: Box<Collect> },
    Vote { rule: Rule, tie: Option<Box<dyn Pattern>> },
}

impl Collect {
    /// `names`: what the branches are called, where they have names.
    pub(super) fn new(collect: &workflow::Collect, names: Option<Vec<String>>) -> Self {
        match collect {
            workflow::Collect::List => Self::List,
            workflow::Collect::Object => names.map_or(Self::List, Self::Object),
            workflow::Collect::Merge => Self::Merge,
            workflow::Collect::First => Self::First,
            workflow::Collect::Agent(node) => {
                let otherwise = names.map_or(Self::List, Self::Object);
                Self::Agent { step: of(node), otherwise: Box::new(otherwise) }
            }
            workflow::Collect::Vote(vote) => {
                let Vote { path: _, rule, tie } = vote.as_ref();
                Self::Vote { rule: *rule, tie: tie.as_ref().map(of) }
            }
        }
    }

    /// Whether somebody is told of the branches that failed.
    pub(super) fn tells_of_the_lost(&self) -> bool {
        matches!(self, Self::Agent { .. } | Self::Vote { tie: Some(_), .. })
    }

    /// What is next, now that the branches of the node at `at` are over and gave this.
    pub(super) fn next(&self, at: &StepPath, history: &mut History, gave: Vec<Option<StepPath>>) -> Decision {
        let end = |output| Decision::just(Todo::End { node: at.clone(), output });
        match self {
            Self::List => end(Output::List(gave)),
            Self::Object(names) => end(Output::Object(names.iter().cloned().zip(gave).collect())),
            Self::Merge => end(Output::Merge(gave)),
            Self::First => gave.into_iter().flatten().next().map_or(Decision::Skipped, Decision::Done),
            Self::Agent { step, otherwise } => match step.next(&place(at), history, &branches(at, &gave)) {
                Decision::Skipped => otherwise.next(at, history, gave),
                decision => decision,
            },
            Self::Vote { rule, tie } => {
                let Some(voted) = history.node(at).and_then(|node| node.voted.clone()) else {
                    return Decision::just(Todo::Decide { node: at.clone(), question: Question::Votes { gave } });
                };
                if voted.is_won {
                    return end(Output::Voted { by: None });
                }
                let decided = tie.as_ref().map(|tie| tie.next(&place(at), history, &branches(at, &gave)));
                match decided {
                    Some(Decision::Done(by)) => end(Output::Voted { by: Some(by) }),
                    Some(undone @ (Decision::Do(_) | Decision::Failed(_))) => undone,
                    Some(Decision::Skipped) | None => {
                        let counts = voted.counts.iter().take(TOLD);
                        let counts: Vec<String> =
                            counts.map(|count| format!("{} for {}", count.votes, count.value)).collect();
                        let counts = if counts.is_empty() { "nobody voted".to_owned() } else { counts.join(", ") };
                        let message = format!(
                            "no value has won by `{}`, of {} that gave anything: {counts}",
                            rule.as_str(),
                            voted.of
                        );
                        Decision::Failed(Failure::new(Code::NoMajority, message).in_step(at))
                    }
                }
            }
        }
    }
}

/// How many values are told where none has won.
const TOLD: usize = 5;

/// Where the step stands that makes one of them.
fn place(at: &StepPath) -> StepPath {
    at.child(Node::CLOSING)
}

fn branches(at: &StepPath, gave: &[Option<StepPath>]) -> Input {
    Input::Branches { node: at.clone(), gave: gave.to_vec() }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Count, Decided, Event};
    use ltmc_model::workflow::Document;

    use super::super::agent::tests::{completed, failed, history, started};
    use super::*;

    /// What is next of two branches, the first of which failed.
    fn next(collect: &str, more: Vec<Event>) -> (Decision, [StepPath; 3]) {
        let flow = format!("{{parallel: {{x: {{agent: a}}, y: {{agent: b}}}}, need: any, collect: {collect}}}");
        let parallel = of(&Document::parse(&format!("name: c\nflow: {flow}"), None).unwrap().flow);
        let root = StepPath::root();
        let [a, b] = [0, 1].map(|number| root.child(number));
        let mut events = vec![started(&a, 1), failed(&a, 1, None), started(&b, 1), completed(&b, 1)];
        events.extend(more);
        let decision = parallel.next(&root, &mut history(events), &Input::Run);
        (decision, [a, b, root.child(Node::CLOSING)])
    }

    fn joined(lost: bool) -> (Event, Decided) {
        let failure = Failure::new(Code::AgentError, "no").in_step(&StepPath::root().child(0));
        let lost = if lost { vec![ltmc_model::journal::Lost { branch: 0, failure }] } else { vec![] };
        let decided = Decided::Joined { winners: vec![1], failure: None, lost };
        (Event::NodeDecided { node: StepPath::root(), decided: decided.clone() }, decided)
    }

    #[test]
    fn an_agent_makes_one_of_them_and_what_failed_is_a_fact_by_then() {
        let (decision, [_, b, editor]) = next("{agent: editor}", vec![]);
        assert_eq!(decision, Decision::just(Todo::Record { node: StepPath::root(), decided: joined(true).1 }));
        let so_far = vec![joined(true).0];
        let given = Input::Branches { node: StepPath::root(), gave: vec![None, Some(b)] };
        let attempt = Decision::just(Todo::Attempt { step: editor.clone(), input: given });
        assert_eq!(next("{agent: editor}", so_far.clone()).0, attempt);
        // Its open attempt is gone on with, and not ended with what is not needed any more.
        let open = [so_far.clone(), vec![started(&editor, 1)]].concat();
        assert_eq!(next("{agent: editor}", open.clone()).0, attempt);
        let done = [open, vec![completed(&editor, 1)]].concat();
        assert_eq!(next("{agent: editor}", done).0, Decision::Done(editor));
    }

    #[test]
    fn the_first_that_gave_anything_is_what_the_node_gives() {
        let (decision, [_, b, _]) = next("first", vec![joined(false).0]);
        assert_eq!(decision, Decision::Done(b));
    }

    #[test]
    fn a_vote_is_counted_once_and_where_nothing_has_won_somebody_says_what_has() {
        let so_far = vec![joined(false).0];
        let (decision, [_, b, judge]) = next("{vote: /x}", so_far.clone());
        let gave = vec![None, Some(b)];
        let question = Question::Votes { gave };
        assert_eq!(decision, Decision::just(Todo::Decide { node: StepPath::root(), question }));
        let voted = |is_won| {
            let counts = vec![Count { value: 1.into(), votes: 1 }, Count { value: 2.into(), votes: 1 }];
            let decided = Decided::Voted { counts, of: 2, is_won };
            [so_far.clone(), vec![Event::NodeDecided { node: StepPath::root(), decided }]].concat()
        };
        let end = |by| Decision::just(Todo::End { node: StepPath::root(), output: Output::Voted { by } });
        assert_eq!(next("{vote: /x}", voted(true)).0, end(None));
        let Decision::Failed(failure) = next("{vote: /x}", voted(false)).0 else { panic!("nothing has won") };
        assert_eq!(failure.code, Code::NoMajority);
        assert!(failure.message.ends_with("of 2 that gave anything: 1 for 1, 1 for 2"), "{failure}");
        let tie = "{vote: /x, tie: {agent: judge}}";
        let Decision::Do(todos) = next(tie, voted(false)).0 else { panic!("the judge is asked") };
        assert_eq!(todos[0].key().0, &judge);
        let done = [voted(false), vec![started(&judge, 1), completed(&judge, 1)]].concat();
        assert_eq!(next(tie, done).0, end(Some(judge)));
    }
}
