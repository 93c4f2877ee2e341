//! `ltmc:agent/recall`.

use crate::Error;
use crate::bindings::host::ltmc::agent::recall as wit;
use crate::recall::{Hit, Hits};

pub(crate) fn remember(id: &str, text: &str, metadata: &[(&str, &str)]) -> Result<u64, Error> {
    Ok(wit::remember(id, text, &metadata_of(metadata))?)
}

pub(crate) fn forget(id: &str) -> Result<bool, Error> {
    Ok(wit::forget(id)?)
}

pub(crate) fn search(question: &str, limit: u32, filter: &[(&str, &str)]) -> Result<Hits, Error> {
    let found = wit::search(question, limit, &metadata_of(filter))?;
    Ok(Hits { hits: found.hits.into_iter().map(hit).collect(), degraded: found.degraded })
}

fn metadata_of(metadata: &[(&str, &str)]) -> Vec<wit::Metadatum> {
    let metadatum = |&(name, value): &(&str, &str)| wit::Metadatum { name: name.to_owned(), value: value.to_owned() };
    metadata.iter().map(metadatum).collect()
}

fn hit(wit: wit::Hit) -> Hit {
    let metadata = wit.metadata.into_iter().map(|metadatum| (metadatum.name, metadatum.value)).collect();
    Hit { id: wit.id, text: wit.text, metadata, score: wit.score }
}
