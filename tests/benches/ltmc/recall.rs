//! `recall`: one search among 100,000 vectors of 384 numbers, through the port; against FAISS called directly, with a graph
//! of the same kind. And how many of the ten nearest it finds, of those that comparing all of them gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use faiss::index::IndexImpl;
use faiss::index::autotune::ParameterSpace;
use faiss::{Index as _, MetricType, index_factory};
use ltmc_faiss::{FaissVectors, Options};
use ltmc_model::Position;
use ltmc_model::recall::EmbedderId;
use ltmc_ports::Vectors as _;
use ltmc_ports::recall::{IndexId, VectorId};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::Plan;
use crate::report::{Goal, Line, Series, round, say};
use crate::rig;

const DIMENSIONS: u32 = 384;
const NEAREST: u32 = 10;
/// Questions in a round, each of both in turns.
const QUESTIONS: usize = 500;
/// How far vectors are spread around their centres, of which there are so many: texts of many subjects, and of few.
const SUBJECTS: [(&str, usize, f32); 2] = [("1,000 clusters", 1_000, 0.5), ("10 clusters", 10, 0.7)];

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::threads()?;
    let mut lines = Vec::new();
    for (name, centres, spread) in SUBJECTS {
        let scratch = rig::scratch("recall")?;
        let data = Arc::new(Data::new(plan.vectors, centres, spread));
        let case = format!("{} vectors, {name}", plan.vectors);
        // On a thread of the runtime's, as in the host.
        let measured = measure(scratch.path().to_owned(), data, plan.rounds, case);
        lines.extend(runtime.block_on(runtime.spawn(measured))??);
    }
    Ok(lines)
}

async fn measure(dir: std::path::PathBuf, data: Arc<Data>, rounds: usize, case: String) -> Result<Vec<Line>> {
    say(format!("  {case}: the graphs are built"));
    let store = FaissVectors::open(Options { dir, memory: u64::MAX })?;
    let index = IndexId {
        tenant: "acme".parse()?,
        embedder: EmbedderId { name: "benchmarking".into(), dimensions: DIMENSIONS },
    };
    store.reset(&index).await?;
    let rows: Vec<(VectorId, Vec<f32>)> = (0..).zip(data.rows().map(<[f32]>::to_vec)).collect();
    for (number, some) in rows.chunks(2_000).enumerate() {
        store.change(&index, some, &[], Position(number as u64)).await?;
    }
    drop(rows);
    store.settle().await;
    let (data, (mut direct, wanted)) = tokio::task::spawn_blocking(move || {
        let built = data.directly()?;
        anyhow::Ok((data, built))
    })
    .await??;
    let [mut through, mut bare, mut found] = <[Series; 3]>::default();
    // Round 0 warms both up.
    for number in 0..=rounds {
        let (mut ours, mut theirs, mut right) = (Vec::new(), Vec::new(), 0);
        for (asked, wanted) in data.asked().zip(&wanted) {
            let begun = Instant::now();
            let near = store.search(&index, asked, NEAREST, None).await?;
            ours.push(begun.elapsed());
            right += near.iter().filter(|near| wanted.contains(&near.id)).count();
            let begun = Instant::now();
            direct.search(asked, NEAREST as usize)?;
            theirs.push(begun.elapsed());
        }
        if let Some(number) = number.checked_sub(1) {
            let (ours, theirs) = (median(ours), median(theirs));
            let part = right as f64 / (QUESTIONS * NEAREST as usize) as f64;
            through.add(ours);
            bare.add(theirs);
            found.add(part);
            round(number, rounds, &[("port", ours, "us"), ("FAISS", theirs, "us"), ("recall", part, "")]);
        }
    }
    Ok(vec![
        Line {
            bench: "recall",
            case: case.clone(),
            unit: "us",
            measured: through,
            reference: Some(("FAISS", bare)),
            goal: Goal::AtMostTimes(1.1),
        },
        Line {
            bench: "recall",
            case: format!("{case}, found of the {NEAREST} nearest"),
            unit: "",
            measured: found,
            reference: None,
            goal: Goal::AtLeast(0.95),
        },
    ])
}

fn median(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took.get(took.len() / 2).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
}

/// Vectors of length 1 around centres, and others like them to ask for.
struct Data {
    rows: Vec<f32>,
    asked: Vec<f32>,
}

impl Data {
    fn new(count: usize, centres: usize, spread: f32) -> Self {
        let mut random = StdRng::seed_from_u64(3);
        // With mean 0 and variance 1.
        let mut noise = move || (random.random::<f32>() - 0.5) * 12.0_f32.sqrt();
        let dimensions = DIMENSIONS as usize;
        let centres: Vec<Vec<f32>> = (0..centres).map(|_| (0..dimensions).map(|_| noise()).collect()).collect();
        let mut random = StdRng::seed_from_u64(4);
        let mut some = |count: usize| {
            let mut rows = Vec::with_capacity(count * dimensions);
            for _ in 0..count {
                let centre = &centres[random.random_range(0..centres.len())];
                let row: Vec<f32> = centre.iter().map(|number| number + spread * noise()).collect();
                let length = row.iter().map(|number| number * number).sum::<f32>().sqrt();
                rows.extend(row.into_iter().map(|number| number / length));
            }
            rows
        };
        Self { rows: some(count), asked: some(QUESTIONS) }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.rows.chunks(DIMENSIONS as usize)
    }

    fn asked(&self) -> impl Iterator<Item = &[f32]> {
        self.asked.chunks(DIMENSIONS as usize)
    }

    /// FAISS's own graph of the same kind, and for each question the places of the nearest.
    fn directly(&self) -> Result<(IndexImpl, Vec<Vec<VectorId>>)> {
        let mut flat = index_factory(DIMENSIONS, "Flat", MetricType::InnerProduct)?;
        flat.add(&self.rows)?;
        let nearest = flat.search(&self.asked, NEAREST as usize)?;
        let places: Option<Vec<VectorId>> = nearest.labels.iter().map(|place| Some(place.get()? as VectorId)).collect();
        let wanted = places.context("there are fewer vectors than wanted")?;
        let mut graph =
            index_factory(DIMENSIONS, format!("HNSW{},Flat", ltmc_faiss::NEIGHBOURS), MetricType::InnerProduct)?;
        let space = ParameterSpace::new()?;
        space.set_index_parameter(&graph, "efConstruction", ltmc_faiss::EF_CONSTRUCTION)?;
        space.set_index_parameter(&graph, "efSearch", ltmc_faiss::EF_SEARCH)?;
        graph.add(&self.rows)?;
        Ok((graph, wanted.chunks(NEAREST as usize).map(<[VectorId]>::to_vec).collect()))
    }
}
