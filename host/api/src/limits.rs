//! What one client, and all of them together, may take of the host over HTTP.

use std::time::Duration;

/// Bounds of the HTTP door. All have defaults that fit a small machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once: those without a key have half of them, and make room for others; the next ones wait until one ends.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// Within which a request's head must have come.
    pub head_time: Duration,
    /// How long a connection may be idle between requests; two seconds where connections get scarce.
    pub idle: Duration,
    /// How long a body may stand still.
    pub body_stall: Duration,
    /// How fast a body must come, in bytes a second, in every [`Self::body_window`].
    pub body_rate: u64,
    /// Over how long that is looked at.
    pub body_window: Duration,
    /// How long a client may not read its answer.
    pub write_stall: Duration,
    /// Bytes of a call's or a run's payload.
    pub payload: u64,
    /// Bytes of an upload: component and manifest together.
    pub upload: u64,
    /// Bytes of a document: a workflow, grants, a ceiling.
    pub document: u64,
    /// Bytes of all the bodies under way together.
    pub bodies: u64,
    /// Bytes of all the answers under way together that show what tenants stored.
    pub answers: u64,
    /// Readers of events at once.
    pub watchers: usize,
    /// How long requests under way may take to end once the host is to stop.
    pub drain: Duration,
}

impl HttpLimits {
    /// Bytes of a head that HTTP/1.1 has room for, at the least.
    pub(crate) fn longest_head(&self) -> usize {
        self.head.max(8 << 10)
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            head: 32 << 10,
            head_time: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body_stall: Duration::from_secs(10),
            body_rate: 4 << 10,
            body_window: Duration::from_secs(20),
            write_stall: Duration::from_secs(30),
            payload: 8 << 20,
            upload: 64 << 20,
            document: 1 << 20,
            bodies: 256 << 20,
            answers: 256 << 20,
            watchers: 256,
            drain: Duration::from_secs(30),
        }
    }
}
