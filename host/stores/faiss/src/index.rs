//! An index in memory: ids, replacements and removals over FAISS; exact while small, by a graph above.
//!
//! Invariants: a vector's place in FAISS belongs to an id as long as `places` says so; a place that no id points to is dead
//! and is never found. An exact index has no dead places. What is asked for `among` ids is compared with each of them, so
//! it is exact whatever the kind: that costs less than to read the ids, and a graph that is filtered finds too little.
//!
//! The crossover and the graph's parameters were measured (`tests/figures.rs`, and `cargo xtask bench recall`): 384 numbers a
//! vector, clustered, k = 10, two cores of an AMD EPYC. Exact search takes 0.1 ms for each 1,000 vectors: as long as a graph
//! at 10,000 in 1,000 clusters, and at 7,000 in 100. A graph of 100,000 takes 1.0 ms in 1,000 clusters, and 2.2 ms in 10. It
//! finds all of the ten nearest in the first case and 0.974 of them in the second, 10,000 vectors a cluster that differ by
//! noise alone, which is the worst there is: half the candidates would take half the time and find 0.91.

use std::collections::HashMap;

use faiss::error::Result;
use ltmc_ports::recall::{Near, VectorId};

use crate::native::Native;

/// Above so many vectors an index gets a graph.
pub const CROSSOVER: usize = 8_000;

/// Neighbours of a vector in a graph, in its upper layers; twice as many in the lowest.
pub const NEIGHBOURS: usize = 32;
/// Candidates looked at when a vector is added to a graph.
pub const EF_CONSTRUCTION: u32 = 80;
/// Candidates looked at by a search, at least.
pub const EF_SEARCH: u32 = 256;
/// A graph is built anew when more than one in so many of its places is dead.
const DEAD: usize = 5;
/// Vectors copied at once to be compared.
const AT_ONCE: usize = 64;
/// FAISS counts a graph's places in 31 bits.
const MOST: usize = i32::MAX as usize;

/// How an index searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every vector is compared.
    Exact,
    /// By a graph of neighbours (HNSW).
    Graph,
}

/// One tenant's vectors of one embedder.
pub(crate) struct Index {
    kind: Kind,
    native: Native,
    /// By place, the dead included.
    ids: Vec<VectorId>,
    places: HashMap<VectorId, u32>,
}

impl Index {
    /// Without vectors.
    pub(crate) fn new(kind: Kind, dimensions: u32) -> Result<Self> {
        let native = match kind {
            Kind::Exact => Native::new("Flat", dimensions)?,
            Kind::Graph => {
                let mut native = Native::new(&format!("HNSW{NEIGHBOURS},Flat"), dimensions)?;
                native.tune("efConstruction", EF_CONSTRUCTION)?;
                native.tune("efSearch", EF_SEARCH)?;
                native
            }
        };
        Ok(Self { kind, native, ids: Vec::new(), places: HashMap::new() })
    }

    /// Of what a file has; none where its parts do not fit together.
    pub(crate) fn of(kind: Kind, mut native: Native, ids: Vec<VectorId>, alive: &[bool]) -> Option<Self> {
        if native.len() != ids.len() as u64
            || alive.len() != ids.len()
            || ids.len() > MOST
            || !native.by_inner_product()
        {
            return None;
        }
        // Only a graph has these parameters.
        let tuned = native.tune("efConstruction", EF_CONSTRUCTION).and_then(|()| native.tune("efSearch", EF_SEARCH));
        if tuned.is_ok() != (kind == Kind::Graph) {
            return None;
        }
        let mut places = HashMap::with_capacity(alive.iter().filter(|alive| **alive).count());
        for (place, id) in ids.iter().enumerate().filter(|(place, _)| alive[*place]) {
            if places.insert(*id, place as u32).is_some() {
                return None;
            }
        }
        let index = Self { kind, native, ids, places };
        (kind == Kind::Graph || index.dead() == 0).then_some(index)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn native(&self) -> &Native {
        &self.native
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.native.dimensions() as usize
    }

    /// By place: the id, and whether it is alive.
    pub(crate) fn by_place(&self) -> impl ExactSizeIterator<Item = (VectorId, bool)> {
        self.ids.iter().enumerate().map(|(place, id)| (*id, self.is_alive(place, *id)))
    }

    /// The ids, in no order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = VectorId> {
        self.places.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether so many more vectors have room.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.ids.len().saturating_add(more) <= MOST
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let graph = match self.kind {
            Kind::Exact => 0,
            // Neighbours in the lowest layer, about one in the upper ones, the vector's layer and where its neighbours begin.
            Kind::Graph => NEIGHBOURS * 2 * 4 + 4 + 4 + 8,
        };
        let place = self.dimensions() * 4 + graph + size_of::<VectorId>();
        (self.ids.len() * place + self.places.capacity() * 17) as u64
    }

    /// The kind that it should be built anew as; none: it is well as it is.
    pub(crate) fn wants(&self) -> Option<Kind> {
        match self.kind {
            Kind::Exact => (self.len() > CROSSOVER).then_some(Kind::Graph),
            Kind::Graph if self.dead() * DEAD > self.ids.len() => {
                // Well below, so that an index at the border does not change its kind all the time.
                Some(if self.len() > CROSSOVER / 2 { Kind::Graph } else { Kind::Exact })
            }
            Kind::Graph => None,
        }
    }

    /// A copy of a vector.
    pub(crate) fn vector(&self, id: VectorId) -> Result<Option<Vec<f32>>> {
        let Some(place) = self.places.get(&id) else { return Ok(None) };
        let mut vector = vec![0.0; self.dimensions()];
        self.native.copy(*place as usize, &mut vector)?;
        Ok(Some(vector))
    }

    /// Adds vectors, each id once; a vector with an id that is there is replaced. How many were not there already.
    pub(crate) fn put(&mut self, ids: &[VectorId], vectors: &[f32]) -> Result<usize> {
        let dimensions = self.dimensions();
        let (mut new, mut rows) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, vector) in ids.iter().zip(vectors.chunks_exact(dimensions)) {
            if self.vector(*id)?.is_none_or(|old| old != vector) {
                new.push(*id);
                rows.extend_from_slice(vector);
            }
        }
        if new.is_empty() {
            return Ok(0);
        }
        self.native.add(&rows)?;
        for id in &new {
            self.places.insert(*id, self.ids.len() as u32);
            self.ids.push(*id);
        }
        self.compact()?;
        Ok(new.len())
    }

    /// Removes vectors. How many were there.
    pub(crate) fn remove(&mut self, ids: &[VectorId]) -> Result<usize> {
        let gone = ids.iter().filter(|id| self.places.remove(id).is_some()).count();
        self.compact()?;
        Ok(gone)
    }

    /// The `k` nearest; of `among` alone, where that is given.
    pub(crate) fn search(&self, vector: &[f32], k: usize, among: Option<&[VectorId]>) -> Result<Vec<Near>> {
        let k = k.min(among.map_or(self.len(), |among| among.len().min(self.len())));
        if k == 0 {
            return Ok(Vec::new());
        }
        if let Some(among) = among {
            return self.compare(vector, k, among);
        }
        // FAISS looks at as many candidates as it is asked for, or at `EF_SEARCH`: enough for twice the answer.
        let wide = if self.kind == Kind::Graph && k > EF_SEARCH as usize / 2 { 2 * k } else { k };
        let mut fetch = if self.dead() == 0 { wide } else { wide.max(k + k / 4 + 8) };
        loop {
            let found = self.native.search(vector, fetch.min(self.ids.len()))?;
            let alive = found.into_iter().filter_map(|(place, score)| {
                let id = *self.ids.get(place)?;
                self.is_alive(place, id).then_some(Near { id, score })
            });
            let near: Vec<Near> = alive.collect();
            if near.len() >= k {
                return Ok(nearest(near, k));
            }
            // Dead places stood in the way, or the graph does not lead to enough of the others.
            fetch *= 4;
            if fetch > self.ids.len() / 4 {
                return self.compare_all(vector, k);
            }
        }
    }

    /// The nearest of those, by comparing each.
    fn compare(&self, vector: &[f32], k: usize, among: &[VectorId]) -> Result<Vec<Near>> {
        let mut other = vec![0.0; self.dimensions()];
        let mut nearest = Nearest::new(k);
        for (at, id) in among.iter().enumerate() {
            // They are sorted, so that one that is there twice stands beside itself.
            let Some(place) = self.places.get(id).filter(|_| at == 0 || among[at - 1] != *id) else { continue };
            self.native.copy(*place as usize, &mut other)?;
            nearest.add(*id, product(vector, &other));
        }
        Ok(nearest.finish())
    }

    /// The nearest of all, by comparing each.
    fn compare_all(&self, vector: &[f32], k: usize) -> Result<Vec<Near>> {
        let dimensions = self.dimensions();
        let mut others = vec![0.0; AT_ONCE * dimensions];
        let mut nearest = Nearest::new(k);
        for (block, ids) in self.ids.chunks(AT_ONCE).enumerate() {
            let first = block * AT_ONCE;
            self.native.copy_some(first..first + ids.len(), &mut others[..ids.len() * dimensions])?;
            for ((place, id), other) in (first..).zip(ids).zip(others.chunks_exact(dimensions)) {
                if self.is_alive(place, *id) {
                    nearest.add(*id, product(vector, other));
                }
            }
        }
        Ok(nearest.finish())
    }

    fn is_alive(&self, place: usize, id: VectorId) -> bool {
        self.places.get(&id).is_some_and(|at| *at as usize == place)
    }

    fn dead(&self) -> usize {
        self.ids.len() - self.places.len()
    }

    /// Takes what is dead out of an exact index. A graph keeps it, and is built anew in time.
    fn compact(&mut self) -> Result<()> {
        if self.kind != Kind::Exact || self.dead() == 0 {
            return Ok(());
        }
        let alive: Vec<bool> = self.by_place().map(|(_, alive)| alive).collect();
        let dead: Vec<i64> = (0_i64..).zip(&alive).filter(|(_, alive)| !**alive).map(|(place, _)| place).collect();
        self.native.remove(&dead)?;
        let mut alive = alive.into_iter();
        self.ids.retain(|_| alive.next().unwrap_or(false));
        for (place, id) in self.ids.iter().enumerate() {
            self.places.insert(*id, place as u32);
        }
        Ok(())
    }
}

/// The `k` nearest of what is added.
struct Nearest {
    k: usize,
    near: Vec<Near>,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self { k, near: Vec::new() }
    }

    fn add(&mut self, id: VectorId, score: f32) {
        self.near.push(Near { id, score });
        if self.near.len() >= self.k * 4 + 1_024 {
            self.near = nearest(std::mem::take(&mut self.near), self.k);
        }
    }

    fn finish(self) -> Vec<Near> {
        nearest(self.near, self.k)
    }
}

/// The `k` nearest, the nearest first; of equals the older one.
fn nearest(mut near: Vec<Near>, k: usize) -> Vec<Near> {
    let order = |a: &Near, b: &Near| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id));
    if near.len() > k {
        near.select_nth_unstable_by(k, order);
        near.truncate(k);
    }
    near.sort_unstable_by(order);
    near
}

/// The inner product, in eight sums, which the compiler makes vector instructions of.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let (whole, rest) = (a.chunks_exact(8), a.chunks_exact(8).remainder());
    let others = b.chunks_exact(8);
    let tail: f32 = rest.iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0_f32; 8];
    for (a, b) in whole.zip(others) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + tail
}
