//! The role of an agent: it executes tasks.

use crate::{Failure, FromPayload, IntoPayload, Task};

/// Executes tasks. Put `#[ltmc::agent]` on the struct that implements it.
///
/// Every call gets a fresh instance of the whole component, so the struct starts as its `Default` each time; what shall
/// outlast a call goes into [`memory`](crate::memory).
pub trait Agent: Default {
    /// What it works on: [`Json<T>`](crate::Json), `String`, `Vec<u8>`, [`Payload`](crate::Payload) or `()`.
    type Input: FromPayload;
    /// What it answers: the same choice.
    type Output: IntoPayload;

    /// Does one task. What does not work is a [`Failure`], with a code that callers can rely on; a panic is a fault.
    ///
    /// # Errors
    /// The agent's own: part of its contract.
    fn execute(&self, input: Self::Input, task: &Task) -> Result<Self::Output, Failure>;

    /// What it says of itself to those who look for an agent. As provided: the package's description, and the media
    /// types of `Input` and `Output`.
    fn describe() -> Description {
        Description {
            summary: String::new(),
            accepts: Self::Input::ACCEPTS.iter().map(|&media| media.to_owned()).collect(),
            produces: Self::Output::PRODUCES.to_owned(),
        }
    }
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// One sentence; empty: the description in the package's Cargo.toml.
    pub summary: String,
    /// Media types it takes; none means any.
    pub accepts: Vec<String>,
    /// The media type it answers with.
    pub produces: String,
}
