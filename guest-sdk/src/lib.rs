//! ltmc-sdk
