//! ltmc-sdk-macros
