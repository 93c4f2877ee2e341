//! Whether doc comments say anything: a word that asks, or that names an owner alone, helps nobody who has not read the file.

use crate::house::{root, sources};

/// Words that ask what a doc comment is to answer.
const QUESTIONS: [&str; 9] = ["how", "what", "when", "where", "which", "who", "whom", "whose", "why"];

/// Words that may stand before one: `By which event.`
const PREPOSITIONS: [&str; 13] =
    ["after", "at", "by", "for", "from", "in", "of", "on", "since", "to", "under", "until", "with"];

/// Whether a text tells nothing: one word, a question with at most one more, or a mere owner such as `The record's.`
fn says_nothing(text: &str) -> bool {
    let text = text.trim_end_matches(['.', ':']).to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let asks = |word: &str| QUESTIONS.contains(&word);
    match words[..] {
        [] | [_] | ["every" | "which", "one"] | ["its" | "the", "run"] => true,
        ["the", owner] => owner.ends_with("'s"),
        [first, second] => asks(first) || PREPOSITIONS.contains(&first) && asks(second),
        [first, second, _] => PREPOSITIONS.contains(&first) && asks(second),
        _ => false,
    }
}

/// The doc comments of a source: the line that each begins in, from 1 on, and its lines without what marks them.
fn doc_comments(source: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut before = None;
    for (number, line) in (1..).zip(source.lines().map(str::trim)) {
        let mark = ["///", "//!"].into_iter().find(|mark| line.starts_with(*mark) && !line.starts_with("////"));
        if let Some(mark) = mark {
            let text = line[mark.len()..].trim();
            match found.last_mut() {
                Some((_, lines)) if before == Some(mark) => lines.push(text),
                _ => found.push((number, vec![text])),
            }
        }
        before = mark;
    }
    found
}

/// Doc comments of a source that tell nothing: the line of each, what it says, and what would be right.
fn empty_comments(source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (begin, lines) in doc_comments(source) {
        let whole = lines.join(" ");
        if says_nothing(&whole) {
            wrong.push(format!(
                "{begin}: `{whole}` says nothing: say what it is for, with its unit, shape or bound where it has one; \
                 where the item is private and its name says that already, leave the comment out"
            ));
        }
        let Some(heading) = lines.iter().position(|line| *line == "# Errors") else { continue };
        let section = lines[heading + 1..].iter().take_while(|line| !line.starts_with("# "));
        let errors = section.copied().collect::<Vec<_>>().join(" ");
        if says_nothing(&errors) {
            wrong.push(format!(
                "{}: `# Errors` followed by `{errors}` says nothing: say which failures a caller can get, such as \
                 \"[`StoreError`] where the record does not answer\"",
                begin + heading
            ));
        }
    }
    wrong
}

#[test]
fn every_doc_comment_says_something() {
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        wrong.extend(empty_comments(&source).into_iter().map(|what| format!("{shown}:{what}")));
    }
    wrong.sort();
    assert!(wrong.is_empty(), "doc comments that say nothing:\n{}", wrong.join("\n"));
}

#[test]
fn a_doc_comment_that_says_nothing_is_found_with_its_line() {
    for empty in ["", "Which.", "Bounds.", "`graph:read`", "Whose key.", "Since when.", "By which event.", "Its run."] {
        assert!(says_nothing(empty), "{empty}");
    }
    for told in ["The run's id.", "In lower case.", "See [`Lost`].", "As [`page`].", "What the step works on."] {
        assert!(!says_nothing(told), "{told}");
    }
    let source = ["//! A module.", "", "/// Saves it.", "///", "/// # Errors", "/// The store's.", "fn save() {}"];
    let wrong = empty_comments(&source.join("\n"));
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert!(wrong[0].starts_with("5: `# Errors` followed by `The store's.`"), "{wrong:#?}");
}
