//! Keys and values that outlast a call, in three scopes. Reading needs the capability `memory:read:SCOPE`, writing
//! `memory:write:SCOPE`; a grant taken back makes the next call answer [`Error::AccessDenied`].
//!
//! Every write of an attempt that succeeds happens exactly once, also when the host dies in the middle; one that fails leaves
//! none. A key is 1 to 512 bytes of UTF-8 without control characters, a value at most 1 MiB.
//!
//! ```
//! use ltmc::memory::{self, Append, Increment, Scope};
//!
//! let host = ltmc::testing::Host::new().grant("memory:read:session").grant("memory:write:session");
//! host.within(|| {
//!     let store = memory::open(Scope::Session)?;
//!     let mut watch = store.watch("plan/");
//!     assert_eq!(store.update("count", Increment(1))?.json::<i64>()?, 1);
//!     store.update("plan/steps", Append("read the diff"))?;
//!     let change = watch.next().expect("one change below plan/")?;
//!     assert_eq!(change.json::<Vec<String>>()?, Some(vec!["read the diff".to_owned()]));
//!     Ok::<_, ltmc::Error>(())
//! })
//! # .unwrap();
//! ```

mod merge;
mod watch;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use merge::{Append, Increment, IntoMerge, Merge, MergePatch, Set, Union};
pub use watch::Watch;

use crate::{Error, host};

/// Who shares what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every agent of the tenant.
    Global,
    /// Every agent that works in the same session.
    Session,
    /// This agent alone, in all its calls.
    Agent,
}

/// One key and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Grows with every write of the tenant; never used twice for one key.
    pub revision: u64,
    /// Milliseconds since the Unix epoch; none: stays until deleted.
    pub expires_at_ms: Option<u64>,
}

impl Entry {
    /// The value, read as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`]: why it is not this JSON, and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        parse(&self.key, &self.value)
    }
}

fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value)
        .map_err(|e| Error::Invalid(format!("the value of `{key}` is not the JSON expected: {e}")))
}

/// What must be so for a write to happen; otherwise it answers [`Error::Conflict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    /// No condition: the write happens whatever the key holds.
    #[default]
    Any,
    /// The key holds nothing.
    Absent,
    /// The key holds just this revision.
    Revision(u64),
}

impl Precondition {
    /// That the key is as it was read: still this entry, or still nothing.
    pub fn unchanged(read: Option<&Entry>) -> Self {
        read.map_or(Self::Absent, |entry| Self::Revision(entry.revision))
    }
}

/// How to put. `PutOptions::default()` puts in any case and for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PutOptions {
    /// What must be so.
    pub precondition: Precondition,
    /// Time to live, from now; none: for ever.
    pub ttl: Option<Duration>,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Page {
    /// In the byte order of their keys.
    pub entries: Vec<Entry>,
    /// The cursor of the next page; none: that was all.
    pub next: Option<String>,
}

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Where it stands among the tenant's changes.
    pub position: u64,
    /// The key.
    pub key: String,
    /// The revision it was given.
    pub revision: u64,
    /// What the key was given; none: it was deleted, or had come to its end.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the Unix epoch; none: stays until deleted.
    pub expires_at_ms: Option<u64>,
}

impl Change {
    /// What the key was given, read as JSON; none: it was deleted.
    ///
    /// # Errors
    /// [`Error::Invalid`]: why it is not this JSON, and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        self.value.as_deref().map(|value| parse(&self.key, value)).transpose()
    }
}

/// Part of the changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Changes {
    /// In the order in which they happened; none is missing, none comes twice.
    pub changes: Vec<Change>,
    /// The position to go on after, also where nothing was found.
    pub next: u64,
}

/// Opens a scope.
///
/// # Errors
/// [`Error::AccessDenied`] without one of the scope's two capabilities.
pub fn open(scope: Scope) -> Result<Store, Error> {
    host::memory::Store::open(scope).map(Store)
}

/// One scope, opened.
#[derive(Debug)]
pub struct Store(host::memory::Store);

impl Store {
    /// What a key holds.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] without `memory:read:SCOPE`; [`Error::Invalid`] for a key that is none.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.0.get(key)
    }

    /// What a key holds, read as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Invalid`] for a value that is not this JSON.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.get(key)?.map(|entry| entry.json()).transpose()
    }

    /// Puts in any case and for ever; answers the new revision.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] without `memory:write:SCOPE`; [`Error::Invalid`] for a key or a value out of bounds.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.put_with(key, value, PutOptions::default())
    }

    /// Puts under a precondition, for a time; answers the new revision.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`Error::Conflict`] where the precondition does not hold.
    pub fn put_with(&self, key: &str, value: impl AsRef<[u8]>, options: PutOptions) -> Result<u64, Error> {
        self.0.put(key, value.as_ref(), options)
    }

    /// Puts a value as JSON; answers the new revision.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`Error::Invalid`] for what JSON cannot express.
    pub fn put_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<u64, Error> {
        self.put_json_with(key, value, PutOptions::default())
    }

    /// Puts a value as JSON under a precondition, for a time; answers the new revision.
    ///
    /// # Errors
    /// As [`put_json`](Self::put_json), and [`Error::Conflict`] where the precondition does not hold.
    pub fn put_json_with<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        options: PutOptions,
    ) -> Result<u64, Error> {
        let json = serde_json::to_vec(value)
            .map_err(|e| Error::Invalid(format!("the value for `{key}` cannot be written as JSON: {e}")))?;
        self.put_with(key, json, options)
    }

    /// Deletes in any case; answers whether there was something to delete.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(&self, key: &str) -> Result<bool, Error> {
        self.delete_if(key, Precondition::Any)
    }

    /// Deletes under a precondition; answers whether there was something to delete.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`Error::Conflict`] where the precondition does not hold.
    pub fn delete_if(&self, key: &str, precondition: Precondition) -> Result<bool, Error> {
        self.0.delete(key, precondition)
    }

    /// Makes the key's new value of the one before, in one step that nobody can come between; answers the new entry. A
    /// time to live stays as it was.
    ///
    /// ```
    /// # use ltmc::memory::{self, Append, Increment, MergePatch, Scope, Set, Union};
    /// # use ltmc::serde_json::json;
    /// # let host = ltmc::testing::Host::new().grant("memory:write:agent");
    /// # host.within(|| {
    /// let store = memory::open(Scope::Agent)?;
    /// store.update("state", Set("running"))?;
    /// store.update("count", Increment(-1))?;
    /// store.update("files", Append("src/lib.rs"))?;
    /// store.update("tags", Union(["rust", "wasm"]))?;
    /// let plan = store.update("plan", MergePatch(json!({"owner": "ada", "draft": null})))?;
    /// assert_eq!(plan.value, br#"{"owner":"ada"}"#);
    /// # Ok::<_, ltmc::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::AccessDenied`] without `memory:write:SCOPE`; [`Error::Invalid`] where the value that is there, or the
    /// operand, does not fit the rule, and for a key or a new value out of bounds.
    pub fn update(&self, key: &str, rule: impl IntoMerge) -> Result<Entry, Error> {
        self.0.update(key, &rule.into_merge()?, None)
    }

    /// The same, and the new value lives for `ttl` from now on.
    ///
    /// # Errors
    /// As [`update`](Self::update), and [`Error::Invalid`] for a time that is none.
    pub fn update_with(&self, key: &str, rule: impl IntoMerge, ttl: Duration) -> Result<Entry, Error> {
        self.0.update(key, &rule.into_merge()?, Some(ttl))
    }

    /// What the key holds lives for `ttl` from now on (none: for ever), and stays what it is; answers whether there was
    /// something. Like any change it gives the key a new revision.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ltmc::memory::{self, Scope};
    /// # let host = ltmc::testing::Host::new().grant("memory:write:agent");
    /// # host.within(|| {
    /// let store = memory::open(Scope::Agent)?;
    /// if !store.touch("lease", Some(Duration::from_secs(30)))? {
    ///     // It has come to its end: somebody else may hold it by now.
    /// }
    /// # Ok::<_, ltmc::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::AccessDenied`] without `memory:write:SCOPE`; [`Error::Invalid`] for a key, or a time, that is none.
    pub fn touch(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.0.touch(key, ttl)
    }

    /// Every entry whose key begins with `prefix`, in the byte order of the keys, fetched a page at a time.
    pub fn list(&self, prefix: &str) -> List<'_> {
        List { store: self, prefix: prefix.to_owned(), page: Vec::new().into_iter(), next: Some(None) }
    }

    /// At most `limit` (1 to 1,000) entries whose keys begin with `prefix`, after `cursor`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] without `memory:read:SCOPE`; [`Error::Invalid`] for a limit out of bounds or a cursor
    /// that is none.
    pub fn page(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        self.0.list(prefix, cursor, limit)
    }

    /// Every change from now on of keys that begin with `prefix`, as it happens. So that nothing falls between, begin to
    /// watch first, and read what is there then.
    pub fn watch(&self, prefix: &str) -> Watch<'_> {
        Watch::from_now(self, prefix)
    }

    /// Every change after `position` of keys that begin with `prefix`: the rest of what [`Watch::position`] had come to,
    /// in this call or an earlier one. A position that is older than what is kept is answered by [`Error::Resync`].
    pub fn watch_from(&self, prefix: &str, position: u64) -> Watch<'_> {
        Watch::after(self, prefix, position)
    }

    /// Changes of keys that begin with `prefix`, after the position `after` (none: from now on), at most `limit` (1 to
    /// 1,000). Where there is none it waits up to `wait` (at most 30 s) for one.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] without `memory:read:SCOPE`; [`Error::Resync`] where `after` is older than what is kept;
    /// [`Error::Invalid`] for a limit or a wait out of bounds.
    pub fn changes(&self, prefix: &str, after: Option<u64>, limit: u32, wait: Duration) -> Result<Changes, Error> {
        self.0.changes(prefix, after, limit, wait)
    }
}

/// The entries of [`Store::list`]. Ends after the first error.
#[derive(Debug)]
pub struct List<'a> {
    store: &'a Store,
    prefix: String,
    page: std::vec::IntoIter<Entry>,
    /// The cursor of the page to fetch next; none: that was all.
    next: Option<Option<String>>,
}

impl List<'_> {
    const PAGE: u32 = 100;
}

impl Iterator for List<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            let cursor = self.next.take()?;
            match self.store.page(&self.prefix, cursor.as_deref(), Self::PAGE) {
                Ok(page) => {
                    self.next = page.next.map(Some);
                    self.page = page.entries.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Over the host's imports: conversions and nothing else. `testing/memory.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use std::time::Duration;

    use super::{Change, Changes, Entry, Merge, Page, Precondition, PutOptions, Scope};
    use crate::Error;
    use crate::bindings::host::ltmc::agent::memory as wit;
    use crate::guest::millis;

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

        pub(crate) fn touch(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
            Ok(self.0.touch(key, ttl.map(millis))?)
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
}
