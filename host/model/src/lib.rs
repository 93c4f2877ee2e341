//! ltmc-model
