//! The graph, read. Walks go ring by ring, so that a thing is looked at once however many ways lead to it; only a shortest
//! way is left to Neo4j, which searches it from both ends.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ltmc_model::graph::{
    Direction, Entity, Fact, FactFilter, FactPage, MAX_PAGE, MAX_VISITED, Reached, Relation, Walk,
};
use ltmc_model::{Revision, TenantId, Timestamp};
use ltmc_ports::{ReadGraph, StoreError};
use serde::Deserialize;

use crate::Neo4j;
use crate::error::odd;
use crate::link::Transaction;
use crate::statement::{Statement, list, number, read};

/// What is read of a fact `f` between `s` and `o`.
const RETURN: &str = "RETURN f.id AS id, s.name AS subject, f.relation AS relation, o.name AS object, \
                      f.properties AS properties, f.valid_from AS valid_from, f.valid_to AS valid_to, \
                      f.recorded_at AS recorded_at, f.ended_at AS ended_at";

#[async_trait]
impl ReadGraph for Neo4j {
    async fn facts(&self, tenant: &TenantId, filter: &FactFilter) -> Result<FactPage, StoreError> {
        const OP: &str = "graph.facts";
        let limit = filter.limit.clamp(1, MAX_PAGE);
        let text = match (&filter.entity, filter.direction) {
            (None, _) => "MATCH (s)-[f:FACT]->(o) WHERE f.tenant = $tenant AND",
            (Some(_), Direction::Out) => "MATCH (s:Entity {tenant: $tenant, name: $entity})-[f:FACT]->(o) WHERE",
            (Some(_), Direction::In) => "MATCH (s)-[f:FACT]->(o:Entity {tenant: $tenant, name: $entity}) WHERE",
            (Some(_), Direction::Both) => {
                "MATCH (e:Entity {tenant: $tenant, name: $entity})-[f:FACT]-() \
                 WITH DISTINCT f, startNode(f) AS s, endNode(f) AS o WHERE"
            }
        };
        let mut statement =
            Statement::of(tenant, text).then("f.id > $after").then_if(filter.relation.is_some(), RELATION);
        if !filter.history {
            statement = statement.then("AND").seen(filter.as_of);
        }
        if let Some(entity) = &filter.entity {
            statement = statement.with("entity", entity.as_str());
        }
        let statement = about(statement, filter.relation.as_ref())
            .with("after", filter.after.map_or(neo4rs::BoltType::from(-1), |after| number(after.0)))
            .with("limit", i64::from(limit) + 1)
            .then(RETURN)
            // As the index of all facts is ordered, so that a page reads no more than it shows.
            .then("ORDER BY f.tenant, f.id LIMIT $limit");
        let _reading = self.link.reading(OP, tenant).await?;
        let mut facts = facts(OP, self.link.ask(OP, statement).await?)?;
        let more = facts.len() > limit as usize;
        facts.truncate(limit as usize);
        let next = facts.last().filter(|_| more).map(|last| last.id);
        Ok(FactPage { facts, next, degraded: false })
    }

    async fn path(&self, tenant: &TenantId, walk: &Walk, to: &Entity) -> Result<Option<Vec<Fact>>, StoreError> {
        const OP: &str = "graph.path";
        if walk.from == *to {
            return Ok(Some(Vec::new()));
        }
        if walk.depth == 0 {
            return Ok(None);
        }
        let ends = "MATCH (a:Entity {tenant: $tenant, name: $from}) MATCH (b:Entity {tenant: $tenant, name: $to})";
        let (left, right) = match walk.direction {
            Direction::Out => ("MATCH p = shortestPath((a)-[:FACT", "]->(b))"),
            Direction::In => ("MATCH p = shortestPath((a)<-[:FACT", "]-(b))"),
            Direction::Both => ("MATCH p = shortestPath((a)-[:FACT", "]-(b))"),
        };
        let statement = Statement::of(tenant, ends)
            .then(left)
            .depth(walk.depth)
            .then(right)
            .then("WHERE all(f IN relationships(p) WHERE")
            .seen(walk.as_of)
            .then_if(walk.relation.is_some(), RELATION)
            .then(") UNWIND range(0, length(p) - 1) AS at WITH at, relationships(p)[at] AS f")
            .then("WITH at, f, startNode(f) AS s, endNode(f) AS o")
            .then(RETURN)
            .then("ORDER BY at")
            .with("from", walk.from.as_str())
            .with("to", to.as_str());
        let _reading = self.link.reading(OP, tenant).await?;
        let way = facts(OP, self.link.ask(OP, about(statement, walk.relation.as_ref())).await?)?;
        Ok(Some(way).filter(|way| !way.is_empty()))
    }

    async fn reach(&self, tenant: &TenantId, walk: &Walk) -> Result<Reached, StoreError> {
        let _reading = self.link.reading("graph.reach", tenant).await?;
        let mut asking = self.link.begin_reading("graph.reach").await?;
        let mut seen = BTreeSet::from([walk.from.clone()]);
        let mut known = BTreeSet::new();
        let mut front = vec![walk.from.clone()];
        let mut reached = Reached::default();
        'rings: for _ in 0..walk.depth {
            if front.is_empty() {
                break;
            }
            // What was walked along before may come once more, where facts are followed either way.
            let again = if walk.direction == Direction::Both { known.len() } else { 0 };
            let rest = MAX_VISITED as usize + 1 - reached.facts.len();
            let ring = ring(&mut asking, tenant, walk, &front, rest + again).await?;
            front.clear();
            for fact in ring.into_iter().filter(|fact| known.insert(fact.id)) {
                if reached.facts.len() >= MAX_VISITED as usize {
                    reached.cut = true;
                    break 'rings;
                }
                for entity in [&fact.subject, &fact.object] {
                    if seen.insert(entity.clone()) {
                        front.push(entity.clone());
                    }
                }
                reached.facts.push(fact);
            }
        }
        asking.commit().await?;
        Ok(reached)
    }
}

/// Facts next to these entities, by their ids.
async fn ring(
    asking: &mut Transaction<'_>,
    tenant: &TenantId,
    walk: &Walk,
    front: &[Entity],
    limit: usize,
) -> Result<Vec<Fact>, StoreError> {
    const OP: &str = "graph.reach";
    let text = match walk.direction {
        Direction::Out => "UNWIND $front AS name MATCH (s:Entity {tenant: $tenant, name: name})-[f:FACT]->(o) WHERE",
        Direction::In => "UNWIND $front AS name MATCH (o:Entity {tenant: $tenant, name: name})<-[f:FACT]-(s) WHERE",
        Direction::Both => {
            "UNWIND $front AS name MATCH (:Entity {tenant: $tenant, name: name})-[f:FACT]-() \
             WITH DISTINCT f, startNode(f) AS s, endNode(f) AS o WHERE"
        }
    };
    let statement = Statement::of(tenant, text)
        .seen(walk.as_of)
        .then_if(walk.relation.is_some(), RELATION)
        .then(RETURN)
        .then("ORDER BY f.id LIMIT $limit")
        .with("front", list(front.iter().map(|entity| entity.as_str().into())))
        .with("limit", i64::try_from(limit).unwrap_or(i64::MAX));
    facts(OP, asking.ask(about(statement, walk.relation.as_ref())).await?)
}

const RELATION: &str = "AND f.relation = $relation";

fn about(statement: Statement, relation: Option<&Relation>) -> Statement {
    match relation {
        Some(relation) => statement.with("relation", relation.as_str()),
        None => statement,
    }
}

/// A fact, as it is read.
#[derive(Debug, Deserialize)]
struct Found {
    id: i64,
    subject: String,
    relation: String,
    object: String,
    properties: Option<String>,
    valid_from: i64,
    valid_to: Option<i64>,
    recorded_at: i64,
    ended_at: Option<i64>,
}

fn facts(op: &'static str, found: Vec<Found>) -> Result<Vec<Fact>, StoreError> {
    let time = |millis: i64| Timestamp::from_millis(read(millis));
    let fact = |found: Found| {
        Ok(Fact {
            id: Revision(read(found.id)),
            subject: found.subject.parse().map_err(|error| odd(op, error))?,
            relation: found.relation.parse().map_err(|error| odd(op, error))?,
            object: found.object.parse().map_err(|error| odd(op, error))?,
            properties: found.properties.unwrap_or_default(),
            valid_from: time(found.valid_from),
            valid_to: found.valid_to.map(time),
            recorded_at: time(found.recorded_at),
            ended_at: found.ended_at.map(time),
        })
    };
    found.into_iter().map(fact).collect()
}
