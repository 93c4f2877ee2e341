//! Structured log lines, kept with the run. Needs the capability `log`.
//!
//! A line that the host refuses is lost without a word, for an agent's work does not hang on its log; who wants to know
//! calls [`write()`].

use std::fmt::Display;

use crate::{Error, host};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Writes one line with fields. At most 8 KiB of message and 16 fields of 1 KiB are kept, and 1,000 lines a call.
///
/// # Errors
/// [`Error::AccessDenied`] without the capability `log`.
pub fn write(level: Level, message: &str, fields: &[(&str, &dyn Display)]) -> Result<(), Error> {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    host::log::write(level, message, fields)
}

/// Writes one line at [`Level::Trace`].
pub fn trace(message: impl AsRef<str>) {
    let _ = write(Level::Trace, message.as_ref(), &[]);
}

/// Writes one line at [`Level::Debug`].
pub fn debug(message: impl AsRef<str>) {
    let _ = write(Level::Debug, message.as_ref(), &[]);
}

/// Writes one line at [`Level::Info`].
pub fn info(message: impl AsRef<str>) {
    let _ = write(Level::Info, message.as_ref(), &[]);
}

/// Writes one line at [`Level::Warn`].
pub fn warn(message: impl AsRef<str>) {
    let _ = write(Level::Warn, message.as_ref(), &[]);
}

/// Writes one line at [`Level::Error`].
pub fn error(message: impl AsRef<str>) {
    let _ = write(Level::Error, message.as_ref(), &[]);
}

/// Writes one formatted line, and its fields before a semicolon: `log!(Level::Info, file = path; "{n} hunks")`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($name:ident = $value:expr),+ ; $($message:tt)+) => {{
        let fields: &[(&str, &dyn ::std::fmt::Display)] = &[$((stringify!($name), &$value)),+];
        let _ = $crate::log::write($level, &::std::format!($($message)+), fields);
    }};
    ($level:expr, $($message:tt)+) => {{
        let _ = $crate::log::write($level, &::std::format!($($message)+), &[]);
    }};
}

/// `trace!("… {x}")`, or with fields `trace!(file = path; "… {x}")`.
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Trace, $($line)+) };
}

/// `debug!("… {x}")`, or with fields `debug!(file = path; "… {x}")`.
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Debug, $($line)+) };
}

/// `info!("… {x}")`, or with fields `info!(file = path; "… {x}")`.
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Info, $($line)+) };
}

/// `warn!("… {x}")`, or with fields `warn!(file = path; "… {x}")`.
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Warn, $($line)+) };
}

/// `error!("… {x}")`, or with fields `error!(file = path; "… {x}")`.
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::log!($crate::log::Level::Error, $($line)+) };
}

/// Over the host's imports: conversions and nothing else. `testing/log.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
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
}
