//! How much a tenant may have on disk, and what is taken of it where it has all of that, or where the disk is full.
//!
//! Invariant: what a tenant has is counted by what writes it, in the same transaction: journals at the end of the tenant's chain,
//! everything else by [`crate::counts`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ltmc_model::TenantId;
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::tenancy::Ceiling;
use ltmc_ports::{Append, Changes, Kind, StoreError};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::bind::{found, number};

/// What a journal takes besides its frames, a commit.
pub(crate) const ROW: u64 = 64;
/// What a run takes besides its journal.
pub(crate) const RUN: u64 = 512;
/// Beyond its quota a tenant may have so much of what keeps things going: runs that are claimed, keys.
const BESIDES: u64 = 16 << 20;
/// An append that ends a run is no larger.
const ENDING: usize = 256 << 10;

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It adds something.
    Adds,
    /// It takes a run up that was there before.
    Claims,
    /// It makes a key.
    Keys,
    /// It ends a run, frees room, or changes what a tenant may.
    Relieves,
}

impl Purpose {
    /// Of a run's next entries.
    pub(crate) fn of_append(append: &Append, bytes: usize) -> Self {
        if append.previous.is_none() || bytes > ENDING || !append.changes.deltas.iter().all(is_smaller) {
            return Self::Adds;
        }
        match append.entries.last().map(|entry| &entry.event) {
            None
            | Some(
                Event::RunFailed { .. }
                | Event::RunCancelled { .. }
                | Event::RunQuarantined { .. }
                | Event::RunFailing { .. }
                | Event::RunCancelling { .. }
                | Event::RunPaused { .. }
                | Event::RunStuck { .. },
            ) => Self::Relieves,
            Some(Event::RunClaimed { .. }) => Self::Claims,
            Some(_) => Self::Adds,
        }
    }

    /// Of an act.
    pub(crate) fn of_act(act: &Act, changes: &Changes) -> Self {
        match &act.change {
            Change::KeyCreated(_) => Self::Keys,
            Change::TenantCreated(_)
            | Change::TenantDeleted { .. }
            | Change::TenantGone { .. }
            | Change::CeilingSet { .. }
            | Change::KeyRevoked { .. }
            | Change::GrantRevoked { .. }
            | Change::AgentDeleted { .. }
            | Change::WorkflowDeleted { .. }
            | Change::SchedulePaused { .. }
            | Change::SubscriptionDeleted { .. }
            | Change::SubscriptionPaused { .. }
            | Change::DeadEventSettled { .. }
            | Change::SessionClosed { .. }
            | Change::SessionForgotten { archive: None, .. }
            | Change::SessionPart { part: None, .. }
            | Change::TurnLost { .. } => Self::Relieves,
            Change::Context { .. } if !changes.deltas.is_empty() && changes.deltas.iter().all(is_smaller) => {
                Self::Relieves
            }
            // Fewer grants are no relief of room, and yet have to be possible at any time.
            Change::GrantsSet { .. } => Self::Keys,
            Change::Context { .. }
            | Change::AgentPushed(_)
            | Change::AgentUpgraded { .. }
            | Change::WorkflowPut { .. }
            | Change::ScheduleContinued { .. }
            | Change::SubscriptionPut { .. }
            | Change::SubscriptionReplayed { .. }
            | Change::SubscriptionContinued { .. }
            | Change::SessionOpened { .. }
            | Change::SessionHandedOver { .. }
            | Change::SessionRewound { .. }
            | Change::SessionForgotten { .. }
            | Change::SessionPart { .. }
            | Change::StateLapsed { .. }
            | Change::Refused { .. }
            | Change::Accessed { .. } => Self::Adds,
        }
    }

    /// Whether it is taken where the disk is full.
    pub(crate) fn is_from_reserve(self) -> bool {
        matches!(self, Self::Keys | Self::Relieves)
    }

    /// Whether it is taken from a tenant that has `used` of what is `allowed`, and adds `bytes`.
    ///
    /// # Errors
    /// `OverQuota`, with what is used and allowed.
    pub(crate) fn check(self, used: u64, bytes: u64, allowed: u64) -> Result<(), StoreError> {
        let most = match self {
            Self::Adds => allowed,
            Self::Claims | Self::Keys => allowed.saturating_add(BESIDES),
            Self::Relieves => u64::MAX,
        };
        if used.saturating_add(bytes) <= most {
            return Ok(());
        }
        metrics::counter!("ltmc_disk_quota_refusals_total").increment(1);
        let why = format!(
            "the tenant has {used} of the {allowed} bytes that it may have on disk, and {bytes} more would come: delete something, \
             or have its operator set a higher `disk` in its ceiling"
        );
        Err(StoreError::new(Kind::OverQuota, "journal.append").because(why))
    }
}

/// Which tenants' refusals the log was told of lately: each tenant's once a minute, and not of more than so many tenants.
#[derive(Default)]
pub(crate) struct Refusals(HashMap<TenantId, Instant>);

impl Refusals {
    const EVERY: Duration = Duration::from_secs(60);
    const MOST: usize = 1_000;

    pub(crate) fn is_to_be_said(&mut self, tenant: &TenantId, now: Instant) -> bool {
        if self.0.len() >= Self::MOST {
            self.0.retain(|_, said| now.duration_since(*said) < Self::EVERY);
        }
        match self.0.get(tenant) {
            Some(said) if now.duration_since(*said) < Self::EVERY => false,
            None if self.0.len() >= Self::MOST => false,
            _ => {
                self.0.insert(tenant.clone(), now);
                true
            }
        }
    }
}

/// Whether there is less in the record by it, or not more than a few bytes.
fn is_smaller(delta: &Delta) -> bool {
    match delta {
        Delta::Memory(change) => change.value.is_none(),
        Delta::NoteForgotten { .. } | Delta::Processed { .. } | Delta::Released { .. } | Delta::Run(_) => true,
        Delta::NoteKept(_)
        | Delta::FactBegan(_)
        | Delta::FactEnded(_)
        | Delta::Sent(_)
        | Delta::Taken { .. }
        | Delta::Buried { .. }
        | Delta::Revived { .. } => false,
    }
}

/// What a tenant may have on disk.
pub(crate) fn allowed(ceiling: &Ceiling, otherwise: u64) -> u64 {
    ceiling.disk.map_or(otherwise, |disk| disk.as_u64())
}

/// The same, as the record has it.
pub(crate) fn allowed_now(db: &Connection, tenant: &TenantId, otherwise: u64) -> Result<u64, rusqlite::Error> {
    if *tenant == TenantId::host() {
        return Ok(u64::MAX);
    }
    let sql = "select ceiling from ceilings where tenant = ?";
    let text: Option<String> = db.prepare_cached(sql)?.query_row([tenant.as_str()], |row| row.get(0)).optional()?;
    let ceiling = text.and_then(|text| serde_json::from_str::<Ceiling>(&text).ok());
    Ok(ceiling.map_or(otherwise, |ceiling| allowed(&ceiling, otherwise)))
}

/// What a tenant has: in journals, and otherwise.
pub(crate) fn used(db: &Connection, tenant: &TenantId) -> Result<[u64; 2], rusqlite::Error> {
    Ok([
        found(db, "select bytes from chains where tenant = ?", params![tenant.as_str()])?.map_or(0, number),
        besides(db, tenant)?,
    ])
}

/// What a tenant has besides journals.
pub(crate) fn besides(db: &Connection, tenant: &TenantId) -> Result<u64, rusqlite::Error> {
    Ok(found(db, "select besides from chains where tenant = ?", params![tenant.as_str()])?.map_or(0, number))
}

#[cfg(test)]
mod tests {
    use ltmc_model::failure::{Code, Failure};
    use ltmc_model::journal::Entry;
    use ltmc_model::{Digest, Epoch};
    use ltmc_ports::testing::sample::{Owner, at};

    use super::*;

    #[test]
    fn what_keeps_things_going_is_taken_beyond_the_quota_and_is_bounded_too() {
        const ALLOWED: u64 = 1_000;
        let most = |purpose: Purpose| {
            let is_taken = |bytes: u64| purpose.check(ALLOWED, bytes, ALLOWED).is_ok();
            [0, 1, BESIDES, BESIDES + 1, u64::MAX].map(is_taken)
        };
        assert_eq!(most(Purpose::Adds), [true, false, false, false, false]);
        assert_eq!(most(Purpose::Claims), [true, true, true, false, false]);
        assert_eq!(most(Purpose::Keys), [true, true, true, false, false]);
        assert_eq!(most(Purpose::Relieves), [true; 5]);
        let from_reserve =
            [Purpose::Adds, Purpose::Claims, Purpose::Keys, Purpose::Relieves].map(Purpose::is_from_reserve);
        assert_eq!(from_reserve, [false, false, true, true]);
    }

    #[test]
    fn an_end_is_told_from_what_only_ends_like_one() {
        let failed = || Event::RunFailed { failure: Failure::new(Code::DiskQuotaExceeded, "no more") };
        let of = |owner: &mut Owner, events: Vec<Event>, bytes| {
            let entries = events.into_iter().map(|event| Entry { at: at(1), event }).collect();
            Purpose::of_append(&owner.write(entries), bytes)
        };
        let mut owner = Owner::new("acme", 1);
        assert_eq!(of(&mut owner, vec![failed()], 1), Purpose::Adds, "a run begins with it");
        assert_eq!(of(&mut owner, vec![failed()], ENDING), Purpose::Relieves);
        assert_eq!(of(&mut owner, vec![failed()], ENDING + 1), Purpose::Adds);
        let claimed = || Event::RunClaimed { epoch: Epoch(2) };
        assert_eq!(of(&mut owner, vec![claimed()], ENDING), Purpose::Claims);
        assert_eq!(of(&mut owner, vec![claimed()], ENDING + 1), Purpose::Adds);
        assert_eq!(of(&mut owner, vec![failed(), claimed()], 1), Purpose::Claims, "the last one counts");
        let put = Change::WorkflowPut {
            name: "w".parse().unwrap(),
            source: String::new(),
            digest: Digest([0; 32]),
            schedules: Vec::new(),
            triggers: Vec::new(),
        };
        let act = Act { by: None, change: put };
        assert_eq!(Purpose::of_act(&act, &Changes::default()), Purpose::Adds);
    }

    #[test]
    fn a_tenants_refusals_are_said_once_a_minute() {
        let tenant = |n: usize| format!("t{n}").parse::<TenantId>().unwrap();
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        assert!(refusals.is_to_be_said(&tenant(0), begin));
        assert!(!refusals.is_to_be_said(&tenant(0), begin + Duration::from_secs(59)));
        assert!(refusals.is_to_be_said(&tenant(1), begin), "another tenant's are");
        assert!(refusals.is_to_be_said(&tenant(0), begin + Refusals::EVERY));
        let said =
            (0..2 * Refusals::MOST).filter(|n| refusals.is_to_be_said(&tenant(*n), begin + Refusals::EVERY)).count();
        assert_eq!((said, refusals.0.len()), (Refusals::MOST - 1, Refusals::MOST));
    }
}
