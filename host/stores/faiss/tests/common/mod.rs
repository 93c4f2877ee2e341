//! Directories, and vectors that stand in clusters.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::path::PathBuf;

use ltmc_faiss::{FaissVectors, Options};
use ltmc_ports::Vectors as _;
use ltmc_ports::recall::{IndexId, VectorId};
use ltmc_ports::testing::suite::vectors::unit;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;

/// A directory for indexes.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
}

impl Place {
    /// What is in it.
    pub(crate) fn open(&self, memory: u64) -> FaissVectors {
        FaissVectors::open(Options { dir: self.dir.path().join("vectors"), memory }).unwrap()
    }

    /// The files in it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for tenant in std::fs::read_dir(self.dir.path().join("vectors")).unwrap() {
            files.extend(std::fs::read_dir(tenant.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
        }
        files
    }
}

/// Vectors of length 1 around centres, as texts of some subjects give.
pub(crate) struct Clusters {
    random: StdRng,
    centres: Vec<Vec<f32>>,
    spread: f32,
}

impl Clusters {
    pub(crate) fn new(seed: u64, centres: usize, dimensions: u32, spread: f32) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let centres = (0..centres).map(|_| (0..dimensions).map(|_| noise(&mut random)).collect()).collect();
        Self { random, centres, spread }
    }

    /// One of them.
    pub(crate) fn vector(&mut self) -> Vec<f32> {
        let centre = self.random.random_range(0..self.centres.len());
        let centre = self.centres[centre].clone();
        unit(centre.into_iter().map(|number| number + self.spread * noise(&mut self.random)).collect())
    }

    /// So many, with these ids.
    pub(crate) fn some(&mut self, ids: std::ops::Range<VectorId>) -> Vec<(VectorId, Vec<f32>)> {
        ids.map(|id| (id, self.vector())).collect()
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }
}

/// The ids of the `k` nearest, by comparing all.
pub(crate) fn exact(vectors: &[(VectorId, Vec<f32>)], asked: &[f32], k: usize) -> Vec<VectorId> {
    let score = |other: &[f32]| asked.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    let mut all: Vec<(f32, VectorId)> = vectors.iter().map(|(id, vector)| (score(vector), *id)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().take(k).map(|(_, id)| id).collect()
}

/// What part of the true `k` nearest a search finds, over all questions.
pub(crate) async fn recall(
    store: &FaissVectors,
    index: &IndexId,
    vectors: &[(VectorId, Vec<f32>)],
    asked: &[Vec<f32>],
    k: usize,
) -> f64 {
    let mut found = 0;
    for asked in asked {
        let wanted = exact(vectors, asked, k);
        let near = store.search(index, asked, k as u32, None).await.unwrap();
        found += near.iter().filter(|near| wanted.contains(&near.id)).count();
    }
    found as f64 / (asked.len() * k) as f64
}

/// By chance, with mean 0 and variance 1.
fn noise(random: &mut StdRng) -> f32 {
    (random.random::<f32>() - 0.5) * 12.0_f32.sqrt()
}
