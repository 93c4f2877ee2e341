//! A resumed attempt's way to the host: the crossing, and a count of the journaled effects that its guest has not asked
//! for again.
//!
//! Invariant: an attempt gives its own result only after it has asked for all that its journal holds. What the host ended
//! (a limit, a trap) may end earlier than the first time.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use ltmc_crossing::Crossing;
use ltmc_journal::runlog::Commit;
use ltmc_model::Timestamp;
use ltmc_model::call::{Call, Class};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::{Code, Failure};
use ltmc_ports::Gate;
use ltmc_ports::runner::{Directory, Outcome};

pub(crate) struct Resumed {
    crossing: Crossing,
    left: AtomicUsize,
}

impl Resumed {
    /// Of an attempt with so many journaled effects; none: it is a new one.
    pub(crate) fn new(crossing: Crossing, left: usize) -> Self {
        Self { crossing, left: AtomicUsize::new(left) }
    }

    /// What the attempt did, once it has ended well.
    pub(crate) async fn commit(&self) -> Commit {
        self.crossing.finish().await
    }

    /// How the attempt ended, or that it cannot be resumed.
    pub(crate) fn check(&self, ended: Result<Outcome, Failure>) -> Result<Outcome, Failure> {
        let left = self.left.load(Ordering::Relaxed);
        let its_own = ended.as_ref().err().is_none_or(|failure| failure.code == Code::AgentError);
        if left == 0 || !its_own {
            return ended;
        }
        let message = format!(
            "on resume the agent ended before it had made the last {left} of the host calls that the journal has: it does \
             not do the same for the same input, so it cannot be resumed; call it anew"
        );
        Err(Failure::new(Code::ReplayMismatch, message))
    }
}

#[async_trait]
impl Gate for Resumed {
    async fn cross(&self, call: Call) -> Result<Result<Reply, Refusal>, Failure> {
        let is_journaled = call.class() == Class::Transactional;
        let answer = self.crossing.cross(call).await?;
        if is_journaled {
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        }
        Ok(answer)
    }

    async fn grants(&self, directory: &Directory) -> bool {
        self.crossing.grants(directory).await
    }

    fn now(&self) -> Timestamp {
        self.crossing.now()
    }

    fn stderr(&self, text: &str) {
        self.crossing.stderr(text);
    }
}
