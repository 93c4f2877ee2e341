//! FAISS's own index, to be searched by many threads at once.
//!
//! Invariant: FAISS's flat and graph indexes may be searched at once as long as nobody changes them; `&self` and
//! `&mut self` say just that. The crate offers it for some types of index only, by the trait [`ConcurrentIndex`], and not for
//! those that its factory makes: [`Searched`] fills that in.

use std::ops::Range;

use faiss::error::{Error, Result};
use faiss::index::autotune::ParameterSpace;
use faiss::index::{
    AssignSearchResult, ConcurrentIndex, Idx, Index, IndexImpl, NativeIndex, RangeSearchResult, SearchResult,
    SearchWithParams,
};
use faiss::search_params::{SearchParameters, SearchParametersIVF};
use faiss::selector::IdSelector;
use faiss::{MetricType, index_factory, read_index, write_index};

/// An index of vectors by inner product; a vector's number is its place in it, from 0 on.
pub(crate) struct Native {
    index: Searched,
    /// Says nothing: every parameter as the index has it.
    plain: SearchParameters,
}

impl Native {
    /// Empty, as FAISS's factory describes it.
    pub(crate) fn new(description: &str, dimensions: u32) -> Result<Self> {
        Self::of(index_factory(dimensions, description, MetricType::InnerProduct)?)
    }

    /// From a file that is known to be whole.
    pub(crate) fn read(path: &str) -> Result<Self> {
        Self::of(read_index(path)?)
    }

    fn of(index: IndexImpl) -> Result<Self> {
        Ok(Self { index: Searched(index), plain: SearchParametersIVF::new()?.upcast() })
    }

    pub(crate) fn write(&self, path: &str) -> Result<()> {
        write_index(&self.index.0, path)
    }

    /// Sets a parameter of the index, such as `efSearch`.
    pub(crate) fn tune(&mut self, name: &str, value: u32) -> Result<()> {
        ParameterSpace::new()?.set_index_parameter(&self.index.0, name, value)
    }

    pub(crate) fn dimensions(&self) -> u32 {
        self.index.d()
    }

    pub(crate) fn len(&self) -> u64 {
        self.index.ntotal()
    }

    pub(crate) fn by_inner_product(&self) -> bool {
        self.index.metric_type() == MetricType::InnerProduct
    }

    /// Adds vectors at the end.
    pub(crate) fn add(&mut self, vectors: &[f32]) -> Result<()> {
        self.index.add(vectors)
    }

    /// Removes vectors; those after them move up.
    pub(crate) fn remove(&mut self, places: &[i64]) -> Result<usize> {
        let places: Vec<Idx> = places.iter().map(|place| Idx::from(*place)).collect();
        self.index.remove_ids(&IdSelector::batch(&places)?)
    }

    /// The places and inner products of the `k` nearest; fewer where FAISS finds no more.
    pub(crate) fn search(&self, vector: &[f32], k: usize) -> Result<Vec<(usize, f32)>> {
        let found = self.index.search_with_params(vector, k, &self.plain)?;
        let places = found.labels.into_iter().map(|place| place.get().and_then(|place| usize::try_from(place).ok()));
        Ok(places.zip(found.distances).filter_map(|(place, score)| Some((place?, score))).collect())
    }

    /// Copies a vector.
    pub(crate) fn copy(&self, place: usize, vector: &mut [f32]) -> Result<()> {
        self.index.reconstruct(Idx::new(place as u64), vector)
    }

    /// Copies vectors that stand one after the other.
    pub(crate) fn copy_some(&self, places: Range<usize>, vectors: &mut [f32]) -> Result<()> {
        self.index.reconstruct_n(Idx::new(places.start as u64), places.len(), vectors)
    }
}

/// One of the factory's indexes.
struct Searched(IndexImpl);

impl NativeIndex for Searched {
    type Inner = <IndexImpl as NativeIndex>::Inner;

    fn inner_ptr(&self) -> *mut Self::Inner {
        self.0.inner_ptr()
    }
}

impl ConcurrentIndex for Searched {
    fn assign(&self, vectors: &[f32], k: usize) -> Result<AssignSearchResult> {
        ConcurrentIndex::search(self, vectors, k).map(|found| AssignSearchResult { labels: found.labels })
    }

    fn search(&self, vectors: &[f32], k: usize) -> Result<SearchResult> {
        SearchWithParams::search_with_params(self, vectors, k, &SearchParametersIVF::new()?.upcast())
    }

    /// Nobody here asks for it, and the crate's type cannot be made by others.
    fn range_search(&self, _: &[f32], _: f32) -> Result<RangeSearchResult> {
        Err(Error::BadCast)
    }
}

impl Index for Searched {
    fn is_trained(&self) -> bool {
        self.0.is_trained()
    }

    fn ntotal(&self) -> u64 {
        self.0.ntotal()
    }

    fn d(&self) -> u32 {
        self.0.d()
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }

    fn add(&mut self, vectors: &[f32]) -> Result<()> {
        self.0.add(vectors)
    }

    fn add_with_ids(&mut self, vectors: &[f32], ids: &[Idx]) -> Result<()> {
        self.0.add_with_ids(vectors, ids)
    }

    fn train(&mut self, vectors: &[f32]) -> Result<()> {
        self.0.train(vectors)
    }

    fn assign(&mut self, vectors: &[f32], k: usize) -> Result<AssignSearchResult> {
        self.0.assign(vectors, k)
    }

    fn search(&mut self, vectors: &[f32], k: usize) -> Result<SearchResult> {
        self.0.search(vectors, k)
    }

    fn range_search(&mut self, vectors: &[f32], radius: f32) -> Result<RangeSearchResult> {
        self.0.range_search(vectors, radius)
    }

    fn reconstruct(&self, place: Idx, vector: &mut [f32]) -> Result<()> {
        self.0.reconstruct(place, vector)
    }

    fn reconstruct_n(&self, first: Idx, count: usize, vectors: &mut [f32]) -> Result<()> {
        self.0.reconstruct_n(first, count, vectors)
    }

    fn reset(&mut self) -> Result<()> {
        self.0.reset()
    }

    fn remove_ids(&mut self, which: &IdSelector) -> Result<usize> {
        self.0.remove_ids(which)
    }

    fn verbose(&self) -> bool {
        self.0.verbose()
    }

    fn set_verbose(&mut self, value: bool) {
        self.0.set_verbose(value);
    }
}
