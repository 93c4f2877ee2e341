//! ltmc-sandbox
