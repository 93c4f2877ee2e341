//! What each tenant has had of the threads that serve everybody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ltmc_model::TenantId;

use crate::LONG;

/// Of the processors' time a tenant has this part outside the lanes, where others want it too,
const PART: u32 = 4;
/// and so much of that at once.
const AT_ONCE: Duration = Duration::from_millis(20);
/// A poll that keeps others waiting counts for so many.
const WEIGHT: u32 = 32;
/// However much it had while nobody else wanted any, within this time it has its part again.
const FORGIVEN: Duration = Duration::from_secs(2);
/// Others want the processor where one of them has had it within this time.
const RECENT: Duration = Duration::from_secs(1);
/// So many balances are kept before it is looked which are not needed any more.
const BALANCES: usize = 1_024;

/// One tenant's.
pub(crate) struct Balance {
    tenant: TenantId,
    number: u64,
    /// When all of its part is there again, in nanoseconds.
    whole: AtomicU64,
}

impl Balance {
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

pub(crate) struct Balances {
    began: Instant,
    processors: u32,
    /// Whose was charged last, and when it was another one's turn last.
    last: AtomicU64,
    changed: AtomicU64,
    all: Mutex<(u64, HashMap<TenantId, Arc<Balance>>)>,
}

impl Balances {
    pub(crate) fn new(processors: usize) -> Self {
        Self {
            began: Instant::now(),
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            last: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            all: Mutex::default(),
        }
    }

    /// A tenant's balance.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<Balance> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let (numbers, balances) = &mut *all;
        if let Some(balance) = balances.get(tenant) {
            return balance.clone();
        }
        if balances.len() >= BALANCES && balances.len().is_power_of_two() {
            let now = self.nanos(Instant::now());
            let is_needed =
                |balance: &Arc<Balance>| Arc::strong_count(balance) > 1 || balance.whole.load(Ordering::Relaxed) > now;
            balances.retain(|_, balance| is_needed(balance));
        }
        *numbers += 1;
        let balance = Balance { tenant: tenant.clone(), number: *numbers, whole: AtomicU64::new(0) };
        balances.entry(tenant.clone()).or_insert(Arc::new(balance)).clone()
    }

    /// Whether its work may go on outside the lanes.
    pub(crate) fn may_go_on(&self, balance: &Balance, now: Instant) -> bool {
        let now = self.nanos(now);
        let changed = self.changed.load(Ordering::Relaxed);
        let is_alone = changed == 0 || now.saturating_sub(changed) > nanos(RECENT);
        is_alone || balance.whole.load(Ordering::Relaxed) <= now + nanos(AT_ONCE)
    }

    /// It had a thread from `began` on, for so long.
    pub(crate) fn charge(&self, balance: &Balance, began: Instant, took: Duration) {
        let weight = if took >= LONG { WEIGHT } else { 1 };
        let (now, span) = (self.nanos(began), nanos(took * PART * weight / self.processors));
        let charged = |whole: u64| Some((whole.max(now) + span).min(now + nanos(FORGIVEN)));
        let _ = balance.whole.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged);
        if self.last.load(Ordering::Relaxed) != balance.number {
            let before = self.last.swap(balance.number, Ordering::Relaxed);
            if before != 0 {
                self.changed.store(now.max(1), Ordering::Relaxed);
            }
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.began))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_alone_has_all_and_beside_others_its_part() {
        let balances = Balances::new(2);
        let [acme, beta] = ["acme", "beta"].map(|name| balances.of(&name.parse().unwrap()));
        let at = |millis| balances.began + Duration::from_millis(millis);
        let brief = LONG * 3 / 4;
        for step in 0..1_000 {
            assert!(balances.may_go_on(&acme, at(step)));
            balances.charge(&acme, at(step), brief);
        }
        balances.charge(&beta, at(1_000), brief);
        assert!(
            !balances.may_go_on(&acme, at(1_000)),
            "it has had three quarters of one processor of two, and its part is a quarter of both"
        );
        assert!(balances.may_go_on(&beta, at(1_000)));
        assert!(balances.may_go_on(&acme, at(3_000)), "nobody else has wanted any for a while");
        balances.charge(&acme, at(3_000), brief);
        balances.charge(&beta, at(3_001), LONG);
        assert!(!balances.may_go_on(&beta, at(3_002)), "to keep others waiting counts for more");
        assert!(balances.may_go_on(&acme, at(3_002)));
        assert!(balances.may_go_on(&beta, at(3_002 + 64)));
        balances.charge(&acme, at(4_000), Duration::from_secs(60));
        assert!(!balances.may_go_on(&acme, at(4_900)));
        balances.charge(&beta, at(5_900), brief);
        assert!(balances.may_go_on(&acme, at(6_000)));
    }

    #[test]
    fn accounts_that_nobody_needs_are_not_kept() {
        let balances = Balances::new(2);
        let held = balances.of(&"held".parse().unwrap());
        let owing = balances.of(&"owing".parse().unwrap());
        balances.charge(&owing, Instant::now(), Duration::from_secs(60));
        drop(owing);
        for number in 0..10_000 {
            balances.of(&format!("t{number}").parse().unwrap());
            let kept = balances.all.lock().unwrap().1.len();
            assert!(kept <= BALANCES, "{kept}");
        }
        assert!(Arc::ptr_eq(&held, &balances.of(&"held".parse().unwrap())));
        let owing = balances.of(&"owing".parse().unwrap());
        balances.charge(&held, Instant::now(), LONG / 2);
        assert!(!balances.may_go_on(&owing, Instant::now()));
    }
}
