//! The guests of a run that are at work, so that whoever ends one knows when it has come to its end.
//!
//! Where several steps may be at work at once each guest has a task of its own, and so a processor of its own. A task that is
//! aborted may be in the middle of a poll: what it does until that returns is still of the attempt.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use ltmc_model::StepPath;
use ltmc_model::workflow::Node;
use tokio::sync::Notify;

/// Which steps' guests are at work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guests(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    at_work: Mutex<BTreeSet<StepPath>>,
    one_left: Notify,
}

/// One guest at work, until it is dropped.
pub(crate) struct AtWork {
    guests: Guests,
    step: StepPath,
}

impl Guests {
    /// A step's guest begins.
    pub(crate) fn begin(&self, step: &StepPath) -> AtWork {
        self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner).insert(step.clone());
        AtWork { guests: self.clone(), step: step.clone() }
    }

    /// Waits until none is at work on a node's own work, at it and below it.
    pub(crate) async fn left(&self, node: &StepPath) {
        self.gone(|step| step.is_within(node) && !Node::is_undoing(step, node)).await;
    }

    /// Waits until none is at work at all.
    pub(crate) async fn all_left(&self) {
        self.gone(|_| true).await;
    }

    async fn gone(&self, is_meant: impl Fn(&StepPath) -> bool) {
        loop {
            let left = self.0.one_left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            let at_work = || self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner);
            if !at_work().iter().any(&is_meant) {
                return;
            }
            left.await;
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.guests.0.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.step);
        self.guests.0.one_left.notify_waiters();
    }
}
