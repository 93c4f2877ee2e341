//! Opening a data directory: its lock, its database, its migrations; and how every connection is set.

use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ltmc_model::{Position, Timestamp};
use ltmc_ports::StoreError;
use ltmc_ports::journal::Audit;
use ltmc_ports::log::Ends;
use rusqlite::OpenFlags;
use rustix::fs::{FlockOperation, flock};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqlSafeStr as _};
use tokio::sync::{broadcast, watch};

use crate::error;
use crate::journal::number;
use crate::readers::Readers;
use crate::verify;
use crate::writer::{self, Tail, WriterOptions, Writing};

/// The database in the data directory.
const FILE: &str = "record.db";
/// Whoever has this file locked owns the directory.
const LOCK: &str = "lock";
/// Connections for readers. Each has a thread; SQLite answers a point query in microseconds.
const READERS: usize = 4;
/// Groups of deltas that somebody who follows the log may be behind before it reads on from the record.
const FOLLOWERS_BEHIND: usize = 1_024;

/// Written down here rather than found by sqlx's macro, which would have cargo compile sqlx and SQLite twice.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let files = [
        (1, "record", include_str!("../migrations/0001_record.sql")),
        (2, "context", include_str!("../migrations/0002_context.sql")),
    ];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(files.map(migration).into())
});

/// Where the record is, and how it is to be kept.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The data directory. It is made, for its owner only, where it is not there.
    pub dir: PathBuf,
    /// How many pages of 4 KiB the database may have; none: as many as the disk holds.
    pub max_pages: Option<u32>,
    /// Whether the log tells how far runs came: for databases that follow them.
    pub marks_runs: bool,
}

impl OpenOptions {
    /// In this directory, with the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_pages: None, marks_runs: false }
    }
}

/// Why a record cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another host has it.
    #[error("another host is running on {}", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error("{} was written by a newer version: its schema is {found}, this version knows up to {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The schema's version there.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// It is no record, or a damaged one.
    #[error("{} is not a record this version can use: {why}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        why: String,
    },
    /// The directory or a file in it cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The record of one data directory.
pub struct Record {
    path: PathBuf,
    pub(crate) readers: Readers,
    pub(crate) writing: Writing,
    pub(crate) tail: Tail,
    /// What was thrown away of the log.
    pub(crate) trimmed: AtomicU64,
    /// The number of the last passage.
    pub(crate) passage: AtomicI64,
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
        let mut connection = prepare(&path).await?;
        let sql = "select (select value from meta where key = 'revision'), (select value from meta where key = 'trimmed'), \
                   coalesce((select max(position) from log), 0), coalesce((select max(id) from passages), 0)";
        let found = sqlx::query(sql).fetch_one(&mut connection).await;
        let numbers = found.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)));
        let (highest, trimmed, end, passage): (i64, i64, i64, i64) = numbers.map_err(|e| damaged(&path, &e))?;
        let at = Position(number(end.max(trimmed)));
        let tail = Tail {
            ends: watch::Sender::new(Ends { visible: at, durable: at, ..Ends::default() }),
            news: broadcast::Sender::new(FOLLOWERS_BEHIND),
            newest: Arc::default(),
            revision: Arc::new(AtomicU64::new(number(highest))),
        };
        let readers = Readers::open(reading(&path), READERS).await.map_err(|e| damaged(&path, &e))?;
        connection.close().await.map_err(|e| damaged(&path, &e))?;
        let (max_pages, marks_runs) = (options.max_pages, options.marks_runs);
        let started = writer::start(WriterOptions { path: path.clone(), max_pages }, marks_runs, tail.clone());
        let (writing, thread) = started.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        Ok(Arc::new(Self {
            path,
            readers,
            writing,
            tail,
            trimmed: AtomicU64::new(number(trimmed)),
            passage: AtomicI64::new(passage),
            writer: Mutex::new(Some(thread)),
            _lock: lock,
        }))
    }

    /// Walks the chains of the record in `dir` without owning it: it changes nothing, and a host may run on it meanwhile.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn audit(dir: &Path) -> Result<Audit, OpenError> {
        let path = dir.join(FILE);
        let mut connection = reading(&path).connect().await.map_err(|e| damaged(&path, &e))?;
        let sql = "select max(version) from _sqlx_migrations";
        let found: Option<i64> =
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.map_err(|e| damaged(&path, &e))?;
        if let Some(found) = found.filter(|found| *found > known_schema()) {
            return Err(OpenError::Newer { path, found, known: known_schema() });
        }
        verify::walk(connection).await.map_err(|e| damaged(&path, &e))
    }

    /// A connection for somebody who reads for long, beside the readers' own.
    pub(crate) async fn aside(&self) -> Result<SqliteConnection, sqlx::Error> {
        reading(&self.path).connect().await
    }

    pub(crate) fn draw_revision(&self) -> u64 {
        self.tail.revision.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[async_trait]
impl ltmc_ports::Record for Record {
    async fn check(&self) -> Result<(), StoreError> {
        const OP: &str = "record.check";
        sqlx::query("select 1").execute(&self.readers).await.map_err(|e| error::store(OP, e))?;
        self.writing.side(OP, |_| Ok(())).await
    }

    async fn old_log(&self, before: Timestamp, most: u64) -> Result<Position, StoreError> {
        self.log_before(before, most).await
    }

    async fn close(&self) {
        self.writing.close().await;
        // It has answered, or broken off: either way it is at its end.
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the record's writer broke off");
        }
        self.readers.close().await;
    }
}

/// Whether a data directory has a record.
pub fn exists(dir: &Path) -> bool {
    dir.join(FILE).exists()
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

fn settings(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .statement_cache_capacity(PREPARED)
        .disable_statement_logging();
    PRAGMAS.into_iter().fold(options, |options, (name, value)| options.pragma(name, value))
}

/// The same, for the writer.
pub(crate) fn for_writing(path: &Path) -> Result<rusqlite::Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    for (name, value) in PRAGMAS {
        connection.execute_batch(&format!("pragma {name} = {value}"))?;
    }
    Ok(connection)
}

/// The same, for those who only read.
fn reading(path: &Path) -> SqliteConnectOptions {
    settings(path).create_if_missing(false).pragma("query_only", "on")
}

/// A database set as the record is, with every commit synced, for benchmarks to compare the record with.
pub fn bare_for_benchmarks(path: &Path) -> SqliteConnectOptions {
    settings(path).create_if_missing(true).synchronous(SqliteSynchronous::Full)
}

/// Makes the directory and takes it for this process, for as long as the file is open.
fn take(dir: &Path) -> Result<File, OpenError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
    let path = dir.join(LOCK);
    let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(io(&path))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(e) => Err(io(&path)(e.into())),
    }
}

/// The database, at this version's schema.
async fn prepare(path: &Path) -> Result<SqliteConnection, OpenError> {
    // Made before SQLite does: nobody else is ever to read it.
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let mut connection = settings(path).connect().await.map_err(|e| damaged(path, &e))?;
    MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => OpenError::Newer { path: path.to_owned(), found, known: known_schema() },
        other => OpenError::Damaged { path: path.to_owned(), why: other.to_string() },
    })?;
    Ok(connection)
}

/// The newest schema that this version knows.
fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

fn damaged(path: &Path, error: &sqlx::Error) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), why: error.to_string() }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

/// A state as the table keeps it.
pub(crate) fn state_number(state: ltmc_model::run::State) -> i64 {
    use ltmc_model::run::State;
    match state {
        State::Queued => 0,
        State::Running => 1,
        State::Waiting => 2,
        State::Completed => 3,
        State::Failed => 4,
        State::Cancelled => 5,
    }
}

/// The same, read back.
pub(crate) fn state_of(number: i64) -> Option<ltmc_model::run::State> {
    ltmc_model::run::State::ALL.into_iter().find(|state| state_number(*state) == number)
}

/// A target as the table keeps it: `agent NAME[@DIGEST]` or `workflow NAME`.
pub(crate) fn target_text(target: &ltmc_model::run::Target) -> (String, String) {
    use ltmc_model::run::Target;
    match target {
        Target::Agent(agent) => (format!("agent {agent}"), agent.name.to_string()),
        Target::Workflow(workflow) => (format!("workflow {workflow}"), workflow.to_string()),
    }
}

/// The same, read back.
pub(crate) fn target_of(text: &str) -> Option<ltmc_model::run::Target> {
    use ltmc_model::run::Target;
    let (kind, name) = text.split_once(' ')?;
    match kind {
        "agent" => ltmc_model::agent::AgentRef::from_str(name).ok().map(Target::Agent),
        "workflow" => name.parse().ok().map(Target::Workflow),
        _ => None,
    }
}
