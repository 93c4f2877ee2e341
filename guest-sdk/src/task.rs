//! Which piece of work this is.

/// The circumstances of one call; the work itself is the agent's input.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// The run this belongs to (a UUID), for logs and for idempotency keys.
    pub run: String,
    /// The step's path in the workflow, such as `0/2`; `0` for a lone call.
    pub step: String,
    /// The first try is 1.
    pub attempt: u32,
    /// Under which name this agent was called.
    pub agent: String,
    /// The session whose memory the scope `session` means.
    pub session: String,
}
