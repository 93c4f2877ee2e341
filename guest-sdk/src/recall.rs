//! Texts that are found again by what they mean. Reading needs the capability `recall:read`, writing `recall:write`; every
//! agent of the tenant sees the same notes.
//!
//! An id is 1 to 512 bytes without control characters, a text at most 64 KiB, a question at most 8 KiB. A note and a filter
//! have at most 16 metadata, with names and values of at most 512 bytes.
//!
//! ```
//! use ltmc::recall;
//!
//! let host = ltmc::testing::Host::new().grant("recall:read").grant("recall:write");
//! host.within(|| {
//!     recall::remember("retries", "Retries are bounded by the number of attempts.")?;
//!     recall::remember_with("bounds", "A key has at most 512 bytes.", &[("file", "memory.md")])?;
//!     let hits = recall::search("how are retries bounded?", 5)?;
//!     assert_eq!(hits.hits[0].id, "retries");
//!     Ok::<_, ltmc::Error>(())
//! })
//! # .unwrap();
//! ```

use std::collections::BTreeMap;

use crate::{Error, host};

/// A note that was found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Hit {
    /// The note's id.
    pub id: String,
    /// The passage of the note that is nearest.
    pub text: String,
    /// Of the note.
    pub metadata: BTreeMap<String, String>,
    /// Cosine of the angle between question and passage: 1 is the same, 0 is unrelated.
    pub score: f32,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Hits {
    /// The nearest first; of each note its nearest passage.
    pub hits: Vec<Hit>,
    /// Whether something may be missing: what was remembered last, where its vectors were not made in time, or what is beyond
    /// the first 100,000 passages that the filter leaves.
    pub degraded: bool,
}

impl IntoIterator for Hits {
    type Item = Hit;
    type IntoIter = std::vec::IntoIter<Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}

/// Keeps a text under an id; what was there is replaced. Answers its revision.
///
/// # Errors
/// [`Error::AccessDenied`] without `recall:write`; [`Error::Invalid`] for an id or a text out of bounds, and for a blank
/// text.
pub fn remember(id: &str, text: &str) -> Result<u64, Error> {
    remember_with(id, text, &[])
}

/// Keeps a text with metadata, by which a search can be narrowed; answers its revision.
///
/// # Errors
/// As [`remember`], and [`Error::Invalid`] for metadata out of bounds or with a name twice.
pub fn remember_with(id: &str, text: &str, metadata: &[(&str, &str)]) -> Result<u64, Error> {
    host::recall::remember(id, text, metadata)
}

/// Answers whether there was something to forget.
///
/// # Errors
/// As [`remember`].
pub fn forget(id: &str) -> Result<bool, Error> {
    host::recall::forget(id)
}

/// The notes nearest to a question, at most `limit` (1 to 100). However little they have to do with it: look at the scores.
///
/// # Errors
/// [`Error::AccessDenied`] without `recall:read`; [`Error::Invalid`] for a question or a limit out of bounds.
pub fn search(question: &str, limit: u32) -> Result<Hits, Error> {
    search_with(question, limit, &[])
}

/// The same, of notes that have all the metadata of `filter`.
///
/// # Errors
/// As [`search`], and [`Error::Invalid`] for a filter out of bounds.
pub fn search_with(question: &str, limit: u32, filter: &[(&str, &str)]) -> Result<Hits, Error> {
    host::recall::search(question, limit, filter)
}

/// Over the host's imports: conversions and nothing else. `testing/recall.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use super::{Hit, Hits};
    use crate::Error;
    use crate::bindings::host::ltmc::agent::recall as wit;

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
        let metadatum =
            |&(name, value): &(&str, &str)| wit::Metadatum { name: name.to_owned(), value: value.to_owned() };
        metadata.iter().map(metadatum).collect()
    }

    fn hit(wit: wit::Hit) -> Hit {
        let metadata = wit.metadata.into_iter().map(|metadatum| (metadatum.name, metadatum.value)).collect();
        Hit { id: wit.id, text: wit.text, metadata, score: wit.score }
    }
}
