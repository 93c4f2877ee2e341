//! The host's side of the interface `ltmc:agent/log`.

use ltmc_model::call::log;
use ltmc_model::effect::{Level, LogLine};

use super::{Answered, wit};
use crate::guest::Guest;

impl wit::log::Host for Guest {
    async fn write(&mut self, level: wit::log::Level, message: String, fields: Vec<wit::log::Field>) -> Answered<()> {
        let level = match level {
            wit::log::Level::Trace => Level::Trace,
            wit::log::Level::Debug => Level::Debug,
            wit::log::Level::Info => Level::Info,
            wit::log::Level::Warn => Level::Warn,
            wit::log::Level::Error => Level::Error,
        };
        let fields = fields
            .into_iter()
            .take(LogLine::MAX_FIELDS)
            .map(|field| (cut(field.name, LogLine::MAX_FIELD), cut(field.value, LogLine::MAX_FIELD)))
            .collect();
        let line = LogLine { level, message: cut(message, LogLine::MAX_MESSAGE), fields };
        self.cross(log::Write(line)).await
    }
}

/// At most `limit` bytes of `text`, ending on a character.
fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}
