//! Where things come from: which steps work on what a step gave, and which runs an agent's version had a part in.
//!
//! Invariant: a step depends on a node where what the node gave is part of its input, or decided whether, or on which items, it is
//! done. What a node gave stands for every step below it, but for those that the asking step stands below with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{AgentName, Digest, RunId, StepPath};

/// How many steps one input may be made of that are kept.
pub const MAX_NEEDS: usize = 128;
/// How far dependents are followed.
pub const MAX_DEPTH: u32 = 32;
/// How many dependents are found at most; of more the nearest are, and the answer says so.
pub const MAX_DEPENDENTS: usize = 1_000;

/// What depends on a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependentsOf {
    /// In which run; what it was forked from counts with it.
    pub run: RunId,
    /// On which step, or which other node.
    pub step: StepPath,
    /// Over how many others at most, from 1 on.
    pub depth: u32,
}

/// A step, or a node that begins a run, that depends on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependent {
    /// The place of the step, or of the other node.
    pub step: StepPath,
    /// How many steps away: 1 where it works on what the step itself gave.
    pub distance: u32,
    /// The nodes whose outputs it works on, of those by which it depends on the step.
    pub needs: Vec<StepPath>,
    /// Who does it; none: it is a node that begins a run.
    pub agent: Option<AgentName>,
    /// The version of the agent, by its component's digest.
    pub version: Option<Digest>,
    /// The run that it began.
    pub began: Option<RunId>,
}

/// What depends on a step, the nearest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dependents {
    /// By distance, then in the order of the tree.
    pub found: Vec<Dependent>,
    /// Whether there are more than [`MAX_DEPENDENTS`].
    pub cut: bool,
}

/// Which runs an agent had a part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsOf {
    /// The agent's name.
    pub agent: AgentName,
    /// In this version; none: in any.
    pub version: Option<Digest>,
    /// Older than this run; the newest come first.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: u32,
}

/// A run that an agent had a part in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartIn {
    /// The run's id.
    pub run: RunId,
    /// The versions that did anything of it, in order.
    pub versions: Vec<Digest>,
}

/// A page of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunsPage {
    /// The newest first.
    pub runs: Vec<PartIn>,
    /// Before which run to look on; none: that was all. A page may be empty and have it: so many were looked at.
    pub next: Option<RunId>,
}

/// One step of a run, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// Whose outputs it works on.
    pub needs: BTreeSet<StepPath>,
    /// Who does it.
    pub agent: Option<AgentName>,
    /// The version of the agent, by its component's digest.
    pub version: Option<Digest>,
    /// The run that it began.
    pub began: Option<RunId>,
}

impl Made {
    /// With what the run that this one was forked from says of the step.
    pub fn with_older(&mut self, older: Self) {
        let Self { needs, agent, version, began } = older;
        self.needs.extend(needs);
        if self.agent.is_none() && self.began.is_none() {
            (self.agent, self.version, self.began) = (agent, version, began);
        }
    }
}

/// The nodes whose outputs a step has a part in: itself, and those above it.
pub fn covers(step: &StepPath) -> impl Iterator<Item = StepPath> + use<> {
    std::iter::successors(Some(step.clone()), StepPath::parent)
}

/// Whether what `node` gave, which `by` works on, stands for `step`.
pub fn stands_for(node: &StepPath, step: &StepPath, by: &StepPath) -> bool {
    step != by && (node == step || (step.is_within(node) && !by.is_within(node)))
}

/// What depends on a step, of a run of which all is known.
pub fn dependents(made: &BTreeMap<StepPath, Made>, of: &StepPath, depth: u32) -> Dependents {
    let mut users: BTreeMap<&StepPath, Vec<&StepPath>> = BTreeMap::new();
    for (by, step) in made {
        for need in &step.needs {
            users.entry(need).or_default().push(by);
        }
    }
    let mut dependents = Dependents::default();
    let mut seen = BTreeSet::from([of.clone()]);
    let mut front = vec![of.clone()];
    for distance in 1..=depth.clamp(1, MAX_DEPTH) {
        let mut ring: BTreeMap<&StepPath, BTreeSet<StepPath>> = BTreeMap::new();
        for step in &front {
            for node in covers(step) {
                for by in users.get(&node).into_iter().flatten().filter(|by| stands_for(&node, step, by)) {
                    ring.entry(by).or_default().insert(node.clone());
                }
            }
        }
        let ring: Vec<_> = ring.into_iter().filter(|(by, _)| seen.insert((*by).clone())).collect();
        front = ring.iter().map(|(by, _)| (*by).clone()).collect();
        for (by, needs) in ring {
            if dependents.found.len() == MAX_DEPENDENTS {
                dependents.cut = true;
                return dependents;
            }
            let Made { agent, version, began, .. } = made.get(by).cloned().unwrap_or_default();
            let needs = needs.into_iter().collect();
            dependents.found.push(Dependent { step: by.clone(), distance, needs, agent, version, began });
        }
        if front.is_empty() {
            break;
        }
    }
    dependents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> StepPath {
        text.parse().unwrap()
    }

    fn found(made: &[(&str, &[&str])], of: &str, depth: u32) -> Vec<(String, u32)> {
        let made: BTreeMap<StepPath, Made> = made
            .iter()
            .map(|(by, needs)| {
                (path(by), Made { needs: needs.iter().map(|need| path(need)).collect(), ..Made::default() })
            })
            .collect();
        dependents(&made, &path(of), depth).found.into_iter().map(|one| (one.step.to_string(), one.distance)).collect()
    }

    #[test]
    fn what_a_node_gave_stands_for_the_steps_below_it_but_not_among_themselves() {
        let made: &[(&str, &[&str])] =
            &[("0/1/0", &["0/0"]), ("0/1/1", &["0/0"]), ("0/2", &["0/1"]), ("0/3", &["0/2"])];
        let names = |found: Vec<(String, u32)>| {
            found.into_iter().map(|(step, at)| format!("{step}:{at}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(found(made, "0/0", 32)), "0/1/0:1 0/1/1:1 0/2:2 0/3:3");
        assert_eq!(names(found(made, "0/1/0", 32)), "0/2:1 0/3:2");
        assert_eq!(names(found(made, "0/0", 2)), "0/1/0:1 0/1/1:1 0/2:2");
        assert!(found(made, "0/3", 32).is_empty());
        // What undoes a node stands below it, and works on what it gave.
        assert!(found(&[("0/5/9/0", &["0/5"]), ("0/5/9/1", &["0/5"])], "0/5/9/0", 32).is_empty());
    }

    #[test]
    fn rings_end() {
        let made: &[(&str, &[&str])] = &[("0/0", &["0/1"]), ("0/1", &["0/0"])];
        assert_eq!(found(made, "0/0", 32), [("0/1".to_owned(), 1)]);
    }
}
