//! Another version of an agent is to go on with steps that are in the middle of their work: before it does, it makes again what is journaled
//! of them, up to their last checkpoints, with the answers that the journal has. Nothing is performed, nothing is written.
//!
//! Invariants: what it is given is what it would be given by the run that goes on, with everything else that is changed. A version takes over
//! only where it makes the same host calls, of every step that it would go on with; where there are none there is nothing to be seen, and it may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_crossing::{BegunAt, Rehearsal};
use ltmc_journal::fold::{Status, Step};
use ltmc_journal::place::{self, Place};
use ltmc_journal::{History, RunLog};
use ltmc_model::failure::Code;
use ltmc_model::journal::{Effect, Event, Replayed};
use ltmc_model::{AgentName, RunId, Seq, StepPath};
use ltmc_tenancy::Error;

use super::amend::unfit;
use crate::lineage;
use crate::patterns::{Decision, Input, Todo};
use crate::plan::Plan;
use crate::prepared::Preparer;
use crate::runs::{Inner, Ports};

/// So many steps in the middle of their work are looked at.
const MOST: usize = 32;

/// What a version made again before it took over.
pub(super) fn replayed(event: &Event) -> &[Replayed] {
    match event {
        Event::AgentReplaced { replayed, .. } => replayed,
        _ => &[],
    }
}

/// Has each version that takes over by these events make again what is journaled of its steps, and says so in them.
pub(super) async fn all(
    inner: &Inner,
    log: &RunLog,
    plan: &Arc<Plan>,
    events: &mut [Event],
    kept: (RunId, Seq),
) -> Result<(), Error> {
    let Some(by) = events.iter().find_map(|event| match event {
        Event::AgentReplaced { by, .. } => Some(by.clone()),
        _ => None,
    }) else {
        return Ok(());
    };
    let resumed = [Event::RunResumed { by }];
    let supposed = log.supposing(events.iter().cloned().chain(resumed).collect()).await;
    let stage = Stage { inner, plan, log: &supposed, kept, inputs: due(plan, &supposed) };
    for event in events {
        if let Event::AgentReplaced { agent, replayed, .. } = event {
            *replayed = stage.replayed(agent).await?;
        }
    }
    Ok(())
}

/// What the steps work on that are made next.
fn due(plan: &Plan, log: &RunLog) -> BTreeMap<StepPath, Input> {
    let decision = log.read_mut(|history| {
        history.tick(log.now());
        plan.flow.next(&StepPath::root(), history, &Input::Run)
    });
    let Decision::Do(todos) = decision else { return BTreeMap::new() };
    let attempts = todos.into_iter().filter_map(|todo| match todo {
        Todo::Attempt { step, input } => Some((step, input)),
        _ => None,
    });
    attempts.collect()
}

/// The run as it would go on.
struct Stage<'a> {
    inner: &'a Inner,
    plan: &'a Arc<Plan>,
    log: &'a RunLog,
    kept: (RunId, Seq),
    inputs: BTreeMap<StepPath, Input>,
}

impl Stage<'_> {
    /// Of all steps of an agent that are in the middle of their work what its version made again.
    async fn replayed(&self, agent: &AgentName) -> Result<Vec<Replayed>, Error> {
        let begun = self.log.read(|history| self.begun(history, agent));
        if begun.len() > MOST {
            let why = format!(
                "{} of its steps are in the middle of their work; at most {MOST} can be looked at",
                begun.len()
            );
            return Err(unfit("agents", why));
        }
        let mut replayed = Vec::with_capacity(begun.len());
        for (step, calls) in begun {
            self.rehearse(&step, calls).await?;
            replayed.push(Replayed { step, calls });
        }
        Ok(replayed)
    }

    /// The steps of an agent that go on from a checkpoint, each with how many host calls it has behind it.
    fn begun(&self, history: &History, agent: &AgentName) -> Vec<(StepPath, u32)> {
        let is_of_it = |path: &StepPath| {
            let named =
                place::at(self.plan.root(), path).as_ref().and_then(Place::agent).map(|found| found.name.clone());
            let found = || Some(history.node(path)?.agent.as_ref()?.name.clone());
            named.or_else(found).as_ref() == Some(agent)
        };
        let goes_on = |step: &Step| {
            // One that failed and was handled is not made again; one without a checkpoint begins at its beginning.
            let is_over = matches!(step.status, Status::Completed | Status::Failed);
            let is_kept = step.checkpoint.part > 0 || step.status == Status::Running;
            !is_over && is_kept && step.checkpoint.effects > 0
        };
        let found = history.steps().filter(|(path, step)| goes_on(step) && is_of_it(path));
        found.map(|(path, step)| (path.clone(), step.checkpoint.effects)).collect()
    }

    async fn rehearse(&self, step: &StepPath, calls: u32) -> Result<(), Error> {
        let ports = &self.inner.ports;
        let refused = |why: String| {
            unfit(
                "agents",
                format!(
                    "step {step} is in the middle of its work, with {calls} host calls that are true, and another version cannot be \
                     shown to go on from there: {why}. `input` has the step made again from its beginning"
                ),
            )
        };
        let Some(input) = self.inputs.get(step) else {
            return Err(refused("it is not its turn yet, so what it would be given is not known".to_owned()));
        };
        let preparer = Preparer { ports, log: self.log };
        let assigned = preparer.assigned(&self.inner.compute, self.plan, step, input).await;
        let assigned = assigned.map_err(|failure| refused(failure.to_string()))?;
        if preparer.sees_directories(&assigned.agent).await.map_err(|failure| refused(failure.to_string()))? {
            return Err(refused("it sees a granted directory, and what was read there is in no journal".to_owned()));
        }
        let (origin, replay) = self.journaled(ports, step, calls).await?;
        let job = preparer.job(step, origin, &assigned.agent, assigned.work, assigned.input).await;
        let (job, _) = job.map_err(|failure| refused(failure.to_string()))?;
        let authority = ports.crossing.authority.clone();
        let (tenant, agent) = (self.log.tenant().clone(), job.agent.clone());
        let gate = Arc::new(Rehearsal::new(authority, tenant, agent, job.component, replay));
        let ended = tokio::select! {
            biased;
            (ended, _) = ports.runner.run(job, gate.clone()) => Some(ended),
            () = gate.over() => None,
        };
        match (gate.came_to(ended.as_ref()), ended) {
            (Ok(()), _) => Ok(()),
            // It did not even begin.
            (Err(_), Some(Err(failure))) if failure.code == Code::Busy => {
                Err(Error::Busy { message: failure.message, retry_after: Duration::from_secs(1) })
            }
            (Err(why), _) => Err(refused(why)),
        }
    }

    /// The attempt under which the journal of a step's effects begins, and these up to its last checkpoint.
    async fn journaled(&self, ports: &Ports, step: &StepPath, calls: u32) -> Result<(u32, Vec<Effect>), Error> {
        let mut history = self.log.read(Clone::clone);
        let begun_at = BegunAt::of(&mut history, step);
        let (origin, mut replay) = (begun_at.checkpoint.origin, begun_at.replay);
        if replay.len() < calls as usize {
            let (run, until) = self.kept;
            let read = ports.read.as_ref();
            let mut whole = lineage::fold(read, self.log.tenant(), run, until, History::for_replay()).await?;
            replay = BegunAt::of(&mut whole, step).replay;
        }
        replay.truncate(calls as usize);
        if replay.len() < calls as usize {
            return Err(Error::Internal { message: format!("the journal lacks host calls of step {step}") });
        }
        Ok((origin, replay))
    }
}
