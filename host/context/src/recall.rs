//! Recall: texts found by what they mean. What a call means, and the index that follows the record.
//!
//! Invariants: the record holds the notes and what was made of them; the index is built from that, at any time. Vectors of
//! different embedders are never compared: a changed embedder makes an index of its own, and until that is whole, the one
//! before answers.
//!
//! To add a call: its [`Decide`], and its line in [`Recall::decide_any`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use ltmc_model::call::recall::{Forget, RecallCall, Remember, Search};
use ltmc_model::delta::{Delta, Logged, Topic};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::recall::{self, EmbedderId, Hit, Hits, MAX_HITS, Metadata, Note};
use ltmc_model::{Position, Revision, TenantId};
use ltmc_ports::log::Item;
use ltmc_ports::recall::{Embedded, IndexId, Purpose, StoredPassage, VectorId};
use ltmc_ports::{Bound, Embedder, Expect, Kind, Projection, ReadNotes, StoreError, Vectors, WriteVectors};
use ltmc_projections::Follower;
use tokio::sync::Mutex;

use crate::context::{Asked, Decide, Decided, Decision, decided};

/// How long a search waits for what its asker remembered.
const PATIENCE: Duration = Duration::from_secs(2);
/// Passages asked for, for each hit wanted: several may be of one note.
const PASSAGES_A_HIT: u32 = 4;
/// The most passages that a filter may leave to be compared one by one; of more the first are, and the answer says so.
const MOST_FILTERED: u32 = 100_000;
/// The most notes of an attempt's own, not yet true, that a search looks at; of more the newest are, and the answer says so.
const MOST_OWN: usize = 100;
/// Vectors read from the record at once.
const PAGE: u32 = 2_000;
/// Texts embedded at once.
const TEXTS: usize = 64;

/// How a text is split: the spans of its passages, for an embedder that takes in so many bytes.
pub type Split = fn(&str, usize) -> Vec<std::ops::Range<usize>>;

/// The notes of all tenants.
pub struct Recall {
    index: Arc<Index>,
    follower: Arc<Follower>,
}

/// The index, as it follows the record.
pub struct Index {
    notes: Arc<dyn ReadNotes>,
    write: Arc<dyn WriteVectors>,
    vectors: Arc<dyn Vectors>,
    /// The one in force, and others that may have made what is there.
    embedders: Vec<Arc<dyn Embedder>>,
    split: Split,
    /// One at a time builds an index.
    building: DashMap<IndexId, Arc<Mutex<()>>>,
}

/// What an index is made of.
pub struct Ports {
    /// Notes, and what was made of them.
    pub notes: Arc<dyn ReadNotes>,
    /// To keep what is made of them.
    pub write: Arc<dyn WriteVectors>,
    /// The index.
    pub vectors: Arc<dyn Vectors>,
    /// The embedder in force, and then others that may answer until it has made everything anew.
    pub embedders: Vec<Arc<dyn Embedder>>,
    /// How long texts are split.
    pub split: Split,
}

impl Recall {
    /// Answered by an index that this follower leads.
    pub fn new(index: Arc<Index>, follower: Arc<Follower>) -> Self {
        Self { index, follower }
    }

    /// What a call comes to.
    pub(crate) async fn decide_any(&self, asked: Asked<'_>, call: RecallCall) -> Decision<Reply> {
        match call {
            RecallCall::Remember(call) => decided(self, asked, call).await,
            RecallCall::Forget(call) => decided(self, asked, call).await,
            RecallCall::Search(call) => decided(self, asked, call).await,
        }
    }
}

impl Decide<Remember> for Recall {
    async fn decide(&self, asked: Asked<'_>, Remember { id, text, metadata }: Remember) -> Decision<Revision> {
        if let Err(why) = recall::check(&id, &text, &metadata) {
            return Ok(Decided::refuse(why));
        }
        let revision = (asked.revision)();
        let delta = Delta::NoteKept(Note { id, text, metadata, revision, kept_at: asked.now });
        Ok(Decided::change(revision, vec![delta], Vec::new(), None))
    }
}

impl Decide<Forget> for Recall {
    async fn decide(&self, Asked { whose, revision, .. }: Asked<'_>, Forget { id }: Forget) -> Decision<bool> {
        if id.is_empty() || id.len() > recall::MAX_ID {
            return Ok(Decided::refuse(format!("a note's id is 1 to {} bytes", recall::MAX_ID)));
        }
        let told = whose.newest(|delta| match delta {
            Delta::NoteKept(note) if note.id == id => Some(Some(note.revision)),
            Delta::NoteForgotten { id: gone, .. } if *gone == id => Some(None),
            _ => None,
        });
        let kept = match told {
            Some(told) => told,
            None => self.index.notes.note(whose.tenant, &id).await?.map(|note| note.revision),
        };
        let expects = vec![Expect::Note { id: id.clone(), revision: kept }];
        if kept.is_none() {
            return Ok(whose.unchanged(false, expects, None));
        }
        Ok(Decided::change(true, vec![Delta::NoteForgotten { id, revision: revision() }], expects, None))
    }
}

impl Decide<Search> for Recall {
    async fn decide(&self, Asked { whose, .. }: Asked<'_>, Search { query, filter, limit }: Search) -> Decision<Hits> {
        if query.trim().is_empty() || query.len() > recall::MAX_QUERY {
            let most = recall::MAX_QUERY;
            return Ok(Decided::refuse(format!("a question is 1 to {most} bytes, not blank")));
        }
        if !(1..=MAX_HITS).contains(&limit) {
            return Ok(Decided::refuse(format!("a search answers 1 to {MAX_HITS} hits, not {limit}")));
        }
        if let Err(why) = recall::check_metadata(&filter) {
            return Ok(Decided::refuse(why));
        }
        whose.barrier().await?;
        let fresh = self.follower.caught_up_within(PATIENCE).await;
        if !fresh && whose.is_serializable() {
            let message =
                "the index of notes lags behind the record, and what it answers could not be relied on".to_owned();
            return Ok(Decided::Answer(Err(Refusal::Unavailable { message, retry_after_ms: 1_000 })));
        }
        let mut hits = self.index.search(whose.tenant, &query, &filter, limit, &own(whose.own())).await?;
        hits.degraded |= !fresh;
        Ok(Decided::Answer(Ok(hits)))
    }
}

impl Index {
    /// Over these ports; there is at least one embedder.
    pub fn new(ports: Ports) -> Arc<Self> {
        let Ports { notes, write, vectors, embedders, split } = ports;
        Arc::new(Self { notes, write, vectors, embedders, split, building: DashMap::new() })
    }

    /// The embedder in force.
    pub fn embedder(&self) -> &Arc<dyn Embedder> {
        &self.embedders[0]
    }

    fn place(tenant: &TenantId, embedder: &EmbedderId) -> IndexId {
        IndexId { tenant: tenant.clone(), embedder: embedder.clone() }
    }

    /// The embedder whose vectors of a tenant are whole: the one in force, or one before it.
    async fn whole(&self, tenant: &TenantId) -> Result<(Arc<dyn Embedder>, bool), StoreError> {
        for (number, embedder) in self.embedders.iter().enumerate() {
            if self.notes.embedded(tenant, embedder.id()).await?.is_some() {
                return Ok((embedder.clone(), number > 0));
            }
        }
        Ok((self.embedder().clone(), true))
    }

    /// What is found among the record's notes and those that an attempt keeps, its `own`, which stand in the place of the
    /// record's; none: it forgot the note.
    async fn search(
        &self,
        tenant: &TenantId,
        query: &str,
        filter: &Metadata,
        limit: u32,
        own: &BTreeMap<&str, Option<&Note>>,
    ) -> Result<Hits, StoreError> {
        let mut hits = self.search_record(tenant, query, filter, limit, own).await?;
        let mut notes: Vec<&Note> = own.values().flatten().copied().filter(|note| has(note, filter)).collect();
        if notes.is_empty() {
            return Ok(hits);
        }
        // The newest are looked at, each time anew; with a checkpoint all of them come into the index.
        notes.sort_by_key(|note| std::cmp::Reverse(note.revision));
        hits.degraded |= notes.len() > MOST_OWN;
        notes.truncate(MOST_OWN);
        let (embedder, _) = self.whole(tenant).await?;
        let query = embedder.embed(tenant, &[query.to_owned()], Purpose::Query).await?.into_iter().next();
        let query = query.ok_or_else(no_vector)?;
        for note in notes {
            let spans = (self.split)(&note.text, embedder.passage_bytes());
            let texts: Vec<String> =
                spans.iter().map(|span| note.text.get(span.clone()).unwrap_or_default().to_owned()).collect();
            let passages = embedder.embed(tenant, &texts, Purpose::Passage).await?;
            let scored = texts.into_iter().zip(passages.iter().map(|passage| likeness(&query, passage)));
            if let Some((text, score)) = scored.max_by(|a, b| a.1.total_cmp(&b.1)) {
                hits.hits.push(Hit { id: note.id.clone(), text, metadata: note.metadata.clone(), score });
            }
        }
        hits.hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        hits.hits.truncate(limit as usize);
        Ok(hits)
    }

    async fn search_record(
        &self,
        tenant: &TenantId,
        query: &str,
        filter: &Metadata,
        limit: u32,
        own: &BTreeMap<&str, Option<&Note>>,
    ) -> Result<Hits, StoreError> {
        let (embedder, mut degraded) = self.whole(tenant).await?;
        let among = match filter.is_empty() {
            true => None,
            false => {
                let (ids, more) = self.notes.passages_with(tenant, embedder.id(), filter, MOST_FILTERED).await?;
                degraded |= more;
                if ids.is_empty() {
                    return Ok(Hits { hits: Vec::new(), degraded });
                }
                Some(ids)
            }
        };
        let asked = [query.to_owned()];
        let vector = embedder.embed(tenant, &asked, Purpose::Query).await?.into_iter().next();
        let vector = vector.ok_or_else(no_vector)?;
        let place = Self::place(tenant, embedder.id());
        // Where nothing was embedded there is nothing to load, or to build.
        if self.notes.embedded_notes(tenant, embedder.id(), None, 1).await?.is_empty() {
            return Ok(Hits { hits: Vec::new(), degraded });
        }
        self.ready(&place).await?;
        let k = (limit + u32::try_from(own.len()).unwrap_or(0).min(MAX_HITS)) * PASSAGES_A_HIT;
        let near = self.vectors.search(&place, &vector, k, among.as_deref()).await?;
        let ids: Vec<VectorId> = near.iter().map(|near| near.id).collect();
        let passages = self.notes.passages(tenant, embedder.id(), &ids).await?;
        let mut by_id: BTreeMap<VectorId, _> =
            passages.into_iter().map(|(passage, note)| (passage.id, (passage, note))).collect();
        let mut hits: Vec<Hit> = Vec::new();
        for found in near {
            let Some((passage, note)) = by_id.remove(&found.id) else { continue };
            let is_shown = hits.iter().any(|hit| hit.id == note.id) || own.contains_key(note.id.as_str());
            if hits.len() >= limit as usize || is_shown {
                continue;
            }
            let span = passage.span.0 as usize..passage.span.1 as usize;
            let text = note.text.get(span).unwrap_or(&note.text).to_owned();
            hits.push(Hit { id: note.id, text, metadata: note.metadata, score: found.score });
        }
        Ok(Hits { hits, degraded })
    }

    /// Sees to it that there is an index, with all that the record has: builds what is missing or damaged.
    async fn ready(&self, place: &IndexId) -> Result<(), StoreError> {
        // Held while one builds: an index that is half built is not searched.
        let lock = self.building.entry(place.clone()).or_default().clone();
        let _one = lock.lock().await;
        if self.vectors.stamp(place).await?.is_some() {
            return Ok(());
        }
        tracing::info!(tenant = %place.tenant, embedder = %place.embedder.name, "an index is built from the record");
        self.vectors.reset(place).await?;
        let (mut after, mut count) = (None, 0_u64);
        loop {
            let page = self.notes.vectors(&place.tenant, &place.embedder, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            count += page.len() as u64;
            let add: Vec<(VectorId, Vec<f32>)> = page.into_iter().map(|passage| (passage.id, passage.vector)).collect();
            self.vectors.change(place, &add, &[], Position(0)).await?;
            metrics::gauge!("ltmc_recall_building").set(count as f64);
        }
        let stamp = self.notes.embedded(&place.tenant, &place.embedder).await?.unwrap_or_default();
        self.vectors.change(place, &[], &[], stamp).await?;
        metrics::gauge!("ltmc_recall_building").set(0.0);
        tracing::info!(tenant = %place.tenant, embedder = %place.embedder.name, vectors = count, "an index was built");
        Ok(())
    }

    /// Embeds notes, keeps what was made in the record, and tells the index.
    async fn embed(
        &self,
        tenant: &TenantId,
        kept: Vec<Note>,
        gone: Vec<String>,
        to: Option<Position>,
    ) -> Result<(), StoreError> {
        let embedder = self.embedder();
        let place = Self::place(tenant, embedder.id());
        if kept.is_empty() && gone.is_empty() {
            // Nothing for the index: of tenants without notes there is none.
            let is_kept = self.keep(&place, Vec::new(), to).await?.is_some();
            if let (true, Some(to), Some(_)) = (is_kept, to, self.vectors.stamp(&place).await?) {
                self.vectors.change(&place, &[], &[], to).await?;
            }
            return Ok(());
        }
        let mut made: Vec<Embedded> = gone
            .into_iter()
            .map(|note| Embedded { note, revision: Revision(u64::MAX), passages: Vec::new() })
            .collect();
        let mut texts = Vec::new();
        for note in kept {
            let spans = (self.split)(&note.text, embedder.passage_bytes());
            for span in &spans {
                texts.push(note.text.get(span.clone()).unwrap_or_default().to_owned());
            }
            let spans = spans.into_iter().map(|span| (offset(span.start), offset(span.end)));
            let passages = spans.map(|span| (span, Vec::new())).collect();
            made.push(Embedded { note: note.id, revision: note.revision, passages });
        }
        let mut vectors = Vec::with_capacity(texts.len());
        for some in texts.chunks(TEXTS) {
            vectors.extend(embedder.embed(tenant, some, Purpose::Passage).await?);
        }
        let slots = made.iter_mut().flat_map(|note| &mut note.passages).map(|(_, vector)| vector);
        for (slot, vector) in slots.zip(vectors) {
            *slot = vector;
        }
        self.ready(&place).await?;
        let Some((added, removed)) = self.keep(&place, made, to).await? else { return Ok(()) };
        let add: Vec<(VectorId, Vec<f32>)> = added.into_iter().map(|passage| (passage.id, passage.vector)).collect();
        let stamp = match to {
            Some(to) => to,
            None => self.vectors.stamp(&place).await?.unwrap_or_default(),
        };
        let changed = self.vectors.change(&place, &add, &removed, stamp).await;
        if changed.is_err() {
            // The record is ahead of the index now: it is built anew when it is next needed.
            self.vectors.reset(&place).await?;
            self.vectors.drop_index(&place).await?;
        }
        changed
    }

    /// Has the record keep what was made; none: the tenant is deleted, and of it nothing is kept any more, here or there. What the log has of it
    /// comes by still, where it was not looked through before the host died.
    async fn keep(
        &self,
        place: &IndexId,
        made: Vec<Embedded>,
        to: Option<Position>,
    ) -> Result<Option<(Vec<StoredPassage>, Vec<VectorId>)>, StoreError> {
        match self.write.keep_vectors(&place.tenant, &place.embedder, made, to).await {
            Err(error) if error.kind == Kind::Fenced => {
                self.vectors.reset(place).await?;
                self.vectors.drop_index(place).await?;
                Ok(None)
            }
            kept => kept.map(Some),
        }
    }

    /// Writes what has changed to disk: now and then, and at the end.
    ///
    /// # Errors
    /// [`StoreError`] where the index cannot be written to disk.
    pub async fn save(&self) -> Result<(), StoreError> {
        self.vectors.save().await
    }
}

fn no_vector() -> StoreError {
    StoreError::new(Kind::Internal, "recall.search").because("no vector came")
}

/// The last word of an attempt on each note that it kept or forgot.
fn own(deltas: &[Delta]) -> BTreeMap<&str, Option<&Note>> {
    let mut own = BTreeMap::new();
    for delta in deltas {
        match delta {
            Delta::NoteKept(note) => drop(own.insert(note.id.as_str(), Some(note))),
            Delta::NoteForgotten { id, .. } => drop(own.insert(id.as_str(), None)),
            _ => {}
        }
    }
    own
}

fn has(note: &Note, filter: &Metadata) -> bool {
    filter.iter().all(|(name, value)| note.metadata.get(name) == Some(value))
}

/// As the index scores: the cosine, of vectors that have length 1.
fn likeness(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[async_trait]
impl Projection for Index {
    fn name(&self) -> &'static str {
        "recall"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Recall]
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// It stands in the record's own directory.
    async fn bind(&self, _: &str, _: bool) -> Result<Bound, StoreError> {
        Ok(Bound::Wholly)
    }

    async fn bound(&self, _: &str, _: &[TenantId]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn applied(&self, tenant: &TenantId) -> Result<Option<Position>, StoreError> {
        let embedder = self.embedder().id();
        let Some(embedded) = self.notes.embedded(tenant, embedder).await? else { return Ok(None) };
        // An index that was saved earlier than the record came is built anew; it is not asked for what the record knows.
        let place = Self::place(tenant, embedder);
        if self.vectors.stamp(&place).await?.is_some_and(|stamp| stamp != embedded) {
            self.vectors.drop_index(&place).await?;
        }
        Ok(Some(embedded))
    }

    async fn apply(&self, tenant: &TenantId, rows: &[Logged], to: Position) -> Result<(), StoreError> {
        // Of each note the last word counts.
        let mut last: BTreeMap<&str, Option<&Note>> = BTreeMap::new();
        for row in rows {
            match &row.delta {
                Delta::NoteKept(note) => drop(last.insert(&note.id, Some(note))),
                Delta::NoteForgotten { id, .. } => drop(last.insert(id, None)),
                _ => {}
            }
        }
        let gone = last.iter().filter(|(_, note)| note.is_none()).map(|(id, _)| (*id).to_owned()).collect();
        let kept = last.into_values().flatten().cloned().collect();
        self.embed(tenant, kept, gone, Some(to)).await
    }

    async fn inventory(
        &self,
        tenant: &TenantId,
        _: Topic,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        self.notes.embedded_notes(tenant, self.embedder().id(), after, limit).await
    }

    async fn put(&self, tenant: &TenantId, items: &[Item]) -> Result<(), StoreError> {
        let notes = items.iter().flat_map(|item| &item.deltas).filter_map(|delta| match delta {
            Delta::NoteKept(note) => Some(note.clone()),
            _ => None,
        });
        self.embed(tenant, notes.collect(), Vec::new(), None).await
    }

    async fn discard(&self, tenant: &TenantId, _: Topic, keys: &[String]) -> Result<(), StoreError> {
        self.embed(tenant, Vec::new(), keys.to_vec(), None).await
    }

    async fn set_applied(&self, tenant: &TenantId, to: Position) -> Result<(), StoreError> {
        self.embed(tenant, Vec::new(), Vec::new(), Some(to)).await?;
        // What other embedders made is not needed any more.
        for old in self.notes.embedders(tenant).await? {
            if old != *self.embedder().id() {
                self.write.forget_embedder(tenant, &old).await?;
                self.vectors.drop_index(&Self::place(tenant, &old)).await?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Recall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recall").field("follower", &self.follower).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("embedder", self.embedder().id()).finish_non_exhaustive()
    }
}
