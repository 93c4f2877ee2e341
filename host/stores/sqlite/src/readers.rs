//! Connections for those who read: a few, made when they are first needed, and lent one by one.
//!
//! A pool of the driver's asks a connection whether it still lives each time it comes back, which for SQLite costs as much as
//! a query does. Here one whose thread has ended is made anew when it was lent in vain.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo,
};
use sqlx::{ConnectOptions as _, Connection as _, Either, Error, Execute, Executor, SqlStr};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a reader waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Readers {
    options: SqliteConnectOptions,
    turns: Semaphore,
    /// Those that nobody has; the last one that came back goes out first.
    idle: Mutex<Vec<SqliteConnection>>,
}

/// A connection that is lent. It comes back when this is dropped, also in the middle of a query: what is left of that ends
/// by itself.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<SqliteConnection>,
    _turn: SemaphorePermit<'a>,
}

impl Readers {
    /// At most so many; one of them is made now.
    pub(crate) async fn open(options: SqliteConnectOptions, most: usize) -> Result<Self, Error> {
        let first = options.connect().await?;
        Ok(Self { options, turns: Semaphore::new(most), idle: Mutex::new(vec![first]) })
    }

    /// Ends them. Whoever asks after that is refused.
    pub(crate) async fn close(&self) {
        self.turns.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            let _ = connection.close().await;
        }
    }

    async fn lend(&self) -> Result<Lent<'_>, Error> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await.map_err(|_| Error::PoolTimedOut)?;
        let turn = turn.map_err(|_| Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lent { readers: self, connection: Some(connection), _turn: turn })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent<'_> {
    fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.connection.as_mut().ok_or(Error::WorkerCrashed)
    }

    /// One whose thread has ended does not come back.
    fn judge<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if matches!(result, Err(Error::WorkerCrashed)) {
            self.connection = None;
        }
        result
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| !self.readers.turns.is_closed()) {
            self.readers.idle().push(connection);
        }
    }
}

impl<'c> Executor<'c> for &'c Readers {
    type Database = Sqlite;

    /// All rows are read before the first is given: readers ask for pages.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let all = async move {
            let mut lent = self.lend().await?;
            let all = lent.connection()?.fetch_many(query).try_collect::<Vec<_>>().await;
            Ok::<_, Error>(stream::iter(lent.judge(all)?).map(Ok))
        };
        stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<SqliteRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        Box::pin(async move {
            let mut lent = self.lend().await?;
            let found = lent.connection()?.fetch_optional(query).await;
            lent.judge(found)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<SqliteStatement, Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut lent = self.lend().await?;
            let prepared = lent.connection()?.prepare_with(sql, parameters).await;
            lent.judge(prepared)
        })
    }
}
