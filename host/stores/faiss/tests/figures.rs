//! Figures by which the crossover and the graph's parameters were chosen; they depend on the machine.
//!
//! `cargo test -p ltmc-faiss --test figures -- --ignored --nocapture`

mod common;

use std::time::{Duration, Instant};

use common::Clusters;
use faiss::index::autotune::ParameterSpace;
use faiss::{Index as _, MetricType, index_factory};

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
    let kind = format!("HNSW{},Flat", ltmc_faiss::NEIGHBOURS);
    let graph = index_factory(DIMENSIONS, kind, MetricType::InnerProduct).unwrap();
    tune(&graph, "efConstruction", ltmc_faiss::EF_CONSTRUCTION);
    tune(&graph, "efSearch", ltmc_faiss::EF_SEARCH);
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
