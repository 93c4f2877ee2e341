//! One thing a developer should look at.

use serde::{Deserialize, Serialize};

use crate::File;

/// One thing a developer should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which rule, such as `secrets/aws-access-key`.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in a sentence. Between backticks stands what is taken from the diff.
    pub message: String,
    /// The file that it is in, from the repository's root.
    pub path: String,
    /// In which line of the file as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Up to which line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// What to do about it: the same for every finding of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// How much a finding matters; the first matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Severity {
    Error,
    Warning,
    Note,
}

impl Finding {
    /// The longest message, in bytes: names in it are as long as the diff makes them.
    pub const LONGEST: usize = 400;

    /// A finding in a line of a file, or in the file as a whole.
    pub fn new(
        rule: impl Into<String>,
        severity: Severity,
        file: &File,
        line: Option<u32>,
        message: impl Into<String>,
    ) -> Self {
        let mut message = message.into();
        if message.len() > Self::LONGEST {
            message.truncate(message.floor_char_boundary(Self::LONGEST));
            message.push('…');
        }
        Self { rule: rule.into(), severity, message, path: file.path.clone(), line, end_line: None, help: None }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: &str) -> Self {
        self.help = Some(help.to_owned());
        self
    }

    /// It goes on up to this line.
    #[must_use]
    pub fn up_to(mut self, line: u32) -> Self {
        self.end_line = Some(line);
        self
    }
}
