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
//!
//! `order`: what is handed to it; `known`: what it knows of the record without reading it; `part`: one part of a group, judged and written;
//! `tail`: the log's end, and who is told of it; `sweep`: what has expired.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ltmc_model::{TenantId, Timestamp};
use ltmc_ports::{Durability, Kind, StoreError};
use metrics::{Counter, Histogram, counter, histogram};
use rusqlite::Connection;
use tokio::runtime::Handle;

use crate::bind::execute;
use crate::counts::Counts;
use crate::expects::Bounds;
use crate::line::Line;
use crate::open::for_writing;
use crate::quota;
use crate::reserve::Reserve;
use crate::{error, statements};

mod known;
mod order;
mod part;
mod sweep;
mod tail;

use known::{Known, Next};
pub(crate) use order::{Needs, Writing};
use order::{Order, Part, Side, Work, fail};
pub(crate) use tail::Tail;

/// How long a commit without a barrier may stay unsynced.
const SOON: Duration = Duration::from_millis(200);
/// How many runs' ends are remembered; those of others are looked up.
const KNOWN: usize = 50_000;

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
            self.tail.revisions.forget(tenant);
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
}
