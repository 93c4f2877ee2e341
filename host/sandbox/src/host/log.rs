//! `ltmc:agent/log`.

use ltmc_model::effect::{Call, Level, LogLine, Reply};

use super::{unexpected, wit};
use crate::guest::Guest;

impl wit::log::Host for Guest {
    async fn write(
        &mut self,
        level: wit::log::Level,
        message: String,
        fields: Vec<wit::log::Field>,
    ) -> wasmtime::Result<Result<(), wit::types::Error>> {
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
        match self.cross(Call::Log(line)).await? {
            Ok(Reply::Done) => Ok(Ok(())),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// At most `limit` bytes of `text`, ending on a character.
fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}
