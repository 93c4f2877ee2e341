//! What a node is called where people are told of it, and where its document says so.

use ltmc_model::StepPath;
use ltmc_model::workflow::Node as Planned;
use serde::Serialize;

use crate::fold::History;
use crate::place::{self, Is, Place};

/// Which step or other node, as people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Called {
    /// Its place in the tree of patterns.
    pub step: StepPath,
    /// The name by which others pick from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does: `agent`, `sequence`, `map`, ...
    pub pattern: &'static str,
    /// The agent whose step it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The item of a map that it is done for, from 0 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// The round of a loop that it is done in, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<usize>,
}

impl Called {
    /// What stands at a path of a run's tree, with the agent that was found for it.
    pub(super) fn by(root: Option<&Planned>, path: &StepPath, history: &History) -> Self {
        let found = history.node(path).and_then(|node| node.agent.as_ref());
        let called = Self::at(root, path);
        Self { agent: called.agent.or_else(|| found.map(ToString::to_string)), ..called }
    }

    /// What stands at a path of a run's tree.
    pub fn at(root: Option<&Planned>, path: &StepPath) -> Self {
        let way = root.map(|root| place::way(root, path)).unwrap_or_default();
        let place = way.last().filter(|place| place.path == *path);
        let item = |place: &Place<'_>| if let Is::Item(number) = place.is { Some(number) } else { None };
        let round = |place: &Place<'_>| if let Is::Round(number) = place.is { Some(number + 1) } else { None };
        Self {
            step: path.clone(),
            name: place.and_then(Place::name),
            pattern: place.map_or("step", Place::word),
            agent: place.and_then(Place::agent).map(ToString::to_string),
            item: way.iter().rev().find_map(item),
            round: way.iter().rev().find_map(round),
        }
    }
}

impl std::fmt::Display for Called {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, &self.agent) {
            (Some(name), _) => write!(f, "`{name}` ({})", self.step),
            (None, Some(agent)) => write!(f, "{} `{agent}` ({})", self.pattern, self.step),
            (None, None) => write!(f, "{} {}", self.pattern, self.step),
        }
    }
}
