//! What every embedder does.
//!
//! To hold one against it: an [`EmbedderFixture`], and `ltmc_ports::embedder_contract!(MyFixture);` in a module of its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Embedder;
use crate::recall::Purpose::{self, Passage, Query};
use crate::testing::sample::tenant;

/// How far apart numbers of vectors of the same text may be: what a batch is computed with may move the last bits.
const CLOSE: f32 = 1e-4;

/// How the suite gets an embedder, and what it can expect of it.
#[async_trait]
pub trait EmbedderFixture: Send + Sync {
    /// One that is ready. Called again, another of the same identity.
    async fn embedder(&self) -> Arc<dyn Embedder>;

    /// Texts of which the first is nearer to the second than to the third.
    fn near(&self) -> Vec<[&'static str; 3]>;
}

/// Makes a test of every case that an embedder has to pass. The crate needs tokio's macros.
#[macro_export]
macro_rules! embedder_contract {
    ($fixture:expr) => {
        $crate::contract! { @port embedder, $fixture;
            it_says_who_it_is
            vectors_have_the_announced_size_and_length_one
            the_same_text_has_the_same_vector
            another_of_the_same_identity_makes_the_same_vectors
            a_batch_keeps_its_order
            a_text_alone_is_as_in_a_batch
            an_empty_batch_is_empty
            odd_texts_have_vectors
            many_at_once_are_as_one_alone
            near_texts_are_nearer
        }
    };
}

/// It says who it is.
pub async fn it_says_who_it_is<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    let id = embedder.id();
    assert!((1..=128).contains(&id.name.len()) && !id.name.chars().any(char::is_control), "`{}`", id.name);
    assert!((1..=1 << 16).contains(&id.dimensions), "{} dimensions", id.dimensions);
    assert!(embedder.passage_bytes() >= 64, "passages of {} bytes", embedder.passage_bytes());
}

/// Vectors have the announced size, and length 1.
pub async fn vectors_have_the_announced_size_and_length_one<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    for purpose in [Passage, Query] {
        vectors(&*embedder, &texts(), purpose).await;
    }
}

/// The same text has the same vector.
pub async fn the_same_text_has_the_same_vector<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    let first = vectors(&*embedder, &texts(), Passage).await;
    same(&first, &vectors(&*embedder, &texts(), Passage).await);
    let twice = vectors(&*embedder, &["twice".to_owned(), "once".to_owned(), "twice".to_owned()], Query).await;
    same(&twice[..1], &twice[2..]);
}

/// Another of the same identity makes the same vectors.
pub async fn another_of_the_same_identity_makes_the_same_vectors<F: EmbedderFixture>(fixture: &F) {
    let (one, other) = (fixture.embedder().await, fixture.embedder().await);
    assert_eq!(one.id(), other.id());
    same(&vectors(&*one, &texts(), Passage).await, &vectors(&*other, &texts(), Passage).await);
}

/// A batch keeps its order.
pub async fn a_batch_keeps_its_order<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    let (mut texts, mut made) = (texts(), vectors(&*embedder, &texts(), Passage).await);
    texts.reverse();
    made.reverse();
    same(&made, &vectors(&*embedder, &texts, Passage).await);
}

/// A text alone is as in a batch, next to shorter and longer ones.
pub async fn a_text_alone_is_as_in_a_batch<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    let texts = texts();
    for purpose in [Passage, Query] {
        let together = vectors(&*embedder, &texts, purpose).await;
        for (text, vector) in texts.iter().zip(&together).step_by(7) {
            let alone = vectors(&*embedder, std::slice::from_ref(text), purpose).await;
            same(&alone, std::slice::from_ref(vector));
        }
    }
}

/// An empty batch is empty.
pub async fn an_empty_batch_is_empty<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    for purpose in [Passage, Query] {
        assert_eq!(embedder.embed(&tenant("acme"), &[], purpose).await.unwrap(), Vec::<Vec<f32>>::new());
    }
}

/// Odd texts have vectors: nothing, blanks, controls, other scripts, marks without letters, and far too much.
pub async fn odd_texts_have_vectors<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    let mut odd: Vec<String> = [
        "",
        " ",
        "\n\t\r\n\u{a0}\u{3000}",
        "\0",
        "\u{1}\u{7f}\u{9f}",
        "\u{feff}",
        ".",
        "?!…—",
        "a",
        "0",
        "🦀",
        "👩‍👩‍👧‍👦 👍🏽 🇪🇺",
        "e\u{301}\u{301}\u{301}",
        "\u{301}",
        "\u{200d}\u{200b}\u{202e}",
        "\u{fffd}\u{10ffff}",
        "ẞ İ ǅ ﬁ",
        "検索は意味で見つける",
        "ابحث عن المعنى",
        "поиск по смыслу",
        "\"}], \"model\": \"another",
        "[CLS] [SEP] [PAD] [MASK] <s> </s> <unk>",
    ]
    .map(str::to_owned)
    .into();
    odd.push("a".repeat(100_000));
    odd.push("bounded retries, ".repeat(4_000));
    odd.push("é🦀".repeat(8_000));
    odd.push(" ".repeat(64 << 10));
    odd.push("\n".repeat(5_000) + "late");
    let together = vectors(&*embedder, &odd, Passage).await;
    for (text, vector) in odd.iter().zip(&together) {
        same(&vectors(&*embedder, std::slice::from_ref(text), Passage).await, std::slice::from_ref(vector));
    }
}

/// Many at once are as one alone.
pub async fn many_at_once_are_as_one_alone<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    let alone = vectors(&*embedder, &texts()[..8], Passage).await;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let embedder = embedder.clone();
            tokio::spawn(async move { vectors(&*embedder, &texts()[..8], Passage).await })
        })
        .collect();
    for task in tasks {
        same(&alone, &task.await.unwrap());
    }
}

/// Near texts are nearer than unrelated ones.
pub async fn near_texts_are_nearer<F: EmbedderFixture>(fixture: &F) {
    let embedder = fixture.embedder().await;
    let cases = fixture.near();
    assert!(!cases.is_empty(), "a fixture without near texts shows nothing");
    for [of, near, far] in cases {
        let question = vectors(&*embedder, &[of.to_owned()], Query).await;
        let passages = vectors(&*embedder, &[near.to_owned(), far.to_owned()], Passage).await;
        let [nearer, farther] = [0, 1].map(|which| dot(&question[0], &passages[which]));
        assert!(nearer > farther, "`{of}`: `{near}` {nearer}, `{far}` {farther}");
    }
}

/// Texts of many lengths, no two the same.
fn texts() -> Vec<String> {
    let words = ["retries", "are", "bounded", "by", "the", "policy", "of", "a", "step", "and", "journaled"];
    (0..24)
        .map(|n| {
            format!("{n}: {}", words.iter().cycle().skip(n).take(1 + n * n % 53).copied().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// What an embedder makes of texts, with all that is promised of every vector.
async fn vectors(embedder: &dyn Embedder, texts: &[String], purpose: Purpose) -> Vec<Vec<f32>> {
    let vectors = embedder.embed(&tenant("acme"), texts, purpose).await.unwrap();
    assert_eq!(vectors.len(), texts.len());
    for (text, vector) in texts.iter().zip(&vectors) {
        let text: String = text.chars().take(40).collect();
        assert_eq!(vector.len(), embedder.id().dimensions as usize, "`{text}`");
        assert!(vector.iter().all(|number| number.is_finite()), "`{text}`");
        let length = dot(vector, vector).sqrt();
        assert!((length - 1.0).abs() < 1e-3, "`{text}` has length {length}");
    }
    vectors
}

fn same(some: &[Vec<f32>], others: &[Vec<f32>]) {
    assert_eq!(some.len(), others.len());
    for (index, (one, other)) in some.iter().zip(others).enumerate() {
        let apart = one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= CLOSE, "vectors {index} are {apart} apart");
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}
