//! The databases that follow the record, as configured. One whose driver was left out of this build is refused by name.
//!
//! To add one: what is asked of it as a trait here, a feature of this crate, and its lines in [`Databases::open`].

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::{Position, TenantId, Timestamp};
use ltmc_ports::{Bus, Projection, ReadGraph, ReadProvenance, StoreError};

use crate::config::{Config, Graph, Redis};
use crate::exit::Problem;

/// A database that the graph is told to, and asked of.
#[async_trait]
pub(crate) trait KeepsGraph: Projection + ReadGraph + ReadProvenance {
    /// Forgets a tenant's history before a time.
    async fn trim(&self, tenant: &TenantId, before: Timestamp) -> Result<(), StoreError>;
}

/// A database that messages and hot state are told to, and asked of.
#[async_trait]
pub(crate) trait KeepsMessages: Projection + Bus {
    /// Forgets a tenant's events up to a place in the log.
    async fn trim(&self, tenant: &TenantId, to: Position) -> Result<(), StoreError>;
}

/// The databases that are configured.
pub(crate) struct Databases {
    pub(crate) neo4j: Option<Arc<dyn KeepsGraph>>,
    pub(crate) redis: Option<Arc<dyn KeepsMessages>>,
}

impl Databases {
    /// As configured; nothing is connected yet.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let (graph, redis) = (&config.graph, &config.redis);
        Ok(Self {
            neo4j: (!graph.url.is_empty()).then(|| neo4j(graph)).transpose()?,
            redis: (!redis.url.0.is_empty()).then(|| self::redis(redis)).transpose()?,
        })
    }

    /// Whether any of them follows runs.
    pub(crate) fn follow_runs(&self) -> bool {
        self.neo4j.is_some() || self.redis.is_some()
    }

    /// Each with its name.
    pub(crate) fn all(&self) -> Vec<Arc<dyn Projection>> {
        let neo4j = self.neo4j.clone().map(|database| database as Arc<dyn Projection>);
        let redis = self.redis.clone().map(|database| database as Arc<dyn Projection>);
        neo4j.into_iter().chain(redis).collect()
    }
}

#[cfg(feature = "neo4j")]
fn neo4j(config: &Graph) -> anyhow::Result<Arc<dyn KeepsGraph>> {
    let password = secret("graph.password", &config.password.0, &config.password_file)?.unwrap_or_default();
    let mut options = ltmc_neo4j::Options::new(config.url.clone(), config.user.clone(), password);
    options.database = Some(config.database.clone()).filter(|name| !name.is_empty());
    Ok(ltmc_neo4j::Neo4j::open(options).map_err(|e| wrong("graph.url", &e))?)
}

#[cfg(not(feature = "neo4j"))]
fn neo4j(_: &Graph) -> anyhow::Result<Arc<dyn KeepsGraph>> {
    Err(left_out("graph.url", "Neo4j", "neo4j"))
}

#[cfg(feature = "redis")]
fn redis(config: &Redis) -> anyhow::Result<Arc<dyn KeepsMessages>> {
    let mut options = ltmc_redis::Options::new(config.url.0.clone());
    options.user = Some(config.user.clone()).filter(|user| !user.is_empty());
    options.password = secret("redis.password", &config.password.0, &config.password_file)?;
    options.ca = Some(config.ca_file.clone()).filter(|file| !file.is_empty()).map(Into::into);
    Ok(ltmc_redis::Redis::open(&options).map_err(|e| wrong("redis.url", &e))?)
}

#[cfg(not(feature = "redis"))]
fn redis(_: &Redis) -> anyhow::Result<Arc<dyn KeepsMessages>> {
    Err(left_out("redis.url", "Redis", "redis"))
}

#[cfg(feature = "neo4j")]
#[async_trait]
impl KeepsGraph for ltmc_neo4j::Neo4j {
    async fn trim(&self, tenant: &TenantId, before: Timestamp) -> Result<(), StoreError> {
        self.trim(tenant, before).await.map(drop)
    }
}

#[cfg(feature = "redis")]
#[async_trait]
impl KeepsMessages for ltmc_redis::Redis {
    async fn trim(&self, tenant: &TenantId, to: Position) -> Result<(), StoreError> {
        self.trim(tenant, to).await.map(drop)
    }
}

/// A secret that is set, or in a file.
pub(crate) fn secret(key: &str, inline: &str, file: &str) -> anyhow::Result<Option<String>> {
    if !inline.is_empty() {
        return Ok(Some(inline.to_owned()));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let text =
        std::fs::read_to_string(file).map_err(|e| Problem::usage(format!("{key}_file: {file} cannot be read: {e}")))?;
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(any(feature = "neo4j", feature = "redis"))]
fn wrong(key: &str, error: &impl std::fmt::Display) -> anyhow::Error {
    Problem::usage(format!("{key}: {error}")).help("see docs/run-a-host.md").into()
}

/// What a configuration names and this build does not have.
pub(crate) fn left_out(key: &str, what: &str, feature: &str) -> anyhow::Error {
    Problem::usage(format!(
        "{key}: this host was built without {what}: build it with the feature `{feature}`, which is on unless told otherwise"
    ))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Embedder;

    /// Runs in a build with everything, and in one without what can be left out (`cargo xtask test` has both).
    #[tokio::test]
    async fn what_was_left_out_of_the_build_is_refused_by_the_name_of_its_feature() {
        let (mut graph, mut redis, mut openai, mut minilm) = <(Config, Config, Config, Config)>::default();
        graph.graph.url = "bolt://localhost".to_owned();
        (graph.graph.user, graph.graph.password.0) = ("neo4j".to_owned(), "swordfish".to_owned());
        redis.redis.url.0 = "redis://localhost".to_owned();
        openai.recall.embedder = Embedder::Openai;
        minilm.recall.embedder = Embedder::Minilm;
        let nothing = Databases::open(&Config::default()).unwrap();
        assert!(nothing.all().is_empty() && !nothing.follow_runs());
        for (config, feature, built) in
            [(graph, "neo4j", cfg!(feature = "neo4j")), (redis, "redis", cfg!(feature = "redis"))]
        {
            match Databases::open(&config) {
                Ok(databases) => assert!(built && databases.follow_runs() && databases.all()[0].name() == feature),
                Err(error) => assert!(!built && names(&error, feature), "{feature}: {error:#}"),
            }
        }
        for (config, feature, built) in
            [(openai, "openai", cfg!(feature = "openai")), (minilm, "minilm", cfg!(feature = "minilm"))]
        {
            // With it, what is missing is a model.
            let Err(error) = crate::context::embedders(&config).await else { panic!("{feature} has no model") };
            assert_ne!(names(&error, feature), built, "{feature}: {error:#}");
        }
    }

    fn names(error: &anyhow::Error, feature: &str) -> bool {
        let problem = error.downcast_ref::<Problem>().expect("a problem");
        problem.message.contains(&format!("the feature `{feature}`, which is on unless told otherwise"))
    }
}
