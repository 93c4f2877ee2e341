//! What undoes what a run did: what stands ready for that, in the order in which it was registered, and how far it is.
//!
//! Invariants: what stands ready was registered before the work that it undoes began. What has begun comes to its end, whatever
//! becomes of the node that it undoes: it is nothing of that node's own work.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Input;
use ltmc_model::{KeyId, StepPath};
use serde::{Deserialize, Serialize};

use crate::fold::{History, Phase};
use crate::node::{Compensation, InVain};

/// What of a run is to be undone should it turn out to have been in vain.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Undoing {
    /// Nodes whose work is not undone, in the order in which that was made ready.
    ready: BTreeMap<u64, StepPath>,
    /// Where each of them stands there.
    places: BTreeMap<StepPath, u64>,
    /// How many were ever made ready.
    count: u64,
    /// Those of them whose work is being undone.
    begun: BTreeSet<StepPath>,
    /// How the run ends once everything is undone; none: it goes on.
    pub(crate) ending: Option<Ending>,
}

/// How a run ends once what it did is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It fails.
    Failing(Failure),
    /// Somebody ended it.
    Cancelling {
        /// The key that ended it; none: the client went away, or the host ended it.
        by: Option<KeyId>,
        /// For people.
        reason: String,
    },
}

impl Ending {
    /// Why what the run did was in vain.
    pub fn why(&self) -> Failure {
        match self {
            Self::Failing(failure) => failure.clone(),
            Self::Cancelling { reason, .. } => Failure::new(Code::Cancelled, reason.clone()),
        }
    }
}

impl Undoing {
    /// Whether anything is being undone.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Nothing undoes this node's work any more.
    pub(crate) fn forget(&mut self, node: &StepPath) {
        if let Some(place) = self.places.remove(node) {
            self.ready.remove(&place);
        }
        self.begun.remove(node);
    }

    pub(crate) fn forget_below(&mut self, node: &StepPath) {
        for path in self.below(node).cloned().collect::<Vec<_>>() {
            self.forget(&path);
        }
    }

    /// Whether anything below a node stands ready to be undone.
    pub(crate) fn stands_below(&self, node: &StepPath) -> bool {
        self.below(node).next().is_some()
    }

    fn below<'a>(&'a self, node: &'a StepPath) -> impl Iterator<Item = &'a StepPath> {
        let within = self.places.range(node..).map(|(path, _)| path).take_while(|path| path.is_within(node));
        within.filter(move |path| *path != node)
    }

    fn register(&mut self, node: &StepPath) {
        let place = self.count;
        self.count += 1;
        if let Some(before) = self.places.insert(node.clone(), place) {
            self.ready.remove(&before);
        }
        self.ready.insert(place, node.clone());
    }
}

impl History {
    /// How the run ends once everything is undone; none: it goes on.
    pub fn ending(&self) -> Option<&Ending> {
        self.undoing.ending.as_ref()
    }

    /// Whether somebody paused it.
    pub fn is_paused_by_somebody(&self) -> bool {
        matches!(self.phase, Phase::Paused(_, None))
    }

    /// Whether anything stands ready to be undone.
    pub fn has_to_undo(&self) -> bool {
        !self.undoing.ready.is_empty()
    }

    /// Nodes whose work is being undone.
    pub fn being_undone(&self) -> impl Iterator<Item = &StepPath> {
        self.undoing.begun.iter()
    }

    /// Whose work is to be undone next of those that are meant: what has begun first, and then what was registered last.
    pub fn next_to_undo(&self, is_meant: impl Fn(&StepPath) -> bool) -> Option<&StepPath> {
        let begun = self.undoing.begun.iter().find(|path| is_meant(path));
        begun.or_else(|| self.undoing.ready.values().rev().find(|path| is_meant(path)))
    }

    pub(crate) fn registered(&mut self, node: &StepPath, given: &Input) {
        let ready = Compensation { given: given.clone(), begun: None, is_done: false };
        self.node_mut(node).compensation = Some(ready);
        self.undoing.register(node);
    }

    pub(crate) fn in_vain(&mut self, node: &StepPath, within: &StepPath, failure: &Failure) {
        let Some(compensation) = &mut self.node_mut(node).compensation else { return };
        compensation.begun = Some(InVain { within: within.clone(), failure: failure.clone() });
        self.undoing.begun.insert(node.clone());
    }

    pub(crate) fn compensated(&mut self, node: &StepPath) {
        if let Some(compensation) = &mut self.node_mut(node).compensation {
            compensation.is_done = true;
        }
        self.undoing.forget(node);
    }
}
