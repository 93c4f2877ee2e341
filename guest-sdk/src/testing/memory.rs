//! Keys and values, in memory.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::{Host, State, bounded, current, merge, millis, names, patience};
use crate::Error;
use crate::memory::{Change, Changes, Entry, Merge, Page, Precondition, PutOptions, Scope};

const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 1 << 20;
const MAX_PAGE: u32 = 1_000;
const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// A scope and whose it is.
pub(super) type Place = (Scope, String);

impl Host {
    /// What the agent has in memory, without any grant.
    pub fn memory(&self, scope: Scope) -> Memory {
        Memory { state: Rc::clone(&self.state), place: self.place(scope) }
    }

    fn place(&self, scope: Scope) -> Place {
        let owner = match scope {
            Scope::Global => String::new(),
            Scope::Session => self.task.session.clone(),
            Scope::Agent => self.task.agent.clone(),
        };
        (scope, owner)
    }
}

/// One scope of a [`Host`]'s memory, as a test sees it.
pub struct Memory {
    state: Rc<RefCell<State>>,
    place: Place,
}

impl Memory {
    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.borrow().entry(&self.place, key).map(|entry| entry.value.clone())
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
        self.state.borrow().memory.get(&self.place).into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("place", &self.place).field("keys", &self.keys()).finish()
    }
}

#[derive(Debug)]
pub(crate) struct Store {
    host: Host,
    place: Place,
}

impl Store {
    pub(crate) fn open(scope: Scope) -> Result<Self, Error> {
        let host = current()?.host;
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
        Ok(state.entry(&self.place, key).cloned())
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
        Ok(state.remove(&self.place, key))
    }

    pub(crate) fn list(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        let state = self.host.state.borrow();
        state.demand(&capability("read", self.place.0))?;
        prefix_like(prefix)?;
        prefix_like(cursor.unwrap_or_default())?;
        let limit = bounded("entries", limit, MAX_PAGE)?;
        let entries = state.memory.get(&self.place).into_iter().flatten();
        let mut page: Vec<Entry> = entries
            .filter(|(key, _)| key.starts_with(prefix) && cursor.is_none_or(|after| key.as_str() > after))
            .map(|(_, entry)| entry.clone())
            .take(limit + 1)
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let next = if more { page.last().map(|entry| entry.key.clone()) } else { None };
        Ok(Page { entries: page, next })
    }

    pub(crate) fn update(&self, key: &str, rule: &Merge, ttl: Option<Duration>) -> Result<Entry, Error> {
        let mut state = self.host.state.borrow_mut();
        state.demand(&capability("write", self.place.0))?;
        key_like(key)?;
        let expires_at_ms = state.expiry(ttl)?;
        let current = state.entry(&self.place, key);
        let value = merge::apply(rule, current.map(|entry| entry.value.as_slice())).map_err(Error::Invalid)?;
        value_like(&value)?;
        let expires_at_ms = expires_at_ms.or_else(|| current.and_then(|entry| entry.expires_at_ms));
        Ok(state.write(&self.place, key, value, expires_at_ms))
    }

    pub(crate) fn touch(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        let mut state = self.host.state.borrow_mut();
        state.demand(&capability("write", self.place.0))?;
        key_like(key)?;
        let expires_at_ms = state.expiry(ttl)?;
        let Some(current) = state.entry(&self.place, key).cloned() else { return Ok(false) };
        state.write(&self.place, key, current.value, expires_at_ms);
        Ok(true)
    }

    pub(crate) fn changes(
        &self,
        prefix: &str,
        after: Option<u64>,
        limit: u32,
        wait: Duration,
    ) -> Result<Changes, Error> {
        let mut state = self.host.state.borrow_mut();
        state.demand(&capability("read", self.place.0))?;
        prefix_like(prefix)?;
        let (limit, wait) = (bounded("changes", limit, MAX_PAGE)?, patience(wait)?);
        let after = after.unwrap_or(state.position);
        if after < state.trimmed || after > state.position {
            return Err(Error::Resync(state.position));
        }
        let until = state.now_ms.saturating_add(wait);
        loop {
            let found = state.changes_after(&self.place, prefix, after, limit);
            // All that can happen while a test waits is that a key comes to its end.
            if !found.changes.is_empty() || !state.advance_to_next_end(until) {
                return Ok(found);
            }
        }
    }
}

impl State {
    fn entry(&self, place: &Place, key: &str) -> Option<&Entry> {
        self.memory.get(place)?.get(key)
    }

    fn check(&self, place: &Place, key: &str, precondition: Precondition) -> Result<(), Error> {
        let there = self.entry(place, key).map(|entry| entry.revision);
        let holds = match precondition {
            Precondition::Any => true,
            Precondition::Absent => there.is_none(),
            Precondition::Revision(wanted) => there == Some(wanted),
        };
        if holds { Ok(()) } else { Err(Error::Conflict(there)) }
    }

    fn put(&mut self, place: &Place, key: &str, value: &[u8], options: PutOptions) -> Result<u64, Error> {
        key_like(key)?;
        value_like(value)?;
        let expires_at_ms = self.expiry(options.ttl)?;
        self.check(place, key, options.precondition)?;
        Ok(self.write(place, key, value.to_vec(), expires_at_ms).revision)
    }

    fn expiry(&self, ttl: Option<Duration>) -> Result<Option<u64>, Error> {
        let Some(ttl) = ttl else { return Ok(None) };
        if millis(ttl) == 0 || ttl > MAX_TTL {
            return Err(Error::Invalid(format!("a time to live is 1 to {} milliseconds", MAX_TTL.as_millis())));
        }
        Ok(Some(self.now_ms.saturating_add(millis(ttl))))
    }

    fn write(&mut self, place: &Place, key: &str, value: Vec<u8>, expires_at_ms: Option<u64>) -> Entry {
        let (key, revision, position) = (key.to_owned(), self.next_revision(), self.next_position());
        let entry = Entry { key: key.clone(), value: value.clone(), revision, expires_at_ms };
        self.memory.entry(place.clone()).or_default().insert(key.clone(), entry.clone());
        self.changes.push((place.clone(), Change { position, key, revision, value: Some(value), expires_at_ms }));
        entry
    }

    fn remove(&mut self, place: &Place, key: &str) -> bool {
        let there = self.memory.get_mut(place).is_some_and(|entries| entries.remove(key).is_some());
        if there {
            let (key, revision, position) = (key.to_owned(), self.next_revision(), self.next_position());
            self.changes.push((place.clone(), Change { position, key, revision, value: None, expires_at_ms: None }));
        }
        there
    }

    fn changes_after(&self, place: &Place, prefix: &str, after: u64, limit: usize) -> Changes {
        let wanted =
            |(at, change): &&(Place, Change)| at == place && change.position > after && change.key.starts_with(prefix);
        let changes: Vec<Change> = self.changes.iter().filter(wanted).take(limit).map(|(_, c)| c.clone()).collect();
        let full = changes.last().filter(|_| changes.len() == limit);
        Changes { next: full.map_or(self.position, |last| last.position), changes }
    }

    /// Lets time pass up to `to`; what has come to its end by then is deleted, in that order.
    pub(super) fn advance_to(&mut self, to: u64) {
        while self.advance_to_next_end(to) {}
    }

    /// Lets time pass until a key comes to its end, and deletes it; where none does before `until`, until then, and says
    /// so.
    fn advance_to_next_end(&mut self, until: u64) -> bool {
        let ends = self.memory.iter().flat_map(|(place, entries)| {
            entries.values().filter_map(move |entry| Some((entry.expires_at_ms?, place, &entry.key)))
        });
        let next = ends.min().filter(|(at, ..)| *at <= until).map(|(at, place, key)| (at, place.clone(), key.clone()));
        let Some((at, place, key)) = next else {
            self.now_ms = self.now_ms.max(until);
            return false;
        };
        self.now_ms = self.now_ms.max(at);
        self.remove(&place, &key)
    }
}

fn key_like(key: &str) -> Result<(), Error> {
    if names::printable(key, MAX_KEY) {
        return Ok(());
    }
    let why = format!("a key is 1 to {MAX_KEY} bytes without control characters, this one has {}", key.len());
    Err(Error::Invalid(why))
}

fn prefix_like(prefix: &str) -> Result<(), Error> {
    if prefix.len() > MAX_KEY {
        return Err(Error::Invalid(format!("a prefix and a cursor have at most {MAX_KEY} bytes")));
    }
    Ok(())
}

fn value_like(value: &[u8]) -> Result<(), Error> {
    if value.len() > MAX_VALUE {
        return Err(Error::Invalid(format!("a value has at most {MAX_VALUE} bytes, this one has {}", value.len())));
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
