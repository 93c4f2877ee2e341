//! Connections, time-outs.
//!
//! Invariants: a connection serves one at a time, and serves again only after everything that was asked on it was answered
//! and fetched. Whoever reads for a tenant has a turn of its first, so that one's walks do not have every connection; of these one is left to
//! who follows the record. The driver's own pool takes back what was given up halfway, whose late answers would then be somebody
//! else's; so each of its pools holds one connection here, and what was not finished is dropped with its pool. The server
//! sees the end of a connection and ends what it was doing for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ltmc_model::TenantId;
use ltmc_policy::{Turn, Turns};
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
/// So many of a tenant's reads may wait for their turn: for others the record answers at once.
const WAITING: usize = 1_024;

/// The way to a Neo4j.
pub(crate) struct Link {
    options: Options,
    address: String,
    permits: Semaphore,
    reads: Arc<Turns>,
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
        // bound: connections to Neo4j
        let reads = Turns::new((options.max_connections - 1).max(1), WAITING);
        Self {
            options,
            address,
            permits,
            reads,
            idle: Mutex::default(),
            prepared: AtomicBool::new(false),
            preparing: tokio::sync::Mutex::default(),
        }
    }

    /// The host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A tenant's turn to read, charged by how long it is held.
    pub(crate) async fn reading(&self, op: &'static str, tenant: &TenantId) -> Result<Reading, StoreError> {
        let turn = tokio::time::timeout(self.options.timeout, self.reads.take(tenant)).await.ok().flatten();
        let busy = || error::store(op, Trouble::Busy { address: self.address.clone() });
        Ok(Reading { turn: turn.ok_or_else(busy)?, began: Instant::now() })
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

/// A tenant's turn to read, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reading {
    turn: Turn,
    began: Instant,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.turn.charge(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
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

#[cfg(test)]
mod tests {
    use ltmc_ports::Kind;

    use super::*;

    /// However many walks one tenant has under way, and however many wait, another's begins at once.
    #[tokio::test(start_paused = true)]
    async fn one_tenants_walks_leave_others_theirs() {
        let options =
            Options { timeout: Duration::from_secs(5), ..Options::new("bolt://127.0.0.1:1", "neo4j", "secret") };
        let (link, [acme, beta]) =
            (Link::new(options, "127.0.0.1:1".into()), ["acme", "beta"].map(|name| name.parse().unwrap()));
        let mut walks = Vec::new();
        for _ in 0..3 {
            walks.push(link.reading("test", &acme).await.unwrap());
        }
        let begun = Instant::now();
        let refused = link.reading("test", &acme).await.unwrap_err();
        assert_eq!((refused.kind, begun.elapsed()), (Kind::Unavailable, Duration::from_secs(5)), "{refused}");
        let (begun, mut waiting) = (Instant::now(), Box::pin(link.reading("test", &acme)));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        let of_beta = link.reading("test", &beta).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(walks.pop());
        waiting.await.unwrap();
        drop((walks, of_beta));
    }
}
