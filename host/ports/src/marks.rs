//! How far a run came with an append: for databases that follow runs. The record has the journal itself.

use std::collections::BTreeMap;

use ltmc_model::delta::{Origin, RunMark, StepMark};
use ltmc_model::journal::{Entry, Event, RunStarted};
use ltmc_model::run::{Run, State};
use ltmc_model::{AgentName, Digest, Seq};

use crate::Append;

/// The mark of an append; none where nothing that shows has happened.
pub fn of(append: &Append) -> Option<RunMark> {
    let mut marks = Marks::default();
    for (number, entry) in (1..).zip(&append.entries) {
        marks.take(Seq(append.expected.0 + number), entry);
    }
    let shows = append.entries.iter().any(|entry| {
        !matches!(entry.event, Event::Effect(_) | Event::Log { .. } | Event::RunClaimed { .. } | Event::Act(_))
    });
    shows.then(|| marks.mark(&append.run))
}

/// What a run's entries say, one after the other.
#[derive(Debug, Default)]
pub struct Marks {
    steps: Vec<StepMark>,
    origin: Option<Box<Origin>>,
    /// The versions that the run is pinned to: entries of before do not name them.
    versions: BTreeMap<AgentName, Digest>,
}

impl Marks {
    /// Takes in the next entry.
    pub fn take(&mut self, seq: Seq, entry: &Entry) {
        match &entry.event {
            Event::RunStarted(started) => {
                self.versions.clone_from(&started.agents);
                self.origin = origin(started);
            }
            Event::AgentReplaced { agent, to, .. } => drop(self.versions.insert(agent.clone(), *to)),
            _ => self.steps.extend(step(seq, entry)),
        }
        if let Some(last) = self.steps.last_mut().filter(|last| last.seq == seq && last.version.is_none()) {
            last.version = last.agent.as_ref().and_then(|agent| self.versions.get(agent)).copied();
        }
    }

    /// What they said of steps since this was last asked.
    pub fn steps(&mut self) -> impl Iterator<Item = StepMark> + '_ {
        self.steps.drain(..)
    }

    /// The mark of a run as it is by them.
    pub fn mark(self, run: &Run) -> RunMark {
        RunMark { origin: self.origin, ..RunMark::of(run, self.steps) }
    }
}

fn origin(started: &RunStarted) -> Option<Box<Origin>> {
    let parent = started.parent.as_ref().map(|parent| (parent.run, parent.step.clone()));
    let origin = Origin { parent, forked: started.forked };
    (origin != Origin::default()).then(|| Box::new(origin))
}

/// What an entry says of a step, or of a node that begins a run.
fn step(seq: Seq, entry: &Entry) -> Option<StepMark> {
    let bare = |step: &ltmc_model::StepPath, attempt: u32, state: State| StepMark {
        step: step.clone(),
        attempt,
        agent: None,
        state,
        at: entry.at,
        seq,
        version: None,
        needs: Vec::new(),
        began: None,
    };
    Some(match &entry.event {
        Event::StepStarted { step, attempt, agent, version, needs, .. } => StepMark {
            agent: agent.clone(),
            version: *version,
            needs: needs.clone(),
            ..bare(step, *attempt, State::Running)
        },
        Event::StepCompleted { step, attempt, .. } => bare(step, *attempt, State::Completed),
        Event::StepFailed { step, attempt, retry_at: Some(_), .. } => bare(step, *attempt, State::Waiting),
        Event::StepFailed { step, attempt, .. } => bare(step, *attempt, State::Failed),
        Event::StepCancelled { step, attempt } => bare(step, *attempt, State::Cancelled),
        Event::ChildStarted { node, run, needs, planned } => {
            StepMark { needs: needs.clone(), began: Some((*run, *planned)), ..bare(node, 0, State::Running) }
        }
        Event::ChildEnded { node, result, .. } => {
            bare(node, 0, if result.is_ok() { State::Completed } else { State::Failed })
        }
        _ => return None,
    })
}
