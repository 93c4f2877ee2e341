//! The graph's port: it is written only with the journal (see [`ltmc_model::delta::Delta`]), and read here.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ltmc_model::TenantId;
use ltmc_model::graph::{Entity, Fact, FactFilter, FactPage, Reached, Relation, Walk};

use crate::StoreError;

/// For those who ask the graph.
#[async_trait]
pub trait ReadGraph: Send + Sync {
    /// Facts, in the order of their ids.
    async fn facts(&self, tenant: &TenantId, filter: &FactFilter) -> Result<FactPage, StoreError>;

    /// A shortest way from `walk.from` to `to`: the facts along it, in order; none: there is none within `walk.depth`.
    /// A thing is on its own way: no facts.
    async fn path(&self, tenant: &TenantId, walk: &Walk, to: &Entity) -> Result<Option<Vec<Fact>>, StoreError>;

    /// Every fact along which something can be reached, nearest first, then by id; at most
    /// [`ltmc_model::graph::MAX_VISITED`].
    async fn reach(&self, tenant: &TenantId, walk: &Walk) -> Result<Reached, StoreError>;
}

/// What the record itself says of a fact, for whoever decides a change.
#[async_trait]
pub trait ReadFacts: ReadGraph {
    /// The fact that holds between two entities, as far as is known.
    async fn holding(
        &self,
        tenant: &TenantId,
        subject: &Entity,
        relation: &Relation,
        object: &Entity,
    ) -> Result<Option<Fact>, StoreError>;

    /// Facts next to any of these entities along which a walk goes, in the order of their ids; at most `limit`. What the walk begins at
    /// and how far it goes is not looked at.
    async fn next_to(
        &self,
        tenant: &TenantId,
        walk: &Walk,
        front: &BTreeSet<Entity>,
        limit: usize,
    ) -> Result<Vec<Fact>, StoreError>;
}
