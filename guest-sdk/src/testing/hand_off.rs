//! Conversations in memory: a test says who may hold one; who holds it, and what was handed on, is then as agents do it.

use ltmc_rules::hand_off::{AT_MOST, Guards, PER_PAIR, Refused, check_passed, check_reason};

use super::attempt::Change;
use super::{Host, current, names};
use crate::hand_off::Handed;
use crate::{Error, Payload};

/// A conversation that was handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandOff {
    /// Who held it.
    pub from: String,
    /// Who holds it from then on.
    pub to: String,
    /// The reason that the agent gave, for people and for the next holder.
    pub reason: String,
    /// What passed besides the conversation.
    pub passed: Option<Payload>,
}

impl Host {
    /// There is a conversation that these agents may hold, and hand on as often as where a workflow says nothing else.
    ///
    /// # Panics
    /// When one of them is no agent's name.
    #[must_use]
    pub fn holds(self, among: &[&str]) -> Self {
        for agent in among {
            names::agent(agent).unwrap_or_else(|e| panic!("{e}"));
        }
        self.state.borrow_mut().among = among.iter().map(|agent| (*agent).to_owned()).collect();
        self
    }

    /// How the conversation was handed on so far.
    pub fn hand_offs(&self) -> Vec<HandOff> {
        self.state.borrow().hand_offs.clone()
    }
}

pub(crate) fn to(agent: &str, reason: &str, passed: Option<Payload>) -> Result<(), Error> {
    let call = current()?;
    call.cross(format_args!("hand-off {agent} {reason} {passed:?}"), |at| {
        names::agent(agent)?;
        at.state.demand(&format!("hand-off:{agent}"))?;
        at.hand_off(agent.to_owned(), reason, passed.clone())
    })
}

pub(crate) fn back(reason: &str, passed: Option<Payload>) -> Result<(), Error> {
    let call = current()?;
    call.cross(format_args!("hand-back {reason} {passed:?}"), |at| {
        let me = &at.host.task.agent;
        let from = at.state.hand_offs.iter().rev().find(|last| last.to == *me).map(|last| last.from.clone());
        let giver = from.ok_or_else(|| {
            Error::Invalid("nobody handed this conversation to it: there is nobody to hand it back to".to_owned())
        })?;
        at.hand_off(giver, reason, passed.clone())
    })
}

pub(crate) fn received() -> Result<Option<Handed>, Error> {
    let call = current()?;
    call.cross(format_args!("received"), |at| {
        let last = at.state.hand_offs.last().filter(|last| last.to == at.host.task.agent);
        Ok(last.map(|last| Handed::new(last.from.clone(), last.reason.clone(), last.passed.clone())))
    })
}

impl super::attempt::Crossing<'_> {
    fn hand_off(&mut self, to: String, reason: &str, passed: Option<Payload>) -> Result<(), Error> {
        check_reason(reason).map_err(Error::Invalid)?;
        if let Some(passed) = &passed {
            check_passed(&passed.content_type, passed.bytes.len()).map_err(Error::Invalid)?;
        }
        if self.state.among.is_empty() {
            let why = "it holds no conversation: one goes among the agents of a workflow's `hand-off`";
            return Err(Error::Invalid(why.to_owned()));
        }
        let among: Vec<&str> = self.state.among.iter().map(String::as_str).collect();
        let so_far: Vec<(&str, &str)> =
            self.state.hand_offs.iter().map(|one| (one.from.as_str(), one.to.as_str())).collect();
        let from = self.host.task.agent.clone();
        let guards = Guards { among: &among, at_most: AT_MOST, per_pair: PER_PAIR };
        guards.check(&from, &to, &so_far).map_err(|refused| match refused {
            Refused::Invalid(why) => Error::Invalid(why),
            Refused::Quota(why) => Error::QuotaExceeded(why),
        })?;
        self.change(Change::HandedOff(HandOff { from, to, reason: reason.to_owned(), passed }));
        Ok(())
    }
}
