//! Facts: relationships between entities.

use std::collections::HashMap;

use ltmc_model::delta::FactEnd;
use ltmc_model::graph::Fact;
use ltmc_model::{Revision, TenantId};
use ltmc_ports::StoreError;
use serde::Deserialize;

use crate::link::{Link, Transaction};
use crate::statement::{Statement, list, maybe, number, read, time};

/// What rows say of facts.
#[derive(Debug, Default)]
pub(crate) struct Told {
    began: Vec<Fact>,
    place: HashMap<Revision, usize>,
    ended: Vec<FactEnd>,
}

impl Told {
    pub(crate) fn begins(&mut self, fact: &Fact) {
        match self.place.get(&fact.id) {
            Some(place) => self.began[*place] = fact.clone(),
            None => {
                self.place.insert(fact.id, self.began.len());
                self.began.push(fact.clone());
            }
        }
    }

    pub(crate) fn ends(&mut self, end: &FactEnd) {
        match self.place.get(&end.id) {
            Some(place) => {
                let fact = &mut self.began[*place];
                (fact.valid_to, fact.ended_at) = (Some(end.valid_to), Some(end.ended_at));
            }
            None => self.ended.push(end.clone()),
        }
    }

    /// Makes it true. A fact that is there already is told anew.
    pub(crate) async fn write(self, tenant: &TenantId, changes: &mut Transaction<'_>) -> Result<(), StoreError> {
        if !self.began.is_empty() {
            self.forget(tenant, changes).await?;
            let text = "UNWIND $rows AS row \
                        MERGE (s:Entity {tenant: $tenant, name: row[1]}) \
                        MERGE (o:Entity {tenant: $tenant, name: row[3]}) \
                        CREATE (s)-[:FACT {tenant: $tenant, id: row[0], relation: row[2], properties: row[4], \
                        valid_from: row[5], valid_to: row[6], recorded_at: row[7], ended_at: row[8]}]->(o)";
            changes.run(Statement::of(tenant, text).rows(self.began.iter().map(row))).await?;
        }
        if !self.ended.is_empty() {
            let text = "UNWIND $rows AS row MATCH ()-[f:FACT {tenant: $tenant, id: row[0]}]->() \
                        SET f.valid_to = row[1], f.ended_at = row[2]";
            let rows = self.ended.iter().map(|end| [number(end.id.0), time(end.valid_to), time(end.ended_at)]);
            changes.run(Statement::of(tenant, text).rows(rows)).await?;
        }
        Ok(())
    }

    /// Removes those that begin and are there already. Ids grow, so that hardly ever one is.
    async fn forget(&self, tenant: &TenantId, changes: &mut Transaction<'_>) -> Result<(), StoreError> {
        #[derive(Deserialize)]
        struct Found {
            id: i64,
        }
        let ids = || self.began.iter().map(|fact| fact.id.0);
        let (first, last) = (ids().min().unwrap_or(0), ids().max().unwrap_or(0));
        let text = "MATCH ()-[f:FACT]->() WHERE f.tenant = $tenant AND f.id >= $first AND f.id <= $last \
                    RETURN f.id AS id ORDER BY f.tenant, f.id LIMIT $limit";
        // Where more lie between than begin, it is not worth while to look at them.
        let most = self.began.len() * 2;
        let statement = Statement::of(tenant, text)
            .with("first", number(first))
            .with("last", number(last))
            .with("limit", i64::try_from(most).unwrap_or(i64::MAX));
        let found: Vec<Found> = changes.ask(statement).await?;
        let there: Vec<_> = if found.len() < most {
            let found = found.iter().map(|found| read(found.id));
            found.filter(|id| self.place.contains_key(&Revision(*id))).map(number).collect()
        } else {
            ids().map(number).collect()
        };
        if there.is_empty() {
            return Ok(());
        }
        let text = "UNWIND $ids AS id MATCH ()-[f:FACT {tenant: $tenant, id: id}]->() DELETE f";
        changes.run(Statement::of(tenant, text).with("ids", list(there))).await
    }
}

fn row(fact: &Fact) -> [neo4rs::BoltType; 9] {
    let properties = Some(fact.properties.as_str()).filter(|properties| !properties.is_empty());
    [
        number(fact.id.0),
        fact.subject.as_str().into(),
        fact.relation.as_str().into(),
        fact.object.as_str().into(),
        maybe(properties.map(Into::into)),
        time(fact.valid_from),
        maybe(fact.valid_to.map(time)),
        time(fact.recorded_at),
        maybe(fact.ended_at.map(time)),
    ]
}

/// Keys and versions after `after`.
pub(crate) async fn inventory(
    link: &Link,
    op: &'static str,
    tenant: &TenantId,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(String, u64)>, StoreError> {
    #[derive(Deserialize)]
    struct Found {
        id: i64,
        over: bool,
    }
    // Ordered as the index is, so that a page reads no more than it shows.
    let text = "MATCH ()-[f:FACT]->() WHERE f.tenant = $tenant AND f.id > $after \
                RETURN f.id AS id, f.valid_to IS NOT NULL AS over ORDER BY f.tenant, f.id LIMIT $limit";
    let after = after.and_then(|after| after.parse().ok()).map_or(neo4rs::BoltType::from(-1), number);
    let statement = Statement::of(tenant, text).with("after", after).with("limit", i64::from(limit));
    let found: Vec<Found> = link.ask(op, statement).await?;
    Ok(found.iter().map(|found| (format!("{:020}", read(found.id)), if found.over { 2 } else { 1 })).collect())
}

/// Removes facts, and entities of which nothing is told any more.
pub(crate) async fn discard(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    keys: &[String],
) -> Result<(), StoreError> {
    let text = "UNWIND $ids AS id MATCH (s)-[f:FACT {tenant: $tenant, id: id}]->(o) \
                WITH collect(f) AS facts, collect(s) + collect(o) AS entities \
                FOREACH (f IN facts | DELETE f) \
                WITH entities UNWIND entities AS e \
                WITH DISTINCT e WHERE NOT (e)-[:FACT]-() DELETE e";
    let ids = list(keys.iter().filter_map(|key| key.parse().ok()).map(number));
    changes.run(Statement::of(tenant, text).with("ids", ids)).await
}
