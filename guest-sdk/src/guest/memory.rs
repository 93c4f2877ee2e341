//! `ltmc:agent/memory`.

use std::time::Duration;

use super::millis;
use crate::Error;
use crate::bindings::host::ltmc::agent::memory as wit;
use crate::memory::{Change, Changes, Entry, Merge, Page, Precondition, PutOptions, Scope};

#[derive(Debug)]
pub(crate) struct Store(wit::Store);

impl Store {
    pub(crate) fn open(scope: Scope) -> Result<Self, Error> {
        let scope = match scope {
            Scope::Global => wit::Scope::Global,
            Scope::Session => wit::Scope::Session,
            Scope::Agent => wit::Scope::Agent,
        };
        Ok(Self(wit::Store::open(scope)?))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.0.get(key)?.map(entry))
    }

    pub(crate) fn put(&self, key: &str, value: &[u8], options: PutOptions) -> Result<u64, Error> {
        let options =
            wit::PutOptions { precondition: precondition(options.precondition), ttl_ms: options.ttl.map(millis) };
        Ok(self.0.put(key, value, options)?)
    }

    pub(crate) fn delete(&self, key: &str, condition: Precondition) -> Result<bool, Error> {
        Ok(self.0.delete(key, precondition(condition))?)
    }

    pub(crate) fn list(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        let page = self.0.list(prefix, cursor, limit)?;
        Ok(Page { entries: page.entries.into_iter().map(entry).collect(), next: page.next })
    }

    pub(crate) fn update(&self, key: &str, rule: &Merge, ttl: Option<Duration>) -> Result<Entry, Error> {
        let rule = match rule.clone() {
            Merge::Set(value) => wit::Merge::Set(value),
            Merge::Increment(by) => wit::Merge::Increment(by),
            Merge::Append(value) => wit::Merge::Append(value),
            Merge::Union(list) => wit::Merge::Union(list),
            Merge::MergePatch(patch) => wit::Merge::MergePatch(patch),
        };
        Ok(entry(self.0.update(key, &rule, ttl.map(millis))?))
    }

    pub(crate) fn changes(
        &self,
        prefix: &str,
        after: Option<u64>,
        limit: u32,
        wait: Duration,
    ) -> Result<Changes, Error> {
        let found = self.0.changes(prefix, after, limit, millis(wait))?;
        Ok(Changes { changes: found.changes.into_iter().map(change).collect(), next: found.next })
    }
}

fn change(wit: wit::Change) -> Change {
    let wit::Change { position, key, revision, value, expires_at_ms } = wit;
    Change { position, key, revision, value, expires_at_ms }
}

fn entry(wit: wit::Entry) -> Entry {
    Entry { key: wit.key, value: wit.value, revision: wit.revision, expires_at_ms: wit.expires_at_ms }
}

fn precondition(precondition: Precondition) -> wit::Precondition {
    match precondition {
        Precondition::Any => wit::Precondition::Any,
        Precondition::Absent => wit::Precondition::Absent,
        Precondition::Revision(revision) => wit::Precondition::Revision(revision),
    }
}
