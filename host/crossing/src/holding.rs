//! Conversations: what an attempt may hand on that holds one.
//!
//! Invariants: an attempt hands its conversation on once, and does nothing after that: what it asks then is refused, and says that it is fenced. That it did is
//! true with its end and not before, so one that fails keeps what it holds. What the receiver may do is what was granted to the receiver.

use ltmc_context::Decided;
use ltmc_model::agent::AgentRef;
use ltmc_model::call::coordination::{HandBack, HandOff};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::Failure;
use ltmc_model::hand_off::{self, Guards, Handed, HandedOff, Refused, givers};
use ltmc_model::workflow::Pass;
use ltmc_model::{AgentName, Payload, StepPath};

use crate::{Crossing, Turn, broken};

/// The conversation that an attempt holds.
#[derive(Debug, Clone)]
pub struct Holding {
    /// The node in which it goes.
    pub node: StepPath,
    /// The agents that may hold it.
    pub among: Vec<AgentRef>,
    /// What of it passes.
    pub pass: Pass,
    /// At most so many hand-offs.
    pub at_most: u32,
    /// At most so many of them from one agent to the same other one.
    pub per_pair: u32,
    /// Those that there were: from whom, to whom.
    pub so_far: Vec<(AgentName, AgentName)>,
    /// Whom this holder has it from, the last one last.
    pub givers: Vec<AgentName>,
    /// How it came to this holder; none: it began with it.
    pub handed: Option<Handed>,
    /// What was said after this turn is told to it.
    pub told_after: u32,
}

impl Holding {
    /// What a hand-off comes to.
    fn hand_off(&self, from: &AgentName, asked: HandOff, back: bool) -> Result<HandedOff, Refusal> {
        let HandOff { to, reason, passed } = asked;
        hand_off::check_reason(&reason).map_err(Refusal::Invalid)?;
        if let Some(passed) = &passed {
            hand_off::check_passed(&passed.content_type, passed.bytes.len()).map_err(Refusal::Invalid)?;
        }
        let among: Vec<&str> = self.among.iter().map(|one| one.name.as_str()).collect();
        let so_far: Vec<(&str, &str)> = self.so_far.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        let guards = Guards { among: &among, at_most: self.at_most, per_pair: self.per_pair };
        guards.check(from.as_str(), to.as_str(), &so_far).map_err(|refused| match refused {
            Refused::Invalid(why) => Refusal::Invalid(why),
            Refused::Quota(why) => Refusal::Quota(why),
        })?;
        let bytes = passed.as_ref().map(|passed| passed.bytes.as_ref());
        let passed = match &self.pass {
            Pass::Full | Pass::Last(_) => passed,
            Pass::Summary => {
                hand_off::check_summary(bytes).map_err(Refusal::Invalid)?;
                passed
            }
            Pass::Fields(fields) => {
                let only = hand_off::only(fields, bytes).map_err(Refusal::Invalid)?;
                Some(Payload { content_type: Payload::JSON.into(), bytes: only.into() })
            }
        };
        let number = among.iter().position(|one| *one == to.as_str()).unwrap_or_default();
        let (node, number) = (self.node.clone(), u32::try_from(number).unwrap_or(u32::MAX));
        let givers = givers(self.givers.clone(), from, back);
        Ok(HandedOff { node, from: from.clone(), to, number, reason, passed, givers, back })
    }
}

impl Crossing {
    /// How the conversation came to this attempt's agent.
    pub(crate) fn received(&self) -> Decided {
        let handed = self.holding.as_ref().and_then(|holding| holding.handed.clone());
        Decided::Answer(Ok(Reply::Handed(handed)))
    }

    /// What handing a conversation back comes to that is allowed.
    pub(crate) async fn handed_back(&self, turn: &mut Turn, asked: HandBack) -> Result<Decided, Failure> {
        let Some(to) = self.holding.as_ref().and_then(|holding| holding.givers.last().cloned()) else {
            let why = "nobody handed this conversation to it: there is nobody to hand it back to";
            return Ok(Decided::Answer(Err(Refusal::Invalid(why.into()))));
        };
        let HandBack { reason, passed } = asked;
        self.handed_off(turn, HandOff { to, reason, passed }, true).await
    }

    /// What a hand-off comes to that is allowed.
    pub(crate) async fn handed_off(&self, turn: &mut Turn, asked: HandOff, back: bool) -> Result<Decided, Failure> {
        let Some(holding) = &self.holding else {
            let why = "it holds no conversation: one goes among the agents of a workflow's `hand-off`";
            return Ok(Decided::Answer(Err(Refusal::Invalid(why.into()))));
        };
        let handed = match holding.hand_off(&self.agent, asked, back) {
            Ok(handed) => handed,
            Err(refusal) => return Ok(Decided::Answer(Err(refusal))),
        };
        // One that was deleted meanwhile takes nothing: it stays where it is.
        let to = holding
            .among
            .get(handed.number as usize)
            .cloned()
            .unwrap_or(AgentRef { name: handed.to.clone(), digest: None });
        if self.shared.authority.agent(self.log.tenant(), &to).await.map_err(|e| broken(&e))?.is_none() {
            return Ok(Decided::Answer(Err(Refusal::NotFound)));
        }
        turn.handed = Some(Box::new(handed));
        Ok(Decided::Answer(Ok(Reply::Done)))
    }
}
