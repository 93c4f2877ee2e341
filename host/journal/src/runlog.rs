//! A run's append handle: shared by the engine and the crossing, the only way to the run's journal.
//!
//! Invariants:
//! - Entries reach the journal in the order they were staged or appended; the history runs ahead of the record by what is
//!   staged or in flight, never beside it.
//! - An append whose caller is dropped half-way (a cancelled guest) is finished by the next one: the log never loses count.
//! - After an append has failed, every later one fails with the same kind: the run is to be taken up again from the record.
//!
//! Staging: what needs no durability of its own (a step began, a step ended, a log line) waits for the
//! next append and is one commit with it. A crash loses what was staged, and it is made again. What a step that is over has
//! changed and is not in the record yet is seen by this run alone ([`RunLog::newest_pending`]), and stays guarded by its
//! [`Lock`]s.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ltmc_model::delta::Delta;
use ltmc_model::journal::{Entry, Event, RunStarted};
use ltmc_model::message::Taker;
use ltmc_model::run::{Run, TakenUp};
use ltmc_model::{Epoch, Revision, RunId, Seq, StepPath, TenantId, Timestamp};
use ltmc_ports::journal::{IdempotencyKey, Snapshot};
use ltmc_ports::schedules::ScheduledStart;
use ltmc_ports::triggers::TriggeredStart;
use ltmc_ports::{Append, Changes, Clock, Durability, Expect, Kind, StoreError, WriteJournal};

use crate::fold::{Checkpoint, History};
use crate::metered;
use crate::sealed::Sealing;

/// What a log writes with.
#[derive(Clone)]
pub struct Ports {
    /// Where entries go.
    pub journal: Arc<dyn WriteJournal>,
    /// What stamps them.
    pub clock: Arc<dyn Clock>,
    /// When where the run stands is written beside them.
    pub sealing: Sealing,
}

/// One run's log.
pub struct RunLog {
    ports: Ports,
    tenant: TenantId,
    run: RunId,
    epoch: Epoch,
    started: Arc<RunStarted>,
    /// How far the run had come when this log began.
    progress: u64,
    ahead: Mutex<Ahead>,
    tail: tokio::sync::Mutex<Tail>,
    /// As they were given to a new run, for [`RunLog::anew`].
    idempotency: Option<IdempotencyKey>,
    scheduled: Option<ScheduledStart>,
    triggered: Option<TriggeredStart>,
}

/// What is true once the record has caught up.
struct Ahead {
    run: RunId,
    history: History,
    sealing: Sealing,
    /// How many bytes were not sealed when there was too much to be written; it is tried again when there are twice as many.
    too_much: u64,
    staged: Vec<Entry>,
    /// Where the run stands as of one of them.
    snapshot: Option<Snapshot>,
    /// What goes with what is staged.
    commit: Commit,
    /// Deltas that are on their way.
    flying: Vec<Delta>,
    /// Locks of what is on its way, which are let go when it is in the record.
    flying_locks: Vec<Lock>,
    /// What is kept for it until then.
    flying_holds: Vec<Hold>,
}

/// A lock: its number, and what keeps it taken.
#[derive(Clone)]
pub struct Lock {
    /// Its number.
    pub place: usize,
    /// What keeps it taken.
    pub hold: Arc<dyn Any + Send + Sync>,
    /// Whether it is let go when the change that it guards is handed to the record, rather than when that is in it: whoever
    /// comes next can see what was handed over.
    pub early: bool,
}

/// What becomes true together with an entry.
#[derive(Default)]
pub struct Commit {
    /// What changes, and what that was decided on.
    pub changes: Changes,
    /// What guards it.
    pub locks: Vec<Lock>,
    /// Entries that stand right before it, in the same commit.
    pub before: Vec<Event>,
    /// What it has of something bounded: given back once it is in the record, or in nobody's hands any more.
    pub holds: Vec<Hold>,
}

/// Something that is kept until it is dropped.
pub type Hold = Box<dyn Any + Send + Sync>;

/// An append on its way.
type InFlight = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// The journal's end, as far as it is written or in flight.
struct Tail {
    row: Run,
    previous: Option<Epoch>,
    idempotency: Option<IdempotencyKey>,
    scheduled: Option<ScheduledStart>,
    triggered: Option<TriggeredStart>,
    in_flight: Option<InFlight>,
    durable: bool,
    /// How an append failed, and why.
    lost: Option<(Kind, String)>,
}

/// How much an open attempt has had of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Effects journaled.
    pub effects: u32,
    /// Bytes of their replies.
    pub bytes: u64,
}

impl RunLog {
    /// The log of a new run. `RunStarted` is staged: it is written with the first append.
    pub fn fresh(
        ports: Ports,
        tenant: TenantId,
        run: RunId,
        started: RunStarted,
        idempotency: Option<IdempotencyKey>,
    ) -> Self {
        let row = new_row(tenant, run, &started, ports.clock.now());
        Self::with(ports, row, None, History::new().forgetting(), Event::RunStarted(Box::new(started)), idempotency)
    }

    /// The log of a new run that goes on from where another one was; none where the beginning of that is missing. `RunStarted` is
    /// staged, and says so.
    pub fn forked(
        ports: Ports,
        tenant: TenantId,
        run: RunId,
        started: RunStarted,
        mut history: History,
        idempotency: Option<IdempotencyKey>,
    ) -> Option<Self> {
        history.started()?;
        history.branch_off();
        let row = new_row(tenant, run, &started, ports.clock.now());
        Some(Self::with(ports, row, None, history, Event::RunStarted(Box::new(started)), idempotency))
    }

    /// The log of a run that is taken over from the record as `history` found it; none where its beginning is missing.
    /// `RunClaimed` is staged; the claim holds once it is flushed.
    pub fn claim(ports: Ports, mut row: Run, history: History) -> Option<Self> {
        history.started()?;
        let previous = row.epoch;
        row.epoch = previous.next();
        let claimed = Event::RunClaimed { epoch: row.epoch };
        Some(Self::with(ports, row, Some(previous), history, claimed, None))
    }

    fn with(
        ports: Ports,
        row: Run,
        previous: Option<Epoch>,
        history: History,
        first: Event,
        idempotency: Option<IdempotencyKey>,
    ) -> Self {
        let mut ahead = Ahead::of(row.id, history, ports.sealing);
        ahead.stage(ports.clock.now(), first);
        let started = ahead.history.started().expect("a run's log begins with its start").clone();
        Self {
            tenant: row.tenant.clone(),
            run: row.id,
            epoch: row.epoch,
            started,
            progress: ahead.history.progress(),
            ahead: Mutex::new(ahead),
            tail: tokio::sync::Mutex::new(Tail::of(row, previous, idempotency.clone())),
            idempotency,
            scheduled: None,
            triggered: None,
            ports,
        }
    }

    /// The same, of a run that a schedule starts, as long as that allows it when it is written.
    #[must_use]
    pub fn scheduled(mut self, start: Option<ScheduledStart>) -> Self {
        self.tail.get_mut().scheduled.clone_from(&start);
        self.scheduled = start;
        self
    }

    /// A copy of it in which these events have happened, to see what would come of them. Nothing that is in it, or is added to it, is ever
    /// written.
    pub async fn supposing(&self, events: Vec<Event>) -> Self {
        let (row, history) = (self.tail.lock().await.row.clone(), self.read(Clone::clone));
        let mut ahead = Ahead::of(row.id, history, self.ports.sealing);
        events.into_iter().for_each(|event| ahead.stage(self.now(), event));
        let mut tail = Tail::of(row, None, None);
        tail.lost = Some((Kind::Fenced, "it is only supposed".to_owned()));
        Self {
            ports: self.ports.clone(),
            tenant: self.tenant.clone(),
            run: self.run,
            epoch: self.epoch,
            started: self.started.clone(),
            progress: self.progress,
            ahead: Mutex::new(ahead),
            tail: tokio::sync::Mutex::new(tail),
            idempotency: None,
            scheduled: None,
            triggered: None,
        }
    }

    /// The same, of a run that an event starts, as long as its subscription allows that when it is written.
    #[must_use]
    pub fn triggered(mut self, start: Option<TriggeredStart>) -> Self {
        self.tail.get_mut().triggered.clone_from(&start);
        self.triggered = start;
        self
    }

    /// The log of the same run, begun again: nothing of it is in the record, for its first append was refused.
    #[must_use]
    pub fn anew(&self) -> Self {
        let (ports, started) = (self.ports.clone(), RunStarted::clone(&self.started));
        let log = Self::fresh(ports, self.tenant.clone(), self.run, started, self.idempotency.clone());
        log.scheduled(self.scheduled.clone()).triggered(self.triggered.clone())
    }

    /// Whose run it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The run whose log it is.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The epoch this log writes with.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How the run began.
    pub fn started(&self) -> &Arc<RunStarted> {
        &self.started
    }

    /// The host's clock.
    pub fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// The next revision for a memory change.
    pub fn next_revision(&self) -> Revision {
        self.ports.journal.next_revision(&self.tenant)
    }

    /// Looks at the history, what is staged included.
    pub fn read<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.ahead().history)
    }

    /// Looks at the history and its memos (`tick`, `take_replay`).
    pub fn read_mut<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        look(&mut self.ahead().history)
    }

    /// How much the open attempt of a step has had so far; the bounds are [`crate::fold::MAX_EFFECTS`] and
    /// [`crate::fold::MAX_EFFECT_BYTES`].
    pub fn load(&self, step: &StepPath) -> Load {
        self.read(|history| {
            let last = history.step(step).and_then(|step| step.last());
            last.map_or_else(Load::default, |last| Load { effects: last.effects, bytes: last.effect_bytes })
        })
    }

    /// Adds an entry that goes into the record with the next append.
    pub fn stage(&self, event: Event) {
        let at = self.now();
        self.ahead().stage(at, event);
    }

    /// Adds what `decide` says by where the run stands, as one: nothing comes in between.
    ///
    /// # Errors
    /// That of `decide`; nothing is then added.
    pub fn stage_if<E>(&self, decide: impl FnOnce(&History) -> Result<Vec<Event>, E>) -> Result<(), E> {
        self.stage_if_expecting(|history| Ok((decide(history)?, Vec::new())))
    }

    /// The same, where it was decided on what the record is to look at.
    ///
    /// # Errors
    /// That of `decide`; nothing is then added.
    pub fn stage_if_expecting<E>(
        &self,
        decide: impl FnOnce(&History) -> Result<(Vec<Event>, Vec<Expect>), E>,
    ) -> Result<(), E> {
        let at = self.now();
        let mut ahead = self.ahead();
        let (events, expects) = decide(&ahead.history)?;
        ahead.commit.changes.expects.extend(expects);
        for event in events {
            ahead.stage(at, event);
        }
        Ok(())
    }

    /// Adds an entry as [`Self::stage`] does, with what becomes true with it. Where something staged here before contradicts what it was decided on, that
    /// is written first, so that the record finds the contradiction.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn stage_with(&self, event: Event, commit: Commit) -> Result<(), StoreError> {
        loop {
            let at = self.now();
            {
                let mut ahead = self.ahead();
                if !ahead.contradicts(&commit) {
                    ahead.stage_with(at, event, commit);
                    return Ok(());
                }
            }
            self.flush(Durability::Lazy).await?;
        }
    }

    /// For how long the oldest of what is staged has been so.
    pub fn staged_for(&self) -> Duration {
        let now = self.now();
        self.ahead().staged.first().map_or(Duration::ZERO, |oldest| now.since(oldest.at))
    }

    /// What is found in the newest delta that is not in the record yet and in which there is anything to be found.
    pub fn newest_pending<T>(&self, mut find: impl FnMut(&Delta) -> Option<T>) -> Option<T> {
        let ahead = self.ahead();
        let mut newest_first = ahead.commit.changes.deltas.iter().rev().chain(ahead.flying.iter().rev());
        newest_first.find_map(&mut find)
    }

    /// Whether any delta is not in the record yet.
    pub fn has_pending(&self) -> bool {
        let ahead = self.ahead();
        !ahead.commit.changes.deltas.is_empty() || !ahead.flying.is_empty()
    }

    /// The lock number `place`, if this run keeps it.
    pub fn lock(&self, place: usize) -> Option<Lock> {
        let ahead = self.ahead();
        let mut kept = ahead.commit.locks.iter().chain(&ahead.flying_locks);
        kept.find(|lock| lock.place == place).cloned()
    }

    /// Writes what is staged and then `events`, with what becomes true with them: one commit.
    ///
    /// # Errors
    /// As the journal's; and after an error once more, with the same kind.
    pub async fn append(&self, events: Vec<Event>, durability: Durability) -> Result<(), StoreError> {
        let mut tail = self.tail.lock().await;
        self.settle(&mut tail).await?;
        let (entries, changes, snapshot, early) = {
            let at = self.now();
            let mut ahead = self.ahead();
            for event in events {
                ahead.stage(at, event);
            }
            tail.row.state = ahead.history.state();
            tail.row.wakes_at = ahead.history.suspended();
            tail.row.updated_at = ahead.history.updated_at();
            let is_at_rest = tail.row.state.is_over() || tail.row.wakes_at.is_some();
            if is_at_rest || ahead.history.progress() > self.progress {
                tail.row.taken_up = TakenUp::default();
            }
            if tail.row.seq == Seq(0) {
                tail.row.created_at = ahead.history.created_at();
            }
            let Commit { changes, locks, holds, before: _ } = std::mem::take(&mut ahead.commit);
            let (early, late): (Vec<Lock>, Vec<Lock>) = locks.into_iter().partition(|lock| lock.early);
            ahead.flying.clone_from(&changes.deltas);
            ahead.flying_locks = late;
            ahead.flying_holds = holds;
            (std::mem::take(&mut ahead.staged), changes, ahead.snapshot.take(), early)
        };
        if entries.is_empty() && changes.deltas.is_empty() && (durability == Durability::Lazy || tail.durable) {
            return Ok(());
        }
        let expected = tail.row.seq;
        tail.row.seq = Seq(expected.0 + entries.len() as u64);
        let append = Append {
            run: tail.row.clone(),
            expected,
            previous: tail.previous,
            entries,
            changes,
            idempotency: tail.idempotency.take(),
            scheduled: tail.scheduled.take(),
            triggered: tail.triggered.take(),
            snapshot,
        };
        tail.previous = Some(tail.row.epoch);
        tail.durable = durability == Durability::Barrier;
        let journal = self.ports.journal.clone();
        tail.in_flight = Some(Box::pin(async move {
            let receipt = journal.hand_over(append, durability).await;
            drop(early);
            receipt.await
        }));
        self.settle(&mut tail).await
    }

    /// Writes what is staged. With [`Durability::Barrier`]: on return everything this log has written is on disk.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn flush(&self, durability: Durability) -> Result<(), StoreError> {
        self.append(Vec::new(), durability).await
    }

    /// Whether everything that was written is known to be on disk.
    pub async fn is_on_disk(&self) -> bool {
        let tail = self.tail.lock().await;
        tail.durable && tail.in_flight.is_none()
    }

    /// Whether the log still has its thread; nothing is written.
    ///
    /// # Errors
    /// After an error once more, with the same kind.
    pub async fn check(&self) -> Result<(), StoreError> {
        let mut tail = self.tail.lock().await;
        self.settle(&mut tail).await
    }

    /// Waits for what is in flight. To be dropped half-way does no harm: the next caller waits on.
    async fn settle(&self, tail: &mut Tail) -> Result<(), StoreError> {
        if let Some((kind, why)) = &tail.lost {
            return Err(lost(*kind, why));
        }
        let Some(in_flight) = &mut tail.in_flight else { return Ok(()) };
        let result = in_flight.await;
        tail.in_flight = None;
        let landed = {
            let mut ahead = self.ahead();
            ahead.flying.clear();
            (std::mem::take(&mut ahead.flying_locks), std::mem::take(&mut ahead.flying_holds))
        };
        drop(landed);
        result.inspect_err(|error| tail.lost = Some((error.kind, error.reason())))
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Tail {
    fn of(row: Run, previous: Option<Epoch>, idempotency: Option<IdempotencyKey>) -> Self {
        Self {
            row,
            previous,
            idempotency,
            scheduled: None,
            triggered: None,
            in_flight: None,
            durable: true,
            lost: None,
        }
    }
}

impl Ahead {
    fn of(run: RunId, history: History, sealing: Sealing) -> Self {
        Self {
            run,
            history,
            sealing,
            too_much: 0,
            staged: Vec::with_capacity(4),
            snapshot: None,
            commit: Commit::default(),
            flying: Vec::new(),
            flying_locks: Vec::new(),
            flying_holds: Vec::new(),
        }
    }

    /// Whether what is staged makes anything of what `commit` expects untrue.
    fn contradicts(&self, commit: &Commit) -> bool {
        let staged = &self.commit.changes.deltas;
        !staged.is_empty() && commit.changes.expects.iter().any(|expect| expect.after(staged) == Some(false))
    }

    fn stage(&mut self, at: Timestamp, event: Event) {
        self.stage_with(at, event, Commit::default());
    }

    fn stage_with(&mut self, at: Timestamp, event: Event, commit: Commit) {
        self.seal(at, &event);
        let staged = &mut self.commit.changes;
        // What is staged makes true need not be asked of the record, which looks at all that an append expects before it
        // writes anything of it.
        let known = commit.changes.expects.into_iter().filter(|expect| expect.after(&staged.deltas).is_none());
        staged.expects.extend(known);
        staged.deltas.extend(commit.changes.deltas);
        for event in commit.before {
            let entry = Entry { at, event };
            self.history.advance(self.history.seq().next(), &entry);
            self.staged.push(entry);
        }
        let staged = &mut self.commit.changes;
        // What was processed is gone; what is left is let go after it.
        for (step, Checkpoint { origin, part, .. }) in self.history.let_go(&event) {
            let by = Taker { run: self.run, step, attempt: origin, part };
            staged.deltas.push(Delta::Released { by, at });
        }
        self.commit.locks.extend(commit.locks);
        self.commit.holds.extend(commit.holds);
        self.push(at, event);
    }

    fn push(&mut self, at: Timestamp, event: Event) -> Seq {
        let (seq, entry) = (self.history.seq().next(), Entry { at, event });
        self.history.advance(seq, &entry);
        self.staged.push(entry);
        seq
    }

    /// Seals the run before `next` is added, where it is time.
    fn seal(&mut self, at: Timestamp, next: &Event) {
        if !self.history.is_to_be_sealed(next, self.sealing) || self.history.unsealed() < 2 * self.too_much {
            return;
        }
        let Some(sealed) = self.history.sealed() else {
            self.too_much = self.history.unsealed();
            metered::SEALED.of(["too-much"]).increment(1);
            return;
        };
        let at = self.push(at, sealed.event());
        self.too_much = 0;
        self.snapshot = Some(Snapshot { at, bytes: sealed.bytes.into() });
        metered::SEALED.of(["written"]).increment(1);
    }
}

impl std::fmt::Debug for RunLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunLog").field("tenant", &self.tenant).field("run", &self.run).finish_non_exhaustive()
    }
}

fn new_row(tenant: TenantId, run: RunId, started: &RunStarted, at: Timestamp) -> Run {
    Run {
        tenant,
        id: run,
        target: started.target.clone(),
        parent: started.parent.as_ref().map(|parent| parent.run),
        state: ltmc_model::run::State::Queued,
        session: started.session.clone(),
        turn: started.turn.map(|place| place.number),
        by: started.by.clone(),
        created_at: at,
        updated_at: at,
        epoch: Epoch(1),
        seq: Seq(0),
        wakes_at: None,
        taken_up: TakenUp::default(),
    }
}

/// The run's thread is lost: whatever was staged since is not in the record.
fn lost(kind: Kind, why: &str) -> StoreError {
    StoreError::new(kind, "run.append").because(why)
}
