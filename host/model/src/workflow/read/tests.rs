//! The reader, held against the tables that the schema is made of.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::super::schema::forms::FORMS;
use super::super::schema::patterns::{MODIFIERS, PATTERNS, PLANS};
use super::super::schema::words::Word;
use super::super::tests::EVERYTHING;
use super::super::{Document, MapItems, Needed, Planning, Retry};

type Words = BTreeSet<&'static str>;

thread_local! {
    /// Which words the reader knew of each kind of object that it met here.
    static TAKEN: RefCell<BTreeMap<String, Words>> = RefCell::default();
}

pub(super) fn taken(what: &str, known: &[&'static str]) {
    TAKEN.with_borrow_mut(|taken| taken.entry(what.to_owned()).or_default().extend(known));
}

fn names(words: &[Word]) -> Words {
    words.iter().map(|word| word.name).collect()
}

#[test]
fn every_word_of_the_reader_is_in_the_schema_and_none_more() {
    Document::parse(EVERYTHING, None).unwrap_or_else(|faults| panic!("{faults}"));
    let patterns: Words = PATTERNS.iter().filter_map(|form| Some(form.pattern?.0)).collect();
    let taken = TAKEN.take();
    for form in &PATTERNS {
        let read = taken.get(form.what).unwrap_or_else(|| panic!("{} is not in the document of everything", form.what));
        let is_of_it = |word: &&&str| !patterns.contains(**word) || names(form.words).contains(**word);
        let read: Words = read.iter().filter(is_of_it).copied().collect();
        let known: Words = names(form.words).into_iter().chain(names(MODIFIERS)).collect();
        assert_eq!(read, known, "{}", form.what);
    }
    for (_, form) in &FORMS {
        let read = taken.get(form.what).unwrap_or_else(|| panic!("{} is not in the document of everything", form.what));
        // Where an option is read it may turn out to be the `else`.
        let read: Words =
            read.iter().filter(|word| form.what != "an option of `choice`" || **word != "else").copied().collect();
        assert_eq!(read, names(form.words), "{}", form.what);
    }
    let forms: BTreeSet<&str> =
        PATTERNS.iter().chain(FORMS.iter().map(|(_, form)| form)).map(|form| form.what).collect();
    // A share stands in two places, and is one form.
    let unknown: Vec<&String> =
        taken.keys().filter(|what| !forms.contains(what.as_str()) && *what != "`tolerate`").collect();
    assert!(unknown.is_empty(), "the schema has no form for {unknown:?}");
}

/// What the schema's sentences say that is taken where nothing is said.
#[test]
fn what_is_taken_by_default_is_what_the_schema_says() {
    let said = |of: &str, word: &str| {
        let all = PATTERNS.iter().map(|form| (form.what, form.words)).chain([("`plan`", PLANS)]);
        let all = all.chain(FORMS.iter().map(|(name, form)| (*name, form.words)));
        let mut words = all.filter(|(name, _)| *name == of).flat_map(|(_, words)| words);
        words.find(|known| known.name == word).unwrap_or_else(|| panic!("{of} has no {word}")).about
    };
    let retry = Retry::default();
    for (of, word, default) in [
        ("`map`", "at-once", MapItems::AT_ONCE.to_string()),
        ("a step with `need`", "at-least", Needed::AT_LEAST.to_string()),
        ("`plan`", "depth", Planning::DEPTH.to_string()),
        ("`plan`", "at-most", Planning::AT_MOST.to_string()),
        ("retry", "attempts", retry.attempts.to_string()),
        ("retry", "backoff", format!("{}ms", retry.backoff.as_millis())),
        ("retry", "factor", retry.factor.to_string()),
        ("retry", "max", format!("{}s", retry.max.as_secs())),
    ] {
        let (said, default) = (said(of, word), format!("(default: {default})"));
        assert!(said.contains(&default), "{of}, {word}: {said}, and it is {default}");
    }
}
