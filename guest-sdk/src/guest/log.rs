//! `ltmc:agent/log`.

use crate::bindings::host::ltmc::agent::log as wit;
use crate::{Error, log};

pub(crate) fn write(level: log::Level, message: &str, fields: Vec<(String, String)>) -> Result<(), Error> {
    let level = match level {
        log::Level::Trace => wit::Level::Trace,
        log::Level::Debug => wit::Level::Debug,
        log::Level::Info => wit::Level::Info,
        log::Level::Warn => wit::Level::Warn,
        log::Level::Error => wit::Level::Error,
    };
    let fields: Vec<_> = fields.into_iter().map(|(name, value)| wit::Field { name, value }).collect();
    Ok(wit::write(level, message, &fields)?)
}
