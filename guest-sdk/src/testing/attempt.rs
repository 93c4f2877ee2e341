//! Attempts, as the host makes transactions of them: what one does is its own until it succeeds.
//!
//! An attempt works on a view, which is what is true with its own changes on top. They become true all at once, at its end or at
//! a checkpoint; so that nothing was decided on what is no longer so, what it had read and then wrote is compared before. Messages
//! alone are taken at once, for nobody else may have them meanwhile, and go back.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::memory::Place;
use super::messages::Channel;
use super::{CURRENT, Call, Data, Host, Note, State, current};
use crate::graph::Fact;
use crate::messages::Event;
use crate::{Error, Failure, Task};

/// How often what met a conflict is run again before that is its failure.
const MAX_CONFLICTS: u32 = 16;

/// What says whether a part of an agent succeeded: a `Result` by being `Ok`, `()` by coming back at all.
#[diagnostic::on_unimplemented(
    message = "what runs within a host gives a `Result` or `()`, not `{Self}`",
    note = "a call keeps what it did only where it succeeds: give `Ok::<_, ltmc::Error>(value)`"
)]
pub trait Outcome {
    /// Whether what was done is to be kept.
    fn is_success(&self) -> bool;
}

impl Outcome for () {
    fn is_success(&self) -> bool {
        true
    }
}

impl<T, E> Outcome for Result<T, E> {
    fn is_success(&self) -> bool {
        self.is_ok()
    }
}

impl Host {
    /// Runs an agent, or a part of one, with so many tries in all, as a workflow's `retry` does: what fails with a
    /// [retryable](Failure::retryable) failure, panics, or is ended by [`fail_at`](Self::fail_at) leaves nothing and is run again. A
    /// try after a checkpoint goes on from there: it is run from the start, its host calls up to there are answered from
    /// what they were answered before, and it sees the number of the attempt that began so.
    ///
    /// ```
    /// use ltmc::memory::{self, Increment, Scope};
    ///
    /// let host = ltmc::testing::Host::new().grant("memory:write:agent");
    /// host.fail_at(3);
    /// host.tries(2, |_task| {
    ///     let store = memory::open(Scope::Agent)?;
    ///     store.update("begun", Increment(1))?;
    ///     store.update("done", Increment(1))?;
    ///     Ok(())
    /// })?;
    /// assert_eq!(host.memory(Scope::Agent).get_json::<u32>("begun"), Some(1));
    /// # Ok::<_, ltmc::Failure>(())
    /// ```
    ///
    /// # Errors
    /// The last try's failure; `agent-trapped` where the test ended it, `replay-mismatch` where a try did something else before the
    /// checkpoint than the one before it.
    ///
    /// # Panics
    /// When the last try does.
    pub fn tries<T>(&self, tries: u32, mut work: impl FnMut(&Task) -> Result<T, Failure>) -> Result<T, Failure> {
        let begun = self.begin(true);
        let call = &begun.0;
        let (mut tried, mut conflicts, mut task) = (0, 0, self.task.clone());
        loop {
            tried += 1;
            if call.attempt.borrow().kept == 0 {
                task.attempt = self.task.attempt + tried - 1;
            }
            let failure = match call.run(|| work(&task), Result::is_ok) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(Ended::Conflict) if conflicts < MAX_CONFLICTS => {
                    (tried, conflicts) = (tried - 1, conflicts + 1);
                    call.again();
                    continue;
                }
                Err(ended) if tried < tries => ended.failure().unwrap_or_else(|_| trapped("it panicked")),
                Err(ended) => ended.failure().unwrap_or_else(|panic| resume_unwind(panic)),
            };
            if tried >= tries || !failure.retryable {
                return Err(failure);
            }
            call.again();
        }
    }

    /// The next attempt ends at its host call of this number, the first being 1, as if it trapped there; said again, the one
    /// after it, and so on. Calls that a retry makes again up to a checkpoint count as well.
    ///
    /// # Panics
    /// When the number is 0.
    pub fn fail_at(&self, call: u32) {
        assert!(call > 0, "host calls are counted from 1");
        self.state.borrow_mut().ends.push_back(call);
    }

    /// Runs it as a call of its own. What did not end by itself is told apart.
    pub(super) fn once<T>(&self, run: impl FnOnce() -> T, succeeded: impl FnOnce(&T) -> bool) -> Result<T, Ended> {
        self.begin(false).0.run(run, succeeded)
    }

    fn begin(&self, tries: bool) -> Begun {
        let mut state = self.state.borrow_mut();
        state.calls += 1;
        if self.above.is_empty() {
            state.called = 0;
        }
        // What a test ends is what it called, not what that calls.
        let ends_at = if self.above.is_empty() { state.ends.pop_front() } else { None };
        let attempt = Attempt { journaled: tries, began_ms: state.now_ms, ends_at, ..Attempt::default() };
        Begun(Call { host: self.clone(), number: state.calls, attempt: Rc::new(attempt.into()) })
    }
}

/// A call, until it is over: also by a panic, what is still in its hands goes back.
struct Begun(Call);

impl Drop for Begun {
    fn drop(&mut self) {
        let Call { host, number, attempt } = &self.0;
        host.state.borrow_mut().release(|letter| letter.taken == Some(*number));
        attempt.borrow_mut().over = true;
    }
}

/// One attempt, or the tries of a step one after another: what was answered up to the last checkpoint outlasts each.
#[derive(Default)]
pub(super) struct Attempt {
    /// Host calls so far, those answered from the journal included.
    calls: u32,
    /// The test ends it at this one.
    ends_at: Option<u32>,
    /// Whether there may be another try, which needs the journal.
    journaled: bool,
    began_ms: u64,
    /// One entry for each host call: those that this try has not come to yet are replayed.
    journal: Vec<Entry>,
    /// Of the journal, what was answered up to the last checkpoint.
    kept: usize,
    /// What is to become true.
    changes: Vec<Change>,
    view: Data,
    /// The version of what is true that `view` is made of.
    version: u64,
    /// What it saw of what is true, before it wrote there itself.
    read: BTreeMap<What, Option<u64>>,
    /// Messages taken since the last checkpoint.
    taken: BTreeSet<u64>,
    over: bool,
}

struct Entry {
    request: String,
    answer: Box<dyn Any>,
    now_ms: u64,
}

/// What an attempt changes.
#[derive(Clone)]
pub(super) enum Change {
    /// Its position is given when it becomes true.
    Memory(Place, crate::memory::Change),
    /// A new one, or one with its end.
    Fact(Fact),
    Note(Note),
    Forgotten(String),
    State(String, super::state::Kept),
    Sent(Channel, u64, Event),
    Acked(u64),
    Rejected(u64, String),
    HandedOff(super::HandOff),
}

/// What a change may have been decided on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Key(Place, String),
    /// The fact that holds between two entities.
    Fact([String; 3]),
    /// An agent's state.
    State(String),
}

impl Change {
    fn of(&self) -> Option<What> {
        match self {
            Self::Memory(place, change) => Some(What::Key(place.clone(), change.key.clone())),
            Self::Fact(fact) => Some(What::Fact([fact.subject.clone(), fact.relation.clone(), fact.object.clone()])),
            Self::State(key, _) => Some(What::State(key.clone())),
            _ => None,
        }
    }

    /// The message that is processed by it.
    pub(super) fn processed(&self) -> Option<u64> {
        match self {
            Self::Acked(id) | Self::Rejected(id, _) => Some(*id),
            _ => None,
        }
    }
}

impl Data {
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Memory(place, change) => self.write(place, change),
            Change::Fact(fact) => match self.facts.iter_mut().find(|known| known.id == fact.id) {
                Some(known) => known.clone_from(fact),
                None => self.facts.push(fact.clone()),
            },
            Change::Note(note) => {
                self.notes.insert(note.id.clone(), note.clone());
            }
            Change::Forgotten(id) => {
                self.notes.remove(id);
            }
            Change::State(key, kept) => drop(self.states.insert(key.clone(), kept.clone())),
            Change::Sent(..) | Change::Acked(_) | Change::Rejected(..) | Change::HandedOff(_) => {}
        }
    }

    fn version_of(&self, what: &What) -> Option<u64> {
        match what {
            What::Key(place, key) => self.entry(place, key).map(|entry| entry.revision),
            What::Fact([subject, relation, object]) => self.holding(subject, relation, object).map(|fact| fact.id),
            What::State(key) => self.states.get(key).map(|kept| kept.revision),
        }
    }
}

/// How an attempt ended that did not end by itself.
pub(super) enum Ended {
    /// The test wanted it at this host call.
    Asked(u32),
    /// What it had decided on is no longer so.
    Conflict,
    /// It did something else than the try before it.
    Mismatch(String),
    Panic(Box<dyn Any + Send>),
}

impl Ended {
    /// As its caller is told; a panic is given back.
    pub(super) fn failure(self) -> Result<Failure, Box<dyn Any + Send>> {
        match self {
            Self::Asked(call) => Ok(trapped(&format!("the test ended it at its host call {call}"))),
            Self::Conflict => {
                let why = "what it had read and then written was changed by another before it was over";
                Ok(Failure::new("conflict", why).retryable())
            }
            Self::Mismatch(why) => Ok(Failure::new("replay-mismatch", why)),
            Self::Panic(panic) => Err(panic),
        }
    }
}

fn trapped(why: &str) -> Failure {
    Failure::new("agent-trapped", why).retryable()
}

impl Call {
    /// Runs a try. Where it succeeds, what it did becomes true.
    fn run<T>(&self, work: impl FnOnce() -> T, succeeded: impl FnOnce(&T) -> bool) -> Result<T, Ended> {
        let outer = CURRENT.replace(Some(self.clone()));
        // What it leaves is thrown away whole.
        let outcome = catch_unwind(AssertUnwindSafe(work));
        CURRENT.set(outer);
        let outcome = outcome.map_err(|panic| match panic.downcast::<Ended>() {
            Ok(ended) => *ended,
            Err(panic) => Ended::Panic(panic),
        })?;
        if succeeded(&outcome) {
            let (mut state, mut attempt) = (self.host.state.borrow_mut(), self.attempt.borrow_mut());
            state.commit(&mut attempt)?;
        }
        Ok(outcome)
    }

    /// Makes ready for another try, which goes on from the last checkpoint.
    fn again(&self) {
        let (mut state, mut attempt) = (self.host.state.borrow_mut(), self.attempt.borrow_mut());
        let taken = std::mem::take(&mut attempt.taken);
        state.release(|letter| taken.contains(&letter.id));
        let kept = attempt.kept;
        let mut journal = std::mem::take(&mut attempt.journal);
        journal.truncate(kept);
        let (began_ms, ends_at) = (attempt.began_ms, state.ends.pop_front());
        *attempt = Attempt { journal, kept, began_ms, ends_at, journaled: true, ..Attempt::default() };
    }

    /// One host call: answered from the journal, or performed.
    pub(super) fn cross<T: Clone + 'static>(
        &self,
        request: fmt::Arguments<'_>,
        perform: impl FnOnce(&mut Crossing<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.cross_apart(request, perform, |answer| answer)
    }

    /// The same, for a call of which a part is `work` of other agents, who need the host meanwhile.
    pub(super) fn cross_apart<P, T: Clone + 'static>(
        &self,
        request: fmt::Arguments<'_>,
        perform: impl FnOnce(&mut Crossing<'_>) -> Result<P, Error>,
        work: impl FnOnce(P) -> T,
    ) -> Result<T, Error> {
        if let Some(answer) = self.begun(request)? {
            return answer;
        }
        let performed = {
            let (mut attempt, mut state) = (self.attempt.borrow_mut(), self.host.state.borrow_mut());
            let crossing =
                &mut Crossing { host: &self.host, number: self.number, state: &mut state, attempt: &mut attempt };
            // Who has handed its conversation on does nothing more.
            match crossing.changes().last() {
                Some(Change::HandedOff(_)) => Err(Error::Invalid(ltmc_rules::hand_off::FENCED.to_owned())),
                _ => perform(crossing),
            }
        };
        let answer = performed.map(work);
        let mut attempt = self.attempt.borrow_mut();
        if attempt.journaled {
            let (request, now_ms) = (request.to_string(), self.host.now_ms());
            attempt.journal.push(Entry { request, answer: Box::new(answer.clone()), now_ms });
        }
        answer
    }

    /// A host call begins: its answer, where it is in the journal.
    fn begun<T: Clone + 'static>(&self, request: fmt::Arguments<'_>) -> Result<Option<Result<T, Error>>, Error> {
        let mut attempt = self.attempt.borrow_mut();
        if attempt.over {
            return Err(super::nobody("the call is over that opened this"));
        }
        attempt.calls += 1;
        if attempt.ends_at == Some(attempt.calls) {
            resume_unwind(Box::new(Ended::Asked(attempt.calls)));
        }
        let Some(entry) = attempt.journal.get(attempt.calls as usize - 1) else { return Ok(None) };
        let answer = entry.answer.downcast_ref::<Result<T, Error>>();
        match answer.filter(|_| entry.request == request.to_string()) {
            Some(answer) => Ok(Some(answer.clone())),
            None => resume_unwind(Box::new(Ended::Mismatch(format!(
                "its host call {} was `{}` when it was made, and is `{request}` now: before a checkpoint an agent does the \
                 same each time",
                attempt.calls, entry.request
            )))),
        }
    }

    /// The host's time, as this attempt saw it where its calls are answered from the journal.
    pub(super) fn now_ms(&self) -> u64 {
        let attempt = self.attempt.borrow();
        let calls = attempt.calls as usize;
        if calls >= attempt.journal.len() {
            return self.host.now_ms();
        }
        calls.checked_sub(1).map_or(attempt.began_ms, |last| attempt.journal[last].now_ms)
    }
}

/// A host call being performed.
pub(super) struct Crossing<'a> {
    pub(super) host: &'a Host,
    pub(super) number: u64,
    pub(super) state: &'a mut State,
    attempt: &'a mut Attempt,
}

impl Crossing<'_> {
    /// What this attempt sees.
    pub(super) fn view(&mut self) -> &Data {
        let Self { state, attempt, .. } = self;
        if attempt.version != state.version {
            attempt.view = state.data.clone();
            attempt.changes.iter().for_each(|change| attempt.view.apply(change));
            attempt.view.expire(state.now_ms);
            attempt.version = state.version;
        }
        &attempt.view
    }

    /// The same, for a change that is decided on it.
    pub(super) fn look(&mut self, what: What) -> &Data {
        if !self.attempt.changes.iter().any(|change| change.of().as_ref() == Some(&what)) {
            let version = self.state.data.version_of(&what);
            self.attempt.read.entry(what).or_insert(version);
        }
        self.view()
    }

    pub(super) fn change(&mut self, change: Change) {
        self.view();
        self.attempt.view.apply(&change);
        self.attempt.changes.push(change);
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.attempt.changes
    }

    pub(super) fn took(&mut self, message: u64) {
        self.attempt.taken.insert(message);
    }

    /// The place that "from now on" means. What was done so far comes before it, so it has to be true.
    pub(super) fn position(&mut self) -> u64 {
        if !self.attempt.changes.is_empty() {
            self.checkpoint();
        }
        self.state.position
    }

    /// What was done so far is true from here on.
    pub(super) fn checkpoint(&mut self) {
        if let Err(ended) = self.state.commit(self.attempt) {
            resume_unwind(Box::new(ended));
        }
    }
}

impl State {
    fn commit(&mut self, attempt: &mut Attempt) -> Result<(), Ended> {
        let written: BTreeSet<What> = attempt.changes.iter().filter_map(Change::of).collect();
        if attempt.read.iter().any(|(what, seen)| written.contains(what) && self.data.version_of(what) != *seen) {
            return Err(Ended::Conflict);
        }
        attempt.changes.drain(..).for_each(|change| self.apply(change));
        // What it gave a time to live may have outlived that.
        self.advance_to(self.now_ms);
        attempt.read.clear();
        attempt.taken.clear();
        attempt.kept = attempt.journal.len();
        Ok(())
    }
}

pub(crate) fn checkpoint() -> Result<(), Error> {
    let call = current()?;
    call.cross(format_args!("checkpoint"), |at| {
        at.checkpoint();
        Ok(())
    })?;
    let mut attempt = call.attempt.borrow_mut();
    attempt.kept = attempt.kept.max((attempt.calls as usize).min(attempt.journal.len()));
    Ok(())
}
