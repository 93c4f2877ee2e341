//! Entities and facts, in memory.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use serde_json::{Map, Value};

use super::{Host, State, bounded, current, names};
use crate::Error;
use crate::graph::{AsOf, Direction, Fact, Filter, Order, Page, Path, Reached, Walk};

const MAX_PROPERTIES: usize = 4 << 10;
const MAX_PAGE: u32 = 1_000;
const MAX_VISITED: usize = 10_000;

impl Host {
    /// Every fact there ever was, those that are over too, in the order in which they were told; without any grant.
    pub fn facts(&self) -> Vec<Fact> {
        self.state.borrow().facts.clone()
    }

    /// Tells a fact, so that the agent finds it; its id.
    ///
    /// # Panics
    /// When it is out of the host's bounds.
    pub fn relate(&self, subject: &str, relation: &str, object: &str) -> u64 {
        let told = triple(subject, relation, object)
            .and_then(|()| self.state.borrow_mut().relate(subject, relation, object, "", None));
        told.unwrap_or_else(|e| panic!("cannot relate `{subject}` to `{object}`: {e}"))
    }
}

pub(crate) fn relate(
    subject: &str,
    relation: &str,
    object: &str,
    properties: &str,
    valid_from_ms: Option<u64>,
) -> Result<u64, Error> {
    let host = current()?.host;
    let mut state = host.state.borrow_mut();
    triple(subject, relation, object)?;
    state.demand("graph:write")?;
    state.relate(subject, relation, object, properties, valid_from_ms)
}

pub(crate) fn unrelate(subject: &str, relation: &str, object: &str, valid_to_ms: Option<u64>) -> Result<bool, Error> {
    let host = current()?.host;
    let mut state = host.state.borrow_mut();
    triple(subject, relation, object)?;
    state.demand("graph:write")?;
    let now = state.now_ms;
    let valid_to = valid_to_ms.unwrap_or(now);
    if valid_to > now {
        return Err(Error::Invalid("a fact ends now or in the past".into()));
    }
    let Some(fact) = state.holding(subject, relation, object) else { return Ok(false) };
    if valid_to < fact.valid_from_ms {
        return Err(Error::Invalid(format!("the fact holds since {}: it cannot end before", fact.valid_from_ms)));
    }
    (fact.valid_to_ms, fact.ended_at_ms) = (Some(valid_to), Some(now));
    Ok(true)
}

pub(crate) fn facts(filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page, Error> {
    let host = current()?.host;
    let state = host.state.borrow();
    filter.entity.as_deref().map_or(Ok(()), names::entity)?;
    filter.relation.as_deref().map_or(Ok(()), names::relation)?;
    state.demand("graph:read")?;
    let limit = bounded("facts", limit, MAX_PAGE)?;
    let wanted = |fact: &&Fact| {
        filter.entity.as_ref().is_none_or(|entity| at(fact, entity, filter.direction))
            && filter.relation.as_ref().is_none_or(|relation| fact.relation == *relation)
            && (filter.history || seen(fact, filter.as_of))
            && after.is_none_or(|after| fact.id > after)
    };
    let mut facts: Vec<Fact> = state.facts.iter().filter(wanted).take(limit + 1).cloned().collect();
    let more = facts.len() > limit;
    facts.truncate(limit);
    let next = facts.last().filter(|_| more).map(|last| last.id);
    Ok(Page { facts, next, degraded: false })
}

pub(crate) fn path(walk: &Walk, to: &str) -> Result<Path, Error> {
    let host = current()?.host;
    let state = host.state.borrow();
    walkable(walk)?;
    names::entity(to)?;
    state.demand("graph:read")?;
    depth_like(walk)?;
    Ok(Path { facts: state.path(walk, to), degraded: false })
}

pub(crate) fn reach(walk: Walk) -> Result<Reached, Error> {
    let host = current()?.host;
    let state = host.state.borrow();
    walkable(&walk)?;
    state.demand("graph:read")?;
    depth_like(&walk)?;
    let (facts, cut) = state.reach(&walk);
    Ok(Reached { from: walk.from, facts, cut, degraded: false })
}

pub(crate) fn order(walk: &Walk) -> Result<Order, Error> {
    let host = current()?.host;
    let state = host.state.borrow();
    walkable(walk)?;
    state.demand("graph:read")?;
    depth_like(walk)?;
    let (facts, cut) = state.reach(walk);
    let (entities, cycles) = ordered(&walk.from, &facts);
    Ok(Order { entities, cycles, cut, degraded: false })
}

impl State {
    fn relate(
        &mut self,
        subject: &str,
        relation: &str,
        object: &str,
        properties: &str,
        valid_from_ms: Option<u64>,
    ) -> Result<u64, Error> {
        let properties = properties_of(properties).map_err(Error::Invalid)?;
        let now = self.now_ms;
        let since = valid_from_ms.unwrap_or(now);
        if since > now {
            return Err(Error::Invalid("a fact holds from now on, or since a time in the past".into()));
        }
        if let Some(before) = self.holding(subject, relation, object) {
            if before.properties == properties && valid_from_ms.is_none_or(|since| since == before.valid_from_ms) {
                return Ok(before.id);
            }
            if since < before.valid_from_ms {
                let held = before.valid_from_ms;
                let why = format!("another fact holds here since {held}: a new one cannot begin before it");
                return Err(Error::Invalid(why));
            }
            (before.valid_to_ms, before.ended_at_ms) = (Some(since), Some(now));
        }
        let id = self.next_revision();
        self.facts.push(Fact {
            id,
            subject: subject.to_owned(),
            relation: relation.to_owned(),
            object: object.to_owned(),
            properties,
            valid_from_ms: since,
            valid_to_ms: None,
            recorded_at_ms: now,
            ended_at_ms: None,
        });
        Ok(id)
    }

    fn holding(&mut self, subject: &str, relation: &str, object: &str) -> Option<&mut Fact> {
        self.facts.iter_mut().find(|fact| {
            fact.subject == subject && fact.relation == relation && fact.object == object && fact.valid_to_ms.is_none()
        })
    }

    /// What is seen of the facts next to an entity.
    fn next_to<'a>(&'a self, walk: &'a Walk, entity: &'a str) -> impl Iterator<Item = &'a Fact> {
        self.facts.iter().filter(move |fact| {
            at(fact, entity, walk.direction)
                && seen(fact, walk.as_of)
                && walk.relation.as_ref().is_none_or(|relation| fact.relation == *relation)
        })
    }

    fn path(&self, walk: &Walk, to: &str) -> Option<Vec<Fact>> {
        let mut came: HashMap<&str, Option<(&str, &Fact)>> = HashMap::from([(walk.from.as_str(), None)]);
        let mut front = vec![walk.from.as_str()];
        for _ in 0..walk.depth {
            if came.contains_key(to) {
                break;
            }
            let mut next = Vec::new();
            for entity in front {
                for fact in self.next_to(walk, entity) {
                    let other = fact.other(entity);
                    if !came.contains_key(other) {
                        came.insert(other, Some((entity, fact)));
                        next.push(other);
                    }
                }
            }
            front = next;
        }
        let (mut way, mut at) = (VecDeque::new(), to);
        while let Some((before, fact)) = *came.get(at)? {
            way.push_front(fact.clone());
            at = before;
        }
        Some(way.into())
    }

    /// The facts walked along, nearest first, and whether there were more.
    fn reach(&self, walk: &Walk) -> (Vec<Fact>, bool) {
        let mut entities = HashSet::from([walk.from.as_str()]);
        let mut known = HashSet::new();
        let mut reached = Vec::new();
        let mut front = vec![walk.from.as_str()];
        for _ in 0..walk.depth {
            let ring: BTreeMap<u64, &Fact> =
                front.iter().flat_map(|entity| self.next_to(walk, entity)).map(|fact| (fact.id, fact)).collect();
            front.clear();
            for fact in ring.into_values().filter(|fact| known.insert(fact.id)) {
                if reached.len() >= MAX_VISITED {
                    return (reached, true);
                }
                let ends = [fact.subject.as_str(), fact.object.as_str()];
                front.extend(ends.into_iter().filter(|entity| entities.insert(entity)));
                reached.push(fact.clone());
            }
        }
        (reached, false)
    }
}

/// Whether a fact leads from an entity this way.
fn at(fact: &Fact, entity: &str, direction: Direction) -> bool {
    match direction {
        Direction::Out => fact.subject == entity,
        Direction::In => fact.object == entity,
        Direction::Both => fact.subject == entity || fact.object == entity,
    }
}

/// Whether a fact is seen from this point: what it was by then known to be, where it held then.
fn seen(fact: &Fact, as_of: AsOf) -> bool {
    let valid_to = match (as_of.known_ms, fact.ended_at_ms) {
        (Some(known), Some(ended)) if ended > known => None,
        _ => fact.valid_to_ms,
    };
    as_of.known_ms.is_none_or(|known| fact.recorded_at_ms <= known)
        && match as_of.valid_ms {
            Some(at) => fact.valid_from_ms <= at && valid_to.is_none_or(|to| at < to),
            None => valid_to.is_none(),
        }
}

fn triple(subject: &str, relation: &str, object: &str) -> Result<(), Error> {
    names::entity(subject)?;
    names::relation(relation)?;
    names::entity(object)
}

fn walkable(walk: &Walk) -> Result<(), Error> {
    names::entity(&walk.from)?;
    walk.relation.as_deref().map_or(Ok(()), names::relation)
}

fn depth_like(walk: &Walk) -> Result<(), Error> {
    if (1..=Walk::MAX_DEPTH).contains(&walk.depth) {
        return Ok(());
    }
    Err(Error::Invalid(format!("a walk is 1 to {} facts far, not {}", Walk::MAX_DEPTH, walk.depth)))
}

/// Properties as they are kept: a JSON object without blanks; nothing where there are none.
fn properties_of(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.len() > MAX_PROPERTIES {
        return Err(format!("properties have at most {MAX_PROPERTIES} bytes, not {}", text.len()));
    }
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(map) if map.is_empty() => Ok(String::new()),
        Ok(map) => Ok(Value::Object(map).to_string()),
        Err(e) => Err(format!("properties are a JSON object: {e}")),
    }
}

/// Objects before subjects, and the rings among them (Tarjan 1972: the strongly connected components come out in this
/// order).
fn ordered(from: &str, facts: &[Fact]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut number = |name| {
        *numbers.entry(name).or_insert_with(|| {
            nodes.push(Node { name, to: Vec::new(), met: None, low: 0, open: false });
            nodes.len() - 1
        })
    };
    number(from);
    let edges: Vec<(usize, usize)> =
        facts.iter().map(|fact| (number(fact.subject.as_str()), number(fact.object.as_str()))).collect();
    for (subject, object) in edges {
        nodes[subject].to.push(object);
    }
    let (mut entities, mut cycles) = (Vec::new(), Vec::new());
    let (mut open, mut met) = (Vec::new(), 0);
    for root in 0..nodes.len() {
        // By hand: how deep a call may go in a test is not known.
        let mut work = if nodes[root].met.is_none() { vec![(root, 0)] } else { Vec::new() };
        while let Some((at, edge)) = work.last_mut() {
            let at = *at;
            if nodes[at].met.is_none() {
                (nodes[at].met, nodes[at].low, nodes[at].open) = (Some(met), met, true);
                open.push(at);
                met += 1;
            }
            if let Some(&to) = nodes[at].to.get(*edge) {
                *edge += 1;
                match nodes[to].met {
                    None => work.push((to, 0)),
                    Some(met) if nodes[to].open => nodes[at].low = nodes[at].low.min(met),
                    Some(_) => {}
                }
                continue;
            }
            work.pop();
            if let Some((before, _)) = work.last() {
                nodes[*before].low = nodes[*before].low.min(nodes[at].low);
            }
            if nodes[at].met == Some(nodes[at].low) {
                let begins = open.iter().rposition(|node| *node == at).unwrap_or(0);
                let ring = open.split_off(begins);
                ring.iter().for_each(|node| nodes[*node].open = false);
                let mut names: Vec<String> = ring.iter().map(|node| nodes[*node].name.to_owned()).collect();
                if names.len() == 1 && !nodes[at].to.contains(&at) {
                    entities.append(&mut names);
                } else {
                    let first = (0..names.len()).min_by_key(|at| &names[*at]).unwrap_or(0);
                    names.rotate_left(first);
                    cycles.push(names);
                }
            }
        }
    }
    (entities, cycles)
}

struct Node<'a> {
    name: &'a str,
    to: Vec<usize>,
    /// When it was first met.
    met: Option<usize>,
    /// The earliest that can be come back to from here.
    low: usize,
    /// Whether its ring is not complete yet.
    open: bool,
}
