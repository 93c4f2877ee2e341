//! The graph as an attempt sees it that has told facts which are not true yet: the record's, with its own on top.
//!
//! Walks go over the record's facts ring by ring, as the record's own do; an attempt that has told nothing is answered by the graph's
//! database. They end at so many facts as any walk does: what a way may have beyond is not found.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::delta::{Delta, FactEnd};
use ltmc_model::graph::{Entity, Fact, FactFilter, FactPage, MAX_VISITED, Path, Reached, Walk};
use ltmc_model::{Revision, TenantId};
use ltmc_ports::{ReadFacts, StoreError};

use crate::context::Whose;

/// The most facts that a walk goes over.
const MOST: usize = MAX_VISITED as usize;

/// What an attempt told of the graph and is not true yet.
pub(crate) struct Own<'a> {
    began: BTreeMap<Revision, Fact>,
    ended: BTreeMap<Revision, &'a FactEnd>,
}

impl<'a> Own<'a> {
    /// Of whoever asks; none: it told nothing, and need not be answered by the record alone.
    pub(crate) fn of(whose: Whose<'a>) -> Option<Self> {
        let (mut began, mut ended) = (BTreeMap::new(), BTreeMap::new());
        for delta in whose.own() {
            match delta {
                Delta::FactBegan(fact) => drop(began.insert(fact.id, fact.clone())),
                Delta::FactEnded(end) => drop(ended.insert(end.id, end)),
                _ => {}
            }
        }
        for fact in began.values_mut() {
            end(fact, &ended);
        }
        let has_any = !began.is_empty() || !ended.is_empty();
        // A database that follows the record may lag behind what its answer is relied on for.
        (has_any || whose.is_serializable()).then_some(Self { began, ended })
    }

    /// As [`ltmc_ports::ReadGraph::facts`].
    pub(crate) async fn facts(
        &self,
        record: &dyn ReadFacts,
        tenant: &TenantId,
        filter: &FactFilter,
    ) -> Result<FactPage, StoreError> {
        let mut page = record.facts(tenant, filter).await?;
        page.facts.iter_mut().for_each(|fact| end(fact, &self.ended));
        page.facts.retain(|fact| filter.history || fact.seen(filter.as_of));
        // Of what comes after the page nothing belongs to it.
        let within = |fact: &&Fact| page.next.is_none_or(|last| fact.id <= last);
        let own = self.began.values().filter(|fact| filter.admits(fact)).filter(within);
        page.facts.extend(own.cloned());
        page.facts.sort_by_key(|fact| fact.id);
        let limit = filter.limit.max(1) as usize;
        if page.facts.len() > limit {
            page.facts.truncate(limit);
            page.next = page.facts.last().map(|last| last.id);
        }
        page.degraded = false;
        Ok(page)
    }

    /// Every fact next to these entities along which a walk may go, by id; about so many.
    async fn ring(
        &self,
        record: &dyn ReadFacts,
        tenant: &TenantId,
        walk: &Walk,
        front: &BTreeSet<Entity>,
        limit: usize,
    ) -> Result<Vec<Fact>, StoreError> {
        let mut facts = record.next_to(tenant, walk, front, limit + self.ended.len()).await?;
        facts.iter_mut().for_each(|fact| end(fact, &self.ended));
        facts.retain(|fact| fact.seen(walk.as_of));
        let is_next = |fact: &&Fact| {
            let mut ends = [&fact.subject, &fact.object].into_iter();
            ends.any(|entity| front.contains(entity) && fact.leads_from(entity, walk.direction))
                && walk.relation.as_ref().is_none_or(|relation| fact.relation == *relation)
                && fact.seen(walk.as_of)
        };
        facts.extend(self.began.values().filter(is_next).cloned());
        facts.sort_by_key(|fact| fact.id);
        Ok(facts)
    }

    /// As [`ltmc_ports::ReadGraph::path`].
    pub(crate) async fn path(
        &self,
        record: &dyn ReadFacts,
        tenant: &TenantId,
        walk: &Walk,
        to: &Entity,
    ) -> Result<Path, StoreError> {
        let mut came: BTreeMap<Entity, Option<(Entity, Fact)>> = BTreeMap::from([(walk.from.clone(), None)]);
        let (mut front, mut visited) = (BTreeSet::from([walk.from.clone()]), 0);
        for _ in 0..walk.depth {
            if came.contains_key(to) || front.is_empty() || visited >= MOST {
                break;
            }
            let mut next = BTreeSet::new();
            let mut ring = self.ring(record, tenant, walk, &front, MOST - visited).await?;
            ring.truncate(MOST - visited);
            visited += ring.len();
            for fact in ring {
                for (from, other) in [(&fact.subject, &fact.object), (&fact.object, &fact.subject)] {
                    if fact.leads_from(from, walk.direction) && front.contains(from) && !came.contains_key(other) {
                        came.insert(other.clone(), Some((from.clone(), fact.clone())));
                        next.insert(other.clone());
                    }
                }
            }
            front = next;
        }
        if !came.contains_key(to) {
            return Ok(Path { facts: None, degraded: false });
        }
        let (mut facts, mut at) = (Vec::new(), to.clone());
        while let Some(Some((from, fact))) = came.remove(&at) {
            facts.push(fact);
            at = from;
        }
        facts.reverse();
        Ok(Path { facts: Some(facts), degraded: false })
    }

    /// As [`ltmc_ports::ReadGraph::reach`].
    pub(crate) async fn reach(
        &self,
        record: &dyn ReadFacts,
        tenant: &TenantId,
        walk: &Walk,
    ) -> Result<Reached, StoreError> {
        let (mut seen, mut told) = (BTreeSet::from([walk.from.clone()]), BTreeSet::new());
        let (mut front, mut facts) = (seen.clone(), Vec::new());
        for _ in 0..walk.depth {
            if front.is_empty() {
                break;
            }
            // What was walked along before may come once more.
            let ring = self.ring(record, tenant, walk, &front, MOST + 1 + told.len()).await?;
            front.clear();
            for fact in ring.into_iter().filter(|fact| told.insert(fact.id)) {
                if facts.len() >= MOST {
                    return Ok(Reached { facts, cut: true, degraded: false });
                }
                for entity in [&fact.subject, &fact.object] {
                    if seen.insert(entity.clone()) {
                        front.insert(entity.clone());
                    }
                }
                facts.push(fact);
            }
        }
        Ok(Reached { facts, cut: false, degraded: false })
    }
}

fn end(fact: &mut Fact, ended: &BTreeMap<Revision, &FactEnd>) {
    if let Some(end) = ended.get(&fact.id) {
        (fact.valid_to, fact.ended_at) = (Some(end.valid_to), Some(end.ended_at));
    }
}
