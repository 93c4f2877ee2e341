//! Following: leads a database after the record, row by row of its log, and puts it right where it is not.
//!
//! Invariants:
//! - A row is shown to a database only once it is on disk here; each tenant's in order. How far a database has been told is
//!   what it says itself: after any failure it is asked again, so that what was applied and not acknowledged is neither lost
//!   nor doubled.
//! - A tenant of which a database knows nothing, or too little, is compared with the record and mended, like in a repair.
//! - A database that follows another record is told nothing, and nothing of it is thrown away.
//! - A database that is down delays itself alone: it is tried again after ever longer waits, and nobody waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ltmc_model::delta::{Logged, Topic};
use ltmc_model::{Position, TenantId};
use ltmc_ports::log::{Ends, Item};
use ltmc_ports::{Bound, Kind, Projection, ReadContext, ReadLog, StoreError};
use ltmc_tenancy::Holds;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Rows applied at once, at most.
const BATCH: u32 = 1_000;
/// While calls come a batch is so small that it takes about so long, though of so many rows.
const SHORT: Duration = Duration::from_millis(200);
const SMALL_BATCH: u32 = 100;
/// Items compared at once.
const PAGE: u32 = 500;
/// Keys that a difference names; the rest is counted.
const NAMED: usize = 20;
/// The first wait after a failure, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a read waits for what its asker wrote.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long who has a tenant forgotten waits for what was written before.
const FORGETTING: Duration = Duration::from_secs(10);
/// While more comes and nobody waits, a database is left alone for so many times as long as it took, at most for so long: on
/// a machine that it shares with the host, calls come first. One that is so many rows behind is not.
const GIVE_WAY: (u32, Duration) = (15, Duration::from_secs(5));
const FAR_BEHIND: u64 = 20_000;
/// Where nobody waits, rows are gathered for so long: a batch costs a database much, and a row more in it little.
const GATHER: Duration = Duration::from_millis(100);

/// Leads one database.
pub struct Follower {
    database: Arc<dyn Projection>,
    log: Arc<dyn ReadLog>,
    context: Arc<dyn ReadContext>,
    /// Every row up to here has been applied.
    told: watch::Sender<Position>,
    /// Told when somebody begins to wait for what it wrote.
    hurry: Notify,
    state: Mutex<State>,
}

/// How a database follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The database.
    pub name: &'static str,
    /// Whether it answers and is being told.
    pub up: bool,
    /// What it is being built of, if it is: so many items of this tenant so far.
    pub building: Option<(TenantId, u64)>,
    /// What a repair compares now, if one is under way: so many items of this tenant and topic so far.
    pub comparing: Option<(TenantId, Topic, u64)>,
    /// How many places of the log it is behind.
    pub backlog: u64,
    /// For how long it has been behind, in milliseconds.
    pub lag_ms: u64,
    /// What went wrong last, in words for an operator.
    pub problem: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    up: bool,
    building: Option<(TenantId, u64)>,
    comparing: Option<(TenantId, Topic, u64)>,
    behind_since: Option<Instant>,
    problem: Option<String>,
}

/// Where a database differed from the record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Difference {
    /// Items of the record that were looked at.
    pub compared: u64,
    /// How many are missing there.
    pub missing: u64,
    /// How many are of another version than in the record.
    pub different: u64,
    /// How many the record does not have.
    pub extra: u64,
    /// The first of their keys.
    pub some: Vec<String>,
}

impl Difference {
    /// How many items it is.
    pub fn count(&self) -> u64 {
        self.missing + self.different + self.extra
    }

    fn name(&mut self, key: &str) {
        if self.some.len() < NAMED {
            self.some.push(key.to_owned());
        }
    }
}

impl Follower {
    /// Leads `database` after this record.
    pub fn new(database: Arc<dyn Projection>, log: Arc<dyn ReadLog>, context: Arc<dyn ReadContext>) -> Arc<Self> {
        let told = watch::Sender::new(Position(0));
        Arc::new(Self { database, log, context, told, hurry: Notify::new(), state: Mutex::default() })
    }

    /// The database's name.
    pub fn name(&self) -> &'static str {
        self.database.name()
    }

    /// Follows until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut wait = BACK_OFF.0;
        while !stop.is_cancelled() {
            let Some(ended) = stop.run_until_cancelled(self.follow()).await else { return };
            let Err(error) = ended else { continue };
            let why = reason(&error);
            {
                let mut state = self.state();
                if state.up || state.problem.as_ref() != Some(&why) {
                    tracing::warn!(database = self.name(), problem = %why, "a database does not follow; trying again");
                }
                if state.up {
                    wait = BACK_OFF.0;
                }
                state.up = false;
                state.building = None;
                state.problem = Some(why);
                state.behind_since.get_or_insert_with(Instant::now);
            }
            metrics::counter!("ltmc_projection_failures_total", "database" => self.name()).increment(1);
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    /// Follows until something fails.
    async fn follow(&self) -> Result<(), StoreError> {
        self.database.check().await?;
        let bound = self.database.bind(self.log.record_id(), false).await?;
        let mut ends = self.log.ends();
        let durable = ends.borrow_and_update().durable;
        // Up to here there may be rows for it; what comes after is seen as it comes.
        let mut due = durable;
        let mut at = durable;
        let mut known: HashMap<TenantId, Position> = HashMap::new();
        let tenants = self.log.tenants_with_context().await?;
        for tenant in &tenants {
            let applied = match bound {
                Bound::Wholly => self.begin(tenant).await?,
                // Whoever was taking it was broken off: what it has may be another record's.
                Bound::Halfway => {
                    self.database.applied(tenant).await?;
                    self.build(tenant).await?
                }
            };
            at = at.min(applied);
            known.insert(tenant.clone(), applied);
        }
        if bound == Bound::Halfway {
            self.database.bound(self.log.record_id(), &tenants).await?;
        }
        {
            let mut state = self.state();
            if !state.up {
                tracing::info!(database = self.name(), at = at.0, of = durable.0, "a database follows");
            }
            (state.up, state.problem, state.building) = (true, None, None);
        }
        let (mut calls_come, mut small) = (false, SMALL_BATCH);
        loop {
            let durable = ends.borrow_and_update().durable;
            due = due.max(self.log.newest(self.database.topics()));
            while at < durable {
                if at >= due {
                    at = durable;
                    break;
                }
                let most = if calls_come { small } else { BATCH };
                let rows = self.log.log(None, self.database.topics(), at, durable, most).await?;
                let Some(last) = rows.last().map(|row| row.position) else {
                    at = durable;
                    break;
                };
                let count = rows.len() as u64;
                let begun = Instant::now();
                for (tenant, rows) in by_tenant(rows) {
                    let applied = match known.get(&tenant) {
                        Some(applied) => *applied,
                        None => self.begin(&tenant).await?,
                    };
                    let to = rows.last().map_or(applied, |row| row.position);
                    if to > applied {
                        self.database.apply(&tenant, &rows, to).await?;
                    }
                    known.insert(tenant, applied.max(to));
                }
                metrics::counter!("ltmc_projection_rows_total", "database" => self.name()).increment(count);
                at = last;
                self.told.send_replace(at);
                let took = begun.elapsed();
                if calls_come {
                    small = smaller_or_larger(small, took);
                }
                calls_come = self.give_way(took, ends.clone(), at).await;
            }
            self.told.send_replace(at);
            self.state().behind_since = None;
            if ends.changed().await.is_err() {
                return Ok(());
            }
            self.state().behind_since.get_or_insert_with(Instant::now);
            calls_come = self.pause(GATHER).await && ends.has_changed().unwrap_or(false);
        }
    }

    /// Leaves the processors to those who write, for as long as somebody does: see [`GIVE_WAY`]. Whether somebody still does.
    async fn give_way(&self, took: Duration, mut ends: watch::Receiver<Ends>, at: Position) -> bool {
        let until = Instant::now() + (took * GIVE_WAY.0).min(GIVE_WAY.1);
        while ends.has_changed().unwrap_or(false)
            && ends.borrow_and_update().durable.0.saturating_sub(at.0) <= FAR_BEHIND
        {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if !self.pause(GATHER.min(left)).await {
                break;
            }
        }
        false
    }

    /// Waits so long; false: somebody waits for what it wrote.
    async fn pause(&self, longest: Duration) -> bool {
        let mut hurried = std::pin::pin!(self.hurry.notified());
        // From here on no call is missed; whoever called before still watches what was told.
        hurried.as_mut().enable();
        self.told.receiver_count() == 0 && tokio::time::timeout(longest, hurried).await.is_err()
    }

    /// Up to where the database has been told of a tenant; where it knows nothing, or too little, it is built.
    async fn begin(&self, tenant: &TenantId) -> Result<Position, StoreError> {
        let durable = self.log.ends().borrow().durable;
        match self.database.applied(tenant).await? {
            Some(applied) if applied >= self.log.trimmed(tenant).await? && applied <= durable => Ok(applied),
            _ => self.build(tenant).await,
        }
    }

    /// Builds what a database holds of a tenant from the record.
    async fn build(&self, tenant: &TenantId) -> Result<Position, StoreError> {
        tracing::info!(database = self.name(), %tenant, "a database is built from the record");
        let begun = Instant::now();
        // What is read below may be newer; the rows after this place then change nothing.
        let from = self.log.ends().borrow().durable;
        self.state().building = Some((tenant.clone(), 0));
        let mut items = 0;
        for topic in self.database.topics() {
            let mut progress = |count| self.state().building = Some((tenant.clone(), items + count));
            let found = self.compare(tenant, *topic, true, &mut progress).await?;
            items += found.compared;
        }
        self.database.set_applied(tenant, from).await?;
        self.state().building = None;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(database = self.name(), %tenant, items, took_ms, "a database was built");
        Ok(from)
    }

    /// Compares what the database holds of a tenant and topic with the record; with `mend`, puts it right.
    ///
    /// # Errors
    /// The database's and the record's.
    pub async fn compare(
        &self,
        tenant: &TenantId,
        topic: Topic,
        mend: bool,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Difference, StoreError> {
        let mut difference = Difference::default();
        let mut ours = Pages::new();
        let mut theirs = Pages::new();
        loop {
            if ours.is_hungry() {
                let page = self.context.context(tenant, topic, ours.last.as_deref(), PAGE).await?;
                ours.feed(page, |item: &Item| item.key.clone());
                let database = &self.database;
                ours.waiting.retain(|item| database.holds(topic, item));
                if ours.is_hungry() {
                    continue;
                }
            }
            if theirs.is_hungry() {
                let page = self.database.inventory(tenant, topic, theirs.last.as_deref(), PAGE).await?;
                theirs.feed(page, |(key, _): &(String, u64)| key.clone());
            }
            // Both pages begin with the least key that was not compared yet.
            let (mut put, mut discard) = (Vec::new(), Vec::new());
            loop {
                if ours.is_hungry() || theirs.is_hungry() {
                    break;
                }
                match (ours.waiting.front(), theirs.waiting.front()) {
                    (Some(item), Some((key, version))) if item.key == *key => {
                        if item.version != *version {
                            difference.different += 1;
                            difference.name(key);
                            put.extend(ours.waiting.pop_front());
                        } else {
                            ours.waiting.pop_front();
                        }
                        theirs.waiting.pop_front();
                        difference.compared += 1;
                    }
                    (Some(item), other) if other.is_none_or(|(key, _)| item.key < *key) => {
                        difference.missing += 1;
                        difference.name(&item.key);
                        put.extend(ours.waiting.pop_front());
                        difference.compared += 1;
                    }
                    (_, Some(_)) => {
                        let extra = theirs.waiting.pop_front().map(|(key, _)| key).unwrap_or_default();
                        difference.extra += 1;
                        difference.name(&extra);
                        discard.push(extra);
                    }
                    (_, None) => break,
                }
            }
            if mend && !put.is_empty() {
                self.database.put(tenant, &put).await?;
            }
            if mend && !discard.is_empty() {
                self.database.discard(tenant, topic, &discard).await?;
            }
            progress(difference.compared);
            if ours.is_done() && theirs.is_done() {
                return Ok(difference);
            }
        }
    }

    /// Has the database follow this record from now on, whichever it followed before; [`Self::repair`] then makes it hold what this
    /// one holds. Where that is broken off, it is done by the next repair, or by the next host that follows.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer, or refuses the change.
    pub async fn take(&self) -> Result<(), StoreError> {
        self.database.check().await?;
        self.database.bind(self.log.record_id(), true).await.map(drop)
    }

    /// Every topic of every tenant compared; with `mend`, put right.
    ///
    /// # Errors
    /// The database's and the record's.
    pub async fn repair(
        &self,
        mend: bool,
        progress: &mut (dyn FnMut(&TenantId, Topic, &Difference) + Send),
    ) -> Result<(), StoreError> {
        self.database.check().await?;
        let is_halfway = self.database.bind(self.log.record_id(), false).await? == Bound::Halfway;
        let _shown = Shown(self);
        let tenants = self.log.tenants_with_context().await?;
        for tenant in &tenants {
            let from = self.log.ends().borrow().durable;
            let known = self.database.applied(tenant).await?;
            for topic in self.database.topics() {
                let mut so_far = |count| self.state().comparing = Some((tenant.clone(), *topic, count));
                so_far(0);
                let difference = self.compare(tenant, *topic, mend, &mut so_far).await?;
                progress(tenant, *topic, &difference);
            }
            if mend && (is_halfway || known.is_none_or(|known| known < from)) {
                self.database.set_applied(tenant, from).await?;
            }
        }
        match mend && is_halfway {
            true => self.database.bound(self.log.record_id(), &tenants).await,
            false => Ok(()),
        }
    }

    /// Discards what the database holds of a tenant of which the record holds nothing any more.
    ///
    /// # Errors
    /// The database's; where it does not follow, for it may be told of the tenant still.
    pub async fn forget(&self, tenant: &TenantId) -> Result<(), StoreError> {
        if !self.caught_up_within(FORGETTING).await {
            let why = format!("{} does not follow", self.name());
            return Err(StoreError::new(Kind::Unavailable, "projection.forget").because(why));
        }
        for topic in self.database.topics() {
            self.compare(tenant, *topic, true, &mut |_| {}).await?;
        }
        Ok(())
    }

    /// Whether the database has everything that is on disk now; waits a little for it.
    pub async fn caught_up(&self) -> bool {
        self.caught_up_within(PATIENCE).await
    }

    /// The same, waiting so long.
    pub async fn caught_up_within(&self, patience: Duration) -> bool {
        let wanted = self.log.ends().borrow().durable;
        let mut told = self.told.subscribe();
        if *told.borrow() >= wanted {
            return self.state().up;
        }
        if !self.state().up {
            return false;
        }
        self.hurry.notify_waiters();
        tokio::time::timeout(patience, told.wait_for(|told| *told >= wanted)).await.is_ok_and(|found| found.is_ok())
    }

    /// How it follows.
    pub fn status(&self) -> Status {
        let backlog = self.log.ends().borrow().durable.0.saturating_sub(self.told.borrow().0);
        let state = self.state();
        let lag = state.behind_since.map_or(Duration::ZERO, |since| since.elapsed());
        Status {
            name: self.name(),
            up: state.up,
            building: state.building.clone(),
            comparing: state.comparing.clone(),
            backlog,
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            problem: state.problem.clone(),
        }
    }

    /// Up to where it has been told of everything: what is before may be thrown away.
    pub fn told(&self) -> Position {
        *self.told.borrow()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A comparison that is shown while it goes on, and not after it was broken off.
struct Shown<'a>(&'a Follower);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.state().comparing = None;
    }
}

/// Pages that are read one after another.
struct Pages<T> {
    waiting: std::collections::VecDeque<T>,
    last: Option<String>,
    ended: bool,
}

impl<T> Pages<T> {
    fn new() -> Self {
        Self { waiting: std::collections::VecDeque::new(), last: None, ended: false }
    }

    fn is_hungry(&self) -> bool {
        self.waiting.is_empty() && !self.ended
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.ended
    }

    fn feed(&mut self, page: Vec<T>, key: impl Fn(&T) -> String) {
        match page.last() {
            Some(last) => self.last = Some(key(last)),
            None => self.ended = true,
        }
        self.waiting.extend(page);
    }
}

/// How large the next batch is to be while calls come, where one of so many rows took so long.
fn smaller_or_larger(rows: u32, took: Duration) -> u32 {
    if took > SHORT {
        (rows / 2).max(SMALL_BATCH)
    } else if took < SHORT / 4 {
        (rows * 2).min(BATCH)
    } else {
        rows
    }
}

fn by_tenant(rows: Vec<Logged>) -> Vec<(TenantId, Vec<Logged>)> {
    let mut of: Vec<(TenantId, Vec<Logged>)> = Vec::new();
    for row in rows {
        match of.iter_mut().find(|(tenant, _)| *tenant == row.tenant) {
            Some((_, rows)) => rows.push(row),
            None => of.push((row.tenant.clone(), vec![row])),
        }
    }
    of
}

/// Why, in words for an operator.
fn reason(error: &StoreError) -> String {
    match (&error.source, error.kind) {
        (None, Kind::Conflict) => "it does not hold what it was told before".to_owned(),
        _ => error.reason(),
    }
}

#[async_trait]
impl Holds for Follower {
    async fn let_go(&self, tenant: &TenantId) -> Result<(), StoreError> {
        self.forget(tenant).await
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("status", &self.status()).finish()
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::memory::Drawer;
    use ltmc_ports::testing::MemoryRecord;
    use ltmc_ports::testing::sample::{Owner, put, tenant};
    use ltmc_ports::{Durability, WriteJournal as _};

    use super::*;

    /// A database that follows, and then does not answer.
    struct Hangs;

    #[async_trait]
    impl Projection for Hangs {
        fn name(&self) -> &'static str {
            "hangs"
        }

        fn topics(&self) -> &'static [Topic] {
            &[Topic::Memory]
        }

        fn holds(&self, _: Topic, _: &ltmc_ports::log::Item) -> bool {
            true
        }

        async fn check(&self) -> Result<(), StoreError> {
            Ok(())
        }

        async fn bind(&self, _: &str, _: bool) -> Result<Bound, StoreError> {
            Ok(Bound::Wholly)
        }

        async fn bound(&self, _: &str, _: &[TenantId]) -> Result<(), StoreError> {
            Ok(())
        }

        async fn applied(&self, _: &TenantId) -> Result<Option<Position>, StoreError> {
            Ok(Some(Position(0)))
        }

        async fn apply(&self, _: &TenantId, _: &[Logged], _: Position) -> Result<(), StoreError> {
            std::future::pending().await
        }

        async fn inventory(
            &self,
            _: &TenantId,
            _: Topic,
            _: Option<&str>,
            _: u32,
        ) -> Result<Vec<(String, u64)>, StoreError> {
            Ok(Vec::new())
        }

        async fn put(&self, _: &TenantId, _: &[ltmc_ports::log::Item]) -> Result<(), StoreError> {
            Ok(())
        }

        async fn discard(&self, _: &TenantId, _: Topic, _: &[String]) -> Result<(), StoreError> {
            Ok(())
        }

        async fn set_applied(&self, _: &TenantId, _: Position) -> Result<(), StoreError> {
            Ok(())
        }
    }

    /// By the clock of the runtime, which stands still but for who waits.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_database_that_lags_waits_so_long_and_no_longer() {
        let record = MemoryRecord::new();
        let follower = Follower::new(Arc::new(Hangs), record.clone(), record.clone());
        assert!(!follower.caught_up_within(Duration::from_secs(2)).await, "it does not follow yet");
        let stop = CancellationToken::new();
        let follows = tokio::spawn(follower.clone().run(stop.clone()));
        while !follower.status().up {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(follower.caught_up_within(Duration::from_secs(2)).await, "there is nothing that it lacks");
        let change = put(&Drawer::Global, "k", record.next_revision(&tenant("acme")), "v");
        record.append(Owner::new("acme", 1).remember(vec![change]), Durability::Barrier).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert!(!follower.caught_up_within(Duration::from_secs(2)).await);
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        stop.cancel();
        follows.await.unwrap();
    }
}
