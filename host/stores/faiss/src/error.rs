//! What an error of FAISS's or of the file system means to those above.

use std::io::ErrorKind;

use ltmc_ports::{Kind, StoreError};

/// A failure of FAISS.
pub(crate) fn native(op: &'static str, error: faiss::error::Error) -> StoreError {
    StoreError::new(Kind::Internal, op).because(error)
}

/// A failure of the file system.
pub(crate) fn io(op: &'static str, error: std::io::Error) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Full,
        _ => Kind::Unavailable,
    };
    StoreError::new(kind, op).because(error)
}

/// There is no index that can be used.
pub(crate) fn nothing(op: &'static str) -> StoreError {
    StoreError::new(Kind::Corrupt, op)
        .because("there is no index, or a damaged one: it has to be built from the record")
}

/// Too many of a tenant's wait.
pub(crate) fn busy(op: &'static str) -> StoreError {
    StoreError::new(Kind::Unavailable, op).because("too many searches of this tenant's wait for their turn")
}

/// Whoever asks made a mistake.
pub(crate) fn wrong(op: &'static str, why: impl std::fmt::Display) -> StoreError {
    StoreError::new(Kind::Internal, op).because(why.to_string())
}
