//! What every graph does. [`crate::graph_contract`] makes a test of every case.
//!
//! What a graph answers is compared with [`Context`]'s answer. Each case has tenants of its own, so that all may share a
//! database.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ltmc_model::delta::{Delta, FactEnd};
use ltmc_model::graph::{AsOf, Direction, Entity, Fact, FactFilter, MAX_DEPTH, MAX_VISITED, Walk};
use ltmc_model::{Revision, TenantId};

use crate::testing::MemoryRecord;
use crate::testing::context::Context;
use crate::testing::sample::{Owner, at, tenant};
use crate::{Durability, ReadGraph, WriteJournal as _};

/// How the suite gets a graph.
#[async_trait]
pub trait GraphFixture: Send + Sync {
    /// Makes deltas true of a tenant, after those of earlier calls, and gives the graph in which all of them are.
    async fn apply(&self, tenant: &TenantId, deltas: Vec<Delta>) -> Arc<dyn ReadGraph>;
}

/// The in-memory record's graph.
#[derive(Debug, Default)]
pub struct InMemoryGraph {
    record: Mutex<Option<Arc<MemoryRecord>>>,
    runs: AtomicU64,
}

#[async_trait]
impl GraphFixture for InMemoryGraph {
    async fn apply(&self, tenant: &TenantId, deltas: Vec<Delta>) -> Arc<dyn ReadGraph> {
        let record = self.record.lock().expect("no case panics with it").get_or_insert_with(MemoryRecord::new).clone();
        let mut owner = Owner::new(tenant.as_str(), self.runs.fetch_add(1, Ordering::Relaxed) + 1);
        record.append(owner.change(deltas), Durability::Lazy).await.expect("a run's first append");
        record
    }
}

/// Makes a test of every case: `ltmc_ports::graph_contract!(MyFixture::default());`. The crate needs tokio's macros.
#[macro_export]
macro_rules! graph_contract {
    ($fixture:expr) => {
        $crate::contract! { @port graph, $fixture;
            facts_are_listed_by_entity_direction_and_relation
            facts_are_seen_as_of_a_time
            history_shows_what_is_over_too
            facts_are_paged_in_the_order_of_their_ids
            a_shortest_way_is_found_and_no_longer_one
            ways_go_along_what_was_seen_alone
            what_is_reached_comes_nearest_first
            a_dense_graph_is_walked_once
            a_walk_ends_at_its_depth_and_at_its_bound
            rings_and_loops_end
            names_are_names_and_nothing_else
            what_is_unknown_is_nothing
            tenants_with_the_same_names_never_meet
            chance_finds_no_difference
        }
    };
}

/// A graph, and what it should answer.
struct Both {
    graph: Arc<dyn ReadGraph>,
    oracle: Context,
    tenant: TenantId,
}

impl Both {
    async fn new<F: GraphFixture>(fixture: &F, name: &str, deltas: Vec<Delta>) -> Self {
        let tenant = tenant(name);
        let mut oracle = Context::default();
        for delta in &deltas {
            oracle.apply(&tenant, delta);
        }
        Self { graph: fixture.apply(&tenant, deltas).await, oracle, tenant }
    }

    /// The ids of a list, which is as it should be.
    async fn facts(&self, filter: FactFilter) -> Vec<u64> {
        let page = self.graph.facts(&self.tenant, &filter).await.unwrap();
        assert_eq!(page, self.oracle.facts(&self.tenant, &filter), "{filter:?}");
        page.facts.iter().map(|fact| fact.id.0).collect()
    }

    /// The ids of what is reached, which is as it should be.
    async fn reach(&self, walk: Walk) -> Vec<u64> {
        let reached = self.graph.reach(&self.tenant, &walk).await.unwrap();
        let ids = |facts: &[Fact]| facts.iter().map(|fact| fact.id.0).collect::<Vec<_>>();
        let expected = self.oracle.reach(&self.tenant, &walk);
        // The ids first: they are easier to read where they differ.
        assert_eq!(ids(&reached.facts), ids(&expected.facts), "{walk:?}");
        assert_eq!(reached, expected, "{walk:?}");
        ids(&reached.facts)
    }

    /// A way, which is one, and as short as it should be: its length.
    async fn path(&self, walk: Walk, to: &str) -> Option<usize> {
        let to = entity(to);
        let way = self.graph.path(&self.tenant, &walk, &to).await.unwrap();
        let expected = self.oracle.path(&self.tenant, &walk, &to);
        let length = |way: &Option<Vec<Fact>>| way.as_ref().map(Vec::len);
        assert_eq!(length(&way), length(&expected), "{walk:?} to {to}: {way:?}, not {expected:?}");
        let mut here = walk.from.clone();
        for fact in way.iter().flatten() {
            assert_eq!(self.oracle.facts.get(&(self.tenant.clone(), fact.id)), Some(fact), "{walk:?} to {to}");
            assert!(fact.seen(walk.as_of) && walk.relation.as_ref().is_none_or(|relation| fact.relation == *relation));
            let forth = walk.direction != Direction::In && fact.subject == here;
            let back = walk.direction != Direction::Out && fact.object == here;
            assert!(forth || back, "{walk:?} to {to}: {fact:?} does not begin at {here}");
            here = if forth { fact.object.clone() } else { fact.subject.clone() };
        }
        assert!(way.is_none() || here == to, "{walk:?} ends at {here}, not at {to}");
        length(&way)
    }
}

fn entity(name: &str) -> Entity {
    name.parse().expect("an entity")
}

/// A fact that holds from the start of the tests' time on.
fn fact(id: u64, subject: &str, relation: &str, object: &str) -> Fact {
    Fact {
        id: Revision(id),
        subject: entity(subject),
        relation: relation.parse().expect("a relation"),
        object: entity(object),
        properties: String::new(),
        valid_from: at(0),
        valid_to: None,
        recorded_at: at(0),
        ended_at: None,
    }
}

fn began(id: u64, subject: &str, relation: &str, object: &str) -> Delta {
    Delta::FactBegan(fact(id, subject, relation, object))
}

/// The end of a fact that began.
fn ended(of: &Delta, valid_to: u64, ended_at: u64) -> Delta {
    let Delta::FactBegan(Fact { id, subject, relation, object, .. }) = of.clone() else { panic!("{of:?}") };
    Delta::FactEnded(FactEnd { id, subject, relation, object, valid_to: at(valid_to), ended_at: at(ended_at) })
}

/// Every fact that holds.
fn all() -> FactFilter {
    FactFilter {
        entity: None,
        direction: Direction::Both,
        relation: None,
        as_of: AsOf::default(),
        history: false,
        after: None,
        limit: 100,
    }
}

fn of(name: &str, direction: Direction) -> FactFilter {
    FactFilter { entity: Some(entity(name)), direction, ..all() }
}

fn walk(from: &str, direction: Direction, depth: u32) -> Walk {
    Walk { from: entity(from), direction, relation: None, depth, as_of: AsOf::default() }
}

const DIRECTIONS: [Direction; 3] = [Direction::Out, Direction::In, Direction::Both];

/// Facts are listed by entity, direction and relation.
pub async fn facts_are_listed_by_entity_direction_and_relation<F: GraphFixture>(fixture: &F) {
    let deltas = vec![
        began(1, "a", "depends-on", "b"),
        began(2, "b", "depends-on", "a"),
        began(3, "a", "part-of", "c"),
        began(4, "a", "knows", "a"),
        Delta::FactBegan(Fact {
            properties: r#"{"why":"it's \"so\"","n":1}"#.into(),
            ..fact(5, "d", "depends-on", "a")
        }),
    ];
    let both = Both::new(fixture, "g-listed", deltas).await;
    assert_eq!(both.facts(all()).await, [1, 2, 3, 4, 5]);
    assert_eq!(both.facts(of("a", Direction::Out)).await, [1, 3, 4]);
    assert_eq!(both.facts(of("a", Direction::In)).await, [2, 4, 5]);
    assert_eq!(both.facts(of("a", Direction::Both)).await, [1, 2, 3, 4, 5], "a fact of a thing with itself comes once");
    let depends = |filter: FactFilter| FactFilter { relation: Some("depends-on".parse().unwrap()), ..filter };
    assert_eq!(both.facts(depends(all())).await, [1, 2, 5]);
    assert_eq!(both.facts(depends(of("a", Direction::Out))).await, [1]);
    assert_eq!(both.facts(depends(of("a", Direction::Both))).await, [1, 2, 5]);
}

/// Facts are seen as of a time.
pub async fn facts_are_seen_as_of_a_time<F: GraphFixture>(fixture: &F) {
    let over = Delta::FactBegan(Fact { valid_from: at(10), recorded_at: at(20), ..fact(1, "a", "in", "b") });
    let holds = Delta::FactBegan(Fact { valid_from: at(30), recorded_at: at(40), ..fact(2, "a", "in", "c") });
    let end = ended(&over, 30, 40);
    let both = Both::new(fixture, "g-as-of", vec![over, end, holds]).await;
    let seen = async |valid: Option<u64>, known: Option<u64>| {
        let as_of = AsOf { valid: valid.map(at), known: known.map(at) };
        for direction in DIRECTIONS {
            both.facts(FactFilter { as_of, ..of("a", direction) }).await;
            both.reach(Walk { as_of, ..walk("a", direction, 3) }).await;
            both.path(Walk { as_of, ..walk("a", direction, 3) }, "c").await;
        }
        both.facts(FactFilter { as_of, ..all() }).await
    };
    assert_eq!(seen(None, None).await, [2]);
    assert_eq!(seen(Some(9), None).await, [0_u64; 0]);
    assert_eq!(seen(Some(10), None).await, [1]);
    assert_eq!(seen(Some(29), None).await, [1]);
    assert_eq!(seen(Some(30), None).await, [2], "the end is exclusive");
    assert_eq!(seen(None, Some(19)).await, [0_u64; 0], "nothing was known yet");
    assert_eq!(seen(None, Some(39)).await, [1], "it was thought to hold");
    assert_eq!(seen(Some(35), Some(39)).await, [1], "it was thought to hold on");
    assert_eq!(seen(Some(35), Some(40)).await, [2]);
    assert_eq!(seen(Some(15), Some(15)).await, [0_u64; 0]);
}

/// History shows what is over too.
pub async fn history_shows_what_is_over_too<F: GraphFixture>(fixture: &F) {
    let (first, second) = (began(1, "a", "in", "b"), began(2, "a", "in", "c"));
    let deltas = vec![first.clone(), second.clone(), ended(&first, 5, 6), began(3, "a", "in", "b")];
    let both = Both::new(fixture, "g-history", deltas).await;
    let history =
        |filter: FactFilter| FactFilter { history: true, as_of: AsOf { valid: Some(at(1)), known: None }, ..filter };
    assert_eq!(both.facts(all()).await, [2, 3]);
    assert_eq!(both.facts(history(all())).await, [1, 2, 3]);
    assert_eq!(both.facts(history(of("b", Direction::In))).await, [1, 3]);
    let page = both.graph.facts(&both.tenant, &history(all())).await.unwrap();
    assert_eq!((page.facts[0].valid_to, page.facts[0].ended_at), (Some(at(5)), Some(at(6))));
}

/// Facts are paged in the order of their ids.
pub async fn facts_are_paged_in_the_order_of_their_ids<F: GraphFixture>(fixture: &F) {
    let mut deltas: Vec<Delta> = (1..=25).map(|id| began(id * 7, "hub", "has", &format!("thing {id}"))).collect();
    deltas.extend((1..=10).map(|id| began(1_000 + id, "thing 1", "has", "hub")));
    let both = Both::new(fixture, "g-pages", deltas).await;
    for limit in [0, 1, 7, 24, 25, 34, 35, 36] {
        for filter in [all(), of("hub", Direction::Both), of("hub", Direction::Out)] {
            let expected = both.facts(filter.clone()).await;
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let filter = FactFilter { after, limit, ..filter.clone() };
                let page = both.graph.facts(&both.tenant, &filter).await.unwrap();
                assert_eq!(page, both.oracle.facts(&both.tenant, &filter));
                found.extend(page.facts.iter().map(|fact| fact.id.0));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{limit} at a time");
        }
    }
    assert_eq!(both.facts(FactFilter { after: Some(Revision(u64::MAX)), ..all() }).await, [0_u64; 0]);
}

/// A shortest way is found, and no longer one.
pub async fn a_shortest_way_is_found_and_no_longer_one<F: GraphFixture>(fixture: &F) {
    let deltas = vec![
        began(1, "a", "to", "b"),
        began(2, "b", "to", "c"),
        began(3, "c", "to", "d"),
        began(4, "a", "to", "x"),
        began(5, "x", "to", "d"),
        began(6, "d", "to", "e"),
        began(7, "a", "by", "e"),
    ];
    let both = Both::new(fixture, "g-ways", deltas).await;
    assert_eq!(both.path(walk("a", Direction::Out, 16), "d").await, Some(2));
    assert_eq!(both.path(walk("d", Direction::In, 16), "a").await, Some(2));
    assert_eq!(both.path(walk("d", Direction::Out, 16), "a").await, None);
    assert_eq!(both.path(walk("d", Direction::Both, 16), "a").await, Some(2));
    assert_eq!(both.path(walk("c", Direction::Both, 16), "x").await, Some(2));
    assert_eq!(both.path(walk("a", Direction::Out, 16), "e").await, Some(1));
    let to = |walk: Walk| Walk { relation: Some("to".parse().unwrap()), ..walk };
    assert_eq!(both.path(to(walk("a", Direction::Out, 16)), "e").await, Some(3));
    assert_eq!(both.path(to(walk("a", Direction::Out, 3)), "e").await, Some(3));
    assert_eq!(both.path(to(walk("a", Direction::Out, 2)), "e").await, None, "it is further than that");
    assert_eq!(both.path(walk("a", Direction::Out, 1), "a").await, Some(0), "a thing is on its own way");
    assert_eq!(both.path(walk("nobody", Direction::Out, 1), "nobody").await, Some(0));
}

/// Ways go along what was seen alone.
pub async fn ways_go_along_what_was_seen_alone<F: GraphFixture>(fixture: &F) {
    let short = began(1, "a", "to", "c");
    let deltas = vec![short.clone(), began(2, "a", "to", "b"), began(3, "b", "to", "c"), ended(&short, 10, 20)];
    let both = Both::new(fixture, "g-seen", deltas).await;
    let way = |valid: Option<u64>, known: Option<u64>| {
        let as_of = AsOf { valid: valid.map(at), known: known.map(at) };
        both.path(Walk { as_of, ..walk("a", Direction::Out, 5) }, "c")
    };
    assert_eq!(way(None, None).await, Some(2));
    assert_eq!(way(Some(9), None).await, Some(1));
    assert_eq!(way(Some(10), None).await, Some(2));
    assert_eq!(way(Some(10), Some(19)).await, Some(1));
    assert_eq!(both.reach(walk("a", Direction::Out, 5)).await, [2, 3]);
}

/// What is reached comes nearest first.
pub async fn what_is_reached_comes_nearest_first<F: GraphFixture>(fixture: &F) {
    let deltas = vec![
        began(1, "c", "to", "d"),
        began(2, "b", "to", "c"),
        began(3, "a", "to", "b"),
        began(4, "a", "to", "c"),
        began(5, "z", "to", "a"),
        began(6, "y", "by", "z"),
    ];
    let both = Both::new(fixture, "g-reach", deltas).await;
    assert_eq!(both.reach(walk("a", Direction::Out, 16)).await, [3, 4, 1, 2]);
    assert_eq!(both.reach(walk("a", Direction::Out, 1)).await, [3, 4]);
    assert_eq!(both.reach(walk("d", Direction::In, 16)).await, [1, 2, 4, 3, 5, 6]);
    assert_eq!(both.reach(walk("b", Direction::Both, 2)).await, [2, 3, 1, 4, 5]);
    let to = Walk { relation: Some("to".parse().unwrap()), ..walk("d", Direction::In, 16) };
    assert_eq!(both.reach(to).await, [1, 2, 4, 3, 5]);
}

/// A dense graph is walked once: there are more ways through it than anybody can go.
pub async fn a_dense_graph_is_walked_once<F: GraphFixture>(fixture: &F) {
    const LAYERS: u64 = 12;
    const WIDE: u64 = 7;
    let mut deltas = Vec::new();
    for layer in 0..LAYERS - 1 {
        for (from, to) in (0..WIDE).flat_map(|from| (0..WIDE).map(move |to| (from, to))) {
            let id = deltas.len() as u64 + 1;
            deltas.push(began(id, &format!("{layer}/{from}"), "to", &format!("{}/{to}", layer + 1)));
        }
    }
    deltas.push(began(10_000, "apart", "to", "apart too"));
    let both = Both::new(fixture, "g-dense", deltas).await;
    for direction in DIRECTIONS {
        both.reach(walk("0/0", direction, MAX_DEPTH)).await;
        assert_eq!(both.path(walk("0/0", direction, MAX_DEPTH), "apart").await, None);
    }
    let last = format!("{}/0", LAYERS - 1);
    assert_eq!(both.path(walk("0/0", Direction::Out, MAX_DEPTH), &last).await, Some(LAYERS as usize - 1));
    assert_eq!(both.path(walk(&last, Direction::Both, MAX_DEPTH), "0/6").await, Some(LAYERS as usize - 1));
}

/// A walk ends at its depth, and at its bound.
pub async fn a_walk_ends_at_its_depth_and_at_its_bound<F: GraphFixture>(fixture: &F) {
    let mut deltas: Vec<Delta> =
        (1..=20).map(|id| began(id, &format!("link {}", id - 1), "to", &format!("link {id}"))).collect();
    let many = u64::from(MAX_VISITED) + 5;
    deltas.extend((0..many).map(|number| began(1_000 + number, "hub", "has", &format!("thing {number}"))));
    deltas.push(began(900_000, "door", "to", "hub"));
    let both = Both::new(fixture, "g-bounds", deltas).await;
    assert_eq!(both.reach(walk("link 0", Direction::Out, MAX_DEPTH)).await, (1..=16).collect::<Vec<_>>());
    assert_eq!(both.path(walk("link 0", Direction::Out, MAX_DEPTH), "link 16").await, Some(16));
    assert_eq!(both.path(walk("link 0", Direction::Out, MAX_DEPTH), "link 17").await, None);
    for (from, direction) in [("hub", Direction::Out), ("door", Direction::Out), ("thing 0", Direction::Both)] {
        let reached = both.graph.reach(&both.tenant, &walk(from, direction, MAX_DEPTH)).await.unwrap();
        assert!(reached.cut, "from {from}");
        assert_eq!(reached.facts.len(), MAX_VISITED as usize);
        both.reach(walk(from, direction, MAX_DEPTH)).await;
    }
    let reached = both.graph.reach(&both.tenant, &walk("door", Direction::Out, 1)).await.unwrap();
    assert!(!reached.cut && reached.facts.len() == 1);
}

/// Rings and loops end.
pub async fn rings_and_loops_end<F: GraphFixture>(fixture: &F) {
    let deltas = vec![
        began(1, "a", "to", "b"),
        began(2, "b", "to", "c"),
        began(3, "c", "to", "a"),
        began(4, "b", "to", "b"),
        began(5, "b", "by", "c"),
    ];
    let both = Both::new(fixture, "g-rings", deltas).await;
    for direction in DIRECTIONS {
        both.reach(walk("a", direction, MAX_DEPTH)).await;
        both.facts(of("b", direction)).await;
        both.path(walk("a", direction, MAX_DEPTH), "c").await;
    }
    assert_eq!(both.reach(walk("a", Direction::Out, MAX_DEPTH)).await, [1, 2, 4, 5, 3]);
}

/// Names are names and nothing else.
pub async fn names_are_names_and_nothing_else<F: GraphFixture>(fixture: &F) {
    let names = [
        "x'}) DETACH DELETE s //",
        "$tenant",
        "\\u0027 OR 1=1",
        "`a`",
        "\"; drop table facts; --",
        "ä \u{10ffff} 的",
        "a",
        "A",
        " a",
        "a ",
        "%",
        &"n".repeat(256),
    ];
    let deltas: Vec<Delta> =
        (1..).zip(names).map(|(id, name)| began(id, name, "is", names[id as usize % names.len()])).collect();
    let both = Both::new(fixture, "g-names", deltas).await;
    for (id, name) in (1..).zip(names) {
        assert_eq!(both.facts(of(name, Direction::Out)).await, [id], "`{name}`");
        assert_eq!(both.reach(walk(name, Direction::Out, 1)).await, [id]);
    }
    assert_eq!(both.path(walk(names[0], Direction::Out, 16), names[3]).await, Some(3));
    assert_eq!(both.facts(all()).await.len(), names.len());
}

/// What is unknown is nothing.
pub async fn what_is_unknown_is_nothing<F: GraphFixture>(fixture: &F) {
    let both = Both::new(fixture, "g-unknown", vec![began(1, "a", "to", "b")]).await;
    for direction in DIRECTIONS {
        assert_eq!(both.facts(of("nobody", direction)).await, [0_u64; 0]);
        assert_eq!(both.reach(walk("nobody", direction, 3)).await, [0_u64; 0]);
        assert_eq!(both.path(walk("nobody", direction, 3), "a").await, None);
        assert_eq!(both.path(walk("a", direction, 3), "nobody").await, None);
    }
    let other = |walk: Walk| Walk { relation: Some("never-said".parse().unwrap()), ..walk };
    assert_eq!(both.reach(other(walk("a", Direction::Out, 3))).await, [0_u64; 0]);
    assert_eq!(both.path(other(walk("a", Direction::Out, 3)), "b").await, None);
}

/// Tenants with the same names never meet.
pub async fn tenants_with_the_same_names_never_meet<F: GraphFixture>(fixture: &F) {
    let first = Both::new(fixture, "g-meet", vec![began(1, "a", "to", "b"), began(2, "b", "to", "c")]).await;
    // The same ids and names, and a way that the first has not.
    let second = Both::new(fixture, "g-meet-2", vec![began(1, "a", "to", "b"), began(3, "c", "to", "d")]).await;
    for (both, all_of_it) in [(&first, vec![1, 2]), (&second, vec![1, 3])] {
        assert_eq!(both.facts(all()).await, all_of_it);
        for name in ["a", "b", "c", "d"] {
            for direction in DIRECTIONS {
                both.facts(of(name, direction)).await;
                both.reach(walk(name, direction, 5)).await;
                both.path(walk("a", direction, 5), name).await;
            }
        }
    }
    let nobody = tenant("g-meet-3");
    assert_eq!(first.graph.facts(&nobody, &all()).await.unwrap().facts, []);
}

/// Chance finds no difference.
pub async fn chance_finds_no_difference<F: GraphFixture>(fixture: &F) {
    // SplitMix64 (Steele, Lea and Flood 2014), always from the same start.
    let mut state = 7_u64;
    let mut below = |bound: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    };
    let relations = ["to", "by", "part-of"];
    let mut deltas = Vec::new();
    for id in 1..=120 {
        let (subject, object) = (format!("e{}", below(40)), format!("e{}", below(40)));
        let mut fact = fact(id, &subject, relations[below(3) as usize], &object);
        (fact.valid_from, fact.recorded_at) = (at(below(100)), at(below(100)));
        let delta = Delta::FactBegan(fact);
        deltas.push(delta.clone());
        if below(3) == 0 {
            deltas.push(ended(&delta, 100 + below(100), 100 + below(100)));
        }
    }
    let both = Both::new(fixture, "g-chance", deltas).await;
    let mut lengths = BTreeSet::new();
    for _ in 0..40 {
        let mut maybe = |bound: u64| (below(2) == 0).then(|| at(below(bound)));
        let as_of = AsOf { valid: maybe(220), known: maybe(220) };
        let relation = (below(2) == 0).then(|| relations[below(3) as usize].parse().unwrap());
        let direction = DIRECTIONS[below(3) as usize];
        let (from, to) = (format!("e{}", below(40)), format!("e{}", below(40)));
        let limit = below(20) as u32;
        let filter =
            FactFilter { entity: Some(entity(&from)), direction, relation: relation.clone(), as_of, limit, ..all() };
        both.facts(filter.clone()).await;
        both.facts(FactFilter { entity: None, ..filter }).await;
        let walk = Walk { from: entity(&from), direction, relation, depth: 1 + below(8) as u32, as_of };
        both.reach(walk.clone()).await;
        lengths.insert(both.path(walk, &to).await);
    }
    assert!(lengths.len() > 2, "the graph is too thin to show anything: {lengths:?}");
}

#[cfg(test)]
mod tests {
    use super::InMemoryGraph;
    crate::graph_contract!(InMemoryGraph::default());
}
