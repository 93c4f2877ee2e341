//! What an error of SQLite's means to those above.

use std::error::Error;

use ltmc_ports::{Kind, StoreError};

/// An error of one of the two drivers.
pub(crate) trait DriverError: Error + Send + Sync + 'static {
    /// What it means.
    fn kind(&self) -> Kind;
}

/// The same, as ports say it.
pub(crate) fn store(op: &'static str, error: impl DriverError) -> StoreError {
    StoreError::new(error.kind(), op).because(error)
}

impl DriverError for sqlx::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Database(error) => error.code().and_then(|code| code.parse().ok()).map_or(Kind::Internal, of_code),
            Self::PoolTimedOut | Self::Io(_) => Kind::Unavailable,
            Self::ColumnDecode { .. } | Self::Decode(_) => Kind::Corrupt,
            _ => Kind::Internal,
        }
    }
}

impl DriverError for rusqlite::Error {
    fn kind(&self) -> Kind {
        match self {
            Self::FromSqlConversionFailure(..) | Self::IntegralValueOutOfRange(..) | Self::InvalidColumnType(..) => {
                Kind::Corrupt
            }
            _ => self.sqlite_error().map_or(Kind::Internal, |error| of_code(error.extended_code)),
        }
    }
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
pub(crate) fn corrupt(op: &'static str, what: impl std::fmt::Display) -> StoreError {
    StoreError::new(Kind::Corrupt, op).because(what.to_string())
}
