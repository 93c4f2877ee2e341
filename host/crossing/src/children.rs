//! What calls of other agents, and of people, come to: runs that are begun, waited for, and answered from.
//!
//! Invariants: before a child is begun, what its caller did is in the record: the child sees it, and nothing of a child is true
//! of which nobody knows where it comes from. What a child gave is an effect of its caller's like any other. Of a branch that has a context
//! of its own a child has nothing but its input: it works in a session of its own, so that there is nothing of it to be brought together.

use ltmc_context::Decided;
use ltmc_model::call::coordination::{Begin, Call, CoordinationCall, Join};
use ltmc_model::child::{self, Ended, MAX_JOINED_BYTES};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::Failure;
use ltmc_model::fork;
use ltmc_model::{Digest, Payload, RunId};
use ltmc_ports::Durability;
use ltmc_ports::children::{Child, Wanted};

use crate::{Crossing, Turn, broken};

impl Crossing {
    /// What a call on other agents comes to that is allowed.
    pub(crate) async fn coordinated(
        &self,
        turn: &mut Turn,
        call: CoordinationCall,
        request: Digest,
    ) -> Result<Decided, Failure> {
        if turn.transaction.levels().iter().any(|level| level.settles) {
            let why = "it settles a conflict of branches: it says what is taken, and has nobody else do anything";
            return Ok(Decided::Answer(Err(Refusal::Invalid(why.into()))));
        }
        let answer = match call {
            CoordinationCall::Call(Call { agent, input }) => {
                match self.begun(turn, Wanted::Agent(agent), input, request, false).await? {
                    Ok(run) => Ok(Reply::Ended(self.ended(run).await?)),
                    Err(refusal) => Err(refusal),
                }
            }
            CoordinationCall::Begin(Begin { agent, input }) => {
                self.told(turn, Wanted::Agent(agent), input, request).await?
            }
            CoordinationCall::Need(need) => {
                let input = need.input.clone();
                self.told(turn, Wanted::Need(Box::new(need)), input, request).await?
            }
            CoordinationCall::Ask(ask) => {
                let shown = ask.show.clone().unwrap_or_default();
                self.told(turn, Wanted::Answer(Box::new(ask)), shown, request).await?
            }
            CoordinationCall::Join(Join { children }) => self.joined(turn, &children).await?.map(Reply::Joined),
            CoordinationCall::HandOff(asked) => return self.handed_off(turn, asked, false).await,
            CoordinationCall::HandBack(asked) => return self.handed_back(turn, asked).await,
            CoordinationCall::Received(_) => return Ok(self.received()),
        };
        Ok(Decided::Answer(answer))
    }

    /// Begins a child of which the attempt is told, to join it later.
    async fn told(
        &self,
        turn: &mut Turn,
        wanted: Wanted,
        input: Payload,
        request: Digest,
    ) -> Result<Result<Reply, Refusal>, Failure> {
        let begun = self.begun(turn, wanted, input, request, true).await?;
        Ok(begun.map(|run| {
            turn.children.insert(run);
            Reply::Begun(run)
        }))
    }

    pub(crate) async fn begun(
        &self,
        turn: &mut Turn,
        wanted: Wanted,
        input: Payload,
        request: Digest,
        is_told: bool,
    ) -> Result<Result<RunId, Refusal>, Failure> {
        if let Err(why) = child::check_input(&input.content_type, &input.bytes) {
            return Ok(Err(Refusal::Invalid(why)));
        }
        self.come_true(turn).await?;
        let (step, attempt, effect) = (self.step.clone(), self.attempt, turn.number + 1);
        let is_apart = fork::Level::has_session(turn.transaction.levels());
        let trail = turn.transaction.heard().cloned();
        self.children.begin(Child { step, attempt, effect, request, wanted, input, trail, is_told, is_apart }).await
    }

    async fn joined(&self, turn: &mut Turn, children: &[RunId]) -> Result<Result<Vec<Ended>, Refusal>, Failure> {
        if let Err(why) = child::check_joined(children.len()) {
            return Ok(Err(Refusal::Invalid(why)));
        }
        if !children.iter().all(|child| turn.children.contains(child)) {
            return Ok(Err(Refusal::NotFound));
        }
        self.come_true(turn).await?;
        // All of them are under way: it does not matter which is waited for first.
        let (mut joined, mut bytes) = (Vec::with_capacity(children.len()), 0);
        for child in children {
            let ended = self.ended(*child).await?;
            bytes += ended.size();
            if bytes > MAX_JOINED_BYTES && !joined.is_empty() {
                return Ok(Err(Refusal::Quota(child::too_large())));
            }
            joined.push(ended);
        }
        Ok(Ok(joined))
    }

    pub(crate) async fn ended(&self, run: RunId) -> Result<Ended, Failure> {
        Ok(Ended { run, result: self.children.ended(run).await? })
    }

    /// Has the record hold what the attempt did so far, and has that be true: others are to see it.
    async fn come_true(&self, turn: &mut Turn) -> Result<(), Failure> {
        if turn.transaction.is_empty() {
            return self.log.flush(Durability::Lazy).await.map_err(|e| broken(&e));
        }
        self.checkpoint(turn).await
    }
}
