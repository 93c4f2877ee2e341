//! The host's side of the interface `ltmc:agent/recall`.

use ltmc_model::call::recall as call;
use ltmc_model::recall::{MAX_METADATA, Metadata};

use super::{Answered, wit};
use crate::guest::Guest;
use wit::recall::{Hit, Hits, Metadatum};

impl wit::recall::Host for Guest {
    async fn remember(&mut self, id: String, text: String, metadata: Vec<Metadatum>) -> Answered<u64> {
        let call = named(metadata).map(|metadata| call::Remember { id, text, metadata });
        Ok(self.cross_checked(call).await?.map(|revision| revision.0))
    }

    async fn forget(&mut self, id: String) -> Answered<bool> {
        self.cross(call::Forget { id }).await
    }

    async fn search(&mut self, question: String, limit: u32, filter: Vec<Metadatum>) -> Answered<Hits> {
        let call = named(filter).map(|filter| call::Search { query: question, filter, limit });
        let hit = |hit: ltmc_model::recall::Hit| Hit {
            id: hit.id,
            text: hit.text,
            metadata: hit.metadata.into_iter().map(|(name, value)| Metadatum { name, value }).collect(),
            score: hit.score,
        };
        let found = self.cross_checked(call).await?;
        Ok(found.map(|found| Hits { hits: found.hits.into_iter().map(hit).collect(), degraded: found.degraded }))
    }
}

fn named(given: Vec<Metadatum>) -> Result<Metadata, String> {
    let count = given.len();
    let metadata: Metadata = given.into_iter().take(MAX_METADATA + 1).map(|one| (one.name, one.value)).collect();
    match metadata.len() == count {
        true => Ok(metadata),
        false if count > MAX_METADATA => Err(format!("there are at most {MAX_METADATA} metadata, not {count}")),
        false => Err("each metadatum has a name of its own".to_owned()),
    }
}
