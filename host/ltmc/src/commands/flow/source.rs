//! Files that authors of workflows write, and what is said of those that are not right.

use std::io::Read as _;
use std::path::Path;

use ltmc_model::workflow::{Document, Fault, MAX_LEN};

use crate::exit::{Exit, Problem};

/// A file's text, and what it is called where something is wrong with it.
pub(super) struct Source {
    pub(super) shown: String,
    pub(super) text: String,
}

impl Source {
    /// Reads a file, or standard input where it is `-`. Of what is longer than a document may be only so much that it shows.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let is_standard_input = file == Path::new("-");
        let shown = if is_standard_input { "standard input".to_owned() } else { file.display().to_string() };
        let mut text = String::new();
        let most = MAX_LEN as u64 + 1;
        let read = match is_standard_input {
            true => std::io::stdin().lock().take(most).read_to_string(&mut text),
            false => std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text)),
        };
        read.map_err(|e| Problem::usage(format!("{shown} cannot be read: {e}")))?;
        Ok(Self { shown, text })
    }

    /// Where a fault of it stands, and what it is.
    pub(super) fn line(&self, fault: &Fault) -> String {
        format!("{}:{}:{}: {}", self.shown, fault.place.line, fault.place.column, fault.message)
    }

    /// As a workflow's document.
    pub(super) fn document(&self) -> Result<Document, Problem> {
        Document::parse(&self.text, None).map_err(|faults| self.problem("bad-workflow", &faults.0))
    }

    /// What ends the command, with everything that is wrong.
    pub(super) fn problem(&self, code: &str, faults: &[Fault]) -> Problem {
        let mut problem = Problem::new(Exit::Failed, code, format!("{} is not right [{code}]", self.shown));
        problem.details = faults.iter().map(|fault| self.line(fault)).collect();
        problem
    }
}
