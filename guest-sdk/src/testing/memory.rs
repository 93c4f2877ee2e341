//! Keys and values, in memory.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ltmc_rules::memory::{MAX_KEY, MAX_PAGE, MAX_VALUE, check_key};

use super::attempt::{Change as Changed, Crossing, What};
use super::{Call, Data, Host, State, bounded, current, millis, patience};
use crate::Error;
use crate::memory::{Change, Changes, Entry, Merge, Page, Precondition, PutOptions, Scope};

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
        self.state.borrow().data.entry(&self.place, key).map(|entry| entry.value.clone())
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
        if let Err(e) = key_like(key).and_then(|()| value_like(value.as_ref())) {
            panic!("cannot put `{key}`: {e}");
        }
        let mut state = self.state.borrow_mut();
        let change = state.changed(key, Some(value.as_ref().to_vec()), None);
        state.apply(Changed::Memory(self.place.clone(), change));
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
        self.state.borrow().data.memory.get(&self.place).into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("place", &self.place).field("keys", &self.keys()).finish()
    }
}

#[derive(Debug)]
pub(crate) struct Store {
    call: Call,
    place: Place,
}

impl Store {
    pub(crate) fn open(scope: Scope) -> Result<Self, Error> {
        let call = current()?;
        let place = call.host.place(scope);
        call.cross(format_args!("open {scope:?}"), |at| {
            let (read, write) = (capability("read", scope), capability("write", scope));
            at.state.demand(&write).or_else(|_| at.state.demand(&read))
        })?;
        Ok(Self { call, place })
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.call.cross(format_args!("get {:?} {key}", self.place), |at| {
            at.state.demand(&capability("read", self.place.0))?;
            key_like(key)?;
            Ok(at.entry(&self.place, key))
        })
    }

    pub(crate) fn put(&self, key: &str, value: &[u8], options: PutOptions) -> Result<u64, Error> {
        self.call.cross(format_args!("put {:?} {key} {options:?} {value:?}", self.place), |at| {
            at.state.demand(&capability("write", self.place.0))?;
            key_like(key)?;
            value_like(value)?;
            let expires_at_ms = at.state.expiry(options.ttl)?;
            at.check(&self.place, key, options.precondition)?;
            Ok(at.write(&self.place, key, value.to_vec(), expires_at_ms).revision)
        })
    }

    pub(crate) fn delete(&self, key: &str, precondition: Precondition) -> Result<bool, Error> {
        self.call.cross(format_args!("delete {:?} {key} {precondition:?}", self.place), |at| {
            at.state.demand(&capability("write", self.place.0))?;
            key_like(key)?;
            at.check(&self.place, key, precondition)?;
            let there = at.entry(&self.place, key).is_some();
            if there {
                let change = at.state.changed(key, None, None);
                at.change(Changed::Memory(self.place.clone(), change));
            }
            Ok(there)
        })
    }

    pub(crate) fn list(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        self.call.cross(format_args!("list {:?} {prefix} {cursor:?} {limit}", self.place), |at| {
            at.state.demand(&capability("read", self.place.0))?;
            prefix_like(prefix)?;
            prefix_like(cursor.unwrap_or_default())?;
            let limit = bounded("entries", limit, MAX_PAGE)?;
            let entries = at.view().memory.get(&self.place).into_iter().flatten();
            let mut keys: Vec<String> = entries
                .filter(|(key, _)| key.starts_with(prefix) && cursor.is_none_or(|after| key.as_str() > after))
                .map(|(key, _)| key.clone())
                .take(limit + 1)
                .collect();
            let more = keys.len() > limit;
            keys.truncate(limit);
            let next = if more { keys.last().cloned() } else { None };
            Ok(Page { entries: keys.iter().filter_map(|key| at.entry(&self.place, key)).collect(), next })
        })
    }

    pub(crate) fn update(&self, key: &str, rule: &Merge, ttl: Option<Duration>) -> Result<Entry, Error> {
        self.call.cross(format_args!("update {:?} {key} {ttl:?} {rule:?}", self.place), |at| {
            at.state.demand(&capability("write", self.place.0))?;
            key_like(key)?;
            let expires_at_ms = at.state.expiry(ttl)?;
            let current = at.entry(&self.place, key);
            let value = rule_of(rule).apply(current.as_ref().map(|entry| entry.value.as_slice()));
            let value = value.map_err(Error::Invalid)?;
            value_like(&value)?;
            let expires_at_ms = expires_at_ms.or_else(|| current.and_then(|entry| entry.expires_at_ms));
            Ok(at.write(&self.place, key, value, expires_at_ms))
        })
    }

    pub(crate) fn touch(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.call.cross(format_args!("touch {:?} {key} {ttl:?}", self.place), |at| {
            at.state.demand(&capability("write", self.place.0))?;
            key_like(key)?;
            let expires_at_ms = at.state.expiry(ttl)?;
            let Some(current) = at.entry(&self.place, key) else { return Ok(false) };
            at.write(&self.place, key, current.value, expires_at_ms);
            Ok(true)
        })
    }

    pub(crate) fn changes(
        &self,
        prefix: &str,
        after: Option<u64>,
        limit: u32,
        wait: Duration,
    ) -> Result<Changes, Error> {
        self.call.cross(format_args!("changes {:?} {prefix} {after:?} {limit} {wait:?}", self.place), |at| {
            at.state.demand(&capability("read", self.place.0))?;
            prefix_like(prefix)?;
            let (limit, wait) = (bounded("changes", limit, MAX_PAGE)?, patience(wait)?);
            let after = after.unwrap_or_else(|| at.position());
            if after < at.state.trimmed || after > at.state.position {
                return Err(Error::Resync(at.state.position));
            }
            let found = at.state.changes_after(&self.place, prefix, after, limit);
            if !found.changes.is_empty() || wait == 0 {
                return Ok(found);
            }
            at.checkpoint();
            let until = at.state.now_ms.saturating_add(wait);
            loop {
                let found = at.state.changes_after(&self.place, prefix, after, limit);
                // All that can happen while a test waits is that a key comes to its end.
                if !found.changes.is_empty() || !at.state.advance_to_next_end(until) {
                    return Ok(found);
                }
            }
        })
    }
}

impl Crossing<'_> {
    fn entry(&mut self, place: &Place, key: &str) -> Option<Entry> {
        self.look(What::Key(place.clone(), key.to_owned())).entry(place, key).cloned()
    }

    fn check(&mut self, place: &Place, key: &str, precondition: Precondition) -> Result<(), Error> {
        if precondition == Precondition::Any {
            return Ok(());
        }
        let there = self.entry(place, key).map(|entry| entry.revision);
        let holds = match precondition {
            Precondition::Any => true,
            Precondition::Absent => there.is_none(),
            Precondition::Revision(wanted) => there == Some(wanted),
        };
        if holds { Ok(()) } else { Err(Error::Conflict(there)) }
    }

    fn write(&mut self, place: &Place, key: &str, value: Vec<u8>, expires_at_ms: Option<u64>) -> Entry {
        let change = self.state.changed(key, Some(value.clone()), expires_at_ms);
        let entry = Entry { key: key.to_owned(), value, revision: change.revision, expires_at_ms };
        self.change(Changed::Memory(place.clone(), change));
        entry
    }
}

impl Data {
    pub(super) fn entry(&self, place: &Place, key: &str) -> Option<&Entry> {
        self.memory.get(place)?.get(key)
    }

    pub(super) fn write(&mut self, place: &Place, change: &Change) {
        let Change { key, revision, value, expires_at_ms, .. } = change.clone();
        let entries = self.memory.entry(place.clone()).or_default();
        match value {
            Some(value) => entries.insert(key.clone(), Entry { key, value, revision, expires_at_ms }),
            None => entries.remove(&key),
        };
    }

    /// Without what has come to its end.
    pub(super) fn expire(&mut self, now_ms: u64) {
        let lives = |entry: &Entry| entry.expires_at_ms.is_none_or(|end| now_ms < end);
        self.memory.values_mut().for_each(|entries| entries.retain(|_, entry| lives(entry)));
    }
}

impl State {
    fn expiry(&self, ttl: Option<Duration>) -> Result<Option<u64>, Error> {
        let Some(ttl) = ttl else { return Ok(None) };
        if millis(ttl) == 0 || ttl > MAX_TTL {
            return Err(Error::Invalid(format!("a time to live is 1 to {} milliseconds", MAX_TTL.as_millis())));
        }
        Ok(Some(self.now_ms.saturating_add(millis(ttl))))
    }

    /// A change that is to become true.
    fn changed(&mut self, key: &str, value: Option<Vec<u8>>, expires_at_ms: Option<u64>) -> Change {
        Change { position: 0, key: key.to_owned(), revision: self.next_revision(), value, expires_at_ms }
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
        let ends = self.data.memory.iter().flat_map(|(place, entries)| {
            entries.values().filter_map(move |entry| Some((entry.expires_at_ms?, place, &entry.key)))
        });
        let next = ends.min().filter(|(at, ..)| *at <= until).map(|(at, place, key)| (at, place.clone(), key.clone()));
        self.version += 1;
        let Some((at, place, key)) = next else {
            self.now_ms = self.now_ms.max(until);
            return false;
        };
        self.now_ms = self.now_ms.max(at);
        let change = self.changed(&key, None, None);
        self.apply(Changed::Memory(place, change));
        true
    }
}

fn rule_of(rule: &Merge) -> ltmc_rules::Merge<'_> {
    match rule {
        Merge::Set(value) => ltmc_rules::Merge::Set(value),
        Merge::Increment(by) => ltmc_rules::Merge::Increment(*by),
        Merge::Append(value) => ltmc_rules::Merge::Append(value),
        Merge::Union(list) => ltmc_rules::Merge::Union(list),
        Merge::MergePatch(patch) => ltmc_rules::Merge::MergePatch(patch),
    }
}

fn key_like(key: &str) -> Result<(), Error> {
    check_key(key).map_err(Error::Invalid)
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
