//! Reads the Markdown in a granted directory, remembers its sections, and relates them by their links.
//!
//! What is to be remembered follows from the documents alone; what was remembered stands in the agent's memory, a key a
//! document. Each call makes up the difference, so that a second one has next to nothing to do.
//!
//! Invariants: what is remembered is listed in memory before it is, so that whatever a call leaves behind when it is ended
//! in the middle the next one finds and puts right; a document that cannot be read for the moment is not forgotten.

mod links;
mod markdown;
mod plan;
mod shelf;
mod tree;

use std::path::Path;

use ltmc::{Agent, Failure, Json, Task};
use serde::Serialize;

pub use markdown::{Document, Link, Section};
pub use tree::Bounds;

use plan::Plan;
use shelf::Shelf;

/// The directory that is read: what the capability `fs:read:docs` grants is seen as `/docs`.
const NAME: &str = "docs";
/// What a result lists of a kind at most; the rest is counted.
const LISTED: usize = 200;

/// What there is now, and what was done for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Documents that were read.
    pub files: usize,
    /// Of these, those for which nothing had to be done.
    pub unchanged: usize,
    /// Sections that are remembered now.
    pub sections: usize,
    /// Links between documents and sections that are related now.
    pub links: usize,
    /// Sections that were forgotten, because they are gone.
    pub forgotten: usize,
    /// Links that lead nowhere.
    pub broken_links: Vec<BrokenLink>,
    /// How many more there are than are listed.
    pub broken_links_omitted: usize,
    /// Links that lead out of the directory, where nobody can say from here whether something is there.
    pub outside: usize,
    /// What was not read, or not whole.
    pub skipped: Vec<Skipped>,
    /// How many more there are than are listed.
    pub skipped_omitted: usize,
}

/// A link that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenLink {
    /// The document it stands in.
    pub file: String,
    /// Its line.
    pub line: usize,
    /// As it is written.
    pub target: String,
    /// What is not there.
    pub why: String,
}

/// What was not read, or not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// A document, a section or a directory.
    pub file: String,
    /// Why it was not read, in a sentence.
    pub why: String,
}

/// Reads what is below `root`, and sees to it that just that is remembered.
///
/// # Errors
/// `no-directory` where there is none; what the host answers where it does not do what it is asked.
pub fn read(root: &Path, bounds: &Bounds) -> Result<Outcome, Failure> {
    let tree = tree::read(root, NAME, bounds).map_err(|error| {
        let shown = root.display();
        let what = format!(
            "{shown} cannot be read: {error}; the agent needs `fs:read:{NAME}`, and the host a directory of that name"
        );
        Failure::new("no-directory", what)
    })?;
    let mut plan = Plan::new(NAME, tree, bounds);
    let done = Shelf::open()?.make_up(&plan)?;
    let broken_links_omitted = cut(&mut plan.broken);
    let skipped_omitted = cut(&mut plan.skipped);
    Ok(Outcome {
        files: plan.documents.len(),
        unchanged: done.unchanged,
        sections: plan.documents.values().map(|document| document.notes.len()).sum(),
        links: plan.documents.values().map(|document| document.links.len()).sum(),
        forgotten: done.forgotten,
        broken_links: plan.broken,
        broken_links_omitted,
        outside: plan.outside,
        skipped: plan.skipped,
        skipped_omitted,
    })
}

/// Cuts a list to what a result shows; how many that leaves out.
fn cut<T>(list: &mut Vec<T>) -> usize {
    let omitted = list.len().saturating_sub(LISTED);
    list.truncate(LISTED);
    omitted
}

/// Reads `/docs`, whatever its input is; gives an [`Outcome`].
#[ltmc::agent]
#[derive(Default)]
pub struct ReadDocs;

impl Agent for ReadDocs {
    type Input = ();
    type Output = Json<Outcome>;

    fn execute(&self, (): (), _task: &Task) -> Result<Json<Outcome>, Failure> {
        let outcome = read(Path::new("/docs"), &Bounds::default())?;
        ltmc::info!(
            files = outcome.files, sections = outcome.sections, links = outcome.links, forgotten = outcome.forgotten;
            "{} of {} documents were unchanged", outcome.unchanged, outcome.files
        );
        Ok(Json(outcome))
    }
}

#[cfg(test)]
mod tests;
