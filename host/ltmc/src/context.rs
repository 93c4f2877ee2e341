//! Shared context, put together: the record, the databases that follow it, and the index of what texts mean.
//!
//! Order: what follows is started last and stopped first; it is never waited for at the start.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ltmc_context::recall::{Index, Ports as IndexPorts};
use ltmc_context::{Context, Graph, Handed, Locks, Memory, Messages, Recall, Subscriptions, messages, transaction};
use ltmc_embedders::{Choice, OpenAiOptions, Secret};
use ltmc_faiss::FaissVectors;
use ltmc_model::recall::EmbedderId;
use ltmc_model::{Digest, Position};
use ltmc_ports::{Bus, Clock, Projection, ReadGraph, ReadProvenance, Record, Vectors};
use ltmc_projections::Follower;
use ltmc_projections::follower::Status;
use ltmc_tenancy::Authority;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Embedder};
use crate::databases::{Databases, KeepsGraph, KeepsMessages, secret};
use crate::exit::Problem;

/// How often what is old is thrown away, and what has changed of the index saved.
const UPKEEP: Duration = Duration::from_secs(60);
/// After so many times of it Neo4j's history ends where it is too old: that is a transaction for each tenant.
const HISTORY: u64 = 60;
/// What is learned from runs has this part of the memory that recall has, beside it.
const LESSONS_SHARE: u64 = 8;
/// Rows of the log thrown away at once.
const TRIM: u32 = 10_000;

/// The parts of shared context.
pub(crate) struct Shared {
    pub(crate) context: Arc<Context>,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) followers: Vec<Arc<Follower>>,
    index: Arc<Index>,
    lessons: Arc<FaissVectors>,
    neo4j: Option<Arc<dyn KeepsGraph>>,
    redis: Option<Arc<dyn KeepsMessages>>,
    record: Arc<dyn Record>,
    clock: Arc<dyn Clock>,
    retention: Duration,
    log_rows: u64,
    history: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    /// What texts are compared by.
    pub(crate) fn embedder(&self) -> Arc<dyn ltmc_ports::Embedder> {
        self.index.embedder().clone()
    }

    /// Where what is learned from runs is found by what it means.
    pub(crate) fn lessons(&self) -> Arc<dyn Vectors> {
        self.lessons.clone()
    }

    /// What is asked where runs and their steps come from, where a database knows.
    pub(crate) fn graph(&self) -> Option<ltmc_orchestration::Graph> {
        let database = self.neo4j.clone()? as Arc<dyn ReadProvenance>;
        let follower = self.followers.iter().find(|follower| follower.name() == "neo4j")?;
        Some((database, follower.clone()))
    }

    /// Puts everything together; nothing runs before [`Self::start`].
    pub(crate) async fn open(
        config: &Config,
        databases: Databases,
        (record, handed): (Arc<dyn Record>, Arc<Handed>),
        authority: Arc<Authority>,
        schemas: Arc<dyn ltmc_ports::Schemas>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let locks = Arc::new(Locks::default());
        let subscriptions = Subscriptions::start(record.clone());
        let follow = |database: Arc<dyn Projection>| Follower::new(database, record.clone(), record.clone());
        let mut followers = Vec::new();
        let graph = databases.neo4j.clone().map(|database| {
            let follower = follow(database.clone());
            followers.push(follower.clone());
            (database as Arc<dyn ReadGraph>, follower)
        });
        let bus = databases.redis.clone().map(|database| {
            let follower = follow(database.clone());
            followers.push(follower.clone());
            (database as Arc<dyn Bus>, follower)
        });
        let dir = config.data.join("vectors");
        let options = ltmc_faiss::Options { dir: dir.clone(), memory: config.recall.memory.as_u64() };
        let vectors = FaissVectors::open(options).with_context(|| format!("opening the index in {}", dir.display()))?;
        let embedders = embedders(config).await?;
        let lessons = lessons(config, embedders.first().map(|embedder| embedder.id()))?;
        let index = Index::new(IndexPorts {
            notes: record.clone(),
            write: record.clone(),
            vectors: Arc::new(vectors),
            embedders,
            split: ltmc_embedders::split,
        });
        let recall = follow(index.clone());
        followers.push(recall.clone());
        let context = Context {
            memory: Memory::new(record.clone(), handed, subscriptions.clone(), locks.clone(), authority.clone()),
            graph: Graph::new(record.clone(), graph, locks.clone()),
            recall: Some(Recall::new(index.clone(), recall)),
            messages: Messages::new(messages::Ports {
                mail: record.clone(),
                bus: record.clone(),
                database: bus,
                subscriptions: subscriptions.clone(),
                authority,
                locks,
            }),
            schemas: Some(schemas),
            overlays: transaction::pot(),
        };
        Ok(Self {
            context: Arc::new(context),
            subscriptions,
            followers,
            index,
            lessons,
            neo4j: databases.neo4j,
            redis: databases.redis,
            record,
            clock,
            retention: config.context.retention.0,
            log_rows: config.context.log_rows,
            history: config.graph.history.0,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Starts what follows the record.
    pub(crate) fn start(self: &Arc<Self>) {
        for follower in &self.followers {
            self.tasks.spawn(follower.clone().run(self.stop.clone()));
        }
        let shared = self.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            for round in 1_u64.. {
                if stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_none() {
                    return;
                }
                if let Err(error) = shared.upkeep(round.is_multiple_of(HISTORY)).await {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "what is old could not all be thrown away; trying again later"
                    );
                }
            }
        });
    }

    /// Throws away what is old of the log and was told to everybody, and saves the index.
    async fn upkeep(&self, history: bool) -> anyhow::Result<()> {
        self.index.save().await?;
        self.lessons.save().await?;
        let now = self.clock.now().millis();
        let ago = |span: Duration| {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            ltmc_model::Timestamp::from_millis(now.saturating_sub(span))
        };
        let told = self.followers.iter().map(|follower| follower.told()).min().unwrap_or(Position(0));
        let to = self.record.old_log(ago(self.retention)).await?.min(told);
        while !self.stop.is_cancelled() && self.record.trim(to, TRIM).await? == u64::from(TRIM) {}
        while !self.stop.is_cancelled() && self.record.trim_shares(self.log_rows, told, TRIM).await? >= u64::from(TRIM)
        {
        }
        let neo4j = self.neo4j.as_ref().filter(|_| history);
        if self.redis.is_none() && neo4j.is_none() {
            return Ok(());
        }
        for tenant in self.record.tenants_with_context().await? {
            if let Some(redis) = self.redis.as_ref().filter(|_| self.follows("redis")) {
                let to = self.record.trimmed(&tenant).await?.max(to);
                redis.trim(&tenant, to).await?;
            }
            if let Some(neo4j) = neo4j.filter(|_| self.follows("neo4j")) {
                neo4j.trim(&tenant, ago(self.history)).await?;
            }
        }
        Ok(())
    }

    /// Whether a database is being told: one that is not may follow another record, and is left alone.
    fn follows(&self, name: &str) -> bool {
        self.followers.iter().any(|follower| follower.name() == name && follower.status().up)
    }

    /// Stops what follows; the record is still open.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await.is_err() {
            tracing::warn!("what follows the record did not stop in time; it goes on where it was at the next start");
        }
        if let Err(error) = self.lessons.save().await {
            tracing::warn!(%error, "the index of what was learned could not be saved; it is made anew when it is needed");
        }
        if let Err(error) = self.index.save().await {
            tracing::warn!(%error, "the index could not be saved; it is built from the record when it is needed");
        }
    }

    /// How each database follows.
    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.followers.iter().map(|follower| follower.status()).collect()
    }
}

/// The index of what is learned from runs, of this embedder alone: what others made is removed, for it is made anew where it is needed.
fn lessons(config: &Config, embedder: Option<&EmbedderId>) -> anyhow::Result<Arc<FaissVectors>> {
    let above = config.data.join("lessons");
    let named = embedder.map(|id| format!("{} {}", id.name, id.dimensions)).unwrap_or_default();
    let own =
        Digest::of(named.as_bytes()).to_string().trim_start_matches("sha256:").chars().take(16).collect::<String>();
    let opening = || format!("opening the index in {}", above.display());
    crate::wire::make_private(&above)?;
    for other in std::fs::read_dir(&above).with_context(opening)? {
        let other = other.with_context(opening)?;
        if other.file_name() != own.as_str() && other.file_type().with_context(opening)?.is_dir() {
            std::fs::remove_dir_all(other.path()).with_context(opening)?;
        }
    }
    let memory = config.recall.memory.as_u64() / LESSONS_SHARE;
    let vectors = FaissVectors::open(ltmc_faiss::Options { dir: above.join(own), memory }).with_context(opening)?;
    Ok(Arc::new(vectors))
}

/// The embedder in force, and the built-in one, which can always answer for what it made.
pub(crate) async fn embedders(config: &Config) -> anyhow::Result<Vec<Arc<dyn ltmc_ports::Embedder>>> {
    let recall = &config.recall;
    let choice = match recall.embedder {
        Embedder::Builtin => Choice::Hashed,
        Embedder::Minilm => Choice::MiniLm { directory: recall.model.clone().into() },
        Embedder::Openai => {
            let mut options = OpenAiOptions::new(recall.url.clone(), recall.model.clone());
            options.api_key = secret("recall.api_key", &recall.api_key.0, &recall.api_key_file)?.map(Secret::from);
            options.dimensions = Some(recall.dimensions).filter(|dimensions| *dimensions > 0);
            Choice::OpenAi(options)
        }
    };
    let first = choice.open().await.map_err(|e| {
        let mut text = e.to_string();
        let mut cause = std::error::Error::source(&e);
        while let Some(why) = cause {
            text = format!("{text}: {why}");
            cause = why.source();
        }
        Problem::failed(format!("the embedder cannot be used: {text}")).help("see recall.* in docs/run-a-host.md")
    })?;
    let builtin = ltmc_embedders::hashed();
    let same = builtin.id() == first.id();
    Ok([first].into_iter().chain((!same).then_some(builtin)).collect())
}
