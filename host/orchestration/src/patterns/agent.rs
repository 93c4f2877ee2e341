//! An agent's step: tried until it gives an output that is found good, or there is no further attempt.

use ltmc_journal::History;
use ltmc_journal::fold::{Status, Step};
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Node, Validate};

use super::{Decision, Input, Pattern, Todo};

pub(super) struct Agent {
    judged_by: Option<JudgedBy>,
}

/// What judges a node's output.
pub(super) enum JudgedBy {
    Schema,
    /// An agent, as a step of its own, which stands below the node under this number.
    Agent(usize),
}

impl JudgedBy {
    pub(super) fn of(node: &Node) -> Option<Self> {
        node.validate.as_ref().map(|validate| match validate {
            Validate::Schema { .. } => Self::Schema,
            Validate::Agent { .. } => Self::Agent(node.validator()),
        })
    }

    /// What is next for the output of the node at `at`, of which this is known.
    pub(super) fn next(&self, at: &StepPath, history: &History, verdict: Option<&Result<(), Failure>>) -> Decision {
        match verdict {
            Some(Ok(())) => return Decision::Done(at.clone()),
            Some(Err(rejection)) => return Decision::Failed(rejection.clone().in_step(at)),
            None => {}
        }
        let judge = Decision::just(Todo::Judge { node: at.clone() });
        match self {
            Self::Schema => judge,
            Self::Agent(number) => tried(history, &at.child(*number), &Input::Output(at.clone())).unwrap_or(judge),
        }
    }
}

impl Agent {
    pub(super) fn new(node: &Node) -> Self {
        Self { judged_by: JudgedBy::of(node) }
    }
}

impl Pattern for Agent {
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision {
        tried(history, at, input).unwrap_or_else(|| match &self.judged_by {
            Some(by) => by.next(at, history, history.step(at).and_then(|step| step.verdict.as_ref())),
            None => Decision::Done(at.clone()),
        })
    }
}

/// What is next for a step until it has given its output; none: it has.
fn tried(history: &History, step: &StepPath, input: &Input) -> Option<Decision> {
    let begun = history.step(step);
    let attempt = || Decision::just(Todo::Attempt { step: step.clone(), input: input.clone() });
    Some(match begun.map(|begun| begun.status).unwrap_or_default() {
        Status::Pending | Status::Running => attempt(),
        Status::Waiting(due) if due <= history.now() => attempt(),
        Status::Waiting(until) => Decision::just(Todo::Wait { node: step.clone(), until }),
        Status::Failed | Status::Cancelled => Decision::Failed(failure(begun).in_step(step)),
        Status::Completed => return None,
    })
}

fn failure(step: Option<&Step>) -> Failure {
    let last = step.and_then(Step::last).and_then(|last| last.failure.clone());
    last.unwrap_or_else(|| Failure::new(Code::Internal, "the journal does not say how the step failed"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use ltmc_model::journal::{Entry, Event};
    use ltmc_model::run::Usage;
    use ltmc_model::workflow::{Node, Place};
    use ltmc_model::{Payload, Timestamp};

    use super::*;

    pub(crate) const AT: Timestamp = Timestamp::from_millis(1_000);

    pub(crate) fn history(events: impl IntoIterator<Item = Event>) -> History {
        let mut history = History::new();
        for event in events {
            history.advance(history.seq().next(), &Entry { at: AT, event });
        }
        history
    }

    pub(crate) fn started(step: &StepPath, attempt: u32) -> Event {
        Event::StepStarted {
            step: step.clone(),
            attempt,
            agent: None,
            version: None,
            needs: Vec::new(),
            transaction: true,
        }
    }

    pub(crate) fn completed(step: &StepPath, attempt: u32) -> Event {
        let (step, usage) = (step.clone(), Usage::default());
        Event::StepCompleted { step, attempt, output: Payload::text("out"), usage }
    }

    pub(crate) fn failed(step: &StepPath, attempt: u32, retry_at: Option<Timestamp>) -> Event {
        let failure = Failure::new(Code::AgentError, "no");
        Event::StepFailed { step: step.clone(), attempt, failure, retry_at, usage: Usage::default() }
    }

    pub(crate) fn judged(step: &StepPath, rejection: Option<Failure>) -> Event {
        Event::StepJudged { step: step.clone(), rejection }
    }

    fn attempt(step: &StepPath, input: Input) -> Decision {
        Decision::Do(vec![Todo::Attempt { step: step.clone(), input }])
    }

    fn agent(validate: Option<Validate>) -> Agent {
        let node = Node::step("a".parse().unwrap(), "a".parse().unwrap(), Place::default());
        Agent::new(&Node { validate, ..node })
    }

    #[test]
    fn a_step_is_attempted_and_done() {
        let path = StepPath::root();
        let agent = agent(None);
        let mut so_far = vec![];
        assert_eq!(agent.next(&path, &mut history(so_far.clone()), &Input::Run), attempt(&path, Input::Run));
        so_far.push(started(&path, 1));
        let open = "an open attempt is gone on with";
        assert_eq!(agent.next(&path, &mut history(so_far.clone()), &Input::Run), attempt(&path, Input::Run), "{open}");
        so_far.push(completed(&path, 1));
        assert_eq!(agent.next(&path, &mut history(so_far), &Input::Run), Decision::Done(path));
    }

    #[test]
    fn an_output_is_good_once_the_journal_says_so() {
        let path = StepPath::root();
        let schema = Validate::Schema { schema: serde_json::json!({}), place: Place::default() };
        let by_agent = Validate::Agent { agent: "judge".parse().unwrap(), place: Place::default() };
        for (validate, validator) in [(schema, None), (by_agent, Some(path.child(0)))] {
            let agent = agent(Some(validate));
            let mut so_far = vec![started(&path, 1), completed(&path, 1)];
            if let Some(validator) = validator {
                let asked = attempt(&validator, Input::Output(path.clone()));
                assert_eq!(agent.next(&path, &mut history(so_far.clone()), &Input::Run), asked);
                let mut failed_once = so_far.clone();
                failed_once.extend([started(&validator, 1), failed(&validator, 1, None)]);
                let of_the_validator = |failure: &Failure| failure.step == Some(validator.clone());
                let decided = agent.next(&path, &mut history(failed_once), &Input::Run);
                assert!(matches!(&decided, Decision::Failed(failure) if of_the_validator(failure)), "{decided:?}");
                so_far.extend([started(&validator, 1), completed(&validator, 1)]);
            }
            let judge = Decision::Do(vec![Todo::Judge { node: path.clone() }]);
            assert_eq!(agent.next(&path, &mut history(so_far.clone()), &Input::Run), judge);
            so_far.push(judged(&path, None));
            assert_eq!(agent.next(&path, &mut history(so_far.clone()), &Input::Run), Decision::Done(path.clone()));
            so_far.pop();
            so_far.push(judged(&path, Some(Failure::new(Code::ValidationFailed, "no"))));
            let decided = agent.next(&path, &mut history(so_far), &Input::Run);
            assert!(matches!(&decided, Decision::Failed(f) if f.code == Code::ValidationFailed), "{decided:?}");
        }
    }

    #[test]
    fn a_failed_attempt_waits_until_the_next_is_due_by_the_historys_time() {
        let path = StepPath::root();
        let agent = agent(None);
        let due = AT.after(Duration::from_millis(50));
        let mut waiting = history([started(&path, 1), failed(&path, 1, Some(due))]);
        let wait = Decision::Do(vec![Todo::Wait { node: path.clone(), until: due }]);
        assert_eq!(agent.next(&path, &mut waiting, &Input::Run), wait);
        waiting.tick(due);
        assert!(
            matches!(agent.next(&path, &mut waiting, &Input::Run), Decision::Do(todo) if matches!(todo[0], Todo::Attempt { .. }))
        );
        let mut over = history([started(&path, 1), failed(&path, 1, None)]);
        assert!(matches!(agent.next(&path, &mut over, &Input::Run), Decision::Failed(f) if f.step == Some(path)));
    }
}
