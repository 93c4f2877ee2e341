//! The built-in embedder: words and parts of words, hashed into a vector.
//!
//! What it can: find a text by the words it shares with the question, in whatever order, also where a word is inflected,
//! misspelt, part of a compound or of an identifier (`readTimeout`, `read_timeout` and `read timeout` are near). What it
//! cannot: synonyms (`bounded` and `limited` have nothing to do with each other), meaning, negation, another language's word
//! for the same thing. Of a long text it sees a blur: passages keep it sharp.
//!
//! How: a text is cut into words, identifiers at case and punctuation, scripts without spaces into pairs of characters. A word
//! is a feature; so are what is left of it without an English ending, and each of its sequences of 3 to 5 characters. A feature's hash chooses one of 384 numbers, and
//! whether its weight is added there or taken away. A feature that returns counts with the root of its number; short words
//! and the commonest English ones count little.
//!
//! Invariant: the vectors of `hashed-words-1` never change, on any machine: they are made by additions, multiplications,
//! divisions and square roots alone, which IEEE 754 fixes to the bit, in an order that the text decides. Whoever changes
//! anything here changes the name too.

use async_trait::async_trait;
use ltmc_model::TenantId;
use ltmc_model::recall::EmbedderId;
use ltmc_ports::recall::Purpose;
use ltmc_ports::{Embedder, Kind, StoreError};

use crate::nothing;

const DIMENSIONS: usize = 384;
/// In longer passages each word counts for little.
const PASSAGE: usize = 512;
/// What a word's sequences weigh together, where the word itself weighs 1.
const PARTS: f64 = 0.7;
/// What a word without its ending weighs.
const STEM: f64 = 0.8;
/// What an identifier of several words weighs as one word.
const WHOLE: f64 = 0.5;
/// What the commonest words weigh.
const COMMON: f64 = 0.1;
/// The longest word of which the sequences count, in characters: what is longer is data.
const LONGEST: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hashed {
    id: EmbedderId,
}

impl Hashed {
    pub(crate) fn new() -> Self {
        Self { id: EmbedderId { name: "hashed-words-1".to_owned(), dimensions: DIMENSIONS as u32 } }
    }
}

#[async_trait]
impl Embedder for Hashed {
    fn id(&self) -> &EmbedderId {
        &self.id
    }

    fn passage_bytes(&self) -> usize {
        PASSAGE
    }

    async fn embed(&self, _: &TenantId, texts: &[String], _: Purpose) -> Result<Vec<Vec<f32>>, StoreError> {
        let texts = texts.to_vec();
        // bound: threads beside
        let work = tokio::task::spawn_blocking(move || texts.iter().map(|text| vector(text)).collect());
        work.await.map_err(|error| StoreError::new(Kind::Internal, "embedder.embed").because(error))
    }
}

/// A text's vector.
fn vector(text: &str) -> Vec<f32> {
    let mut features = Features::default();
    for_each_word(text, |word, weight| features.add(word, weight));
    let mut features = features.0;
    // By weight too: sums of the same numbers in another order may differ in their last bit.
    features.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut sums = [0.0_f64; DIMENSIONS];
    for same in features.chunk_by(|a, b| a.0 == b.0) {
        let hash = same[0].0;
        let weight = same.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
        let place = ((hash >> 32) * DIMENSIONS as u64) >> 32;
        sums[place as usize] += if hash & 1 == 0 { weight } else { -weight };
    }
    let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    if length < 1e-12 {
        return nothing(DIMENSIONS);
    }
    sums.iter().map(|sum| (sum / length) as f32).collect()
}

/// Features by their hashes, with their weights.
#[derive(Default)]
struct Features(Vec<(u64, f64)>);

impl Features {
    /// A word, as lower-case characters.
    fn add(&mut self, word: &[char], weight: f64) {
        let common = COMMONEST.binary_search_by(|common| common.chars().cmp(word.iter().copied())).is_ok();
        let weight = weight * if common { COMMON } else { by_length(word.len()) };
        self.0.push((hash('w', word), weight));
        if common || word.len() > LONGEST || word.iter().any(|c| without_spaces(*c)) {
            return;
        }
        self.0.push((hash('s', stem(word)), weight * STEM));
        let bounded: Vec<char> = [&['<'], word, &['>']].concat();
        let parts = || (3..=5).flat_map(|long| bounded.windows(long));
        let each = weight * PARTS / (parts().count().max(1) as f64).sqrt();
        self.0.extend(parts().map(|part| (hash('p', part), each)));
    }
}

/// A word without its ending, so that `retry`, `retries` and `retried` are one; roughly, and in English.
fn stem(word: &[char]) -> &[char] {
    const ENDINGS: [&str; 11] = ["ings", "ies", "ied", "ing", "ers", "er", "ed", "es", "ly", "y", "e"];
    let ends = |ending: &&str| {
        word.len() >= ending.len() + 3 && word.iter().rev().copied().take(ending.len()).eq(ending.chars().rev())
    };
    let stem = match (ENDINGS.iter().find(|ending| ends(ending)), word) {
        (Some(ending), _) => &word[..word.len() - ending.len()],
        (None, [stem @ .., before, 's']) if stem.len() >= 2 && *before != 's' => &word[..word.len() - 1],
        _ => word,
    };
    match stem {
        [stem @ .., 'y'] if stem.len() >= 3 => stem,
        // `running`, `cancelled`.
        [start @ .., one, other] if start.len() >= 2 && one == other => &stem[..stem.len() - 1],
        _ => stem,
    }
}

/// Short words say little, and long ones are rare.
fn by_length(characters: usize) -> f64 {
    match characters {
        0 | 1 => 0.2,
        2 => 0.35,
        3 => 0.55,
        4 => 0.75,
        5 => 0.9,
        6 => 1.0,
        7 => 1.1,
        _ => 1.2,
    }
}

/// Calls `found` with every word, in lower case, and with its weight.
fn for_each_word(text: &str, mut found: impl FnMut(&[char], f64)) {
    let mut run = Vec::new();
    // A mark over a letter belongs to it, but for what is looked for it may as well be absent.
    for c in text.chars().filter(|c| !('\u{300}'..='\u{36f}').contains(c)).chain([' ']) {
        if c.is_alphanumeric() || c == '_' {
            run.push(c);
        } else if !run.is_empty() {
            for dense in run.chunk_by(|a, b| without_spaces(*a) == without_spaces(*b)) {
                if !without_spaces(dense[0]) {
                    words_of(dense, &mut found);
                } else if dense.len() == 1 {
                    found(dense, 1.0);
                } else {
                    dense.windows(2).for_each(|pair| found(pair, 1.0));
                }
            }
            run.clear();
        }
    }
}

/// The words of an identifier, or of what may be one; and where it has several, itself as one word.
fn words_of(identifier: &[char], found: &mut impl FnMut(&[char], f64)) {
    let lower = |word: &[char]| word.iter().flat_map(|c| c.to_lowercase()).collect::<Vec<char>>();
    let (mut whole, mut words, mut start) = (Vec::new(), 0, 0);
    for end in 1..=identifier.len() {
        if end == identifier.len() || is_seam(identifier, end) {
            let word = lower(&identifier[start..end]);
            if word != ['_'] {
                found(&word, 1.0);
                whole.extend(word);
                words += 1;
            }
            start = end;
        }
    }
    if words > 1 {
        found(&whole, WHOLE);
    }
}

/// Whether an identifier is cut before `at`: at an underscore, between letters and digits, in `aB`, and in `ABc` before `B`.
fn is_seam(identifier: &[char], at: usize) -> bool {
    let (before, after) = (identifier[at - 1], identifier[at]);
    before == '_'
        || after == '_'
        || before.is_numeric() != after.is_numeric()
        || (before.is_lowercase() && after.is_uppercase())
        || (before.is_uppercase()
            && after.is_uppercase()
            && identifier.get(at + 1).is_some_and(|next| next.is_lowercase()))
}

/// Whether a character is of a script that puts no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
fn without_spaces(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// FNV-1a over the characters' UTF-8, then stirred so that its upper bits are as good as its lower ones.
fn hash(kind: char, characters: &[char]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut bytes = [0; 4];
    for c in std::iter::once(&kind).chain(characters) {
        for byte in c.encode_utf8(&mut bytes).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The commonest English words, in order.
const COMMONEST: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "before", "being",
    "but", "by", "can", "could", "did", "do", "does", "each", "for", "from", "had", "has", "have", "he", "her", "here",
    "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "may", "me", "might", "more", "most", "must",
    "my", "no", "not", "of", "on", "only", "or", "other", "our", "out", "over", "shall", "she", "should", "so", "some",
    "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "too",
    "under", "up", "us", "very", "was", "we", "were", "what", "when", "where", "which", "while", "who", "why", "will",
    "with", "would", "you", "your",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ltmc_ports::testing::suite::embedder::EmbedderFixture;

    use super::*;

    struct BuiltIn;

    #[async_trait]
    impl EmbedderFixture for BuiltIn {
        async fn embedder(&self) -> Arc<dyn Embedder> {
            crate::hashed()
        }

        fn near(&self) -> Vec<[&'static str; 3]> {
            vec![
                [
                    "How are retries bounded?",
                    "A step has a bounded number of retries.",
                    "The demo starts Neo4j and Redis.",
                ],
                ["retry", "Steps are retried with a growing pause.", "Keys carry the tenant in a hash tag."],
                ["recieve mesages", "An agent receives messages from its mailbox.", "A fact has a time when it held."],
                ["read timeout", "set `readTimeout` in the file", "set `maxConnections` in the file"],
                ["http server", "struct HTTPServer2;", "struct SQLiteRecord2;"],
                ["Datenbank", "Die Datenbanken folgen dem Journal.", "Der Wirt prüft jede Fähigkeit."],
                ["検索", "意味で検索する", "手紙を送る"],
                ["how do I add a store", "To add a store: a crate that passes the suite.", "How do I do it? As I do."],
            ]
        }
    }

    ltmc_ports::embedder_contract!(BuiltIn);

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for_each_word(text, |word, _| words.push(word.iter().collect()));
        words
    }

    #[test]
    fn texts_are_cut_into_words() {
        for (text, expected) in [
            ("How are retries, bounded?", "how are retries bounded"),
            ("readTimeout", "read timeout readtimeout"),
            ("parse_HTTPServer2", "parse http server 2 parsehttpserver2"),
            ("store-error::Kind", "store error kind"),
            ("__init__", "init"),
            ("___ -- …", ""),
            ("host's", "host s"),
            ("e\u{301}te\u{301} ÉTÉ", "ete été"),
            ("意味で x 検", "意味 味で x 検"),
            ("v1.5", "v 1 v1 5"),
        ] {
            assert_eq!(words(text).join(" "), expected, "`{text}`");
        }
    }

    #[test]
    fn inflected_words_have_one_stem() {
        for (words, expected) in [
            ("retry retries retried retrying", "retr"),
            ("run runs running runner runners", "run"),
            ("address addresses addressed addressing", "addres"),
            ("message messages messaging", "messag"),
            ("call calls called calling", "cal"),
            ("cancel cancels cancelled cancelling canceling", "cancel"),
            ("bound bounds bounded", "bound"),
            ("add adds adding", "add"),
            ("embedder embedding embeddings", "embed"),
            ("as", "as"),
            ("größe", "größ"),
        ] {
            for word in words.split(' ') {
                let word: Vec<char> = word.chars().collect();
                assert_eq!(stem(&word).iter().collect::<String>(), expected, "{word:?}");
            }
        }
    }

    #[test]
    fn the_commonest_words_are_in_order() {
        assert!(COMMONEST.is_sorted());
    }

    #[test]
    fn common_words_are_not_what_texts_are_found_by() {
        let cosine = |a: &str, b: &str| -> f32 { vector(a).iter().zip(vector(b)).map(|(a, b)| a * b).sum() };
        assert!(cosine("what is the mailbox of it", "what is the journal of it") < 0.3);
        assert!(cosine("mailbox", "what is the mailbox of it") > 0.8);
        assert!(cosine("bounded retries", "limited attempts").abs() < 0.2, "it knows no synonyms, and says so");
    }

    /// If this fails, the vectors of `hashed-words-1` that people keep are no longer what this makes: change the name.
    #[test]
    fn the_vectors_never_change() {
        use sha2::{Digest as _, Sha256};
        let texts = [
            "",
            "a",
            "How are retries bounded?",
            "parse_HTTPServer2 and readTimeout",
            "Die Prüfung größerer Datenbanken",
            "検索は意味で見つける",
            "поиск по смыслу",
            "again and again and again, the same words again",
        ];
        let mut all = Sha256::new();
        for number in texts.iter().flat_map(|text| vector(text)) {
            all.update(number.to_le_bytes());
        }
        let strongest = |text: &str| {
            let mut numbers: Vec<(usize, f32)> = vector(text).into_iter().enumerate().collect();
            numbers.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
            numbers.truncate(3);
            numbers
        };
        assert_eq!(strongest("How are retries bounded?"), [(195, 0.49161324), (341, -0.49161324), (59, -0.39329058)]);
        assert_eq!(hex::encode(all.finalize()), "3903c1b5385102899a3ea0a93065f7ef34d90a30cec71ad404bc46615ac39033");
    }
}
