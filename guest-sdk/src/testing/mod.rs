//! An in-memory host for native tests: the same answers as the real one for every interface, and the same grants.
//!
//! A [`Host`] is one agent's. What makes and shows the circumstances needs no grant; clones share what the agents share, so
//! that two agents can work with one another: `host.clone().agent("summarizer")`.
//!
//! Not imitated: limits of time and memory, revoked grants in the middle of a host call, quotas (but for a mailbox's bound),
//! databases that do not answer, and meaning: [`recall`](crate::recall) goes by the words that question and text share.
//! Nobody waits: where nothing can come, a call that waits answers at once, and the host's clock is that much further on.
//! To add an interface: a file here, with its functions under the names that the module `guest` of the interface's file gives them.

mod grants;
pub(crate) mod graph;
pub(crate) mod log;
pub(crate) mod memory;
mod merge;
pub(crate) mod messages;
mod names;
pub(crate) mod recall;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use self::log::Line;
pub use self::memory::Memory;
pub use self::messages::{Channel, DeadLetter, Sent};
pub use self::recall::Note;
pub use crate::log::Level;
use crate::{
    Agent, Error, Failure, FromPayload, IntoPayload, MAX_WAIT, Payload, Task, Validator, Violation, validator,
};

/// A host that lives as long as the value does. Nothing is granted until [`grant`](Self::grant) does; what a call
/// leaves behind the next one finds.
#[derive(Clone)]
pub struct Host {
    state: Rc<RefCell<State>>,
    task: Task,
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
        Self { state: Rc::new(RefCell::new(state)), task }
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
    /// The agent's own failure.
    pub fn call<A: Agent>(&self, input: A::Input) -> Result<A::Output, Failure> {
        self.within(|| A::default().execute(input, &self.task))
    }

    /// Calls the agent through bytes, as the real host does.
    ///
    /// # Errors
    /// The agent's own failure; `bad-input` where the payload does not parse.
    pub fn call_bytes<A: Agent>(&self, input: Payload) -> Result<Payload, Failure> {
        self.call::<A>(A::Input::from_payload(input)?)?.into_payload()
    }

    /// Asks the validator; no violations: it is good.
    pub fn validate<V: Validator>(&self, input: V::Input) -> Vec<Violation> {
        self.within(|| V::default().validate(input, &self.task))
    }

    /// Asks the validator through bytes, as the real host does.
    pub fn validate_bytes<V: Validator>(&self, input: Payload) -> Vec<Violation> {
        self.within(|| validator::judge::<V>(input, &self.task))
    }

    /// Runs a part of an agent as if it were a call of its own: host calls go to this host, and messages that were taken and
    /// neither acknowledged nor rejected go back when it is over.
    pub fn within<T>(&self, run: impl FnOnce() -> T) -> T {
        /// Also when `run` panics.
        struct Restore(Option<Call>);
        impl Drop for Restore {
            fn drop(&mut self) {
                if let Some(Call { host, number }) = CURRENT.replace(self.0.take()) {
                    host.state.borrow_mut().release(number);
                }
            }
        }
        let mut state = self.state.borrow_mut();
        state.calls += 1;
        let call = Call { host: self.clone(), number: state.calls };
        drop(state);
        let _restore = Restore(CURRENT.replace(Some(call)));
        run()
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

/// One call: what it has taken is in its hands.
#[derive(Clone)]
struct Call {
    host: Host,
    number: u64,
}

fn current() -> Result<Call, Error> {
    CURRENT.with_borrow(|call| call.clone()).ok_or_else(|| Error::Unavailable {
        message: "there is no host here: call the agent through ltmc::testing::Host".to_owned(),
        retry_after: Duration::ZERO,
    })
}

/// The host's time.
pub(crate) fn clock() -> Duration {
    current().map_or(Duration::ZERO, |call| Duration::from_millis(call.host.now_ms()))
}

/// When every host begins: the first second of 2026.
const FIRST_MS: u64 = 1_767_225_600_000;

#[derive(Default)]
struct State {
    grants: Vec<String>,
    lines: Vec<Line>,
    memory: BTreeMap<memory::Place, BTreeMap<String, crate::memory::Entry>>,
    changes: Vec<(memory::Place, crate::memory::Change)>,
    facts: Vec<crate::graph::Fact>,
    notes: BTreeMap<String, Note>,
    letters: Vec<messages::Letter>,
    events: Vec<(String, crate::messages::Published)>,
    sent: Vec<Sent>,
    removed: BTreeSet<String>,
    calls: u64,
    revision: u64,
    /// Of the last change or event.
    position: u64,
    /// What is not after this position is kept no more.
    trimmed: u64,
    now_ms: u64,
}

impl State {
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
