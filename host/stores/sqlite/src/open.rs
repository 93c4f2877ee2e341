//! Opening a data directory: its lock, its database, its migrations; and how every connection is set.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ltmc_model::{Position, TenantId, Timestamp};
use ltmc_ports::StoreError;
use ltmc_ports::journal::{Audit, ChainEnds, Kept};
use ltmc_ports::log::Ends;
use ltmc_ports::record::{Backend, OpenError, Settings};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{broadcast, watch};

use crate::bind::{found, number};
use crate::counts::Counts;
use crate::error::Error;
use crate::journal;
use crate::log::Trimmed;
use crate::purge;
use crate::readers::Readers;
use crate::reserve::Reserve;
use crate::revisions::Revisions;
use crate::verify;
use crate::writer::{self, Needs, Tail, WriterOptions, Writing};

/// The database in the data directory.
const FILE: &str = "record.db";
/// Whoever has this file locked owns the directory.
const LOCK: &str = "lock";
/// Groups of deltas that somebody who follows the log may be behind before it reads on from the record.
const FOLLOWERS_BEHIND: usize = 1_024;

/// What each version of the schema adds to the one before it. The version of a database is its `user_version`.
const MIGRATIONS: [&str; 26] = [
    include_str!("../migrations/0001_record.sql"),
    include_str!("../migrations/0002_context.sql"),
    include_str!("../migrations/0003_suspended.sql"),
    include_str!("../migrations/0004_grants_of_versions.sql"),
    include_str!("../migrations/0005_usage.sql"),
    include_str!("../migrations/0006_identity.sql"),
    include_str!("../migrations/0007_taken_up.sql"),
    include_str!("../migrations/0008_counting.sql"),
    include_str!("../migrations/0009_children.sql"),
    include_str!("../migrations/0010_deleted.sql"),
    include_str!("../migrations/0011_schedules.sql"),
    include_str!("../migrations/0012_waits.sql"),
    include_str!("../migrations/0013_snapshots.sql"),
    include_str!("../migrations/0014_sessions.sql"),
    include_str!("../migrations/0015_event_subjects.sql"),
    include_str!("../migrations/0016_holders.sql"),
    include_str!("../migrations/0017_rewinds.sql"),
    include_str!("../migrations/0018_triggers.sql"),
    include_str!("../migrations/0019_coming_sessions.sql"),
    include_str!("../migrations/0020_cascades.sql"),
    include_str!("../migrations/0021_watched_memory.sql"),
    include_str!("../migrations/0022_gathered_events.sql"),
    include_str!("../migrations/0023_ended_sessions.sql"),
    include_str!("../migrations/0024_state_timers.sql"),
    include_str!("../migrations/0025_kept_revisions.sql"),
    include_str!("../migrations/0026_session_times.sql"),
];

/// Where the record is, and how it is to be kept.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The data directory. It is made, for its owner only, where it is not there.
    pub dir: PathBuf,
    /// How many pages of 4 KiB the database may have; none: as many as the disk holds.
    pub max_pages: Option<u32>,
    /// Whether the log tells how far runs came: for databases that follow them.
    pub marks_runs: bool,
    /// Bytes that each tenant may have on disk, where its ceiling says nothing else.
    pub quota: u64,
    /// Bytes of the disk that are kept for those who make room on a full one; 0: none.
    pub reserve: u64,
}

impl OpenOptions {
    /// In this directory, with the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_pages: None, marks_runs: false, quota: u64::MAX, reserve: 0 }
    }
}

/// Where a record in SQLite is kept: a data directory.
#[derive(Debug, Clone)]
pub struct DataDirectory(pub PathBuf);

#[async_trait]
impl Backend for DataDirectory {
    fn exists(&self) -> bool {
        self.0.join(FILE).exists()
    }

    fn is_abandoned(&self) -> bool {
        let lock = std::fs::OpenOptions::new().write(true).open(self.0.join(LOCK));
        lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
    }

    fn is_in_use(&self) -> bool {
        let lock = std::fs::OpenOptions::new().write(true).open(self.0.join(LOCK));
        let is_locked =
            |lock| flock(&lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK);
        lock.is_ok_and(is_locked)
    }

    async fn open(&self, settings: Settings) -> Result<Arc<dyn ltmc_ports::Record>, OpenError> {
        let Settings { marks_runs, quota, reserve } = settings;
        let options = OpenOptions { marks_runs, quota, reserve, ..OpenOptions::new(&self.0) };
        Ok(Record::open(options).await?)
    }

    async fn ends(&self) -> Result<ChainEnds, OpenError> {
        Record::ends(&self.0).await
    }

    async fn audit(&self, kept: Kept) -> Result<Audit, OpenError> {
        Record::audit(&self.0, kept).await
    }
}

/// The record of one data directory.
pub struct Record {
    path: PathBuf,
    pub(crate) readers: Arc<Readers>,
    pub(crate) writing: Writing,
    pub(crate) tail: Tail,
    /// What was thrown away of the log.
    pub(crate) trimmed: Trimmed,
    /// Which record it is.
    pub(crate) id: String,
    /// The number of the last passage.
    pub(crate) passage: AtomicI64,
    /// What a tenant may have on disk where its ceiling says nothing.
    pub(crate) quota: u64,
    has_room: Arc<AtomicBool>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    _lock: File,
}

impl Record {
    /// Opens it, and makes it where it is not there.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is changed then.
    pub async fn open(options: OpenOptions) -> Result<Arc<Self>, OpenError> {
        let dir = &options.dir;
        let lock = take(dir)?;
        let path = dir.join(FILE);
        // On a full disk what follows needs the reserve already.
        let reserve = Reserve::open(dir, options.reserve);
        let has_room = reserve.has_room();
        let connection = prepare(&path)?;
        let sql = "select coalesce((select max(position) from log), 0), coalesce((select max(id) from passages), 0), \
                   (select value from meta where key = 'id')";
        let numbers = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let (end, passage, id): (i64, i64, i64) = numbers.map_err(|e| damaged(&path, e))?;
        let revisions = Revisions::load(&connection).map_err(|e| damaged(&path, e))?;
        let trimmed = Trimmed::load(&connection).map_err(|e| damaged(&path, e))?;
        let at = Position(number(end)).max(trimmed.last());
        let tail = Tail {
            ends: watch::Sender::new(Ends { visible: at, durable: at, ..Ends::default() }),
            // bound: news of the log
            news: broadcast::Sender::new(FOLLOWERS_BEHIND),
            newest: Arc::default(),
            revisions: Arc::new(revisions),
        };
        let readers = Readers::open(path.clone()).map_err(|e| damaged(&path, e))?;
        drop(connection);
        let (max_pages, marks_runs, quota) = (options.max_pages, options.marks_runs, options.quota);
        let writer = WriterOptions { path: path.clone(), max_pages, quota, reserve };
        let started = writer::start(writer, marks_runs, tail.clone());
        let (writing, thread) = started.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        Ok(Arc::new(Self {
            path,
            readers,
            writing,
            tail,
            trimmed,
            id: id_text(id),
            passage: AtomicI64::new(passage),
            quota,
            has_room,
            writer: Mutex::new(Some(thread)),
            _lock: lock,
        }))
    }

    /// Walks the chains of the record in `dir` without owning it: it changes nothing, and a host may run on it meanwhile. What
    /// somebody `kept` of them has to stand there still.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn audit(dir: &Path, kept: Kept) -> Result<Audit, OpenError> {
        Self::look(dir, move |db| verify::walk(db, &kept)).await
    }

    /// Which record is in `dir`, and how its chains end; without owning it, as [`Self::audit`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn ends(dir: &Path) -> Result<ChainEnds, OpenError> {
        Self::look(dir, |db| {
            let id = found(db, "select value from meta where key = 'id'", [])?.map(id_text).unwrap_or_default();
            let is_known = schema(db)? == KNOWN;
            let deleted = if is_known { purge::deleted(db)?.into_iter().collect() } else { BTreeSet::new() };
            Ok(ChainEnds { id, heads: journal::heads(db, None, u32::MAX)?, gone: purge::gone(db)?, deleted })
        })
        .await
    }

    /// Reads of the record in `dir` without owning it.
    async fn look<T: Send + 'static>(
        dir: &Path,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, OpenError> {
        let path = dir.join(FILE);
        let look = {
            let path = path.clone();
            move || {
                let connection = for_reading(&path)?;
                match schema(&connection)? {
                    found if found > KNOWN => Ok(Err(OpenError::Newer { path, found, known: KNOWN })),
                    _ => read(&connection).map(Ok),
                }
            }
        };
        // bound: threads beside
        let looked: Result<_, Error> = tokio::task::spawn_blocking(look).await.map_err(|e| damaged(&path, e))?;
        looked.map_err(|e| damaged(&path, e))?
    }

    /// A connection for somebody who reads for long, beside the readers' own.
    pub(crate) fn aside(&self) -> Result<Connection, rusqlite::Error> {
        for_reading(&self.path)
    }
}

#[async_trait]
impl ltmc_ports::Record for Record {
    async fn check(&self) -> Result<(), StoreError> {
        const OP: &str = "record.check";
        self.readers.point(OP, |db| Ok(schema(db)?))?;
        self.writing.side(OP, &TenantId::host(), Needs::Nothing, |_| Ok(())).await
    }

    fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    async fn old_log(&self, before: Timestamp) -> Result<Position, StoreError> {
        self.log_before(before).await
    }

    async fn trim_shares(&self, most: u64, to: Position, limit: u32) -> Result<u64, StoreError> {
        self.trim_shares(most, to, limit).await
    }

    async fn close(&self) {
        self.writing.close().await;
        // It has answered, or broken off: either way it is at its end.
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the record's writer broke off");
        }
        self.readers.close();
    }
}

/// A record's id, as those who follow it know it.
pub(crate) fn id_text(id: i64) -> String {
    format!("{id:016x}")
}

/// How every connection is set.
const PRAGMAS: [(&str, &str); 6] = [
    ("journal_mode", "wal"),
    ("synchronous", "normal"),
    ("foreign_keys", "off"),
    ("trusted_schema", "off"),
    ("wal_autocheckpoint", "2000"),
    ("journal_size_limit", "67108864"),
];
/// How long one waits for another.
const BUSY: Duration = Duration::from_secs(5);
/// Statements that it keeps prepared.
const PREPARED: usize = 128;

/// A connection of the writer's, with what counts its rows.
pub(crate) fn for_writing(path: &Path, counts: &Counts) -> Result<Connection, rusqlite::Error> {
    let connection = connect(path)?;
    counts.count(&connection)?;
    Ok(connection)
}

/// A connection that changes nothing.
pub(crate) fn for_reading(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect(path)?;
    connection.execute_batch("pragma query_only = on")?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    for (name, value) in PRAGMAS {
        connection.execute_batch(&format!("pragma {name} = {value}"))?;
    }
    Ok(connection)
}

/// How the record's connections are set, for benchmarks to compare it with a database of the same kind.
pub fn pragmas_for_benchmarks() -> impl Iterator<Item = (&'static str, &'static str)> {
    PRAGMAS.into_iter()
}

/// Makes the directory and takes it for this process, for as long as the file is open.
fn take(dir: &Path) -> Result<File, OpenError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
    is_own(dir, DEPTH)?;
    let path = dir.join(LOCK);
    let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(io(&path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(e) => Err(io(&path)(e.into())),
    }
}

/// How deep directories are in the data directory that hold what is loaded.
const DEPTH: u32 = 3;

/// Whether a directory and what is in it belongs to the user of this process, or to the superuser; it is its alone to write, and has no links in it.
fn is_own(dir: &Path, depth: u32) -> Result<(), OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let own = rustix::process::geteuid().as_raw();
    let is_ours = |path: &Path, found: &std::fs::Metadata| match found.uid() {
        owner if may_own(owner, own) => Ok(()),
        owner => Err(OpenError::Foreign { path: path.to_owned(), owner, own }),
    };
    let found = std::fs::metadata(dir).map_err(io(dir))?;
    is_ours(dir, &found)?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(OpenError::Shared { dir: dir.to_owned(), mode });
    }
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let entry = entry.map_err(io(dir))?;
        let found = match entry.metadata() {
            Ok(found) => found,
            // What somebody else swept just now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io(&entry.path())(error)),
        };
        if found.is_symlink() {
            return Err(OpenError::Link { path: entry.path() });
        }
        is_ours(&entry.path(), &found)?;
        if found.is_dir() && depth > 0 {
            is_own(&entry.path(), depth - 1)?;
        }
    }
    Ok(())
}

/// Whether what this user has may be loaded by that one: its own, and the superuser's, who may do anything.
fn may_own(owner: u32, own: u32) -> bool {
    owner == own || owner == 0
}

/// The database, at this version's schema.
fn prepare(path: &Path) -> Result<Connection, OpenError> {
    // Made before SQLite does: nobody else is ever to read it.
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let counts = Counts::default();
    let mut connection = for_writing(path, &counts).map_err(|e| damaged(path, e))?;
    let found = migrate(&mut connection, &counts).map_err(|e| damaged(path, e))?;
    if found > KNOWN {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: KNOWN });
    }
    Ok(connection)
}

/// A record without a file, empty.
pub(crate) fn in_memory() -> Result<Connection, rusqlite::Error> {
    let (mut db, counts) = (Connection::open_in_memory()?, Counts::default());
    counts.count(&db)?;
    migrate(&mut db, &counts)?;
    Ok(db)
}

/// The newest schema that this version knows.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// The schema that a database has.
pub(crate) fn schema(db: &Connection) -> Result<i64, rusqlite::Error> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings an older schema up to this version's, all of it or nothing; which it had before.
fn migrate(db: &mut Connection, counts: &Counts) -> Result<i64, rusqlite::Error> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = match schema(&transaction)? {
        0 => adopt(&transaction)?,
        found => found,
    };
    for sql in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(sql)?;
    }
    if found < KNOWN {
        counts.settle(&transaction)?;
        transaction.pragma_update(None, "user_version", KNOWN)?;
    }
    transaction.commit()?;
    Ok(found)
}

/// The schema of a record that was made when its versions stood in a table.
fn adopt(db: &Connection) -> Result<i64, rusqlite::Error> {
    let sql = "select 1 from sqlite_schema where name = '_sqlx_migrations'";
    if db.query_row(sql, [], |_| Ok(())).optional()?.is_none() {
        return Ok(0);
    }
    let found = db.query_row("select coalesce(max(version), 0) from _sqlx_migrations", [], |row| row.get(0))?;
    if found <= KNOWN {
        db.execute_batch("drop table _sqlx_migrations")?;
        db.pragma_update(None, "user_version", found)?;
    }
    Ok(found)
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), why: error.to_string() }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_ones_own_or_the_superusers() {
        assert!(may_own(5, 5) && may_own(0, 5) && may_own(0, 0));
        assert!(!may_own(6, 5) && !may_own(5, 0));
    }
}
