//! Notes in memory, and what was made of them: kept beside the journal, for it can be made again at any time.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{Position, Revision, TenantId};

use super::MemoryRecord;
use super::context::Context;
use crate::recall::{Embedded, IndexId, StoredPassage, VectorId};
use crate::{ReadNotes, StoreError, WriteVectors};

/// What was made of every tenant's notes.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    /// Passages, each with the version of its note that it is of.
    passages: BTreeMap<(IndexId, VectorId), (Revision, StoredPassage)>,
    /// Up to where notes were made into vectors, where that was said.
    embedded: BTreeMap<IndexId, Option<Position>>,
    /// The number of the last passage: none is used twice.
    last: VectorId,
}

impl Made {
    fn of(&self, index: &IndexId) -> impl Iterator<Item = &(Revision, StoredPassage)> {
        let from = (index.clone(), VectorId::MIN);
        let of = index.clone();
        self.passages.range(from..).take_while(move |((index, _), _)| *index == of).map(|(_, passage)| passage)
    }

    fn keep(
        &mut self,
        index: &IndexId,
        notes: Vec<Embedded>,
        to: Option<Position>,
    ) -> (Vec<StoredPassage>, Vec<VectorId>) {
        let anew = |passage: &StoredPassage| notes.iter().any(|note| note.note == passage.note);
        let gone: Vec<VectorId> = self.of(index).filter(|(_, old)| anew(old)).map(|(_, old)| old.id).collect();
        for id in &gone {
            self.passages.remove(&(index.clone(), *id));
        }
        let mut added = Vec::new();
        for note in notes {
            for (part, (span, vector)) in (0..).zip(note.passages) {
                self.last += 1;
                let passage = StoredPassage { id: self.last, note: note.note.clone(), part, span, vector };
                self.passages.insert((index.clone(), self.last), (note.revision, passage.clone()));
                added.push(passage);
            }
        }
        let embedded = self.embedded.entry(index.clone()).or_default();
        *embedded = to.or(*embedded);
        (added, gone)
    }
}

fn index(tenant: &TenantId, embedder: &EmbedderId) -> IndexId {
    IndexId { tenant: tenant.clone(), embedder: embedder.clone() }
}

/// The note of which this passage is, where the passage is of its newest version.
fn note_of<'a>(context: &'a Context, tenant: &TenantId, (of, passage): &(Revision, StoredPassage)) -> Option<&'a Note> {
    context.notes.get(&(tenant.clone(), passage.note.clone())).filter(|note| note.revision == *of)
}

#[async_trait]
impl ReadNotes for MemoryRecord {
    async fn note(&self, tenant: &TenantId, id: &str) -> Result<Option<Note>, StoreError> {
        Ok(self.context(|context| context.notes.get(&(tenant.clone(), id.to_owned())).cloned()))
    }

    async fn notes(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Note>, StoreError> {
        Ok(self.context(|context| {
            let of_tenant =
                context.notes.iter().filter(|((t, id), _)| t == tenant && after.is_none_or(|at| id.as_str() > at));
            of_tenant.map(|(_, note)| note.clone()).take(limit as usize).collect()
        }))
    }

    async fn passages(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        ids: &[VectorId],
    ) -> Result<Vec<(StoredPassage, Note)>, StoreError> {
        let index = index(tenant, embedder);
        Ok(self.with_made(|made, context| {
            let found = ids.iter().filter_map(|id| made.passages.get(&(index.clone(), *id)));
            let found = found.filter_map(|found| Some((found, note_of(context, tenant, found)?)));
            let bare = |passage: &StoredPassage| StoredPassage { vector: Vec::new(), ..passage.clone() };
            found.map(|((_, passage), note)| (bare(passage), note.clone())).collect()
        }))
    }

    async fn passages_with(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        filter: &Metadata,
        most: u32,
    ) -> Result<(Vec<VectorId>, bool), StoreError> {
        let index = index(tenant, embedder);
        Ok(self.with_made(|made, context| {
            let has = |passage: &StoredPassage| {
                let note = context.notes.get(&(tenant.clone(), passage.note.clone()));
                note.is_some_and(|note| filter.iter().all(|(name, value)| note.metadata.get(name) == Some(value)))
            };
            let with = made.of(&index).filter(|(_, passage)| has(passage)).map(|(_, passage)| passage.id);
            let mut ids: Vec<VectorId> = with.take(most as usize + 1).collect();
            let more = ids.len() > most as usize;
            ids.truncate(most as usize);
            (ids, more)
        }))
    }

    async fn vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<VectorId>,
        limit: u32,
    ) -> Result<Vec<StoredPassage>, StoreError> {
        let index = index(tenant, embedder);
        Ok(self.with_made(|made, _| {
            let all = made.of(&index).map(|(_, passage)| passage);
            let later = all.filter(|passage| after.is_none_or(|after| passage.id > after));
            later.take(limit as usize).cloned().collect()
        }))
    }

    async fn embedded(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<Option<Position>, StoreError> {
        let index = index(tenant, embedder);
        Ok(self.with_made(|made, _| made.embedded.get(&index).copied().flatten()))
    }

    async fn embedded_notes(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let index = index(tenant, embedder);
        Ok(self.with_made(|made, _| {
            let mut notes: BTreeMap<&str, u64> = BTreeMap::new();
            for (of, passage) in made.of(&index) {
                let oldest = notes.entry(&passage.note).or_insert(of.0);
                *oldest = of.0.min(*oldest);
            }
            let later = notes.into_iter().filter(|(note, _)| after.is_none_or(|after| *note > after));
            later.map(|(note, of)| (note.to_owned(), of)).take(limit as usize).collect()
        }))
    }

    async fn embedders(&self, tenant: &TenantId) -> Result<Vec<EmbedderId>, StoreError> {
        Ok(self.with_made(|made, _| {
            let of_tenant = made.embedded.keys().filter(|index| index.tenant == *tenant);
            of_tenant.map(|index| index.embedder.clone()).collect()
        }))
    }
}

#[async_trait]
impl WriteVectors for MemoryRecord {
    async fn keep_vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        notes: Vec<Embedded>,
        to: Option<Position>,
    ) -> Result<(Vec<StoredPassage>, Vec<VectorId>), StoreError> {
        let index = index(tenant, embedder);
        Ok(self.change_made(|made| made.keep(&index, notes, to)))
    }

    async fn forget_embedder(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<(), StoreError> {
        let gone = index(tenant, embedder);
        self.change_made(|made| {
            made.passages.retain(|(index, _), _| *index != gone);
            made.embedded.remove(&gone);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::suite::{InMemory, record};

    #[tokio::test]
    async fn vectors_go_with_their_notes_and_come_back_as_they_were() {
        record::vectors_go_with_their_notes_and_come_back_as_they_were(&InMemory).await;
    }
}
