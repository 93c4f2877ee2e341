//! Makers of vectors, behind the port [`Embedder`]: one that is built in, a sentence model in a directory, an endpoint.
//!
//! Invariants: an embedder's name changes with its model, so that vectors of two are never compared. Every vector has length
//! 1 and finite numbers, whatever the text and whatever the model. Work that takes a processor runs off the async threads,
//! and a model's a bounded number of times at once. No key is in an error, a log or a `Debug`.
//!
//! - [`hashed()`]: words and parts of words; needs no download
//! - `minilm()`: a directory with a MiniLM-type model, run here; with the feature of that name
//! - `openai()`: an endpoint that speaks OpenAI's `/embeddings`; with the feature of that name
//! - [`split()`]: long texts into passages
//!
//! To add one: a file that implements the port and passes `ltmc_ports::embedder_contract!`, a variant of [`Choice`], and a
//! function here.

#[cfg(feature = "minilm")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use ltmc_ports::{Embedder, StoreError};

mod hashed;
#[cfg(feature = "minilm")]
mod minilm;
#[cfg(feature = "openai")]
mod openai;
mod options;
mod split;

pub use options::{Options as OpenAiOptions, Secret};
pub use split::{MAX_PASSAGES, split};

/// Which embedder: what a configuration says.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The built-in one.
    Hashed,
    /// A sentence model in a directory.
    MiniLm {
        /// With config.json, tokenizer.json and model.safetensors.
        directory: PathBuf,
    },
    /// An endpoint.
    OpenAi(OpenAiOptions),
}

impl Choice {
    /// The embedder, ready.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open(self) -> Result<Arc<dyn Embedder>, Error> {
        match self {
            Self::Hashed => Ok(hashed()),
            #[cfg(feature = "minilm")]
            Self::MiniLm { directory } => minilm(&directory).await,
            #[cfg(not(feature = "minilm"))]
            Self::MiniLm { .. } => Err(Error::NotBuilt { what: "sentence models", feature: "minilm" }),
            #[cfg(feature = "openai")]
            Self::OpenAi(options) => openai(options).await,
            #[cfg(not(feature = "openai"))]
            Self::OpenAi(_) => Err(Error::NotBuilt { what: "embedding endpoints", feature: "openai" }),
        }
    }
}

/// The built-in embedder: finds texts that share words or parts of words, also inflected or misspelt ones. It knows no
/// synonyms, no meaning and no other language.
pub fn hashed() -> Arc<dyn Embedder> {
    Arc::new(hashed::Hashed::new())
}

/// A sentence model of the BERT kind in a directory, such as all-MiniLM-L6-v2.
///
/// # Errors
/// Where a file is missing or damaged, or holds a model of another kind.
#[cfg(feature = "minilm")]
pub async fn minilm(directory: &Path) -> Result<Arc<dyn Embedder>, Error> {
    Ok(Arc::new(minilm::MiniLm::open(directory).await?))
}

/// A model behind an endpoint that speaks OpenAI's protocol. Without [`OpenAiOptions::dimensions`] it is asked once, at once.
///
/// # Errors
/// Where an option is no good, or the endpoint does not answer the first question.
#[cfg(feature = "openai")]
pub async fn openai(options: OpenAiOptions) -> Result<Arc<dyn Embedder>, Error> {
    Ok(Arc::new(openai::OpenAi::connect(options).await?))
}

/// Why there is no embedder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was left out of this build.
    #[error(
        "this host was built without {what}: build it with the feature `{feature}`, which is on unless told otherwise"
    )]
    NotBuilt {
        /// What was left out.
        what: &'static str,
        /// The feature that has it.
        feature: &'static str,
    },
    /// A model's directory lacks a file.
    #[error("`{}` has no {file}: a model's directory holds config.json, tokenizer.json and model.safetensors", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// The file's name.
        file: &'static str,
    },
    /// A file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("`{}` is damaged, or does not belong to the model", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A model that is sound, but of a kind that does not run here.
    #[error("`{}`: {what}", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// What it says, and what would do.
        what: String,
    },
    /// An option of an endpoint is no good.
    #[error("{name}: {what}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// An endpoint did not answer the first question.
    #[error("the embedding endpoint {url} cannot be used")]
    Endpoint {
        /// Its address.
        url: String,
        /// How the first request failed.
        source: StoreError,
    },
}

/// A vector in the same direction, of length 1. One that has no direction becomes [`nothing`]; none with numbers that are not
/// finite.
#[cfg(any(feature = "minilm", feature = "openai", test))]
fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let squares: f64 = vector.iter().map(|number| f64::from(*number) * f64::from(*number)).sum();
    if !squares.is_finite() {
        return None;
    }
    let length = squares.sqrt();
    if length < 1e-12 {
        return Some(nothing(vector.len()));
    }
    for number in &mut vector {
        *number = (f64::from(*number) / length) as f32;
    }
    Some(vector)
}

/// The vector of a text in which nothing was found.
fn nothing(dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dimensions];
    if let Some(first) = vector.first_mut() {
        *first = 1.0;
    }
    vector
}

/// The beginning of a text, of at most `most` bytes, cut between characters.
#[cfg(any(feature = "minilm", feature = "openai", test))]
fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use ltmc_model::TenantId;

    use super::*;

    /// Whose texts are embedded makes no difference.
    pub(crate) fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    #[test]
    fn a_vector_gets_length_one_or_is_refused() {
        assert_eq!(unit(vec![3.0, -4.0]), Some(vec![0.6, -0.8]));
        assert_eq!(unit(vec![0.0, 0.0]), Some(vec![1.0, 0.0]));
        assert_eq!(unit(vec![f32::MAX, f32::MAX]).map(|v| v[0]), Some(std::f32::consts::FRAC_1_SQRT_2));
        assert_eq!(unit(vec![f32::NAN, 1.0]), None);
        assert_eq!(unit(vec![f32::INFINITY, 1.0]), None);
        assert_eq!(unit(vec![]), Some(vec![]));
    }

    #[test]
    fn a_beginning_ends_between_characters() {
        assert_eq!([0, 1, 2, 3, 9].map(|most| beginning("aé!", most)), ["", "a", "a", "aé", "aé!"]);
    }

    #[tokio::test]
    async fn the_built_in_one_is_a_choice() {
        assert_eq!(Choice::Hashed.open().await.unwrap().id().name, "hashed-words-1");
    }
}
