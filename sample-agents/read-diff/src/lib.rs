//! Reads a unified diff, of git or of `diff -u`, into a [`Change`].

mod parse;
mod paths;

use findings::Change;
use ltmc::{Agent, Failure, Json, Task};

pub use parse::{Fault, parse};

/// Takes a diff as text, gives a [`Change`] without findings.
#[ltmc::agent]
#[derive(Default)]
pub struct ReadDiff;

impl Agent for ReadDiff {
    type Input = Vec<u8>;
    type Output = Json<Change>;

    fn execute(&self, diff: Vec<u8>, _task: &Task) -> Result<Json<Change>, Failure> {
        // A diff has the encodings of all its files: what is not UTF-8 is shown as it can be.
        let text = String::from_utf8_lossy(&diff);
        let change = parse(&text).map_err(|fault| Failure::new("bad-diff", fault.to_string()))?;
        ltmc::info!(files = change.files.len(); "a diff of {} bytes", diff.len());
        Ok(Json(change))
    }
}
