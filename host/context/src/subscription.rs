//! Subscriptions: the one way to follow the record. A stream of rows of its log of changes, from a cursor on.
//!
//! Invariants: rows come in order, none is missing and none comes twice. A cursor is a place in the log, so that it holds over
//! reconnects and restarts; one that is older than what is kept is answered with the place to go on from, never with a gap.
//! Whoever is outside the host is shown only what is on disk, and nobody who waits for it has it brought there: it comes by
//! itself. However many subscribe, a row is read once, and handed to those of its place.
//!
//! | what follows | interest | up to |
//! | --- | --- | --- |
//! | `GET /v1/changes` | a drawer's keys | what is on disk |
//! | `GET /v1/events/follow` | a topic | what is on disk |
//! | `GET /v1/runs/{id}/events` (`orchestration/src/runs/follow.rs`) | a run: its rows say how far its journal goes | what is on disk |
//! | a guest's `watch` and `read` | a drawer's keys, a topic | what is visible |
//! | a guest's `receive` | its mailbox, which is looked into at each row | what is visible |
//!
//! To add one: a variant of [`Interest`], its rows in the record, and where it is told of them (`places`).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use ltmc_model::delta::{Delta, Logged};
use ltmc_model::effect::Refusal;
use ltmc_model::message::Channel;
use ltmc_model::{Position, TenantId};
use ltmc_ports::log::{Ends, Group, Interest};
use ltmc_ports::{ReadLog, StoreError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::context::Whose;

/// Rows that a subscriber may be behind before it reads on from the record.
const BEHIND: usize = 256;
/// The same, where what is missed is nothing: there is one thing to look at, as it is now.
const BEHIND_ONE: usize = 16;

/// Up to which of the log's ends rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Watermark {
    /// Everything that is committed: to guests, of whom nothing leaves the host before it is on disk with all they saw.
    Visible,
    /// What is on disk.
    Durable,
}

/// Why a subscription cannot go on.
#[derive(Debug)]
pub enum Lost {
    /// What comes next is not kept any more: read what is there, and subscribe from this place on.
    Resync(Position),
    /// The record does not answer.
    Store(StoreError),
}

impl Lost {
    /// What whoever asked is answered.
    pub(crate) fn refusal(self) -> Result<Refusal, StoreError> {
        match self {
            Self::Resync(at) => Ok(Refusal::Resync(at)),
            Self::Store(error) => Err(error),
        }
    }
}

impl From<StoreError> for Lost {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The subscriptions of all tenants: reads the log's groups, and hands each row to those whom it may concern.
pub struct Subscriptions {
    log: Arc<dyn ReadLog>,
    places: DashMap<Place, broadcast::Sender<Arc<Logged>>>,
}

/// Where rows are handed out. Who wants the keys of a drawer is told of all of them.
type Place = (Watermark, TenantId, Interest);

impl Subscriptions {
    /// Over a log. What hands out its rows ends with the last who has a subscription, or this.
    pub fn start(log: Arc<dyn ReadLog>) -> Arc<Self> {
        let (groups, ends) = (log.follow(), log.ends());
        let subscriptions = Arc::new(Self { log, places: DashMap::new() });
        tokio::spawn(hand_out(Arc::downgrade(&subscriptions), groups, ends));
        subscriptions
    }

    /// Subscribes to what is of interest after `after`; none: from now on.
    ///
    /// # Errors
    /// See [`Lost`].
    pub async fn subscribe(
        self: &Arc<Self>,
        tenant: &TenantId,
        interest: Interest,
        watermark: Watermark,
        after: Option<Position>,
    ) -> Result<Subscription, Lost> {
        let place = match &interest {
            Interest::Memory(drawer, _) => Interest::Memory(drawer.clone(), String::new()),
            Interest::Topic(_) | Interest::Mailbox(_) | Interest::Run(_) => interest.clone(),
        };
        let seat = Seat { subscriptions: self.clone(), place: (watermark, tenant.clone(), place) };
        // Before it is looked how far the log goes: what comes after that is told.
        let news = seat.listen();
        let end = self.end(watermark);
        let is_run = matches!(interest, Interest::Run(_));
        let after = after.unwrap_or(if is_run { Position(0) } else { end });
        if !is_run && (after < self.log.trimmed(tenant).await? || after > end) {
            return Err(Lost::Resync(end));
        }
        Ok(Subscription { news, seat, interest, after, is_behind: true })
    }

    /// What there is of interest after `after`, and where to go on; waits so long for the first.
    ///
    /// # Errors
    /// See [`Lost`].
    pub(crate) async fn once(
        self: &Arc<Self>,
        whose: Whose<'_>,
        interest: Interest,
        after: Option<Position>,
        limit: u32,
        patience: Duration,
    ) -> Result<(Vec<Arc<Logged>>, Position), Lost> {
        let watermark = if whose.log().is_some() { Watermark::Visible } else { Watermark::Durable };
        let mut rows = self.subscribe(whose.tenant, interest, watermark, after).await?;
        let mut found = rows.read(limit).await?;
        if found.is_empty() && !patience.is_zero() {
            found = tokio::time::timeout(patience, rows.next(limit)).await.unwrap_or_else(|_| Ok(found))?;
        }
        Ok((found, rows.after))
    }

    /// The log.
    pub fn log(&self) -> &Arc<dyn ReadLog> {
        &self.log
    }

    /// In how many places somebody listens.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    fn end(&self, watermark: Watermark) -> Position {
        let Ends { visible, durable, .. } = *self.log.ends().borrow();
        match watermark {
            Watermark::Visible => visible,
            Watermark::Durable => durable,
        }
    }

    fn tell(&self, watermark: Watermark, group: &Group) {
        if self.places.is_empty() {
            return;
        }
        for row in &group.rows {
            let place = match &row.delta {
                Delta::Memory(change) => Interest::Memory(change.drawer.clone(), String::new()),
                Delta::Sent(message) => match &message.channel {
                    Channel::Topic(topic) => Interest::Topic(topic.clone()),
                    Channel::Mailbox(agent) => Interest::Mailbox(agent.clone()),
                },
                Delta::Processed { agent, .. } | Delta::Buried { agent, .. } | Delta::Revived { agent, .. } => {
                    Interest::Mailbox(agent.clone())
                }
                Delta::Released { .. } => {
                    self.tell_mailboxes(watermark, row);
                    continue;
                }
                // Runs are told of below, all of them.
                Delta::Run(_)
                | Delta::Taken { .. }
                | Delta::FactBegan(_)
                | Delta::FactEnded(_)
                | Delta::NoteKept(_)
                | Delta::NoteForgotten { .. } => continue,
            };
            if let Some(to) = self.places.get(&(watermark, row.tenant.clone(), place)) {
                let _ = to.send(row.clone());
            }
        }
        for run in &group.runs {
            if let Some(to) = self.places.get(&(watermark, run.tenant.clone(), Interest::Run(run.id))) {
                let _ = to.send(Arc::new(Logged::of_run(run)));
            }
        }
    }

    fn tell_mailboxes(&self, watermark: Watermark, row: &Arc<Logged>) {
        for place in &self.places {
            let (of, tenant, interest) = place.key();
            if *of == watermark && *tenant == row.tenant && matches!(interest, Interest::Mailbox(_)) {
                let _ = place.send(row.clone());
            }
        }
    }

    /// Something was missed: whoever subscribed up to this watermark reads on from the record.
    fn missed(&self, watermark: Watermark) {
        self.places.retain(|(of, ..), _| *of != watermark);
    }
}

/// Hands out what was committed, and once more what is on disk.
async fn hand_out(
    subscriptions: Weak<Subscriptions>,
    mut groups: broadcast::Receiver<Arc<Group>>,
    mut ends: watch::Receiver<Ends>,
) {
    // What is not on disk yet, by its commit; none: what was missed.
    let mut waiting: VecDeque<(u64, Option<Arc<Group>>)> = VecDeque::new();
    loop {
        let next = tokio::select! {
            next = groups.recv() => Some(next),
            grown = ends.changed(), if !waiting.is_empty() => if grown.is_ok() { None } else { return },
        };
        let Some(subscriptions) = subscriptions.upgrade() else { return };
        match next {
            Some(Ok(group)) => {
                subscriptions.tell(Watermark::Visible, &group);
                waiting.push_back((group.commit, Some(group)));
            }
            Some(Err(RecvError::Lagged(_))) => {
                subscriptions.missed(Watermark::Visible);
                // It can be read where that is on disk, and not before.
                waiting.push_back((ends.borrow().begun, None));
            }
            Some(Err(RecvError::Closed)) => return,
            None => {}
        }
        let synced = ends.borrow_and_update().synced;
        while waiting.front().is_some_and(|(commit, _)| *commit <= synced) {
            match waiting.pop_front() {
                Some((_, Some(group))) => subscriptions.tell(Watermark::Durable, &group),
                Some((_, None)) => subscriptions.missed(Watermark::Durable),
                None => {}
            }
        }
    }
}

/// Rows that are of interest to somebody, as they come.
pub struct Subscription {
    // Dropped before the seat, which is given back where nobody listens any more.
    news: broadcast::Receiver<Arc<Logged>>,
    seat: Seat,
    interest: Interest,
    after: Position,
    /// Whether the record may hold something that was not read yet.
    is_behind: bool,
}

impl Subscription {
    /// The next rows: at least one, and at most `limit`. To be dropped while it waits does no harm.
    ///
    /// # Errors
    /// See [`Lost`].
    pub async fn next(&mut self, limit: u32) -> Result<Vec<Arc<Logged>>, Lost> {
        loop {
            if self.is_behind {
                let found = self.read(limit).await?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            match self.news.recv().await {
                Ok(row) if row.position <= self.after => {}
                Ok(row) => {
                    self.after = row.position;
                    if self.interest.concerns(&row.delta) {
                        return Ok(vec![row]);
                    }
                }
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => {
                    self.news = self.seat.listen();
                    self.is_behind = true;
                }
            }
        }
    }

    /// Where it is read on; none: all that there is was read.
    pub(crate) fn goes_on(&self) -> Option<Position> {
        let Seat { subscriptions, place: (watermark, ..) } = &self.seat;
        (self.after < subscriptions.end(*watermark)).then_some(self.after)
    }

    /// What the record has and was not read yet.
    pub(crate) async fn read(&mut self, limit: u32) -> Result<Vec<Arc<Logged>>, Lost> {
        let Seat { subscriptions, place: (watermark, tenant, _) } = &self.seat;
        let (log, end) = (&subscriptions.log, subscriptions.end(*watermark));
        if matches!(self.interest, Interest::Run(_)) {
            let found = log.rows(tenant, &self.interest, self.after, end, limit).await?;
            if *watermark == Watermark::Durable {
                log.settled().await;
            }
            (self.after, self.is_behind) = (self.after.max(found.next), false);
            return Ok(found.rows.into_iter().map(Arc::new).collect());
        }
        while self.after < end {
            let found = log.rows(tenant, &self.interest, self.after, end, limit).await?;
            // Looked at afterwards: what was thrown away meanwhile may be missing in what was found.
            if self.after < log.trimmed(tenant).await? {
                return Err(Lost::Resync(subscriptions.end(*watermark)));
            }
            let is_further = found.next > self.after;
            self.after = found.next;
            if !found.rows.is_empty() {
                return Ok(found.rows.into_iter().map(Arc::new).collect());
            }
            if !is_further {
                break;
            }
        }
        self.after = self.after.max(end);
        self.is_behind = false;
        Ok(Vec::new())
    }
}

/// A place where a subscriber listens; gone with the last.
struct Seat {
    subscriptions: Arc<Subscriptions>,
    place: Place,
}

impl Seat {
    fn listen(&self) -> broadcast::Receiver<Arc<Logged>> {
        let behind = match &self.place.2 {
            Interest::Memory(..) | Interest::Topic(_) => BEHIND,
            Interest::Mailbox(_) | Interest::Run(_) => BEHIND_ONE,
        };
        let place = self.subscriptions.places.entry(self.place.clone());
        // bound: news of the log
        place.or_insert_with(|| broadcast::Sender::new(behind)).subscribe()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.subscriptions.places.remove_if(&self.place, |_, to| to.receiver_count() == 0);
    }
}

impl std::fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriptions").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (interest, after) = (&self.interest, &self.after);
        f.debug_struct("Subscription").field("interest", interest).field("after", after).finish_non_exhaustive()
    }
}
