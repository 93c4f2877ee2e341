//! `ltmc:agent/graph`.

use crate::Error;
use crate::bindings::host::ltmc::agent::graph as wit;
use crate::graph::{AsOf, Direction, Fact, Filter, Order, Page, Path, Reached, Walk};

pub(crate) fn relate(
    subject: &str,
    relation: &str,
    object: &str,
    properties: &str,
    valid_from_ms: Option<u64>,
) -> Result<u64, Error> {
    Ok(wit::relate(subject, relation, object, properties, valid_from_ms)?)
}

pub(crate) fn unrelate(subject: &str, relation: &str, object: &str, valid_to_ms: Option<u64>) -> Result<bool, Error> {
    Ok(wit::unrelate(subject, relation, object, valid_to_ms)?)
}

pub(crate) fn facts(filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page, Error> {
    let page = wit::facts(&wit::Filter {
        entity: filter.entity.clone(),
        direction: direction(filter.direction),
        relation: filter.relation.clone(),
        as_of: as_of(filter.as_of),
        history: filter.history,
        after,
        limit,
    })?;
    Ok(Page { facts: facts_of(page.facts), next: page.next, degraded: page.degraded })
}

pub(crate) fn path(from: &Walk, to: &str) -> Result<Path, Error> {
    let path = wit::find_path(&walk(from), to)?;
    Ok(Path { facts: path.facts.map(facts_of), degraded: path.degraded })
}

pub(crate) fn reach(from: Walk) -> Result<Reached, Error> {
    let reached = wit::reach(&walk(&from))?;
    Ok(Reached { from: from.from, facts: facts_of(reached.facts), cut: reached.cut, degraded: reached.degraded })
}

pub(crate) fn order(from: &Walk) -> Result<Order, Error> {
    let wit::Order { entities, cycles, cut, degraded } = wit::dependency_order(&walk(from))?;
    Ok(Order { entities, cycles, cut, degraded })
}

fn walk(walk: &Walk) -> wit::Walk {
    wit::Walk {
        from: walk.from.clone(),
        direction: direction(walk.direction),
        relation: walk.relation.clone(),
        depth: walk.depth,
        as_of: as_of(walk.as_of),
    }
}

fn direction(direction: Direction) -> wit::Direction {
    match direction {
        Direction::Out => wit::Direction::Out,
        Direction::In => wit::Direction::In,
        Direction::Both => wit::Direction::Both,
    }
}

fn as_of(as_of: AsOf) -> wit::AsOf {
    wit::AsOf { valid_ms: as_of.valid_ms, known_ms: as_of.known_ms }
}

fn facts_of(facts: Vec<wit::Fact>) -> Vec<Fact> {
    facts.into_iter().map(fact).collect()
}

fn fact(wit: wit::Fact) -> Fact {
    Fact {
        id: wit.id,
        subject: wit.subject,
        relation: wit.relation,
        object: wit.object,
        properties: wit.properties,
        valid_from_ms: wit.valid_from_ms,
        valid_to_ms: wit.valid_to_ms,
        recorded_at_ms: wit.recorded_at_ms,
        ended_at_ms: wit.ended_at_ms,
    }
}
