//! A run as people look at it: its row, its tree of steps, and how it ended.
//!
//! Invariant: of what its steps and it itself took and gave, what is large is not in memory to be looked at: an [`Outline`] has
//! its size and where it stands.

use std::collections::BTreeMap;

use ltmc_model::agent::AgentRef;
use ltmc_model::child::Parent;
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Amendment, Count, Decided, Event, Forked, Placed};
use ltmc_model::message::Topic;
use ltmc_model::question::Token;
use ltmc_model::run::{Run, State, Target, Usage};
use ltmc_model::schedule::Scheduled;
use ltmc_model::workflow::{Below, Document, Does, Node};
use ltmc_model::{
    AgentName, Digest, KeyId, Payload, Position, RunId, Seq, SessionId, StepPath, Timestamp, WorkflowName,
};
use serde::Serialize;

use crate::diff::Gave;
use crate::fold::{History, Status, Step};
use crate::node::{Child, Compensation, Listens};
use crate::shown::LARGE;
use crate::undoing::Ending;

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
    /// Which run.
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
    /// Which.
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
    input_digest: Option<Digest>,
    outputs: BTreeMap<StepPath, Left>,
}

/// An output that was left out.
#[derive(Debug, Clone)]
struct Left {
    run: RunId,
    seq: Seq,
    content_type: String,
    large: Large,
}

impl Outline {
    /// Takes in the next entry, which stands in the journal of `run`: its own, or that of one it was forked from.
    pub fn apply(&mut self, run: RunId, mut placed: Placed) {
        match &mut placed.entry.event {
            Event::RunStarted(started) => {
                self.input = Some(Size::of(&started.input));
                self.input_digest = Some(Digest::of(&started.input.bytes));
                started.input.bytes.clear();
            }
            Event::StepCompleted { step, output, .. }
            | Event::NodeEnded { node: step, output }
            | Event::Answered { node: step, answer: output, .. }
            | Event::EventTaken { node: step, event: output, .. }
            | Event::ChildEnded { node: step, result: Ok(output), .. } => {
                self.leave_out(step, output, run, placed.seq);
            }
            Event::Amended(amended) => match &mut amended.change {
                Amendment::Output(output) => self.leave_out(&amended.step, output, run, placed.seq),
                Amendment::Input(input) => input.bytes.clear(),
                Amendment::Again => {}
            },
            // Of each only what tells it from another.
            Event::NodeDecided { decided: Decided::Items(items), .. } => {
                items.iter_mut().for_each(|item| item.bytes = Digest::of(&item.bytes).0.to_vec().into());
            }
            // What branches saw and did is looked at where it is true, or in the journal.
            Event::BasePinned { base, .. } => *base = None,
            Event::BranchChanged(done) => (done.changed, done.sent) = (Vec::new(), Vec::new()),
            Event::ContextMerged(merged) => merged.changed.clear(),
            _ => {}
        }
        self.history.apply(&placed);
    }

    fn leave_out(&mut self, step: &StepPath, output: &mut Payload, run: RunId, seq: Seq) {
        self.outputs.remove(step);
        if output.bytes.len() > LARGE {
            let bytes = std::mem::take(&mut output.bytes);
            let large = Large { bytes: bytes.len(), digest: Digest::of(&bytes).to_string() };
            self.outputs.insert(step.clone(), Left { run, seq, content_type: output.content_type.clone(), large });
        }
    }

    /// The entry that has the run's result, where it was left out, and the run in whose journal it stands.
    pub fn result_at(&self) -> Option<(RunId, Seq)> {
        self.outputs.get(self.history.giver(self.history.completed()?)).map(|left| (left.run, left.seq))
    }

    /// Digest of the run's input.
    pub(crate) fn input_digest(&self) -> Option<Digest> {
        self.input_digest
    }

    /// What a step gave, or another node, of which this is in memory.
    pub(crate) fn gave(&self, step: &StepPath, output: &Payload) -> Gave {
        match self.outputs.get(step) {
            Some(Left { content_type, large, .. }) => {
                let (content_type, digest) = (content_type.clone(), large.digest.clone());
                Gave { content_type, bytes: large.bytes, digest, text: None }
            }
            None => Gave::small(&output.content_type, &output.bytes),
        }
    }

    fn size(&self, step: &StepPath, output: &Payload) -> Size {
        match self.outputs.get(step) {
            Some(left) => Size { content_type: left.content_type.clone(), bytes: left.large.bytes },
            None => Size::of(output),
        }
    }

    fn output(&self) -> Option<Content> {
        let step = self.history.giver(self.history.completed()?);
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
    /// Who does it; none: an agent is still to be found for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRef>,
    /// What it is for.
    pub role: Role,
    /// `pending`, `running`, `waiting`, `completed`, `failed`, `cancelled` or `skipped`.
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

/// A node that is no step, or that has more to it than its step.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// Its place in the tree of patterns.
    pub path: StepPath,
    /// What others call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its pattern's word: `parallel`, `map`, ...
    pub pattern: &'static str,
    /// `running`, `waiting`, `completed`, `failed`, `cancelled` or `skipped`.
    pub status: &'static str,
    /// When it goes on, while it waits: for a time, or to be begun anew; or until when it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// What it waits for from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// How often it failed and was begun anew.
    #[serde(skip_serializing_if = "is_nothing")]
    pub failures: usize,
    /// How its own work failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether something else was done in its place, and gave what it gives.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rescued: bool,
    /// How far undoing its work is: `ready`, `running` or `done`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensation: Option<&'static str>,
    /// The run that it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Of a choice: the option that was taken; of a turn: who speaks, by its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<u32>,
    /// Of a map: how many items there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
    /// Of a loop or a debate: how many rounds or turns are over.
    #[serde(skip_serializing_if = "is_nothing")]
    pub rounds: usize,
    /// The branches that count, in the order in which they were done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub winners: Vec<u32>,
    /// What branches voted for, the value with the most votes first; of many the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<Count>,
}

/// What a node waits for from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// An event of a topic.
    Event {
        /// Which topic.
        topic: Topic,
        /// Of this subject; none: of any.
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// Of this type; none: of any.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// After which place of the log.
        after: Position,
    },
    /// The answer to a question.
    Answer {
        /// What it is answered by.
        token: Token,
        /// What is asked.
        title: String,
        /// The smallest role that may answer.
        of: ltmc_model::caller::Role,
    },
}

/// Steps and nodes that are shown of a run, each: of more only how many they are.
const SHOWN: usize = 1_000;
/// Values that are shown of a vote.
const VALUES: usize = 20;

fn is_nothing(count: &usize) -> bool {
    *count == 0
}

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It does a part of the work.
    Work,
    /// It judges the output of the step before it in the list.
    Validator,
    /// It undoes what was done.
    Compensation,
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
    /// How many of the runs that it began are shown.
    pub const CHILDREN: usize = 100;

    /// A run, from its row, the outline of its history, and the rows of runs that it began, the oldest first.
    pub fn new(run: &Run, outline: &Outline, children: &[Run]) -> Self {
        let history = &outline.history;
        let started = history.started();
        let (agent, workflow) = parts(&run.target);
        let mut tree = Tree::default();
        match started.and_then(|started| started.document.as_deref()).map(Document::from_json) {
            Some(Ok(document)) => tree.collect(&document.flow, &StepPath::root(), outline),
            // A document that this version does not read: its steps are in the journal.
            Some(Err(_)) => {}
            None => tree.steps.extend(agent.iter().map(|agent| {
                let name = agent.name.to_string();
                StepView::new(StepPath::root(), name, Some(agent.clone()), Role::Work, outline)
            })),
        }
        let error = history.result().and_then(Result::err);
        let ending = history.ending().filter(|_| !history.state().is_final()).map(|ending| match ending {
            Ending::Failing(_) => "failing",
            Ending::Cancelling { .. } => "cancelling",
        });
        let Tree { steps, nodes, left_out: steps_left_out } = tree;
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
#[derive(Default)]
struct Tree {
    steps: Vec<StepView>,
    nodes: Vec<NodeView>,
    left_out: usize,
}

impl Tree {
    fn collect(&mut self, node: &Node, path: &StepPath, outline: &Outline) {
        let history = &outline.history;
        if node.is_step() {
            let name = node.id.as_ref().map_or_else(|| node.word().to_owned(), ToString::to_string);
            let agent = match &node.does {
                Does::Agent(agent) => Some(agent),
                _ => history.node(path).and_then(|known| known.agent.as_ref()),
            };
            self.step(StepView::new(path.clone(), name, agent.cloned(), Role::Work, outline));
        }
        let view = history.node(path).and_then(|known| NodeView::new(node, path, known, history.step(path)));
        self.nodes.extend(view.filter(|_| self.nodes.len() < SHOWN));
        if let Some(Below::Validator(agent)) = node.below(node.validator()) {
            let name = node.id.as_ref().map_or_else(|| node.word().to_owned(), ToString::to_string);
            let place = path.child(node.validator());
            // That of a step is there from the start, as the step is.
            if node.is_step() || history.step(&place).is_some() {
                self.step(StepView::new(
                    place,
                    format!("{name} (judged)"),
                    Some(agent.clone()),
                    Role::Validator,
                    outline,
                ));
            }
        }
        for (number, child) in node.children().into_iter().enumerate() {
            self.collect(child, &path.child(number), outline);
        }
        if let Some(template) = node.template() {
            // One after the other: items and rounds begin in the order of their numbers.
            for place in (0..).map(|number| path.child(node.place(number))).take_while(|place| history.has_begun(place))
            {
                self.collect(template, &place, outline);
            }
        }
        for (number, rescue) in node.closing().into_iter().chain(node.rescues()).chain(node.compensation()) {
            let place = path.child(number);
            if history.has_begun(&place) {
                self.collect(rescue, &place, outline);
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

impl WaitsFor {
    fn of(known: &crate::node::Node) -> Option<Self> {
        if !known.is_waiting() {
            return None;
        }
        let asks = known.asks.as_ref();
        let answer =
            asks.map(|asks| Self::Answer { token: asks.token.clone(), title: asks.title.clone(), of: asks.of });
        answer.or_else(|| {
            let Listens { topic, subject, kind, after, .. } = known.listens.clone()?;
            Some(Self::Event { topic, subject, kind, after })
        })
    }
}

impl NodeView {
    /// None: there is nothing to it that its step does not show.
    fn new(node: &Node, path: &StepPath, known: &crate::node::Node, step: Option<&Step>) -> Option<Self> {
        let is_step = node.is_step();
        let compensation = known.compensation.as_ref().map(|compensation| match compensation {
            Compensation { is_done: true, .. } => "done",
            Compensation { begun: Some(_), .. } => "running",
            Compensation { begun: None, .. } => "ready",
        });
        let says_more = known.when == Some(false) || known.failure.is_some() || known.until.is_some();
        let says_more = says_more || compensation.is_some();
        if is_step && !says_more && known.failures == 0 {
            return None;
        }
        let (status, due_at) = match known {
            crate::node::Node { when: Some(false), .. } => ("skipped", None),
            known if known.has_ended() => ("completed", None),
            _ if step.is_some_and(|step| step.status == Status::Completed) => ("completed", None),
            crate::node::Node { failure: Some(_), .. } => ("failed", None),
            crate::node::Node { joined: Some(joined), .. } if joined.failure.is_some() => ("failed", None),
            crate::node::Node { is_cancelled: true, .. } => ("cancelled", None),
            crate::node::Node { waits_until: Some(due), .. } => ("waiting", Some(*due)),
            known if known.is_waiting() => ("waiting", known.until),
            crate::node::Node { child: Some(Child { ended: Some(Err(_)), .. }), .. } => ("failed", None),
            crate::node::Node { retry_at: Some(due), until, .. } if !is_step => {
                ("waiting", Some(until.unwrap_or(*due)))
            }
            _ => ("running", known.until),
        };
        Some(Self {
            path: path.clone(),
            name: node.id.as_ref().map(ToString::to_string),
            pattern: node.word(),
            status,
            due_at,
            waits_for: WaitsFor::of(known),
            failures: known.failures as usize,
            failure: failure_of(known),
            rescued: known.is_rescued(),
            compensation,
            run: known.child.as_ref().map(|child| child.run),
            option: known.option.flatten(),
            items: known.items.as_ref().map(|items| items.len()),
            rounds: known.rounds.len(),
            winners: known.joined.iter().flat_map(|joined| joined.winners.iter().copied()).collect(),
            votes: known.voted.iter().flat_map(|voted| voted.counts.iter().take(VALUES).cloned()).collect(),
        })
    }
}

/// How a node's own work failed: as is journaled, as too few of its branches succeeded, or as the run that it began did.
fn failure_of(known: &crate::node::Node) -> Option<Failure> {
    let joined = || known.joined.as_ref().and_then(|joined| joined.failure.clone());
    let child = || known.child.as_ref()?.ended.as_ref()?.as_ref().err().cloned();
    known.failure.clone().or_else(joined).or_else(child)
}

impl StepView {
    fn new(path: StepPath, name: String, agent: Option<AgentRef>, role: Role, outline: &Outline) -> Self {
        let step = outline.history.step(&path);
        let is_skipped = outline.history.node(&path).is_some_and(|node| node.when == Some(false));
        let status = step.map(|step| step.status).unwrap_or_default();
        let (status, due_at) = match status {
            Status::Pending if is_skipped => ("skipped", None),
            Status::Pending => ("pending", None),
            Status::Running => ("running", None),
            Status::Waiting(due) => ("waiting", Some(due)),
            Status::Completed => ("completed", None),
            Status::Failed => ("failed", None),
            Status::Cancelled => ("cancelled", None),
        };
        let attempts = step.map(attempts).unwrap_or_default();
        let output = step.and_then(|step| step.output.as_ref()).map(|output| outline.size(&path, output));
        let role = if Node::is_undoing(&path, &StepPath::root()) { Role::Compensation } else { role };
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
