//! Which piece of work this is, and how far it has come.

use crate::{Error, host};

/// The circumstances of one call; the work itself is the agent's input.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// The run this belongs to (a UUID), for logs and for idempotency keys.
    pub run: String,
    /// The step's path in the workflow, such as `0/2`; `0` for a lone call.
    pub step: String,
    /// The first try is 1. A retry that goes on from a [checkpoint](Self::checkpoint) is told the number of the try that began
    /// so, for it is to do the same again up to there.
    pub attempt: u32,
    /// Under which name this agent was called.
    pub agent: String,
    /// The session whose memory the scope `session` means.
    pub session: String,
}

impl Task {
    /// Makes what was done so far true now, for everybody. An attempt is a transaction: what it changes of memory, graph and
    /// recall, what it sends and what it acknowledges is seen by nobody else until it succeeds, and is gone where it does not.
    /// After a checkpoint a retry goes on from here: the agent is run again from its start, and its host calls up to here are
    /// answered as they were, without anything being done again. So it has to do the same again up to here, as an agent does
    /// for the same input.
    ///
    /// What waits for others implies one before it waits: a [`receive`](crate::messages::receive), a
    /// [`read`](crate::messages::read) or a [`watch`](crate::memory::Store::watch) that finds nothing at once. So does the
    /// beginning of a `read` or `watch` from now on: what was done so far comes before it.
    ///
    /// ```
    /// use ltmc::Failure;
    /// use ltmc::memory::{self, Increment, Scope};
    ///
    /// let host = ltmc::testing::Host::new().grant("memory:write:agent");
    /// let failed = host.tries(3, |task| -> Result<(), Failure> {
    ///     let store = memory::open(Scope::Agent)?;
    ///     store.update("first half", Increment(1))?;
    ///     task.checkpoint()?;
    ///     store.update("second half", Increment(1))?;
    ///     Err(Failure::new("busy", "the second half does not work yet").retryable())
    /// });
    /// assert!(failed.is_err());
    /// assert_eq!(host.memory(Scope::Agent).get_json::<u32>("first half"), Some(1));
    /// assert_eq!(host.memory(Scope::Agent).get("second half"), None);
    /// ```
    ///
    /// # Errors
    /// [`Error::Unavailable`] where there is no host.
    pub fn checkpoint(&self) -> Result<(), Error> {
        host::attempt::checkpoint()
    }
}
