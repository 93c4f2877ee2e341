//! Rounds: what is due is done tenant by tenant, side by side. Of whom something is due has a round, in which all of that is done once; when it is over
//! it is said when the next one may begin.
//!
//! Invariants: a tenant has one round at a time. However long it takes, whatever of it cannot be done, nobody else's begins later for it; what rounds
//! have in common (turns, the record) whoever makes them divides.
//!
//! To have something done in rounds: a type that is [`Due`], and [`keep`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, stream};
use ltmc_model::TenantId;
use ltmc_policy::Turns;
use ltmc_ports::StoreError;
use ltmc_processor::Account;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::registry::Registry;

/// Tenants read at once.
pub(crate) const PAGE: u32 = 256;
/// How long until it is looked again where something due could not be done.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two looks: another host may have made something due.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// What is due of tenants, and of whom: as the record says it.
pub(crate) trait Due: Send + Sync + 'static {
    /// What the host's log calls it.
    const NAMED: &'static str;
    /// So many of a tenant's are dealt with at once.
    const OF_A_TENANT: usize;
    /// So many of a tenant's are read at once.
    const READ: u32;
    /// One thing about which something is due.
    type Row: Send;
    /// Its place among its tenant's.
    type Place: Clone + Send + Sync;

    /// What says that the host stops.
    fn registry(&self) -> &Arc<Registry>;

    /// Tenants of whom something is or comes to be due, by name, after this one, at most [`PAGE`]: each with how long until it is.
    fn coming(
        &self,
        after: Option<&TenantId>,
    ) -> impl Future<Output = Result<Vec<(TenantId, Duration)>, StoreError>> + Send;

    /// What is due of a tenant, in order, after this place, at most [`Self::READ`].
    fn due(
        &self,
        tenant: &TenantId,
        after: Option<&Self::Place>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Where a row stands; none: nothing comes behind it.
    fn place(row: &Self::Row) -> Option<Self::Place>;

    /// Does what is due of one.
    fn deal_with(&self, row: Self::Row) -> impl Future<Output = Dealt> + Send;

    /// How long until a tenant's next round, where nothing becomes due sooner.
    fn rests(round: Round) -> Duration;
}

/// How it ended that something due was dealt with; of several, what is last of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dealt {
    /// There is nothing to do, or what there is to do is told of.
    Done,
    /// Something waits for what nobody tells of.
    Waits,
    /// There is more.
    More,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Round {
    /// How much of it waits.
    pub(crate) waits: usize,
    /// Whether there is more of something.
    pub(crate) is_more: bool,
}

impl Round {
    fn and(self, one: Dealt) -> Self {
        Self { waits: self.waits + usize::from(one == Dealt::Waits), is_more: self.is_more || one == Dealt::More }
    }
}

/// What tells that something may be due sooner than was thought.
pub(crate) trait Tells: Send {
    /// It is looked now: what came before is no news any more.
    fn looks(&mut self) {}

    /// Of whom; none: nobody knows. To be dropped while it waits does no harm.
    fn told(&mut self) -> impl Future<Output = Option<HashSet<TenantId>>> + Send;
}

/// Does what is due, until the host stops.
pub(crate) async fn keep<D: Due>(due: &Arc<D>, turns: Arc<Turns>, mut news: impl Tells) {
    let registry = due.registry().clone();
    let (mut rounds, mut going) = (Rounds::default(), FuturesUnordered::new());
    let mut look = Instant::now();
    while !registry.is_stopping() {
        if look <= Instant::now() {
            // Said before: what comes meanwhile is news.
            news.looks();
            let next = match coming(due.as_ref()).await {
                Ok(coming) => {
                    let (beginning, next) = rounds.begin(coming, LONGEST);
                    going.extend(beginning.into_iter().map(|tenant| round(due.clone(), tenant, turns.clone())));
                    next
                }
                Err(error) => {
                    tracing::error!(%error, "{} could not be looked up; trying again", D::NAMED);
                    AGAIN
                }
            };
            look = Instant::now() + next;
        }
        tokio::select! {
            () = tokio::time::sleep_until(look) => {}
            of = news.told() => {
                match of {
                    Some(of) => rounds.hear(of),
                    None => rounds.hear_all(),
                }
                look = Instant::now();
            }
            Some((tenant, rests)) = going.next() => look = look.min(rounds.end(tenant, rests)),
            () = registry.stopping() => {}
        }
    }
    while going.next().await.is_some() {}
}

/// All tenants of whom something is or comes to be due, each with how long until it is.
async fn coming<D: Due>(due: &D) -> Result<Vec<(TenantId, Duration)>, StoreError> {
    let mut coming: Vec<(TenantId, Duration)> = Vec::new();
    loop {
        let page = due.coming(coming.last().map(|(tenant, _)| tenant)).await?;
        let is_last = page.len() < PAGE as usize;
        coming.extend(page);
        if is_last {
            return Ok(coming);
        }
    }
}

/// Does all that is due of a tenant's once, a few at a time; how long until the next round.
async fn round<D: Due>(due: Arc<D>, tenant: TenantId, turns: Arc<Turns>) -> (TenantId, Duration) {
    let of = (due.clone(), tenant.clone());
    let pages = stream::unfold(Some(None), move |place: Option<Option<D::Place>>| {
        let (due, tenant) = of.clone();
        async move { page(due.as_ref(), &tenant, place?).await }
    });
    let dealt = pages.flat_map(stream::iter).map(|row| {
        let (due, tenant, turns) = (due.clone(), tenant.clone(), turns.clone());
        async move {
            let Some(row) = row else { return Dealt::Waits };
            let Some(_turn) = turns.take(&tenant).await else { return Dealt::Waits };
            if due.registry().is_stopping() {
                return Dealt::Waits;
            }
            ltmc_processor::run(Account::of(&tenant), async move { due.deal_with(row).await }).await
        }
    });
    // bound: sessions (or subscriptions: by whose rounds these are)
    let dealt = dealt.buffer_unordered(D::OF_A_TENANT);
    let all = dealt.fold(Round::default(), |all, one| async move { all.and(one) }).await;
    (tenant, D::rests(all))
}

/// The next of what is due of a tenant, after this place, and the place after which more comes; a row that is none: they could not be read.
async fn page<D: Due>(
    due: &D,
    tenant: &TenantId,
    after: Option<D::Place>,
) -> Option<(Vec<Option<D::Row>>, Option<Option<D::Place>>)> {
    if due.registry().is_stopping() {
        return None;
    }
    match due.due(tenant, after.as_ref()).await {
        Ok(page) => {
            let last = D::place(page.last()?)?;
            Some((page.into_iter().map(Some).collect(), Some(Some(last))))
        }
        Err(error) => {
            tracing::error!(%tenant, %error, "a tenant's {} could not be looked up; trying again", D::NAMED);
            Some((vec![None], None))
        }
    }
}

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
    async fn come(&self) -> HashSet<TenantId> {
        self.told.notified().await;
        std::mem::take(&mut *self.of.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tells for &News {
    async fn told(&mut self) -> Option<HashSet<TenantId>> {
        Some(self.come().await)
    }
}

/// Which tenants' rounds are under way, and who is left alone for now.
#[derive(Debug, Default)]
struct Rounds {
    /// Whose round is under way, and whether something of theirs became due meanwhile.
    under_way: HashMap<TenantId, bool>,
    /// Whose next round is not to begin before then.
    resting: HashMap<TenantId, Instant>,
}

impl Rounds {
    /// Those whose round begins, of these of whom something is due in so long; and for how long there is nothing to do then, `longest` at most.
    fn begin(
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
    fn hear(&mut self, of: HashSet<TenantId>) {
        for tenant in of {
            self.resting.remove(&tenant);
            self.under_way.entry(tenant).and_modify(|is_due| *is_due = true);
        }
    }

    /// The same, and nobody knows whose it is.
    fn hear_all(&mut self) {
        self.resting.clear();
        self.under_way.values_mut().for_each(|is_due| *is_due = true);
    }

    /// A round is over, and the next one is to come in so long where nothing becomes due sooner: when it is to be looked again.
    fn end(&mut self, tenant: TenantId, rests: Duration) -> Instant {
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
