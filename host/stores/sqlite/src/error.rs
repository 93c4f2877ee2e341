//! What an error of SQLite's means to those above.

use ltmc_ports::{Kind, StoreError};

/// The same, as ports say it.
pub(crate) fn store(op: &'static str, error: sqlx::Error) -> StoreError {
    StoreError::new(kind(&error), op).because(error)
}

pub(crate) fn kind(error: &sqlx::Error) -> Kind {
    let code = match error {
        sqlx::Error::Database(database) => database.code().and_then(|code| code.parse::<u32>().ok()),
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => return Kind::Unavailable,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => return Kind::Corrupt,
        _ => None,
    };
    // The low byte of an extended code is the primary one.
    match code.map(|code| code & 0xff) {
        Some(19) => Kind::Conflict,
        Some(13) => Kind::Full,
        Some(11 | 26) => Kind::Corrupt,
        // busy, locked, read-only, interrupted, input/output, cannot open
        Some(5 | 6 | 8 | 9 | 10 | 14) => Kind::Unavailable,
        _ => Kind::Internal,
    }
}

/// What was read is not what was written.
pub(crate) fn corrupt(op: &'static str, what: impl std::fmt::Display) -> StoreError {
    StoreError::new(Kind::Corrupt, op).because(what.to_string())
}
