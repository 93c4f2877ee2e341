//! Patterns: what is next. Each is a pure function from what has happened to a decision; a file each, and their table below.
//!
//! Invariants: no I/O, no clock, no randomness: time is the history's. A step's path is its place in the tree and depends
//! on nothing that happens. What a decision lists is everything that is to be done: what is under way and is not listed is ended. One
//! that says that a node is over leaves nothing open below it.

use ltmc_journal::History;
use ltmc_model::failure::Failure;
use ltmc_model::journal::Decided;
pub use ltmc_model::journal::Input;
use ltmc_model::workflow::{Does, Node, Wait};
use ltmc_model::{StepPath, Timestamp};

mod agent;
mod ask;
mod choice;
mod collect;
mod compensation;
mod debate;
mod emit;
mod hand_off;
mod listen;
mod loops;
mod map;
mod need;
mod node;
mod parallel;
mod plan;
mod sequence;
mod settle;
mod side_by_side;
mod wait;
mod workflow;

/// What a node does, made ready to decide.
pub trait Pattern: Send + Sync {
    /// What is next, for a node that stands at `at` and works on `input`. The history is changed in its memos alone.
    fn next(&self, at: &StepPath, history: &mut History, input: &Input) -> Decision;
}

/// What a pattern decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// These are to be done, or are being done; at least one. More can be decided once any of them is done.
    Do(Vec<Todo>),
    /// The node is done: it gives what this step, or this other node, gave.
    Done(StepPath),
    /// The node is not done at all: what comes next works on its input.
    Skipped,
    /// The node is over, badly.
    Failed(Failure),
}

/// One thing to be done about a step, or another node.
#[derive(Debug, Clone, PartialEq)]
pub enum Todo {
    /// Make an attempt, or go on with the one that is open.
    Attempt {
        /// The step's place.
        step: StepPath,
        /// What the step works on.
        input: Input,
    },
    /// Journal whether a node's output is good: by its schema, or by what its validator found.
    Judge {
        /// The place of the node whose output is judged.
        node: StepPath,
    },
    /// Wait until it is tried again, or until it has taken too long.
    Wait {
        /// Which step, or other node.
        node: StepPath,
        /// The time up to which it waits, at the longest.
        until: Timestamp,
    },
    /// Begin the run of a node that starts another workflow, or have the one go on that it had begun, and journal which that is.
    Begin {
        /// Its place.
        node: StepPath,
        /// What the run works on.
        input: Input,
    },
    /// Wait for the end of the run that a node had begun, and journal it.
    Join {
        /// The node's place.
        node: StepPath,
    },
    /// Wait for what comes from outside, and is then in the journal ([`crate::Runs`] brings it there).
    Await {
        /// Which step, or other node.
        node: StepPath,
    },
    /// Put a node's question to people, and journal it.
    Ask {
        /// The node's place.
        node: StepPath,
    },
    /// Reminds people of what a node asks.
    Remind {
        /// The place of the node that asks.
        node: StepPath,
        /// How often that was due, with this.
        number: u32,
    },
    /// Publish a node's event, and journal that.
    Emit {
        /// The node's place.
        node: StepPath,
        /// What it works on.
        input: Input,
    },
    /// Journal from where on a node waits for its event.
    Subscribe {
        /// The node's place.
        node: StepPath,
    },
    /// Look whether the event has come that a node waits for, and journal that.
    Listen {
        /// The node's place.
        node: StepPath,
    },
    /// Journal until when a node may take.
    Start {
        /// Its place.
        node: StepPath,
    },
    /// Find something out that decides about a node, and journal it.
    Decide {
        /// Its place.
        node: StepPath,
        /// What is to be found out.
        question: Question,
    },
    /// Journal what a pattern has decided by itself.
    Record {
        /// The node's place.
        node: StepPath,
        /// The decision to be journaled.
        decided: Decided,
    },
    /// Bring branches together that have a context of their own, and journal what came of it.
    Merge {
        /// The node's place.
        node: StepPath,
        /// Those that came to their end, in the order in which they did.
        done: Vec<u32>,
        /// What came of conflicts that were raised.
        settled: Vec<Settled>,
    },
    /// End everything that is open below a node.
    Cancel {
        /// Its place.
        node: StepPath,
    },
    /// End everything that is open at a node and below it, and journal that it took too long.
    TimeOut {
        /// Its place.
        node: StepPath,
    },
    /// Journal that a node failed.
    Fail {
        /// Its place.
        node: StepPath,
        /// How it failed.
        failure: Failure,
        /// Whether it is begun anew.
        again: bool,
    },
    /// Journal that what undoes a node's work stands ready.
    Register {
        /// The node's place.
        node: StepPath,
        /// What it works on.
        given: Input,
    },
    /// Undo a node's work, which was in vain: journal that, and do what undoes it.
    Compensate {
        /// The node's place.
        node: StepPath,
        /// In vain were this node's work and everything below it.
        within: StepPath,
        /// Why the work was in vain.
        failure: Failure,
    },
    /// Journal that a node's work is undone.
    Compensated {
        /// The node's place.
        node: StepPath,
    },
    /// Journal that the run has failed for good, and that what it did is undone.
    Unwind {
        /// The root's place.
        node: StepPath,
        /// How it failed.
        failure: Failure,
    },
    /// Wait for people: once nothing else is to be done the run is set aside.
    Halt {
        /// The node's place.
        node: StepPath,
        /// How it failed.
        failure: Failure,
        /// Whether that is what undoes its work.
        is_stuck: bool,
    },
    /// Journal what a node gives that is no step.
    End {
        /// Its place.
        node: StepPath,
        /// What it gives.
        output: Output,
    },
}

/// What came of a conflict that was put to somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Who was to settle it.
    pub by: u32,
    /// Which of those that were put to them.
    pub number: u32,
    /// Whose output says so, or why nobody did.
    pub came: Result<StepPath, Failure>,
}

/// What is to be found out about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether its `when` holds.
    When,
    /// Which agent does a step.
    Agent {
        /// What the step works on.
        input: Input,
    },
    /// Whether what a planner gave may be done.
    Plan {
        /// Who gave it.
        of: StepPath,
    },
    /// Which option of a choice is taken.
    Option,
    /// Which handler is taken, now that it failed.
    Handler,
    /// A map's items.
    Items,
    /// When a wait is over.
    Until,
    /// What comes after a round of a loop.
    Round {
        /// The round's number, from 0 on.
        round: usize,
        /// Whose output it gave.
        gave: Option<StepPath>,
    },
    /// What comes after a turn of a debate.
    Turn {
        /// The turn's number, from 0 on.
        turn: usize,
        /// Whose output it gave; none: nobody spoke.
        gave: Option<StepPath>,
    },
    /// Whose turn it is, by what the chair of a debate gave.
    Speaker {
        /// Where the chair stands.
        of: StepPath,
    },
    /// Who holds a conversation.
    Holder,
    /// What branches voted for.
    Votes {
        /// Whose output each gave.
        gave: Vec<Option<StepPath>>,
    },
}

/// What a node gives that is no step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// What another node gave.
    Of(StepPath),
    /// A list of what others gave, with null for who gave nothing.
    List(Vec<Option<StepPath>>),
    /// The same as an object, without who gave nothing.
    Object(Vec<(String, Option<StepPath>)>),
    /// One object: each of those that gave one over those before it.
    Merge(Vec<Option<StepPath>>),
    /// What has won a vote, with the counts.
    Voted {
        /// Whose output says what has won; none: the votes do.
        by: Option<StepPath>,
    },
    /// What it was given itself.
    Given(Input),
}

/// How something is about a node: of each there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// Something is done about it.
    Work,
    /// It is waited.
    Wait,
    /// Something from outside is awaited.
    Await,
    /// Its work is undone, or that is prepared.
    Undo,
    /// What is done about it, and below it, is ended.
    Stop,
}

impl Todo {
    /// Which step it is about, or which other node, and how: of the same there is one at a time.
    pub fn key(&self) -> (&StepPath, About) {
        match self {
            Self::Wait { node, .. } => (node, About::Wait),
            Self::Await { node } | Self::Join { node } | Self::Halt { node, .. } => (node, About::Await),
            Self::Register { node, .. }
            | Self::Compensate { node, .. }
            | Self::Compensated { node }
            | Self::Unwind { node, .. } => (node, About::Undo),
            Self::Cancel { node } | Self::TimeOut { node } => (node, About::Stop),
            Self::Attempt { step: node, .. }
            | Self::Judge { node }
            | Self::Ask { node }
            | Self::Remind { node, .. }
            | Self::Subscribe { node }
            | Self::Listen { node }
            | Self::Emit { node, .. }
            | Self::Begin { node, .. }
            | Self::Start { node }
            | Self::Decide { node, .. }
            | Self::Record { node, .. }
            | Self::Merge { node, .. }
            | Self::Fail { node, .. }
            | Self::End { node, .. } => (node, About::Work),
        }
    }

    /// Until when nothing is done about it, where that is all there is to do.
    pub fn waits_until(&self) -> Option<Timestamp> {
        match self {
            Self::Wait { until, .. } => Some(*until),
            Self::Await { .. } | Self::Join { .. } => Some(Timestamp::NEVER),
            _ => None,
        }
    }
}

impl Decision {
    fn just(todo: Todo) -> Self {
        Self::Do(vec![todo])
    }
}

/// A node with its modifiers.
pub fn of(node: &Node) -> Box<dyn Pattern> {
    Box::new(node::Modified::new(node))
}

/// A whole document's flow: with what it did undone, where that was in vain.
pub fn flow(root: &Node) -> Box<dyn Pattern> {
    Box::new(compensation::Flow::new(root))
}

/// The table of patterns: the one that a node of a document means.
fn pattern(node: &Node) -> Box<dyn Pattern> {
    match &node.does {
        Does::Agent(_) => Box::new(agent::Agent::new(node)),
        Does::Need(_) => Box::new(need::Needed::new(node)),
        Does::Sequence(children) => Box::new(sequence::Sequence::new(children)),
        Does::Parallel(parallel) => Box::new(parallel::Parallel::new(parallel)),
        Does::Choice(choice) => Box::new(choice::Choice::new(choice)),
        Does::Map(map) => Box::new(map::Map::new(map)),
        Does::Loop(again) => Box::new(loops::Loop::new(again)),
        Does::Debate(debate) => Box::new(debate::Debate::new(debate)),
        Does::HandOff(goes) => Box::new(hand_off::HandOff::new(goes)),
        Does::Turn(turn) => Box::new(debate::Turn::new(turn)),
        Does::Settle(_) => Box::new(settle::Nothing),
        Does::Wait(Wait::Event(_)) => Box::new(listen::Listen),
        Does::Wait(_) => Box::new(wait::Wait),
        Does::Ask(asks) => Box::new(ask::Ask::new(asks)),
        Does::Emit(_) => Box::new(emit::Emit),
        Does::Workflow(_) => Box::new(workflow::Workflow),
        Does::Plan(planning) => Box::new(plan::Plan::new(planning)),
    }
}
