//! The host's side of the interface `ltmc:agent/graph`.

use ltmc_model::call::graph as call;
use ltmc_model::graph::{AsOf, Direction, Entity, Fact, FactFilter, Relation, Walk};
use ltmc_model::{Revision, Timestamp};

use super::{Answered, wit};
use crate::guest::Guest;

impl wit::graph::Host for Guest {
    async fn relate(
        &mut self,
        subject: String,
        relation: String,
        object: String,
        properties: String,
        valid_from_ms: Option<u64>,
    ) -> Answered<u64> {
        let call = (|| {
            Ok(call::Relate {
                subject: named(subject)?,
                relation: named(relation)?,
                object: named(object)?,
                properties,
                valid_from: valid_from_ms.map(Timestamp::from_millis),
            })
        })();
        Ok(self.cross_checked(call).await?.map(|id| id.0))
    }

    async fn unrelate(
        &mut self,
        subject: String,
        relation: String,
        object: String,
        valid_to_ms: Option<u64>,
    ) -> Answered<bool> {
        let call = (|| {
            Ok(call::Unrelate {
                subject: named(subject)?,
                relation: named(relation)?,
                object: named(object)?,
                valid_to: valid_to_ms.map(Timestamp::from_millis),
            })
        })();
        self.cross_checked(call).await
    }

    async fn facts(&mut self, filter: wit::graph::Filter) -> Answered<wit::graph::Page> {
        let call = (|| {
            Ok(call::Facts(FactFilter {
                entity: filter.entity.map(named).transpose()?,
                direction: direction(filter.direction),
                relation: filter.relation.map(named).transpose()?,
                as_of: as_of(filter.as_of),
                history: filter.history,
                after: filter.after.map(Revision),
                limit: filter.limit,
            }))
        })();
        Ok(self.cross_checked(call).await?.map(|page| wit::graph::Page {
            facts: facts(page.facts),
            next: page.next.map(|id| id.0),
            degraded: page.degraded,
        }))
    }

    async fn find_path(&mut self, along: wit::graph::Walk, to: String) -> Answered<wit::graph::Path> {
        let call = (|| Ok(call::FindPath { walk: walk(along)?, to: named(to)? }))();
        let path = self.cross_checked(call).await?;
        Ok(path.map(|path| wit::graph::Path { facts: path.facts.map(facts), degraded: path.degraded }))
    }

    async fn reach(&mut self, along: wit::graph::Walk) -> Answered<wit::graph::Reached> {
        Ok(self.cross_checked(walk(along).map(call::Reach)).await?.map(|reached| wit::graph::Reached {
            facts: facts(reached.facts),
            cut: reached.cut,
            degraded: reached.degraded,
        }))
    }

    async fn dependency_order(&mut self, along: wit::graph::Walk) -> Answered<wit::graph::Order> {
        let names = |entities: Vec<Entity>| entities.into_iter().map(String::from).collect();
        Ok(self.cross_checked(walk(along).map(call::DependencyOrder)).await?.map(|order| wit::graph::Order {
            entities: names(order.entities),
            cycles: order.cycles.into_iter().map(names).collect(),
            cut: order.cut,
            degraded: order.degraded,
        }))
    }
}

fn named<T: std::str::FromStr<Err: std::fmt::Display>>(text: String) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

fn walk(walk: wit::graph::Walk) -> Result<Walk, String> {
    Ok(Walk {
        from: named::<Entity>(walk.from)?,
        direction: direction(walk.direction),
        relation: walk.relation.map(named::<Relation>).transpose()?,
        depth: walk.depth,
        as_of: as_of(walk.as_of),
    })
}

fn direction(direction: wit::graph::Direction) -> Direction {
    match direction {
        wit::graph::Direction::Out => Direction::Out,
        wit::graph::Direction::In => Direction::In,
        wit::graph::Direction::Both => Direction::Both,
    }
}

fn as_of(as_of: wit::graph::AsOf) -> AsOf {
    AsOf { valid: as_of.valid_ms.map(Timestamp::from_millis), known: as_of.known_ms.map(Timestamp::from_millis) }
}

fn facts(facts: Vec<Fact>) -> Vec<wit::graph::Fact> {
    facts.into_iter().map(fact).collect()
}

fn fact(fact: Fact) -> wit::graph::Fact {
    wit::graph::Fact {
        id: fact.id.0,
        subject: fact.subject.into(),
        relation: fact.relation.into(),
        object: fact.object.into(),
        properties: fact.properties,
        valid_from_ms: fact.valid_from.millis(),
        valid_to_ms: fact.valid_to.map(Timestamp::millis),
        recorded_at_ms: fact.recorded_at.millis(),
        ended_at_ms: fact.ended_at.map(Timestamp::millis),
    }
}
