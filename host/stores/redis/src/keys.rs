//! The names of keys. All but the first are a tenant's, and carry its name as a hash tag, so that a cluster keeps them in one slot.
//!
//! | key | what |
//! | --- | --- |
//! | `ltmc:record` | which record is followed; ` halfway` after it: it is being taken from another |
//! | `ltmc:{T}:applied` | the place in the log up to which the tenant is told |
//! | `ltmc:{T}:building` | the token of the build under way, and how many calls it has made |
//! | `ltmc:{T}:mailbox:AGENT` | stream: entry `PLACE-ID` with `event`; its group `agents` shows who has what |
//! | `ltmc:{T}:places:AGENT` | hash, of messages that somebody has had: id to place, deliveries and state (1 waiting, 2 taken, 3 dead) |
//! | `ltmc:{T}:hands:RUN/STEP/ATTEMPT` | set: the mailboxes from which an attempt has taken something |
//! | `ltmc:{T}:dead:AGENT:ID` | hash: a dead letter |
//! | `ltmc:{T}:topic:TOPIC` | stream: entry `PLACE-0` with `event` |
//! | `ltmc:{T}:mailboxes`, `ltmc:{T}:topics` | sorted sets: which there are |
//! | `ltmc:{T}:changes` | stream: which keys of memory changed, the last 10,000 or a few more |
//! | `ltmc:{T}:session:OWNER` | hash: a session's keys, each `REVISION EXPIRES v` and its value, or `REVISION EXPIRES -` where that is large |
//! | `ltmc:{T}:session-keys` | sorted set: `OWNER/KEY` |
//! | `ltmc:{T}:runs`, `ltmc:{T}:steps:RUN` | hashes: marks of runs that are not over, and of their steps, as JSON |
//! | `ltmc:{T}:metrics` | hash: counters, exact since the place `since` |

use ltmc_model::TenantId;
use ltmc_model::message::Topic;

/// Which record is followed.
pub(crate) const RECORD: &str = "ltmc:record";
/// Of every tenant the place up to which it is told, as a pattern.
pub(crate) const EVERY_APPLIED: &str = "ltmc:{*}:applied";

/// Names of one tenant's keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    base: String,
}

impl Keys {
    pub(crate) fn of(tenant: &TenantId) -> Self {
        Self { base: format!("ltmc:{{{tenant}}}:") }
    }

    /// The key that scripts are given; they name the others themselves.
    pub(crate) fn applied(&self) -> String {
        self.named("applied")
    }

    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    pub(crate) fn topic(&self, topic: &Topic) -> String {
        self.named(&format!("topic:{topic}"))
    }
}
