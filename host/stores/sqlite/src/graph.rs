//! The graph, read from the facts themselves. Walks go ring by ring: each ring of entities is one statement.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use async_trait::async_trait;
use ltmc_model::graph::{Direction, Entity, Fact, FactFilter, FactPage, MAX_VISITED, Reached, Relation, Walk};
use ltmc_model::{Revision, TenantId};
use ltmc_ports::{ReadFacts, ReadGraph, StoreError};
use rusqlite::{Connection, Row, params};

use crate::Record;
use crate::bind::{all, int, json, number, one, parsed, stamp, time};
use crate::error::{Error, wrong};

pub(crate) const COLUMNS: &str =
    "tenant, id, subject, relation, object, properties, valid_from, valid_to, recorded_at, ended_at";

#[async_trait]
impl ReadGraph for Record {
    async fn facts(&self, tenant: &TenantId, filter: &FactFilter) -> Result<FactPage, StoreError> {
        let whose = tenant;
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.readers.search("graph.facts", whose, move |db| page(db, &tenant, &filter)).await
    }

    async fn path(&self, tenant: &TenantId, walk: &Walk, to: &Entity) -> Result<Option<Vec<Fact>>, StoreError> {
        let whose = tenant;
        let (tenant, walk, to) = (tenant.clone(), walk.clone(), to.clone());
        self.readers.search("graph.path", whose, move |db| path(db, &tenant, &walk, &to)).await
    }

    async fn reach(&self, tenant: &TenantId, walk: &Walk) -> Result<Reached, StoreError> {
        let whose = tenant;
        let (tenant, walk) = (tenant.clone(), walk.clone());
        self.readers.search("graph.reach", whose, move |db| reach(db, &tenant, &walk)).await
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
        let sql = format!(
            "select {COLUMNS} from facts where tenant = ? and subject = ? and relation = ? and object = ? \
             and valid_to is null limit 1"
        );
        let values = params![tenant.as_str(), subject.as_str(), relation.as_str(), object.as_str()];
        self.readers.point("graph.holding", |db| one(db, &sql, values, fact))
    }

    async fn next_to(
        &self,
        tenant: &TenantId,
        walk: &Walk,
        front: &BTreeSet<Entity>,
        limit: usize,
    ) -> Result<Vec<Fact>, StoreError> {
        let (of, walk, front) = (tenant.clone(), walk.clone(), front.clone());
        self.readers.search("graph.next-to", tenant, move |db| ring(db, &of, &walk, &front, limit)).await
    }
}

fn page(db: &Connection, tenant: &TenantId, filter: &FactFilter) -> Result<FactPage, Error> {
    let sides: &[&str] = match (&filter.entity, filter.direction) {
        (None, _) => &["true"],
        (Some(_), Direction::Out) => &["subject = ?2"],
        (Some(_), Direction::In) => &["object = ?2"],
        // Each side by its own index; a fact of a thing with itself once.
        (Some(_), Direction::Both) => &["subject = ?2", "object = ?2 and subject <> ?2"],
    };
    // The same values are bound whatever is looked at.
    let seen = if filter.history { "(true or ?7)".to_owned() } else { seen("") };
    let one = |side: &&str| {
        format!(
            "select * from (select {COLUMNS} from facts where tenant = ?1 and {side} and (?3 is null or relation = ?3) \
             and id > ?4 and {seen} order by id limit ?5)"
        )
    };
    let union = sides.iter().map(one).collect::<Vec<_>>().join(" union all ");
    let sql = format!("select {COLUMNS} from ({union}) order by id limit ?5");
    let limit = filter.limit.max(1) as usize;
    let values = params![
        tenant.as_str(),
        filter.entity.as_ref().map(Entity::as_str),
        filter.relation.as_ref().map(Relation::as_str),
        filter.after.map_or(-1, |after| int(after.0)),
        int(limit as u64 + 1),
        filter.as_of.valid.map(time),
        filter.as_of.known.map(time),
    ];
    let mut facts = all(db, &sql, values, fact)?;
    let more = facts.len() > limit;
    facts.truncate(limit);
    let next = facts.last().filter(|_| more).map(|last| last.id);
    Ok(FactPage { facts, next, degraded: false })
}

fn path(db: &Connection, tenant: &TenantId, walk: &Walk, to: &Entity) -> Result<Option<Vec<Fact>>, Error> {
    let mut came: BTreeMap<Entity, Option<(Entity, Fact)>> = BTreeMap::from([(walk.from.clone(), None)]);
    let mut front = BTreeSet::from([walk.from.clone()]);
    let mut visited = 0;
    for _ in 0..walk.depth {
        if came.contains_key(to) || front.is_empty() || visited >= MAX_VISITED as usize {
            break;
        }
        let ring = ring(db, tenant, walk, &front, MAX_VISITED as usize - visited)?;
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

fn reach(db: &Connection, tenant: &TenantId, walk: &Walk) -> Result<Reached, Error> {
    let mut seen = BTreeSet::from([walk.from.clone()]);
    let mut known = BTreeSet::new();
    let mut front = seen.clone();
    let mut reached = Reached::default();
    for _ in 0..walk.depth {
        if front.is_empty() {
            break;
        }
        // What was walked along before may come once more.
        let ring = ring(db, tenant, walk, &front, MAX_VISITED as usize + 1 + known.len())?;
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

/// Facts next to these entities, by their ids.
fn ring(
    db: &Connection,
    tenant: &TenantId,
    walk: &Walk,
    front: &BTreeSet<Entity>,
    limit: usize,
) -> Result<Vec<Fact>, Error> {
    let sides: &[&str] = match walk.direction {
        Direction::Out => &["subject"],
        Direction::In => &["object"],
        Direction::Both => &["subject", "object"],
    };
    let seen = seen("facts.");
    let one = |side: &&str| {
        format!(
            "select facts.* from json_each(?2) as front cross join facts indexed by facts_{side} on facts.tenant = ?1 \
             and facts.{side} = front.value and (?3 is null or facts.relation = ?3) and {seen}"
        )
    };
    // `union`: a fact between two of the front comes once.
    let union = sides.iter().map(one).collect::<Vec<_>>().join(" union ");
    let sql = format!("select {COLUMNS} from ({union}) order by id limit ?5");
    let front: Vec<&str> = front.iter().map(Entity::as_str).collect();
    let values = params![
        tenant.as_str(),
        json(&front),
        walk.relation.as_ref().map(Relation::as_str),
        None::<i64>,
        int(limit as u64),
        walk.as_of.valid.map(time),
        walk.as_of.known.map(time),
    ];
    all(db, &sql, values, fact)
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

pub(crate) fn fact(row: &Row<'_>) -> Result<Fact, Error> {
    let properties = String::from_utf8(row.get(5)?).map_err(|_| wrong("a fact's properties"))?;
    Ok(Fact {
        id: Revision(number(row.get(1)?)),
        subject: parsed(row.get(2)?)?,
        relation: parsed(row.get(3)?)?,
        object: parsed(row.get(4)?)?,
        properties,
        valid_from: stamp(row.get(6)?),
        valid_to: row.get::<_, Option<i64>>(7)?.map(stamp),
        recorded_at: stamp(row.get(8)?),
        ended_at: row.get::<_, Option<i64>>(9)?.map(stamp),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use ltmc_model::graph::AsOf;

    use super::*;

    /// What a walk costs is what it walks along, not what it walks along times all that the tenant has. Counted in steps of SQLite's
    /// machine, in thousands, which are the same on every machine.
    #[test]
    fn a_walk_over_a_star_looks_at_each_fact_a_few_times() {
        const LEAVES: i64 = 10_000;
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("create table meta (key text primary key, value integer); create table runs (id blob)")
            .unwrap();
        db.execute_batch(include_str!("../migrations/0002_context.sql")).unwrap();
        let sql = "insert into facts (tenant, id, subject, relation, object, properties, valid_from, recorded_at) \
                   values ('acme', ?, 'hub', 'has', ?, x'', 0, 0)";
        for leaf in 0..LEAVES {
            db.execute(sql, params![leaf, format!("leaf {leaf}")]).unwrap();
        }
        let steps = Arc::new(AtomicU64::new(0));
        let count = steps.clone();
        db.progress_handler(
            1_000,
            Some(move || {
                count.fetch_add(1, Ordering::Relaxed);
                // It would take minutes.
                count.load(Ordering::Relaxed) > 100_000
            }),
        )
        .unwrap();
        let tenant = "acme".parse().unwrap();
        for (from, direction) in [("hub", Direction::Out), ("leaf 7", Direction::Both), ("hub", Direction::Both)] {
            let from: Entity = from.parse().unwrap();
            let walk = Walk { from: from.clone(), direction, relation: None, depth: 16, as_of: AsOf::default() };
            steps.store(0, Ordering::Relaxed);
            assert!(reach(&db, &tenant, &walk).unwrap().facts.len() > 1_000, "from {from}");
            path(&db, &tenant, &walk, &"leaf 9999".parse().unwrap()).unwrap();
            let steps = steps.load(Ordering::Relaxed);
            assert!(steps < 5_000, "{steps} thousand steps from {from} along {LEAVES} facts");
        }
    }
}
