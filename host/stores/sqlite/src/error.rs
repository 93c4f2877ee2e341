//! What went wrong with SQLite, and what it means to those above.

use ltmc_ports::{Kind, StoreError};
use rusqlite::ErrorCode;

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What SQLite says.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// What was read is not what was written.
    #[error("{0}")]
    Corrupt(String),
    /// Nobody reads or writes any more.
    #[error("the record is closed")]
    Closed,
}

impl Error {
    /// What it means.
    fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..),
            ) => Kind::Corrupt,
            Self::Sqlite(error) => error.sqlite_error().map_or(Kind::Internal, |error| of_code(error.extended_code)),
            Self::Corrupt(_) => Kind::Corrupt,
            Self::Closed => Kind::Unavailable,
        }
    }

    /// Whether a read was cut off before its end.
    pub(crate) fn is_interrupt(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted))
    }
}

/// The same, as ports say it.
pub(crate) fn store(op: &'static str, error: impl Into<Error>) -> StoreError {
    let error = error.into();
    StoreError::new(error.kind(), op).because(error)
}

/// By SQLite's code; the low byte of an extended one is the primary one.
fn of_code(code: i32) -> Kind {
    match code & 0xff {
        19 => Kind::Conflict,
        13 => Kind::Full,
        11 | 26 => Kind::Corrupt,
        // busy, locked, read-only, interrupted, input/output, cannot open
        5 | 6 | 8 | 9 | 10 | 14 => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

/// What was read is not what was written.
pub(crate) fn wrong(what: &str) -> Error {
    Error::Corrupt(format!("{what} does not read back"))
}
