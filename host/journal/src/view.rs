//! A run as people look at it: its row, its tree of steps, and how it ended.
//!
//! Invariant: of what its steps and it itself took and gave, what is large is not in memory to be looked at: an [`Outline`] has
//! its size and where it stands.

use std::collections::BTreeMap;

use ltmc_model::agent::AgentRef;
use ltmc_model::child::Parent;
use ltmc_model::failure::Failure;
use ltmc_model::journal::Forked;
use ltmc_model::run::{Run, State, Target};
use ltmc_model::schedule::Scheduled;
use ltmc_model::workflow::{Below, Document, Does, Node};
use ltmc_model::{AgentName, Digest, KeyId, RunId, Seq, SessionId, StepPath, Timestamp, WorkflowName};
use serde::Serialize;

use crate::standing::{self, Goes, Stands};
use crate::undoing::Ending;

mod node;
mod outline;
mod step;

pub use node::{NodeView, WaitsFor};
pub use outline::{Content, Large, Outline, Size};
pub use step::{AttemptView, ChangeView, Role, StepView, What};

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    /// The run's id.
    pub id: RunId,
    /// Where it stands.
    pub state: State,
    /// The workflow, if it is a run of one.
    pub workflow: Option<WorkflowName>,
    /// The agent, if it is a lone call.
    pub agent: Option<AgentRef>,
    /// What began it; none: a client did.
    pub parent: Option<ParentView>,
    /// The runs that it began, the oldest first; at most [`RunView::CHILDREN`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildView>,
    /// Whether it began more than are shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_children: bool,
    /// The session it works in.
    pub session: SessionId,
    /// Whose key started it.
    pub by: KeyId,
    /// The tick of a schedule that started it, in that key's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// The run that it was forked from, and its last entry that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forked: Option<Forked>,
    /// When it began.
    pub created_at: Timestamp,
    /// When its journal last grew.
    pub updated_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How many entries its journal has.
    pub entries: Seq,
    /// The version of each agent that it is pinned to.
    pub agents: BTreeMap<AgentName, Digest>,
    /// The digest of the document that it is pinned to.
    pub document: Option<Digest>,
    /// What its input is.
    pub input: Option<Size>,
    /// Its steps, in the order of the document; of those in maps and loops each that has begun.
    pub steps: Vec<StepView>,
    /// How many more steps there are than are shown.
    #[serde(skip_serializing_if = "is_nothing")]
    pub steps_left_out: usize,
    /// Its other nodes of which more is known than their steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeView>,
    /// Its result, once it is completed.
    pub output: Option<Content>,
    /// How it ended badly.
    pub error: Option<Failure>,
    /// How it ends once what it did is undone: `failing` or `cancelling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<&'static str>,
}

/// Where a run comes from that another one began.
#[derive(Debug, Clone, Serialize)]
pub struct ParentView {
    /// The id of the run that began this one.
    pub run: RunId,
    /// Which step of it, or which other node.
    pub step: StepPath,
    /// Which attempt of the step; none: it is a node that is no step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Which host call of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<u32>,
}

/// A run that another one began.
#[derive(Debug, Clone, Serialize)]
pub struct ChildView {
    /// The id of the run that was begun.
    pub id: RunId,
    /// Where it stands.
    pub state: State,
    /// The workflow, if it is a run of one.
    pub workflow: Option<WorkflowName>,
    /// The agent, if it is a lone call.
    pub agent: Option<AgentRef>,
    /// When it began.
    pub created_at: Timestamp,
}

/// Steps and nodes that are shown of a run, each: of more only how many they are.
const SHOWN: usize = 1_000;

/// For what is not said where it is none.
pub(crate) fn is_nothing(count: &usize) -> bool {
    *count == 0
}

impl RunView {
    /// How many of the runs that it began are shown.
    pub const CHILDREN: usize = 100;

    /// A run, from its row, the outline of its history, and the rows of runs that it began, the oldest first.
    pub fn new(run: &Run, outline: &Outline, children: &[Run]) -> Self {
        let history = &outline.history;
        let started = history.started();
        let (agent, workflow) = parts(&run.target);
        let goes = Goes::of_work(run.state, history);
        let mut tree = Tree { steps: Vec::new(), nodes: Vec::new(), left_out: 0, undoing: Goes::of(run.state) };
        match started.and_then(|started| started.document.as_deref()).map(Document::from_json) {
            Some(Ok(document)) => tree.collect(&document.flow, &StepPath::root(), outline, goes),
            // A document that this version does not read: its steps are in the journal.
            Some(Err(_)) => {}
            None => tree.steps.extend(agent.iter().map(|agent| {
                let name = agent.name.to_string();
                let stands = Stands::of_step(history.step(&StepPath::root())).within(goes);
                StepView::new(StepPath::root(), name, Some(agent.clone()), Role::Work, stands, outline)
            })),
        }
        let error = history.result().and_then(Result::err);
        let ending = history.ending().filter(|_| !history.state().is_final()).map(|ending| match ending {
            Ending::Failing(_) => "failing",
            Ending::Cancelling { .. } => "cancelling",
        });
        let Tree { steps, nodes, left_out: steps_left_out, .. } = tree;
        Self {
            id: run.id,
            state: run.state,
            workflow,
            agent,
            parent: started.and_then(|started| started.parent.as_deref()).map(ParentView::of),
            children: children.iter().take(Self::CHILDREN).map(ChildView::of).collect(),
            more_children: children.len() > Self::CHILDREN,
            session: run.session.clone(),
            by: run.by.clone(),
            scheduled: started.and_then(|started| started.scheduled.clone()),
            forked: started.and_then(|started| started.forked),
            created_at: run.created_at,
            updated_at: run.updated_at,
            ended_at: history.ended_at(),
            entries: run.seq,
            agents: started.map(|started| started.agents.clone()).unwrap_or_default(),
            document: started.and_then(|started| started.document_digest),
            input: outline.input.clone(),
            steps,
            steps_left_out,
            nodes,
            output: outline.output(),
            error,
            ending,
        }
    }
}

impl ParentView {
    fn of(parent: &Parent) -> Self {
        let Parent { run, step, attempt, effect, .. } = parent.clone();
        let some = |number: u32| (number > 0).then_some(number);
        Self { run, step, attempt: some(attempt), effect: some(effect) }
    }
}

impl ChildView {
    fn of(run: &Run) -> Self {
        let (agent, workflow) = parts(&run.target);
        Self { id: run.id, state: run.state, workflow, agent, created_at: run.created_at }
    }
}

/// A target's agent, or its workflow.
fn parts(target: &Target) -> (Option<AgentRef>, Option<WorkflowName>) {
    match target {
        Target::Agent(agent) => (Some(agent.clone()), None),
        Target::Workflow(workflow) => (None, Some(workflow.clone())),
    }
}

/// What is shown of a run's tree.
struct Tree {
    steps: Vec<StepView>,
    nodes: Vec<NodeView>,
    left_out: usize,
    /// Whether what undoes the run's work goes on.
    undoing: Goes,
}

impl Tree {
    /// `goes`: whether what stands above the node does.
    fn collect(&mut self, node: &Node, path: &StepPath, outline: &Outline, goes: Goes) {
        let history = &outline.history;
        let stands = standing::of(node, path, history).within(goes);
        let below = goes.below(stands);
        let name = || node.id.as_ref().map_or_else(|| node.word().to_owned(), ToString::to_string);
        let known = history.node(path);
        if node.is_step() {
            let agent = match &node.does {
                Does::Agent(agent) => Some(agent),
                _ => known.and_then(|known| known.agent.as_ref()),
            };
            self.step(StepView::new(path.clone(), name(), agent.cloned(), Role::Work, stands, outline));
        }
        let view = known.and_then(|known| NodeView::new(node, path, known, stands));
        self.nodes.extend(view.filter(|_| self.nodes.len() < SHOWN));
        if let Some(Below::Validator(agent)) = node.below(node.validator()) {
            let (place, step) = (path.child(node.validator()), history.step(path));
            let judge = history.step(&place);
            let verdict = step.and_then(|step| step.verdict.as_ref()).or(known.and_then(|node| node.verdict.as_ref()));
            // It comes after what it judges, which is done then.
            let is_to_judge = verdict.is_none() && stands == Stands::Completed;
            let stands = Stands::of_step(judge).within(if is_to_judge { goes } else { below });
            // That of a step is there from the start, as the step is.
            if node.is_step() || judge.is_some() {
                let (name, agent) = (format!("{} (judged)", name()), Some(agent.clone()));
                self.step(StepView::new(place, name, agent, Role::Validator, stands, outline));
            }
        }
        for (number, child) in node.children().into_iter().enumerate() {
            let is_passed_over = standing::is_passed_over(node, path, number, history);
            let goes = if is_passed_over { Goes::NoMore } else { below };
            self.collect(child, &path.child(number), outline, goes);
        }
        if let Some(template) = node.template() {
            // One after the other: items and rounds begin in the order of their numbers.
            for place in (0..).map(|number| path.child(node.place(number))).take_while(|place| history.has_begun(place))
            {
                self.collect(template, &place, outline, below);
            }
        }
        // What is done in its place comes after it failed, and what undoes its work after it is over.
        let in_its_place = if known.is_some_and(|known| known.has_ended()) { Goes::NoMore } else { goes };
        let closing = node.settling().chain(node.closing()).map(|(number, node)| (number, node, below));
        let rescues = node.rescues().map(|(number, node)| (number, node, in_its_place));
        let undoes = node.compensation().into_iter().map(|(number, node)| (number, node, self.undoing));
        for (number, beside, goes) in closing.chain(rescues).chain(undoes).collect::<Vec<_>>() {
            let place = path.child(number);
            if history.has_begun(&place) {
                self.collect(beside, &place, outline, goes);
            }
        }
    }

    fn step(&mut self, step: StepView) {
        if self.steps.len() < SHOWN {
            self.steps.push(step);
        } else {
            self.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests;
