//! What is under way of a run: it is what the pattern last said, and whatever that does not say any more is ended.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use futures::StreamExt as _;
use futures::future::{AbortHandle, AbortRegistration};
use ltmc_model::{StepPath, Timestamp};

use crate::patterns::{About, Todo};

/// What is under way, and of it what merely waits.
#[derive(Default)]
pub(super) struct Open {
    /// Until when it waits; none: something is done.
    pub(super) todos: BTreeMap<(StepPath, About), (Option<Timestamp>, u64, AbortHandle)>,
    /// How many there were.
    pub(super) begun: u64,
}

impl Open {
    /// Ends what is not wanted any more. What is to be begun, each under a number.
    pub(super) fn renew(&mut self, todos: Vec<Todo>) -> Vec<(Todo, u64, AbortRegistration)> {
        let wanted: BTreeMap<_, _> = todos.iter().map(|todo| (owned(todo.key()), todo.waits_until())).collect();
        self.todos.retain(|key, (until, _, abort)| {
            let is_wanted = wanted.get(key) == Some(until);
            if !is_wanted {
                abort.abort();
            }
            is_wanted
        });
        let mut fresh = Vec::new();
        for todo in todos {
            if let Entry::Vacant(place) = self.todos.entry(owned(todo.key())) {
                self.begun += 1;
                let (abort, registration) = AbortHandle::new_pair();
                place.insert((todo.waits_until(), self.begun, abort));
                fresh.push((todo, self.begun, registration));
            }
        }
        fresh
    }

    pub(super) fn is_over(&mut self, key: &(StepPath, About), number: u64) {
        // Under the same key something else may have begun since it was ended.
        if self.todos.get(key).is_some_and(|(_, begun, _)| *begun == number) {
            self.todos.remove(key);
        }
    }

    /// Until when nothing is to be done, if all that is open waits.
    pub(super) fn only_waits(&self) -> Option<Timestamp> {
        self.todos.values().map(|(until, ..)| *until).collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

pub(super) fn owned((node, about): (&StepPath, About)) -> (StepPath, About) {
    (node.clone(), about)
}
