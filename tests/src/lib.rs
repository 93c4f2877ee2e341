//! ltmc-tests
