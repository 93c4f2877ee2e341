//! The one writer: takes what is next in the line ([`crate::line`]), and commits it as one group, on a thread of its own.
//!
//! Invariants:
//! - An append is judged (length, epoch, what it was decided on) by what the record holds with everything before it in the
//!   group, and before anything of it is written. A group is committed whole or not at all; what a failed group would have made
//!   true is forgotten with it.
//! - Where a group breaks a constraint, its parts are tried one by one: one bad append never fails its neighbours.
//! - What a tenant may not have on disk any more, or what there is no room for, is refused with nothing of it written.
//! - A barrier is answered after a synced commit that carries everything before it. Commits without one are not synced;
//!   they are synced soon.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ltmc_model::chain::{Chain, Link};
use ltmc_model::commitment::Commitment;
use ltmc_model::delta::{Delta, MemoryChange, Topic};
use ltmc_model::journal::{Act, Change, Entry, Event};
use ltmc_model::run::Run;
use ltmc_model::{Digest, Epoch, Position, Revision, RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{IdempotencyKey, Snapshot};
use ltmc_ports::log::{Ends, Group};
use ltmc_ports::{Append, Changes, Durability, Kind, Receipt, StoreError};
use metrics::{Counter, Histogram, counter, histogram};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};

use crate::bind::{blob, execute, found, int, number, tenant};
use crate::counts::Counts;
use crate::deltas::{By, Row};
use crate::expects::Bounds;
use crate::line::{Line, Size};
use crate::memory::drawer;
use crate::open::for_writing;
use crate::purge::DELETED;
use crate::quota::{self, Purpose};
use crate::reserve::Reserve;
use crate::{
    acts, deltas, error, expects, frames, questions, schedules, sessions, snapshots, statements, subscriptions,
    triggers,
};

/// How long a commit without a barrier may stay unsynced.
const SOON: Duration = Duration::from_millis(200);
/// How often what has expired is thrown away, and how much at once.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_ROWS: usize = 1_000;
/// How many runs' ends are remembered; those of others are looked up.
const KNOWN: usize = 50_000;

/// The way to the writer, which ends when this is dropped.
pub(crate) struct Writing {
    line: Arc<Line<Order>>,
    marks_runs: bool,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.line.shut();
    }
}

enum Order {
    Write(Part),
    /// Statements that belong to no journal: what is made again at any time.
    Side(TenantId, Side, Needs, oneshot::Sender<Result<(), StoreError>>),
}

/// Whether statements beside the journal are done on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// They add something: not there.
    Room,
    /// They do not.
    Nothing,
}

/// Statements of somebody beside the journal.
type Side = Box<dyn FnOnce(&Connection) -> Result<(), rusqlite::Error> + Send>;

/// One part of a group.
struct Part {
    work: Work,
    /// The entries as bytes, with their digests.
    entries: Vec<Sealed>,
    /// The deltas as bytes.
    deltas: Vec<Vec<u8>>,
    bytes: usize,
    purpose: Purpose,
    durability: Durability,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Part {
    /// How many bytes there are more by it.
    fn more(&self) -> u64 {
        self.bytes as u64 + self.work.besides()
    }

    /// When it was made.
    fn at(&self) -> Timestamp {
        match &self.work {
            Work::Append(append) => append.run.updated_at,
            Work::Act { at, .. } => *at,
        }
    }
}

enum Work {
    Append(Box<Append>),
    Act { tenant: TenantId, at: Timestamp, act: Box<Act>, changes: Changes },
}

impl Work {
    fn tenant(&self) -> &TenantId {
        match self {
            Self::Append(append) => &append.run.tenant,
            Self::Act { tenant, .. } => tenant,
        }
    }

    fn changes(&self) -> &Changes {
        match self {
            Self::Append(append) => &append.changes,
            Self::Act { changes, .. } => changes,
        }
    }

    /// What it is for, where it has so many bytes.
    fn purpose(&self, bytes: usize) -> Purpose {
        match self {
            Self::Append(append) => Purpose::of_append(append, bytes),
            Self::Act { act, changes, .. } => Purpose::of_act(act, changes),
        }
    }

    /// Where its run stands as of one of its entries.
    fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Append(append) => append.snapshot.as_ref(),
            Self::Act { .. } => None,
        }
    }

    /// What it puts beside the record.
    fn besides(&self) -> u64 {
        match self {
            Self::Act { act, .. } => match &act.change {
                Change::AgentPushed(agent) => agent.size,
                _ => 0,
            },
            Self::Append(_) => 0,
        }
    }
}

impl Writing {
    /// Puts an append behind what was handed over before; what becomes of it.
    pub(crate) async fn hand_over(&self, mut append: Append, durability: Durability) -> Receipt {
        const OP: &str = "journal.append";
        if append.run.seq.0 != append.expected.0 + append.entries.len() as u64 {
            let why = "the row's length is not that of the journal after these entries";
            let error = StoreError::new(Kind::Internal, OP).because(why);
            return Box::pin(std::future::ready(Err(error)));
        }
        // Written out and hashed here: the writer never waits for a large entry.
        let mut commitments: Vec<Commitment> = append.changes.deltas.iter().flat_map(Commitment::of).collect();
        commitments.extend(append.idempotency.as_ref().map(IdempotencyKey::commitment));
        let entries = all_sealed(&append.entries, &commitments);
        if self.marks_runs {
            append.changes.deltas.extend(ltmc_ports::marks::of(&append).map(|mark| Delta::Run(Box::new(mark))));
        }
        self.send(OP, Work::Append(Box::new(append)), entries, durability).await
    }

    pub(crate) async fn act(
        &self,
        tenant: &TenantId,
        at: Timestamp,
        act: Act,
        changes: Changes,
    ) -> Result<(), StoreError> {
        let act = Box::new(act);
        let commitments: Vec<Commitment> = changes.deltas.iter().flat_map(Commitment::of).collect();
        // Also to nothing: of a chain that begins so it is known that all of its changes are committed to.
        let entry = Entry { at, event: Event::Act(act.clone()) };
        let entries = vec![sealed(entry.to_bytes_committing(&commitments))];
        let work = Work::Act { tenant: tenant.clone(), at, act, changes };
        self.send("catalog.act", work, entries, Durability::Barrier).await.await
    }

    async fn send(&self, op: &'static str, work: Work, entries: Vec<Sealed>, durability: Durability) -> Receipt {
        let deltas: Vec<Vec<u8>> = work.changes().deltas.iter().map(Delta::to_bytes).collect();
        // A delta is written twice: to the log, and as what it makes.
        let besides: usize = deltas.iter().map(|bytes| 2 * bytes.len()).sum();
        let bytes = besides + entries.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
        let (reply, answer) = oneshot::channel();
        let purpose = work.purpose(bytes);
        let tenant = work.tenant().clone();
        let size = bytes + work.snapshot().map_or(0, |snapshot| snapshot.bytes.len());
        let part = Part { work, entries, deltas, bytes, purpose, durability, reply };
        // Where it is closed the part is dropped, and its reply with it.
        self.line.join(&tenant, Size::Part(size), Order::Write(part)).await;
        Box::pin(async move { answer.await.map_err(|_| closed(op))? })
    }

    /// Statements in a transaction of their own, between groups, in a tenant's turn.
    pub(crate) async fn side(
        &self,
        op: &'static str,
        tenant: &TenantId,
        needs: Needs,
        work: impl FnOnce(&Connection) -> Result<(), rusqlite::Error> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.line.join(tenant, Size::Alone, Order::Side(tenant.clone(), Box::new(work), needs, reply)).await;
        answer.await.map_err(|_| closed(op))?
    }

    pub(crate) async fn close(&self) {
        self.line.close().await;
    }
}

fn closed(op: &'static str) -> StoreError {
    StoreError::new(Kind::Unavailable, op).because("the record is closed")
}

/// An entry as bytes, with their digest.
type Sealed = (Vec<u8>, Digest);

/// Entries of a run, the last of which commits to what becomes true by them.
fn all_sealed(entries: &[Entry], commitments: &[Commitment]) -> Vec<Sealed> {
    let last = entries.len().saturating_sub(1);
    let one = |(number, entry): (usize, &Entry)| match number == last && !commitments.is_empty() {
        true => sealed(entry.to_bytes_committing(commitments)),
        false => sealed(entry.to_bytes()),
    };
    entries.iter().enumerate().map(one).collect()
}

fn sealed(bytes: Vec<u8>) -> Sealed {
    let digest = Digest::of(&bytes);
    (bytes, digest)
}

/// What the writer's connection is made with.
pub(crate) struct WriterOptions {
    /// The database.
    pub(crate) path: PathBuf,
    /// How many pages it may have.
    pub(crate) max_pages: Option<u32>,
    /// What a tenant may have on disk where its ceiling says nothing.
    pub(crate) quota: u64,
    /// What is kept of the disk.
    pub(crate) reserve: Reserve,
}

/// Starts the writer's thread, from within a runtime. It ends when it is closed.
pub(crate) fn start(
    options: WriterOptions,
    marks_runs: bool,
    tail: Tail,
) -> std::io::Result<(Writing, std::thread::JoinHandle<()>)> {
    let line = Arc::new(Line::new());
    let position = tail.ends.borrow().visible;
    let writer = Writer {
        options,
        connection: None,
        full: false,
        unsynced: false,
        soon: Soon { line: line.clone(), runtime: Handle::current(), asked: false },
        swept: Timestamp::default(),
        known: Known { position, ..Known::default() },
        refusals: quota::Refusals::default(),
        bounds: Bounds::default(),
        counts: Counts::default(),
        tail,
        meters: Meters::new(),
    };
    let thread = std::thread::Builder::new().name("record".to_owned()).spawn({
        let line = line.clone();
        move || writer.run(&line)
    })?;
    Ok((Writing { line, marks_runs }, thread))
}

/// Asks for a sync after a while.
struct Soon {
    line: Arc<Line<Order>>,
    runtime: Handle,
    asked: bool,
}

impl Soon {
    fn ask(&mut self) {
        if std::mem::replace(&mut self.asked, true) {
            return;
        }
        let line = self.line.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(SOON).await;
            line.sync();
        });
    }
}

/// The log's end, and who follows it.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) ends: watch::Sender<Ends>,
    pub(crate) news: broadcast::Sender<Arc<Group>>,
    pub(crate) newest: Arc<Newest>,
    pub(crate) revision: Arc<AtomicU64>,
}

/// The newest place of each topic: who follows some of them sees at once whether there is anything for it.
#[derive(Debug, Default)]
pub(crate) struct Newest([AtomicU64; Topic::ALL.len()]);

impl Newest {
    fn saw(&self, rows: &[Row<'_>]) {
        for row in rows {
            self.0[row.delta.topic() as usize].fetch_max(row.position.0, Ordering::Release);
        }
    }

    pub(crate) fn of(&self, topics: &[Topic]) -> Position {
        let newest = topics.iter().map(|topic| self.0[*topic as usize].load(Ordering::Acquire)).max();
        Position(newest.unwrap_or(0))
    }
}

struct Writer {
    options: WriterOptions,
    /// None before it is needed, and after it broke.
    connection: Option<Connection>,
    /// Whether commits are synced at the moment.
    full: bool,
    /// Whether there is anything to sync.
    unsynced: bool,
    soon: Soon,
    swept: Timestamp,
    known: Known,
    refusals: quota::Refusals,
    bounds: Bounds,
    counts: Counts,
    tail: Tail,
    meters: Meters,
}

/// What a tenant has on disk, and what it may have.
#[derive(Debug, Clone, Copy)]
struct Room {
    used: u64,
    allowed: u64,
}

impl Room {
    /// Whether there is any for a snapshot besides what its part adds: it is nothing that has to be kept.
    fn has_for(self, part: &Part, snapshot: &Snapshot) -> bool {
        let more = part.more() + snapshot.bytes.len() as u64 + snapshots::ROW;
        part.purpose == Purpose::Adds && self.used.saturating_add(more) <= self.allowed
    }
}

/// What it counts.
struct Meters {
    appends: Counter,
    group: Histogram,
    commit: Histogram,
}

impl Meters {
    fn new() -> Self {
        Self {
            appends: counter!("ltmc_journal_appends_total"),
            group: histogram!("ltmc_journal_group_size"),
            commit: histogram!("ltmc_journal_commit_seconds"),
        }
    }
}

/// Where journals, chains and the log end.
#[derive(Default)]
struct Known {
    runs: HashMap<(TenantId, RunId), End>,
    chains: HashMap<TenantId, Ledger>,
    /// What tenants have on disk besides journals, after the last commit.
    besides: HashMap<TenantId, u64>,
    /// What they may have: forgotten where it may have changed.
    allowed: HashMap<TenantId, u64>,
    /// Tenants that are deleted, of which nothing is written; none: not looked up yet.
    deleted: Option<BTreeSet<TenantId>>,
    position: Position,
}

impl Known {
    /// Nothing is left of a tenant: another may have its name.
    fn forget(&mut self, tenant: &TenantId) {
        self.runs.retain(|(of, _), _| of != tenant);
        self.chains.remove(tenant);
        self.besides.remove(tenant);
        self.allowed.remove(tenant);
        if let Some(deleted) = &mut self.deleted {
            deleted.remove(tenant);
        }
    }

    /// What was counted has been committed.
    fn settled(&mut self, counts: &Counts) {
        for (tenant, count) in counts.take() {
            if let Ok(tenant) = TenantId::recorded(&tenant)
                && let Some(besides) = self.besides.get_mut(&tenant)
            {
                *besides = besides.saturating_add_signed(count.bytes);
            }
        }
    }
}

/// The end of a tenant's chain, and what its journals take.
#[derive(Debug, Clone, Copy, Default)]
struct Ledger {
    chain: Chain,
    bytes: u64,
}

/// Where a run's journal ends; none: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    epoch: Epoch,
    seq: Seq,
    over: bool,
}

/// What a group will have made true.
#[derive(Default)]
struct Next {
    runs: HashMap<(TenantId, RunId), End>,
    chains: HashMap<TenantId, Ledger>,
    /// Tenants that are deleted by it, and those of which nothing is left by it.
    deleted: BTreeSet<TenantId>,
    gone: BTreeSet<TenantId>,
    position: Position,
}

impl Next {
    /// Writes what stands once a group.
    fn finish(&self, db: &Connection) -> Result<(), rusqlite::Error> {
        for (tenant, ledger) in &self.chains {
            statements::chain(db, tenant, &ledger.chain, ledger.bytes)?;
        }
        if self.runs.is_empty() {
            // A synced commit needs something to write, also where all there is was written before.
            statements::touch(db)?;
        }
        Ok(())
    }
}

impl Writer {
    fn run(mut self, line: &Line<Order>) {
        let ending = line.ending();
        let mut before = 0;
        while let Some(taken) = line.take(before) {
            let mut group = Vec::with_capacity(taken.orders.len());
            for order in taken.orders {
                match order {
                    Order::Write(part) => group.push(part),
                    Order::Side(of, work, needs, reply) => drop(reply.send(self.side(&of, work, needs))),
                }
            }
            before = group.len();
            if !group.is_empty() {
                self.group(group);
            }
            if taken.sync {
                before = 0;
                self.sync_late();
            }
        }
        if let Err(error) = self.sync() {
            tracing::error!(%error, "the record could not be synced at its end");
        }
        if let Some(connection) = self.connection.take()
            && let Err((_, error)) = connection.close()
        {
            tracing::warn!(%error, "the record's writer did not close well");
        }
        drop(ending);
    }

    /// Commits a group, or, where that breaks a constraint, its parts one by one; answers everybody.
    fn group(&mut self, mut parts: Vec<Part>) {
        let begun = Instant::now();
        let count = parts.len();
        let now = parts.iter().map(Part::at).max().unwrap_or_default();
        self.meters.group.record(count as f64);
        let committed = match self.commit(&mut parts) {
            // What does not need room comes through with what is kept.
            Err(error) if error.kind == Kind::Full && self.options.reserve.release() => self.commit(&mut parts),
            committed => committed,
        };
        match committed {
            Ok(refused) => self.answer(parts, refused),
            Err(error) if error.kind == Kind::Conflict && count > 1 => {
                for part in parts {
                    let mut alone = vec![part];
                    match self.commit(&mut alone) {
                        Ok(refused) => self.answer(alone, refused),
                        Err(error) => fail(alone, &error),
                    }
                }
            }
            Err(error) => fail(parts, &error),
        }
        self.meters.commit.record(begun.elapsed());
        self.sweep(now);
    }

    fn answer(&self, parts: Vec<Part>, refused: Vec<Option<StoreError>>) {
        self.meters.appends.increment(parts.len() as u64);
        for (part, refused) in parts.into_iter().zip(refused) {
            // Whoever does not wait any more need not be told.
            let _ = part.reply.send(refused.map_or(Ok(()), Err));
        }
    }

    /// Does what somebody wants done beside the journal.
    fn side(&mut self, of: &TenantId, work: Side, needs: Needs) -> Result<(), StoreError> {
        const OP: &str = "record.side";
        if !self.options.reserve.look() && needs == Needs::Room {
            return Err(StoreError::new(Kind::Full, OP));
        }
        let done = self.transaction(false, |writer, db| match writer.is_deleted(db, &Next::default(), of)? {
            true => Ok(Err(StoreError::new(Kind::Fenced, OP).because("the tenant is deleted"))),
            false => work(db).map(Ok),
        });
        done.map_err(|e| error::store(OP, e))?
    }

    /// Commits those that can be; says which were refused. An error: nothing of the group is true.
    fn commit(&mut self, parts: &mut [Part]) -> Result<Vec<Option<StoreError>>, StoreError> {
        const OP: &str = "journal.append";
        self.look_up(parts).map_err(|e| error::store(OP, e))?;
        let barrier = parts.iter().any(|part| part.durability == Durability::Barrier);
        let bare = |part: &Part| part.entries.is_empty() && part.deltas.is_empty();
        if parts.iter().all(bare) && !(barrier && self.unsynced) {
            return Ok(parts.iter().map(|part| self.judge(&Next::default(), part).err()).collect());
        }
        let has_room = self.options.reserve.look();
        let mut next = Next { position: self.known.position, ..Next::default() };
        let mut rows = Vec::new();
        let mut refused = Vec::with_capacity(parts.len());
        self.begin();
        let done = self.transaction(barrier, |writer, db| {
            for part in parts.iter() {
                let is_full = !has_room && !part.purpose.is_from_reserve();
                refused.push(match is_full {
                    true => Some(StoreError::new(Kind::Full, OP)),
                    false => writer.write(db, &mut next, &mut rows, part)?,
                });
            }
            next.finish(db)
        });
        done.map_err(|e| self.failed(OP, e))?;
        let Next { runs, chains, deleted, gone, .. } = next;
        self.known.runs.extend(runs);
        self.known.chains.extend(chains);
        self.known.deleted.iter_mut().for_each(|known| known.extend(deleted.iter().cloned()));
        for tenant in &gone {
            self.known.forget(tenant);
            self.bounds = Bounds::default();
        }
        let written = parts.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let grown = written.filter_map(|(part, _)| match &part.work {
            Work::Append(append) if !append.entries.is_empty() => Some(&append.run),
            Work::Append(_) | Work::Act { .. } => None,
        });
        self.committed(&rows, grown, barrier);
        if self.known.runs.len() > KNOWN {
            self.known.runs.retain(|_, end| !end.over);
        }
        Ok(refused)
    }

    /// Writes one part, within the transaction that is open. Some: why it is refused; nothing of it is then written.
    fn write<'a>(
        &mut self,
        db: &Connection,
        next: &mut Next,
        rows: &mut Vec<Row<'a>>,
        part: &'a Part,
    ) -> Result<Option<StoreError>, rusqlite::Error> {
        if self.is_deleted(db, next, part.work.tenant())? {
            return Ok(Some(StoreError::new(Kind::Fenced, "journal.append").because("the tenant is deleted")));
        }
        if let Err(error) = self.judge(next, part) {
            return Ok(Some(error));
        }
        let (tenant, at) = (part.work.tenant(), part.at());
        if let Work::Append(append) = &part.work
            && let Some(start) = &append.scheduled
            && !schedules::allows(db, tenant, start)?
        {
            return Ok(Some(StoreError::new(Kind::Conflict, "journal.append")));
        }
        if let Work::Append(append) = &part.work
            && let Some(start) = &append.triggered
            && !triggers::allows(db, tenant, start, append.run.created_at)?
        {
            return Ok(Some(StoreError::new(Kind::Conflict, "journal.append")));
        }
        if let Work::Append(append) = &part.work
            && let Some(kind) = sessions::refuse(db, append)?
        {
            return Ok(Some(StoreError::new(kind, "journal.append")));
        }
        let Changes { deltas, expects } = part.work.changes();
        for expect in expects {
            if !expects::holds(db, &mut self.bounds, tenant, at, expect)? {
                return Ok(Some(StoreError::new(Kind::Stale, "journal.append")));
            }
        }
        for delta in deltas {
            if !deltas::is_newer(db, tenant, delta)? {
                return Ok(Some(StoreError::new(Kind::Stale, "journal.append")));
            }
        }
        let room = self.room(db, next, tenant)?;
        if let Err(error) = self.is_within_quota(room, part) {
            return Ok(Some(error));
        }
        let (run, expected) = match &part.work {
            Work::Append(append) => (append.run.id, append.expected),
            Work::Act { .. } => {
                let end = self.end(next, tenant, RunId::ledger());
                (RunId::ledger(), end.map_or(Seq(0), |end| end.seq))
            }
        };
        let seq = self.journal(db, next, part, run, expected)?;
        let end = match &part.work {
            Work::Append(append) => {
                let row = &append.run;
                statements::run(db, row)?;
                questions::follow(db, row, &append.entries)?;
                subscriptions::follow(db, row, &append.entries)?;
                sessions::follow(db, row, &append.entries)?;
                if row.state.is_over() {
                    statements::wake(db, row)?;
                }
                if let Some(key) = &append.idempotency {
                    statements::idempotency(db, tenant, key, at)?;
                }
                if let Some(start) = &append.scheduled {
                    schedules::start(db, tenant, row.id, start)?;
                }
                if let Some(start) = &append.triggered {
                    triggers::start(db, row, start)?;
                }
                triggers::follow(db, row, &append.entries)?;
                if let Some(snapshot) = append.snapshot.as_ref().filter(|snapshot| room.has_for(part, snapshot)) {
                    snapshots::keep(db, tenant, row.id, snapshot)?;
                }
                End { epoch: row.epoch, seq, over: row.state.is_over() || row.wakes_at.is_some() }
            }
            Work::Act { act, .. } => {
                acts::perform(db, tenant, at, act)?;
                match &act.change {
                    Change::CeilingSet { tenant, .. } => drop(self.known.allowed.remove(tenant)),
                    Change::TenantDeleted { tenant } => drop(next.deleted.insert(tenant.clone())),
                    Change::TenantGone { head } => drop(next.gone.insert(head.tenant.clone())),
                    _ => {}
                }
                End { epoch: Epoch(0), seq, over: false }
            }
        };
        next.runs.insert((tenant.clone(), run), end);
        let by = match &part.work {
            Work::Append(append) => append.run.turn.map_or(By::Anybody, By::Turn),
            Work::Act { act, .. } => match &act.change {
                Change::SessionRewound { .. } | Change::SessionOpened { .. } => By::Rewinding,
                _ => By::Anybody,
            },
        };
        for (delta, bytes) in deltas.iter().zip(&part.deltas) {
            next.position = next.position.next();
            let row = Row { position: next.position, tenant, at, delta, bytes, by };
            self.perform(db, &row)?;
            rows.push(row);
        }
        Ok(None)
    }

    /// Whether a tenant is deleted, as the group has it so far.
    fn is_deleted(&mut self, db: &Connection, next: &Next, tenant: &TenantId) -> Result<bool, rusqlite::Error> {
        if self.known.deleted.is_none() {
            let sql = "select name from tenants where deleted_at is not null";
            let names = db.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            self.known.deleted = Some(names.iter().filter_map(|name| TenantId::recorded(name).ok()).collect());
        }
        let known = self.known.deleted.as_ref().is_some_and(|deleted| deleted.contains(tenant));
        Ok((known && !next.gone.contains(tenant)) || next.deleted.contains(tenant))
    }

    /// Makes a row true, within the transaction that is open.
    fn perform(&self, db: &Connection, row: &Row<'_>) -> Result<(), rusqlite::Error> {
        if let Some(revision) = deltas::revision(row.delta) {
            self.counts.drawn(row.tenant.as_str(), revision);
        }
        row.perform(db)
    }

    /// What a tenant has on disk, as the group has it so far, and what it may have.
    fn room(&mut self, db: &Connection, next: &Next, tenant: &TenantId) -> Result<Room, rusqlite::Error> {
        let Known { chains, besides, allowed, .. } = &mut self.known;
        let journals = next.chains.get(tenant).or_else(|| chains.get(tenant)).map_or(0, |ledger| ledger.bytes);
        let besides = match besides.get(tenant) {
            Some(bytes) => *bytes,
            None => *besides.entry(tenant.clone()).or_insert(quota::besides(db, tenant)?),
        };
        let besides = besides.saturating_add_signed(self.counts.of(tenant.as_str()));
        let allowed = match allowed.get(tenant) {
            Some(bytes) => *bytes,
            None => *allowed.entry(tenant.clone()).or_insert(quota::allowed_now(db, tenant, self.options.quota)?),
        };
        Ok(Room { used: journals + besides, allowed })
    }

    /// Whether a tenant may have what a part adds. The error: how much it has and may have.
    fn is_within_quota(&mut self, Room { used, allowed }: Room, part: &Part) -> Result<(), StoreError> {
        let (tenant, more) = (part.work.tenant(), part.more());
        let checked = part.purpose.check(used, more, allowed);
        if checked.is_err() && self.refusals.is_to_be_said(tenant, Instant::now()) {
            tracing::warn!(%tenant, used, allowed, more, "refused: the tenant has all that it may have on disk");
        }
        checked
    }

    /// Writes a part's entries into the journal and the tenant's chain; how long the journal is then.
    fn journal(
        &self,
        db: &Connection,
        next: &mut Next,
        part: &Part,
        run: RunId,
        expected: Seq,
    ) -> Result<Seq, rusqlite::Error> {
        if part.entries.is_empty() {
            return Ok(expected);
        }
        let tenant = part.work.tenant();
        let known = next.chains.get(tenant).or_else(|| self.known.chains.get(tenant)).copied();
        let Ledger { mut chain, mut bytes } = known.unwrap_or_default();
        let place = chain.length + 1;
        let mut seq = expected;
        let mut written = Vec::with_capacity(part.bytes + 36 * part.entries.len());
        for (entry, digest) in &part.entries {
            seq = seq.next();
            let link: Link = chain.link(tenant, run, seq, digest);
            frames::push(&mut written, link, entry);
        }
        statements::journal(db, tenant, run, (expected.next(), seq), place, &written)?;
        let is_new = expected == Seq(0) && run != RunId::ledger();
        bytes += written.len() as u64 + quota::ROW + if is_new { quota::RUN } else { 0 };
        next.chains.insert(tenant.clone(), Ledger { chain, bytes });
        Ok(seq)
    }

    /// A commit begins. Counted before anybody can read anything of it, so that whoever then looks how many there were waits
    /// for this one too.
    fn begin(&self) {
        self.tail.ends.send_if_modified(|ends| {
            ends.begun += 1;
            false
        });
    }

    /// A commit came to nothing: nobody need wait for it, unless there is something else to wait for.
    fn failed(&self, op: &'static str, error: rusqlite::Error) -> StoreError {
        self.grown(!self.unsynced);
        error::store(op, error)
    }

    /// What was committed is known, synced soon where it is not yet, and told. The log's end comes first: whoever follows, and
    /// then looks at the end, either sees these rows there or is sent them.
    fn committed<'a>(&mut self, rows: &[Row<'_>], runs: impl Iterator<Item = &'a Run>, durable: bool) {
        self.unsynced = !durable;
        if !durable {
            self.soon.ask();
        }
        if let Some(last) = rows.last() {
            self.known.position = last.position;
        }
        self.tail.newest.saw(rows);
        self.grown(durable);
        if self.tail.news.receiver_count() == 0 {
            return;
        }
        let commit = self.tail.ends.borrow().begun;
        let rows: Vec<_> = rows.iter().map(|row| Arc::new(row.logged())).collect();
        let runs: Vec<Run> = runs.cloned().collect();
        if !rows.is_empty() || !runs.is_empty() {
            let _ = self.tail.news.send(Arc::new(Group { commit, rows, runs }));
        }
    }

    /// Says how far the log goes now.
    fn grown(&self, durable: bool) {
        let position = self.known.position;
        self.tail.ends.send_if_modified(|ends| {
            let before = *ends;
            ends.visible = position;
            if durable {
                (ends.durable, ends.synced) = (position, ends.begun);
            }
            *ends != before
        });
    }

    /// Whether the record ends where a part thinks it does.
    fn judge(&self, next: &Next, part: &Part) -> Result<(), StoreError> {
        let Work::Append(append) = &part.work else { return Ok(()) };
        let refuse = |kind| Err(StoreError::new(kind, "journal.append"));
        match (self.end(next, &append.run.tenant, append.run.id), append.previous) {
            (None, None) if append.expected == Seq(0) => Ok(()),
            (None | Some(_), None) => refuse(Kind::Conflict),
            // The writer knows of a run, or of entries, that the record does not have: they were lost.
            (None, Some(_)) => refuse(Kind::Fenced),
            (Some(end), Some(previous)) if end.epoch != previous || append.run.epoch < previous => refuse(Kind::Fenced),
            (Some(end), Some(_)) if end.seq < append.expected => refuse(Kind::Fenced),
            (Some(end), Some(_)) if end.seq > append.expected => refuse(Kind::Conflict),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    fn end(&self, next: &Next, tenant: &TenantId, run: RunId) -> Option<End> {
        let place = (tenant.clone(), run);
        next.runs.get(&place).or_else(|| self.known.runs.get(&place)).copied()
    }

    /// Reads the ends that a group needs and that are not known: of runs from before, and of tenants' chains.
    fn look_up(&mut self, parts: &[Part]) -> Result<(), rusqlite::Error> {
        let mut runs = Vec::new();
        let mut tenants = Vec::new();
        for part in parts {
            let (tenant, run, new) = match &part.work {
                Work::Append(append) => (&append.run.tenant, append.run.id, append.previous.is_none()),
                Work::Act { tenant, .. } => (tenant, RunId::ledger(), false),
            };
            // A new run is not looked for: where it is there after all, its first entry breaks a constraint.
            if !new && !self.known.runs.contains_key(&(tenant.clone(), run)) {
                runs.push((tenant.clone(), run));
            }
            if !self.known.chains.contains_key(tenant) {
                tenants.push(tenant.clone());
            }
        }
        for (tenant, run) in runs {
            let of = params![tenant.as_str(), blob(run)];
            let end = if run == RunId::ledger() {
                let sql = "select last from journal where tenant = ? and run = ? order by first desc limit 1";
                let last = found(self.connection()?, sql, of)?;
                last.map(|last| End { epoch: Epoch(0), seq: Seq(number(last)), over: false })
            } else {
                let sql = "select epoch, seq, state >= 3 or wakes_at is not null from runs where tenant = ? and id = ?";
                let end = |row: &rusqlite::Row<'_>| {
                    let epoch = Epoch(number(row.get(0)?));
                    Ok(End { epoch, seq: Seq(number(row.get(1)?)), over: row.get(2)? })
                };
                self.connection()?.prepare_cached(sql)?.query_row(of, end).optional()?
            };
            if let Some(end) = end {
                self.known.runs.insert((tenant, run), end);
            }
        }
        for tenant in tenants {
            let sql = "select length, head, bytes from chains where tenant = ?";
            let ledger = |row: &rusqlite::Row<'_>| {
                let chain = Chain { length: number(row.get(0)?), head: Link(row.get(1)?) };
                Ok(Ledger { chain, bytes: number(row.get(2)?) })
            };
            let ledger = self.connection()?.prepare_cached(sql)?.query_row([tenant.as_str()], ledger).optional()?;
            self.known.chains.insert(tenant, ledger.unwrap_or_default());
        }
        Ok(())
    }

    /// What `work` writes, in one transaction; `barrier`: on disk when it is done.
    fn transaction<T>(
        &mut self,
        barrier: bool,
        work: impl FnOnce(&mut Self, &Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        self.connection()?;
        // Taken out for as long as it works: `work` needs the writer too.
        let Some(db) = self.connection.take() else { return Err(rusqlite::Error::InvalidQuery) };
        let done = self.synchronous(&db, barrier).and_then(|()| {
            execute(&db, "begin immediate", [])?;
            let done = work(self, &db)?;
            self.counts.settle(&db)?;
            execute(&db, "commit", [])?;
            Ok(done)
        });
        let Err(error) = &done else {
            self.connection = Some(db);
            self.known.settled(&self.counts);
            return done;
        };
        // It may have failed before, within or after the transaction: outside of one there is nothing to roll back.
        self.full = false;
        self.counts.take();
        self.bounds = Bounds::default();
        self.known.allowed.clear();
        let outside = db.is_autocommit() || db.execute_batch("rollback").is_ok();
        if outside && db.execute_batch("pragma synchronous = normal").is_ok() {
            self.connection = Some(db);
        } else {
            tracing::warn!(%error, "the record's connection is made anew");
        }
        done
    }

    fn synchronous(&mut self, db: &Connection, full: bool) -> Result<(), rusqlite::Error> {
        if full != self.full {
            execute(db, if full { "pragma synchronous = full" } else { "pragma synchronous = normal" }, [])?;
            self.full = full;
        }
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut Connection, rusqlite::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = for_writing(&self.options.path, &self.counts)?;
                if let Some(pages) = self.options.max_pages {
                    connection.execute_batch(&format!("pragma max_page_count = {pages}"))?;
                }
                self.full = false;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Syncs what has not been for a while.
    fn sync_late(&mut self) {
        self.soon.asked = false;
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "a commit could not be synced; trying again");
            self.soon.ask();
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if !self.unsynced {
            return Ok(());
        }
        let done = self.transaction(true, |_, db| statements::touch(db));
        done.map_err(|e| error::store("journal.sync", e))?;
        self.unsynced = false;
        self.grown(true);
        Ok(())
    }

    /// Throws away what has expired by `now`: now and then, and not all at once.
    fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let swept = self.transaction(false, |_, db| statements::forget_idempotency(db, now, SWEEP_ROWS));
        let swept = swept.map_err(|e| error::store("record.sweep", e)).and_then(|()| self.end_memory(now));
        if let Err(error) = swept {
            tracing::warn!(%error, "what has expired could not be thrown away; trying again later");
        }
    }

    /// Deletes keys that have come to their end, like anybody else would: whoever watches sees it.
    fn end_memory(&mut self, now: Timestamp) -> Result<(), StoreError> {
        const OP: &str = "record.end_memory";
        let read = |e: error::Error| error::store(OP, e);
        let mut deltas = Vec::new();
        for (of, scope, owner, key) in self.ended(now).map_err(|e| error::store(OP, e))? {
            let drawer = drawer(scope, owner).map_err(read)?;
            let revision = Revision(self.tail.revision.fetch_add(1, Ordering::Relaxed) + 1);
            let delta = Delta::Memory(MemoryChange { drawer, key, revision, value: None, trail: None });
            let bytes = delta.to_bytes();
            deltas.push((tenant(of).map_err(read)?, delta, bytes));
        }
        if deltas.is_empty() {
            return Ok(());
        }
        let place = |number: usize| Position(self.known.position.0 + 1 + number as u64);
        let rows: Vec<Row<'_>> = deltas
            .iter()
            .enumerate()
            .map(|(n, (tenant, delta, bytes))| Row {
                position: place(n),
                tenant,
                at: now,
                delta,
                bytes,
                by: By::Anybody,
            })
            .collect();
        self.begin();
        let done = self.transaction(false, |writer, db| rows.iter().try_for_each(|row| writer.perform(db, row)));
        done.map_err(|e| self.failed(OP, e))?;
        self.committed(&rows, std::iter::empty(), false);
        Ok(())
    }

    /// Keys that have come to their end: tenant, scope, owner, key; not all at once.
    fn ended(&mut self, now: Timestamp) -> Result<Vec<(String, i64, String, String)>, rusqlite::Error> {
        let sql = format!(
            "select tenant, scope, owner, key from memory where expires_at <= ? and tenant not in {DELETED} limit ?"
        );
        let mut statement = self.connection()?.prepare_cached(&sql)?;
        let of = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        statement.query_map(params![int(now.millis()), SWEEP_ROWS as i64], of)?.collect()
    }
}

fn fail(parts: Vec<Part>, error: &StoreError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    for part in parts {
        let mut told = StoreError::new(error.kind, error.op);
        if let Some(cause) = &cause {
            told = told.because(cause.clone());
        }
        let _ = part.reply.send(Err(told));
    }
}
