//! Notes, in memory: found by the words they share with the question, not by what they mean.

use std::collections::BTreeMap;

use super::{Host, State, bounded, current, names};
use crate::Error;
use crate::recall::{Hit, Hits};

const MAX_ID: usize = 512;
const MAX_TEXT: usize = 64 << 10;
const MAX_QUESTION: usize = 8 << 10;
const MAX_METADATA: usize = 16;
const MAX_METADATUM: usize = 512;
const MAX_HITS: u32 = 100;

/// A note, as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// What else is known of it.
    pub metadata: BTreeMap<String, String>,
}

impl Host {
    /// Every note, by id, without any grant.
    pub fn notes(&self) -> Vec<Note> {
        self.state.borrow().notes.values().cloned().collect()
    }

    /// Keeps a note, so that the agent finds it.
    ///
    /// # Panics
    /// When it is out of the host's bounds.
    pub fn remember(&self, id: &str, text: &str, metadata: &[(&str, &str)]) {
        let kept = named(metadata).and_then(|metadata| self.state.borrow_mut().remember(id, text, metadata));
        kept.unwrap_or_else(|e| panic!("cannot remember `{id}`: {e}"));
    }
}

pub(crate) fn remember(id: &str, text: &str, metadata: &[(&str, &str)]) -> Result<u64, Error> {
    let host = current()?.host;
    let mut state = host.state.borrow_mut();
    let metadata = named(metadata)?;
    state.demand("recall:write")?;
    state.remember(id, text, metadata)
}

pub(crate) fn forget(id: &str) -> Result<bool, Error> {
    let host = current()?.host;
    let mut state = host.state.borrow_mut();
    state.demand("recall:write")?;
    id_like(id)?;
    Ok(state.notes.remove(id).is_some())
}

pub(crate) fn search(question: &str, limit: u32, filter: &[(&str, &str)]) -> Result<Hits, Error> {
    let host = current()?.host;
    let state = host.state.borrow();
    let filter = named(filter)?;
    state.demand("recall:read")?;
    if question.trim().is_empty() || question.len() > MAX_QUESTION {
        let why = format!("a question is 1 to {MAX_QUESTION} bytes, not blank; this one has {}", question.len());
        return Err(Error::Invalid(why));
    }
    let limit = bounded("hits", limit, MAX_HITS)?;
    metadata_like(&filter)?;
    let asked = words(question);
    let mut hits: Vec<Hit> = state
        .notes
        .values()
        .filter(|note| filter.iter().all(|(name, value)| note.metadata.get(name) == Some(value)))
        .map(|Note { id, text, metadata }| {
            let score = cosine(&asked, &words(text));
            Hit { id: id.clone(), text: text.clone(), metadata: metadata.clone(), score }
        })
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    hits.truncate(limit);
    Ok(Hits { hits, degraded: false })
}

impl State {
    fn remember(&mut self, id: &str, text: &str, metadata: BTreeMap<String, String>) -> Result<u64, Error> {
        id_like(id)?;
        if text.trim().is_empty() || text.len() > MAX_TEXT {
            let why = format!("a note's text is 1 to {MAX_TEXT} bytes, not blank; this one has {}", text.len());
            return Err(Error::Invalid(why));
        }
        metadata_like(&metadata)?;
        let note = Note { id: id.to_owned(), text: text.to_owned(), metadata };
        self.notes.insert(id.to_owned(), note);
        Ok(self.next_revision())
    }
}

fn id_like(id: &str) -> Result<(), Error> {
    if names::printable(id, MAX_ID) {
        return Ok(());
    }
    Err(Error::Invalid(format!("a note's id is 1 to {MAX_ID} bytes without control characters")))
}

fn named(given: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Error> {
    if given.len() > MAX_METADATA {
        return Err(Error::Invalid(format!("there are at most {MAX_METADATA} metadata, not {}", given.len())));
    }
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let metadata: BTreeMap<String, String> = given.iter().map(own).collect();
    if metadata.len() < given.len() {
        return Err(Error::Invalid("each metadatum has a name of its own".into()));
    }
    Ok(metadata)
}

fn metadata_like(metadata: &BTreeMap<String, String>) -> Result<(), Error> {
    for (name, value) in metadata {
        if !names::printable(name, MAX_METADATUM) || !(value.is_empty() || names::printable(value, MAX_METADATUM)) {
            return Err(Error::Invalid(format!(
                "metadatum `{}`: names and values have at most {MAX_METADATUM} bytes without control characters, and a \
                 name at least one",
                name.chars().take(80).collect::<String>()
            )));
        }
    }
    Ok(())
}

/// How often each word comes, in lower case.
fn words(text: &str) -> BTreeMap<String, f32> {
    let mut words = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *words.entry(word.to_lowercase()).or_insert(0.0) += 1.0;
    }
    words
}

fn cosine(a: &BTreeMap<String, f32>, b: &BTreeMap<String, f32>) -> f32 {
    let length = |words: &BTreeMap<String, f32>| words.values().map(|n| n * n).sum::<f32>().sqrt();
    let product: f32 = a.iter().filter_map(|(word, n)| Some(n * b.get(word)?)).sum();
    let lengths = length(a) * length(b);
    if lengths == 0.0 { 0.0 } else { product / lengths }
}
