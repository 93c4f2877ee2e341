//! Answers a question with the passages of documents that are nearest to it, from what `read-docs` has remembered.
//!
//! How answers are ordered: recall gives each section a score, by what it says, and two things add a little to it.
//! - Its headings and its document's name: of the question's words, the share that stands there, times [`HEADING`]. Of a long
//!   section recall sees one passage, which need not repeat what its heading says.
//! - The graph: a section whose document others of the found sections link to gains [`LINK`] for each of these that stands in
//!   another document, at most [`LINKS`]. Documents about one thing name each other, and the one that they all name is mostly
//!   where to begin.
//!
//! Both are small, so that they decide between sections that are about as near and lift none that has nothing to do with the
//! question. What has less than half of the best score is no answer, and is left out.

mod headings;
mod markdown;
mod question;

use std::collections::{BTreeMap, BTreeSet};

use ltmc::graph::{self, Direction, Filter};
use ltmc::recall::{self, Hit};
use ltmc::{Agent, Error, Failure, Json, Task};
use serde::Serialize;

pub use question::Question;

/// Sections that recall is asked for.
const HITS: u32 = 30;
/// Of these, sections that are looked at: the best by their scores and headings.
const LOOKED_AT: usize = 10;
/// Answers that are given.
const ANSWERS: usize = 5;
/// What a section gains whose headings have all words of the question.
pub const HEADING: f64 = 0.15;
/// What a section gains for each of the others that links to its document.
pub const LINK: f64 = 0.02;
/// What it gains by links at most.
pub const LINKS: f64 = 0.06;
/// A score below that says nothing.
const LEAST: f64 = 0.05;
/// Links of one section that are followed.
const FOLLOWED: u32 = 100;
/// Other documents that are named with an answer.
const SEE_ALSO: usize = 5;

/// A question, and what is written about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reply {
    /// As it was asked.
    pub question: String,
    /// The best first.
    pub answers: Vec<Answer>,
    /// The same, for people.
    pub markdown: String,
}

/// A section that answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The document.
    pub file: String,
    /// The section's heading, after those that it stands under.
    pub heading: String,
    /// Where the section begins, from 1 on.
    pub line: usize,
    /// How near it is: 1 is the same, 0 is unrelated. See the module for what makes it up.
    pub score: f64,
    /// The part of it that is nearest.
    pub passage: String,
    /// Documents that it links to, and those that link to it.
    pub see_also: Vec<String>,
}

/// A section that was found.
struct Found {
    id: String,
    answer: Answer,
    /// The documents it links to, its own left out.
    to: BTreeSet<String>,
}

/// Looks a question up.
///
/// # Errors
/// What the host answers where it does not do what it is asked.
pub fn answer(question: &str) -> Result<Reply, Error> {
    // Other agents remember other things.
    let hits = recall::search_with(question, HITS, &[("kind", "section")])?;
    let mut found: Vec<Found> = hits.into_iter().filter_map(|hit| Found::new(question, hit)).collect();
    sort(&mut found);
    found.truncate(LOOKED_AT);
    for one in &mut found {
        one.follow()?;
    }
    add_links(&mut found);
    sort(&mut found);
    let best = found.first().map_or(0.0, |found| found.answer.score);
    let near = |found: &Found| found.answer.score >= LEAST && found.answer.score >= best / 2.0;
    let answers: Vec<Answer> = found.into_iter().filter(near).take(ANSWERS).map(|found| found.answer).collect();
    let markdown = markdown::write(question, &answers);
    Ok(Reply { question: question.to_owned(), answers, markdown })
}

impl Found {
    /// None: a note that is no section.
    fn new(question: &str, hit: Hit) -> Option<Self> {
        let Hit { id, text, mut metadata, score, .. } = hit;
        let (file, line) = (metadata.remove("file")?, metadata.get("line")?.parse().ok()?);
        let heading = metadata.remove("heading").unwrap_or_default();
        let passage = passage(&text, &heading, &file);
        let score = f64::from(score) + HEADING * headings::share(question, &[&heading, &file]);
        let answer = Answer { file, heading, line, score, passage, see_also: Vec::new() };
        Some(Self { id, answer, to: BTreeSet::new() })
    }

    /// Looks at its links.
    fn follow(&mut self) -> Result<(), Error> {
        let Self { id, answer: Answer { file, see_also, .. }, to } = self;
        *to = linked(id, Direction::Out)?;
        to.remove(file);
        let mut also = to.clone();
        also.extend(linked(id, Direction::In)?);
        also.extend(linked(file, Direction::In)?);
        also.remove(file);
        see_also.extend(also.into_iter().take(SEE_ALSO));
        Ok(())
    }
}

/// The best first; the same order for the same scores.
fn sort(found: &mut [Found]) {
    found.sort_by(|a, b| b.answer.score.total_cmp(&a.answer.score).then_with(|| a.id.cmp(&b.id)));
}

/// The documents at the other ends of an entity's links.
fn linked(entity: &str, direction: Direction) -> Result<BTreeSet<String>, Error> {
    let filter = Filter::of(entity).relation("links-to").direction(direction);
    let facts = graph::page(&filter, None, FOLLOWED)?.facts;
    let file = |end: &str| end.split_once('#').map_or(end, |(file, _)| file).to_owned();
    Ok(facts.iter().map(|fact| file(fact.other(entity))).collect())
}

/// Adds what sections gain by the links of the others, and rounds.
fn add_links(found: &mut [Found]) {
    let mut named: BTreeMap<String, u32> = BTreeMap::new();
    for to in found.iter().flat_map(|found| &found.to) {
        *named.entry(to.clone()).or_default() += 1;
    }
    for Found { answer, .. } in found {
        let times = f64::from(named.get(&answer.file).copied().unwrap_or_default());
        let score = answer.score + (times * LINK).min(LINKS);
        answer.score = (score.clamp(-1.0, 1.0) * 1_000.0).round() / 1_000.0;
    }
}

/// A note's passage without the heading that stands above the text of every section.
fn passage(text: &str, heading: &str, file: &str) -> String {
    let above = if heading.is_empty() { file } else { heading };
    let below = text.strip_prefix(above).filter(|rest| rest.is_empty() || rest.starts_with('\n'));
    below.unwrap_or(text).trim_matches('\n').trim_end().to_owned()
}

/// Takes a [`Question`], gives a [`Reply`].
#[ltmc::agent]
#[derive(Default)]
pub struct AnswerQuestion;

impl Agent for AnswerQuestion {
    type Input = Question;
    type Output = Json<Reply>;

    fn execute(&self, Question(question): Question, _task: &Task) -> Result<Json<Reply>, Failure> {
        Ok(Json(answer(&question)?))
    }
}

#[cfg(test)]
mod tests;
