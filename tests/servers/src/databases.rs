//! Neo4j and Redis side by side, as a host is configured to use them.

use std::path::Path;

use crate::{Neo4j, Redis};

/// Both servers.
#[derive(Debug)]
pub struct Databases {
    /// The graph database: what is related to what.
    pub neo4j: Neo4j,
    /// Messages and what is hot.
    pub redis: Redis,
}

impl Databases {
    /// Starts both with their data in directories of `dir`, and waits until they answer.
    ///
    /// # Errors
    /// As each server's `start`.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let redis = Redis::start(&dir.join("redis"))?;
        Ok(Self { neo4j: Neo4j::start(&dir.join("neo4j"))?, redis })
    }

    /// The lines of `ltmc.toml` that have a host use them.
    pub fn config(&self) -> String {
        format!(
            "[graph]\nurl = \"{}\"\npassword = \"{}\"\n[redis]\nurl = \"{}\"\n",
            self.neo4j.url(),
            self.neo4j.password(),
            self.redis.url()
        )
    }
}
