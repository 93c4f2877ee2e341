//! The graph: what a call on it means.
//!
//! Invariants: at most one fact holds between two entities by one relation; a fact is ended, never changed. What is asked is
//! answered by the graph's database once that has what the asker wrote; in its place, and said to be, by the record.
//!
//! To add a call: its [`Decide`], and its line in [`Graph::decide_any`].

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_model::call::graph::{DependencyOrder, Facts, FindPath, GraphCall, Reach, Relate, Unrelate};
use ltmc_model::delta::{Delta, FactEnd};
use ltmc_model::effect::Reply;
use ltmc_model::graph::{self, Entity, Fact, FactFilter, FactPage, Order, Path, Reached, Relation, Walk};
use ltmc_model::{Revision, Timestamp};
use ltmc_ports::{Expect, ReadFacts, ReadGraph, StoreError};
use ltmc_projections::Follower;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::context::{Asked, Decide, Decided, Decision, Whose, decided};
use crate::graph_overlay::Own;
use crate::locks::{LetGo, Locks};

/// The graphs of all tenants.
pub struct Graph {
    record: Arc<dyn ReadFacts>,
    /// A database that follows the record, and who leads it there.
    database: Option<(Arc<dyn ReadGraph>, Arc<Follower>)>,
    locks: Arc<Locks>,
}

impl Graph {
    /// Answered by the record, or by a database that follows it.
    pub fn new(
        record: Arc<dyn ReadFacts>,
        database: Option<(Arc<dyn ReadGraph>, Arc<Follower>)>,
        locks: Arc<Locks>,
    ) -> Self {
        Self { record, database, locks }
    }

    /// What a call comes to.
    pub(crate) async fn decide_any(&self, asked: Asked<'_>, call: GraphCall) -> Decision<Reply> {
        match call {
            GraphCall::Relate(call) => decided(self, asked, call).await,
            GraphCall::Unrelate(call) => decided(self, asked, call).await,
            GraphCall::Facts(call) => decided(self, asked, call).await,
            GraphCall::FindPath(call) => decided(self, asked, call).await,
            GraphCall::Reach(call) => decided(self, asked, call).await,
            GraphCall::DependencyOrder(call) => decided(self, asked, call).await,
        }
    }

    /// The fact that holds between two things, with what the run that asks has told of them so far.
    async fn holding(
        &self,
        whose: Whose<'_>,
        subject: &Entity,
        relation: &Relation,
        object: &Entity,
    ) -> Result<Option<Fact>, StoreError> {
        let same = |s: &Entity, r: &Relation, o: &Entity| s == subject && r == relation && o == object;
        let told = whose.newest(|delta| match delta {
            Delta::FactBegan(fact) => same(&fact.subject, &fact.relation, &fact.object).then(|| Some(fact.clone())),
            Delta::FactEnded(end) => same(&end.subject, &end.relation, &end.object).then_some(None),
            _ => None,
        });
        match told {
            Some(told) => Ok(told),
            None => self.record.holding(whose.tenant, subject, relation, object).await,
        }
    }

    async fn facts(&self, whose: Whose<'_>, filter: &FactFilter) -> Result<FactPage, StoreError> {
        if let Some(own) = Own::of(whose) {
            whose.settle().await?;
            return own.facts(&*self.record, whose.tenant, filter).await;
        }
        if let Some(database) = self.following(whose).await? {
            match database.facts(whose.tenant, filter).await {
                Ok(found) => return Ok(found),
                Err(error) => degraded("graph.facts", &error),
            }
        }
        let found = self.record.facts(whose.tenant, filter).await?;
        Ok(FactPage { degraded: self.database.is_some(), ..found })
    }

    async fn path(&self, whose: Whose<'_>, walk: &Walk, to: &Entity) -> Result<Path, StoreError> {
        if let Some(own) = Own::of(whose) {
            whose.settle().await?;
            return own.path(&*self.record, whose.tenant, walk, to).await;
        }
        if let Some(database) = self.following(whose).await? {
            match database.path(whose.tenant, walk, to).await {
                Ok(facts) => return Ok(Path { facts, degraded: false }),
                Err(error) => degraded("graph.path", &error),
            }
        }
        let facts = self.record.path(whose.tenant, walk, to).await?;
        Ok(Path { facts, degraded: self.database.is_some() })
    }

    async fn reach(&self, whose: Whose<'_>, walk: &Walk) -> Result<Reached, StoreError> {
        if let Some(own) = Own::of(whose) {
            whose.settle().await?;
            return own.reach(&*self.record, whose.tenant, walk).await;
        }
        if let Some(database) = self.following(whose).await? {
            match database.reach(whose.tenant, walk).await {
                Ok(found) => return Ok(found),
                Err(error) => degraded("graph.reach", &error),
            }
        }
        let found = self.record.reach(whose.tenant, walk).await?;
        Ok(Reached { degraded: self.database.is_some(), ..found })
    }

    /// The graph's database, once it has what was written before this call; none: the record is to answer.
    async fn following(&self, whose: Whose<'_>) -> Result<Option<&Arc<dyn ReadGraph>>, StoreError> {
        let Some((database, follower)) = &self.database else {
            whose.settle().await?;
            return Ok(None);
        };
        // What follows the record follows what is on disk.
        whose.barrier().await?;
        Ok(follower.caught_up().await.then_some(database))
    }
}

impl Decide<Relate> for Graph {
    async fn decide(&self, asked: Asked<'_>, call: Relate) -> Decision<Revision> {
        let Asked { whose, now, revision } = asked;
        let Relate { subject, relation, object, properties: text, valid_from: since } = call;
        let properties = match properties(&text) {
            Ok(properties) => properties,
            Err(why) => return Ok(Decided::refuse(why)),
        };
        let valid_from = since.unwrap_or(now);
        if valid_from > now {
            return Ok(Decided::refuse("a fact holds from now on, or since a time in the past"));
        }
        let lock = self.locks.take(whose, &("graph", &subject, &relation, &object), LetGo::Late).await;
        let before = self.holding(whose, &subject, &relation, &object).await?;
        let mut deltas = Vec::with_capacity(2);
        let holds = held(&subject, &relation, &object, before.as_ref());
        if let Some(before) = before {
            if before.properties == properties && since.is_none_or(|since| since == before.valid_from) {
                return Ok(whose.unchanged(before.id, vec![holds], lock));
            }
            if valid_from < before.valid_from {
                return Ok(Decided::refuse(format!(
                    "another fact holds here since {}: a new one cannot begin before it",
                    before.valid_from
                )));
            }
            deltas.push(ended(&before, valid_from, now));
        }
        let id = revision();
        deltas.push(Delta::FactBegan(Fact {
            id,
            subject,
            relation,
            object,
            properties,
            valid_from,
            valid_to: None,
            recorded_at: now,
            ended_at: None,
        }));
        Ok(Decided::change(id, deltas, vec![holds], lock))
    }
}

impl Decide<Unrelate> for Graph {
    async fn decide(&self, asked: Asked<'_>, call: Unrelate) -> Decision<bool> {
        let Asked { whose, now, .. } = asked;
        let Unrelate { subject, relation, object, valid_to } = call;
        let valid_to = valid_to.unwrap_or(now);
        if valid_to > now {
            return Ok(Decided::refuse("a fact ends now or in the past"));
        }
        let lock = self.locks.take(whose, &("graph", &subject, &relation, &object), LetGo::Late).await;
        let fact = self.holding(whose, &subject, &relation, &object).await?;
        let holds = held(&subject, &relation, &object, fact.as_ref());
        let Some(fact) = fact else { return Ok(whose.unchanged(false, vec![holds], lock)) };
        if valid_to < fact.valid_from {
            let why = format!("the fact holds since {}: it cannot end before", fact.valid_from);
            return Ok(Decided::refuse(why));
        }
        Ok(Decided::change(true, vec![ended(&fact, valid_to, now)], vec![holds], lock))
    }
}

impl Decide<Facts> for Graph {
    async fn decide(&self, Asked { whose, .. }: Asked<'_>, Facts(filter): Facts) -> Decision<FactPage> {
        if !(1..=graph::MAX_PAGE).contains(&filter.limit) {
            let most = graph::MAX_PAGE;
            return Ok(Decided::refuse(format!("a page has 1 to {most} facts, not {}", filter.limit)));
        }
        Ok(Decided::Answer(Ok(self.facts(whose, &filter).await?)))
    }
}

impl Decide<FindPath> for Graph {
    async fn decide(&self, Asked { whose, .. }: Asked<'_>, FindPath { walk, to }: FindPath) -> Decision<Path> {
        match checked(&walk) {
            Err(why) => Ok(Decided::refuse(why)),
            Ok(()) => Ok(Decided::Answer(Ok(self.path(whose, &walk, &to).await?))),
        }
    }
}

impl Decide<Reach> for Graph {
    async fn decide(&self, Asked { whose, .. }: Asked<'_>, Reach(walk): Reach) -> Decision<Reached> {
        match checked(&walk) {
            Err(why) => Ok(Decided::refuse(why)),
            Ok(()) => Ok(Decided::Answer(Ok(self.reach(whose, &walk).await?))),
        }
    }
}

impl Decide<DependencyOrder> for Graph {
    async fn decide(&self, asked: Asked<'_>, DependencyOrder(walk): DependencyOrder) -> Decision<Order> {
        match checked(&walk) {
            Err(why) => Ok(Decided::refuse(why)),
            Ok(()) => Ok(Decided::Answer(Ok(order(&walk.from, &self.reach(asked.whose, &walk).await?)))),
        }
    }
}

fn degraded(what: &'static str, error: &StoreError) {
    metrics::counter!("ltmc_degraded_reads_total", "call" => what).increment(1);
    tracing::warn!(%error, source = ?error.source, "the record answers in the place of the graph's database");
}

/// That this fact holds between two things, as when a change was decided; none: that none does.
fn held(subject: &Entity, relation: &Relation, object: &Entity, fact: Option<&Fact>) -> Expect {
    let (subject, relation, object) = (subject.clone(), relation.clone(), object.clone());
    Expect::Fact { subject, relation, object, id: fact.map(|fact| fact.id) }
}

fn ended(fact: &Fact, valid_to: Timestamp, ended_at: Timestamp) -> Delta {
    Delta::FactEnded(FactEnd {
        id: fact.id,
        subject: fact.subject.clone(),
        relation: fact.relation.clone(),
        object: fact.object.clone(),
        valid_to,
        ended_at,
    })
}

fn checked(walk: &Walk) -> Result<(), String> {
    if (1..=graph::MAX_DEPTH).contains(&walk.depth) {
        return Ok(());
    }
    Err(format!("a walk is 1 to {} facts far, not {}", graph::MAX_DEPTH, walk.depth))
}

/// Properties as they are kept: a JSON object without blanks; nothing where there are none.
fn properties(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.len() > graph::MAX_PROPERTIES {
        return Err(format!("properties have at most {} bytes, not {}", graph::MAX_PROPERTIES, text.len()));
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(map) if map.is_empty() => Ok(String::new()),
        Ok(map) => Ok(serde_json::Value::Object(map).to_string()),
        Err(e) => Err(format!("properties are a JSON object: {e}")),
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

/// Puts everything that was reached along a relation "depends on" into an order, and finds its rings (Tarjan 1972: the
/// strongly connected components come out in the order wanted).
fn order(from: &Entity, reached: &Reached) -> Order {
    let mut graph = DiGraph::<&Entity, ()>::new();
    let mut nodes: BTreeMap<&Entity, NodeIndex> = BTreeMap::new();
    let mut node = |graph: &mut DiGraph<_, _>, entity| *nodes.entry(entity).or_insert_with(|| graph.add_node(entity));
    node(&mut graph, from);
    for fact in &reached.facts {
        let (subject, object) = (node(&mut graph, &fact.subject), node(&mut graph, &fact.object));
        graph.update_edge(subject, object, ());
    }
    let mut order = Order { cut: reached.cut, degraded: reached.degraded, ..Order::default() };
    for ring in petgraph::algo::tarjan_scc(&graph) {
        match ring.as_slice() {
            [one] if graph.find_edge(*one, *one).is_none() => order.entities.push(graph[*one].clone()),
            _ => {
                let mut ring: Vec<Entity> = ring.iter().rev().map(|at| graph[*at].clone()).collect();
                let first = (0..ring.len()).min_by_key(|at| &ring[*at]).unwrap_or(0);
                ring.rotate_left(first);
                order.cycles.push(ring);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(subject: &str, object: &str) -> Fact {
        Fact {
            id: Revision(1),
            subject: subject.parse().unwrap(),
            relation: "depends-on".parse().unwrap(),
            object: object.parse().unwrap(),
            properties: String::new(),
            valid_from: Timestamp::default(),
            valid_to: None,
            recorded_at: Timestamp::default(),
            ended_at: None,
        }
    }

    #[test]
    fn an_order_puts_what_is_depended_on_first_and_shows_rings() {
        let facts = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "c"), ("a", "e"), ("e", "e")];
        let reached = Reached { facts: facts.iter().map(|(s, o)| fact(s, o)).collect(), cut: false, degraded: false };
        let order = order(&"a".parse().unwrap(), &reached);
        let names = |entities: &[Entity]| entities.iter().map(Entity::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&order.entities), "b a");
        let mut rings: Vec<String> = order.cycles.iter().map(|ring| names(ring)).collect();
        rings.sort();
        assert_eq!(rings, ["c d", "e"]);
    }
    #[test]
    fn properties_are_a_json_object_within_bounds() {
        assert_eq!(properties("{ \"a\": 1 }").as_deref(), Ok("{\"a\":1}"));
        assert_eq!(properties("{}").as_deref(), Ok(""));
        assert!(properties("[1]").is_err() && properties("{").is_err());
        assert!(properties(&format!("{{\"a\":\"{}\"}}", "x".repeat(graph::MAX_PROPERTIES))).is_err());
    }
}
