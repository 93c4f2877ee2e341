//! ltmc-coordination
