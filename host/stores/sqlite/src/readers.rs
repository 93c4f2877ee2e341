//! Connections for those who read. A read is done by the thread that asks: SQLite answers a point query in microseconds, and
//! to wake another thread for it would take longer than that.
//!
//! Invariants: a connection is lent to a closure, and so never across an await. What holds up the thread that asks is bounded:
//! a read by a key ([`Readers::point`]), or one that is cut off where it turns out to be long, and done on a thread for what
//! blocks ([`Readers::search`]). What is long in any case begins there ([`Readers::scan`]). Long reads have turns (`policy/src/turns.rs`), so that
//! no two tenants have all of them, and a tenant's is cut off where it would take too much. Each is charged by what it took: to its tenant's turns in steps of
//! SQLite's machine, so that whoever reads much waits for whoever reads little, and to its tenant's part of the processors in time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ltmc_model::TenantId;
use ltmc_policy::Turns;
use ltmc_ports::{Kind, StoreError};
use ltmc_processor::Account;
use rusqlite::Connection;

use crate::error::{Error, store};
use crate::open::for_reading;

/// Long reads at once.
const SCANS: usize = 6;
/// How many long reads of a tenant's may wait.
const WAITING: usize = 1_024;
/// How long a long read waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Steps of SQLite's machine from one look at the budget to the next; a row takes some ten.
const STEPS: i32 = 1_000;
/// What a search may take of the thread that asks, in so many steps.
const SHORT: u32 = 20;
/// What a long read of a tenant's may take, in so many steps: some seconds.
const LONG: u32 = 50_000;
const UNBOUNDED: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    /// Those that nobody has; the last one that came back goes out first. There are as many as threads that read at once. None:
    /// closed.
    idle: Mutex<Option<Vec<Reader>>>,
    scans: Arc<Turns>,
}

#[derive(Debug)]
struct Reader {
    connection: Connection,
    /// What is left of its budget.
    left: Arc<AtomicU32>,
}

impl Reader {
    fn open(readers: &Readers) -> Result<Self, rusqlite::Error> {
        let connection = for_reading(&readers.path)?;
        let left = Arc::new(AtomicU32::new(UNBOUNDED));
        let budget = left.clone();
        let is_spent =
            move || budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        connection.progress_handler(STEPS, Some(is_spent))?;
        Ok(Self { connection, left })
    }
}

impl Readers {
    /// One connection is made now, the others when they are needed.
    pub(crate) fn open(path: PathBuf) -> Result<Arc<Self>, rusqlite::Error> {
        // bound: long reads
        let readers = Self { path, idle: Mutex::new(Some(Vec::new())), scans: Turns::new(SCANS, WAITING) };
        let first = Reader::open(&readers)?;
        readers.give_back(first);
        Ok(Arc::new(readers))
    }

    /// Whoever asks from now on is refused.
    pub(crate) fn close(&self) {
        drop(self.idle().take());
    }

    /// Reads what is found by its key, or a page of so many rows and bytes by an index, here and now.
    pub(crate) fn point<T>(
        &self,
        op: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        self.lend(UNBOUNDED, read).map_err(|e| store(op, e))
    }

    /// Reads a page of which nobody knows how many rows are to be looked at for it: here, or anew elsewhere where they are many.
    pub(crate) async fn search<T: Send + 'static>(
        self: &Arc<Self>,
        op: &'static str,
        whose: &TenantId,
        read: impl Fn(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.lend(SHORT, &read) {
            Err(error) if error.is_interrupt() => self.scan(op, whose, read).await,
            found => found.map_err(|e| store(op, e)),
        }
    }

    /// Reads for long, on a thread for what blocks. What the host reads for itself is not cut off.
    pub(crate) async fn scan<T: Send + 'static>(
        self: &Arc<Self>,
        op: &'static str,
        whose: &TenantId,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(PATIENCE, self.scans.take(whose)).await.ok().flatten();
        let turn = turn.ok_or_else(|| StoreError::new(Kind::Unavailable, op).because("too many read for long"))?;
        let budget = if *whose == TenantId::host() { UNBOUNDED } else { LONG };
        let readers = self.clone();
        let (mut turn, account) = (turn, Account::of(whose));
        let work = move || {
            let began = Instant::now();
            let (found, steps) = readers.lend_counting(budget, read);
            turn.charge(u64::from(steps.max(1)));
            account.charge(began.elapsed());
            found
        };
        // bound: long reads
        let found = tokio::task::spawn_blocking(work).await;
        found.map_err(|e| StoreError::new(Kind::Internal, op).because(e))?.map_err(|e| match e.is_interrupt() {
            true => StoreError::new(Kind::TooCostly, op)
                .because("it looks at more than the host does for one read: ask for less"),
            false => store(op, e),
        })
    }

    /// A connection comes back after it was used; one in whose use somebody panicked does not.
    fn lend<T>(&self, budget: u32, read: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.lend_counting(budget, read).0
    }

    /// The same; and what it took of its budget.
    fn lend_counting<T>(
        &self,
        budget: u32,
        read: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> (Result<T, Error>, u32) {
        let reader = match self.idle().as_mut().ok_or(Error::Closed).map(Vec::pop) {
            Ok(Some(reader)) => reader,
            Ok(None) => match Reader::open(self) {
                Ok(reader) => reader,
                Err(error) => return (Err(error.into()), 0),
            },
            Err(error) => return (Err(error), 0),
        };
        reader.left.store(budget, Ordering::Relaxed);
        let found = read(&reader.connection);
        let took = budget.saturating_sub(reader.left.load(Ordering::Relaxed));
        self.give_back(reader);
        (found, took)
    }

    fn give_back(&self, reader: Reader) {
        if let Some(idle) = self.idle().as_mut() {
            idle.push(reader);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Reader>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::bind::found;

    /// Counts up to `most`, step by step; by which thread.
    fn count(most: u32) -> impl Fn(&Connection) -> Result<(i64, thread::ThreadId), Error> + Send + 'static {
        move |db| {
            let sql =
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?) select count(*) from n";
            Ok((found(db, sql, [most])?.unwrap_or(0), thread::current().id()))
        }
    }

    #[tokio::test]
    async fn what_turns_out_to_be_long_is_done_elsewhere_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.db");
        Connection::open(&path).unwrap().execute_batch("create table one (id integer)").unwrap();
        let (readers, here) = (Readers::open(path).unwrap(), thread::current().id());
        let acme: TenantId = "acme".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(readers.search("test", &acme, count(100)).await.unwrap(), (100, here));
            let (counted, thread) = readers.search("test", &acme, count(100_000)).await.unwrap();
            assert_eq!((counted, thread == here), (100_000, false));
            let (counted, thread) = readers.scan("test", &acme, count(100)).await.unwrap();
            assert_eq!((counted, thread == here), (100, false));
            // Whoever says that a read is short is believed.
            assert_eq!(readers.point("test", count(100_000)).unwrap(), (100_000, here));
        }
        assert_eq!(readers.idle().as_ref().unwrap().len(), 1, "one after the other they need one connection");
        readers.close();
        assert_eq!(readers.search("test", &acme, count(1)).await.unwrap_err().kind, Kind::Unavailable);
        assert_eq!(readers.scan("test", &acme, count(1)).await.unwrap_err().kind, Kind::Unavailable);
    }

    #[tokio::test]
    async fn a_tenants_read_is_cut_off_where_it_takes_too_much_and_the_hosts_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.db");
        Connection::open(&path).unwrap().execute_batch("create table one (id integer)").unwrap();
        let readers = Readers::open(path).unwrap();
        let (acme, much) = ("acme".parse().unwrap(), 10_000_000);
        for _ in 0..2 {
            let cut = readers.search("test", &acme, count(much)).await.unwrap_err();
            assert_eq!((cut.kind, cut.op), (Kind::TooCostly, "test"), "{cut}");
        }
        assert_eq!(readers.scan("test", &TenantId::host(), count(much)).await.unwrap().0, i64::from(much));
        assert_eq!(
            readers.search("test", &acme, count(100_000)).await.unwrap().0,
            100_000,
            "its next has a budget of its own"
        );
    }

    #[tokio::test]
    async fn one_tenants_long_reads_leave_others_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.db");
        Connection::open(&path).unwrap().execute_batch("create table one (id integer)").unwrap();
        let readers = Readers::open(path).unwrap();
        let [acme, beta]: [TenantId; 2] = ["acme", "beta"].map(|name| name.parse().unwrap());
        let (held, (began, begun)) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel());
        let release = Arc::new(Mutex::new(held.1));
        let long: Vec<_> = (0..SCANS)
            .map(|_| {
                let (readers, acme, release, began) = (readers.clone(), acme.clone(), release.clone(), began.clone());
                let read = move |_: &Connection| {
                    began.send(()).unwrap();
                    let _ = release.lock().unwrap().recv();
                    Ok(())
                };
                tokio::spawn(async move { readers.scan("test", &acme, read).await })
            })
            .collect();
        while begun.try_iter().count() == 0 {
            tokio::task::yield_now().await;
        }
        let other = readers.scan("test", &beta, count(100)).await;
        assert_eq!(other.expect("half of the turns are not acme's").0, 100);
        drop(held.0);
        for one in long {
            one.await.unwrap().unwrap();
        }
    }

    /// Two tenants wait for the same turn, again and again: one whose walks are long, and one whose are short.
    #[tokio::test]
    async fn long_walks_of_one_tenant_let_short_ones_of_another_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.db");
        Connection::open(&path).unwrap().execute_batch("create table one (id integer)").unwrap();
        let first =
            Reader::open(&Readers { path: path.clone(), idle: Mutex::default(), scans: Turns::new(1, 64) }).unwrap();
        let readers = Arc::new(Readers { path, idle: Mutex::new(Some(vec![first])), scans: Turns::new(1, 64) });
        let [acme, beta]: [TenantId; 2] = ["acme", "beta"].map(|name| name.parse().unwrap());
        let held = readers.scans.take(&"other".parse().unwrap()).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let begin = |whose: &TenantId, most: u32| {
            let (readers, whose, order) = (readers.clone(), whose.clone(), order.clone());
            tokio::spawn(async move {
                let counted = readers.scan("test", &whose, count(most)).await.unwrap();
                order.lock().unwrap().push(whose);
                counted.0
            })
        };
        let walks: Vec<_> = (0..6).map(|_| begin(&acme, 100_000)).chain((0..6).map(|_| begin(&beta, 1_000))).collect();
        // All of them wait before the first one goes.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(held);
        for walk in walks {
            walk.await.unwrap();
        }
        let order = order.lock().unwrap();
        let last_of_beta = order.iter().rposition(|whose| *whose == beta).unwrap();
        assert_eq!(last_of_beta, 6, "one of acme's before them, and its others after them: {order:?}");
    }

    #[tokio::test]
    async fn a_read_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.db");
        Connection::open(&path).unwrap().execute_batch("create table one (id integer)").unwrap();
        let readers = Readers::open(path).unwrap();
        let written = readers.point("test", |db| Ok(db.execute("insert into one values (1)", [])?));
        assert_eq!(written.unwrap_err().kind, Kind::Unavailable);
    }
}
