//! The HTTP door: REST, its document, and the listener.
//!
//! Invariants: thin, every route parses, calls one use case, and writes out what it gave; nothing here knows SQL,
//! wasmtime or the environment. Who may do what is decided by the use cases. Every answer that is no success is
//! problem+json with a code of docs/errors.md. Only [`serve`] touches a socket.
//!
//! To add a route: a handler in `rest/` with its `#[utoipa::path]` and `x-ltmc-role`, and its name in that file's
//! `routes()`; the document, the metrics and the table test of all routes then know it.

mod answers;
mod app;
mod body;
mod cloudevents;
mod codes;
mod crowd;
mod docs;
mod edge;
mod extract;
mod framing;
mod headers;
mod limits;
mod meter;
mod openapi;
mod page;
mod problem;
mod rest;
mod serve;
mod taking;
mod wire;

pub use app::{App, Check, Health, router};
pub use limits::HttpLimits;
pub use openapi::openapi;
pub use serve::serve;
