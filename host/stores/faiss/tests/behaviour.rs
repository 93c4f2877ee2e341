//! Graphs, rebuilds in the background, eviction, and a comparison by chance with vectors in memory.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use ltmc_faiss::{CROSSOVER, Kind};
use ltmc_model::Position;
use ltmc_ports::Vectors as _;
use ltmc_ports::recall::{Near, VectorId};
use ltmc_ports::testing::MemoryVectors;
use ltmc_ports::testing::suite::vectors::place;

use common::{Clusters, Place, recall};

const DIMENSIONS: u32 = 32;
const ABOVE: i64 = CROSSOVER as i64 + 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_the_crossover_a_graph_is_built_and_finds_what_is_near() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let mut clusters = Clusters::new(7, 100, DIMENSIONS, 0.4);
    let vectors = clusters.some(1..ABOVE + 1);
    let asked: Vec<Vec<f32>> = (0..50).map(|_| clusters.vector()).collect();
    let store = at.open(u64::MAX);
    store.reset(&index).await.unwrap();
    for (number, some) in vectors.chunks(500).enumerate() {
        store.change(&index, some, &[], Position(number as u64 + 1)).await.unwrap();
        // It answers at any time, whether the graph is there yet or not.
        assert_eq!(store.search(&index, &some[0].1, 1, None).await.unwrap()[0].id, some[0].0);
    }
    store.settle().await;
    assert_eq!(store.kind(&index).await.unwrap(), Some(Kind::Graph));
    let all: Vec<VectorId> = (1..ABOVE + 1).collect();
    assert_eq!(store.ids(&index).await.unwrap(), all);
    let found = recall(&store, &index, &vectors, &asked, 10).await;
    assert!(found >= 0.95, "recall at 10 is {found}");
    // Narrowed, it compares.
    let among: Vec<VectorId> = (1..ABOVE + 1).step_by(97).collect();
    let few: Vec<(VectorId, Vec<f32>)> = among.iter().map(|id| vectors[*id as usize - 1].clone()).collect();
    for asked in &asked {
        let near = store.search(&index, asked, 10, Some(&among)).await.unwrap();
        assert_eq!(near.iter().map(|near| near.id).collect::<Vec<_>>(), common::exact(&few, asked, 10));
    }
    // The graph is on disk too, with what has changed in it.
    store.change(&index, &[(3, vectors[3].1.clone())], &[1], Position(99)).await.unwrap();
    store.save().await.unwrap();
    let again = at.open(u64::MAX);
    assert_eq!(again.kind(&index).await.unwrap(), Some(Kind::Graph));
    assert_eq!(again.stamp(&index).await.unwrap(), Some(Position(99)));
    assert_eq!(again.ids(&index).await.unwrap(), all[1..]);
    for asked in asked.iter().chain([&vectors[0].1, &vectors[2].1]) {
        let (one, other) = (store.search(&index, asked, 10, None).await, again.search(&index, asked, 10, None).await);
        assert_eq!(one.unwrap(), other.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_places_are_never_found_and_a_rebuild_removes_them() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let mut clusters = Clusters::new(8, 20, DIMENSIONS, 0.3);
    let mut vectors: BTreeMap<VectorId, Vec<f32>> = clusters.some(1..ABOVE + 1).into_iter().collect();
    let store = Arc::new(at.open(u64::MAX));
    store.reset(&index).await.unwrap();
    let add: Vec<_> = vectors.clone().into_iter().collect();
    store.change(&index, &add, &[], Position(1)).await.unwrap();
    store.settle().await;
    // A whole neighbourhood goes: all that a search finds first is dead.
    let asked = clusters.vector();
    let near = store.search(&index, &asked, 400, None).await.unwrap();
    let gone: Vec<VectorId> = near.iter().map(|near| near.id).collect();
    store.change(&index, &[], &gone, Position(2)).await.unwrap();
    assert_eq!(store.kind(&index).await.unwrap(), Some(Kind::Graph));
    let left: Vec<(VectorId, Vec<f32>)> = vectors.clone().into_iter().filter(|(id, _)| !gone.contains(id)).collect();
    let near = store.search(&index, &asked, 50, None).await.unwrap();
    assert_eq!(near.len(), 50);
    assert!(near.iter().all(|near| !gone.contains(&near.id)));
    vectors.retain(|id, _| !gone.contains(id));
    let before = store.memory();

    // Searches and changes go on while it is rebuilt.
    let searching = tokio::spawn({
        let (store, index, asked) = (store.clone(), index.clone(), asked.clone());
        async move {
            for _ in 0..200 {
                assert_eq!(store.search(&index, &asked, 10, None).await.unwrap().len(), 10);
            }
        }
    });
    for round in 0..8 {
        let ids: Vec<VectorId> = vectors.keys().copied().skip(round * 150).step_by(3).take(300).collect();
        let (remove, replace) = ids.split_at(150);
        let mut add: Vec<(VectorId, Vec<f32>)> = replace.iter().map(|id| (*id, clusters.vector())).collect();
        add.extend(clusters.some(100_000 + round as i64 * 100..100_020 + round as i64 * 100));
        store.change(&index, &add, remove, Position(3 + round as u64)).await.unwrap();
        vectors.retain(|id, _| !remove.contains(id));
        vectors.extend(add);
    }
    searching.await.unwrap();
    store.settle().await;
    assert_eq!(store.ids(&index).await.unwrap(), vectors.keys().copied().collect::<Vec<_>>());
    assert_eq!(store.stamp(&index).await.unwrap(), Some(Position(10)));
    let vectors: Vec<(VectorId, Vec<f32>)> = vectors.into_iter().collect();
    let asked: Vec<Vec<f32>> = (0..40).map(|_| clusters.vector()).collect();
    let found = recall(&store, &index, &vectors, &asked, 10).await;
    assert!(found >= 0.95, "recall at 10 is {found}");
    assert!(store.memory() < before, "{} bytes, {before} before", store.memory());
    assert!(left.len() >= vectors.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_of_equals_finds_as_many_as_there_are() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let one = Clusters::new(9, 1, DIMENSIONS, 0.3).vector();
    let store = at.open(u64::MAX);
    store.reset(&index).await.unwrap();
    let add: Vec<(VectorId, Vec<f32>)> = (0..ABOVE).map(|id| (id, one.clone())).collect();
    store.change(&index, &add, &[], Position(1)).await.unwrap();
    store.settle().await;
    assert_eq!(store.kind(&index).await.unwrap(), Some(Kind::Graph));
    for k in [1, 10, 400, ABOVE as u32, u32::MAX] {
        let near = store.search(&index, &one, k, None).await.unwrap();
        assert_eq!(near.len(), (k as usize).min(ABOVE as usize));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_and_a_drop_end_a_rebuild() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let vectors = Clusters::new(10, 20, DIMENSIONS, 0.3).some(1..ABOVE + 1);
    let store = at.open(u64::MAX);
    for number in 0..2 {
        store.reset(&index).await.unwrap();
        store.change(&index, &vectors, &[], Position(1)).await.unwrap();
        if number == 0 {
            store.reset(&index).await.unwrap();
            store.change(&index, &vectors[..3], &[], Position(2)).await.unwrap();
            store.settle().await;
            assert_eq!(store.ids(&index).await.unwrap(), [1, 2, 3]);
            assert_eq!(store.kind(&index).await.unwrap(), Some(Kind::Exact));
        } else {
            store.drop_index(&index).await.unwrap();
            store.settle().await;
            assert_eq!(store.kind(&index).await.unwrap(), None);
        }
    }
}

/// More than fits: the least recently used leave, with what was not saved, and come back when they are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_nothing_is_lost_by_eviction() {
    let at = Place::default();
    let places: Vec<_> = (0..8).map(|number| place(&format!("tenant-{number}"), "m", DIMENSIONS)).collect();
    let each = 1_000 * (DIMENSIONS as u64 * 4 + 8);
    let store = Arc::new(at.open(each * 4));
    let mut clusters = Clusters::new(11, 20, DIMENSIONS, 0.3);
    let vectors = clusters.some(1..1_001);
    for (number, index) in places.iter().enumerate() {
        store.reset(index).await.unwrap();
        store.change(index, &vectors, &[], Position(number as u64 + 1)).await.unwrap();
        assert!(store.memory() <= each * 4, "{} of {} bytes", store.memory(), each * 4);
    }
    assert!(at.files().len() >= 4, "what left was saved");
    for round in 0..3 {
        for (number, index) in places.iter().enumerate() {
            assert_eq!(store.stamp(index).await.unwrap(), Some(Position(number as u64 + 1)), "round {round}");
            assert_eq!(store.search(index, &vectors[5].1, 1, None).await.unwrap()[0].id, 6);
            assert!(store.memory() <= each * 4);
        }
    }
    // All at once, from many sides.
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let (store, index, asked) = (store.clone(), places[number * 5 % 8].clone(), vectors[number].1.clone());
            tokio::spawn(async move {
                for round in 0..10 {
                    assert_eq!(store.search(&index, &asked, 1, None).await.unwrap()[0].id, number as i64 + 1);
                    let id = 10_000 + number as i64;
                    if round % 3 == 0 {
                        store.change(&index, &[(id, vec![0.5; DIMENSIONS as usize])], &[], Position(77)).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for (number, index) in places.iter().enumerate() {
        let ids = store.ids(index).await.unwrap();
        assert_eq!(ids.len(), 1_008, "tenant {number}");
        assert_eq!(store.stamp(index).await.unwrap(), Some(Position(77)));
    }
    assert!(store.memory() <= each * 5, "{} bytes", store.memory());
    // One that is larger than the bound is used all the same.
    store.save().await.unwrap();
    let tight = at.open(10);
    for index in &places {
        assert_eq!(tight.ids(index).await.unwrap().len(), 1_008);
        assert!(tight.memory() < each * 2, "{} bytes", tight.memory());
    }
}

/// Callers give up at any time: what they asked for happens all the same, and in the order in which they asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_give_up_happens_in_the_order_they_asked() {
    for seed in 0..20 {
        let (at, index, mut random) = (Place::default(), place("acme", "m", 9), Clusters::new(seed, 12, 9, 0.5));
        let (real, plain) = (Arc::new(at.open(u64::MAX)), MemoryVectors::new());
        real.reset(&index).await.unwrap();
        plain.reset(&index).await.unwrap();
        for step in 0..100 {
            let add: Vec<(VectorId, Vec<f32>)> =
                (0..random.below(30)).map(|_| (random.below(300) as i64, random.vector())).collect();
            let remove: Vec<VectorId> = (0..random.below(20)).map(|_| random.below(300) as i64).collect();
            plain.change(&index, &add, &remove, Position(step)).await.unwrap();
            let mut change = std::pin::pin!(real.change(&index, &add, &remove, Position(step)));
            for _ in 0..=random.below(3) {
                let polled = std::future::poll_fn(|context| Poll::Ready(change.as_mut().poll(context))).await;
                if polled.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // After all of them.
        real.save().await.unwrap();
        assert_eq!(real.ids(&index).await.unwrap(), plain.ids(&index).await.unwrap(), "seed {seed}");
        assert_eq!(real.stamp(&index).await.unwrap(), Some(Position(99)), "seed {seed}");
        for _ in 0..20 {
            let asked = random.vector();
            let near = |found: Vec<Near>| found.into_iter().map(|near| near.id).collect::<Vec<_>>();
            let one = real.search(&index, &asked, 5, None).await.unwrap();
            assert_eq!(near(one), near(plain.search(&index, &asked, 5, None).await.unwrap()), "seed {seed}");
        }
    }
}

/// The same by chance to both; they say the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_chance_does_ends_as_in_memory() {
    for seed in 0..6 {
        let (at, mut random) = (Place::default(), Clusters::new(seed, 12, 9, 0.5));
        let places = [place("acme", "m", 9), place("beta", "m", 9), place("acme", "n", 9)];
        let memory = if seed % 2 == 0 { u64::MAX } else { 6_000 };
        let (mut real, mut plain) = (at.open(memory), MemoryVectors::new());
        for step in 0..250_u64 {
            let index = &places[random.below(3)];
            match random.below(20) {
                0 => {
                    real.reset(index).await.unwrap();
                    plain.reset(index).await.unwrap();
                }
                1 if random.below(4) == 0 => {
                    real.drop_index(index).await.unwrap();
                    plain.drop_index(index).await.unwrap();
                }
                2 => {
                    real.save().await.unwrap();
                    plain.save().await.unwrap();
                    drop(real);
                    real = at.open(memory);
                    plain = plain.reopen();
                }
                _ => {
                    let add: Vec<(VectorId, Vec<f32>)> =
                        (0..random.below(30)).map(|_| (random.below(300) as i64, random.vector())).collect();
                    let remove: Vec<VectorId> = (0..random.below(20)).map(|_| random.below(300) as i64).collect();
                    let (one, other) = (
                        real.change(index, &add, &remove, Position(step)).await,
                        plain.change(index, &add, &remove, Position(step)).await,
                    );
                    assert_eq!(one.map_err(|e| e.kind), other.map_err(|e| e.kind), "seed {seed}, step {step}");
                }
            }
            assert_eq!(real.stamp(index).await.unwrap(), plain.stamp(index).await.unwrap(), "seed {seed}, step {step}");
            let ids = plain.ids(index).await.map_err(|e| e.kind);
            assert_eq!(real.ids(index).await.map_err(|e| e.kind), ids, "seed {seed}, step {step}");
            let among: Option<Vec<VectorId>> =
                (random.below(2) == 0).then(|| (0..300).filter(|_| random.below(3) == 0).collect());
            let (asked, k) = (random.vector(), random.below(40) as u32);
            let one = real.search(index, &asked, k, among.as_deref()).await.map_err(|e| e.kind);
            let other = plain.search(index, &asked, k, among.as_deref()).await.map_err(|e| e.kind);
            match (one, other) {
                (Ok(one), Ok(other)) => {
                    assert_eq!(one.len(), other.len(), "seed {seed}, step {step}");
                    for (one, other) in one.iter().zip(&other) {
                        // Sums are added up in another order; equals may stand in another one.
                        assert!((one.score - other.score).abs() < 1e-5, "seed {seed}, step {step}: {one:?} {other:?}");
                    }
                }
                (one, other) => assert_eq!(one.err(), other.err(), "seed {seed}, step {step}"),
            }
        }
    }
}
