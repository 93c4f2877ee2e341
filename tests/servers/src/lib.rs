//! Real servers for tests and the demo: each listens on loopback, on a port of its own, with a data directory of its own.
//!
//! Invariant: a server ends with its guard, also when a test panics, and with the process that started it, also when that
//! is killed.
//!
//! To add a server: a file beside [`neo4j`] whose type holds a [`Guard`].

use std::net::{Ipv4Addr, TcpListener};

mod certificate;
pub mod cloudevents;
pub mod databases;
pub mod minilm;
pub mod neo4j;
pub mod process;
pub mod redis;

pub use databases::Databases;
pub use neo4j::Neo4j;
pub use process::Guard;
pub use redis::Redis;

/// A port of loopback on which nobody listens at the moment.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
