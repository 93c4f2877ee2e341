//! ltmc-orchestration
