//! ltmc-sqlite
