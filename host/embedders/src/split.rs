//! Long texts into passages, each of which an embedder takes in.
//!
//! Invariants: a passage is of at most `max_bytes`, begins and ends between characters and with something other than a blank;
//! passages stand in order and do not overlap. Together they have all of a text that is not blank, as long as
//! [`MAX_PASSAGES`] of that size can hold it; the rest of a longer text is in none.

use std::ops::Range;

use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};

/// The most passages that are made of a text.
pub const MAX_PASSAGES: usize = 256;
/// A character has at most that many bytes.
const LEAST: usize = 4;

/// The passages of a text, as ranges of its bytes; of a blank one none.
///
/// Cut at Markdown's seams where the text has them (headings, paragraphs, items, code), else at sentences, words, characters.
/// Prose without Markdown is cut the same way. A text that falls into too many pieces so is cut with less regard to its seams.
/// `max_bytes` is taken as at least 4, the longest character.
pub fn split(text: &str, max_bytes: usize) -> Vec<Range<usize>> {
    let max_bytes = max_bytes.max(LEAST);
    let config = || ChunkConfig::new(max_bytes).with_sizer(Bytes);
    let mut passages = at_most(MarkdownSplitter::new(config()).chunk_indices(text));
    if passages.is_none() {
        passages = at_most(TextSplitter::new(config()).chunk_indices(text));
    }
    passages.unwrap_or_else(|| cut(text, max_bytes))
}

/// Sizes are in bytes, as everywhere in the host.
struct Bytes;

impl ChunkSizer for Bytes {
    fn size(&self, chunk: &str) -> usize {
        chunk.len()
    }
}

/// The passages, unless there are too many.
fn at_most<'a>(chunks: impl Iterator<Item = (usize, &'a str)>) -> Option<Vec<Range<usize>>> {
    let passages: Vec<_> = chunks.filter_map(|(start, chunk)| trimmed(start, chunk)).take(MAX_PASSAGES + 1).collect();
    (passages.len() <= MAX_PASSAGES).then_some(passages)
}

/// Passages as full as can be.
fn cut(text: &str, max_bytes: usize) -> Vec<Range<usize>> {
    let (mut passages, mut start) = (Vec::new(), 0);
    while start < text.len() && passages.len() < MAX_PASSAGES {
        start += text[start..].len() - text[start..].trim_start().len();
        let end = text.floor_char_boundary(start + max_bytes);
        passages.extend(trimmed(start, &text[start..end]));
        start = end;
    }
    passages
}

fn trimmed(start: usize, chunk: &str) -> Option<Range<usize>> {
    let start = start + (chunk.len() - chunk.trim_start().len());
    let chunk = chunk.trim();
    (!chunk.is_empty()).then(|| start..start + chunk.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCUMENT: &str = "# Stores\n\nA store keeps the record.\n\n## Add a store\n\n1. Make a crate.\n2. Run the suite.\n\n\
        ```rust\nfn main() {}\n```\n\n## Remove a store\n\nTake it out of the wiring. Nothing else names it.\n";

    /// Panics where a promise is broken.
    fn check(text: &str, max_bytes: usize) -> Vec<Range<usize>> {
        let passages = split(text, max_bytes);
        assert!(passages.len() <= MAX_PASSAGES);
        let mut end = 0;
        for passage in &passages {
            assert!(passage.start >= end && passage.len() <= max_bytes.max(LEAST), "{passage:?}");
            let inside = text.get(passage.clone()).expect("passages lie between characters");
            assert!(!inside.is_empty() && inside == inside.trim(), "{inside:?}");
            assert!(text[end..passage.start].trim().is_empty(), "{:?} is in no passage", &text[end..passage.start]);
            end = passage.end;
        }
        if passages.len() < MAX_PASSAGES {
            assert!(text[end..].trim().is_empty(), "{:?} is in no passage", &text[end..]);
        }
        passages
    }

    #[test]
    fn documents_are_cut_at_their_headings() {
        let passages: Vec<&str> = check(DOCUMENT, 100).into_iter().map(|passage| &DOCUMENT[passage]).collect();
        assert_eq!(
            passages,
            [
                "# Stores\n\nA store keeps the record.",
                "## Add a store\n\n1. Make a crate.\n2. Run the suite.\n\n```rust\nfn main() {}\n```",
                "## Remove a store\n\nTake it out of the wiring. Nothing else names it.",
            ]
        );
    }

    #[test]
    fn prose_is_cut_at_sentences() {
        let prose = "The first sentence is here. The second one follows it. The third one ends the text.";
        let passages: Vec<&str> = check(prose, 60).into_iter().map(|passage| &prose[passage]).collect();
        assert_eq!(
            passages,
            ["The first sentence is here. The second one follows it.", "The third one ends the text."]
        );
    }

    #[test]
    fn a_short_text_is_one_passage_and_a_blank_one_none() {
        let passages = check("  a text\n", 100);
        assert_eq!((passages.len(), passages.first()), (1, Some(&(2..8))));
        for blank in ["", " ", "\n\n\t \r\n", "\u{3000}\u{a0}"] {
            assert!(check(blank, 100).is_empty());
        }
    }

    #[test]
    fn text_without_seams_is_cut_between_characters() {
        for max_bytes in [0, 1, 4, 5, 64, 1000] {
            check(&"é🦀".repeat(100), max_bytes);
            check(&"a".repeat(3_000), max_bytes);
            check(&"e\u{301}\u{301}".repeat(300), max_bytes);
        }
    }

    #[test]
    fn there_are_never_too_many() {
        // By its seams it would be a passage a heading.
        let headings: String = (0..2_000).map(|n| format!("# Heading {n}\n\ntext\n\n")).collect();
        let passages = check(&headings, 1_000);
        assert_eq!(passages.last().map(|last| last.end), Some(headings.trim_end().len()), "all of it is in a passage");
        // More than fits in.
        let passages = check(&"word ".repeat(13_000), 64);
        assert_eq!(passages.len(), MAX_PASSAGES);
        assert!(passages.last().unwrap().len() <= 64);
    }

    #[test]
    fn the_longest_note_is_cut_in_time() {
        let began = std::time::Instant::now();
        for text in
            [DOCUMENT.repeat(300), "- ".repeat(30_000), "*a_".repeat(20_000), "[".repeat(60_000), "> ".repeat(30_000)]
        {
            check(beginning(&text), 1_024);
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }

    fn beginning(text: &str) -> &str {
        crate::beginning(text, ltmc_model::recall::MAX_TEXT)
    }

    proptest! {
        #[test]
        fn whatever_the_text_is(text in r"(\PC|[\n\t #*>`|_-]|word ){0,400}", max_bytes in 1_usize..200) {
            check(&text, max_bytes);
        }

        #[test]
        fn whatever_the_characters_are(text in proptest::collection::vec(any::<char>(), 0..200), max_bytes in 1_usize..100) {
            check(&text.into_iter().collect::<String>(), max_bytes);
        }
    }
}
