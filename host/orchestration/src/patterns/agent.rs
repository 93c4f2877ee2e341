//! An agent's step: tried until it gives an output that is found good, or there is no further attempt.

use ltmc_journal::History;
use ltmc_journal::fold::{Status, Step};
use ltmc_model::StepPath;
use ltmc_model::failure::{Code, Failure};

use super::{Decision, Input, Pattern, Todo};

pub(super) struct Agent {
    path: StepPath,
}

impl Agent {
    pub(super) fn new(path: StepPath) -> Self {
        Self { path }
    }
}

impl Pattern for Agent {
    fn next(&self, history: &History, input: &Input) -> Decision {
        let step = self.path.clone();
        let begun = history.step(&step);
        let attempt = || Decision::Do(vec![Todo::Attempt { step: step.clone(), input: input.clone() }]);
        match begun.map(|begun| begun.status).unwrap_or_default() {
            Status::Pending | Status::Running => attempt(),
            Status::Waiting(due) if due <= history.now() => attempt(),
            Status::Waiting(until) => Decision::Do(vec![Todo::Wait { step, until }]),
            Status::Completed if begun.is_some_and(|begun| begun.judged) => Decision::Done(step),
            Status::Completed => Decision::Do(vec![Todo::Judge { step }]),
            Status::Failed => Decision::Failed(failure(begun).in_step(&step)),
        }
    }
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

    #[test]
    fn a_step_is_attempted_judged_and_done() {
        let path = StepPath::root();
        let agent = Agent::new(path.clone());
        let attempt = Decision::Do(vec![Todo::Attempt { step: path.clone(), input: Input::Run }]);
        let mut so_far = vec![];
        assert_eq!(agent.next(&history(so_far.clone()), &Input::Run), attempt);
        so_far.push(started(&path, 1));
        assert_eq!(agent.next(&history(so_far.clone()), &Input::Run), attempt, "an open attempt is gone on with");
        so_far.push(completed(&path, 1));
        let mut history = history(so_far);
        assert_eq!(agent.next(&history, &Input::Run), Decision::Do(vec![Todo::Judge { step: path.clone() }]));
        history.judge(&path);
        assert_eq!(agent.next(&history, &Input::Run), Decision::Done(path));
    }

    #[test]
    fn a_failed_attempt_waits_until_the_next_is_due_by_the_historys_time() {
        let path = StepPath::root();
        let agent = Agent::new(path.clone());
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
