//! ltmc-state
