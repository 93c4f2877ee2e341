//! What every index of vectors does. [`crate::vectors_contract`] makes a test of every case.

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::Position;
use ltmc_model::recall::EmbedderId;

use crate::recall::{IndexId, Near, VectorId};
use crate::testing::MemoryVectors;
use crate::testing::sample::tenant;
use crate::{Kind, StoreError, Vectors};

/// How the suite gets indexes.
#[async_trait]
pub trait VectorsFixture: Send + Sync {
    /// The indexes that the suite is run against.
    type Store: Vectors + 'static;

    /// Without an index.
    async fn fresh(&self) -> Arc<Self::Store>;

    /// The host ends without a word, and opens what is left again. Nobody else has a reference to `store`.
    async fn reopen(&self, store: Arc<Self::Store>) -> Arc<Self::Store>;
}

/// Indexes in memory.
#[derive(Debug, Default)]
pub struct InMemoryVectors;

#[async_trait]
impl VectorsFixture for InMemoryVectors {
    type Store = MemoryVectors;

    async fn fresh(&self) -> Arc<MemoryVectors> {
        MemoryVectors::new()
    }

    async fn reopen(&self, store: Arc<MemoryVectors>) -> Arc<MemoryVectors> {
        store.reopen()
    }
}

/// Makes a test of every case: `ltmc_ports::vectors_contract!(MyFixture::default());`. The crate needs tokio's macros.
#[macro_export]
macro_rules! vectors_contract {
    ($fixture:expr) => {
        $crate::contract! { @port vectors, $fixture;
            the_nearest_come_first_with_their_scores
            many_are_compared_exactly_while_few
            what_was_replaced_or_removed_is_not_found
            a_search_is_narrowed_to_those_among
            tenants_and_embedders_never_meet
            a_wrong_vector_is_refused_and_nothing_changes
            what_was_saved_is_there_again
            what_was_not_saved_is_whole_or_as_before
            a_reset_forgets_everything
            a_dropped_index_is_gone_for_good
            ids_come_in_order
            without_an_index_it_says_so
            the_same_change_twice_changes_nothing
        }
    };
}

/// An index of a tenant, with vectors of `dimensions` numbers.
pub fn place(of: &str, embedder: &str, dimensions: u32) -> IndexId {
    IndexId { tenant: tenant(of), embedder: EmbedderId { name: embedder.to_owned(), dimensions } }
}

/// A vector of length 1, always the same for the same number.
pub fn vector(number: u64, dimensions: u32) -> Vec<f32> {
    // SplitMix64 (Steele, Lea and Flood 2014): enough for numbers that look like chance.
    let mut state = number;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    unit((0..dimensions).map(|_| next()).collect())
}

/// The same direction, with length 1.
pub fn unit(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.into_iter().map(|number| number / length).collect()
}

fn numbers(near: &[Near]) -> Vec<VectorId> {
    near.iter().map(|near| near.id).collect()
}

fn some(ids: std::ops::Range<VectorId>, dimensions: u32) -> Vec<(VectorId, Vec<f32>)> {
    ids.map(|id| (id, vector(id as u64, dimensions))).collect()
}

fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Kind {
    result.unwrap_err().kind
}

/// An empty index, with `add` in it.
async fn made<F: VectorsFixture>(fixture: &F, index: &IndexId, add: &[(VectorId, Vec<f32>)]) -> Arc<F::Store> {
    let store = fixture.fresh().await;
    store.reset(index).await.unwrap();
    store.change(index, add, &[], Position(1)).await.unwrap();
    store
}

/// The nearest come first, with their scores.
pub async fn the_nearest_come_first_with_their_scores<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 2);
    let add = [(4, vec![0.0, 1.0]), (2, vec![0.6, 0.8]), (9, vec![1.0, 0.0]), (7, vec![-1.0, 0.0])];
    let store = made(fixture, &index, &add).await;
    let near = store.search(&index, &[1.0, 0.0], 3, None).await.unwrap();
    assert_eq!(numbers(&near), [9, 2, 4]);
    for (near, score) in near.iter().zip([1.0, 0.6, 0.0]) {
        assert!((near.score - score).abs() < 1e-6, "{near:?}");
    }
    let all = store.search(&index, &[1.0, 0.0], 100, None).await.unwrap();
    assert_eq!(numbers(&all), [9, 2, 4, 7]);
    assert!(store.search(&index, &[1.0, 0.0], 0, None).await.unwrap().is_empty());
}

/// Many are compared exactly, while they are few.
pub async fn many_are_compared_exactly_while_few<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 33);
    let vectors = some(1..301, 33);
    let store = made(fixture, &index, &vectors).await;
    for number in 0..20 {
        let asked = vector(10_000 + number, 33);
        let score = |other: &[f32]| asked.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let mut wanted: Vec<(f32, VectorId)> = vectors.iter().map(|(id, other)| (score(other), *id)).collect();
        wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near = store.search(&index, &asked, 12, None).await.unwrap();
        assert_eq!(numbers(&near), wanted[..12].iter().map(|(_, id)| *id).collect::<Vec<_>>());
    }
}

/// What was replaced or removed is not found.
pub async fn what_was_replaced_or_removed_is_not_found<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 8);
    let store = made(fixture, &index, &some(1..11, 8)).await;
    store.change(&index, &[(3, vector(103, 8))], &[5, 77], Position(2)).await.unwrap();
    for (asked, found) in [(5, false), (3, false), (103, true), (4, true)] {
        let near = store.search(&index, &vector(asked, 8), 10, None).await.unwrap();
        assert_eq!(near.len(), 9);
        assert_eq!(near[0].score > 0.999, found, "{asked}: {near:?}");
    }
    assert_eq!(store.ids(&index).await.unwrap(), [1, 2, 3, 4, 6, 7, 8, 9, 10]);
    // The last of an id counts, and what is removed does not come back in the same change.
    let add = [(20, vector(1, 8)), (21, vector(1, 8)), (20, vector(120, 8))];
    store.change(&index, &add, &[21], Position(3)).await.unwrap();
    let near = store.search(&index, &vector(120, 8), 1, None).await.unwrap();
    assert_eq!(numbers(&near), [20]);
    assert!(!store.ids(&index).await.unwrap().contains(&21));
    store.change(&index, &[], &(0..30).collect::<Vec<_>>(), Position(4)).await.unwrap();
    assert!(store.search(&index, &vector(1, 8), 10, None).await.unwrap().is_empty());
    assert!(store.ids(&index).await.unwrap().is_empty());
}

/// A search is narrowed to those among.
pub async fn a_search_is_narrowed_to_those_among<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 16);
    let store = made(fixture, &index, &some(1..101, 16)).await;
    let search = async |k, among: &[VectorId]| store.search(&index, &vector(50, 16), k, Some(among)).await.unwrap();
    assert_eq!(numbers(&search(1, &[10, 50, 60]).await), [50]);
    let near = search(10, &[3, 7, 11, 500]).await;
    let mut found = numbers(&near);
    found.sort_unstable();
    assert_eq!(found, [3, 7, 11]);
    assert!(near.is_sorted_by(|a, b| a.score >= b.score));
    assert!(search(10, &[]).await.is_empty());
    assert!(search(10, &[-1, 1_000]).await.is_empty());
    let all: Vec<VectorId> = (0..200).collect();
    assert_eq!(search(7, &all).await.len(), 7);
    assert_eq!(search(1_000, &all).await.len(), 100);
}

/// Tenants and embedders never meet.
pub async fn tenants_and_embedders_never_meet<F: VectorsFixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let places = [
        place("acme", "m", 8),
        place("beta", "m", 8),
        place("acme", "m", 16),
        place("acme", "n", 8),
        place("acme", "../../m", 8),
    ];
    for (number, index) in places.iter().enumerate() {
        store.reset(index).await.unwrap();
        let add = [
            (1, vector(number as u64, index.embedder.dimensions)),
            (10 + number as i64, vector(99, index.embedder.dimensions)),
        ];
        store.change(index, &add, &[], Position(number as u64)).await.unwrap();
    }
    store.save().await.unwrap();
    let store = fixture.reopen(store).await;
    for (number, index) in places.iter().enumerate() {
        let near = store.search(index, &vector(number as u64, index.embedder.dimensions), 10, None).await.unwrap();
        assert!(near[0].id == 1 && near[0].score > 0.999, "{index:?}: {near:?}");
        assert_eq!(store.ids(index).await.unwrap(), [1, 10 + number as i64]);
        assert_eq!(store.stamp(index).await.unwrap(), Some(Position(number as u64)));
    }
    store.drop_index(&places[0]).await.unwrap();
    for index in &places[1..] {
        assert_eq!(store.ids(index).await.unwrap().len(), 2);
    }
}

/// A wrong vector is refused, and nothing changes.
pub async fn a_wrong_vector_is_refused_and_nothing_changes<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 4);
    let store = made(fixture, &index, &some(1..4, 4)).await;
    let right = vector(9, 4);
    let wrong = [
        vec![],
        vec![1.0; 3],
        vec![0.5; 5],
        vec![0.5; 8],
        vec![0.5, f32::NAN, 0.5, 0.5],
        vec![0.5, f32::INFINITY, 0.5, 0.5],
        vec![f32::NEG_INFINITY, 0.5, 0.5, 0.5],
    ];
    for wrong in wrong {
        let add = [(8, right.clone()), (9, wrong.clone()), (10, right.clone())];
        assert_eq!(kind(store.change(&index, &add, &[1], Position(7)).await), Kind::Internal, "{wrong:?}");
        assert_eq!(kind(store.search(&index, &wrong, 1, None).await), Kind::Internal, "{wrong:?}");
    }
    assert_eq!(store.ids(&index).await.unwrap(), [1, 2, 3]);
    assert_eq!(store.stamp(&index).await.unwrap(), Some(Position(1)));
    assert_eq!(numbers(&store.search(&index, &vector(1, 4), 1, None).await.unwrap()), [1]);
    assert_eq!(kind(store.reset(&place("acme", "none", 0)).await), Kind::Internal);
}

/// What was saved is there again.
pub async fn what_was_saved_is_there_again<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 24);
    let store = made(fixture, &index, &some(1..201, 24)).await;
    store.change(&index, &[(7, vector(207, 24))], &[9, 10], Position(42)).await.unwrap();
    store.save().await.unwrap();
    let (before, ids) =
        (store.search(&index, &vector(207, 24), 20, None).await.unwrap(), store.ids(&index).await.unwrap());
    let mut store = fixture.reopen(store).await;
    for _ in 0..2 {
        assert_eq!(store.stamp(&index).await.unwrap(), Some(Position(42)));
        assert_eq!(store.ids(&index).await.unwrap(), ids);
        assert_eq!(store.search(&index, &vector(207, 24), 20, None).await.unwrap(), before);
        // Saved again without a change.
        store.save().await.unwrap();
        store = fixture.reopen(store).await;
    }
    store.change(&index, &some(300..310, 24), &[7], Position(43)).await.unwrap();
    assert_eq!(store.ids(&index).await.unwrap().len(), ids.len() + 9);
    assert_eq!(numbers(&store.search(&index, &vector(305, 24), 1, None).await.unwrap()), [305]);
}

/// What was not saved is whole, or as it was before.
pub async fn what_was_not_saved_is_whole_or_as_before<F: VectorsFixture>(fixture: &F) {
    let (index, other) = (place("acme", "m", 8), place("acme", "n", 8));
    let store = made(fixture, &index, &some(1..11, 8)).await;
    store.save().await.unwrap();
    store.change(&index, &some(20..30, 8), &[1], Position(2)).await.unwrap();
    store.reset(&other).await.unwrap();
    store.change(&other, &some(1..3, 8), &[], Position(2)).await.unwrap();
    let store = fixture.reopen(store).await;
    let ids = store.ids(&index).await.unwrap();
    match store.stamp(&index).await.unwrap() {
        Some(Position(1)) => assert_eq!(ids, (1..11).collect::<Vec<_>>()),
        Some(Position(2)) => assert_eq!(ids, (2..11).chain(20..30).collect::<Vec<_>>()),
        other => panic!("{other:?}"),
    }
    if store.stamp(&other).await.unwrap().is_some() {
        assert_eq!(store.ids(&other).await.unwrap(), [1, 2]);
    }
}

/// A reset forgets everything, on disk too.
pub async fn a_reset_forgets_everything<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 8);
    let store = made(fixture, &index, &some(1..11, 8)).await;
    store.save().await.unwrap();
    store.reset(&index).await.unwrap();
    assert_eq!(store.stamp(&index).await.unwrap(), None);
    assert!(store.ids(&index).await.unwrap().is_empty());
    assert!(store.search(&index, &vector(1, 8), 5, None).await.unwrap().is_empty());
    let store = fixture.reopen(store).await;
    assert_eq!(store.stamp(&index).await.unwrap(), None);
    store.reset(&index).await.unwrap();
    store.save().await.unwrap();
    let store = fixture.reopen(store).await;
    assert_eq!(store.stamp(&index).await.unwrap(), None, "an empty index has nothing remembered");
    store.reset(&index).await.unwrap();
    store.change(&index, &some(1..3, 8), &[], Position(5)).await.unwrap();
    assert_eq!(store.ids(&index).await.unwrap(), [1, 2]);
}

/// A dropped index is gone for good.
pub async fn a_dropped_index_is_gone_for_good<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 8);
    let store = made(fixture, &index, &some(1..11, 8)).await;
    store.save().await.unwrap();
    store.drop_index(&index).await.unwrap();
    store.drop_index(&index).await.unwrap();
    assert_eq!(store.stamp(&index).await.unwrap(), None);
    assert_eq!(kind(store.search(&index, &vector(1, 8), 1, None).await), Kind::Corrupt);
    store.save().await.unwrap();
    let store = fixture.reopen(store).await;
    assert_eq!(store.stamp(&index).await.unwrap(), None);
    assert_eq!(kind(store.search(&index, &vector(1, 8), 1, None).await), Kind::Corrupt);
}

/// Ids come in order.
pub async fn ids_come_in_order<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 4);
    let mut add = some(1..101, 4);
    add.rotate_left(37);
    add.push((i64::MAX, vector(0, 4)));
    let store = made(fixture, &index, &add).await;
    let mut wanted: Vec<VectorId> = (1..101).collect();
    wanted.push(i64::MAX);
    assert_eq!(store.ids(&index).await.unwrap(), wanted);
}

/// Without an index it says so.
pub async fn without_an_index_it_says_so<F: VectorsFixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let index = place("acme", "m", 8);
    assert_eq!(store.stamp(&index).await.unwrap(), None);
    assert_eq!(kind(store.search(&index, &vector(1, 8), 1, None).await), Kind::Corrupt);
    assert_eq!(kind(store.search(&index, &vector(1, 8), 1, Some(&[1])).await), Kind::Corrupt);
    assert_eq!(kind(store.ids(&index).await), Kind::Corrupt);
    // What is known of an index that is not there does not begin in the middle.
    assert_eq!(kind(store.change(&index, &some(1..3, 8), &[], Position(1)).await), Kind::Corrupt);
    assert_eq!(store.stamp(&index).await.unwrap(), None);
    store.save().await.unwrap();
}

/// The same change twice changes nothing.
pub async fn the_same_change_twice_changes_nothing<F: VectorsFixture>(fixture: &F) {
    let index = place("acme", "m", 8);
    let store = made(fixture, &index, &some(1..51, 8)).await;
    let (add, remove) = (some(40..61, 8), [3, 4, 5]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        store.change(&index, &add, &remove, Position(9)).await.unwrap();
        let near = store.search(&index, &vector(45, 8), 20, None).await.unwrap();
        seen.push((near, store.ids(&index).await.unwrap(), store.stamp(&index).await.unwrap()));
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
    assert_eq!(seen[0].1.len(), 57);
}

#[cfg(test)]
mod tests {
    use super::InMemoryVectors;
    crate::vectors_contract!(InMemoryVectors);
}
