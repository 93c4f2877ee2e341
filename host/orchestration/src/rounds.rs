//! Rounds: what is due is done tenant by tenant, side by side. Of whom something is due has a round, in which all of that is done once; when it is over
//! it is said when the next one may begin.
//!
//! Invariants: a tenant has one round at a time. However long it takes, whatever of it cannot be done, nobody else's begins later for it; what rounds
//! have in common (turns, the record) whoever makes them divides.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ltmc_model::TenantId;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Of which tenants something may be due sooner than was thought, until somebody looks.
#[derive(Debug, Default)]
pub(crate) struct News {
    of: Mutex<HashSet<TenantId>>,
    told: Notify,
}

impl News {
    /// Something of this tenant's.
    pub(crate) fn tell(&self, of: &TenantId) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).insert(of.clone());
        self.told.notify_one();
    }

    /// Those that were told, once there are some.
    pub(crate) async fn come(&self) -> HashSet<TenantId> {
        self.told.notified().await;
        std::mem::take(&mut *self.of.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which tenants' rounds are under way, and who is left alone for now.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Whose round is under way, and whether something of theirs became due meanwhile.
    under_way: HashMap<TenantId, bool>,
    /// Whose next round is not to begin before then.
    resting: HashMap<TenantId, Instant>,
}

impl Rounds {
    /// Those whose round begins, of these of whom something is due in so long; and for how long there is nothing to do then, `longest` at most.
    pub(crate) fn begin(
        &mut self,
        coming: impl IntoIterator<Item = (TenantId, Duration)>,
        longest: Duration,
    ) -> (Vec<TenantId>, Duration) {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let (mut beginning, mut next) = (Vec::new(), longest);
        for (tenant, waits) in coming {
            if self.under_way.contains_key(&tenant) {
                continue;
            }
            let rests = self.resting.get(&tenant).map_or(Duration::ZERO, |until| *until - now);
            match waits.max(rests) {
                Duration::ZERO => {
                    self.under_way.insert(tenant.clone(), false);
                    beginning.push(tenant);
                }
                waits => next = next.min(waits),
            }
        }
        (beginning, next)
    }

    /// Something of these tenants' became due: they rest no longer, and where a round is under way another one follows.
    pub(crate) fn hear(&mut self, of: HashSet<TenantId>) {
        for tenant in of {
            self.resting.remove(&tenant);
            self.under_way.entry(tenant).and_modify(|is_due| *is_due = true);
        }
    }

    /// The same, and nobody knows whose it is.
    pub(crate) fn hear_all(&mut self) {
        self.resting.clear();
        self.under_way.values_mut().for_each(|is_due| *is_due = true);
    }

    /// A round is over, and the next one is to come in so long where nothing becomes due sooner: when it is to be looked again.
    pub(crate) fn end(&mut self, tenant: TenantId, rests: Duration) -> Instant {
        let (now, is_due) = (Instant::now(), self.under_way.remove(&tenant).unwrap_or_default());
        if is_due || rests.is_zero() {
            return now;
        }
        self.resting.insert(tenant, now + rests);
        now + rests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(10);

    fn names<const N: usize>(names: [&str; N]) -> [TenantId; N] {
        names.map(|name| name.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_has_one_round_at_a_time_and_rests_until_something_becomes_due() {
        let (mut rounds, [a, b]) = (Rounds::default(), names(["a", "b"]));
        let due = || [(a.clone(), Duration::ZERO), (b.clone(), 5 * SECOND)];
        assert_eq!(rounds.begin(due(), LONGEST), (vec![a.clone()], 5 * SECOND));
        assert_eq!(rounds.begin(due(), 3 * SECOND), (vec![], 3 * SECOND), "it is under way");
        let now = Instant::now();
        assert_eq!(rounds.end(a.clone(), 2 * SECOND), now + 2 * SECOND);
        assert_eq!(rounds.begin(due(), LONGEST), (vec![], 2 * SECOND), "it rests");
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(rounds.begin(due(), LONGEST).0, std::slice::from_ref(&a));
        assert_eq!(rounds.end(a.clone(), Duration::ZERO), Instant::now());
        assert_eq!(rounds.begin(due(), LONGEST).0, std::slice::from_ref(&a));
        rounds.end(a.clone(), SECOND);
        rounds.hear(HashSet::from([b.clone()]));
        assert_eq!(rounds.begin(due(), LONGEST).0, [], "that was another's");
        rounds.hear(HashSet::from([a.clone()]));
        assert_eq!(rounds.begin(due(), LONGEST).0, std::slice::from_ref(&a));
        for is_known in [true, false] {
            match is_known {
                true => rounds.hear(HashSet::from([a.clone()])),
                false => rounds.hear_all(),
            }
            assert_eq!(rounds.end(a.clone(), SECOND), Instant::now(), "something became due in the meantime");
            assert_eq!(rounds.begin(due(), LONGEST).0, std::slice::from_ref(&a));
        }
        rounds.end(a.clone(), SECOND);
        rounds.hear_all();
        assert_eq!(rounds.begin(due(), LONGEST).0, [a]);
    }

    #[tokio::test]
    async fn what_is_told_is_heard_once() {
        let (news, [a, b]) = (News::default(), names(["a", "b"]));
        for of in [&a, &b, &a] {
            news.tell(of);
        }
        assert_eq!(news.come().await, HashSet::from([a.clone(), b]));
        news.tell(&a);
        assert_eq!(news.come().await, HashSet::from([a]));
    }
}
