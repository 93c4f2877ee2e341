//! Reads that the audit tells of: which key looked at what that is not its own, and how often, hour by hour.
//!
//! Invariants: the first read of an hour is written at once, those after it with their number when the hour is over; so a ledger grows by two
//! entries for a key, an hour and a kind at most, however much is read. Of a tenant so many keys are told apart, all further ones are
//! counted together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ltmc_model::{KeyId, TenantId, Timestamp};

/// For how long reads are counted together.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// How many keys and kinds of a tenant are told apart.
const APART: usize = 256;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Read {
    /// A run that another key started: how it stands, its output, its journal, its events.
    OthersRuns,
    /// Shared context, by a client.
    Context,
    /// The audit itself.
    Audit,
    /// The list of a tenant's keys.
    Keys,
    /// A tenant's ceiling, or what it has on disk, by the operator.
    Tenant,
    /// What databases hold of tenants, compared with the record.
    Databases,
}

impl Read {
    /// As the audit names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OthersRuns => "runs of other keys",
            Self::Context => "shared context",
            Self::Audit => "the audit",
            Self::Keys => "keys",
            Self::Tenant => "ceiling and use of the disk",
            Self::Databases => "databases",
        }
    }
}

/// Reads to be written: by whom (none: by keys that are not told apart), of what, and how many.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) by: Option<KeyId>,
    pub(crate) read: Read,
    pub(crate) times: u64,
}

/// Reads that are counted.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<HashMap<TenantId, Windows>>);

type Windows = HashMap<(Option<KeyId>, Read), Window>;

#[derive(Debug)]
struct Window {
    begun: Timestamp,
    /// Those that are not written yet.
    more: u64,
}

impl Reads {
    /// One more; Some: what is to be written now.
    pub(crate) fn count(&self, tenant: &TenantId, by: &KeyId, read: Read, now: Timestamp) -> Option<Told> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The name is copied for the first read alone.
        if !all.contains_key(tenant) {
            // bound: reads that are counted
            all.insert(tenant.clone(), Windows::default());
        }
        let windows = all.get_mut(tenant)?;
        let mut place = (Some(by.clone()), read);
        if windows.len() >= APART && !windows.contains_key(&place) {
            place.0 = None;
        }
        let window = windows.entry(place.clone()).or_insert(Window { begun: Timestamp::default(), more: 0 });
        window.more += 1;
        if now.since(window.begun) < HOUR {
            return None;
        }
        let times = std::mem::take(&mut window.more);
        window.begun = now;
        Some(Told { by: place.0, read, times })
    }

    /// What is to be written of hours that are over, or, `all`, of all of them; they are forgotten.
    pub(crate) fn take(&self, now: Timestamp, all: bool) -> Vec<(TenantId, Told)> {
        let mut taken = Vec::new();
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|tenant, windows| {
            windows.retain(|(by, read), window| {
                let is_over = all || now.since(window.begun) >= HOUR;
                if is_over && window.more > 0 {
                    let told = Told { by: by.clone(), read: *read, times: window.more };
                    taken.push((tenant.clone(), told));
                }
                !is_over
            });
            !windows.is_empty()
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> KeyId {
        format!("{number:012}").parse().unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        // Any time of now is later than the hour after the epoch.
        Timestamp::from_millis((1_000_000 + seconds) * 1_000)
    }

    #[test]
    fn the_first_read_of_an_hour_is_told_at_once_and_the_others_by_their_number() {
        let (reads, acme) = (Reads::default(), "acme".parse::<TenantId>().unwrap());
        let read = |at| reads.count(&acme, &key(1), Read::Audit, at).map(|told| told.times);
        assert_eq!(read(at(0)), Some(1));
        assert_eq!((read(at(1)), read(at(2))), (None, None));
        assert_eq!(reads.take(at(3_599), false), []);
        assert_eq!(read(at(3_600)), Some(3), "with the two of before");
        assert_eq!(read(at(3_601)), None);
        let rest = reads.take(at(9_000), false);
        assert_eq!(rest, [(acme.clone(), Told { by: Some(key(1)), read: Read::Audit, times: 1 })]);
        assert_eq!(reads.take(at(9_000), true), [], "each once");
        assert_eq!(read(at(9_001)), Some(1));
    }

    #[test]
    fn however_many_keys_read_a_tenant_has_so_many_entries_an_hour() {
        let (reads, acme) = (Reads::default(), "acme".parse::<TenantId>().unwrap());
        let mut told = 0;
        for number in 0..10 * APART {
            told += usize::from(reads.count(&acme, &key(number), Read::Context, at(number as u64 / 10)).is_some());
        }
        told += reads.take(at(0), true).len();
        assert!((APART..APART + 3).contains(&told), "{told}");
    }
}
