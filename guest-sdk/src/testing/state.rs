//! The agent's own state, in memory: by the host's own rules, but for what a JSON Schema says, which no native test judges, and for
//! migrations.

use std::rc::Rc;

use ltmc_rules::state::{Asked, Current as Machine, Declaration, Per, patch};
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
        let kept = state.data.states.get(&self.state_key(declared)).map(|kept| kept.machine.clone());
        let machine = declared.lapsed(kept.unwrap_or_else(|| declared.first(state.now_ms)), state.now_ms);
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
        let (declared, _, machine, revision) = found(at)?;
        Ok(Ok(told(&declared, machine, revision)))
    })
}

pub(crate) fn transition(event: &str, change: &str, expected: Option<u64>) -> Result<Told, Error> {
    current()?.cross(format_args!("transition {event} {change} {expected:?}"), |at| {
        let (declared, key, machine, revision) = found(at)?;
        let refused = |refused: ltmc_rules::state::Refused| {
            Ok(Err(Refusal { rule: refused.rule.as_str().to_owned(), message: refused.message }))
        };
        let patch = match patch(change).map_err(Error::Invalid)? {
            Ok(patch) => patch,
            Err(why) => return refused(why),
        };
        let asked = Asked { event, patch: &patch, expected };
        match declared.transition(&machine, revision, &asked, at.state.now_ms) {
            Ok(Some(next)) => {
                let revision = at.state.next_revision();
                at.change(Change::State(key, Kept { machine: next.clone(), revision }));
                Ok(Ok(told(&declared, next, revision)))
            }
            Ok(None) => Ok(Ok(told(&declared, machine, revision))),
            Err(why) => refused(why),
        }
    })
}

/// The state that the agent is in, with what is declared of it, its key, and its revision.
fn found(at: &mut Crossing<'_>) -> Result<(Rc<Declaration>, String, Machine, u64), Error> {
    at.state.demand("state")?;
    let agent = &at.host.task.agent;
    let Some(declared) = at.state.declared.get(agent).cloned() else {
        return Err(Error::Invalid(format!("the manifest of agent `{agent}` declares no states")));
    };
    let (key, now_ms) = (at.host.state_key(&declared), at.state.now_ms);
    let kept = at.look(What::State(key.clone())).states.get(&key).cloned();
    let (machine, revision) = match kept {
        Some(Kept { machine, revision }) => (declared.lapsed(machine, now_ms), revision),
        None => (declared.first(now_ms), 0),
    };
    Ok((declared, key, machine, revision))
}

fn told(declared: &Declaration, machine: Machine, revision: u64) -> Current<String, String> {
    Current { state: machine.state, data: machine.data.to_string(), revision, version: declared.version }
}
