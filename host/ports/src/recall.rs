//! Recall's ports: notes are written only with the journal; their vectors are made from them, and found again in an index.

use async_trait::async_trait;
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{Position, Revision, TenantId};

use crate::StoreError;

/// One tenant's vectors of one embedder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexId {
    /// The tenant whose notes they are of.
    pub tenant: TenantId,
    /// The embedder that made them: vectors of different ones cannot be compared.
    pub embedder: EmbedderId,
}

/// A vector in an index: the number of its row in the record. Never used twice.
pub type VectorId = i64;

/// A passage of a note, with its place in the record.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPassage {
    /// The row's number.
    pub id: VectorId,
    /// The note.
    pub note: String,
    /// Which passage of the note, from 0 on.
    pub part: u32,
    /// Of the note's text: where the passage begins and ends, in bytes.
    pub span: (u32, u32),
    /// Of length 1.
    pub vector: Vec<f32>,
}

/// Notes, and what was made of them, in the record.
#[async_trait]
pub trait ReadNotes: Send + Sync {
    /// A note.
    async fn note(&self, tenant: &TenantId, id: &str) -> Result<Option<Note>, StoreError>;

    /// A tenant's notes after `after`, in the byte order of their ids; at most `limit`, and 4 MiB of text.
    async fn notes(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Note>, StoreError>;

    /// Passages by their numbers, without their vectors, and with their notes as they are now. What is gone is left out.
    async fn passages(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        ids: &[VectorId],
    ) -> Result<Vec<(StoredPassage, Note)>, StoreError>;

    /// The numbers of the passages of notes that have all of `filter`, in order; at most `most`, and whether there are more.
    async fn passages_with(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        filter: &Metadata,
        most: u32,
    ) -> Result<(Vec<VectorId>, bool), StoreError>;

    /// All passages after `after`, with their vectors, by their numbers: what an index is built from.
    async fn vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<VectorId>,
        limit: u32,
    ) -> Result<Vec<StoredPassage>, StoreError>;

    /// Up to which place of the log a tenant's notes have been made into vectors; none: not at all.
    async fn embedded(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<Option<Position>, StoreError>;

    /// Notes of which there are vectors, with the versions these were made of; after the note `after`, in the byte order of
    /// their ids, at most `limit`.
    async fn embedded_notes(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError>;

    /// Embedders of which a tenant has vectors.
    async fn embedders(&self, tenant: &TenantId) -> Result<Vec<EmbedderId>, StoreError>;
}

/// What was made of a note.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// The note.
    pub note: String,
    /// The version that was embedded; a newer one wins.
    pub revision: Revision,
    /// Its passages: their spans of the text, and their vectors. None: the note is forgotten.
    pub passages: Vec<((u32, u32), Vec<f32>)>,
}

/// For whoever embeds.
#[async_trait]
pub trait WriteVectors: Send + Sync {
    /// Puts what was made of notes in the place of what was made of them before, and remembers that everything up to `to`
    /// is in. Answers the new passages with their numbers, and the numbers of those that are gone. Of a tenant that has all that
    /// it may have on disk nothing more is kept: what is made of a note is kept whole or left out, and is then among what a
    /// repair finds missing.
    async fn keep_vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        notes: Vec<Embedded>,
        to: Option<Position>,
    ) -> Result<(Vec<StoredPassage>, Vec<VectorId>), StoreError>;

    /// Forgets all that was made with an embedder.
    async fn forget_embedder(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<(), StoreError>;
}

/// A vector near the one that was looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// The vector's id.
    pub id: VectorId,
    /// The inner product: of vectors of length 1 the cosine.
    pub score: f32,
}

/// An index of vectors for search by similarity (inner product). It may be lost or behind: it is built from the record.
#[async_trait]
pub trait Vectors: Send + Sync {
    /// The `k` nearest, the nearest first; of `among` alone, where that is given (sorted).
    ///
    /// # Errors
    /// `Corrupt` where there is no index that can be used: build it. `Internal` where the vector has another size, or a
    /// number that is none.
    async fn search(
        &self,
        index: &IndexId,
        vector: &[f32],
        k: u32,
        among: Option<&[VectorId]>,
    ) -> Result<Vec<Near>, StoreError>;

    /// Adds vectors (an id that is there already is replaced), removes others, and remembers `stamp`. Of an id that is added
    /// twice the last counts; one that is also removed is not there.
    ///
    /// # Errors
    /// `Corrupt` where there is no index: [`reset`](Self::reset) makes an empty one. `Internal` where a vector has another
    /// size, or a number that is none; nothing has changed then.
    async fn change(
        &self,
        index: &IndexId,
        add: &[(VectorId, Vec<f32>)],
        remove: &[VectorId],
        stamp: Position,
    ) -> Result<(), StoreError>;

    /// Makes an index empty, with nothing remembered, whether there was one or not.
    async fn reset(&self, index: &IndexId) -> Result<(), StoreError>;

    /// The last `stamp`; none: there is no index, or a damaged one.
    async fn stamp(&self, index: &IndexId) -> Result<Option<Position>, StoreError>;

    /// The ids it holds, in order.
    ///
    /// # Errors
    /// `Corrupt` where there is no index.
    async fn ids(&self, index: &IndexId) -> Result<Vec<VectorId>, StoreError>;

    /// Writes what has changed to disk.
    async fn save(&self) -> Result<(), StoreError>;

    /// Removes an index, from disk too.
    async fn drop_index(&self, index: &IndexId) -> Result<(), StoreError>;
}

/// Makes vectors of texts.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// Names the model: vectors of another are never compared with this one's.
    fn id(&self) -> &EmbedderId;

    /// About how many bytes of a text it takes in; longer texts are split.
    fn passage_bytes(&self) -> usize;

    /// One vector of length 1 for each of a tenant's texts, in order. A text in which it finds nothing gets any such vector. Whose they are makes no
    /// difference to the vectors: where texts are embedded on this machine, tenants take turns.
    ///
    /// # Errors
    /// `Unavailable` where another attempt may succeed.
    async fn embed(&self, tenant: &TenantId, texts: &[String], purpose: Purpose) -> Result<Vec<Vec<f32>>, StoreError>;
}

/// What a vector is for: some models tell questions from passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be found.
    Passage,
    /// To find with.
    Query,
}
