//! The interfaces over the host's imports: conversions and nothing else. `testing.rs` has the same names in memory.

use std::time::Duration;

use crate::bindings::host::ltmc::agent::{log as wit_log, memory as wit, types};
use crate::memory::{Entry, Page, Precondition, PutOptions, Scope};
use crate::{Error, log};

pub(crate) fn log(level: log::Level, message: &str, fields: Vec<(String, String)>) -> Result<(), Error> {
    let level = match level {
        log::Level::Trace => wit_log::Level::Trace,
        log::Level::Debug => wit_log::Level::Debug,
        log::Level::Info => wit_log::Level::Info,
        log::Level::Warn => wit_log::Level::Warn,
        log::Level::Error => wit_log::Level::Error,
    };
    let fields: Vec<_> = fields.into_iter().map(|(name, value)| wit_log::Field { name, value }).collect();
    Ok(wit_log::write(level, message, &fields)?)
}

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
        let options = wit::PutOptions {
            precondition: precondition(options.precondition),
            ttl_ms: options.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        };
        Ok(self.0.put(key, value, options)?)
    }

    pub(crate) fn delete(&self, key: &str, condition: Precondition) -> Result<bool, Error> {
        Ok(self.0.delete(key, precondition(condition))?)
    }

    pub(crate) fn list(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        let page = self.0.list(prefix, cursor, limit)?;
        Ok(Page { entries: page.entries.into_iter().map(entry).collect(), next: page.next })
    }
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

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::AccessDenied(capability) => Self::AccessDenied(capability),
            types::Error::NotFound => Self::NotFound,
            types::Error::Conflict(revision) => Self::Conflict(revision),
            types::Error::QuotaExceeded(quota) => Self::QuotaExceeded(quota),
            types::Error::Invalid(why) => Self::Invalid(why),
            types::Error::Unavailable(busy) => {
                Self::Unavailable { message: busy.message, retry_after: Duration::from_millis(busy.retry_after_ms) }
            }
        }
    }
}
