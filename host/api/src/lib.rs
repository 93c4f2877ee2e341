//! ltmc-api
