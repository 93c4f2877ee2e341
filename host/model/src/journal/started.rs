//! How a run begins: all it needs to be made again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::child::Parent;
use crate::message::Trail;
use crate::run::Target;
use crate::schedule::Scheduled;
use crate::session;
use crate::trigger::Arrived;
use crate::{AgentName, Digest, KeyId, Payload, Position, RunId, Seq, SessionId};

/// How a run began: all it needs to be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The agent or the workflow that it is a run of.
    pub target: Target,
    /// The digest of every agent in it.
    pub agents: BTreeMap<AgentName, Digest>,
    /// The workflow's document as pinned, in JSON; none for a lone call.
    pub document: Option<std::sync::Arc<str>>,
    /// The document's digest.
    pub document_digest: Option<Digest>,
    /// The run's input.
    pub input: Payload,
    /// The session it works in.
    pub session: SessionId,
    /// Whose key started it.
    pub by: KeyId,
    /// What the randomness of its guests, and its back-off, is drawn from.
    #[serde(with = "serde_bytes")]
    pub seed: [u8; 32],
    /// The caller's W3C trace context, passed on.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// How far the log of changes went, where that matters: to runs that wait for events from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The run that it was forked from: what happened there up to an entry has happened in this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked: Option<Forked>,
    /// The run that began it; none: a client did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<Parent>>,
    /// Which tick of a schedule started it; none: somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// What it follows from, where it follows from an event: what it publishes and begins follows from it likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Box<Follows>>,
    /// Which turn of its session it is; none: it only works in the session, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<session::Place>,
    /// By which version of what documents mean it goes on, whichever host goes on with it.
    #[serde(default, skip_serializing_if = "Semantics::is_first")]
    pub semantics: Semantics,
}

/// A version of what workflow documents mean. A pattern that is to decide otherwise than before, for the same document and history, is a new version; the decisions of
/// the one before stay for the runs that began with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Semantics(pub u32);

impl Semantics {
    /// What a run has whose journal says nothing of it.
    pub const FIRST: Self = Self(1);
    /// What new runs begin with, and the newest that this host knows.
    pub const CURRENT: Self = Self::FIRST;

    fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Default for Semantics {
    fn default() -> Self {
        Self::FIRST
    }
}

/// From which event a run follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// The event that all of it began with, the last one, and how many there were before.
    pub trail: Trail,
    /// The event that started it; none: a run did that follows from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Arrived>,
}

impl Follows {
    /// What begins or goes on elsewhere follows from the same, and no event started it.
    pub fn passed_on(of: Option<Trail>) -> Option<Box<Self>> {
        of.map(|trail| Box::new(Self { trail, arrived: None }))
    }
}

/// Where a run was forked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// The id of the run that it was forked from.
    pub of: RunId,
    /// Its last entry that counts.
    pub at: Seq,
}

impl Forked {
    /// How often a run may have been forked from one that was forked.
    pub const MOST: usize = 32;
}
