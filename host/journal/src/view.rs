//! A run as people look at it: its row, its tree of steps, and how it ended.
//!
//! Invariant: of what its steps and it itself took and gave, what is large is not in memory to be looked at: an [`Outline`] has
//! its size and where it stands.

use std::collections::BTreeMap;

use ltmc_model::agent::AgentRef;
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Event, Placed};
use ltmc_model::run::{Run, State, Target, Usage};
use ltmc_model::workflow::{Document, Node, Validate};
use ltmc_model::{AgentName, Digest, KeyId, Payload, RunId, Seq, SessionId, StepPath, Timestamp, WorkflowName};
use serde::Serialize;

use crate::fold::{History, Status, Step};
use crate::shown::LARGE;

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    /// Which.
    pub id: RunId,
    /// Where it stands.
    pub state: State,
    /// The workflow, if it is a run of one.
    pub workflow: Option<WorkflowName>,
    /// The agent, if it is a lone call.
    pub agent: Option<AgentRef>,
    /// The session it works in.
    pub session: SessionId,
    /// Whose key started it.
    pub by: KeyId,
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
    /// Its steps, in the order of the document.
    pub steps: Vec<StepView>,
    /// Its result, once it is completed.
    pub output: Option<Content>,
    /// How it ended badly.
    pub error: Option<Failure>,
}

/// What a payload is, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Size {
    /// Its content type.
    pub content_type: String,
    /// How many bytes it has.
    pub bytes: usize,
}

/// A result: itself, or, where it is large, what it is.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// All of it.
    Small(Payload),
    /// Its content type, size and digest.
    Large {
        /// Its content type.
        #[serde(rename = "content-type")]
        content_type: String,
        /// How much it is.
        large: Large,
    },
}

/// How much something is that is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Large {
    /// Its bytes.
    pub bytes: usize,
    /// Of them.
    pub digest: String,
}

/// A history in which what is large is left out, and what that is.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// Where the run stands; outputs that are large are empty in it.
    pub history: History,
    input: Option<Size>,
    outputs: BTreeMap<StepPath, Left>,
}

/// An output that was left out.
#[derive(Debug, Clone)]
struct Left {
    seq: Seq,
    content_type: String,
    large: Large,
}

impl Outline {
    /// Takes in the next entry.
    pub fn apply(&mut self, mut placed: Placed) {
        match &mut placed.entry.event {
            Event::RunStarted(started) => {
                self.input = Some(Size::of(&started.input));
                started.input.bytes.clear();
            }
            Event::StepCompleted { step, output, .. } | Event::NodeEnded { node: step, output } => {
                self.outputs.remove(step);
                if output.bytes.len() > LARGE {
                    let bytes = std::mem::take(&mut output.bytes);
                    let large = Large { bytes: bytes.len(), digest: Digest::of(&bytes).to_string() };
                    let left = Left { seq: placed.seq, content_type: output.content_type.clone(), large };
                    self.outputs.insert(step.clone(), left);
                }
            }
            _ => {}
        }
        self.history.apply(&placed);
    }

    /// The entry that has the run's result, where it was left out.
    pub fn result_at(&self) -> Option<Seq> {
        self.outputs.get(self.history.completed()?).map(|left| left.seq)
    }

    fn size(&self, step: &StepPath, output: &Payload) -> Size {
        match self.outputs.get(step) {
            Some(left) => Size { content_type: left.content_type.clone(), bytes: left.large.bytes },
            None => Size::of(output),
        }
    }

    fn output(&self) -> Option<Content> {
        let step = self.history.completed()?;
        Some(match self.outputs.get(step) {
            Some(Left { content_type, large, .. }) => {
                Content::Large { content_type: content_type.clone(), large: large.clone() }
            }
            None => Content::Small(self.history.output(step)?.clone()),
        })
    }
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// Its place in the tree of patterns.
    pub path: StepPath,
    /// What others call it.
    pub name: String,
    /// Who does it.
    pub agent: AgentRef,
    /// What it is for.
    pub role: Role,
    /// `pending`, `running`, `waiting`, `completed` or `failed`.
    pub status: &'static str,
    /// When the next attempt is due, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Every try of it, in order.
    pub attempts: Vec<AttemptView>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Size>,
}

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It does a part of the work.
    Work,
    /// It judges the output of the step before it in the list.
    Validator,
}

/// One try of a step.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptView {
    /// From 1 on.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Its host calls in the journal.
    pub effects: u32,
    /// Its log lines.
    pub logs: u32,
}

impl RunView {
    /// A run, from its row and the outline of its history.
    pub fn new(run: &Run, outline: &Outline) -> Self {
        let history = &outline.history;
        let started = history.started();
        let (agent, workflow) = match &run.target {
            Target::Agent(agent) => (Some(agent.clone()), None),
            Target::Workflow(workflow) => (None, Some(workflow.clone())),
        };
        let mut steps = Vec::new();
        match started.and_then(|started| started.document.as_deref()).map(Document::from_json) {
            Some(Ok(document)) => collect(&document.flow, &StepPath::root(), outline, &mut steps),
            // A document that this version does not read: its steps are in the journal.
            Some(Err(_)) => {}
            None => steps.extend(agent.iter().map(|agent| {
                let name = agent.name.to_string();
                StepView::new(StepPath::root(), name, agent.clone(), Role::Work, outline)
            })),
        }
        let error = history.result().and_then(Result::err);
        Self {
            id: run.id,
            state: run.state,
            workflow,
            agent,
            session: run.session.clone(),
            by: run.by.clone(),
            created_at: run.created_at,
            updated_at: run.updated_at,
            ended_at: history.ended_at(),
            entries: run.seq,
            agents: started.map(|started| started.agents.clone()).unwrap_or_default(),
            document: started.and_then(|started| started.document_digest),
            input: outline.input.clone(),
            steps,
            output: outline.output(),
            error,
        }
    }
}

fn collect(node: &Node, path: &StepPath, outline: &Outline, into: &mut Vec<StepView>) {
    match node {
        Node::Agent(step) => {
            let name = step.id.to_string();
            into.push(StepView::new(path.clone(), name, step.agent.clone(), Role::Work, outline));
            if let Some(Validate::Agent { agent, .. }) = &step.validate {
                let name = format!("{} (judged)", step.id);
                into.push(StepView::new(path.child(0), name, agent.clone(), Role::Validator, outline));
            }
        }
        Node::Sequence(children) => {
            for (index, child) in children.iter().enumerate() {
                collect(child, &path.child(index), outline, into);
            }
        }
    }
}

impl StepView {
    fn new(path: StepPath, name: String, agent: AgentRef, role: Role, outline: &Outline) -> Self {
        let step = outline.history.step(&path);
        let status = step.map(|step| step.status).unwrap_or_default();
        let (status, due_at) = match status {
            Status::Pending => ("pending", None),
            Status::Running => ("running", None),
            Status::Waiting(due) => ("waiting", Some(due)),
            Status::Completed => ("completed", None),
            Status::Failed => ("failed", None),
        };
        let attempts = step.map(attempts).unwrap_or_default();
        let output = step.and_then(|step| step.output.as_ref()).map(|output| outline.size(&path, output));
        Self { path, name, agent, role, status, due_at, attempts, output }
    }
}

fn attempts(step: &Step) -> Vec<AttemptView> {
    let view = |attempt: &crate::fold::Attempt| AttemptView {
        number: attempt.number,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        failure: attempt.failure.clone(),
        usage: attempt.usage,
        effects: attempt.effects,
        logs: attempt.logs,
    };
    step.attempts.iter().map(view).collect()
}

impl Size {
    fn of(payload: &Payload) -> Self {
        Self { content_type: payload.content_type.clone(), bytes: payload.bytes.len() }
    }
}
