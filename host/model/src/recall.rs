//! Recall: texts that are found again by what they mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use ltmc_rules::recall::{
    MAX_HITS, MAX_ID, MAX_METADATA, MAX_METADATUM, MAX_QUERY, MAX_TEXT, check, check_metadata,
};

use crate::{Revision, Timestamp};

/// Names and values, by which a search is narrowed.
pub type Metadata = BTreeMap<String, String>;

/// A text to be found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its name; what is kept under a name anew replaces what was there.
    pub id: String,
    /// The text.
    pub text: String,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Metadata,
    /// Its version.
    pub revision: Revision,
    /// When it was kept.
    pub kept_at: Timestamp,
}

impl Note {
    /// Its metadata, as the record keeps them: JSON, sorted by name.
    pub fn metadata_text(&self) -> String {
        serde_json::to_string(&self.metadata).expect("names and values are texts, which JSON can write")
    }
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The note.
    pub id: String,
    /// The passage of it that is nearest, whole.
    pub text: String,
    /// Of the note.
    pub metadata: Metadata,
    /// Cosine of the angle between question and passage: 1 is the same, 0 is unrelated.
    pub score: f32,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hits {
    /// The nearest first.
    pub hits: Vec<Hit>,
    /// Whether what was kept last may be missing: the index is behind, and did not catch up in time.
    pub degraded: bool,
}

/// Who makes vectors: vectors of different embedders are never compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EmbedderId {
    /// Names the model and what else decides its vectors, such as `hashed-words-1` or `minilm:sha256:…`; at most 128 bytes.
    pub name: String,
    /// Numbers of a vector.
    pub dimensions: u32,
}
