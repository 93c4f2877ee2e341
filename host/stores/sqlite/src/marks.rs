//! How far a run came with an append: for databases that follow runs. The record has the journal itself.

use ltmc_model::delta::{RunMark, StepMark};
use ltmc_model::journal::{Entry, Event};
use ltmc_model::run::State;
use ltmc_ports::Append;

/// The mark of an append; none where nothing that shows has happened.
pub(crate) fn of(append: &Append) -> Option<RunMark> {
    let steps: Vec<StepMark> = append.entries.iter().filter_map(step).collect();
    let shows = append.entries.iter().any(|entry| {
        !matches!(entry.event, Event::Effect(_) | Event::Log { .. } | Event::RunClaimed { .. } | Event::Act(_))
    });
    shows.then(|| RunMark::of(&append.run, steps))
}

/// What an entry says of a step.
pub(crate) fn step(entry: &Entry) -> Option<StepMark> {
    let (step, attempt, agent, state) = match &entry.event {
        Event::StepStarted { step, attempt, agent, .. } => (step, attempt, agent.clone(), State::Running),
        Event::StepCompleted { step, attempt, .. } => (step, attempt, None, State::Completed),
        Event::StepFailed { step, attempt, retry_at: Some(_), .. } => (step, attempt, None, State::Waiting),
        Event::StepFailed { step, attempt, .. } => (step, attempt, None, State::Failed),
        Event::StepCancelled { step, attempt } => (step, attempt, None, State::Cancelled),
        _ => return None,
    };
    Some(StepMark { step: step.clone(), attempt: *attempt, agent, state, at: entry.at })
}
