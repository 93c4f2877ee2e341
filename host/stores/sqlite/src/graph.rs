//! The graph, read from the facts themselves. Walks go ring by ring: each ring of entities is one statement.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use async_trait::async_trait;
use ltmc_model::graph::{Direction, Entity, Fact, FactFilter, FactPage, MAX_VISITED, Reached, Relation, Walk};
use ltmc_model::{Revision, TenantId};
use ltmc_ports::{ReadFacts, ReadGraph, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::Record;
use crate::bind::{int, time};
use crate::error::store;
use crate::journal::{number, parsed, stamp, wrong};

pub(crate) const COLUMNS: &str =
    "tenant, id, subject, relation, object, properties, valid_from, valid_to, recorded_at, ended_at";

#[async_trait]
impl ReadGraph for Record {
    async fn facts(&self, tenant: &TenantId, filter: &FactFilter) -> Result<FactPage, StoreError> {
        const OP: &str = "graph.facts";
        let sides: &[&str] = match (&filter.entity, filter.direction) {
            (None, _) => &["true"],
            (Some(_), Direction::Out) => &["subject = ?2"],
            (Some(_), Direction::In) => &["object = ?2"],
            // Each side by its own index; a fact of a thing with itself once.
            (Some(_), Direction::Both) => &["subject = ?2", "object = ?2 and subject <> ?2"],
        };
        let seen = if filter.history { "true".to_owned() } else { seen("") };
        let one = |side: &&str| {
            format!(
                "select * from (select {COLUMNS} from facts where tenant = ?1 and {side} and (?3 is null or relation = ?3) \
                 and id > ?4 and {seen} order by id limit ?5)"
            )
        };
        let union = sides.iter().map(one).collect::<Vec<_>>().join(" union all ");
        let sql = format!("select {COLUMNS} from ({union}) order by id limit ?5");
        let limit = filter.limit.max(1) as usize;
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(filter.entity.as_ref().map(Entity::as_str))
            .bind(filter.relation.as_ref().map(Relation::as_str))
            .bind(filter.after.map_or(-1, |after| int(after.0)))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX) + 1)
            .bind(filter.as_of.valid.map(time))
            .bind(filter.as_of.known.map(time))
            .fetch_all(&self.readers)
            .await
            .map_err(|e| store(OP, e))?;
        let mut facts: Vec<Fact> = rows.iter().map(fact).collect::<Result<_, _>>().map_err(|e| store(OP, e))?;
        let more = facts.len() > limit;
        facts.truncate(limit);
        let next = facts.last().filter(|_| more).map(|last| last.id);
        Ok(FactPage { facts, next, degraded: false })
    }

    async fn path(&self, tenant: &TenantId, walk: &Walk, to: &Entity) -> Result<Option<Vec<Fact>>, StoreError> {
        let mut came: BTreeMap<Entity, Option<(Entity, Fact)>> = BTreeMap::from([(walk.from.clone(), None)]);
        let mut front = BTreeSet::from([walk.from.clone()]);
        let mut visited = 0;
        for _ in 0..walk.depth {
            if came.contains_key(to) || front.is_empty() || visited >= MAX_VISITED as usize {
                break;
            }
            let ring = self.ring(tenant, walk, &front, MAX_VISITED as usize - visited).await?;
            visited += ring.len();
            let mut next = BTreeSet::new();
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
        let mut way = VecDeque::new();
        let mut at = to.clone();
        loop {
            match came.get(&at).cloned() {
                None => return Ok(None),
                Some(None) => return Ok(Some(way.into())),
                Some(Some((before, fact))) => {
                    way.push_front(fact);
                    at = before;
                }
            }
        }
    }

    async fn reach(&self, tenant: &TenantId, walk: &Walk) -> Result<Reached, StoreError> {
        let mut seen = BTreeSet::from([walk.from.clone()]);
        let mut known = BTreeSet::new();
        let mut front = seen.clone();
        let mut reached = Reached::default();
        for _ in 0..walk.depth {
            if front.is_empty() {
                break;
            }
            // What was walked along before may come once more.
            let ring = self.ring(tenant, walk, &front, MAX_VISITED as usize + 1 + known.len()).await?;
            front.clear();
            for fact in ring.into_iter().filter(|fact| known.insert(fact.id)) {
                if reached.facts.len() >= MAX_VISITED as usize {
                    reached.cut = true;
                    return Ok(reached);
                }
                for entity in [&fact.subject, &fact.object] {
                    if seen.insert(entity.clone()) {
                        front.insert(entity.clone());
                    }
                }
                reached.facts.push(fact);
            }
        }
        Ok(reached)
    }
}

#[async_trait]
impl ReadFacts for Record {
    async fn holding(
        &self,
        tenant: &TenantId,
        subject: &Entity,
        relation: &Relation,
        object: &Entity,
    ) -> Result<Option<Fact>, StoreError> {
        const OP: &str = "graph.holding";
        let sql = format!(
            "select {COLUMNS} from facts where tenant = ? and subject = ? and relation = ? and object = ? \
             and valid_to is null limit 1"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(subject.as_str())
            .bind(relation.as_str())
            .bind(object.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(|e| store(OP, e))?;
        row.as_ref().map(fact).transpose().map_err(|e| store(OP, e))
    }
}

impl Record {
    /// Facts next to these entities, by their ids.
    async fn ring(
        &self,
        tenant: &TenantId,
        walk: &Walk,
        front: &BTreeSet<Entity>,
        limit: usize,
    ) -> Result<Vec<Fact>, StoreError> {
        const OP: &str = "graph.ring";
        let sides: &[&str] = match walk.direction {
            Direction::Out => &["subject"],
            Direction::In => &["object"],
            Direction::Both => &["subject", "object"],
        };
        let seen = seen("facts.");
        let one = |side: &&str| {
            format!(
                "select facts.* from json_each(?2) as front cross join facts on facts.tenant = ?1 \
                 and facts.{side} = front.value and (?3 is null or facts.relation = ?3) and {seen}"
            )
        };
        // `union`: a fact between two of the front comes once.
        let union = sides.iter().map(one).collect::<Vec<_>>().join(" union ");
        let sql = format!("select {COLUMNS} from ({union}) order by id limit ?5");
        let front: Vec<&str> = front.iter().map(Entity::as_str).collect();
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(serde_json::to_string(&front).unwrap_or_default())
            .bind(walk.relation.as_ref().map(Relation::as_str))
            .bind(None::<i64>)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(walk.as_of.valid.map(time))
            .bind(walk.as_of.known.map(time))
            .fetch_all(&self.readers)
            .await
            .map_err(|e| store(OP, e))?;
        rows.iter().map(fact).collect::<Result<_, _>>().map_err(|e| store(OP, e))
    }
}

/// What [`Fact::seen`] says, of the columns of `table` (with its point): `?6` is the time for which, `?7` that at which.
fn seen(table: &str) -> String {
    let t = table;
    let valid_to = format!("(case when ?7 is not null and {t}ended_at > ?7 then null else {t}valid_to end)");
    format!(
        "(?7 is null or {t}recorded_at <= ?7) and case when ?6 is null then {valid_to} is null \
         else {t}valid_from <= ?6 and ({valid_to} is null or {valid_to} > ?6) end"
    )
}

pub(crate) fn fact(row: &SqliteRow) -> Result<Fact, sqlx::Error> {
    let properties = String::from_utf8(row.try_get(5)?).map_err(|_| wrong("a fact's properties"))?;
    Ok(Fact {
        id: Revision(number(row.try_get(1)?)),
        subject: parsed(row.try_get(2)?)?,
        relation: parsed(row.try_get(3)?)?,
        object: parsed(row.try_get(4)?)?,
        properties,
        valid_from: stamp(row.try_get(6)?),
        valid_to: row.try_get::<Option<i64>, _>(7)?.map(stamp),
        recorded_at: stamp(row.try_get(8)?),
        ended_at: row.try_get::<Option<i64>, _>(9)?.map(stamp),
    })
}
