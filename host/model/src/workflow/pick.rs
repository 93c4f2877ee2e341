//! Picks: `$.input…` and `$.steps.NAME.output…`, parsed once.
//!
//! After the source comes a dotted path (`$.input.files.0.path`) or a JSON Pointer (`$.input/files/0/path`), which is the
//! one to use for names with dots in them. After a step's name `.output` may be left out before a pointer.

use std::fmt;
use std::str::FromStr;

use super::StepName;

/// Where a value is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// In what.
    pub source: Source,
    /// Names of fields and numbers of items, from the outside in.
    pub path: Vec<String>,
}

/// What is picked from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The run's input.
    Input,
    /// A step's output.
    Step(StepName),
}

impl Pick {
    /// The longest text of one, in bytes.
    pub const MAX_LEN: usize = 1_024;
}

impl FromStr for Pick {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let given: String = text.chars().take(80).collect();
            format!(
                "`{given}` is not a pick: {why}; one is `$.input`, `$.input.name`, `$.steps.STEP.output.name`, or with a \
                 JSON Pointer `$.input/name`; a text that begins with `$` is written `$$…`"
            )
        };
        if text.len() > Self::MAX_LEN {
            return Err(wrong(&format!("it is longer than {} bytes", Self::MAX_LEN)));
        }
        if let Some(rest) = text.strip_prefix("$.input") {
            return Ok(Self { source: Source::Input, path: path(rest).map_err(|why| wrong(&why))? });
        }
        let Some(rest) = text.strip_prefix("$.steps.") else {
            return Err(wrong("it begins with neither `$.input` nor `$.steps.`"));
        };
        let end = rest.find(['.', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let step: StepName = name.parse().map_err(|e| wrong(&format!("{e}")))?;
        let rest = match rest.strip_prefix(".output") {
            Some(rest) => rest,
            None if rest.starts_with('/') => rest,
            None => return Err(wrong("after the step's name comes `.output`")),
        };
        Ok(Self { source: Source::Step(step), path: path(rest).map_err(|why| wrong(&why))? })
    }
}

fn path(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(pointer) = text.strip_prefix('/') {
        return pointer.split('/').map(unescape).collect();
    }
    let Some(dotted) = text.strip_prefix('.') else {
        return Err(format!("`{}` follows neither a `.` nor a `/`", text.chars().take(40).collect::<String>()));
    };
    dotted
        .split('.')
        .map(|part| match part {
            "" => Err("a part of its path is empty".into()),
            part if part.contains(['/', '~']) => Err("a name with `/` or `~` in it needs a JSON Pointer".into()),
            part => Ok(part.to_owned()),
        })
        .collect()
}

fn unescape(part: &str) -> Result<String, String> {
    let mut out = String::with_capacity(part.len());
    let mut rest = part.chars();
    while let Some(c) = rest.next() {
        match c {
            '~' => match rest.next() {
                Some('0') => out.push('~'),
                Some('1') => out.push('/'),
                _ => return Err("in a JSON Pointer `~` is written `~0` and `/` is written `~1`".into()),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Input => f.write_str("$.input")?,
            Source::Step(step) => write!(f, "$.steps.{step}.output")?,
        }
        let plain = self.path.iter().all(|part| !part.is_empty() && !part.contains(['.', '/', '~']));
        for part in &self.path {
            if plain {
                write!(f, ".{part}")?;
            } else {
                write!(f, "/{}", part.replace('~', "~0").replace('/', "~1"))?;
            }
        }
        Ok(())
    }
}
