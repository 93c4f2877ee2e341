//! The change feed of memory: by prefix, from a cursor, without gaps and without anything twice.
//!
//! Invariants: only what is on disk is shown, for whoever is shown it may be outside the host. A cursor is a place in the
//! record's log, so that it holds over reconnects and restarts; one that is older than what is kept is answered with the
//! place to go on from, never with a gap. However many watch, a change is read once and handed to those of its drawer.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use ltmc_model::delta::{Delta, Logged};
use ltmc_model::memory::{Changed, Drawer, Feed};
use ltmc_model::{Position, TenantId};
use ltmc_ports::log::{Ends, changed};
use ltmc_ports::{ReadLog, StoreError};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Changes that a watcher may be behind before it reads on from the record.
const BEHIND: usize = 256;
/// Changes read from the record at once.
const PAGE: u32 = 1_000;

/// One tenant's drawer.
type Place = (TenantId, Drawer);

/// The feeds of all tenants.
pub struct Feeds {
    log: Arc<dyn ReadLog>,
    drawers: DashMap<Place, broadcast::Sender<Arc<Logged>>>,
}

/// A cursor was too old: the place to go on from, once what is there now has been read.
pub type Resync = Position;

impl Feeds {
    /// Over a log.
    pub fn new(log: Arc<dyn ReadLog>) -> Arc<Self> {
        Arc::new(Self { log, drawers: DashMap::new() })
    }

    /// Hands out what becomes durable, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            let mut ends = self.log.ends();
            let mut group = self.log.follow();
            let mut waiting: std::collections::VecDeque<Logged> = std::collections::VecDeque::new();
            loop {
                tokio::select! {
                    next = group.recv() => match next {
                        Ok(rows) => waiting.extend(rows.iter().filter(|row| matches!(row.delta, Delta::Memory(_))).cloned()),
                        // Watchers read on from the record: they are told that they missed something.
                        Err(broadcast::error::RecvError::Lagged(_)) => {
                            waiting.clear();
                            self.drawers.clear();
                        }
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                    grown = ends.changed() => if grown.is_err() { return },
                }
                let Ends { durable, .. } = *ends.borrow_and_update();
                while waiting.front().is_some_and(|row| row.position <= durable) {
                    if let Some(row) = waiting.pop_front() {
                        self.tell(row);
                    }
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    fn tell(&self, row: Logged) {
        let Delta::Memory(change) = &row.delta else { return };
        let place = (row.tenant.clone(), change.drawer.clone());
        let Some(to) = self.drawers.get(&place).map(|to| to.clone()) else { return };
        if to.send(Arc::new(row)).is_err() {
            self.drawers.remove_if(&place, |_, to| to.receiver_count() == 0);
        }
    }

    /// A watcher of a drawer's keys that begin with `prefix`, after `after`; none: from now on.
    ///
    /// # Errors
    /// The record's.
    pub async fn watch(
        &self,
        tenant: &TenantId,
        drawer: &Drawer,
        prefix: &str,
        after: Option<Position>,
    ) -> Result<Result<Watcher, Resync>, StoreError> {
        let news = self.subscribe(tenant, drawer);
        let durable = self.log.ends().borrow().durable;
        let after = after.unwrap_or(durable);
        if after < self.log.trimmed().await? || after > durable {
            return Ok(Err(durable));
        }
        let log = self.log.clone();
        let (tenant, drawer, prefix) = (tenant.clone(), drawer.clone(), prefix.to_owned());
        Ok(Ok(Watcher { log, news, tenant, drawer, prefix, after, behind: true }))
    }

    /// Changes after `after`, at most `limit`; waits up to `wait` for the first.
    ///
    /// # Errors
    /// The record's.
    pub async fn changes(
        self: &Arc<Self>,
        tenant: &TenantId,
        drawer: &Drawer,
        prefix: &str,
        after: Option<Position>,
        limit: u32,
        wait: Duration,
    ) -> Result<Result<Feed, Resync>, StoreError> {
        let mut watcher = match self.watch(tenant, drawer, prefix, after).await? {
            Ok(watcher) => watcher,
            Err(resync) => return Ok(Err(resync)),
        };
        if let Some(found) = watcher.read(limit).await? {
            return Ok(Ok(found));
        }
        let found = match tokio::time::timeout(wait, watcher.next(self)).await {
            Ok(Ok(changes)) => changes,
            Ok(Err(WatchError::Store(error))) => return Err(error),
            Ok(Err(WatchError::Resync(at))) => return Ok(Err(at)),
            Err(_) => Vec::new(),
        };
        let changes: Vec<Changed> = found.into_iter().take(limit as usize).collect();
        let next = changes.last().map_or(watcher.after, |last| last.position);
        Ok(Ok(Feed { changes, next }))
    }

    /// What was thrown away of the log.
    pub(crate) async fn trimmed(&self) -> Result<Position, StoreError> {
        self.log.trimmed().await
    }

    /// How much of the log is on disk.
    pub(crate) fn durable(&self) -> Position {
        self.log.ends().borrow().durable
    }

    /// Waits until everything up to `position` is on disk, which is soon.
    pub(crate) async fn on_disk(&self, position: Position) {
        let _ = self.log.ends().wait_for(|ends| ends.durable >= position).await;
    }

    fn subscribe(&self, tenant: &TenantId, drawer: &Drawer) -> broadcast::Receiver<Arc<Logged>> {
        let place = (tenant.clone(), drawer.clone());
        self.drawers.entry(place).or_insert_with(|| broadcast::Sender::new(BEHIND)).subscribe()
    }

    /// How many drawers are watched.
    pub fn watched(&self) -> usize {
        self.drawers.len()
    }
}

/// Somebody who watches.
pub struct Watcher {
    log: Arc<dyn ReadLog>,
    news: broadcast::Receiver<Arc<Logged>>,
    tenant: TenantId,
    drawer: Drawer,
    prefix: String,
    after: Position,
    /// Whether the record may hold something that was not read yet.
    behind: bool,
}

/// Why a watcher cannot go on.
#[derive(Debug)]
pub enum WatchError {
    /// What comes next is not kept any more.
    Resync(Resync),
    /// The record's.
    Store(StoreError),
}

impl Watcher {
    /// Every change up to here has been given, or is none of its own.
    pub fn after(&self) -> Position {
        self.after
    }

    /// What the record has and was not read yet; none: nothing.
    async fn read(&mut self, limit: u32) -> Result<Option<Feed>, StoreError> {
        let durable = self.log.ends().borrow().durable;
        let mut after = self.after;
        while after < durable {
            let feed = self.log.memory_changes(&self.tenant, &self.drawer, &self.prefix, after, durable, limit).await?;
            if !feed.changes.is_empty() {
                self.after = feed.next;
                return Ok(Some(feed));
            }
            if feed.next <= after {
                break;
            }
            after = feed.next;
        }
        self.after = self.after.max(durable);
        self.behind = false;
        Ok(None)
    }

    /// The next changes: at least one. To be dropped while it waits does no harm.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn next(&mut self, feeds: &Feeds) -> Result<Vec<Changed>, WatchError> {
        loop {
            if self.behind {
                if self.after < self.log.trimmed().await.map_err(WatchError::Store)? {
                    return Err(WatchError::Resync(self.log.ends().borrow().durable));
                }
                match self.read(PAGE).await.map_err(WatchError::Store)? {
                    Some(feed) => {
                        // More may be there; what is in the channel by then is passed over.
                        return Ok(feed.changes);
                    }
                    None => continue,
                }
            }
            match self.news.recv().await {
                Ok(row) if row.position <= self.after => {}
                Ok(row) => {
                    self.after = row.position;
                    if let Some(change) = changed(&row, &self.drawer, &self.prefix) {
                        return Ok(vec![change]);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => {
                    self.news = feeds.subscribe(&self.tenant, &self.drawer);
                    self.behind = true;
                }
            }
        }
    }
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").field("watched", &self.drawers.len()).finish_non_exhaustive()
    }
}
