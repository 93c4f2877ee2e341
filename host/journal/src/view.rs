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
use crate::node::{Compensation, Listens};
use crate::shown::LARGE;
use crate::standing::{self, Goes, Stands};
use crate::undoing::Ending;

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
    /// What people changed, which is so once the run goes on.
    to_be_changed: Vec<(StepPath, ChangeView)>,
    /// What they changed last of each step, and which entry says what it had given then.
    changed: BTreeMap<(StepPath, What), (ChangeView, Seq)>,
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
                Amendment::Output(output) | Amendment::Gave(output) => {
                    self.leave_out(&amended.step, output, run, placed.seq)
                }
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
        self.note_changes(&placed);
    }

    /// Keeps in mind who changed what.
    fn note_changes(&mut self, placed: &Placed) {
        match &placed.entry.event {
            Event::Amended(amended) => {
                let what = match &amended.change {
                    Amendment::Output(_) => What::Output,
                    Amendment::Input(_) => What::Input,
                    Amendment::Gave(_) | Amendment::Again => return,
                };
                let (by, at) = (amended.by.clone(), placed.entry.at);
                self.to_be_changed.push((amended.step.clone(), ChangeView { what, by, at }));
            }
            Event::RunResumed { .. } => {
                for (step, change) in std::mem::take(&mut self.to_be_changed) {
                    let ended_at = self.history.step(&step).map(|step| step.ended_at).unwrap_or_default();
                    self.changed.insert((step, change.what), (change, ended_at));
                }
            }
            _ => {}
        }
    }

    /// What people changed of a step and is so still: an output until the step is done again, an input for good.
    fn changes(&self, path: &StepPath, step: Option<&Step>) -> Vec<ChangeView> {
        let Some(step) = step else { return Vec::new() };
        let of = |what| self.changed.get(&(path.clone(), what));
        let input = of(What::Input).filter(|_| step.given.is_some());
        let is_so = |(_, at): &&(ChangeView, Seq)| step.status == Status::Completed && step.ended_at == *at;
        let output = of(What::Output).filter(is_so);
        input.into_iter().chain(output).map(|(change, _)| change.clone()).collect()
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
    /// `pending`, `running`, `waiting`, `paused`, `completed`, `failed`, `cancelled` or `skipped`.
    pub status: &'static str,
    /// When the next attempt is due, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// Every try of it, in order.
    pub attempts: Vec<AttemptView>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Size>,
    /// What people changed of it, and is so still.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<ChangeView>,
}

/// What somebody changed of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeView {
    /// What it gives, or what it works on.
    pub what: What,
    /// The key that changed it.
    pub by: KeyId,
    /// When it was changed.
    pub at: Timestamp,
}

/// What of a step is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// What it works on.
    Input,
    /// What it gives.
    Output,
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
    /// `pending`, `running`, `waiting`, `paused`, `completed`, `failed`, `cancelled` or `skipped`.
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
    /// Of a loop, a debate or a conversation that is handed on: how many rounds or turns are over.
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
        /// The topic that is listened to.
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
    fn new(node: &Node, path: &StepPath, known: &crate::node::Node, stands: Stands) -> Option<Self> {
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
        let due_at = match stands {
            Stands::Running | Stands::Waiting if node.is_step() => known.until,
            Stands::Waiting if known.is_waiting() => known.waits_until.or(known.until),
            Stands::Waiting => known.retry_at.into_iter().chain(known.until).min(),
            Stands::Running => known.until,
            _ => None,
        };
        Some(Self {
            path: path.clone(),
            name: node.id.as_ref().map(ToString::to_string),
            pattern: node.word(),
            status: stands.as_str(),
            due_at,
            waits_for: WaitsFor::of(known).filter(|_| stands == Stands::Waiting),
            failures: known.failures as usize,
            failure: failure_of(known),
            rescued: known.is_rescued(),
            compensation,
            run: known.child.as_ref().map(|child| child.run),
            option: known.option.flatten(),
            items: known.items.as_ref().map(|items| items.len()),
            rounds: known.rounds.len() + known.hand_offs.len(),
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
    fn new(
        path: StepPath,
        name: String,
        agent: Option<AgentRef>,
        role: Role,
        stands: Stands,
        outline: &Outline,
    ) -> Self {
        let step = outline.history.step(&path);
        let due_at = match step.map(|step| step.status) {
            Some(Status::Waiting(due)) if stands == Stands::Waiting => Some(due),
            _ => None,
        };
        let attempts = step.map(attempts).unwrap_or_default();
        let output = step.and_then(|step| step.output.as_ref()).map(|output| outline.size(&path, output));
        let role = if Node::is_undoing(&path, &StepPath::root()) { Role::Compensation } else { role };
        let changed = outline.changes(&path, step);
        Self { path, name, agent, role, status: stands.as_str(), due_at, attempts, output, changed }
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

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Amended, Entry, RunStarted};
    use ltmc_model::run::TakenUp;
    use ltmc_model::{Epoch, RunId};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    fn by() -> KeyId {
        "abcdefghijkl".parse().unwrap()
    }

    fn path(path: &str) -> StepPath {
        path.parse().unwrap()
    }

    fn started(step: &str) -> Event {
        let (step, needs) = (path(step), Vec::new());
        Event::StepStarted { step, attempt: 1, agent: None, version: None, needs, transaction: true }
    }

    fn completed(step: &str) -> Event {
        let (step, output) = (path(step), Payload::text("out"));
        Event::StepCompleted { step, attempt: 1, output, usage: Usage::default() }
    }

    fn view(flow: &str, events: &[Event]) -> RunView {
        let document = Document::parse(&format!("name: w\nflow: {flow}"), None).unwrap();
        let target = Target::Workflow("w".parse().unwrap());
        let started = RunStarted {
            target: target.clone(),
            agents: BTreeMap::new(),
            document: Some(document.to_json().into()),
            document_digest: Some(Digest::of(b"")),
            input: Payload::default(),
            session: "s".parse().unwrap(),
            by: by(),
            seed: [0; 32],
            traceparent: None,
            position: None,
            scheduled: None,
            follows: None,
            turn: None,
            forked: None,
            parent: None,
        };
        let mut outline = Outline::default();
        for event in [Event::RunStarted(Box::new(started))].iter().chain(events) {
            let entry = Entry { at: AT, event: event.clone() };
            outline.apply(RunId::ledger(), Placed { seq: outline.history.seq().next(), entry });
        }
        let run = Run {
            tenant: "acme".parse().unwrap(),
            id: RunId::ledger(),
            target,
            state: outline.history.state(),
            session: "s".parse().unwrap(),
            by: by(),
            created_at: AT,
            updated_at: AT,
            epoch: Epoch(1),
            seq: outline.history.seq(),
            parent: None,
            turn: None,
            wakes_at: None,
            taken_up: TakenUp::default(),
        };
        RunView::new(&run, &outline, &[])
    }

    /// How its steps stand, and then its other nodes.
    fn stands(view: &RunView) -> Vec<(String, &'static str)> {
        let steps = view.steps.iter().map(|step| (step.path.to_string(), step.status));
        steps.chain(view.nodes.iter().map(|node| (node.path.to_string(), node.status))).collect()
    }

    fn are(stands: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        stands.iter().map(|(path, stands)| ((*path).to_owned(), *stands)).collect()
    }

    #[test]
    fn what_a_choice_did_not_take_is_skipped_and_it_is_over_with_what_it_took() {
        let flow = "{sequence: [{choice: [{when: {pick: $.input, equals: 1}, do: {agent: a}}, {else: {agent: b}}]}, {agent: c}]}";
        let taken = Event::NodeDecided { node: path("0/0"), decided: Decided::Option(Some(1)) };
        let mut events = vec![taken, started("0/0/1")];
        let wanted = [("0/0/0", "skipped"), ("0/0/1", "running"), ("0/1", "pending"), ("0/0", "running")];
        assert_eq!(stands(&view(flow, &events)), are(&wanted));
        events.extend([completed("0/0/1"), started("0/1"), completed("0/1")]);
        events.push(Event::RunCompleted { step: path("0/1") });
        let wanted = [("0/0/0", "skipped"), ("0/0/1", "completed"), ("0/1", "completed"), ("0/0", "completed")];
        assert_eq!(stands(&view(flow, &events)), are(&wanted));
    }

    #[test]
    fn nothing_runs_or_is_to_come_in_a_run_that_is_over_and_nothing_runs_in_one_that_is_paused() {
        let flow =
            "{sequence: [{sequence: [{agent: a, validate: {agent: v}}, {wait: 1h, id: w}], timeout: 2h}, {agent: c}]}";
        let until = AT.after(std::time::Duration::from_secs(7_200));
        let mut events = vec![Event::NodeStarted { node: path("0/0"), until }, started("0/0/0")];
        let paused = Event::RunPaused { by: Some(by()), failure: None };
        let view_of =
            |last: &Event, events: &[Event]| stands(&view(flow, &[events, std::slice::from_ref(last)].concat()));
        let wanted = [("0/0/0", "paused"), ("0/0/0/0", "pending"), ("0/1", "pending"), ("0/0", "paused")];
        assert_eq!(view_of(&paused, &events), are(&wanted));
        let cancelled = Event::RunCancelled { by: None, reason: String::new() };
        let wanted = [("0/0/0", "cancelled"), ("0/0/0/0", "skipped"), ("0/1", "skipped"), ("0/0", "cancelled")];
        assert_eq!(view_of(&cancelled, &events), are(&wanted));
        events.extend([completed("0/0/0"), started("0/0/0/0"), completed("0/0/0/0")]);
        events.push(Event::StepJudged { step: path("0/0/0"), rejection: None });
        events.push(Event::NodeDecided { node: path("0/0/1"), decided: Decided::Until(until) });
        let shown = view(flow, &[&events[..], &[cancelled]].concat());
        let waits = shown.nodes.iter().find(|node| node.path == path("0/0/1")).unwrap();
        assert_eq!((waits.status, waits.due_at), ("cancelled", None));
    }

    #[test]
    fn what_fails_shows_the_nodes_around_it_failed() {
        let flow = "{sequence: [{sequence: [{agent: a}, {agent: b}], timeout: 2h}, {agent: c}]}";
        let failure = Failure::new(ltmc_model::failure::Code::AgentError, "no").in_step(&path("0/0/0"));
        let failed = Event::StepFailed {
            step: path("0/0/0"),
            attempt: 1,
            failure: failure.clone(),
            retry_at: None,
            usage: Usage::default(),
        };
        let until = AT.after(std::time::Duration::from_secs(7_200));
        let begun = Event::NodeStarted { node: path("0/0"), until };
        let shown = view(flow, &[begun, started("0/0/0"), failed, Event::RunFailed { failure }]);
        let wanted = [("0/0/0", "failed"), ("0/0/1", "skipped"), ("0/1", "skipped"), ("0/0", "failed")];
        assert_eq!(stands(&shown), are(&wanted));
    }

    #[test]
    fn who_changed_a_step_and_when_is_told_for_as_long_as_it_is_so() {
        let amended = |step: &str, change: Amendment| {
            let change = Amended { by: by(), step: path(step), change, was: None, after: vec![path(step)] };
            Event::Amended(Box::new(change))
        };
        let (set, given) = (Amendment::Output(Payload::text("mine")), Amendment::Input(Payload::text("in")));
        let (cancelled, resumed) =
            (Event::RunCancelled { by: None, reason: String::new() }, Event::RunResumed { by: by() });
        let changed = |events: &[Event]| {
            let steps = view("{sequence: [{agent: a}, {agent: b}, {agent: c}]}", events).steps;
            steps.into_iter().map(|step| step.changed.iter().map(|one| one.what).collect()).collect::<Vec<Vec<What>>>()
        };
        let mut events = vec![started("0/0"), completed("0/0"), cancelled.clone()];
        events.extend([amended("0/0", set.clone()), amended("0/1", given)]);
        assert_eq!(changed(&events), [vec![], vec![], vec![]], "it is so once the run goes on");
        events.push(resumed.clone());
        assert_eq!(changed(&events), [vec![What::Output], vec![What::Input], vec![]]);
        let shown = view("{sequence: [{agent: a}, {agent: b}, {agent: c}]}", &events).steps[0].changed[0].clone();
        assert_eq!(shown, ChangeView { what: What::Output, by: by(), at: AT });
        // The first is done again: what it gives then is its own.
        events.extend([started("0/1"), completed("0/1"), cancelled, amended("0/0", Amendment::Again), resumed]);
        events.extend([started("0/0"), completed("0/0")]);
        assert_eq!(changed(&events), [vec![], vec![What::Input], vec![]]);
    }
}
