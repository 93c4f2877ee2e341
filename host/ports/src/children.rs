//! Runs that a run's guests begin, as the crossing asks for them: who knows what a run is begins them and waits for them.

use async_trait::async_trait;
use ltmc_model::call::coordination::{Ask, Need};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::Failure;
use ltmc_model::message::Trail;
use ltmc_model::{AgentName, Digest, Payload, RunId, StepPath};

/// A child that a guest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The step whose attempt asks.
    pub step: StepPath,
    /// The attempt's number, from 1 on.
    pub attempt: u32,
    /// Which host call of the attempt's, from 1 on.
    pub effect: u32,
    /// What that call is known by.
    pub request: Digest,
    /// Who is to do it.
    pub wanted: Wanted,
    /// What the child works on; of a question, what is shown.
    pub input: Payload,
    /// What follows from what its caller took of mailboxes and topics, where that is further than what its run follows from.
    pub trail: Option<Trail>,
    /// Whether it is in the record before its caller is told of it: one that is waited for in the same call is found again without.
    pub is_told: bool,
    /// Whether its caller works in a branch that has memory of the session to itself: the child has a session of its own then.
    pub is_apart: bool,
}

/// Who is to do what a guest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This agent, in its newest version.
    Agent(AgentName),
    /// Whoever fits best, which the coordinator finds.
    Need(Box<Need>),
    /// People, who answer.
    Answer(Box<Ask>),
}

/// The children of one run.
#[async_trait]
pub trait Children: Send + Sync {
    /// Begins a child. One that was begun for the very same call of the same attempt is found again, and no other begun: also
    /// after the host died. What the run did so far is to be in the record before.
    ///
    /// # Errors
    /// The outer error ends the attempt; the inner one is a value for the guest: there is no such agent, there is no room, or
    /// a bound is reached.
    async fn begin(&self, child: Child) -> Result<Result<RunId, Refusal>, Failure>;

    /// Waits until a child is over; what it gave, or how it ended badly. It is looked up: a child whose end nobody was told is
    /// over all the same.
    ///
    /// # Errors
    /// The outer error ends the attempt.
    async fn ended(&self, child: RunId) -> Result<Result<Payload, Failure>, Failure>;
}
