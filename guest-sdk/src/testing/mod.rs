//! An in-memory host for native tests: the same answers as the real one for every interface, and the same grants.
//!
//! A [`Host`] is one agent's. What makes and shows the circumstances needs no grant; clones share what the agents share, so
//! that two agents can work with one another: `host.clone().agent("summarizer")`.
//!
//! A call is one attempt, as with the real host: what it does is seen by itself at once, by a test and by other agents once it
//! succeeded, and by nobody where it did not. [`Host::tries`] retries, [`Host::fail_at`] makes an attempt fail anywhere.
//!
//! Not imitated: limits of time and memory, revoked grants in the middle of a host call, quotas (but for a mailbox's bound),
//! databases that do not answer, children that are under way side by side (what is called is done at once), and meaning: [`recall`](crate::recall) goes by the words that question and text share.
//! Nobody waits: where nothing can come, a call that waits answers at once, and the host's clock is that much further on.
//! To add an interface: a file here, with its functions under the names that the module `guest` of the interface's file gives
//! them, each of them one `Call::cross` that does nothing but by its `Crossing`; what it changes is a variant of `attempt::Change`.

pub(crate) mod attempt;
pub(crate) mod coordination;
mod grants;
pub(crate) mod graph;
pub(crate) mod hand_off;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod messages;
mod names;
pub(crate) mod recall;
pub(crate) mod session;
pub(crate) mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

pub use self::attempt::Outcome;
use self::attempt::{Attempt, Change, Ended};
pub use self::hand_off::HandOff;
pub use self::log::Line;
pub use self::memory::Memory;
pub use self::messages::{Channel, DeadLetter, Sent};
pub use self::recall::Note;
pub use crate::log::Level;
use crate::{
    Agent, Aggregator, Branch, Error, Failure, FromPayload, IntoPayload, MAX_WAIT, Payload, Task, Validator, Violation,
    aggregator, validator,
};

/// A host that lives as long as the value does. Nothing is granted until [`grant`](Self::grant) does; what a call
/// leaves behind the next one finds.
#[derive(Clone)]
pub struct Host {
    state: Rc<RefCell<State>>,
    task: Task,
    /// The agents above this one, from the first down.
    above: Vec<String>,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host that has granted nothing and remembers nothing.
    pub fn new() -> Self {
        let task = Task {
            run: "00000000-0000-7000-8000-000000000001".to_owned(),
            step: "0".to_owned(),
            attempt: 1,
            agent: "agent".to_owned(),
            session: "session".to_owned(),
        };
        let state = State { now_ms: FIRST_MS, ..State::default() };
        Self { state: Rc::new(RefCell::new(state)), task, above: Vec::new() }
    }

    /// Grants a capability, such as `log` or `memory:read:session`; `*` stands for every scope, agent or topic.
    ///
    /// # Panics
    /// When it is no capability: a test that grants a misspelt one would prove nothing.
    #[must_use]
    pub fn grant(self, capability: &str) -> Self {
        if let Err(why) = grants::capability_like(capability) {
            panic!("`{capability}` is no capability: {why}");
        }
        self.state.borrow_mut().grants.push(capability.to_owned());
        self
    }

    /// Takes a grant back: the next host call that needs it is denied.
    pub fn revoke(&self, capability: &str) {
        self.state.borrow_mut().grants.retain(|granted| granted != capability);
    }

    /// Calls come as this attempt; the first is 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.task.attempt = attempt;
        self
    }

    /// Calls come in this session, whose memory [`Scope::Session`](crate::memory::Scope::Session) means.
    #[must_use]
    pub fn session(mut self, session: &str) -> Self {
        session.clone_into(&mut self.task.session);
        self
    }

    /// Calls go to the agent under this name, whose memory [`Scope::Agent`](crate::memory::Scope::Agent) means, and whose
    /// mailbox is its own.
    #[must_use]
    pub fn agent(mut self, agent: &str) -> Self {
        agent.clone_into(&mut self.task.agent);
        self
    }

    /// Calls the agent.
    ///
    /// # Errors
    /// The agent's own failure; `agent-trapped` where [`fail_at`](Self::fail_at) ended it.
    pub fn call<A: Agent>(&self, input: A::Input) -> Result<A::Output, Failure> {
        told(self.once(|| A::default().execute(input, &self.task), Result::is_ok))
    }

    /// Calls the agent through bytes, as the real host does.
    ///
    /// # Errors
    /// As [`call`](Self::call); `bad-input` where the payload does not parse.
    pub fn call_bytes<A: Agent>(&self, input: Payload) -> Result<Payload, Failure> {
        told(self.once(|| self.execute::<A>(input), Result::is_ok))
    }

    fn execute<A: Agent>(&self, input: Payload) -> Result<Payload, Failure> {
        let output = A::default().execute(A::Input::from_payload(input)?, &self.task)?;
        output.into_payload()
    }

    /// Asks the validator; no violations: it is good.
    pub fn validate<V: Validator>(&self, input: V::Input) -> Vec<Violation> {
        ended_or(self.once(|| V::default().validate(input, &self.task), |_| true))
    }

    /// Asks the validator through bytes, as the real host does.
    pub fn validate_bytes<V: Validator>(&self, input: Payload) -> Vec<Violation> {
        ended_or(self.once(|| validator::judge::<V>(input, &self.task), |_| true))
    }

    /// Has the aggregator make one of these branches.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn aggregate<A: Aggregator>(&self, branches: Vec<Branch<A::Input>>) -> Result<A::Output, Failure> {
        told(self.once(|| A::default().aggregate(branches, &self.task), Result::is_ok))
    }

    /// Has the aggregator make one of these branches through bytes, as the real host does.
    ///
    /// # Errors
    /// As [`call_bytes`](Self::call_bytes).
    pub fn aggregate_bytes<A: Aggregator>(&self, branches: Vec<Branch<Payload>>) -> Result<Payload, Failure> {
        told(self.once(|| aggregator::combine::<A>(branches, &self.task), Result::is_ok))
    }

    /// Runs a part of an agent as if it were a call of its own: host calls go to this host, and what it did is kept if it
    /// succeeds.
    ///
    /// # Panics
    /// When it does, and when [`fail_at`](Self::fail_at) ended it.
    pub fn within<T: Outcome>(&self, run: impl FnOnce() -> T) -> T {
        ended_or(self.once(run, T::is_success))
    }

    /// Lets time pass for what expires. No test waits for it.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.borrow_mut();
        let to = state.now_ms.saturating_add(millis(by));
        state.advance_to(to);
    }

    /// The host's time, in milliseconds since the Unix epoch: what it gives to what is written now. It stands still but for
    /// [`advance`](Self::advance) and for calls that wait in vain.
    pub fn now_ms(&self) -> u64 {
        self.state.borrow().now_ms
    }

    /// Forgets the changes and the events so far, as the real host does in time: a position from before is answered by
    /// [`Error::Resync`].
    pub fn trim(&self) {
        let mut state = self.state.borrow_mut();
        state.trimmed = state.position;
    }
}

/// What a call came to, for whoever takes failures.
fn told<T>(outcome: Result<Result<T, Failure>, Ended>) -> Result<T, Failure> {
    outcome.unwrap_or_else(|ended| Err(ended.failure().unwrap_or_else(|panic| resume_unwind(panic))))
}

/// What a call came to, for whoever takes no failures.
fn ended_or<T>(outcome: Result<T, Ended>) -> T {
    outcome.unwrap_or_else(|ended| match ended.failure() {
        Ok(failure) => panic!("{failure}"),
        Err(panic) => resume_unwind(panic),
    })
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Host").field("grants", &state.grants).field("task", &self.task).finish_non_exhaustive()
    }
}

// What the interfaces call, natively.

thread_local! {
    /// The call this thread is in.
    static CURRENT: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// One call.
#[derive(Clone)]
struct Call {
    host: Host,
    /// What it has taken is in its hands by this.
    number: u64,
    attempt: Rc<RefCell<Attempt>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("host", &self.host).field("number", &self.number).finish_non_exhaustive()
    }
}

fn current() -> Result<Call, Error> {
    CURRENT
        .with_borrow(|call| call.clone())
        .ok_or_else(|| nobody("there is no host here: call the agent through ltmc::testing::Host"))
}

fn nobody(why: &str) -> Error {
    Error::Unavailable { message: why.to_owned(), retry_after: Duration::ZERO }
}

/// The host's time.
pub(crate) fn clock() -> Duration {
    current().map_or(Duration::ZERO, |call| Duration::from_millis(call.now_ms()))
}

/// When every host begins: the first second of 2026.
const FIRST_MS: u64 = 1_767_225_600_000;

/// What is true, and what attempts do to it at once.
#[derive(Default)]
struct State {
    grants: Vec<String>,
    lines: Vec<Line>,
    data: Data,
    /// Grows with everything that becomes true, and with time.
    version: u64,
    changes: Vec<(memory::Place, crate::memory::Change)>,
    letters: Vec<messages::Letter>,
    events: Vec<(String, crate::messages::Published)>,
    sent: Vec<Sent>,
    removed: BTreeSet<String>,
    /// What agents do that others call.
    callees: BTreeMap<String, coordination::Callee>,
    /// Who is found for which need.
    found: BTreeMap<String, String>,
    /// What people answer, by the question's title.
    replies: BTreeMap<String, Payload>,
    /// What people were asked.
    asked: Vec<crate::coordination::Question>,
    /// How children ended that were begun.
    children: BTreeMap<String, coordination::Done>,
    /// What was said before the turn that is played.
    said: Vec<crate::session::Exchange>,
    /// Who may hold the conversation.
    among: Vec<String>,
    /// How it was handed on.
    hand_offs: Vec<HandOff>,
    /// What agents' manifests declare of their states.
    declared: BTreeMap<String, Rc<ltmc_rules::state::Declaration>>,
    /// How many agents were called by those that a test called.
    called: usize,
    /// At which host calls the next attempts end.
    ends: VecDeque<u32>,
    calls: u64,
    revision: u64,
    /// Of the last change or event.
    position: u64,
    /// What is not after this position is kept no more.
    trimmed: u64,
    now_ms: u64,
}

/// What an attempt has its own view of.
#[derive(Default, Clone)]
struct Data {
    memory: BTreeMap<memory::Place, BTreeMap<String, crate::memory::Entry>>,
    facts: Vec<crate::graph::Fact>,
    notes: BTreeMap<String, Note>,
    states: BTreeMap<String, state::Kept>,
}

impl State {
    /// A change becomes true.
    fn apply(&mut self, mut change: Change) {
        self.version += 1;
        match &mut change {
            Change::Memory(place, change) => {
                change.position = self.next_position();
                self.changes.push((place.clone(), change.clone()));
            }
            Change::Sent(to, id, event) => {
                self.arrive(to, *id, event.clone());
                self.sent.push(Sent { to: to.clone(), event: event.clone() });
            }
            Change::Acked(id) => self.letters.retain(|letter| letter.id != *id),
            Change::Rejected(id, reason) => self.bury(*id, reason),
            Change::HandedOff(handed) => self.hand_offs.push(handed.clone()),
            Change::Fact(_) | Change::Note(_) | Change::Forgotten(_) | Change::State(..) => {}
        }
        self.data.apply(&change);
    }

    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn next_position(&mut self) -> u64 {
        self.position += 1;
        self.position
    }
}

fn bounded(what: &str, count: u32, most: u32) -> Result<usize, Error> {
    if !(1..=most).contains(&count) {
        return Err(Error::Invalid(format!("1 to {most} {what} are given at once, not {count}")));
    }
    Ok(count as usize)
}

fn patience(wait: Duration) -> Result<u64, Error> {
    if wait > MAX_WAIT {
        return Err(Error::Invalid(format!("a call waits at most {MAX_WAIT:?}, not {wait:?}")));
    }
    Ok(millis(wait))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
