//! Connections, time-outs.
//!
//! Invariants: a connection serves one at a time, and serves again only after everything that was asked on it was answered
//! and fetched. The driver's own pool takes back what was given up halfway, whose late answers would then be somebody
//! else's; so each of its pools holds one connection here, and what was not finished is dropped with its pool. The server
//! sees the end of a connection and ends what it was doing for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ltmc_ports::StoreError;
use neo4rs::{ConfigBuilder, Graph, Row, Txn};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::error::{self, Trouble};
use crate::open::Options;
use crate::schema;
use crate::statement::Statement;

/// Rows fetched at once.
const FETCH: usize = 1_000;
/// Changes are waited for at least so long: a thousand rows may come together.
const CHANGE: Duration = Duration::from_secs(30);

/// The way to a Neo4j.
pub(crate) struct Link {
    options: Options,
    address: String,
    permits: Semaphore,
    idle: Mutex<Vec<Graph>>,
    /// Whether the schema is known to be right. Forgotten with every connection that breaks: behind the next one there may
    /// be another server, or an empty one.
    prepared: AtomicBool,
    preparing: tokio::sync::Mutex<()>,
}

impl Link {
    pub(crate) fn new(options: Options, address: String) -> Self {
        // bound: connections to Neo4j
        let permits = Semaphore::new(options.max_connections);
        Self {
            options,
            address,
            permits,
            idle: Mutex::default(),
            prepared: AtomicBool::new(false),
            preparing: tokio::sync::Mutex::default(),
        }
    }

    /// The host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What is asked, in one statement, with all its rows; the schema is made right before.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        op: &'static str,
        statement: Statement,
    ) -> Result<Vec<T>, StoreError> {
        self.prepare(op).await?;
        self.ask_unprepared(op, self.options.timeout, statement).await.map_err(|trouble| error::store(op, trouble))
    }

    /// The same, whatever the schema is.
    pub(crate) async fn ask_unprepared<T: DeserializeOwned>(
        &self,
        op: &'static str,
        patience: Duration,
        statement: Statement,
    ) -> Result<Vec<T>, Trouble> {
        let until = Instant::now() + patience;
        let lease = self.lease(until).await?;
        // The driver's own way without a transaction takes whatever goes wrong with a connection for something that passes,
        // and tries for a minute.
        let asked = async {
            let mut inner = lease.graph.start_txn().await?;
            let rows = fetch(&mut inner, statement).await?;
            inner.commit().await?;
            Ok(rows)
        };
        let rows = self.wait(until, asked).await?;
        lease.give_back();
        read(op, rows)
    }

    /// Begins a transaction of changes; the schema is made right before.
    pub(crate) async fn begin(&self, op: &'static str) -> Result<Transaction<'_>, StoreError> {
        self.begin_for(op, self.options.timeout.max(CHANGE)).await
    }

    /// The same, for who asks several things: all of them together have as long as one.
    pub(crate) async fn begin_reading(&self, op: &'static str) -> Result<Transaction<'_>, StoreError> {
        self.begin_for(op, self.options.timeout).await
    }

    async fn begin_for(&self, op: &'static str, patience: Duration) -> Result<Transaction<'_>, StoreError> {
        self.prepare(op).await?;
        let begin = async {
            let until = Instant::now() + patience;
            // A server that does not answer at all is not waited for that long.
            let soon = Instant::now() + self.options.timeout;
            let lease = self.lease(soon).await?;
            let inner = self.wait(soon, lease.graph.start_txn()).await?;
            Ok(Transaction { op, until, inner, lease, link: self })
        };
        begin.await.map_err(|trouble| error::store(op, trouble))
    }

    /// Makes the schema right, once.
    pub(crate) async fn prepare(&self, op: &'static str) -> Result<(), StoreError> {
        if self.prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.preparing.lock().await;
        if !self.prepared.load(Ordering::Acquire) {
            schema::migrate(self).await.map_err(|trouble| error::store(op, trouble))?;
            self.prepared.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The schema is looked at again before anything else.
    pub(crate) fn unprepare(&self) {
        self.prepared.store(false, Ordering::Release);
    }

    /// For how long a reader waits.
    pub(crate) fn patience(&self) -> Duration {
        self.options.timeout
    }

    async fn lease(&self, until: Instant) -> Result<Lease<'_>, Trouble> {
        let permit = match timeout_at(until, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            _ => return Err(Trouble::Busy { address: self.address.clone() }),
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let graph = match idle {
            Some(graph) => graph,
            None => self.wait(until, Graph::connect(self.config()?)).await?,
        };
        Ok(Lease { graph, link: self, _permit: permit })
    }

    fn config(&self) -> Result<neo4rs::Config, Trouble> {
        let Options { url, user, password, database, .. } = &self.options;
        let config = ConfigBuilder::default()
            .uri(url.strip_suffix('/').unwrap_or(url))
            .user(user)
            .password(password)
            .max_connections(1)
            .fetch_size(FETCH);
        let config = if let Some(database) = database { config.db(database.as_str()) } else { config };
        config.build().map_err(|error| self.trouble(&error))
    }

    async fn wait<T>(
        &self,
        until: Instant,
        what: impl Future<Output = Result<T, neo4rs::Error>>,
    ) -> Result<T, Trouble> {
        match timeout_at(until, what).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.trouble(&error)),
            Err(_) => {
                self.unprepare();
                Err(Trouble::Slow { address: self.address.clone() })
            }
        }
    }

    fn trouble(&self, error: &neo4rs::Error) -> Trouble {
        self.unprepare();
        error::trouble(&self.address, &self.options.user, self.options.database.as_deref(), error)
    }
}

/// A connection in somebody's hands. Dropped, it is closed.
struct Lease<'a> {
    graph: Graph,
    link: &'a Link,
    _permit: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// Everything that was asked on it was answered: it may serve another.
    fn give_back(self) {
        let graph = self.graph.clone();
        self.link.idle.lock().unwrap_or_else(PoisonError::into_inner).push(graph);
    }
}

/// What is asked and changed together. Dropped, nothing is changed.
pub(crate) struct Transaction<'a> {
    op: &'static str,
    until: Instant,
    // Before the lease: its connection goes back to a pool that ends with the lease.
    inner: Txn,
    lease: Lease<'a>,
    link: &'a Link,
}

impl Transaction<'_> {
    /// Runs a statement of which nothing is read.
    pub(crate) async fn run(&mut self, statement: Statement) -> Result<(), StoreError> {
        let done = self.link.wait(self.until, self.inner.run(statement.query())).await;
        done.map_err(|trouble| error::store(self.op, trouble))
    }

    /// Runs a statement and reads its rows.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, statement: Statement) -> Result<Vec<T>, StoreError> {
        let asked = fetch(&mut self.inner, statement);
        let rows = self.link.wait(self.until, asked).await.and_then(|rows| read(self.op, rows));
        rows.map_err(|trouble| error::store(self.op, trouble))
    }

    /// Makes the changes true.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let Self { op, until, inner, lease, link } = self;
        link.wait(until, inner.commit()).await.map_err(|trouble| error::store(op, trouble))?;
        lease.give_back();
        Ok(())
    }
}

async fn fetch(inner: &mut Txn, statement: Statement) -> Result<Vec<Row>, neo4rs::Error> {
    let mut stream = inner.execute(statement.query()).await?;
    let mut rows = Vec::new();
    while let Some(row) = stream.next(&mut *inner).await? {
        rows.push(row);
    }
    Ok(rows)
}

fn read<T: DeserializeOwned>(op: &'static str, rows: Vec<Row>) -> Result<Vec<T>, Trouble> {
    let read = rows.iter().map(Row::to::<T>).collect::<Result<_, _>>();
    read.map_err(|error| Trouble::Odd { op, why: error.to_string() })
}
