//! The agent's own state, in memory: by the host's own rules, but for what a JSON Schema says, which no native test judges, for
//! migrations, and for what is published when a state ends.

use std::rc::Rc;

use ltmc_rules::state::{Asked, Came, Current as Machine, Declaration, Deferred, Per, patch};
use serde_json::Value;

use super::attempt::{Change, Crossing, What};
use super::{Host, current};
use crate::Error;
use crate::state::{Current, Refusal, Told};

/// A state that was changed, with its revision.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) machine: Machine,
    pub(super) revision: u64,
    /// Events that wait for the next transition.
    pub(super) deferred: Vec<Deferred>,
}

impl Kept {
    /// As it is by now: a state ends by itself, and what waits is given then.
    fn by(mut self, declared: &Declaration, now_ms: u64) -> Self {
        while let Some(next) = declared.ended(&self.machine, now_ms) {
            self.machine = next;
            self.recall(declared, now_ms);
        }
        self
    }

    /// Gives the state, which has just begun, what waits for it.
    fn recall(&mut self, declared: &Declaration, now_ms: u64) {
        while let Some((_, came)) = declared.recalled(&self.machine, &mut self.deferred, now_ms) {
            if let Ok(next) = came {
                self.machine = next;
            }
        }
    }
}

impl Host {
    /// The agent's manifest declares these states, as `[package.metadata.ltmc.state]` does.
    ///
    /// # Panics
    /// When the host would not take it: with all that is wrong with it.
    #[must_use]
    pub fn states(self, declaration: impl std::borrow::Borrow<Value>) -> Self {
        let read = Declaration::read(declaration.borrow());
        let read = read.unwrap_or_else(|faults| panic!("these are no states: {}", faults.join("; ")));
        self.state.borrow_mut().declared.insert(self.task.agent.clone(), Rc::new(read));
        self
    }

    /// Where the agent stands: the state's name, and its data.
    ///
    /// # Panics
    /// When no states were declared.
    pub fn standing(&self) -> (String, Value) {
        let state = self.state.borrow();
        let declared = state.declared.get(&self.task.agent).expect("no states were declared: `states` does that");
        let kept = state.data.states.get(&self.state_key(declared)).cloned();
        let machine = match kept {
            Some(kept) => kept.by(declared, state.now_ms).machine,
            None => declared.first(state.now_ms),
        };
        (machine.state, machine.data)
    }

    fn state_key(&self, declared: &Declaration) -> String {
        match declared.per {
            Per::Agent => self.task.agent.clone(),
            Per::Session => format!("{}/{}", self.task.agent, self.task.session),
        }
    }
}

pub(crate) fn get() -> Result<Told, Error> {
    current()?.cross(format_args!("state"), |at| {
        let (declared, _, kept) = found(at)?;
        Ok(Ok(told(&declared, kept.machine, kept.revision)))
    })
}

pub(crate) fn transition(event: &str, change: &str, expected: Option<u64>) -> Result<Told, Error> {
    current()?.cross(format_args!("transition {event} {change} {expected:?}"), |at| {
        let (declared, key, mut kept) = found(at)?;
        let refused = |refused: ltmc_rules::state::Refused| {
            Ok(Err(Refusal { rule: refused.rule.as_str().to_owned(), message: refused.message }))
        };
        let patch = match patch(change).map_err(Error::Invalid)? {
            Ok(patch) => patch,
            Err(why) => return refused(why),
        };
        let asked = Asked { event, patch: &patch, expected };
        match declared.transition(&kept.machine, kept.revision, &asked, at.state.now_ms) {
            Ok(Came::To(next)) => {
                kept.machine = next;
                kept.recall(&declared, at.state.now_ms);
            }
            Ok(Came::Deferred) => {
                if let Err(full) = Deferred::push(&mut kept.deferred, &asked) {
                    return refused(full);
                }
            }
            Ok(Came::Ignored) => return Ok(Ok(told(&declared, kept.machine, kept.revision))),
            Err(why) => return refused(why),
        }
        kept.revision = at.state.next_revision();
        at.change(Change::State(key, kept.clone()));
        Ok(Ok(told(&declared, kept.machine, kept.revision)))
    })
}

/// The state that the agent is in, with what is declared of it, and its key.
fn found(at: &mut Crossing<'_>) -> Result<(Rc<Declaration>, String, Kept), Error> {
    at.state.demand("state")?;
    let agent = &at.host.task.agent;
    let Some(declared) = at.state.declared.get(agent).cloned() else {
        return Err(Error::Invalid(format!("the manifest of agent `{agent}` declares no states")));
    };
    let (key, now_ms) = (at.host.state_key(&declared), at.state.now_ms);
    let kept = at.look(What::State(key.clone())).states.get(&key).cloned();
    let kept = match kept {
        Some(kept) => kept.by(&declared, now_ms),
        None => Kept { machine: declared.first(now_ms), revision: 0, deferred: Vec::new() },
    };
    Ok((declared, key, kept))
}

fn told(declared: &Declaration, machine: Machine, revision: u64) -> Current<String, String> {
    Current { state: machine.state, data: machine.data.to_string(), revision, version: declared.version }
}
