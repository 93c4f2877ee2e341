//! Reads a unified diff, of git or of `diff -u`, into a [`Change`].

mod parse;
mod paths;

use findings::Change;
use ltmc::{Agent, Failure, Json, Task};

pub use parse::{Fault, parse};

/// The most that a diff may take as JSON, in bytes: what the agents after this one add must find room as well.
const MOST: usize = 4 << 20;

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
        if weight(&text) > MOST {
            let what = format!("a diff of {} KiB is too large to review in one go: give it in parts", diff.len() >> 10);
            return Err(Failure::new("diff-too-large", what));
        }
        let change = parse(&text).map_err(|fault| Failure::new("bad-diff", fault.to_string()))?;
        if change.files.is_empty() && !text.trim().is_empty() {
            return Err(Failure::new(
                "bad-diff",
                "there is no file in it: a unified diff is expected, as of `git diff`",
            ));
        }
        ltmc::info!(files = change.files.len(); "a diff of {} bytes", diff.len());
        Ok(Json(change))
    }
}

/// The bytes of a text as a JSON string.
fn weight(text: &str) -> usize {
    let of = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(of).sum()
}
