//! A host call of a guest, as the journal keeps it.

use serde::{Deserialize, Serialize};

use crate::effect::{ClockReads, Refusal, Reply};
use crate::{Capability, Digest, StepPath};

/// A host call of a guest, as it was decided and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The step whose attempt made the call.
    pub step: StepPath,
    /// The number of the attempt.
    pub attempt: u32,
    /// Its number in the attempt, from 1 on, in call order.
    pub number: u32,
    /// The call's name, such as `memory.put`.
    pub call: String,
    /// What it is about, for people.
    pub about: String,
    /// The form in which the request was written to be digested ([`crate::call::form`]); 1 is not written down.
    #[serde(default = "first_form", skip_serializing_if = "is_first_form")]
    pub form: u32,
    /// Digest of the whole request: a replay must ask the same.
    pub request: Digest,
    /// The capability that let it pass, or whose lack refused it; none: the call needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Whether it was refused though that was granted: the tenant's ceiling withheld it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
    /// What the guest read of the clock since its last effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock: ClockReads,
    /// What it was answered.
    pub reply: Result<Reply, Refusal>,
}

fn first_form() -> u32 {
    1
}

fn is_first_form(form: &u32) -> bool {
    *form == 1
}
