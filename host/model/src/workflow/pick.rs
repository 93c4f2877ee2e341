//! Picks: `$.input…`, `$.steps.NAME.output…`, `$.run.scheduled-at`, and what is known inside of a `map`, a `loop`, a handler of errors or a compensation;
//! parsed once.
//!
//! After the source comes a dotted path (`$.input.files.0.path`) or a JSON Pointer (`$.input/files/0/path`), which is the
//! one to use for names with dots in them. After a step's name `.output` may be left out before a pointer.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::StepName;

/// Where a value is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// What is looked into.
    pub source: Source,
    /// Names of fields and numbers of items, from the outside in.
    pub path: Vec<String>,
    /// What is taken where nothing stands there; none: that is a failure.
    pub or_else: Option<Value>,
}

/// What is picked from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The run's input.
    Input,
    /// A step's output, or another node's.
    Step(StepName),
    /// The item of the innermost `map`, or of the one around here that calls its items so.
    Item(Option<StepName>),
    /// The item's number, from 0 on.
    Index(Option<StepName>),
    /// The number of the loop's round, from 1 on.
    Round,
    /// What the loop's round before gave; in `until`, what the round gave that is just over.
    Last,
    /// When the tick came that started the run; of a run that somebody started there is none.
    ScheduledAt,
    /// How the node failed, or why it is undone: `code`, `message`, `agent-code` and `step`.
    Error,
    /// What was found wrong with the step's output when it was last judged: known in its `with`, on a try after that.
    Rejected,
    /// The event that is looked at: known where a wait says which one it waits for.
    Event,
    /// What the node gave whose work is undone.
    Output,
    /// What the node worked on whose work is undone.
    Given,
}

impl Pick {
    /// The longest text of one, in bytes.
    pub const MAX_LEN: usize = 1_024;

    /// The names on the way of a JSON Pointer (RFC 6901).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pointer(text: &str) -> Result<Vec<String>, String> {
        match text.strip_prefix('/') {
            _ if text.is_empty() => Ok(Vec::new()),
            Some(pointer) => pointer.split('/').map(unescape).collect(),
            None => Err("a JSON Pointer is empty, for the whole, or begins with `/`".into()),
        }
    }

    /// A name as it stands in a JSON Pointer.
    pub(super) fn escaped(part: &str) -> String {
        part.replace('~', "~0").replace('/', "~1")
    }
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
        let pick =
            |source, rest: &str| Ok(Self { source, path: path(rest).map_err(|why| wrong(&why))?, or_else: None });
        let simple = [
            ("$.input", Source::Input),
            ("$.round", Source::Round),
            ("$.last", Source::Last),
            ("$.error", Source::Error),
            ("$.rejected", Source::Rejected),
            ("$.event", Source::Event),
            ("$.output", Source::Output),
            ("$.given", Source::Given),
            ("$.run.scheduled-at", Source::ScheduledAt),
        ];
        for (start, source) in simple {
            if let Some(rest) = text.strip_prefix(start) {
                return pick(source, rest);
            }
        }
        // The content of the event that is looked at.
        if let Some(rest) = text.strip_prefix("$.data") {
            return pick(Source::Event, rest).map(|mut pick| {
                pick.path.insert(0, "data".into());
                pick
            });
        }
        type Of = fn(Option<StepName>) -> Source;
        let of_items: [(&str, Of); 2] = [("$.item", Source::Item), ("$.index", Source::Index)];
        for (start, source) in of_items {
            if let Some(rest) = text.strip_prefix(start) {
                let (name, rest) = named(rest).map_err(|why| wrong(&why))?;
                return pick(source(name), rest);
            }
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
        pick(Source::Step(step), rest)
    }
}

/// The name before a JSON Pointer, as in `$.item.file/a~1b`. What has dots alone is a path: which of its parts is a name is known
/// only to who knows what is around it ([`super::read`]).
fn named(rest: &str) -> Result<(Option<StepName>, &str), String> {
    let Some((name, _)) = rest.strip_prefix('.').and_then(|dotted| dotted.split_once('/')) else {
        return Ok((None, rest));
    };
    let name: StepName = name.parse().map_err(|e| format!("{e}"))?;
    let rest = &rest[1 + name.as_str().len()..];
    Ok((Some(name), rest))
}

fn path(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.starts_with('/') {
        return Pick::pointer(text);
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
            Source::Item(None) => f.write_str("$.item")?,
            Source::Item(Some(name)) => write!(f, "$.item.{name}")?,
            Source::Index(None) => f.write_str("$.index")?,
            Source::Index(Some(name)) => write!(f, "$.index.{name}")?,
            Source::Round => f.write_str("$.round")?,
            Source::Last => f.write_str("$.last")?,
            Source::Error => f.write_str("$.error")?,
            Source::Rejected => f.write_str("$.rejected")?,
            Source::Event => f.write_str("$.event")?,
            Source::Output => f.write_str("$.output")?,
            Source::Given => f.write_str("$.given")?,
            Source::ScheduledAt => f.write_str("$.run.scheduled-at")?,
        }
        let plain = self.path.iter().all(|part| !part.is_empty() && !part.contains(['.', '/', '~']));
        for part in &self.path {
            if plain {
                write!(f, ".{part}")?;
            } else {
                write!(f, "/{}", Self::escaped(part))?;
            }
        }
        Ok(())
    }
}
