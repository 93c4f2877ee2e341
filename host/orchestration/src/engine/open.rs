//! What is under way of a run: it is what the pattern last said, and whatever that does not say any more is ended.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use futures::future::{AbortHandle, AbortRegistration, Aborted};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::{StepPath, Timestamp};
use ltmc_ports::StoreError;

use super::Stop;
use crate::patterns::{About, Todo};

/// So many things that were done are decided on together.
const TAKEN_AT_ONCE: usize = 64;

/// One thing that was done, or was ended before.
pub(super) struct Done {
    pub(super) key: (StepPath, About),
    /// Under which it was begun.
    pub(super) number: u64,
    pub(super) came: Result<Result<(), Stop>, Aborted>,
}

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

    /// Takes in what was done next, and all that was done meanwhile; how the run failed by it, if it did.
    ///
    /// # Errors
    /// The record's, by which something could not be done.
    pub(super) fn take_in(
        &mut self,
        mut next: Option<Done>,
        work: &mut FuturesUnordered<impl Future<Output = Done>>,
    ) -> Result<Option<Failure>, StoreError> {
        let mut taken = 0;
        loop {
            let Some(Done { key, number, came }) = next else {
                return Ok(Some(Failure::new(Code::Internal, "the workflow decided to do nothing")));
            };
            self.is_over(&key, number);
            match came {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(Stop::Lost(error))) => return Err(error),
                Ok(Err(Stop::Failed(failure))) => return Ok(Some(failure.in_step(&key.0))),
            }
            // What was done meanwhile is in the log too, and is decided on together: a decision looks at all that is open.
            taken += 1;
            next = if taken < TAKEN_AT_ONCE { work.next().now_or_never().flatten() } else { None };
            if next.is_none() {
                return Ok(None);
            }
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
