//! What is decided about a node of a workflow, and kept: who goes on with the run does not decide it again.

use serde::{Deserialize, Serialize};

use crate::agent::AgentRef;
use crate::failure::Failure;
use crate::hand_off::Holds;
use crate::{AgentName, Payload, StepPath, Timestamp};

/// What a node works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// The run's input.
    Run,
    /// What a step gave, or another node.
    Output(StepPath),
    /// An item of a map.
    Item {
        /// The place of the map.
        map: StepPath,
        /// From 0 on.
        index: usize,
    },
    /// What a node's `with` makes of its input.
    With {
        /// The place of the node that has the `with`.
        node: StepPath,
        /// Its input.
        input: Box<Input>,
    },
    /// What a node gave whose work is undone, or, where it gave nothing, what it was given.
    Undone(StepPath),
    /// What each branch of a node came to.
    Branches {
        /// The place of the node whose branches they are.
        node: StepPath,
        /// Whose output each gave; none: it gave nothing.
        gave: Vec<Option<StepPath>>,
    },
    /// A conflict of branches that was raised.
    Conflict {
        /// The node that forks.
        node: StepPath,
        /// Who settles it.
        by: u32,
        /// Which of those that were put to them.
        number: u32,
    },
    /// What was said in a debate so far.
    Turns {
        /// The debate's place.
        debate: StepPath,
        /// Before this turn, from 0 on.
        before: u32,
        /// What the debate works on.
        input: Box<Input>,
    },
}

/// What was decided about a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decided {
    /// Whether its `when` holds; where it does not the node is skipped.
    When(bool),
    /// Which option of a choice is taken; none: no condition holds, and there is nothing else.
    Option(Option<u32>),
    /// Which handler of errors is taken; none: no condition holds.
    Handler(Option<u32>),
    /// Which agent does a step, and how it was found.
    Agent {
        /// The version.
        agent: AgentRef,
        /// Those that were looked at, the best first; of many the first.
        candidates: Vec<Candidate>,
    },
    /// The document that an agent wrote, in its one form.
    Planned(std::sync::Arc<str>),
    /// The items of a map, each in JSON.
    Items(Vec<Payload>),
    /// What comes after a round of a loop.
    Round {
        /// Which, from 0 on.
        round: u32,
        /// Whose output the round gave; none: all of it was skipped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gave: Option<StepPath>,
        /// What comes next.
        next: Next,
    },
    /// What comes after a turn of a debate.
    Turn {
        /// Which, from 0 on.
        turn: u32,
        /// Whose output the turn gave; none: nobody spoke.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gave: Option<StepPath>,
        /// What comes next.
        next: Next,
    },
    /// Which branches count, in the order in which they were done; or how it failed.
    Joined {
        /// Their numbers.
        winners: Vec<u32>,
        /// Why too few of them succeeded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// Those that had failed by then, where who makes one of them is told.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lost: Vec<Lost>,
    },
    /// What branches voted for.
    Voted {
        /// Every value, the one with the most votes first.
        counts: Vec<Count>,
        /// How many branches gave anything.
        of: u32,
        /// Whether the first has won.
        is_won: bool,
    },
    /// When a wait is over.
    Until(Timestamp),
    /// Who holds a conversation first.
    Holds(Holds),
}

/// A branch that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lost {
    /// Its number.
    pub branch: u32,
    /// How; of a long message the beginning.
    pub failure: Failure,
}

/// How many branches voted for a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    /// The value.
    pub value: serde_json::Value,
    /// How many branches voted for it.
    pub votes: u32,
}

/// An agent that was looked at for a need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// The agent's name.
    pub agent: AgentName,
    /// How well it fits in all, from 0 to 1.
    pub score: f64,
    /// How near its description is to the need, from 0 to 1.
    pub likeness: f64,
    /// How near the nearest need is that it met before, from 0 to 1; none: none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar_tasks: Option<f64>,
    /// Which share of its work succeeded, as far as the host knew.
    pub success: f64,
    /// How much of it was under way on that host.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub load: u32,
    /// Why it could not be taken; none: it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What comes after a round of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// Another round.
    Again,
    /// Nothing: what it works towards is there.
    Done,
    /// Nothing: there may be no more rounds.
    Exhausted,
    /// Nothing: the last rounds all gave the same.
    Stalled,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
