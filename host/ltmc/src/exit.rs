//! How the command ends: an exit code, what went wrong, and what to do about it.
//!
//! Codes: 0 done, 1 the job failed, 2 wrong use, 3 host not reached, 4 denied, 5 done in part.

use std::fmt;
use std::process::ExitCode;

/// The exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreached = 3,
    Denied = 4,
    InPart = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong, for people and for programs.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) exit: Exit,
    /// A stable word, such as `agent-trapped`; the host's own where it came from there.
    pub(crate) code: String,
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: Option<String>,
    /// Further lines: each thing that is wrong with a document.
    pub(crate) details: Vec<String>,
}

impl Problem {
    pub(crate) fn new(exit: Exit, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), help: None, details: Vec::new() }
    }

    /// The command was used wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The job could not be done.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message)
    }

    /// The same, with what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The exit code of an error: that of the first [`Problem`] in its chain, otherwise 1.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    problem_in(error).map_or(Exit::Failed, |p| p.exit)
}

/// The problem in an error's chain.
pub(crate) fn problem_in(error: &anyhow::Error) -> Option<&Problem> {
    error.chain().find_map(|e| e.downcast_ref::<Problem>())
}

/// The error as one JSON value.
pub(crate) fn to_json(error: &anyhow::Error) -> serde_json::Value {
    let problem = problem_in(error);
    serde_json::json!({"error": {
        "code": problem.map_or("failed", |p| &p.code),
        "message": format!("{error:#}"),
        "help": problem.and_then(|p| p.help.clone()),
        "details": problem.map(|p| p.details.clone()).unwrap_or_default(),
        "exit": exit_of(error) as u8,
    }})
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_code_is_found_under_any_context() {
        let error = Err::<(), _>(Problem::new(Exit::Denied, "denied", "no"))
            .context("pushing hello")
            .context("more")
            .unwrap_err();
        assert_eq!(exit_of(&error), Exit::Denied);
        assert_eq!(to_json(&error)["error"]["exit"], 4);
        assert_eq!(to_json(&error)["error"]["message"], "more: pushing hello: no");
        assert_eq!(exit_of(&anyhow::anyhow!("x")), Exit::Failed);
    }
}
