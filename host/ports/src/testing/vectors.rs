//! Vectors in memory: compared one by one, and on disk only as far as somebody saved them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ltmc_model::Position;

use crate::recall::{IndexId, Near, VectorId};
use crate::{Kind, StoreError, Vectors};

/// Indexes of vectors in memory.
#[derive(Debug, Default)]
pub struct MemoryVectors {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: HashMap<IndexId, Index>,
    saved: HashMap<IndexId, Index>,
}

#[derive(Debug, Clone, Default)]
struct Index {
    vectors: BTreeMap<VectorId, Vec<f32>>,
    stamp: Option<Position>,
}

impl MemoryVectors {
    /// Without an index.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What a host that starts finds: what was saved.
    pub fn reopen(&self) -> Arc<Self> {
        let saved = self.with(|state| state.saved.clone());
        Arc::new(Self { state: Mutex::new(State { now: saved.clone(), saved }) })
    }

    /// A file is damaged: the index is as if it had never been.
    pub fn damage(&self, index: &IndexId) {
        self.with(|state| {
            state.now.remove(index);
            state.saved.remove(index);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Vectors for MemoryVectors {
    async fn search(
        &self,
        index: &IndexId,
        vector: &[f32],
        k: u32,
        among: Option<&[VectorId]>,
    ) -> Result<Vec<Near>, StoreError> {
        check("vectors.search", index, vector)?;
        self.with(|state| {
            let vectors = &state.now.get(index).ok_or_else(|| nothing("vectors.search"))?.vectors;
            let wanted = |id: &VectorId| among.is_none_or(|among| among.binary_search(id).is_ok());
            let mut near: Vec<Near> = vectors
                .iter()
                .filter(|(id, _)| wanted(id))
                .map(|(id, other)| Near { id: *id, score: vector.iter().zip(other).map(|(a, b)| a * b).sum() })
                .collect();
            near.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
            near.truncate(k as usize);
            Ok(near)
        })
    }

    async fn change(
        &self,
        index: &IndexId,
        add: &[(VectorId, Vec<f32>)],
        remove: &[VectorId],
        stamp: Position,
    ) -> Result<(), StoreError> {
        for (_, vector) in add {
            check("vectors.change", index, vector)?;
        }
        self.with(|state| {
            let index = state.now.get_mut(index).ok_or_else(|| nothing("vectors.change"))?;
            index.vectors.extend(add.iter().cloned());
            index.vectors.retain(|id, _| !remove.contains(id));
            index.stamp = Some(stamp);
            Ok(())
        })
    }

    async fn reset(&self, index: &IndexId) -> Result<(), StoreError> {
        if index.embedder.dimensions == 0 {
            return Err(StoreError::new(Kind::Internal, "vectors.reset").because("a vector has at least one number"));
        }
        self.with(|state| {
            state.saved.remove(index);
            state.now.insert(index.clone(), Index::default());
        });
        Ok(())
    }

    async fn stamp(&self, index: &IndexId) -> Result<Option<Position>, StoreError> {
        Ok(self.with(|state| state.now.get(index).and_then(|index| index.stamp)))
    }

    async fn ids(&self, index: &IndexId) -> Result<Vec<VectorId>, StoreError> {
        self.with(|state| {
            let index = state.now.get(index).ok_or_else(|| nothing("vectors.ids"))?;
            Ok(index.vectors.keys().copied().collect())
        })
    }

    async fn save(&self) -> Result<(), StoreError> {
        self.with(|state| state.saved = state.now.clone());
        Ok(())
    }

    async fn drop_index(&self, index: &IndexId) -> Result<(), StoreError> {
        self.damage(index);
        Ok(())
    }
}

fn check(op: &'static str, index: &IndexId, vector: &[f32]) -> Result<(), StoreError> {
    let right = vector.len() == index.embedder.dimensions as usize && vector.iter().all(|number| number.is_finite());
    match right {
        true => Ok(()),
        false => {
            Err(StoreError::new(Kind::Internal, op).because("a vector of another size, or with a number that is none"))
        }
    }
}

fn nothing(op: &'static str) -> StoreError {
    StoreError::new(Kind::Corrupt, op).because("there is no index: build it")
}
