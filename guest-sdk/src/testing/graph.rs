//! Entities and facts, in memory.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use serde_json::{Map, Value};

use ltmc_rules::graph::{MAX_PAGE, MAX_PROPERTIES, MAX_VISITED};

use super::attempt::{Change, What};
use super::{Data, Host, bounded, current, names};
use crate::Error;
use crate::graph::{AsOf, Direction, Fact, Filter, Order, Page, Path, Reached, Walk};

impl Host {
    /// Every fact there ever was, those that are over too, in the order in which they were told; without any grant.
    pub fn facts(&self) -> Vec<Fact> {
        self.state.borrow().data.facts.clone()
    }

    /// Tells a fact, so that the agent finds it; its id.
    ///
    /// # Panics
    /// When it is out of the host's bounds.
    pub fn relate(&self, subject: &str, relation: &str, object: &str) -> u64 {
        let mut state = self.state.borrow_mut();
        let told = Told { subject, relation, object, properties: "", valid_from_ms: None };
        let (now, id) = (state.now_ms, state.next_revision());
        let (id, facts) = triple(subject, relation, object)
            .and_then(|()| state.data.relate(&told, now, id))
            .unwrap_or_else(|e| panic!("cannot relate `{subject}` to `{object}`: {e}"));
        facts.into_iter().for_each(|fact| state.apply(Change::Fact(fact)));
        id
    }
}

/// A fact as it is told.
struct Told<'a> {
    subject: &'a str,
    relation: &'a str,
    object: &'a str,
    properties: &'a str,
    valid_from_ms: Option<u64>,
}

pub(crate) fn relate(
    subject: &str,
    relation: &str,
    object: &str,
    properties: &str,
    valid_from_ms: Option<u64>,
) -> Result<u64, Error> {
    let request = format_args!("relate {subject} {relation} {object} {properties} {valid_from_ms:?}");
    current()?.cross(request, |at| {
        triple(subject, relation, object)?;
        at.state.demand("graph:write")?;
        let told = Told { subject, relation, object, properties, valid_from_ms };
        let (now, id) = (at.state.now_ms, at.state.next_revision());
        let (id, facts) = at.look(holding(subject, relation, object)).relate(&told, now, id)?;
        facts.into_iter().for_each(|fact| at.change(Change::Fact(fact)));
        Ok(id)
    })
}

pub(crate) fn unrelate(subject: &str, relation: &str, object: &str, valid_to_ms: Option<u64>) -> Result<bool, Error> {
    current()?.cross(format_args!("unrelate {subject} {relation} {object} {valid_to_ms:?}"), |at| {
        triple(subject, relation, object)?;
        at.state.demand("graph:write")?;
        let now = at.state.now_ms;
        let valid_to = valid_to_ms.unwrap_or(now);
        if valid_to > now {
            return Err(Error::Invalid("a fact ends now or in the past".into()));
        }
        let there = at.look(holding(subject, relation, object)).holding(subject, relation, object).cloned();
        let Some(fact) = there else { return Ok(false) };
        if valid_to < fact.valid_from_ms {
            return Err(Error::Invalid(format!("the fact holds since {}: it cannot end before", fact.valid_from_ms)));
        }
        at.change(Change::Fact(Fact { valid_to_ms: Some(valid_to), ended_at_ms: Some(now), ..fact }));
        Ok(true)
    })
}

pub(crate) fn facts(filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page, Error> {
    current()?.cross(format_args!("facts {filter:?} {after:?} {limit}"), |at| {
        filter.entity.as_deref().map_or(Ok(()), names::entity)?;
        filter.relation.as_deref().map_or(Ok(()), names::relation)?;
        at.state.demand("graph:read")?;
        let limit = bounded("facts", limit, MAX_PAGE)?;
        let wanted = |fact: &&Fact| {
            filter.entity.as_ref().is_none_or(|entity| leads(fact, entity, filter.direction))
                && filter.relation.as_ref().is_none_or(|relation| fact.relation == *relation)
                && (filter.history || seen(fact, filter.as_of))
                && after.is_none_or(|after| fact.id > after)
        };
        let mut facts: Vec<Fact> = at.view().facts.iter().filter(wanted).take(limit + 1).cloned().collect();
        let more = facts.len() > limit;
        facts.truncate(limit);
        let next = facts.last().filter(|_| more).map(|last| last.id);
        Ok(Page { facts, next, degraded: false })
    })
}

pub(crate) fn path(walk: &Walk, to: &str) -> Result<Path, Error> {
    current()?.cross(format_args!("path {walk:?} {to}"), |at| {
        walkable(walk)?;
        names::entity(to)?;
        at.state.demand("graph:read")?;
        depth_like(walk)?;
        Ok(Path { facts: at.view().path(walk, to), degraded: false })
    })
}

pub(crate) fn reach(walk: Walk) -> Result<Reached, Error> {
    current()?.cross(format_args!("reach {walk:?}"), |at| {
        walkable(&walk)?;
        at.state.demand("graph:read")?;
        depth_like(&walk)?;
        let (facts, cut) = at.view().reach(&walk);
        Ok(Reached { from: walk.from.clone(), facts, cut, degraded: false })
    })
}

pub(crate) fn order(walk: &Walk) -> Result<Order, Error> {
    current()?.cross(format_args!("order {walk:?}"), |at| {
        walkable(walk)?;
        at.state.demand("graph:read")?;
        depth_like(walk)?;
        let (facts, cut) = at.view().reach(walk);
        let (entities, cycles) = ordered(&walk.from, &facts);
        Ok(Order { entities, cycles, cut, degraded: false })
    })
}

fn holding(subject: &str, relation: &str, object: &str) -> What {
    What::Fact([subject, relation, object].map(str::to_owned))
}

impl Data {
    /// What telling it comes to: the fact that holds then, and what is ended and begun by it, where that is a new one.
    fn relate(&self, told: &Told<'_>, now: u64, id: u64) -> Result<(u64, Vec<Fact>), Error> {
        let &Told { subject, relation, object, valid_from_ms, .. } = told;
        let properties = properties_of(told.properties).map_err(Error::Invalid)?;
        let since = valid_from_ms.unwrap_or(now);
        if since > now {
            return Err(Error::Invalid("a fact holds from now on, or since a time in the past".into()));
        }
        let mut changed = Vec::new();
        if let Some(before) = self.holding(subject, relation, object) {
            if before.properties == properties && valid_from_ms.is_none_or(|since| since == before.valid_from_ms) {
                return Ok((before.id, changed));
            }
            if since < before.valid_from_ms {
                let held = before.valid_from_ms;
                let why = format!("another fact holds here since {held}: a new one cannot begin before it");
                return Err(Error::Invalid(why));
            }
            changed.push(Fact { valid_to_ms: Some(since), ended_at_ms: Some(now), ..before.clone() });
        }
        changed.push(Fact {
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
        Ok((id, changed))
    }

    pub(super) fn holding(&self, subject: &str, relation: &str, object: &str) -> Option<&Fact> {
        self.facts.iter().find(|fact| {
            fact.subject == subject && fact.relation == relation && fact.object == object && fact.valid_to_ms.is_none()
        })
    }

    /// What is seen of the facts next to an entity.
    fn next_to<'a>(&'a self, walk: &'a Walk, entity: &'a str) -> impl Iterator<Item = &'a Fact> {
        self.facts.iter().filter(move |fact| {
            leads(fact, entity, walk.direction)
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
                if reached.len() >= MAX_VISITED as usize {
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
fn leads(fact: &Fact, entity: &str, direction: Direction) -> bool {
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
