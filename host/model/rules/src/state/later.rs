//! Events that a state has no transition for, and that are given again after the next one (`unhandled: defer`).
//!
//! Invariants: what is kept is bounded. Of those that the new state has a transition for the first one is given; where it leads on, they are looked
//! through anew. One that is given and refused is kept no longer: so each is given once, and it comes to an end.

use serde_json::Value;

use super::{Asked, Current, Declaration, MAX_DATA, MAX_DEFERRED, Refused, Rule};

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferred {
    /// Its name.
    pub event: String,
    /// What came with it: a JSON merge patch of the data.
    pub patch: Value,
}

impl Deferred {
    /// As it was asked for.
    pub fn of(asked: &Asked<'_>) -> Self {
        Self { event: asked.event.to_owned(), patch: asked.patch.clone() }
    }

    /// Adds an event to those that wait.
    ///
    /// # Errors
    /// As many wait as may, or as many bytes.
    pub fn push(waiting: &mut Vec<Self>, asked: &Asked<'_>) -> Result<(), Refused> {
        let size = |one: &Self| one.event.len() + one.patch.to_string().len();
        let more = Self::of(asked);
        let bytes: usize = waiting.iter().chain([&more]).map(size).sum();
        if waiting.len() >= MAX_DEFERRED || bytes > MAX_DATA {
            let message =
                format!("at most {MAX_DEFERRED} events with {MAX_DATA} bytes are deferred, and this is one more");
            return Err(Refused::new(Rule::Deferred, message));
        }
        waiting.push(more);
        Ok(())
    }
}

impl Declaration {
    /// Takes the first event out that a state has a transition for, of those that wait, and what it makes of the state, or the rule that it is
    /// refused by. None: they go on waiting. A final state waits for nothing: there each is refused.
    pub fn recalled(
        &self,
        current: &Current,
        waiting: &mut Vec<Deferred>,
        now_ms: u64,
    ) -> Option<(Deferred, Result<Current, Refused>)> {
        let is_final = self.states.get(&current.state).is_some_and(|lasts| lasts.is_final);
        let is_heard = |one: &Deferred| {
            is_final || self.transitions.iter().any(|way| way.from == current.state && way.on == one.event)
        };
        let one = waiting.remove(waiting.iter().position(is_heard)?);
        let asked = Asked { event: &one.event, patch: &one.patch, expected: None };
        let came = self.moved(current, &asked, now_ms).transpose();
        let came = came.unwrap_or_else(|| Err(Refused::new(Rule::Final, format!("`{}` is final", current.state))));
        Some((one, came))
    }
}
