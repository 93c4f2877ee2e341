//! ltmc-policy
