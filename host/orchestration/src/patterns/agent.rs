//! An agent's step: tried until it gives an output that is found good, or there is no further attempt.

use ltmc_journal::History;
use ltmc_journal::fold::{Status, Step};
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::Validate;

use super::{Decision, Input, Pattern, Todo};
use crate::plan::validator_path;

pub(super) struct Agent {
    path: StepPath,
    judged_by: Option<JudgedBy>,
}

/// What judges the output.
enum JudgedBy {
    Schema,
    /// An agent, as a step of its own at this place.
    Step(StepPath),
}

impl Agent {
    pub(super) fn new(path: StepPath, validate: Option<&Validate>) -> Self {
        let judged_by = validate.map(|validate| match validate {
            Validate::Schema { .. } => JudgedBy::Schema,
            Validate::Agent { .. } => JudgedBy::Step(validator_path(&path)),
        });
        Self { path, judged_by }
    }

    fn judged(&self, history: &History, by: &JudgedBy) -> Decision {
        let step = self.path.clone();
        match history.step(&step).and_then(|step| step.verdict.as_ref()) {
            Some(Ok(())) => return Decision::Done(step),
            Some(Err(rejection)) => return Decision::Failed(rejection.clone().in_step(&step)),
            None => {}
        }
        let judge = Decision::Do(vec![Todo::Judge { step: step.clone() }]);
        match by {
            JudgedBy::Schema => judge,
            JudgedBy::Step(validator) => tried(history, validator, &Input::Output(step)).unwrap_or(judge),
        }
    }
}

impl Pattern for Agent {
    fn next(&self, history: &History, input: &Input) -> Decision {
        tried(history, &self.path, input).unwrap_or_else(|| match &self.judged_by {
            Some(by) => self.judged(history, by),
            None => Decision::Done(self.path.clone()),
        })
    }
}

/// What is next for a step until it has given its output; none: it has.
fn tried(history: &History, step: &StepPath, input: &Input) -> Option<Decision> {
    let begun = history.step(step);
    let attempt = || Decision::Do(vec![Todo::Attempt { step: step.clone(), input: input.clone() }]);
    Some(match begun.map(|begun| begun.status).unwrap_or_default() {
        Status::Pending | Status::Running => attempt(),
        Status::Waiting(due) if due <= history.now() => attempt(),
        Status::Waiting(until) => Decision::Do(vec![Todo::Wait { step: step.clone(), until }]),
        Status::Failed => Decision::Failed(failure(begun).in_step(step)),
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
    use ltmc_model::workflow::Place;
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
        Event::StepStarted { step: step.clone(), attempt, agent: None, transaction: true }
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

    #[test]
    fn a_step_is_attempted_and_done() {
        let path = StepPath::root();
        let agent = Agent::new(path.clone(), None);
        let mut so_far = vec![];
        assert_eq!(agent.next(&history(so_far.clone()), &Input::Run), attempt(&path, Input::Run));
        so_far.push(started(&path, 1));
        let open = "an open attempt is gone on with";
        assert_eq!(agent.next(&history(so_far.clone()), &Input::Run), attempt(&path, Input::Run), "{open}");
        so_far.push(completed(&path, 1));
        assert_eq!(agent.next(&history(so_far), &Input::Run), Decision::Done(path));
    }

    #[test]
    fn an_output_is_good_once_the_journal_says_so() {
        let path = StepPath::root();
        let schema = Validate::Schema { schema: serde_json::json!({}), place: Place::default() };
        let by_agent = Validate::Agent { agent: "judge".parse().unwrap(), place: Place::default() };
        for (validate, validator) in [(schema, None), (by_agent, Some(path.child(0)))] {
            let agent = Agent::new(path.clone(), Some(&validate));
            let mut so_far = vec![started(&path, 1), completed(&path, 1)];
            if let Some(validator) = validator {
                let asked = attempt(&validator, Input::Output(path.clone()));
                assert_eq!(agent.next(&history(so_far.clone()), &Input::Run), asked);
                let mut failed_once = so_far.clone();
                failed_once.extend([started(&validator, 1), failed(&validator, 1, None)]);
                let of_the_validator = |failure: &Failure| failure.step == Some(validator.clone());
                let decided = agent.next(&history(failed_once), &Input::Run);
                assert!(matches!(&decided, Decision::Failed(failure) if of_the_validator(failure)), "{decided:?}");
                so_far.extend([started(&validator, 1), completed(&validator, 1)]);
            }
            let judge = Decision::Do(vec![Todo::Judge { step: path.clone() }]);
            assert_eq!(agent.next(&history(so_far.clone()), &Input::Run), judge);
            so_far.push(judged(&path, None));
            assert_eq!(agent.next(&history(so_far.clone()), &Input::Run), Decision::Done(path.clone()));
            so_far.pop();
            so_far.push(judged(&path, Some(Failure::new(Code::ValidationFailed, "no"))));
            let decided = agent.next(&history(so_far), &Input::Run);
            assert!(matches!(&decided, Decision::Failed(f) if f.code == Code::ValidationFailed), "{decided:?}");
        }
    }

    #[test]
    fn a_failed_attempt_waits_until_the_next_is_due_by_the_historys_time() {
        let path = StepPath::root();
        let agent = Agent::new(path.clone(), None);
        let due = AT.after(Duration::from_millis(50));
        let mut waiting = history([started(&path, 1), failed(&path, 1, Some(due))]);
        let wait = Decision::Do(vec![Todo::Wait { step: path.clone(), until: due }]);
        assert_eq!(agent.next(&waiting, &Input::Run), wait);
        waiting.tick(due);
        assert!(
            matches!(agent.next(&waiting, &Input::Run), Decision::Do(todo) if matches!(todo[0], Todo::Attempt { .. }))
        );
        let over = history([started(&path, 1), failed(&path, 1, None)]);
        assert!(matches!(agent.next(&over, &Input::Run), Decision::Failed(f) if f.step == Some(path)));
    }
}
