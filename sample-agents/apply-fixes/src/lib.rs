//! Makes edits in the documents of a granted directory.
//!
//! Invariants: what a document was before is in the session's memory, under `fixes/`, and true for everybody, before anything of it is
//! written: so it can be put back, whatever happens. An edit of something else than what stands there now changes nothing at all. A call
//! that is made again begins with what was there before the first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use issues::{Edit, MENDED};
use ltmc::memory::{self, Scope, Store};
use ltmc::{Agent, Failure, Json, Task};
use serde::{Deserialize, Serialize};

/// Where the session keeps documents as they were.
pub const BEFORE: &str = "fixes/";

/// What is to be done.
#[derive(Debug, Deserialize)]
pub struct Work {
    /// The edits; null where somebody had none to make.
    pub edits: Vec<Option<Edit>>,
}

/// What was done.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// How many documents were changed.
    pub files: usize,
    /// How many edits were made.
    pub edits: usize,
    /// How many issues were mended, by their kind.
    pub mended: BTreeMap<String, u64>,
    /// For people: what changed.
    pub diff: String,
}

/// Makes the edits below `root`.
///
/// # Errors
/// `bad-edit` where one does not fit; `no-document` where a document cannot be read or written.
pub fn apply(root: &Path, work: Work, task: &Task) -> Result<Done, Failure> {
    let mut by_file: BTreeMap<String, Vec<Edit>> = BTreeMap::new();
    for edit in work.edits.into_iter().flatten() {
        by_file.entry(edit.file.clone()).or_default().push(edit);
    }
    let store = memory::open(Scope::Session)?;
    let (mut changed, mut diff, mut edits) = (Vec::new(), String::new(), 0);
    for (file, mut of_it) in by_file {
        of_it.sort_by_key(|edit| edit.line);
        let before = before(root, &store, &file)?;
        let after = edited(&before, &of_it)?;
        edits += of_it.len();
        diff += &shown(&file, &of_it);
        changed.push((file, after));
    }
    task.checkpoint()?;
    for (file, after) in &changed {
        fs::write(root.join(file), after).map_err(|error| no_document(file, &error))?;
    }
    Ok(Done { files: changed.len(), edits, mended: mended(&store)?, diff })
}

/// What those who mended counted, side by side.
fn mended(store: &Store) -> Result<BTreeMap<String, u64>, Failure> {
    let mut mended = BTreeMap::new();
    for entry in store.list(MENDED) {
        let entry = entry?;
        mended.insert(entry.key[MENDED.len()..].to_owned(), entry.json()?);
    }
    Ok(mended)
}

/// A document as it was before anything was done to it, which is kept.
fn before(root: &Path, store: &Store, file: &str) -> Result<String, Failure> {
    let is_below = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if !is_below {
        return Err(Failure::new("bad-edit", format!("`{file}` is no document below the directory")));
    }
    let key = format!("{BEFORE}{file}");
    if let Some(kept) = store.get(&key)? {
        return String::from_utf8(kept.value).map_err(|_| Failure::new("bad-edit", format!("`{file}` is no text")));
    }
    let text = fs::read_to_string(root.join(file)).map_err(|error| no_document(file, &error))?;
    store.put(&key, &text)?;
    Ok(text)
}

/// A text with all edits made, each where it stood in the text.
fn edited(text: &str, edits: &[Edit]) -> Result<String, Failure> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut at): (Vec<&str>, usize) = (Vec::with_capacity(lines.len()), 0);
    for edit in edits {
        let from = edit.line.saturating_sub(1);
        let is_there = lines.get(from..from + edit.old.len()).is_some_and(|there| there == edit.old.as_slice());
        if from < at || !is_there {
            let what = format!("line {} of `{}` is not what the edit takes out any more", edit.line, edit.file);
            return Err(Failure::new("bad-edit", what));
        }
        out.extend(&lines[at..from]);
        out.extend(edit.new.iter().map(String::as_str));
        at = from + edit.old.len();
    }
    out.extend(&lines[at..]);
    let end = if text.ends_with('\n') { "\n" } else { "" };
    Ok(out.join("\n") + end)
}

fn shown(file: &str, edits: &[Edit]) -> String {
    let mut text = format!("{file}\n");
    for edit in edits {
        text += &format!("@@ line {}: {}\n", edit.line, edit.why);
        let lines =
            |sign: char, lines: &[String]| lines.iter().map(|line| format!("{sign}{line}\n")).collect::<String>();
        text += &lines('-', &edit.old);
        text += &lines('+', &edit.new);
    }
    text
}

fn no_document(file: &str, error: &std::io::Error) -> Failure {
    Failure::new("no-document", format!("`{file}`: {error}; the agent needs `fs:read:work` and `fs:write:work`"))
}

/// Takes [`Work`], gives what was [`Done`].
#[ltmc::agent]
#[derive(Default)]
pub struct ApplyFixes;

impl Agent for ApplyFixes {
    type Input = Json<Work>;
    type Output = Json<Done>;

    fn execute(&self, Json(work): Json<Work>, task: &Task) -> Result<Json<Done>, Failure> {
        let done = apply(Path::new("/work"), work, task)?;
        ltmc::info!(files = done.files, edits = done.edits; "{} documents were changed", done.files);
        Ok(Json(done))
    }
}

#[cfg(test)]
mod tests;
