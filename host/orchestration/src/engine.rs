//! The engine: does what patterns decide, and journals it.
//!
//! Invariants: everything that is done is in the run's log before the pattern is asked again; so is what others bring into it from
//! outside, of which `news` tells. What is under way is what the pattern last said: whatever it does not say any more is ended. Dropping [`Engine::drive`] anywhere ends its attempts, as soon as
//! none of its [`Guests`] is left, and leaves a log that can be gone on with. An error of the record's ends it: what is true is then
//! known only by reading the record.
//!
//! - `open`: what is under way; `carry_out`: each thing that a pattern decides; `attempt`: a step's attempt

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::Abortable;
use futures::stream::FuturesUnordered;
use ltmc_journal::undoing::Ending;
use ltmc_journal::{History, RunLog};
use ltmc_model::failure::Failure;
use ltmc_model::journal::Event;
use ltmc_model::workflow::Retry;
use ltmc_model::{Seq, StepPath, Timestamp};
use ltmc_ports::{Durability, Expect, StoreError};
use ltmc_tenancy::Compute;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::children::Children;
use crate::conversation::Conversation;
use crate::coordinator::Coordinator;
use crate::guests::Guests;
use crate::patterns::{Decision, Input, Todo};
use crate::plan::Plan;
use crate::prepared::Preparer;
use crate::runs::Ports;
use crate::{needs, rescued};

mod attempt;
mod carry_out;
mod open;

pub(crate) use attempt::Beginnings;
use open::{Done, Open, owned};

/// How often a step of a workflow is tried in all when all that is wrong is that the host is busy.
pub(crate) const TRIES_WHEN_BUSY: u32 = 8;
/// A run that has nothing to do for so long is suspended: to be taken up from the record costs less than its place does.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// What drives one run.
pub(crate) struct Engine<'a> {
    pub(crate) ports: &'a Ports,
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) compute: &'a Compute,
    pub(crate) log: &'a Arc<RunLog>,
    pub(crate) coordinator: &'a Coordinator,
    /// How often, one time after the other, others changed what it had decided on.
    pub(crate) overtaken: u32,
    pub(crate) beginnings: &'a Beginnings,
    /// Those of its guests that are at work.
    pub(crate) guests: &'a Guests,
    /// Set once a guest begins, or somebody judges in a process of its own.
    pub(crate) bounded: &'a AtomicBool,
    /// Told when others brought something into its log.
    pub(crate) news: &'a Notify,
    /// What its guests begin.
    pub(crate) children: &'a Arc<Children>,
    /// The conversation whose turn it is.
    pub(crate) conversation: &'a Arc<Conversation>,
}

/// Why a thing that was to be done was not.
pub(crate) enum Stop {
    /// The record failed: this owner of the run knows nothing any more.
    Lost(StoreError),
    /// The run is over.
    Failed(Failure),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Lost(error)
    }
}

/// How far a run was driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    /// It is over.
    Over,
    /// It waits for long, and goes on from the record.
    Suspended,
}

impl Engine<'_> {
    /// Drives the run until it is over or suspended, and that is on disk; of a child, in the record.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses what the run did.
    pub(crate) async fn drive(&self) -> Result<Driven, StoreError> {
        let (mut open, mut lingered) = (Open::default(), false);
        let mut work = FuturesUnordered::new();
        let ended = loop {
            let (decision, decided_at) = self.log.read_mut(|history| {
                history.tick(self.log.now());
                (self.plan.flow.next(&StepPath::root(), history, &Input::Run), history.seq())
            });
            let todos = match decision {
                Decision::Do(todos) => todos,
                Decision::Done(step) => break vec![Event::RunCompleted { step }],
                Decision::Skipped => break self.nothing_done(),
                Decision::Failed(failure) => break vec![self.failed(failure)],
            };
            let (halts, todos): (Vec<Todo>, Vec<Todo>) =
                todos.into_iter().partition(|todo| matches!(todo, Todo::Halt { .. }));
            if todos.is_empty()
                && let Some(event) = set_aside(halts)
            {
                if self.stage_as_decided(decided_at, event) {
                    break Vec::new();
                }
                continue;
            }
            for (todo, number, registration) in open.renew(todos) {
                lingered = false;
                work.push(async move {
                    let key = owned(todo.key());
                    let came = Abortable::new(self.carry_out(todo), registration).await;
                    Done { key, number, came }
                });
            }
            let mut lingers = false;
            if let Some(until) = open.only_waits()
                && until.since(self.log.now()) >= LONG_WAIT
            {
                // How long a child takes is not known: most are over soon.
                lingers =
                    !lingered && self.log.read(|history| history.open_children(&StepPath::root()).next().is_some());
                if !lingers {
                    // Whatever waits may have its turn at the log, which it gives back only where it is polled.
                    (open, work) = (Open::default(), FuturesUnordered::new());
                    if self.suspend(until, decided_at).await? {
                        return Ok(Driven::Suspended);
                    }
                    continue;
                }
            }
            let next = tokio::select! {
                biased;
                next = work.next() => next,
                () = self.news.notified() => continue,
                () = tokio::time::sleep(LONG_WAIT), if lingers => {
                    lingered = true;
                    continue;
                }
            };
            let Some(failure) = open.take_in(next, &mut work)? else { continue };
            let event = self.failed(failure);
            if !matches!(event, Event::RunFailing { .. }) {
                break vec![event];
            }
            (open, work) = (Open::default(), FuturesUnordered::new());
            self.guests.all_left().await;
            self.children.end(&StepPath::root());
            self.journal(event);
        };
        // As above: what is still open is not polled any more.
        drop(work);
        self.end(ended).await
    }

    /// Adds what follows from a decision, unless somebody brought something into the log since; whoever does so later finds the run
    /// suspended or set aside.
    fn stage_as_decided(&self, decided_at: Seq, event: Event) -> bool {
        let as_decided = |history: &History| (history.seq() == decided_at).then(|| vec![event]).ok_or(());
        self.log.stage_if(as_decided).is_ok()
    }

    fn failed(&self, failure: Failure) -> Event {
        self.log.read(|history| failed(history, failure))
    }

    /// Adds an entry, and counts what it says of how failures were dealt with.
    fn journal(&self, event: Event) {
        self.count(&event);
        self.log.stage(event);
    }

    fn count(&self, event: &Event) {
        self.log.read(|history| rescued::count(event, history, self.plan));
    }

    /// Suspends the run, unless others brought something into its log since it was decided; whether it is suspended.
    async fn suspend(&self, until: Timestamp, decided_at: Seq) -> Result<bool, StoreError> {
        // Whoever brings something into the log finds the run suspended from here on, or was faster.
        let suspended = |history: &History| {
            if history.seq() != decided_at {
                return Err(());
            }
            // The end of a child makes it due, if that comes after this; what came before it is found now.
            let root = StepPath::root();
            let joined = history.open_children(&root).map(|(_, run)| Expect::UnderWay { run });
            let heard = history.all_heard();
            Ok((vec![Event::RunSuspended { until, heard }], joined.collect()))
        };
        if self.log.stage_if_expecting(suspended).is_err() {
            return Ok(false);
        }
        self.log.flush(Durability::Barrier).await.map(|()| true)
    }

    /// Ends the run. Of one that another run began nobody outside is told before that one's end is on disk, which comes after it.
    async fn end(&self, events: Vec<Event>) -> Result<Driven, StoreError> {
        events.iter().for_each(|event| self.count(event));
        let is_child = self.log.started().parent.is_some();
        let durability = if is_child { Durability::Lazy } else { Durability::Barrier };
        self.log.append(events, durability).await.map(|()| Driven::Over)
    }

    /// How a run ends of which everything was skipped: with its input.
    fn nothing_done(&self) -> Vec<Event> {
        let (node, output) = (StepPath::root(), self.log.started().input.clone());
        vec![Event::NodeEnded { node: node.clone(), output }, Event::RunCompleted { step: node }]
    }

    fn preparer(&self) -> Preparer<'_> {
        Preparer { ports: self.ports, log: self.log }
    }

    /// Whose outputs a step works on, or was decided by.
    fn needs(&self, at: &StepPath, input: &Input) -> Vec<StepPath> {
        self.log.read(|history| needs::of(self.plan, history, at, input))
    }

    /// When a step or another node is tried again, after so many tries.
    fn due(&self, node: &StepPath, attempt: u32, tries: u32, retry: &Retry) -> Timestamp {
        let seed = derived(&self.log.started().seed, "back-off", node, attempt);
        let mut eight = [0; 8];
        eight.copy_from_slice(&seed[..8]);
        // Full jitter: anything from nothing to the longest wait.
        let share = u64::from_le_bytes(eight) as f64 / u64::MAX as f64;
        self.log.now().after(retry.longest_wait(tries).mul_f64(share))
    }
}

/// What is journaled of a run that has failed for good: what it did is undone first, or is not where that fails too.
pub(crate) fn failed(history: &History, failure: Failure) -> Event {
    match (history.has_to_undo(), history.ending().cloned()) {
        (true, None) => Event::RunFailing { failure },
        (true, Some(_)) => Event::RunStuck { failure },
        (false, Some(Ending::Cancelling { by, reason })) => Event::RunCancelled { by, reason },
        (false, _) => Event::RunFailed { failure },
    }
}

/// What is journaled of a run of which nothing goes on without people; none: nothing of it waits for them.
fn set_aside(halts: Vec<Todo>) -> Option<Event> {
    let halt = |todo| match todo {
        Todo::Halt { failure, is_stuck, .. } => Some((failure, is_stuck)),
        _ => None,
    };
    let halts: Vec<(Failure, bool)> = halts.into_iter().filter_map(halt).collect();
    let (failure, is_stuck) = halts.iter().find(|(_, is_stuck)| *is_stuck).or(halts.first())?.clone();
    Some(match is_stuck {
        true => Event::RunStuck { failure },
        false => Event::RunPaused { by: None, failure: Some(failure) },
    })
}

/// 32 bytes that are the same for the same attempt of the same run, and for nothing else.
pub(crate) fn derived(seed: &[u8; 32], purpose: &str, step: &StepPath, attempt: u32) -> [u8; 32] {
    derived_for(seed, &format!("{purpose}\n{step}\n{attempt}"))
}

/// 32 bytes that follow from a run's seed and what they are for.
pub(crate) fn derived_for(seed: &[u8; 32], what: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(what);
    hash.finalize().into()
}
