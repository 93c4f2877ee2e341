//! Figures by which the crossover and the graph's parameters were chosen; they depend on the machine.
//!
//! `cargo test -p ltmc-faiss --test figures -- --ignored --nocapture`

mod common;

use std::time::{Duration, Instant};

use faiss::index::autotune::ParameterSpace;
use faiss::{Index as _, MetricType, index_factory};
use ltmc_model::Position;
use ltmc_ports::Vectors as _;
use ltmc_ports::testing::suite::vectors::place;

use common::{Clusters, Place};

const DIMENSIONS: u32 = 384;

struct Data {
    rows: Vec<f32>,
    asked: Vec<f32>,
}

impl Data {
    fn new(count: usize, centres: usize, spread: f32) -> Self {
        let mut clusters = Clusters::new(3, centres, DIMENSIONS, spread);
        let mut rows = |count| (0..count).flat_map(|_| clusters.vector()).collect();
        Self { rows: rows(count), asked: rows(500) }
    }

    fn first(&self, count: usize) -> &[f32] {
        &self.rows[..count * DIMENSIONS as usize]
    }
}

/// Asks one after the other: what was found, and how long one took.
fn ask(index: &mut faiss::index::IndexImpl, asked: &[f32], k: usize) -> (Vec<Vec<i64>>, Duration) {
    let begun = Instant::now();
    let found: Vec<Vec<i64>> = asked
        .chunks(DIMENSIONS as usize)
        .map(|asked| index.search(asked, k).unwrap().labels.into_iter().map(|id| id.to_native()).collect())
        .collect();
    let took = begun.elapsed() / found.len() as u32;
    (found, took)
}

fn part_found(found: &[Vec<i64>], wanted: &[Vec<i64>]) -> f64 {
    let both = |(found, wanted): (&Vec<i64>, &Vec<i64>)| found.iter().filter(|id| wanted.contains(id)).count();
    let right: usize = found.iter().zip(wanted).map(both).sum();
    right as f64 / wanted.iter().map(Vec::len).sum::<usize>() as f64
}

/// The graph as this crate makes it.
fn graph() -> faiss::index::IndexImpl {
    let graph = index_factory(DIMENSIONS, "HNSW32,Flat", MetricType::InnerProduct).unwrap();
    tune(&graph, "efConstruction", 80);
    tune(&graph, "efSearch", 128);
    graph
}

fn tune(graph: &faiss::index::IndexImpl, name: &str, value: u32) {
    ParameterSpace::new().unwrap().set_index_parameter(graph, name, value).unwrap();
}

#[test]
#[ignore = "takes minutes, and says nothing but figures"]
fn crossover() {
    for (centres, spread) in [(1_000, 0.5), (100, 1.0)] {
        let data = Data::new(100_000, centres, spread);
        let mut flat = index_factory(DIMENSIONS, "Flat", MetricType::InnerProduct).unwrap();
        let mut graph = graph();
        let mut there = 0;
        for count in [1_000, 2_000, 3_000, 4_000, 5_000, 7_000, 10_000, 20_000, 50_000, 100_000] {
            let more = &data.first(count)[there * DIMENSIONS as usize..];
            flat.add(more).unwrap();
            let begun = Instant::now();
            // As in the background: on one thread.
            for some in more.chunks(64 * DIMENSIONS as usize) {
                graph.add(some).unwrap();
            }
            let each = begun.elapsed() / (count - there) as u32;
            there = count;
            let ((wanted, exact), (found, by_graph)) =
                (ask(&mut flat, &data.asked, 10), ask(&mut graph, &data.asked, 10));
            let right = part_found(&found, &wanted);
            eprintln!(
                "{centres} clusters, {count:>6}: exact {exact:>9.1?}, graph {by_graph:>9.1?}, recall at 10 {right:.3}; a vector is added in {each:.1?}"
            );
        }
    }
}

#[test]
#[ignore = "takes minutes, and says nothing but figures"]
fn parameters() {
    for (centres, spread) in [(1_000, 0.5), (1_000, 1.0), (100, 0.5), (100, 1.0), (10, 0.7)] {
        let data = Data::new(100_000, centres, spread);
        let mut flat = index_factory(DIMENSIONS, "Flat", MetricType::InnerProduct).unwrap();
        flat.add(&data.rows).unwrap();
        let (ten, took) = ask(&mut flat, &data.asked, 10);
        eprintln!("{centres} clusters, spread {spread}: exact {took:.1?}");
        for (neighbours, construction) in [(16, 80), (32, 80)] {
            let description = format!("HNSW{neighbours},Flat");
            let mut graph = index_factory(DIMENSIONS, description, MetricType::InnerProduct).unwrap();
            tune(&graph, "efConstruction", construction);
            let begun = Instant::now();
            graph.add(&data.rows).unwrap();
            let built = begun.elapsed();
            for search in [64, 128, 256, 512] {
                tune(&graph, "efSearch", search);
                let (found, took) = ask(&mut graph, &data.asked, 10);
                let ten = part_found(&found, &ten);
                eprintln!(
                    "  M {neighbours}, construction {construction} ({built:.1?}), search {search}: {took:.1?}, recall at 10 {ten:.3}"
                );
            }
        }
    }
}

/// 100,000 vectors through the port, against FAISS itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and says nothing but figures"]
async fn port() {
    let data = Data::new(100_000, 1_000, 0.5);
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let vectors: Vec<(i64, Vec<f32>)> = (0..).zip(data.rows.chunks(DIMENSIONS as usize).map(<[f32]>::to_vec)).collect();
    let store = at.open(u64::MAX);
    let resident = resident();
    store.reset(&index).await.unwrap();
    let begun = Instant::now();
    for (number, some) in vectors.chunks(2_000).enumerate() {
        store.change(&index, some, &[], Position(number as u64)).await.unwrap();
    }
    eprintln!("added in {:.1?}", begun.elapsed());
    store.settle().await;
    let each = |bytes: u64| bytes as f64 / vectors.len() as f64;
    eprintln!(
        "with a graph after {:.1?}; bytes a vector: {:.0} counted, {:.0} resident",
        begun.elapsed(),
        each(store.memory()),
        each(self::resident() - resident)
    );
    let begun = Instant::now();
    store.save().await.unwrap();
    let file = std::fs::metadata(&at.files()[0]).unwrap().len();
    eprintln!("saved in {:.1?}; bytes a vector: {:.0}", begun.elapsed(), each(file));
    drop(store);
    let store = at.open(u64::MAX);
    let begun = Instant::now();
    store.stamp(&index).await.unwrap();
    eprintln!("loaded in {:.1?}", begun.elapsed());

    let mut direct = graph();
    for some in data.rows.chunks(64 * DIMENSIONS as usize) {
        direct.add(some).unwrap();
    }
    let mut flat = index_factory(DIMENSIONS, "Flat", MetricType::InnerProduct).unwrap();
    flat.add(&data.rows).unwrap();
    for k in [10, 40, 100] {
        let (wanted, _) = ask(&mut flat, &data.asked, k);
        for _ in 0..3 {
            let (found, bare) = ask(&mut direct, &data.asked, k);
            let begun = Instant::now();
            let mut through = Vec::new();
            for asked in data.asked.chunks(DIMENSIONS as usize) {
                let near = store.search(&index, asked, k as u32, None).await.unwrap();
                through.push(near.into_iter().map(|near| near.id).collect());
            }
            let took = begun.elapsed() / through.len() as u32;
            eprintln!(
                "k {k}: FAISS {bare:.1?}, recall {:.3}; through the port {took:.1?} ({:.2}), recall {:.3}",
                part_found(&found, &wanted),
                took.as_secs_f64() / bare.as_secs_f64(),
                part_found(&through, &wanted)
            );
        }
    }
    for count in [100, 1_000, 10_000, 100_000] {
        let among: Vec<i64> = (0..100_000).step_by(100_000 / count).collect();
        let begun = Instant::now();
        for asked in data.asked.chunks(DIMENSIONS as usize).take(10) {
            store.search(&index, asked, 10, Some(&among)).await.unwrap();
        }
        eprintln!("among {count}: {:.1?}", begun.elapsed() / 10);
    }
}

/// What the port adds to one search, in turns with FAISS itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "says nothing but figures"]
async fn overhead() {
    tokio::spawn(async {
        let data = Data::new(8_000, 1_000, 0.5);
        let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
        let vectors: Vec<(i64, Vec<f32>)> =
            (0..).zip(data.rows.chunks(DIMENSIONS as usize).map(<[f32]>::to_vec)).collect();
        let store = at.open(u64::MAX);
        store.reset(&index).await.unwrap();
        store.change(&index, &vectors, &[], Position(1)).await.unwrap();
        store.settle().await;
        let mut direct = graph();
        for some in data.rows.chunks(64 * DIMENSIONS as usize) {
            direct.add(some).unwrap();
        }
        let mut took: [Vec<Duration>; 4] = Default::default();
        for asked in data.asked.chunks(DIMENSIONS as usize).cycle().take(2_000) {
            let begun = Instant::now();
            direct.search(asked, 10).unwrap();
            took[0].push(begun.elapsed());
            let begun = Instant::now();
            store.search(&index, asked, 10, None).await.unwrap();
            took[1].push(begun.elapsed());
            let begun = Instant::now();
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            took[2].push(begun.elapsed());
            let begun = Instant::now();
            tokio::task::block_in_place(|| ());
            took[3].push(begun.elapsed());
        }
        for (what, took) in ["FAISS", "the port", "spawn_blocking", "block_in_place"].iter().zip(&mut took) {
            took.sort();
            eprintln!("{what}: median {:.1?}, of ten the ninth {:.1?}", took[1_000], took[1_800]);
        }
    })
    .await
    .unwrap();
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}
