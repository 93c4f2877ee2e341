//! Puts the documents of a granted directory back as they were: what `apply-fixes` kept of them in the session's memory.
//!
//! Invariant: to do it twice is to do it once.

use std::fs;
use std::path::Path;

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Json, Task};
use serde::Serialize;

/// Where the session keeps documents as they were.
const BEFORE: &str = "fixes/";

/// What was done.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// How many documents are as they were.
    pub restored: usize,
}

/// Puts back what is kept.
///
/// # Errors
/// `no-document` where one cannot be written.
pub fn undo(root: &Path) -> Result<Undone, Failure> {
    let store = memory::open(Scope::Session)?;
    let kept: Vec<_> = store.list(BEFORE).collect::<Result<_, _>>()?;
    for entry in &kept {
        let file = entry.key.trim_start_matches(BEFORE);
        fs::write(root.join(file), &entry.value).map_err(|error| {
            Failure::new("no-document", format!("`{file}`: {error}; the agent needs `fs:write:work`"))
        })?;
        store.delete(&entry.key)?;
    }
    Ok(Undone { restored: kept.len() })
}

/// Works on `/work`, whatever its input is; gives what was [`Undone`].
#[ltmc::agent]
#[derive(Default)]
pub struct UndoFixes;

impl Agent for UndoFixes {
    type Input = ();
    type Output = Json<Undone>;

    fn execute(&self, (): (), _task: &Task) -> Result<Json<Undone>, Failure> {
        let undone = undo(Path::new("/work"))?;
        ltmc::info!(restored = undone.restored; "{} documents are as they were", undone.restored);
        Ok(Json(undone))
    }
}
