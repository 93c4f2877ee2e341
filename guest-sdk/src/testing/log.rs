//! Log lines, in memory.

use super::{Host, current};
use crate::Error;
use crate::log::Level;

const MAX_LINES: usize = 1_000;
const MAX_MESSAGE: usize = 8 << 10;
const MAX_FIELDS: usize = 16;
const MAX_FIELD: usize = 1 << 10;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// The message.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

impl Host {
    /// The log's lines so far.
    pub fn logs(&self) -> Vec<Line> {
        self.state.borrow().lines.clone()
    }
}

/// Kept whatever becomes of the attempt, and once: a call that is answered from the journal writes no line.
pub(crate) fn write(level: Level, message: &str, mut fields: Vec<(String, String)>) -> Result<(), Error> {
    current()?.cross(format_args!("log {level:?} {message} {:?}", fields.clone()), |at| {
        at.state.demand("log")?;
        if at.state.lines.len() < MAX_LINES {
            fields.truncate(MAX_FIELDS);
            for (name, value) in &mut fields {
                cut(name, MAX_FIELD);
                cut(value, MAX_FIELD);
            }
            let mut message = message.to_owned();
            cut(&mut message, MAX_MESSAGE);
            at.state.lines.push(Line { level, message, fields });
        }
        Ok(())
    })
}

fn cut(text: &mut String, to: usize) {
    text.truncate(text.floor_char_boundary(to));
}
