//! ltmc-guest-build
