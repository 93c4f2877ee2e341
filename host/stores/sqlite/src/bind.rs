//! Values as SQLite keeps them.

use ltmc_model::memory::Scope;
use ltmc_model::{RunId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Params};

/// Executes a statement that is used again and again: its text is parsed once a connection.
pub(crate) fn execute(db: &Connection, sql: &str, values: impl Params) -> Result<(), rusqlite::Error> {
    db.prepare_cached(sql)?.execute(values).map(drop)
}

/// The number that such a query finds.
pub(crate) fn found(db: &Connection, sql: &str, values: impl Params) -> Result<Option<i64>, rusqlite::Error> {
    db.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
}

pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn time(at: Timestamp) -> i64 {
    int(at.millis())
}

pub(crate) fn blob(run: RunId) -> Vec<u8> {
    run.0.as_bytes().to_vec()
}

pub(crate) fn scope(scope: Scope) -> i64 {
    match scope {
        Scope::Global => 0,
        Scope::Session => 1,
        Scope::Agent => 2,
    }
}

/// Plain values, as JSON.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain values, which JSON can write")
}
