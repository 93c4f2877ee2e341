//! Notes of the record in memory, and what is made of them, as a record on disk has them: whoever asks waits, and may be dropped there.

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::delta::Topic;
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{Position, TenantId};
use ltmc_ports::log::Item;
use ltmc_ports::recall::{Embedded, StoredPassage, VectorId};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{ReadContext, ReadNotes, StoreError, WriteVectors};
use tokio::task::yield_now;

pub(crate) struct Notes(pub(crate) Arc<MemoryRecord>);

#[async_trait]
impl ReadNotes for Notes {
    async fn note(&self, tenant: &TenantId, id: &str) -> Result<Option<Note>, StoreError> {
        yield_now().await;
        self.0.note(tenant, id).await
    }

    async fn notes(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Note>, StoreError> {
        yield_now().await;
        self.0.notes(tenant, after, limit).await
    }

    async fn passages(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        ids: &[VectorId],
    ) -> Result<Vec<(StoredPassage, Note)>, StoreError> {
        yield_now().await;
        self.0.passages(tenant, embedder, ids).await
    }

    async fn passages_with(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        filter: &Metadata,
        most: u32,
    ) -> Result<(Vec<VectorId>, bool), StoreError> {
        yield_now().await;
        self.0.passages_with(tenant, embedder, filter, most).await
    }

    async fn vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<VectorId>,
        limit: u32,
    ) -> Result<Vec<StoredPassage>, StoreError> {
        yield_now().await;
        self.0.vectors(tenant, embedder, after, limit).await
    }

    async fn embedded(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<Option<Position>, StoreError> {
        yield_now().await;
        self.0.embedded(tenant, embedder).await
    }

    async fn embedded_notes(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        yield_now().await;
        self.0.embedded_notes(tenant, embedder, after, limit).await
    }

    async fn embedders(&self, tenant: &TenantId) -> Result<Vec<EmbedderId>, StoreError> {
        yield_now().await;
        self.0.embedders(tenant).await
    }
}

#[async_trait]
impl WriteVectors for Notes {
    async fn keep_vectors(
        &self,
        tenant: &TenantId,
        embedder: &EmbedderId,
        notes: Vec<Embedded>,
        to: Option<Position>,
    ) -> Result<(Vec<StoredPassage>, Vec<VectorId>), StoreError> {
        yield_now().await;
        self.0.keep_vectors(tenant, embedder, notes, to).await
    }

    async fn forget_embedder(&self, tenant: &TenantId, embedder: &EmbedderId) -> Result<(), StoreError> {
        yield_now().await;
        self.0.forget_embedder(tenant, embedder).await
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
        yield_now().await;
        ReadContext::context(self.0.as_ref(), tenant, topic, after, limit).await
    }
}
