//! An in-memory host for native tests: the same answers as the real one for memory, log and grants.
//!
//! Not imitated: limits of time and memory, revoked grants in the middle of a host call, quotas. To add an interface:
//! its functions below, under the names that `guest.rs` gives them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use crate::log::Level;
use crate::memory::{Entry, Page, Precondition, PutOptions, Scope};
use crate::{Agent, Error, Failure, FromPayload, IntoPayload, Payload, Task, Validator, Violation, validator};

/// A host that lives as long as the value does. Nothing is granted until [`grant`](Self::grant) does; what a call
/// leaves in memory the next one finds.
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
        Self { state: Rc::default(), task }
    }

    /// Grants a capability, such as `log` or `memory:read:session`; `*` stands for every scope.
    ///
    /// # Panics
    /// When it is no capability: a test that grants a misspelt one would prove nothing.
    #[must_use]
    pub fn grant(self, capability: &str) -> Self {
        if let Err(why) = capability_like(capability) {
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

    /// Calls come in this session, whose memory [`Scope::Session`] means.
    #[must_use]
    pub fn session(mut self, session: &str) -> Self {
        session.clone_into(&mut self.task.session);
        self
    }

    /// Calls go to the agent under this name, whose memory [`Scope::Agent`] means.
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
        self.enter(|| A::default().execute(input, &self.task))
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
        self.enter(|| V::default().validate(input, &self.task))
    }

    /// Asks the validator through bytes, as the real host does.
    pub fn validate_bytes<V: Validator>(&self, input: Payload) -> Vec<Violation> {
        self.enter(|| validator::judge::<V>(input, &self.task))
    }

    /// The log's lines so far.
    pub fn logs(&self) -> Vec<Line> {
        self.state.borrow().lines.clone()
    }

    /// What the agent has in memory, without any grant.
    pub fn memory(&self, scope: Scope) -> Memory {
        Memory { state: Rc::clone(&self.state), place: self.place(scope) }
    }

    /// Lets time pass for what expires. No test waits for it.
    pub fn advance(&self, by: Duration) {
        self.state.borrow_mut().now_ms += millis(by);
    }

    fn place(&self, scope: Scope) -> Place {
        let owner = match scope {
            Scope::Global => String::new(),
            Scope::Session => self.task.session.clone(),
            Scope::Agent => self.task.agent.clone(),
        };
        (scope, owner)
    }

    /// Runs with this host as the thread's current one, and puts the one before back, also when `run` panics.
    fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        struct Restore(Option<Host>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        run()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        f.debug_struct("Host").field("grants", &state.grants).field("task", &self.task).finish_non_exhaustive()
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// The message.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// One scope of a [`Host`]'s memory, as a test sees it.
pub struct Memory {
    state: Rc<RefCell<State>>,
    place: Place,
}

impl Memory {
    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.borrow().live(&self.place, key).map(|entry| entry.value.clone())
    }

    /// What a key holds, as JSON.
    ///
    /// # Panics
    /// When it holds something that is not this JSON.
    pub fn get_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.get(key).map(|value| {
            serde_json::from_slice(&value).unwrap_or_else(|e| panic!("`{key}` does not hold the JSON expected: {e}"))
        })
    }

    /// Puts, so that the agent finds it.
    ///
    /// # Panics
    /// When the key or the value is out of the host's bounds.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) {
        self.state
            .borrow_mut()
            .put(&self.place, key, value.as_ref(), PutOptions::default())
            .unwrap_or_else(|e| panic!("cannot put `{key}`: {e}"));
    }

    /// Puts JSON, so that the agent finds it.
    ///
    /// # Panics
    /// As [`put`](Self::put), and when the value is none for JSON.
    pub fn put_json<T: serde::Serialize + ?Sized>(&self, key: &str, value: &T) {
        self.put(key, serde_json::to_vec(value).unwrap_or_else(|e| panic!("cannot write `{key}` as JSON: {e}")));
    }

    /// Every key, in byte order.
    pub fn keys(&self) -> Vec<String> {
        let state = self.state.borrow();
        let now = state.now_ms;
        let entries = state.memory.get(&self.place);
        entries.into_iter().flatten().filter(|(_, e)| alive(e, now)).map(|(key, _)| key.clone()).collect()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("place", &self.place).field("keys", &self.keys()).finish()
    }
}

// What the interfaces call, natively.

thread_local! {
    /// The host whose call this thread is in.
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

fn current() -> Result<Host, Error> {
    CURRENT.with_borrow(|host| host.clone()).ok_or_else(|| Error::Unavailable {
        message: "there is no host here: call the agent through ltmc::testing::Host".to_owned(),
        retry_after: Duration::ZERO,
    })
}

pub(crate) fn log(level: Level, message: &str, mut fields: Vec<(String, String)>) -> Result<(), Error> {
    let host = current()?;
    let mut state = host.state.borrow_mut();
    state.demand("log")?;
    if state.lines.len() < MAX_LINES {
        fields.truncate(MAX_FIELDS);
        for (name, value) in &mut fields {
            cut(name, MAX_FIELD);
            cut(value, MAX_FIELD);
        }
        let mut message = message.to_owned();
        cut(&mut message, MAX_MESSAGE);
        state.lines.push(Line { level, message, fields });
    }
    Ok(())
}

const MAX_LINES: usize = 1_000;
const MAX_MESSAGE: usize = 8 << 10;
const MAX_FIELDS: usize = 16;
const MAX_FIELD: usize = 1 << 10;
const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 1 << 20;
const MAX_PAGE: u32 = 1_000;

fn cut(text: &mut String, to: usize) {
    text.truncate(text.floor_char_boundary(to));
}

#[derive(Debug)]
pub(crate) struct Store {
    host: Host,
    place: Place,
}

impl Store {
    pub(crate) fn open(scope: Scope) -> Result<Self, Error> {
        let host = current()?;
        {
            let state = host.state.borrow();
            let (read, write) = (capability("read", scope), capability("write", scope));
            if state.demand(&write).is_err() {
                state.demand(&read)?;
            }
        }
        let place = host.place(scope);
        Ok(Self { host, place })
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let state = self.host.state.borrow();
        state.demand(&capability("read", self.place.0))?;
        key_like(key)?;
        Ok(state.live(&self.place, key).cloned())
    }

    pub(crate) fn put(&self, key: &str, value: &[u8], options: PutOptions) -> Result<u64, Error> {
        let mut state = self.host.state.borrow_mut();
        state.demand(&capability("write", self.place.0))?;
        state.put(&self.place, key, value, options)
    }

    pub(crate) fn delete(&self, key: &str, precondition: Precondition) -> Result<bool, Error> {
        let mut state = self.host.state.borrow_mut();
        state.demand(&capability("write", self.place.0))?;
        key_like(key)?;
        state.check(&self.place, key, precondition)?;
        let there = state.live(&self.place, key).is_some();
        if let Some(entries) = state.memory.get_mut(&self.place) {
            entries.remove(key);
        }
        state.revision += 1;
        Ok(there)
    }

    pub(crate) fn list(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        let state = self.host.state.borrow();
        state.demand(&capability("read", self.place.0))?;
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::Invalid(format!("a page has 1 to {MAX_PAGE} entries, {limit} were asked for")));
        }
        let limit = limit as usize;
        let entries = state.memory.get(&self.place).into_iter().flatten();
        let mut page: Vec<Entry> = entries
            .filter(|(key, entry)| {
                key.starts_with(prefix) && cursor.is_none_or(|after| key.as_str() > after) && alive(entry, state.now_ms)
            })
            .map(|(_, entry)| entry.clone())
            .take(limit + 1)
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let next = if more { page.last().map(|entry| entry.key.clone()) } else { None };
        Ok(Page { entries: page, next })
    }
}

/// A scope and whose it is.
type Place = (Scope, String);

#[derive(Default)]
struct State {
    grants: Vec<String>,
    lines: Vec<Line>,
    memory: BTreeMap<Place, BTreeMap<String, Entry>>,
    revision: u64,
    now_ms: u64,
}

impl State {
    fn demand(&self, wanted: &str) -> Result<(), Error> {
        let star = wanted.rsplit_once(':').map(|(kind, _)| format!("{kind}:*"));
        let granted = self.grants.iter().any(|granted| granted == wanted || Some(granted) == star.as_ref());
        if granted { Ok(()) } else { Err(Error::AccessDenied(wanted.to_owned())) }
    }

    fn live(&self, place: &Place, key: &str) -> Option<&Entry> {
        self.memory.get(place)?.get(key).filter(|entry| alive(entry, self.now_ms))
    }

    fn check(&self, place: &Place, key: &str, precondition: Precondition) -> Result<(), Error> {
        let there = self.live(place, key).map(|entry| entry.revision);
        let holds = match precondition {
            Precondition::Any => true,
            Precondition::Absent => there.is_none(),
            Precondition::Revision(wanted) => there == Some(wanted),
        };
        if holds { Ok(()) } else { Err(Error::Conflict(there)) }
    }

    fn put(&mut self, place: &Place, key: &str, value: &[u8], options: PutOptions) -> Result<u64, Error> {
        key_like(key)?;
        if value.len() > MAX_VALUE {
            return Err(Error::Invalid(format!("a value has at most {MAX_VALUE} bytes, this one has {}", value.len())));
        }
        self.check(place, key, options.precondition)?;
        self.revision += 1;
        let entry = Entry {
            key: key.to_owned(),
            value: value.to_vec(),
            revision: self.revision,
            expires_at_ms: options.ttl.map(|ttl| self.now_ms.saturating_add(millis(ttl))),
        };
        self.memory.entry(place.clone()).or_default().insert(key.to_owned(), entry);
        Ok(self.revision)
    }
}

fn alive(entry: &Entry, now_ms: u64) -> bool {
    entry.expires_at_ms.is_none_or(|at| at > now_ms)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn key_like(key: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        let why = format!("a key is 1 to {MAX_KEY} bytes without control characters, this one has {}", key.len());
        return Err(Error::Invalid(why));
    }
    Ok(())
}

fn capability(verb: &str, scope: Scope) -> String {
    let scope = match scope {
        Scope::Global => "global",
        Scope::Session => "session",
        Scope::Agent => "agent",
    };
    format!("memory:{verb}:{scope}")
}

/// Close enough to the host's grammar to catch a slip; the host has the whole of it.
fn capability_like(text: &str) -> Result<(), &'static str> {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["log"] => Ok(()),
        ["memory", "read" | "write", "global" | "session" | "agent" | "*"] => Ok(()),
        ["memory", ..] => Err("it is memory:read:SCOPE or memory:write:SCOPE, with SCOPE global, session, agent or *"),
        ["call", name] | ["fs", "read" | "write", name] if !name.is_empty() => Ok(()),
        ["http", host, port] if !host.is_empty() && !port.is_empty() => Ok(()),
        _ => Err("known are log, memory:VERB:SCOPE, call:AGENT, http:HOST:PORT, fs:VERB:DIRECTORY"),
    }
}
