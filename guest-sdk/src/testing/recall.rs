//! Notes, in memory: found by the words they share with the question, not by what they mean.

use std::collections::BTreeMap;

use ltmc_rules::recall::{MAX_HITS, MAX_METADATA, MAX_QUERY, check, check_id, check_metadata};

use super::attempt::{Change, Crossing};
use super::{Host, bounded, current};
use crate::Error;
use crate::recall::{Hit, Hits};

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
        self.state.borrow().data.notes.values().cloned().collect()
    }

    /// Keeps a note, so that the agent finds it.
    ///
    /// # Panics
    /// When it is out of the host's bounds.
    pub fn remember(&self, id: &str, text: &str, metadata: &[(&str, &str)]) {
        let note = named(metadata).and_then(|metadata| checked(id, text, metadata));
        let note = note.unwrap_or_else(|e| panic!("cannot remember `{id}`: {e}"));
        self.state.borrow_mut().apply(Change::Note(note));
    }
}

pub(crate) fn remember(id: &str, text: &str, metadata: &[(&str, &str)]) -> Result<u64, Error> {
    current()?.cross(format_args!("remember {id} {text} {metadata:?}"), |at| {
        let metadata = named(metadata)?;
        at.state.demand("recall:write")?;
        let note = checked(id, text, metadata)?;
        at.change(Change::Note(note));
        Ok(at.state.next_revision())
    })
}

pub(crate) fn forget(id: &str) -> Result<bool, Error> {
    current()?.cross(format_args!("forget {id}"), |at| {
        at.state.demand("recall:write")?;
        check_id(id).map_err(Error::Invalid)?;
        let there = at.view().notes.contains_key(id);
        if there {
            at.change(Change::Forgotten(id.to_owned()));
        }
        Ok(there)
    })
}

pub(crate) fn search(question: &str, limit: u32, filter: &[(&str, &str)]) -> Result<Hits, Error> {
    current()?.cross(format_args!("search {question} {limit} {filter:?}"), |at| searched(at, question, limit, filter))
}

fn searched(at: &mut Crossing<'_>, question: &str, limit: u32, filter: &[(&str, &str)]) -> Result<Hits, Error> {
    let filter = named(filter)?;
    at.state.demand("recall:read")?;
    if question.trim().is_empty() || question.len() > MAX_QUERY {
        let why = format!("a question is 1 to {MAX_QUERY} bytes, not blank; this one has {}", question.len());
        return Err(Error::Invalid(why));
    }
    let limit = bounded("hits", limit, MAX_HITS)?;
    check_metadata(&filter).map_err(Error::Invalid)?;
    let asked = words(question);
    let mut hits: Vec<Hit> = at
        .view()
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

fn checked(id: &str, text: &str, metadata: BTreeMap<String, String>) -> Result<Note, Error> {
    check(id, text, &metadata).map_err(Error::Invalid)?;
    Ok(Note { id: id.to_owned(), text: text.to_owned(), metadata })
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
