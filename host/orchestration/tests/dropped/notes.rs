//! Notes of the record in memory, and what is made of them: what recall needs of a record, and what a repair compares.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Topic};
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{Position, TenantId};
use ltmc_ports::log::Item;
use ltmc_ports::recall::{Embedded, StoredPassage, VectorId};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{ReadContext, ReadNotes, StoreError, WriteVectors};
use tokio::task::yield_now;

/// Of one embedder, whichever that is: a house has one.
pub(crate) struct Notes {
    record: Arc<MemoryRecord>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    last: VectorId,
    notes: BTreeMap<(TenantId, String), (u64, Vec<StoredPassage>)>,
    upto: BTreeMap<TenantId, Position>,
}

impl Notes {
    pub(crate) fn of(record: Arc<MemoryRecord>) -> Arc<Self> {
        Arc::new(Self { record, made: Mutex::default() })
    }

    /// The numbers of the passages of all notes of a tenant, in order.
    pub(crate) fn numbers(&self, tenant: &TenantId) -> Vec<VectorId> {
        let mut found: Vec<VectorId> = self.passages_of(tenant).iter().map(|passage| passage.id).collect();
        found.sort_unstable();
        found
    }

    fn passages_of(&self, tenant: &TenantId) -> Vec<StoredPassage> {
        let made = self.made();
        let own = made.notes.iter().filter(|((of, _), _)| of == tenant);
        own.flat_map(|(_, (_, passages))| passages.clone()).collect()
    }

    /// A tenant's notes, by their ids.
    fn kept(&self, tenant: &TenantId) -> BTreeMap<String, Note> {
        self.record.context(|context| {
            let own = context.notes.iter().filter(|((of, _), _)| of == tenant);
            own.map(|((_, id), note)| (id.clone(), note.clone())).collect()
        })
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap()
    }
}

#[async_trait]
impl ReadNotes for Notes {
    async fn note(&self, tenant: &TenantId, id: &str) -> Result<Option<Note>, StoreError> {
        yield_now().await;
        Ok(self.kept(tenant).remove(id))
    }

    async fn notes(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Note>, StoreError> {
        yield_now().await;
        let kept = self.kept(tenant).into_iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        Ok(kept.take(limit as usize).map(|(_, note)| note).collect())
    }

    async fn passages(
        &self,
        tenant: &TenantId,
        _: &EmbedderId,
        ids: &[VectorId],
    ) -> Result<Vec<(StoredPassage, Note)>, StoreError> {
        yield_now().await;
        let kept = self.kept(tenant);
        let meant = self.passages_of(tenant).into_iter().filter(|passage| ids.contains(&passage.id));
        Ok(meant.filter_map(|passage| Some((passage.clone(), kept.get(&passage.note)?.clone()))).collect())
    }

    async fn passages_with(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        filter: &Metadata,
        most: u32,
    ) -> Result<(Vec<VectorId>, bool), StoreError> {
        let all = self.passages(tenant, embedder, &self.numbers(tenant)).await?;
        let has = |note: &Note| filter.iter().all(|(name, value)| note.metadata.get(name) == Some(value));
        let mut ids: Vec<VectorId> =
            all.into_iter().filter(|(_, note)| has(note)).map(|(passage, _)| passage.id).collect();
        ids.sort_unstable();
        let more = ids.len() > most as usize;
        ids.truncate(most as usize);
        Ok((ids, more))
    }

    async fn vectors(
        &self,
        tenant: &TenantId,
        _: &EmbedderId,
        after: Option<VectorId>,
        limit: u32,
    ) -> Result<Vec<StoredPassage>, StoreError> {
        yield_now().await;
        let mut found = self.passages_of(tenant);
        found.retain(|passage| after.is_none_or(|after| passage.id > after));
        found.sort_by_key(|passage| passage.id);
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn embedded(&self, tenant: &TenantId, _: &EmbedderId) -> Result<Option<Position>, StoreError> {
        yield_now().await;
        Ok(self.made().upto.get(tenant).copied())
    }

    async fn embedded_notes(
        &self,
        tenant: &TenantId,
        _: &EmbedderId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        yield_now().await;
        let made = self.made();
        let own = made.notes.iter().filter(|((of, id), _)| of == tenant && after.is_none_or(|after| **id > *after));
        Ok(own.take(limit as usize).map(|((_, id), (revision, _))| (id.clone(), *revision)).collect())
    }

    async fn embedders(&self, _: &TenantId) -> Result<Vec<EmbedderId>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl WriteVectors for Notes {
    async fn keep_vectors(
        &self,
        tenant: &TenantId,
        _: &EmbedderId,
        notes: Vec<Embedded>,
        to: Option<Position>,
    ) -> Result<(Vec<StoredPassage>, Vec<VectorId>), StoreError> {
        yield_now().await;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let mut made = self.made();
        for Embedded { note, revision, passages } in notes {
            let place = (tenant.clone(), note.clone());
            if made.notes.get(&place).is_some_and(|(known, _)| *known > revision.0) {
                continue;
            }
            let (_, old) = made.notes.remove(&place).unwrap_or_default();
            removed.extend(old.into_iter().map(|passage| passage.id));
            let mut new = Vec::new();
            for (part, (span, vector)) in (0..).zip(passages) {
                made.last += 1;
                new.push(StoredPassage { id: made.last, note: note.clone(), part, span, vector });
            }
            added.extend(new.iter().cloned());
            if !new.is_empty() {
                made.notes.insert(place, (revision.0, new));
            }
        }
        if let Some(to) = to {
            made.upto.insert(tenant.clone(), to);
        }
        Ok((added, removed))
    }

    async fn forget_embedder(&self, tenant: &TenantId, _: &EmbedderId) -> Result<(), StoreError> {
        let mut made = self.made();
        made.notes.retain(|(of, _), _| of != tenant);
        made.upto.remove(tenant);
        Ok(())
    }
}

#[async_trait]
impl ReadContext for Notes {
    async fn context(
        &self,
        tenant: &TenantId,
        topic: Topic,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Item>, StoreError> {
        assert_eq!(topic, Topic::Recall, "nothing in a house follows another topic");
        let notes = self.notes(tenant, after, limit).await?;
        let item = |note: Note| Item {
            key: note.id.clone(),
            version: note.revision.0,
            position: Position(0),
            deltas: vec![Delta::NoteKept(note)],
        };
        Ok(notes.into_iter().map(item).collect())
    }
}
